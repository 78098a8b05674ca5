//! Loading seccomp filters.

use std::io;
use std::os::fd::OwnedFd;

use libc::c_ulong;

use super::{check, check_fd};

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
