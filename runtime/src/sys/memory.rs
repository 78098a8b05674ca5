//! Giving memory back while a process sleeps.

/// poll(2) (`None`: without a time-out), after giving back what memory a process doesn't need while it sleeps: free heap
/// (malloc_trim(3)), the unused part of the stack, and the program's own text and constants (madvise(2) `MADV_DONTNEED`;
/// they come back from the page cache when they are next used).
///
/// One call, since every function that runs between giving back and sleeping would bring 64 KiB of text back (the
/// kernel maps what is around a fault).
pub fn rest(fds: &mut [nix::poll::PollFd<'_>], timeout: Option<std::time::Duration>) {
    const PAGE: usize = 4096;
    const MOST: usize = 8;
    // SAFETY: only free memory is given back.
    unsafe { libc::malloc_trim(0) };
    let time = timeout.map(|t| libc::timespec {
        tv_sec: t.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: t.subsec_nanos().into(),
    });
    let time = time.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    let no_mask = std::ptr::null::<libc::sigset_t>();
    let mut ranges = [(0_usize, 0_usize); MOST];
    let here = 0_u8;
    // What lies two pages and more below this frame belongs to calls that have returned. Parts that were never touched
    // aren't mapped (ENOMEM, ignored).
    let below = (&raw const here as usize & !(PAGE - 1)) - 2 * PAGE;
    ranges[0] = (below - 64 * PAGE, 64 * PAGE);
    for (range, segment) in ranges[1..].iter_mut().zip(constant_segments()) {
        let start = segment.0 & !(PAGE - 1);
        *range = (start, segment.1 - start);
    }
    for (start, length) in ranges {
        // SAFETY: the first is unused stack; the others are segments that are mapped privately from the executable and
        // never written: their pages are read again from the file.
        unsafe { libc::syscall(libc::SYS_madvise, start, length, libc::MADV_DONTNEED) };
    }
    // SAFETY: PollFd is a transparent pollfd; the kernel reads and writes `fds.len()` of them. ppoll is what every
    // architecture has.
    unsafe {
        libc::syscall(
            libc::SYS_ppoll,
            fds.as_mut_ptr(),
            fds.len(),
            time,
            no_mask,
            0,
        )
    };
}

/// (start, end) of this executable's segments that nobody may write: a static executable has no text relocations.
fn constant_segments() -> impl Iterator<Item = (usize, usize)> {
    // SAFETY: only integers are passed.
    let (headers, count) = unsafe {
        (
            libc::getauxval(libc::AT_PHDR),
            libc::getauxval(libc::AT_PHNUM),
        )
    };
    let headers: &[libc::Elf64_Phdr] = if headers == 0 {
        &[]
    } else {
        // SAFETY: the kernel tells where it has mapped the program headers, which stay there unchanged.
        unsafe { std::slice::from_raw_parts(headers as *const libc::Elf64_Phdr, count as usize) }
    };
    let base = headers
        .iter()
        .find(|h| h.p_type == libc::PT_PHDR)
        .map_or(0, |h| headers.as_ptr() as u64 - h.p_vaddr);
    headers
        .iter()
        .filter(|h| h.p_type == libc::PT_LOAD && h.p_flags & libc::PF_W == 0)
        .map(move |h| {
            let start = (base + h.p_vaddr) as usize;
            (start, start + h.p_memsz as usize)
        })
}
