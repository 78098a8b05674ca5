//! System calls that nix lacks: one thin safe function each, with the man page.

#![expect(
    unsafe_code,
    reason = "the one place of this crate where system calls are made by hand"
)]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// The largest extended attribute value that Linux keeps (`XATTR_SIZE_MAX`, linux/limits.h).
pub(crate) const XATTR_SIZE_MAX: usize = 65536;

fn check(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// fgetxattr(2). `None`: there is no such attribute, or the file system keeps none.
pub(crate) fn fgetxattr(fd: impl AsFd, name: &CStr) -> io::Result<Option<Vec<u8>>> {
    let mut value = vec![0_u8; 256];
    loop {
        // SAFETY: `name` ends with a NUL; the kernel writes at most `value.len()` bytes into `value`.
        let result = check(unsafe {
            libc::fgetxattr(
                fd.as_fd().as_raw_fd(),
                name.as_ptr(),
                value.as_mut_ptr().cast(),
                value.len(),
            )
        });
        match result {
            Ok(len) => {
                value.truncate(len);
                return Ok(Some(value));
            }
            Err(error) => match error.raw_os_error() {
                Some(libc::ENODATA | libc::EOPNOTSUPP) => return Ok(None),
                Some(libc::ERANGE) if value.len() < XATTR_SIZE_MAX => {
                    value.resize(XATTR_SIZE_MAX, 0);
                }
                _ => return Err(error),
            },
        }
    }
}

/// fsetxattr(2): creates or replaces.
pub(crate) fn fsetxattr(fd: impl AsFd, name: &CStr, value: &[u8]) -> io::Result<()> {
    // SAFETY: `name` ends with a NUL; the kernel reads `value.len()` bytes from `value`.
    check(unsafe {
        libc::fsetxattr(
            fd.as_fd().as_raw_fd(),
            name.as_ptr(),
            value.as_ptr().cast(),
            value.len(),
            0,
        ) as libc::ssize_t
    })
    .map(drop)
}

/// flistxattr(2): the names, each with its NUL at the end; empty where the file system keeps none.
pub(crate) fn flistxattr(fd: impl AsFd) -> io::Result<Vec<u8>> {
    let mut names = vec![0_u8; 512];
    loop {
        // SAFETY: the kernel writes at most `names.len()` bytes into `names`.
        let result = check(unsafe {
            libc::flistxattr(
                fd.as_fd().as_raw_fd(),
                names.as_mut_ptr().cast(),
                names.len(),
            )
        });
        match result {
            Ok(len) => {
                names.truncate(len);
                return Ok(names);
            }
            Err(error) => match error.raw_os_error() {
                Some(libc::EOPNOTSUPP) => return Ok(Vec::new()),
                Some(libc::ERANGE) if names.len() < XATTR_SIZE_MAX => {
                    names.resize(XATTR_SIZE_MAX, 0);
                }
                _ => return Err(error),
            },
        }
    }
}

/// `FICLONE` (ioctl_ficlone(2)): makes `to` share all blocks of `from`, where the file system can.
pub(crate) fn clone_file(from: impl AsFd, to: impl AsFd) -> io::Result<()> {
    // SAFETY: FICLONE (linux/fs.h) takes a descriptor as its argument and touches no memory of ours.
    check(unsafe {
        libc::ioctl(
            to.as_fd().as_raw_fd(),
            libc::FICLONE,
            from.as_fd().as_raw_fd(),
        )
    } as libc::ssize_t)
    .map(drop)
}

/// sync_file_range(2) with `SYNC_FILE_RANGE_WRITE`: begins to write the file out and does not wait. A length of 0 is the rest.
pub(crate) fn begin_writeback(fd: impl AsFd, offset: u64, len: u64) -> io::Result<()> {
    // SAFETY: touches no memory.
    check(unsafe {
        libc::sync_file_range(
            fd.as_fd().as_raw_fd(),
            offset.cast_signed(),
            len.cast_signed(),
            libc::SYNC_FILE_RANGE_WRITE,
        )
    } as libc::ssize_t)
    .map(drop)
}
