//! Deleting a tree: any depth, any modes, nothing followed.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::{FchmodatFlags, Mode, fchmod, fchmodat, fstat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::walk::{DIRECTORY, list};

/// Times that a directory may turn out not to be empty again, because somebody else writes to it.
const ATTEMPTS: u32 = 8;

/// Deletes `path` with everything below; nothing there is fine.
///
/// The last name isn't followed when it is a symbolic link. Directories that may not be read or written are made so
/// first. Neither stack nor descriptors are taken by depth. Needs ids, when the files have several owners.
///
/// # Errors
/// When something can't be deleted: what was deleted until then is gone.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let Some(name) = path.file_name() else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    match openat(AT_FDCWD, parent, flags, Mode::empty()) {
        Ok(parent) => Ok(remove_at(parent.as_fd(), name)?),
        Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// A directory on the way down.
struct Frame {
    name: CString,
    /// Of the directory above, to know it again.
    above: (u64, u64),
    /// Directories in it that are still to be deleted.
    todo: Vec<CString>,
    attempts: u32,
}

/// As [`remove_tree`], for a name in a directory.
///
/// # Errors
/// As there.
pub fn remove_at(dir: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
    match unlinkat(dir, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => return Ok(()),
        Err(Errno::EISDIR | Errno::EPERM) => {}
        Err(errno) => return Err(errno),
    }
    let name = CString::new(name.as_bytes()).map_err(|_| Errno::EINVAL)?;
    let mut frames: Vec<Frame> = Vec::new();
    let mut here = enter(dir, name, &mut frames)?;
    while let Some(frame) = frames.last_mut() {
        if let Some(name) = frame.todo.pop() {
            here = enter(here.as_fd(), name, &mut frames)?;
            continue;
        }
        let above = if frames.len() == 1 {
            openat(dir, c".", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?
        } else {
            writable(&here, || openat(&here, c"..", DIRECTORY, Mode::empty()))?
        };
        let frame = frames.last_mut().expect("was there above");
        let stat = fstat(&above)?;
        if (stat.st_dev, stat.st_ino) != frame.above {
            // Moved meanwhile: what is above may be anything.
            return Err(Errno::ESTALE);
        }
        let removed = writable(&above, || {
            unlinkat(&above, frame.name.as_c_str(), UnlinkatFlags::RemoveDir)
        });
        match removed {
            Ok(()) | Err(Errno::ENOENT) => {
                frames.pop();
                here = above;
            }
            Err(Errno::ENOTEMPTY | Errno::EEXIST) if frame.attempts < ATTEMPTS => {
                frame.attempts += 1;
                frame.todo = empty_but_directories(&here)?;
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Goes into a directory and deletes everything in it but directories.
fn enter(above: BorrowedFd<'_>, name: CString, frames: &mut Vec<Frame>) -> Result<OwnedFd, Errno> {
    let open = || openat(above, name.as_c_str(), DIRECTORY, Mode::empty());
    let here = match open() {
        Err(Errno::EACCES) => {
            let flags = FchmodatFlags::NoFollowSymlink;
            fchmodat(above, name.as_c_str(), Mode::S_IRWXU, flags)?;
            open()?
        }
        other => other?,
    };
    let stat = fstat(above)?;
    frames.push(Frame {
        name,
        above: (stat.st_dev, stat.st_ino),
        todo: empty_but_directories(&here)?,
        attempts: 0,
    });
    Ok(here)
}

fn empty_but_directories(here: &OwnedFd) -> Result<Vec<CString>, Errno> {
    let again = writable(here, || openat(here, c".", DIRECTORY, Mode::empty()))?;
    let mut directories = Vec::new();
    for (name, kind) in list(&mut Dir::from_fd(again)?)? {
        if kind == Some(Type::Directory) {
            directories.push(name);
            continue;
        }
        match writable(here, || {
            unlinkat(here, name.as_c_str(), UnlinkatFlags::NoRemoveDir)
        }) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(Errno::EISDIR) => directories.push(name),
            Err(errno) => return Err(errno),
        }
    }
    Ok(directories)
}

/// Does it; once more after the directory was made writable, when that was missing.
fn writable<T>(dir: &OwnedFd, operation: impl Fn() -> Result<T, Errno>) -> Result<T, Errno> {
    match operation() {
        Err(Errno::EACCES) => {
            fchmod(dir, Mode::S_IRWXU)?;
            operation()
        }
        other => other,
    }
}
