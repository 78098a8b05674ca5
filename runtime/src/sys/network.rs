//! Sockets and the loopback interface.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use libc::c_long;

use super::{check, check_fd};

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
