//! What a container has changed in its copy of the layers.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{AtFlags, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat};

use super::fill::filled_at;
use crate::layer::diff::{ChangeKind, Changes, join, kind_for};
use crate::layer::overlay;
use crate::layer::stack::{self, Below, host_error, lookup};
use crate::tarfile::{Entry, Kind};
use crate::tree::walk::{DIRECTORY, Found, Walk};
use crate::tree::{READ, TreeError, attributes, content, is_gone, open_root};

/// All that is different.
#[derive(Default)]
pub(super) struct Comparison {
    /// By path, with the directories above.
    pub(super) changes: Changes,
    /// Directories where the layers have something else.
    pub(super) replacing: HashSet<Vec<u8>>,
    /// Sizes of what was added or changed, directories not.
    pub(super) bytes: u64,
    /// Files with several names by device and inode: those with a change, and the names of the others.
    touched: HashSet<(u64, u64)>,
    unchanged: HashMap<(u64, u64), Vec<Vec<u8>>>,
}

/// Compares the copy `flat` with the layers `lowers` (top first). There is no difference when it isn't there yet.
pub(super) fn compare(flat: &Path, lowers: &[PathBuf]) -> Result<Comparison, TreeError> {
    let mut comparison = Comparison::default();
    if fs::symlink_metadata(flat).is_err() {
        return Ok(comparison);
    }
    let since = filled_at(flat);
    let root = open_root(flat)?;
    comparison.deleted(b"", root.as_fd(), lowers)?;
    // For every directory on the way down: what it is made of.
    let mut below: Vec<Vec<PathBuf>> = vec![lowers.to_vec()];
    let mut walk = Walk::new(root)?;
    while let Some(found) = walk.next()? {
        let depth = found.path.iter().filter(|&&byte| byte == b'/').count();
        below.truncate(depth + 1);
        let name = OsStr::from_bytes(found.name.to_bytes());
        let Below { top, dirs } = lookup(&below[depth], name)?;
        let same = match &top {
            Some((path, old)) => is_same(&found, path, old, since)?,
            None => false,
        };
        comparison.add(&found, same, kind_for(top.is_some()));
        if overlay::kind(&found.stat) != SFlag::S_IFDIR {
            continue;
        }
        if top.is_some_and(|(_, old)| !old.is_dir()) {
            comparison.replacing.insert(found.path.to_vec());
        }
        let fd = openat(found.dir, found.name, DIRECTORY, Mode::empty())
            .map_err(TreeError::io("read", found.path))?;
        comparison.deleted(found.path, fd.as_fd(), &dirs)?;
        below.push(dirs);
        walk.descend(fd)?;
    }
    comparison.add_other_names();
    Ok(comparison)
}

impl Comparison {
    fn add(&mut self, found: &Found<'_>, same: bool, kind: ChangeKind) {
        let stat = &found.stat;
        let directory = overlay::kind(stat) == SFlag::S_IFDIR;
        let key = (stat.st_dev, stat.st_ino);
        let linked = !directory && stat.st_nlink > 1;
        if same {
            if linked {
                let names = self.unchanged.entry(key).or_default();
                names.push(found.path.to_vec());
            }
            return;
        }
        self.changes.add(found.path, kind);
        if !directory && (!linked || self.touched.insert(key)) {
            self.bytes = self.bytes.saturating_add(stat.st_size.cast_unsigned());
        }
    }

    /// A file that got another name goes into the layer under all its names: so it stays one file, as with overlay,
    /// which copies it up.
    fn add_other_names(&mut self) {
        for key in &self.touched {
            for path in self.unchanged.remove(key).unwrap_or_default() {
                self.changes.add(&path, ChangeKind::Changed);
            }
        }
    }

    /// What the layers' directories `dirs` have and `dir`, at `path`, has not.
    fn deleted(
        &mut self,
        path: &[u8],
        dir: BorrowedFd<'_>,
        dirs: &[PathBuf],
    ) -> Result<(), TreeError> {
        for name in stack::names(dirs)? {
            match fstatat(dir, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(_) => continue,
                Err(errno) if is_gone(errno) => {}
                Err(errno) => {
                    return Err(TreeError::io("read", &join(path, name.as_bytes()))(errno));
                }
            }
            if lookup(dirs, &name)?.top.is_some() {
                let path = join(path, name.as_bytes());
                self.changes.add(&path, ChangeKind::Deleted);
            }
        }
        Ok(())
    }
}

/// Whether what was found is what the layers have at the host's `path`. `since` is when the copy was complete.
fn is_same(
    found: &Found<'_>,
    path: &Path,
    old: &fs::Metadata,
    since: (i64, i64),
) -> Result<bool, TreeError> {
    let new = &found.stat;
    let kind = overlay::kind(new);
    let size_counts = kind != SFlag::S_IFDIR;
    let device = matches!(kind, SFlag::S_IFCHR | SFlag::S_IFBLK);
    let same = old.mode() == new.st_mode
        && (old.uid(), old.gid()) == (new.st_uid, new.st_gid)
        && (old.mtime(), old.mtime_nsec()) == (new.st_mtime, new.st_mtime_nsec)
        && (!size_counts || old.len() == new.st_size.cast_unsigned())
        && (!device || old.rdev() == new.st_rdev);
    if !same || (new.st_ctime, new.st_ctime_nsec) < since {
        return Ok(same);
    }
    match kind {
        SFlag::S_IFLNK => {
            let target = readlinkat(found.dir, found.name);
            let target = target.map_err(TreeError::io("read", found.path))?;
            Ok(fs::read_link(path).map_err(host_error(path))?.as_os_str() == target)
        }
        SFlag::S_IFREG | SFlag::S_IFDIR => is_same_inside(found, path),
        _ => Ok(true),
    }
}

/// Attributes, and the content of files.
fn is_same_inside(found: &Found<'_>, path: &Path) -> Result<bool, TreeError> {
    let directory = overlay::kind(&found.stat) == SFlag::S_IFDIR;
    let flags = if directory { DIRECTORY } else { READ };
    let new: File = match openat(found.dir, found.name, flags, Mode::empty()) {
        Ok(fd) => fd.into(),
        // Gone or replaced since it was found.
        Err(errno) if is_gone(errno) => return Ok(false),
        Err(errno) => return Err(TreeError::io("read", found.path)(errno)),
    };
    let old = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(path)
        .map_err(host_error(path))?;
    let failed = || TreeError::io::<io::Error>("read", found.path);
    if described(&new, &found.stat).map_err(failed())?
        != described(&old, &found.stat).map_err(host_error(path))?
    {
        return Ok(false);
    }
    let size = found.stat.st_size.cast_unsigned();
    Ok(directory || content::is_same(&new, &old, size).map_err(failed())?)
}

type Described = (Kind, (u32, u32), Vec<(Vec<u8>, Vec<u8>)>);

/// What the attributes make of a file or directory.
fn described(file: &File, stat: &FileStat) -> io::Result<Described> {
    let kind = match overlay::kind(stat) {
        SFlag::S_IFDIR => Kind::Directory,
        _ => Kind::File,
    };
    let mut entry = Entry::new("", kind, 0);
    entry.size = stat.st_size.cast_unsigned();
    attributes::read(file, &mut entry)?;
    Ok((entry.kind, entry.device, entry.xattrs))
}
