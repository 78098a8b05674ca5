//! System calls that nix doesn't have: one thin safe function each, with its man page.
#![expect(
    unsafe_code,
    reason = "the only place of this crate that calls the kernel directly"
)]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use libc::{c_int, c_long, c_uint, c_ulong};

fn check(result: c_long) -> io::Result<c_long> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn check_fd(result: c_long) -> io::Result<OwnedFd> {
    let fd = check(result)?;
    let fd = RawFd::try_from(fd).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
    // SAFETY: the kernel just made this descriptor for us, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What [`clone_process`] returned, as fork(2) does.
pub enum Cloned {
    /// In the new process.
    Child,
    /// In the caller: the new process as seen from here.
    Parent {
        /// Its PID.
        pid: i32,
        /// A descriptor of it.
        pidfd: OwnedFd,
    },
}

/// clone3(2) without shared memory: fork(2) into new namespaces. `flags` are `CLONE_NEW*` and `CLONE_PARENT`.
///
/// # Errors
/// As clone3(2); `EBUSY` when this process has more than one thread (the child gets a copy of memory in which another
/// thread may have held malloc's lock).
pub fn clone_process(flags: c_int) -> io::Result<Cloned> {
    // A directory's link count is 2 plus its subdirectories: one for each thread.
    let threads =
        std::fs::metadata("/proc/self/task").map(|m| std::os::unix::fs::MetadataExt::nlink(&m));
    if threads.is_ok_and(|n| n > 3) {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    let mut pidfd: c_int = -1;
    let exit_signal = if flags & libc::CLONE_PARENT == 0 {
        libc::SIGCHLD as u64
    } else {
        0
    };
    // struct clone_args of linux/sched.h, version 0 (64 bytes).
    let mut args = [0u64; 8];
    args[0] = u64::from((flags | libc::CLONE_PIDFD) as u32);
    args[1] = &raw mut pidfd as u64;
    args[4] = exit_signal;
    // SAFETY: no CLONE_VM, so the child runs on its own copy of this stack; `args` outlives the call; no other thread.
    let result =
        check(unsafe { libc::syscall(libc::SYS_clone3, args.as_ptr(), size_of_val(&args)) });
    let pid = match result {
        // A seccomp filter that can't look into clone3's arguments answers so (docker's profile, ours).
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) && flags == 0 => return fork(),
        other => other?,
    };
    if pid == 0 {
        return Ok(Cloned::Child);
    }
    let pid = i32::try_from(pid).map_err(|_| io::Error::from_raw_os_error(libc::EOVERFLOW))?;
    // SAFETY: CLONE_PIDFD stored a new descriptor of ours there.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Cloned::Parent { pid, pidfd })
}

/// fork(2), for a caller that is known to have one thread.
fn fork() -> io::Result<Cloned> {
    // SAFETY: there is one thread, so the child may go on as if nothing had happened.
    match check(c_long::from(unsafe { libc::fork() }))? {
        0 => Ok(Cloned::Child),
        pid => {
            let pid =
                i32::try_from(pid).map_err(|_| io::Error::from_raw_os_error(libc::EOVERFLOW))?;
            Ok(Cloned::Parent {
                pid,
                pidfd: pidfd_open(pid)?,
            })
        }
    }
}

/// open_tree(2) (Linux 5.2).
///
/// # Errors
/// As open_tree(2).
pub fn open_tree(dir: BorrowedFd<'_>, path: &CStr, flags: c_uint) -> io::Result<OwnedFd> {
    // SAFETY: `path` is a C string that outlives the call.
    check_fd(unsafe { libc::syscall(libc::SYS_open_tree, dir.as_raw_fd(), path.as_ptr(), flags) })
}

/// `struct mount_attr` of linux/mount.h.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct MountAttr {
    /// `MOUNT_ATTR_*` to set.
    pub attr_set: u64,
    /// `MOUNT_ATTR_*` to clear.
    pub attr_clr: u64,
    /// `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED` or 0.
    pub propagation: u64,
    /// For `MOUNT_ATTR_IDMAP`.
    pub userns_fd: u64,
}

/// mount_setattr(2) (Linux 5.12) on the mount that `fd` stands for.
///
/// # Errors
/// As mount_setattr(2).
pub fn mount_setattr(fd: BorrowedFd<'_>, recursive: bool, attr: &MountAttr) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: `attr` has the layout of struct mount_attr and its size is told.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            c"".as_ptr(),
            flags,
            attr,
            size_of::<MountAttr>(),
        )
    };
    check(result).map(drop)
}

/// move_mount(2) (Linux 5.2) of a detached mount onto what `target` stands for.
///
/// # Errors
/// As move_mount(2).
pub fn move_mount(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    const F_EMPTY_PATH: c_uint = 0x4;
    const T_EMPTY_PATH: c_uint = 0x40;
    let empty = c"".as_ptr();
    // SAFETY: both paths are the empty C string.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            empty,
            target.as_raw_fd(),
            empty,
            F_EMPTY_PATH | T_EMPTY_PATH,
        )
    };
    check(result).map(drop)
}

/// fsopen(2) (Linux 5.2).
///
/// # Errors
/// As fsopen(2).
pub fn fsopen(kind: &CStr) -> io::Result<OwnedFd> {
    const FSOPEN_CLOEXEC: c_uint = 1;
    // SAFETY: `kind` is a C string that outlives the call.
    check_fd(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) })
}

/// fsconfig(2): a string parameter, or a flag without a value.
///
/// # Errors
/// As fsconfig(2).
pub fn fsconfig_set(fs: BorrowedFd<'_>, key: &CStr, value: Option<&CStr>) -> io::Result<()> {
    const SET_FLAG: c_uint = 0;
    const SET_STRING: c_uint = 1;
    let command = if value.is_some() {
        SET_STRING
    } else {
        SET_FLAG
    };
    let value = value.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: both strings are C strings (or null for a flag) that outlive the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            fs.as_raw_fd(),
            command,
            key.as_ptr(),
            value,
            0,
        )
    })
    .map(drop)
}

/// fsconfig(2) `FSCONFIG_CMD_CREATE`, then fsmount(2): the detached mount.
///
/// # Errors
/// As fsconfig(2) and fsmount(2).
pub fn fsmount(fs: BorrowedFd<'_>, attributes: u64) -> io::Result<OwnedFd> {
    const CMD_CREATE: c_uint = 6;
    const FSMOUNT_CLOEXEC: c_uint = 1;
    let null = std::ptr::null::<u8>();
    // SAFETY: CMD_CREATE takes neither key nor value.
    check(unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            fs.as_raw_fd(),
            CMD_CREATE,
            null,
            null,
            0,
        )
    })?;
    // SAFETY: only integers are passed.
    check_fd(unsafe {
        libc::syscall(
            libc::SYS_fsmount,
            fs.as_raw_fd(),
            FSMOUNT_CLOEXEC,
            attributes as c_uint,
        )
    })
}

/// execveat(2) of the file that `fd` stands for. `argv` and `envp` are null-terminated lists of C strings.
/// Returns only on failure.
pub fn exec_fd(fd: BorrowedFd<'_>, argv: &[&CStr], envp: &[&CStr]) -> io::Error {
    let list = |words: &[&CStr]| {
        let mut list: Vec<_> = words.iter().map(|w| w.as_ptr()).collect();
        list.push(std::ptr::null());
        list
    };
    let (argv, envp) = (list(argv), list(envp));
    // SAFETY: both lists end with a null pointer and point to C strings that outlive the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            fd.as_raw_fd(),
            c"".as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

/// close_range(2) with `CLOSE_RANGE_CLOEXEC` (Linux 5.11): every descriptor from `first` on closes at the next exec.
///
/// # Errors
/// As close_range(2).
pub fn cloexec_from(first: c_uint) -> io::Result<()> {
    const CLOEXEC: c_uint = 1 << 2;
    // SAFETY: only integers are passed; nothing is closed now.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, c_uint::MAX, CLOEXEC) }).map(drop)
}

/// prctl(2) with integer arguments.
///
/// # Errors
/// As prctl(2).
pub fn prctl(option: c_int, arg2: c_ulong, arg3: c_ulong) -> io::Result<c_int> {
    // SAFETY: callers pass options that take integers only.
    let result = unsafe { libc::prctl(option, arg2, arg3, 0 as c_ulong, 0 as c_ulong) };
    check(c_long::from(result)).map(|r| r as c_int)
}

/// Names this thread as ps(1) shows it; 15 bytes count (`PR_SET_NAME`).
pub fn set_name(name: &CStr) {
    // SAFETY: `name` is a C string; the kernel copies at most 16 bytes of it. It can't fail.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

/// Whether processes of the same user, with no more capabilities, may trace this one and open what it has open (prctl(2)
/// `PR_SET_DUMPABLE`). Each exec makes it so.
pub fn set_dumpable(dumpable: bool) {
    // SAFETY: only integers are passed. It can't fail.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, c_ulong::from(dumpable)) };
}

/// pidfd_open(2) (Linux 5.3).
///
/// # Errors
/// As pidfd_open(2).
pub fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: only integers are passed.
    check_fd(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })
}

/// pidfd_send_signal(2) (Linux 5.1).
///
/// # Errors
/// As pidfd_send_signal(2).
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: c_int) -> io::Result<()> {
    let null = std::ptr::null::<u8>();
    // SAFETY: no siginfo is passed.
    check(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            null,
            0,
        )
    })
    .map(drop)
}

/// ioctl(2) `TIOCGPTPEER` (Linux 4.13): the slave of a pty, without a look-up by path.
///
/// # Errors
/// As ioctl(2).
pub fn pty_peer(master: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: the argument is an integer.
    check_fd(c_long::from(unsafe {
        libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags)
    }))
}

/// ioctl(2) `TIOCSPTLCK`: unlocks the slave of a pty.
///
/// # Errors
/// As ioctl(2).
pub fn pty_unlock(master: BorrowedFd<'_>) -> io::Result<()> {
    let zero: c_int = 0;
    // SAFETY: the kernel reads one int.
    check(c_long::from(unsafe {
        libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const zero)
    }))
    .map(drop)
}

/// ioctl(2) `TIOCSCTTY`: makes a terminal the controlling one of this session.
///
/// # Errors
/// As ioctl(2).
pub fn set_controlling_terminal(terminal: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the argument is an integer.
    check(c_long::from(unsafe {
        libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0)
    }))
    .map(drop)
}

/// Brings the loopback interface of this network namespace up (netdevice(7)).
///
/// # Errors
/// As ioctl(2).
pub fn loopback_up() -> io::Result<()> {
    // SAFETY: all bytes zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: only integers are passed.
    let socket = check_fd(c_long::from(unsafe {
        libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0)
    }))?;
    // SAFETY: the kernel reads one ifreq.
    check(c_long::from(unsafe {
        libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request)
    }))
    .map(drop)
}

/// Sets the thread's user and group IDs by the kernel's calls, not glibc's (which would signal other threads).
///
/// # Errors
/// As setresuid(2).
pub fn set_ids(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    // SAFETY: the kernel reads `groups.len()` group IDs.
    check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })?;
    // SAFETY: only integers are passed.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
    // SAFETY: only integers are passed.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop)
}

/// Ends this process at once, without running any handler: for children between clone and exec.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(code) }
}

/// A descriptor that this process was started with, by its number. Call once for each number, at the start.
///
/// # Errors
/// `EBADF` when it isn't open.
pub fn inherited_fd(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD only looks.
    check(c_long::from(unsafe { libc::fcntl(fd, libc::F_GETFD) }))?;
    // SAFETY: it is open, and nothing else in this process knows of a descriptor that was inherited.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// seccomp(2) `SECCOMP_SET_MODE_FILTER`, for this thread. `SECCOMP_FILTER_FLAG_SPEC_ALLOW` (Linux 4.17) spares the
/// container the mitigations that older kernels tie to seccomp, as docker does.
///
/// # Errors
/// As seccomp(2).
pub fn seccomp_filter(program: &[libc::sock_filter]) -> io::Result<()> {
    let length =
        u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let filter = libc::sock_fprog {
        len: length,
        filter: program.as_ptr().cast_mut(),
    };
    let set = |flags: c_ulong| {
        // SAFETY: `filter` tells the length of `program`; the kernel copies it and writes nothing.
        check(unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                flags,
                &raw const filter,
            )
        })
        .map(drop)
    };
    match set(libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => set(0),
        result => result,
    }
}

/// seccomp(2) with `SECCOMP_FILTER_FLAG_NEW_LISTENER` (Linux 5.0): the descriptor of the notifications.
///
/// # Errors
/// As seccomp(2): `EBUSY` when this thread is already under a filter with a listener.
pub fn seccomp_listener(program: &[libc::sock_filter]) -> io::Result<OwnedFd> {
    let length =
        u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let filter = libc::sock_fprog {
        len: length,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: `filter` tells the length of `program`; the kernel copies it and writes nothing.
    check_fd(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const filter,
        )
    })
}

/// fsetxattr(2).
///
/// # Errors
/// As fsetxattr(2).
pub fn set_xattr(file: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> io::Result<()> {
    let (bytes, length) = (value.as_ptr().cast(), value.len());
    // SAFETY: the kernel reads the C string `name` and `length` bytes of `value`.
    let result = unsafe { libc::fsetxattr(file.as_raw_fd(), name.as_ptr(), bytes, length, 0) };
    check(c_long::from(result)).map(drop)
}

/// Whether a file has an extended attribute: fgetxattr(2).
pub fn has_xattr(file: BorrowedFd<'_>, name: &CStr) -> bool {
    let null = std::ptr::null_mut();
    // SAFETY: the kernel reads the C string `name`; with size 0 it writes nothing.
    unsafe { libc::fgetxattr(file.as_raw_fd(), name.as_ptr(), null, 0) >= 0 }
}

/// Calls that [`reach`] can try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// clone3(2), Linux 5.3.
    Clone3,
    /// openat2(2), Linux 5.6.
    Openat2,
    /// fsopen(2), Linux 5.2; needs CAP_SYS_ADMIN in the user namespace.
    Fsopen,
    /// mount_setattr(2), Linux 5.12.
    MountSetattr,
}

/// Tries whether the kernel has a system call and lets us reach it, with arguments that it refuses at once.
///
/// # Errors
/// Always: `ENOSYS` when it isn't there, a filter's `EPERM`, else what the bad arguments deserve.
pub fn reach(call: Reach) -> io::Result<()> {
    let number = match call {
        Reach::Clone3 => libc::SYS_clone3,
        Reach::Openat2 => libc::SYS_openat2,
        Reach::Fsopen => libc::SYS_fsopen,
        Reach::MountSetattr => libc::SYS_mount_setattr,
    };
    let zero: c_ulong = 0;
    // SAFETY: null pointers, and sizes of 0, which each of these calls refuses (EINVAL, EFAULT).
    check(unsafe { libc::syscall(number, zero, zero, zero, zero, zero) }).map(drop)
}

/// A system call by its number, with integers that are no addresses: for tests of filters.
///
/// # Errors
/// As the call.
#[cfg(test)]
pub(crate) fn raw_call(number: c_long, args: [c_ulong; 4]) -> io::Result<c_long> {
    // SAFETY: the tests pass integers, and null where a call expects an address.
    check(unsafe { libc::syscall(number, args[0], args[1], args[2], args[3]) })
}

/// fcntl(2) `F_DUPFD_CLOEXEC`: a copy with a number of at least `lowest`.
///
/// # Errors
/// As fcntl(2).
pub fn dup_above(fd: BorrowedFd<'_>, lowest: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: only integers are passed.
    check_fd(c_long::from(unsafe {
        libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, lowest)
    }))
}

/// dup2(2) onto a fixed number, which stays open over exec. Only shortly before exec: whatever had the number is gone.
///
/// # Errors
/// As dup2(2).
pub fn dup_to(fd: BorrowedFd<'_>, number: RawFd) -> io::Result<()> {
    // SAFETY: only integers are passed; the caller is about to exec and uses no other descriptor again.
    check(c_long::from(unsafe { libc::dup2(fd.as_raw_fd(), number) })).map(drop)
}

/// rt_sigaction(2) to `SIG_DFL` for every signal, those that the C library keeps to itself included (its posix_spawn
/// leaves two of them ignored). Only shortly before exec.
pub fn default_signals() {
    const SIGNALS: c_int = 64;
    // struct kernel_sigaction: at most 32 bytes; all zero is SIG_DFL without flags.
    let default = [0_u64; 4];
    let old = std::ptr::null::<u64>();
    for signal in 1..=SIGNALS {
        // SAFETY: the kernel reads `default`; no handler of ours runs. SIGKILL and SIGSTOP are refused, as they should.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), old, 8) };
    }
}

/// The limit of setrlimit(2) with this name in lower case, without `RLIMIT_`.
#[must_use]
pub fn resource(name: &str) -> Option<nix::sys::resource::Resource> {
    use nix::sys::resource::Resource;
    Some(match name {
        "as" => Resource::RLIMIT_AS,
        "core" => Resource::RLIMIT_CORE,
        "cpu" => Resource::RLIMIT_CPU,
        "data" => Resource::RLIMIT_DATA,
        "fsize" => Resource::RLIMIT_FSIZE,
        "locks" => Resource::RLIMIT_LOCKS,
        "memlock" => Resource::RLIMIT_MEMLOCK,
        "msgqueue" => Resource::RLIMIT_MSGQUEUE,
        "nice" => Resource::RLIMIT_NICE,
        "nofile" => Resource::RLIMIT_NOFILE,
        "nproc" => Resource::RLIMIT_NPROC,
        "rss" => Resource::RLIMIT_RSS,
        "rtprio" => Resource::RLIMIT_RTPRIO,
        "rttime" => Resource::RLIMIT_RTTIME,
        "sigpending" => Resource::RLIMIT_SIGPENDING,
        "stack" => Resource::RLIMIT_STACK,
        _ => return None,
    })
}

/// close_range(2): closes every descriptor from `first` on, at once. Only in a process that uses none of them again.
pub fn close_from(first: c_uint) {
    // SAFETY: nothing of this process uses a descriptor again; a refusal leaves them open, which harms nobody.
    let _ = unsafe { libc::syscall(libc::SYS_close_range, first, c_uint::MAX, 0) };
}

/// accept4(2), close-on-exec.
///
/// # Errors
/// As accept4(2).
pub fn accept(listener: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let null = std::ptr::null_mut();
    // SAFETY: the peer's address isn't asked for.
    check_fd(c_long::from(unsafe {
        libc::accept4(listener.as_raw_fd(), null, null.cast(), libc::SOCK_CLOEXEC)
    }))
}

/// ioctl(2) `TIOCGWINSZ`: (rows, columns) of a terminal.
///
/// # Errors
/// As ioctl(2); `ENOTTY` for what isn't a terminal.
pub fn terminal_size(terminal: BorrowedFd<'_>) -> io::Result<(u16, u16)> {
    // SAFETY: all bytes zero is a valid winsize.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one winsize.
    check(c_long::from(unsafe {
        libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size)
    }))?;
    Ok((size.ws_row, size.ws_col))
}

/// ioctl(2) `TIOCSWINSZ`: the foreground process group gets SIGWINCH when the size changes.
///
/// # Errors
/// As ioctl(2).
pub fn set_terminal_size(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> io::Result<()> {
    let size = libc::winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the kernel reads one winsize.
    check(c_long::from(unsafe {
        libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size)
    }))
    .map(drop)
}

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

/// Lets the program that `command` starts keep `fd`, under the same number, which is returned. Here it stays
/// close-on-exec, so no other child gets it.
pub fn give_fd(command: &mut std::process::Command, fd: OwnedFd) -> RawFd {
    let number = fd.as_raw_fd();
    let keep = move || {
        // SAFETY: `fd` is open: this closure owns it.
        check(c_long::from(unsafe {
            libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, 0)
        }))
        .map(drop)
    };
    // SAFETY: between fork and exec the closure makes one system call and touches no lock nor heap.
    unsafe { std::os::unix::process::CommandExt::pre_exec(command, keep) };
    number
}
