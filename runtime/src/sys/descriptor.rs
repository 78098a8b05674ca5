//! Descriptors: which survive an exec, under which number, and the extended attributes of what they stand for.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use libc::{c_long, c_uint};

use super::{check, check_fd};

/// close_range(2) with `CLOSE_RANGE_CLOEXEC` (Linux 5.11): every descriptor from `first` on closes at the next exec.
///
/// # Errors
/// As close_range(2).
pub fn cloexec_from(first: c_uint) -> io::Result<()> {
    const CLOEXEC: c_uint = 1 << 2;
    // SAFETY: only integers are passed; nothing is closed now.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, c_uint::MAX, CLOEXEC) }).map(drop)
}

/// close_range(2): closes every descriptor from `first` on, at once. Only in a process that uses none of them again.
pub fn close_from(first: c_uint) {
    // SAFETY: nothing of this process uses a descriptor again; a refusal leaves them open, which harms nobody.
    let _ = unsafe { libc::syscall(libc::SYS_close_range, first, c_uint::MAX, 0) };
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
