//! Terminals and ptys.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use libc::{c_int, c_long};

use super::{check, check_fd};

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
