//! Resolving paths below a root: what strangers name never leads out of it.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::{Mode, fchmod, mkdirat};

use super::{PATH_LIMIT, TreeError, to_path};
use crate::layer::overlay;

/// Symbolic links in one path; as the kernel's own limit.
const LINKS: u32 = 40;
/// openat2(2) gives EAGAIN when somebody renames meanwhile.
const ATTEMPTS: u32 = 16;

const DIRECTORY: OFlag = OFlag::O_PATH
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_CLOEXEC);

/// Without empty and `.` components, without slashes at its ends, `..` resolved by the names alone; the root is empty.
pub(crate) fn normalize(path: &[u8]) -> Result<Cow<'_, [u8]>, TreeError> {
    let bad = |problem| {
        Err(TreeError::BadPath {
            path: to_path(&path[..path.len().min(PATH_LIMIT)]),
            problem,
        })
    };
    if path.contains(&0) {
        return bad("it has a NUL byte");
    }
    if path.len() > PATH_LIMIT {
        return bad("it is longer than 4095 bytes");
    }
    let odd = |part: &[u8]| matches!(part, b"" | b"." | b"..");
    if !path.split(|&byte| byte == b'/').any(odd) {
        return Ok(Cow::Borrowed(path));
    }
    let mut out: Vec<&[u8]> = Vec::new();
    for part in path.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if out.pop().is_none() => return bad("it leads out of the tree"),
            b".." => {}
            name => out.push(name),
        }
    }
    Ok(Cow::Owned(out.join(&b'/')))
}

/// A normalized path's directory and last name.
pub(crate) fn split(path: &[u8]) -> (&[u8], &OsStr) {
    let slash = path.iter().rposition(|&byte| byte == b'/');
    let (dir, name) = match slash {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&b""[..], path),
    };
    (dir, OsStr::from_bytes(name))
}

/// Opens the normalized `path` as a chroot in `root` would, links included.
///
/// While anything is renamed or mounted anywhere on the machine, a path with `..` may give EAGAIN (openat2(2)): that is
/// tried again, though not for ever, for a container may do nothing but rename.
pub(super) fn open_in_root(
    root: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlag,
) -> Result<OwnedFd, Errno> {
    const PATIENCE: u32 = 10_000;
    let how = OpenHow::new()
        .flags(flags)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    for _ in 0..PATIENCE {
        match openat2(root, path, how) {
            Err(Errno::EAGAIN) => {}
            other => return other,
        }
    }
    Err(Errno::EAGAIN)
}

/// What to do about directories that are missing on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// Make them.
    Create,
    /// `ENOENT`.
    Fail,
}

/// A tree's root, and the directory that was asked for last.
pub(crate) struct Beneath {
    root: OwnedFd,
    last: Option<(Vec<u8>, OwnedFd)>,
}

impl Beneath {
    pub(crate) fn new(root: OwnedFd) -> Self {
        Self { root, last: None }
    }

    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// To be called when a directory or a link was removed: the descriptor may be of something that is gone.
    pub(crate) fn forget(&mut self) {
        self.last = None;
    }

    /// The directory at the normalized `path`; symbolic links lead where they lead in a chroot.
    pub(crate) fn directory(
        &mut self,
        path: &[u8],
        missing: Missing,
    ) -> Result<BorrowedFd<'_>, TreeError> {
        if path.is_empty() {
            return Ok(self.root.as_fd());
        }
        let known = matches!(&self.last, Some((last, _)) if last == path);
        if !known {
            let fd = self
                .resolve(path, missing)
                .map_err(TreeError::io("open the directory", path))?;
            self.last = Some((path.to_owned(), fd));
        }
        let (_, fd) = self.last.as_ref().expect("was just set");
        Ok(fd.as_fd())
    }

    fn resolve(&self, path: &[u8], missing: Missing) -> Result<OwnedFd, Errno> {
        let how = OpenHow::new()
            .flags(DIRECTORY)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        for _ in 0..ATTEMPTS {
            match openat2(&self.root, path, how) {
                Ok(fd) => return Ok(fd),
                Err(Errno::EAGAIN) => {}
                // Missing directories are made on foot, and so is everything where a seccomp filter forbids openat2.
                Err(Errno::ENOENT | Errno::ENOTDIR) if missing == Missing::Create => break,
                Err(Errno::ENOSYS | Errno::EPERM) => break,
                Err(errno) => return Err(errno),
            }
        }
        self.walk(path, missing)
    }

    /// One name after the other; symbolic links are expanded by hand.
    fn walk(&self, path: &[u8], missing: Missing) -> Result<OwnedFd, Errno> {
        let mut todo: VecDeque<Vec<u8>> = parts(path);
        let mut fd = openat(&self.root, c".", DIRECTORY, Mode::empty())?;
        // The names that lead to `fd`, for `..` in links: a directory's own `..` may be moved by others.
        let mut here: Vec<Vec<u8>> = Vec::new();
        let mut links = 0;
        while let Some(part) = todo.pop_front() {
            if part == b".." {
                here.pop();
                fd = openat(&self.root, c".", DIRECTORY, Mode::empty())?;
                for name in &here {
                    fd = open_directory(&fd, name)?;
                }
                continue;
            }
            match open_directory(&fd, &part) {
                Ok(next) => {
                    fd = next;
                    here.push(part);
                }
                Err(Errno::ENOENT) if missing == Missing::Create => {
                    fd = make_directory(&fd, &part)?;
                    here.push(part);
                }
                Err(Errno::ENOTDIR | Errno::ELOOP) => {
                    match readlinkat(&fd, OsStr::from_bytes(&part)) {
                        Ok(target) => {
                            links += 1;
                            if links > LINKS {
                                return Err(Errno::ELOOP);
                            }
                            let target = target.as_bytes();
                            if target.starts_with(b"/") {
                                fd = openat(&self.root, c".", DIRECTORY, Mode::empty())?;
                                here.clear();
                            }
                            for name in parts(target).into_iter().rev() {
                                todo.push_front(name);
                            }
                        }
                        Err(Errno::EINVAL) if missing == Missing::Create => {
                            fd = replace_whiteout(&fd, &part)?;
                            here.push(part);
                        }
                        Err(Errno::EINVAL) => return Err(Errno::ENOTDIR),
                        Err(errno) => return Err(errno),
                    }
                }
                Err(errno) => return Err(errno),
            }
        }
        Ok(fd)
    }
}

fn parts(path: &[u8]) -> VecDeque<Vec<u8>> {
    path.split(|&byte| byte == b'/')
        .filter(|part| !matches!(*part, b"" | b"."))
        .map(<[u8]>::to_vec)
        .collect()
}

fn open_directory(dir: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let name = OsStr::from_bytes(name);
    openat(dir, name, DIRECTORY | OFlag::O_NOFOLLOW, Mode::empty())
}

fn make_directory(dir: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let name = OsStr::from_bytes(name);
    let mode = Mode::from_bits_truncate(0o755);
    match mkdirat(dir, name, mode) {
        Ok(()) => {
            // The umask may have taken bits. O_PATH descriptors can't do it.
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let fd = openat(dir, name, flags, Mode::empty())?;
            fchmod(&fd, mode)?;
            Ok(fd)
        }
        // Somebody was faster.
        Err(Errno::EEXIST) => open_directory(dir, name.as_bytes()),
        Err(errno) => Err(errno),
    }
}

/// A directory that a layer has anew, after it deleted the one below.
fn replace_whiteout(dir: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let os_name = OsStr::from_bytes(name);
    if !overlay::is_whiteout(dir.as_fd(), os_name)? {
        return Err(Errno::ENOTDIR);
    }
    nix::unistd::unlinkat(dir, os_name, nix::unistd::UnlinkatFlags::NoRemoveDir)?;
    let fd = make_directory(dir, name)?;
    overlay::set_opaque(&fd)?;
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_normalized_by_their_names() {
        for (path, want) in [
            ("a/b", "a/b"),
            ("./a//b/", "a/b"),
            ("/", ""),
            ("", ""),
            (".", ""),
            ("/etc/../usr/./x", "usr/x"),
            ("a/..", ""),
            ("...", "..."),
        ] {
            assert_eq!(normalize(path.as_bytes()).unwrap(), want.as_bytes());
        }
        for path in ["..", "../x", "a/../../b", "/..", "a\0b", &"x/".repeat(3000)] {
            assert!(normalize(path.as_bytes()).is_err(), "{path:?}");
        }
    }
}
