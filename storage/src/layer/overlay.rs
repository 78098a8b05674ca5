//! Overlay's own format, as it is mounted with `userxattr` (Linux 5.11, Documentation/filesystems/overlayfs.rst).

use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat, mknodat};

use crate::sys;

/// `y`: what is below is hidden; `x` (Linux 6.7): some files are whiteouts in the attribute's form.
pub(crate) const OPAQUE: &CStr = c"user.overlay.opaque";
/// On an empty regular file: a whiteout (Linux 6.7).
const WHITEOUT: &CStr = c"user.overlay.whiteout";
/// fuse-overlayfs's way to say `OPAQUE`.
const FUSE_OPAQUE: &CStr = c"user.fuseoverlayfs.opaque";
/// On a directory that was renamed: needs the layers below, which a tar hasn't.
pub(crate) const REDIRECT: &CStr = c"user.overlay.redirect";

pub(crate) fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

/// Whether `stat` is of a whiteout in the usual form, a character device 0:0.
pub(crate) fn is_whiteout_device(stat: &FileStat) -> bool {
    kind(stat) == SFlag::S_IFCHR && stat.st_rdev == 0
}

/// Whether `name` in `dir` is a whiteout, in either form. `ENOENT` when it isn't there.
pub(crate) fn is_whiteout(dir: BorrowedFd<'_>, name: &OsStr) -> Result<bool, Errno> {
    let stat = fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    Ok(is_whiteout_device(&stat) || is_whiteout_file(dir, name, &stat)?)
}

/// Whether `name`, of which `stat` is, is a whiteout in the attribute's form.
pub(crate) fn is_whiteout_file(
    dir: BorrowedFd<'_>,
    name: &(impl nix::NixPath + ?Sized),
    stat: &FileStat,
) -> Result<bool, Errno> {
    if kind(stat) != SFlag::S_IFREG || stat.st_size != 0 {
        return Ok(false);
    }
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let fd = openat(dir, name, flags, Mode::empty())?;
    Ok(sys::fgetxattr(&fd, WHITEOUT).map_err(errno)?.is_some())
}

/// Makes a whiteout where nothing is.
///
/// Everybody may make the device since Linux 5.8; where a seccomp filter forbids it, the attribute's form is left,
/// which asks for a mark on the directory too.
pub(crate) fn make_whiteout(dir: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
    match mknodat(dir, name, SFlag::S_IFCHR, Mode::empty(), 0) {
        Err(Errno::EPERM) => {}
        other => return other,
    }
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let fd = openat(dir, name, flags, Mode::from_bits_truncate(0o600))?;
    sys::fsetxattr(&fd, WHITEOUT, b"y").map_err(errno)?;
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let dir = openat(dir, c".", flags, Mode::empty())?;
    if sys::fgetxattr(&dir, OPAQUE).map_err(errno)?.is_none() {
        sys::fsetxattr(&dir, OPAQUE, b"x").map_err(errno)?;
    }
    Ok(())
}

/// Makes the directory hide what is below it. Not with an `O_PATH` descriptor.
pub(crate) fn set_opaque(dir: impl AsFd) -> Result<(), Errno> {
    sys::fsetxattr(dir, OPAQUE, b"y").map_err(errno)
}

/// Whether the directory hides what is below it. Not with an `O_PATH` descriptor.
pub(crate) fn is_opaque(dir: impl AsFd) -> Result<bool, Errno> {
    let dir = dir.as_fd();
    for name in [OPAQUE, FUSE_OPAQUE] {
        if sys::fgetxattr(dir, name).map_err(errno)?.as_deref() == Some(b"y") {
            return Ok(true);
        }
    }
    Ok(false)
}

fn errno(error: io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(0))
}
