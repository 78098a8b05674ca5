//! What was made in an upper directory only to mount something on: it is no change, and no part of a layer.

use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FileStat, SFlag, UtimensatFlags, fstat, fstatat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::{LayerError, overlay};
use crate::sys;
use crate::tree::{self, TreeError, beneath};

/// What fuse-overlayfs has in every directory that it makes.
const FUSE_OPAQUE: [&str; 2] = [".wh..opq", ".wh..wh..opq"];

/// Removes the mount points `made` (absolute, without links in their directories; in the order in which they were made)
/// from `upper` where they are still empty files and directories. A directory above them that is in `upper` for no other
/// reason goes, too: one with nothing in it that is as the layers below (`lowers`, top first) have it. Needs ids.
///
/// # Errors
/// When something can't be read or removed.
pub fn remove(upper: &Path, lowers: &[PathBuf], made: &[PathBuf]) -> Result<(), LayerError> {
    if made.is_empty() {
        return Ok(());
    }
    let failed = |source| LayerError::Pack {
        upper: upper.to_owned(),
        source,
    };
    let root = tree::open_root(upper).map_err(failed)?;
    let mut parents = Vec::new();
    for path in made.iter().rev() {
        let path = path.strip_prefix("/").unwrap_or(path);
        for mark in FUSE_OPAQUE {
            // Removed if it is there; what can't be leaves the directory there.
            let _ = remove_one(&root, &path.join(mark));
        }
        let removed = remove_one(&root, path);
        if removed
            .map_err(TreeError::io("remove", path.as_os_str().as_bytes()))
            .map_err(failed)?
        {
            parents.extend(path.ancestors().skip(1).map(Path::to_owned));
        }
    }
    // The deepest first; the root stays.
    parents.retain(|path| !path.as_os_str().is_empty());
    parents.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
    parents.dedup();
    for path in parents {
        if is_unchanged(&root, lowers, &path).unwrap_or(false) {
            remove_one(&root, &path)
                .map_err(TreeError::io("remove", path.as_os_str().as_bytes()))
                .map_err(failed)?;
        }
    }
    Ok(())
}

fn open(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    openat2(root, path, how)
}

/// Removes an empty file or directory; its directory keeps its times. False: it isn't one, or isn't there.
fn remove_one(root: &OwnedFd, path: &Path) -> Result<bool, Errno> {
    let (parent, name) = beneath::split(path.as_os_str().as_bytes());
    let parent = match open(root.as_fd(), Path::new(OsStr::from_bytes(parent))) {
        Err(errno) if tree::is_gone(errno) => return Ok(false),
        other => other?,
    };
    let stat = match fstatat(&parent, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Err(Errno::ENOENT) => return Ok(false),
        other => other?,
    };
    let flag = match overlay::kind(&stat) {
        SFlag::S_IFDIR => UnlinkatFlags::RemoveDir,
        SFlag::S_IFREG if stat.st_size == 0 => UnlinkatFlags::NoRemoveDir,
        _ if overlay::is_whiteout_device(&stat) && FUSE_OPAQUE.iter().any(|mark| name == *mark) => {
            UnlinkatFlags::NoRemoveDir
        }
        _ => return Ok(false),
    };
    let before = fstat(&parent)?;
    match unlinkat(&parent, name, flag) {
        Err(Errno::ENOTEMPTY | Errno::EEXIST) => return Ok(false),
        other => other?,
    }
    let (accessed, modified) = (
        TimeSpec::new(before.st_atime, before.st_atime_nsec),
        TimeSpec::new(before.st_mtime, before.st_mtime_nsec),
    );
    utimensat(
        &parent,
        ".",
        &accessed,
        &modified,
        UtimensatFlags::NoFollowSymlink,
    )?;
    Ok(true)
}

/// Whether the directory `path` of the upper directory adds nothing to what `lowers` have there.
fn is_unchanged(root: &OwnedFd, lowers: &[PathBuf], path: &Path) -> io::Result<bool> {
    let upper = open(root.as_fd(), path)?;
    if overlay::is_opaque(&upper)? {
        return Ok(false);
    }
    for lower in lowers {
        let lower = tree::open_root(lower).map_err(io::Error::other)?;
        match open(lower.as_fd(), path) {
            // The topmost that has it says how it was: had it been hidden, it would have been made.
            Ok(lower) => {
                return Ok(same(&fstat(&upper)?, &fstat(&lower)?)
                    && attributes(&upper)? == attributes(&lower)?);
            }
            Err(errno) if tree::is_gone(errno) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(false)
}

/// Whether owner, mode and time of change are the same.
fn same(a: &FileStat, b: &FileStat) -> bool {
    let facts = |s: &FileStat| (s.st_mode, s.st_uid, s.st_gid, s.st_mtime, s.st_mtime_nsec);
    facts(a) == facts(b)
}

/// Names and values of the extended attributes but overlay's own, sorted.
fn attributes(fd: &OwnedFd) -> io::Result<Vec<[Vec<u8>; 2]>> {
    let names = sys::flistxattr(fd)?;
    let mut all = Vec::new();
    for name in names.split_inclusive(|&byte| byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else {
            continue;
        };
        if !name.to_bytes().starts_with(b"user.overlay.") {
            let value = sys::fgetxattr(fd, name)?.unwrap_or_default();
            all.push([name.to_bytes().to_vec(), value]);
        }
    }
    all.sort();
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::testing::Scratch;

    /// A layer with `etc`, and an upper directory with a copy of it that has the empty file `etc/hosts`.
    fn scene() -> (Scratch, PathBuf, PathBuf) {
        let scratch = Scratch::new();
        let (upper, lower) = (scratch.path("upper"), scratch.path("lower"));
        for dir in [&upper, &lower] {
            fs::create_dir_all(dir.join("etc")).unwrap();
        }
        fs::write(upper.join("etc/hosts"), "").unwrap();
        let time = TimeSpec::new(1_000_000, 5);
        for dir in [&upper, &lower] {
            let etc = dir.join("etc");
            let follow = UtimensatFlags::FollowSymlink;
            utimensat(nix::fcntl::AT_FDCWD, &etc, &time, &time, follow).unwrap();
        }
        (scratch, upper, lower)
    }

    fn made(paths: &[&str]) -> Vec<PathBuf> {
        paths.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn nothing_stays_of_a_mount_point() {
        let (_scratch, upper, lower) = scene();
        fs::create_dir_all(upper.join("run/secrets")).unwrap();
        fs::write(upper.join("run/secrets/x"), "").unwrap();
        let made = made(&[
            "/etc/hosts",
            "/run",
            "/run/secrets",
            "/run/secrets/x",
            "/gone/y",
        ]);
        remove(&upper, &[lower], &made).unwrap();
        assert_eq!(fs::read_dir(&upper).unwrap().count(), 0);
    }

    #[test]
    fn what_the_step_did_stays() {
        let (_scratch, upper, lower) = scene();
        fs::create_dir(upper.join("run")).unwrap();
        fs::write(upper.join("run/pid"), "1").unwrap();
        fs::write(upper.join("full"), "x").unwrap();
        std::os::unix::fs::symlink("/etc", upper.join("link")).unwrap();
        let made = made(&["/etc/hosts", "/run", "/full", "/link/passwd", "/link"]);
        fs::write(lower.join("etc/passwd"), "").unwrap();
        // The directory of the layer is another one now.
        remove(&upper, std::slice::from_ref(&lower), &made).unwrap();
        assert!(upper.join("etc").is_dir());
        assert!(!upper.join("etc/hosts").exists());
        assert_eq!(fs::metadata(upper.join("etc")).unwrap().mtime(), 1_000_000);
        for path in ["run/pid", "full"] {
            assert!(upper.join(path).exists(), "{path}");
        }
        assert!(upper.join("link").is_symlink());
    }
}
