//! Copying a tree to another place, and measuring one.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};

use super::pack::{described, device_of, kind_of};
use super::place::{Owner, Placer, Target};
use super::walk::{DIRECTORY, Found, Walk};
use super::{TreeError, attributes, content, open_root};
use crate::layer::overlay;
use crate::tarfile::{Entry, Kind};

/// For a regular file that may have become something else.
pub(crate) const READ: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_NONBLOCK)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// Copies what is in the directory `from` to the directory `to`, which takes `from`'s own owner, mode and time too.
///
/// Content (shared where the file system can), owner, mode, attributes, times, hard links and holes are kept; sockets
/// are left out. Needs ids.
///
/// # Errors
/// When something can't be read or made: what was made until then stays.
pub fn copy_up(from: &Path, to: &Path) -> Result<(), TreeError> {
    let from = open_root(from)?;
    let mut copier = Copier::new(Placer::new(open_root(to)?, Target::InUse, Owner::OfEntry));
    copier.top(&from)?;
    let mut walk = Walk::new(from)?;
    while let Some(found) = walk.next()? {
        if let Some(fd) = copier.copy(&found)? {
            walk.descend(fd)?;
        }
    }
    copier.placer.finish()
}

/// Places copies of what walks find, at the same paths.
pub(crate) struct Copier {
    /// Where to. It is the caller who finishes it.
    pub(crate) placer: Placer,
    /// First names of files with several, by device and inode.
    links: HashMap<(u64, u64), Vec<u8>>,
}

impl Copier {
    pub(crate) fn new(placer: Placer) -> Self {
        Self {
            placer,
            links: HashMap::new(),
        }
    }

    /// Begins with another tree, whose root gives its owner, mode, attributes and time.
    pub(crate) fn top(&mut self, from: &OwnedFd) -> Result<(), TreeError> {
        self.links.clear();
        let stat = fstat(from).map_err(TreeError::io("read", b""))?;
        let mut top = in_full(b"", &stat);
        top.kind = Kind::Directory;
        attributes::read(from, &mut top).map_err(TreeError::io("read", b""))?;
        self.placer.place(b"", &top, &mut |_| Ok(()))
    }

    /// Copies what was found, of a directory only itself: the descriptor is returned, to go into it.
    pub(crate) fn copy(&mut self, found: &Found<'_>) -> Result<Option<OwnedFd>, TreeError> {
        let failed = || TreeError::io("read", found.path);
        let Some(kind) = kind_of(&found.stat) else {
            return Ok(None);
        };
        let mut entry = in_full(found.path, &found.stat);
        entry.kind = kind;
        if kind == Kind::Directory {
            let fd = openat(found.dir, found.name, DIRECTORY, Mode::empty()).map_err(failed())?;
            attributes::read(&fd, &mut entry).map_err(TreeError::io("read", found.path))?;
            self.placer.place(found.path, &entry, &mut |_| Ok(()))?;
            return Ok(Some(fd));
        }
        if found.stat.st_nlink > 1 {
            let key = (found.stat.st_dev, found.stat.st_ino);
            if let Some(first) = self.links.get(&key) {
                entry.kind = Kind::HardLink;
                entry.link = first.clone();
                self.placer.place(found.path, &entry, &mut |_| Ok(()))?;
                return Ok(None);
            }
            self.links.insert(key, found.path.to_vec());
        }
        match kind {
            Kind::File => {
                let file: File = openat(found.dir, found.name, READ, Mode::empty())
                    .map_err(failed())?
                    .into();
                copy_file(&file, found.path, entry, &mut self.placer)?;
            }
            _ => {
                entry.device = device_of(&found.stat);
                if kind == Kind::Symlink {
                    let target = readlinkat(found.dir, found.name).map_err(failed())?;
                    entry.link = target.as_bytes().to_vec();
                }
                self.placer.place(found.path, &entry, &mut |_| Ok(()))?;
            }
        }
        Ok(None)
    }
}

/// Described with the whole of its time.
fn in_full(path: &[u8], stat: &FileStat) -> Entry {
    let mut entry = described(path, stat);
    entry.mtime.nanos = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
    entry
}

fn copy_file(
    file: &File,
    path: &[u8],
    mut entry: Entry,
    placer: &mut Placer,
) -> Result<(), TreeError> {
    let stat = fstat(file).map_err(TreeError::io("read", path))?;
    entry.size = stat.st_size.cast_unsigned();
    attributes::read(file, &mut entry).map_err(TreeError::io("read", path))?;
    let size = entry.size;
    placer.place(path, &entry, &mut |to| {
        content::copy(file, to, size).map_err(TreeError::io("copy", path))
    })
}

/// Bytes of everything in the directory `path`, as `ps -s` and `images` count them: sizes of files and links as they
/// appear, holes included, a file with several names once, directories not.
///
/// # Errors
/// When something can't be read.
pub fn size(path: &Path) -> Result<u64, TreeError> {
    let mut walk = Walk::new(open_root(path)?)?;
    let mut seen = HashSet::new();
    let mut sum = 0_u64;
    while let Some(found) = walk.next()? {
        let stat = found.stat;
        if overlay::kind(&stat) == SFlag::S_IFDIR {
            let fd = openat(found.dir, found.name, DIRECTORY, Mode::empty())
                .map_err(TreeError::io("read", found.path))?;
            walk.descend(fd)?;
        } else if stat.st_nlink <= 1 || seen.insert((stat.st_dev, stat.st_ino)) {
            sum = sum.saturating_add(stat.st_size.cast_unsigned());
        }
    }
    Ok(sum)
}
