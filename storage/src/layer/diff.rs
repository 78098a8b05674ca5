//! What an upper directory changes: as the tar of a layer, and as a list.

use std::collections::BTreeMap;
use std::ffi::{CStr, OsStr, OsString};
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, UtimensatFlags, fstatat, utimensat};
use nix::sys::time::TimeSpec;

use super::stack::{self, Below, lookup};
use super::{LayerError, overlay};
use crate::sys;
use crate::tree::walk::{DIRECTORY, Found, Walk};
use crate::tree::{Packer, TreeError, open_root};

const OPAQUE_MARK: &[u8] = b".wh..wh..opq";
const MARK: &[u8] = b".wh.";

/// Whether the directory gets the times that the tar has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Times {
    /// It stays as it is.
    Keep,
    /// Fractions of seconds are cut off.
    WholeSeconds,
}

/// Whether the directory is in the format that [`overlay`] mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Native,
    /// Whiteouts are files named `.wh.NAME`, as fuse-overlayfs may make them.
    Named,
}

/// Writes an overlay's upper directory to `out` as the tar of a layer (OCI image-spec, layer.md).
///
/// The same content gives the same bytes: names are sorted, times are whole seconds (as Docker and BuildKit write
/// them), owners have no names. Sockets are left out. Needs ids.
///
/// # Errors
/// When something can't be read, or `out` fails.
pub fn write_tar(upper: &Path, out: &mut dyn Write) -> Result<(), LayerError> {
    let out = io::BufWriter::with_capacity(256 << 10, out);
    write_upper(upper, out, Times::Keep, &[])
        .map(drop)
        .map_err(|source| LayerError::Pack {
            upper: upper.to_owned(),
            source,
        })
}

pub(super) fn write_upper(
    upper: &Path,
    out: impl Write,
    times: Times,
    placeholders: &[&str],
) -> Result<Format, TreeError> {
    let root = open_root(upper)?;
    let mut packer = Packer::new(out);
    let mut format = Format::Native;
    if hides(root.as_fd()).map_err(TreeError::io("read", b""))? {
        packer.add_mark(OPAQUE_MARK.to_vec())?;
    }
    let mut walk = Walk::new(root)?;
    while let Some(found) = walk.next()? {
        let named = is_mark(found.name);
        if named {
            format = Format::Named;
        }
        if named || is_whiteout(&found)? {
            if let Some(mark) = mark(&found, named)? {
                packer.add_mark(mark)?;
            }
            continue;
        }
        let left_out = placeholders.iter().any(|p| p.as_bytes() == found.path);
        if left_out && is_placeholder(&found.stat) {
            continue;
        }
        let path = found.path.to_vec();
        let Some(fd) = packer.add(found.dir, found.name, path, found.stat)? else {
            cut_time(&found, times)?;
            continue;
        };
        let failed = || TreeError::io("read", found.path);
        if sys::fgetxattr(&fd, overlay::REDIRECT)
            .map_err(failed())?
            .is_some()
        {
            // Our mounts have redirect_dir=off: somebody else's upper directory.
            return Err(TreeError::io("pack the renamed directory", found.path)(
                Errno::EOPNOTSUPP,
            ));
        }
        if hides(fd.as_fd()).map_err(TreeError::io("read", found.path))? {
            packer.add_mark([found.path, b"/", OPAQUE_MARK].concat())?;
        }
        cut_time(&found, times)?;
        walk.descend(fd)?;
    }
    packer.finish()?;
    Ok(format)
}

/// What a mount point that had to be made looks like.
pub(super) fn is_placeholder(stat: &FileStat) -> bool {
    overlay::kind(stat) == SFlag::S_IFREG && stat.st_size == 0
}

/// Whether a file of this name is a mark in a tar.
pub(super) fn is_mark(name: &CStr) -> bool {
    name.to_bytes().starts_with(MARK)
}

pub(super) fn cut_time(found: &Found<'_>, times: Times) -> Result<(), TreeError> {
    if times == Times::Keep || found.stat.st_mtime_nsec == 0 {
        return Ok(());
    }
    let time = TimeSpec::new(found.stat.st_mtime, 0);
    let flag = UtimensatFlags::NoFollowSymlink;
    utimensat(found.dir, found.name, &time, &time, flag)
        .map_err(TreeError::io("set the time of", found.path))
}

fn is_whiteout(found: &Found<'_>) -> Result<bool, TreeError> {
    if overlay::is_whiteout_device(&found.stat) {
        return Ok(true);
    }
    overlay::is_whiteout_file(found.dir, found.name, &found.stat)
        .map_err(TreeError::io("read", found.path))
}

/// What the tar has for a whiteout, `named` or not: nothing, if something else in the directory says it already. A path
/// that is twice in a layer is refused by podman.
fn mark(found: &Found<'_>, named: bool) -> Result<Option<Vec<u8>>, TreeError> {
    let failed = || TreeError::io("read", found.path);
    // fuse-overlayfs makes both the attribute and `.wh..wh..opq`, and a device `.wh..opq` besides.
    if hides(found.dir).map_err(failed())? {
        return Ok(None);
    }
    if named {
        return Ok(Some(found.path.to_vec()));
    }
    let mark = marked(found.path);
    let (_, name) = crate::tree::beneath::split(&mark);
    match fstatat(found.dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        // It gets its own turn in the walk.
        Ok(_) => Ok(None),
        // Too long: the prefix may make it longer than any name of a file.
        Err(Errno::ENOENT | Errno::ENAMETOOLONG) => Ok(Some(mark)),
        Err(errno) => Err(failed()(errno)),
    }
}

/// `dir/.wh.name`.
fn marked(path: &[u8]) -> Vec<u8> {
    let (dir, name) = crate::tree::beneath::split(path);
    let slash: &[u8] = if dir.is_empty() { b"" } else { b"/" };
    [dir, slash, MARK, name.as_bytes()].concat()
}

/// How a path differs from the layers below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// It, or something in it, is different.
    Changed,
    /// It is gone.
    Deleted,
}

impl fmt::Display for ChangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Added => "A",
            Self::Changed => "C",
            Self::Deleted => "D",
        })
    }
}

/// A line of `docker diff`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What happened.
    pub kind: ChangeKind,
    /// Absolute, as the container sees it.
    pub path: PathBuf,
}

/// What an upper directory changes in the layers `lowers` (top first), sorted by path, as `docker diff` lists it:
/// directories in which something changed are changed; of a deleted directory only itself is listed.
///
/// Needs ids.
///
/// # Errors
/// When something can't be read.
pub fn changes(upper: &Path, lowers: &[PathBuf]) -> Result<Vec<Change>, LayerError> {
    find_changes(upper, lowers).map_err(|source| LayerError::Compare {
        upper: upper.to_owned(),
        source,
    })
}

fn find_changes(upper: &Path, lowers: &[PathBuf]) -> Result<Vec<Change>, TreeError> {
    let mut found_changes = Changes::default();
    let root = open_root(upper)?;
    // For every directory on the way down: the same directory in the layers below, where it can be seen.
    let mut below: Vec<Vec<PathBuf>> = Vec::new();
    below.push(
        if hides(root.as_fd()).map_err(TreeError::io("read", b""))? {
            found_changes.replaced(b"", upper, lowers)?;
            Vec::new()
        } else {
            lowers.to_vec()
        },
    );
    let mut walk = Walk::new(root)?;
    while let Some(found) = walk.next()? {
        let depth = found.path.iter().filter(|&&byte| byte == b'/').count();
        below.truncate(depth + 1);
        let name = OsStr::from_bytes(found.name.to_bytes());
        let marked = found.name.to_bytes().strip_prefix(MARK);
        if marked.is_some_and(|rest| rest.starts_with(MARK)) {
            continue;
        }
        if marked.is_some() || is_whiteout(&found)? {
            let name = marked.map_or(name, OsStr::from_bytes);
            if lookup(&below[depth], name)?.top.is_some() {
                let (dir, _) = crate::tree::beneath::split(found.path);
                found_changes.add(&join(dir, name.as_bytes()), ChangeKind::Deleted);
            }
            continue;
        }
        let Below { top, dirs } = lookup(&below[depth], name)?;
        let old = top.map(|(_, meta)| meta);
        if overlay::kind(&found.stat) != SFlag::S_IFDIR {
            found_changes.add(found.path, kind_for(old.is_some()));
            continue;
        }
        let fd = openat(found.dir, found.name, DIRECTORY, Mode::empty())
            .map_err(TreeError::io("read", found.path))?;
        let opaque = hides(fd.as_fd()).map_err(TreeError::io("read", found.path))?;
        if opaque || !old.as_ref().is_some_and(|old| is_same(old, &found.stat)) {
            found_changes.add(found.path, kind_for(old.is_some()));
        }
        if opaque {
            let place = upper.join(OsStr::from_bytes(found.path));
            found_changes.replaced(found.path, &place, &dirs)?;
            below.push(Vec::new());
        } else {
            below.push(dirs);
        }
        walk.descend(fd)?;
    }
    Ok(found_changes.sorted())
}

pub(super) fn kind_for(existed: bool) -> ChangeKind {
    match existed {
        true => ChangeKind::Changed,
        false => ChangeKind::Added,
    }
}

/// Whether a directory is as it was: overlay copies directories up for what changes in them.
fn is_same(old: &fs::Metadata, new: &FileStat) -> bool {
    old.is_dir()
        && old.mode() == new.st_mode
        && (old.uid(), old.gid()) == (new.st_uid, new.st_gid)
        && (old.mtime(), old.mtime_nsec()) == (new.st_mtime, new.st_mtime_nsec)
}

/// Whether a directory of an upper directory, in either format, hides what is below it.
fn hides(dir: BorrowedFd<'_>) -> Result<bool, Errno> {
    let mark = OsStr::from_bytes(OPAQUE_MARK);
    Ok(overlay::is_opaque(dir)? || fstatat(dir, mark, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok())
}

pub(super) fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    match dir {
        b"" => name.to_vec(),
        _ => [dir, b"/", name].concat(),
    }
}

/// Changes under collection; directories above them are changed too.
#[derive(Default)]
pub(super) struct Changes(BTreeMap<Vec<u8>, ChangeKind>);

impl Changes {
    pub(super) fn add(&mut self, path: &[u8], kind: ChangeKind) {
        self.0.insert(path.to_owned(), kind);
        let mut parent = path;
        while let Some(slash) = parent.iter().rposition(|&byte| byte == b'/') {
            parent = &parent[..slash];
            if self.0.contains_key(parent) {
                break;
            }
            self.0.insert(parent.to_owned(), ChangeKind::Changed);
        }
    }

    /// A directory that hides those below it: what they have and it has not is deleted.
    fn replaced(&mut self, path: &[u8], upper: &Path, dirs: &[PathBuf]) -> Result<(), TreeError> {
        for name in stack::names(dirs)? {
            let stays = fs::symlink_metadata(upper.join(&name)).is_ok();
            if !stays && lookup(dirs, &name)?.top.is_some() {
                self.add(&join(path, name.as_bytes()), ChangeKind::Deleted);
            }
        }
        Ok(())
    }

    /// How the normalized `path` differs, if it does.
    pub(super) fn get(&self, path: &[u8]) -> Option<ChangeKind> {
        self.0.get(path).copied()
    }

    /// Sorted by normalized path.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], ChangeKind)> {
        self.0.iter().map(|(path, kind)| (path.as_slice(), *kind))
    }

    pub(super) fn sorted(self) -> Vec<Change> {
        self.0
            .into_iter()
            .map(|(path, kind)| Change {
                kind,
                path: Path::new("/").join(OsString::from_vec(path)),
            })
            .collect()
    }
}
