//! Finds and makes mount points inside the root. The image decides what lies there, so every look-up is confined by the
//! kernel (openat2(2), `RESOLVE_IN_ROOT`): a symbolic link leads to where it would lead inside the container.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat, openat2, readlink, readlinkat};
use nix::sys::stat::{Mode, UtimensatFlags, fstat, mkdirat, utimensat};
use nix::sys::time::TimeSpec;

/// What a mount point has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File,
}

/// Opens `path` inside `root` without following anything outside.
pub(super) fn open(root: BorrowedFd<'_>, path: &Path, flags: OFlag) -> io::Result<OwnedFd> {
    let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    open_resolving(root, path, flags, resolve)
}

fn open_resolving(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlag,
    resolve: ResolveFlag,
) -> io::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .mode(if flags.contains(OFlag::O_CREAT) {
            Mode::from_bits_truncate(0o644)
        } else {
            Mode::empty()
        })
        .resolve(resolve);
    let path = if path == Path::new("/") || path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    loop {
        match openat2(root, path, how) {
            // A rename somewhere on the way (openat2(2), "EAGAIN").
            Err(Errno::EAGAIN) => {}
            other => return Ok(other?),
        }
    }
}

/// Opens the mount point `path` inside `root`, as a path only; makes what is missing, and what a link to nothing names.
pub(super) fn ensure(root: BorrowedFd<'_>, path: &Path, kind: Kind) -> io::Result<OwnedFd> {
    match open(root, path, OFlag::O_PATH) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
        other => return other,
    }
    let mut wanted = plain(path);
    for _ in 0..LINKS {
        match walk(root, &wanted, kind)? {
            Walked::There(fd) => return Ok(fd),
            Walked::Link(instead) => wanted = instead,
        }
    }
    Err(io::Error::from_raw_os_error(libc::ELOOP))
}

/// The same for a directory of which nothing is a link: through another name, what is hidden below it could be reached.
pub(super) fn ensure_plain(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_SYMLINKS;
    let opened = match open_resolving(root, path, flags, resolve) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
            ensure(root, path, Kind::Directory)?;
            open_resolving(root, path, flags, resolve)
        }
        other => other,
    };
    opened.map_err(|error| match error.raw_os_error() {
        Some(libc::ELOOP) => io::Error::other("it is a symbolic link in the image"),
        _ => error,
    })
}

/// Links to nothing in one path, one leading to the next; as the kernel's own limit.
const LINKS: u32 = 40;

/// How far a walk came.
enum Walked {
    There(OwnedFd),
    /// There is a link to nothing: what to walk to instead. It may contain `..`, which the kernel resolves: what
    /// comes before may itself be a link, and its parent is that of what it leads to.
    Link(PathBuf),
}

/// Goes down `path`, making what is missing; its last part is to be a `kind`.
fn walk(root: BorrowedFd<'_>, path: &Path, kind: Kind) -> io::Result<Walked> {
    let mut reached = PathBuf::from("/");
    let mut fd = open(root, &reached, OFlag::O_PATH)?;
    let mut parts = path.components();
    while let Some(part) = parts.next() {
        if !matches!(part, Component::Normal(_) | Component::ParentDir) {
            continue;
        }
        reached.push(part);
        match open(root, &reached, OFlag::O_PATH) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            other => {
                fd = other?;
                continue;
            }
        }
        let name = part.as_os_str();
        let last = parts.as_path().as_os_str().is_empty();
        match make(&fd, name, if last { kind } else { Kind::Directory }) {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
                let leads_to = readlinkat(&fd, name)?;
                reached.pop();
                return Ok(Walked::Link(reached.join(leads_to).join(parts.as_path())));
            }
            made => made?,
        }
        fd = open(root, &reached, OFlag::O_PATH)?;
    }
    Ok(Walked::There(fd))
}

/// What [`make`] has made, as the host's paths. This process has one thread and one life.
static MADE: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// All that was made for mounts until now, in order: paths of this mount namespace.
pub(super) fn made() -> Vec<PathBuf> {
    MADE.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Makes a mount point. It is no change of the container's: directory and mount point have the times that the directory
/// had, so that two containers that do the same are committed to the same layer.
fn make(directory: &OwnedFd, name: &OsStr, kind: Kind) -> io::Result<()> {
    let before = fstat(directory)?;
    match kind {
        Kind::Directory => mkdirat(directory, name, Mode::from_bits_truncate(0o755))?,
        Kind::File => drop(openat(
            directory,
            name,
            OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC,
            Mode::from_bits_truncate(0o644),
        )?),
    }
    let time = TimeSpec::new(before.st_mtime, before.st_mtime_nsec);
    // A file system that keeps no times is none the worse for it.
    let _ = utimensat(
        directory,
        name,
        &time,
        &time,
        UtimensatFlags::NoFollowSymlink,
    );
    let here = proc_path(directory);
    if let Ok(directory) = readlink(&here) {
        let path = Path::new(&directory).join(name);
        MADE.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(path);
    }
    let _ = utimensat(AT_FDCWD, &here, &time, &time, UtimensatFlags::FollowSymlink);
    Ok(())
}

/// A path of the host's /proc that stands for `fd`, for calls that take no descriptor.
pub(super) fn proc_path(fd: &impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()))
}

/// Absolute, without `.` and `..` (which the user wrote, not the image).
pub(super) fn plain(path: &Path) -> PathBuf {
    let mut out = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => {
                out.pop();
            }
            _ => {}
        }
    }
    out
}
