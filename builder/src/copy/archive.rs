//! ADD of an archive: unpacked into the destination, whose links lead nowhere out of it.
//!
//! As in BuildKit: what is in the way is replaced, only directories are merged; pipes and devices are passed over; modes,
//! times and owners are the archive's, but for `--chown`.

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{self, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use nix::fcntl::{AtFlags, openat};
use nix::sys::stat::{UtimensatFlags, fstat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchownat, linkat, symlinkat};
use rctr_storage::layer::merged::{MergedDir, OpenDir, join, shown};
use rctr_storage::tarfile::{Entry, Kind, Reader};
use rctr_storage::tree::{TreeError, copy_content, extract};

use super::CopyError;
use super::files::{Copier, NEW, PRIVATE};
use super::plain::{Pieces, ahead, plain};
use super::resolve::{Everything, Resolved, names, resolve_below};
use super::target::{Looks, UPPER, creator, owner_error};

type Tar = Reader<BufReader<Pieces>>;

/// Whether a tar begins here, compressed or not.
pub(super) fn is_archive(file: &File) -> io::Result<bool> {
    let Ok((_, bytes)) = plain(file) else {
        return Ok(false);
    };
    let mut tar = Reader::new(BufReader::new(bytes));
    Ok(matches!(tar.next_entry(), Ok(Some(_))))
}

/// Unpacks the archive `file`, called `name` in messages, into the directory `to`.
pub(super) fn unpack(
    copier: &Copier<'_>,
    file: &File,
    name: &str,
    to: &MergedDir,
) -> Result<(), CopyError> {
    let broken = |source| CopyError::Unpack {
        path: name.to_owned(),
        source,
    };
    let (_, bytes) = plain(file).map_err(CopyError::source("read", name.as_bytes()))?;
    std::thread::scope(|scope| {
        let pieces = ahead(scope, bytes);
        let mut tar: Tar = Reader::new(BufReader::with_capacity(256 << 10, pieces));
        let mut unpacking = Unpacking {
            copier,
            top: to,
            last: None,
        };
        while let Some(entry) = tar.next_entry().map_err(|error| broken(error.into()))? {
            unpacking.place(&entry, &mut tar, &broken)?;
        }
        tar.drain().map_err(|error| broken(error.into()))
    })
}

struct Unpacking<'a> {
    copier: &'a Copier<'a>,
    top: &'a MergedDir,
    /// The directory of the last entry, by its path in the archive: the next one is mostly in the same.
    last: Option<(Vec<u8>, MergedDir, OpenDir)>,
}

impl Unpacking<'_> {
    fn place(
        &mut self,
        entry: &Entry,
        tar: &mut Tar,
        broken: &dyn Fn(TreeError) -> CopyError,
    ) -> Result<(), CopyError> {
        let path = local(&entry.path).map_err(broken)?;
        let skipped = matches!(
            entry.kind,
            Kind::CharDevice | Kind::BlockDevice | Kind::Fifo
        );
        if path.is_empty() || skipped {
            return Ok(());
        }
        let (dir, name) = split(&path)?;
        self.enter(dir)?;
        let (_, dir, open) = self.last.as_ref().expect("just entered");
        let there = open
            .look(&name)
            .map_err(|source| CopyError::Target { source })?;
        let full = join(&dir.path, name.as_bytes());
        let merges = entry.kind == Kind::Directory;
        let in_way = there
            .as_ref()
            .is_some_and(|node| !(merges && node.dir.is_some()));
        if in_way {
            let target = self.copier.target;
            if there.as_ref().is_some_and(|node| node.layer == UPPER) {
                target.replace(open, &name, &full)?;
            }
        }
        match entry.kind {
            Kind::Directory => {
                let made = self.copier.target.make_anew(dir, open, &name, in_way)?;
                self.copier
                    .target
                    .dress_directory(&made, &self.looks(entry), entry)?;
            }
            Kind::HardLink => self.link(entry, dir, open, &name, broken)?,
            Kind::Symlink => self.symlink(entry, open, &name, &full)?,
            _ => self.file(entry, tar, open, &name, &full, broken)?,
        }
        if in_way {
            // What was replaced may have been on the way to the directory.
            self.last = None;
        }
        Ok(())
    }

    /// Opens the directory at `path` in the archive; it is made if it is missing.
    fn enter(&mut self, path: &[u8]) -> Result<(), CopyError> {
        if matches!(&self.last, Some((last, ..)) if last == path) {
            return Ok(());
        }
        let target = self.copier.target;
        let dir = match self.find(path)? {
            Resolved::Directory(dir) => target.bring_up(&dir)?,
            Resolved::Missing { dir, rest, .. } => target.make_below(&dir, &rest)?,
            Resolved::Other(place) => {
                let path = join(&place.dir.path, place.name.as_bytes());
                return Err(CopyError::NotADirectory { path: shown(&path) });
            }
        };
        let open = target.open(&dir)?;
        self.last = Some((path.to_owned(), dir, open));
        Ok(())
    }

    fn find(&self, path: &[u8]) -> Result<Resolved, CopyError> {
        let tree = &self.copier.target.tree;
        resolve_below(tree, self.top.clone(), path, &Everything).map_err(CopyError::in_target)
    }

    fn looks(&self, entry: &Entry) -> Looks {
        let time = TimeSpec::new(entry.mtime.seconds, i64::from(entry.mtime.nanos));
        Looks {
            ids: self.copier.chown.unwrap_or((entry.uid, entry.gid)),
            mode: entry.mode,
            time: self.copier.target.clamp(time),
        }
    }

    fn file(
        &self,
        entry: &Entry,
        tar: &mut Tar,
        open: &OpenDir,
        name: &CStr,
        full: &[u8],
        broken: &dyn Fn(TreeError) -> CopyError,
    ) -> Result<(), CopyError> {
        let upper = self.copier.target.upper(open, full)?;
        let made = openat(upper, name, NEW, PRIVATE).map_err(CopyError::target("create", full))?;
        let file = File::from(made);
        let failed = |source| TreeError::Io {
            operation: "write",
            path: PathBuf::from(shown(full)),
            source,
        };
        extract(&file, entry, tar, failed).map_err(|error| match error {
            TreeError::Io { .. } => CopyError::Target { source: error },
            other => broken(other),
        })?;
        self.copier
            .dress_file(&file, &self.looks(entry), entry, &|| full.to_owned())
    }

    fn symlink(
        &self,
        entry: &Entry,
        open: &OpenDir,
        name: &CStr,
        full: &[u8],
    ) -> Result<(), CopyError> {
        let upper = self.copier.target.upper(open, full)?;
        let looks = self.looks(entry);
        symlinkat(OsStr::from_bytes(&entry.link), upper, name)
            .map_err(CopyError::target("create", full))?;
        if looks.ids != creator() {
            let (uid, gid) = (Uid::from_raw(looks.ids.0), Gid::from_raw(looks.ids.1));
            let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
            fchownat(upper, name, Some(uid), Some(gid), flags)
                .map_err(|errno| owner_error(full, looks.ids, errno))?;
        }
        let flag = UtimensatFlags::NoFollowSymlink;
        utimensat(upper, name, &looks.time, &looks.time, flag)
            .map_err(CopyError::target("set the time of", full))
    }

    /// A link to a file of the layers below becomes a copy of it: a link can't lead out of the upper directory.
    fn link(
        &self,
        entry: &Entry,
        dir: &MergedDir,
        open: &OpenDir,
        name: &CStr,
        broken: &dyn Fn(TreeError) -> CopyError,
    ) -> Result<(), CopyError> {
        let full = join(&dir.path, name.to_bytes());
        let missing = || {
            broken(TreeError::HardLink {
                path: PathBuf::from(OsStr::from_bytes(&entry.path)),
                target: PathBuf::from(OsStr::from_bytes(&entry.link)),
            })
        };
        let old = local(&entry.link).map_err(broken)?;
        let (old_dir, old_name) = split(&old)?;
        let Resolved::Directory(old_dir) = self.find(old_dir)? else {
            return Err(missing());
        };
        let target = self.copier.target;
        let from = target.open(&old_dir)?;
        let node = from
            .look(&old_name)
            .map_err(|source| CopyError::Target { source })?;
        let Some(node) = node.filter(|node| node.dir.is_none()) else {
            return Err(missing());
        };
        let new = target.upper(open, &full)?;
        if node.layer == UPPER {
            let old = target.upper(&from, &full)?;
            return linkat(old, old_name.as_c_str(), new, name, AtFlags::empty())
                .map_err(CopyError::target("create", &full));
        }
        let failed = |source| CopyError::Target { source };
        let old = from.open_file(&old_name, node.layer).map_err(failed)?;
        let stat = fstat(&old).map_err(CopyError::target("read", &full))?;
        let made = openat(new, name, NEW, PRIVATE).map_err(CopyError::target("create", &full))?;
        let file = File::from(made);
        copy_content(&old, &file, stat.st_size.cast_unsigned())
            .map_err(CopyError::target("write", &full))?;
        self.copier
            .dress_file(&file, &self.looks(entry), entry, &|| full.clone())
    }
}

/// A path of an archive by its names; an error when it leads out.
fn local(path: &[u8]) -> Result<Vec<u8>, TreeError> {
    let bad = |problem| TreeError::BadPath {
        path: PathBuf::from(OsStr::from_bytes(path)),
        problem,
    };
    if path.contains(&0) {
        return Err(bad("it has a NUL byte"));
    }
    let mut out: Vec<&[u8]> = Vec::new();
    for name in path.split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." if out.pop().is_none() => return Err(bad("it leads out of the archive")),
            b".." => {}
            name => out.push(name),
        }
    }
    Ok(out.join(&b'/'))
}

/// A clean path's directory and last name.
fn split(path: &[u8]) -> Result<(&[u8], CString), CopyError> {
    let at = path.iter().rposition(|&byte| byte == b'/');
    let (dir, name) = match at {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&b""[..], path),
    };
    let mut names = names(name)?;
    Ok((dir, names.pop_front().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_archives_stay_in_it() {
        for (path, want) in [
            (&b"./a/b/"[..], Some(&b"a/b"[..])),
            (b"/etc/passwd", Some(b"etc/passwd")),
            (b"a/../b", Some(b"b")),
            (b"./", Some(b"")),
            (b"../a", None),
            (b"a/../../b", None),
            (b"a\0b", None),
        ] {
            assert_eq!(local(path).ok().as_deref(), want, "{path:?}");
        }
    }
}
