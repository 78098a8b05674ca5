//! Making what a tar's entry says, at its place in a tree.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, UtimensatFlags, fchmod, fchmodat, fstatat, futimens,
    makedev, mkdirat, mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{
    Gid, Uid, UnlinkatFlags, fchown, fchownat, getegid, geteuid, linkat, symlinkat, unlinkat,
};

use super::beneath::{Beneath, Missing, normalize, split};
use super::{TreeError, attributes, is_gone, remove_at, to_path};
use crate::layer::overlay;
use crate::tarfile::{Entry, Kind};

/// Whose the files become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// As the entry says.
    OfEntry,
    /// Always these.
    Fixed(u32, u32),
}

/// What the tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// A new directory that nobody else sees, to become a layer: later entries replace earlier ones, devices are
    /// marked files, and a directory where a whiteout was is opaque.
    Layer,
    /// A file system in use: a directory is never replaced by something else, nor something else by a directory.
    InUse,
}

/// Makes entries in a tree. Directories get their owner, mode, attributes and time in [`finish`](Self::finish): what
/// is made in them would change the time, and may need modes that they don't have in the end.
pub(crate) struct Placer {
    pub(crate) tree: Beneath,
    target: Target,
    owner: Owner,
    /// Who owns what this process makes.
    creator: (u32, u32),
    /// By normalized path, so that children come after their parent.
    directories: BTreeMap<Vec<u8>, Entry>,
}

impl Placer {
    pub(crate) fn new(root: OwnedFd, target: Target, owner: Owner) -> Self {
        Self {
            tree: Beneath::new(root),
            target,
            owner,
            creator: (geteuid().as_raw(), getegid().as_raw()),
            directories: BTreeMap::new(),
        }
    }

    /// Makes `entry` at the normalized `path`, missing parents included. `fill` writes a regular file's content.
    pub(crate) fn place(
        &mut self,
        path: &[u8],
        entry: &Entry,
        fill: &mut dyn FnMut(&File) -> Result<(), TreeError>,
    ) -> Result<(), TreeError> {
        if entry.kind == Kind::Directory {
            return self.place_directory(path, entry);
        }
        if path.is_empty() {
            return Err(TreeError::BadPath {
                path: to_path(&entry.path),
                problem: "it is the tree's root, which is a directory",
            });
        }
        match entry.kind {
            Kind::File => self.place_file(path, entry, fill),
            Kind::HardLink => self.place_hard_link(path, entry),
            Kind::CharDevice | Kind::BlockDevice => self.place_device(path, entry),
            Kind::Symlink | Kind::Fifo | Kind::Directory => self.place_other(path, entry),
        }
    }

    /// Gives the directories what they wait for, children before parents.
    pub(crate) fn finish(&mut self) -> Result<(), TreeError> {
        let directories = std::mem::take(&mut self.directories);
        for (path, entry) in directories.iter().rev() {
            let opened = self.open_directory(path);
            let fd = match opened {
                // Something else took its place since.
                Err(errno) if is_gone(errno) => continue,
                other => other.map_err(TreeError::io("open the directory", path))?,
            };
            self.set_attributes(&fd, path, entry)?;
        }
        Ok(())
    }

    fn open_directory(&mut self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        if path.is_empty() {
            return openat(self.tree.root(), c".", flags, Mode::empty());
        }
        let (dir, name) = split(path);
        match self.tree.directory(dir, Missing::Fail) {
            Ok(dir) => openat(dir, name, flags, Mode::empty()),
            Err(TreeError::Io { source, .. }) => {
                Err(Errno::from_raw(source.raw_os_error().unwrap_or(0)))
            }
            Err(_) => Err(Errno::ENOENT),
        }
    }

    fn place_directory(&mut self, path: &[u8], entry: &Entry) -> Result<(), TreeError> {
        let entry = Entry {
            path: Vec::new(),
            link: Vec::new(),
            ..entry.clone()
        };
        if path.is_empty() {
            self.directories.insert(Vec::new(), entry);
            return Ok(());
        }
        let (dir, name) = split(path);
        let failed = || TreeError::io("create the directory", path);
        let parent = self.tree.directory(dir, Missing::Create)?;
        let mode = Mode::S_IRWXU;
        match mkdirat(parent, name, mode) {
            Ok(()) => {}
            Err(Errno::EEXIST) => {
                let stat = stat(parent, name).map_err(failed())?;
                if overlay::kind(&stat) != SFlag::S_IFDIR {
                    let was_whiteout = self.clear(path, &stat, Kind::Directory)?;
                    let parent = self.tree.directory(dir, Missing::Create)?;
                    mkdirat(parent, name, mode).map_err(failed())?;
                    if was_whiteout {
                        let fd = self.open_directory(path).map_err(failed())?;
                        overlay::set_opaque(&fd).map_err(failed())?;
                    }
                }
            }
            Err(errno) => return Err(failed()(errno)),
        }
        self.directories.insert(path.to_owned(), entry);
        Ok(())
    }

    fn place_file(
        &mut self,
        path: &[u8],
        entry: &Entry,
        fill: &mut dyn FnMut(&File) -> Result<(), TreeError>,
    ) -> Result<(), TreeError> {
        let file = self.create_file(path)?;
        fill(&file)?;
        self.set_attributes(&file, path, entry)
    }

    fn create_file(&mut self, path: &[u8]) -> Result<File, TreeError> {
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        self.create(path, Kind::File, |dir, name| openat(dir, name, flags, mode))
            .map(File::from)
    }

    /// Calls `make`; once more when something was in the way that may be replaced.
    fn create<T>(
        &mut self,
        path: &[u8],
        kind: Kind,
        make: impl Fn(BorrowedFd<'_>, &OsStr) -> Result<T, Errno>,
    ) -> Result<T, TreeError> {
        let (dir, name) = split(path);
        let failed = || TreeError::io("create", path);
        let parent = self.tree.directory(dir, Missing::Create)?;
        match make(parent, name) {
            Err(Errno::EEXIST) => {}
            other => return other.map_err(failed()),
        }
        let stat = stat(parent, name).map_err(failed())?;
        self.clear(path, &stat, kind)?;
        let parent = self.tree.directory(dir, Missing::Create)?;
        make(parent, name).map_err(failed())
    }

    /// Removes what is at `path`, if something is, as an upper layer does that hides it.
    pub(crate) fn remove(&mut self, path: &[u8]) -> Result<(), TreeError> {
        let (dir, name) = split(path);
        let parent = match self.tree.directory(dir, Missing::Fail) {
            Ok(parent) => parent,
            Err(TreeError::Io { source, .. }) if is_gone_error(&source) => return Ok(()),
            Err(error) => return Err(error),
        };
        match stat(parent, name) {
            Ok(stat) => {
                let kind = match overlay::kind(&stat) {
                    SFlag::S_IFDIR => Kind::Directory,
                    _ => Kind::File,
                };
                self.clear(path, &stat, kind).map(drop)
            }
            Err(errno) if is_gone(errno) => Ok(()),
            Err(errno) => Err(TreeError::io("remove", path)(errno)),
        }
    }

    /// Removes what is at `path`, to make place for a `kind`. Returns whether it was a whiteout.
    fn clear(&mut self, path: &[u8], stat: &FileStat, kind: Kind) -> Result<bool, TreeError> {
        let (dir, name) = split(path);
        let directory = overlay::kind(stat) == SFlag::S_IFDIR;
        if self.target == Target::InUse && directory != (kind == Kind::Directory) {
            return Err(TreeError::Overwrite {
                path: to_path(path),
                directory,
            });
        }
        let parent = self.tree.directory(dir, Missing::Create)?;
        let failed = || TreeError::io("replace", path);
        let was_whiteout = self.target == Target::Layer
            && !directory
            && (overlay::is_whiteout_device(stat)
                || overlay::is_whiteout_file(parent, name, stat).map_err(failed())?);
        if directory {
            remove_at(parent, name).map_err(failed())?;
            // Attributes that waited for directories below are void.
            let below = [path, b"/"].concat();
            self.directories
                .retain(|known, _| known != path && !known.starts_with(&below));
        } else {
            unlinkat(parent, name, UnlinkatFlags::NoRemoveDir).map_err(failed())?;
        }
        self.tree.forget();
        Ok(was_whiteout)
    }

    fn place_hard_link(&mut self, path: &[u8], entry: &Entry) -> Result<(), TreeError> {
        let target = normalize(&entry.link)?;
        let missing = || TreeError::HardLink {
            path: to_path(path),
            target: to_path(&entry.link),
        };
        if *target == *path {
            // A link to itself: the file stays, if it is there.
            let (dir, name) = split(path);
            let parent = self.tree.directory(dir, Missing::Create)?;
            return stat(parent, name).map(drop).map_err(|_| missing());
        }
        let (target_dir, target_name) = split(&target);
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        // A descriptor of its own: the tree remembers only one directory.
        let from = self
            .tree
            .directory(target_dir, Missing::Fail)
            .map_err(|_| missing())
            .and_then(|dir| openat(dir, c".", flags, Mode::empty()).map_err(|_| missing()))?;
        match stat(&from, target_name) {
            // A whiteout is no file.
            Ok(stat) if self.target == Target::Layer && overlay::is_whiteout_device(&stat) => {
                return Err(missing());
            }
            Ok(_) => {}
            Err(_) => return Err(missing()),
        }
        self.create(path, Kind::HardLink, |dir, name| {
            linkat(&from, target_name, dir, name, AtFlags::empty())
        })
    }

    fn place_device(&mut self, path: &[u8], entry: &Entry) -> Result<(), TreeError> {
        if self.target == Target::InUse {
            let kind = match entry.kind {
                Kind::BlockDevice => SFlag::S_IFBLK,
                _ => SFlag::S_IFCHR,
            };
            let number = makedev(entry.device.0.into(), entry.device.1.into());
            let made = self.create(path, entry.kind, |dir, name| {
                mknodat(dir, name, kind, Mode::S_IRUSR, number)
            });
            match made {
                Ok(()) => return self.set_attributes_at(path, entry),
                Err(TreeError::Io { source, .. }) if source.raw_os_error() == Some(libc::EPERM) => {
                }
                Err(error) => return Err(error),
            }
        }
        let file = self.create_file(path)?;
        attributes::mark_device(&file, entry).map_err(TreeError::io("mark the device", path))?;
        self.set_attributes(&file, path, entry)
    }

    fn place_other(&mut self, path: &[u8], entry: &Entry) -> Result<(), TreeError> {
        self.create(path, entry.kind, |dir, name| match entry.kind {
            Kind::Symlink => symlinkat(OsStr::from_bytes(&entry.link), dir, name),
            _ => mknodat(dir, name, SFlag::S_IFIFO, Mode::S_IRUSR, 0),
        })?;
        self.set_attributes_at(path, entry)
    }

    fn ids(&self, entry: &Entry) -> (u32, u32) {
        match self.owner {
            Owner::OfEntry => (entry.uid, entry.gid),
            Owner::Fixed(uid, gid) => (uid, gid),
        }
    }

    /// Whether the owner is right without chown(2). In a tree in use, a set-group-ID directory may have given a group.
    fn is_creators(&self, ids: (u32, u32)) -> bool {
        self.target == Target::Layer && ids == self.creator
    }

    /// The order matters: chown(2) takes set-user-ID bits and capabilities away, and all of it changes the time.
    fn set_attributes<F: std::os::fd::AsFd>(
        &self,
        file: &F,
        path: &[u8],
        entry: &Entry,
    ) -> Result<(), TreeError> {
        let ids = self.ids(entry);
        if !self.is_creators(ids) {
            fchown(file, Some(Uid::from_raw(ids.0)), Some(Gid::from_raw(ids.1)))
                .map_err(owner_error(path, ids))?;
        }
        attributes::write(file, entry).map_err(TreeError::io("set the attributes of", path))?;
        fchmod(file, Mode::from_bits_truncate(entry.mode))
            .map_err(TreeError::io("set the mode of", path))?;
        let time = time_of(entry);
        futimens(file, &time, &time).map_err(TreeError::io("set the time of", path))
    }

    /// For what can't be opened: links, pipes and devices.
    fn set_attributes_at(&mut self, path: &[u8], entry: &Entry) -> Result<(), TreeError> {
        let ids = self.ids(entry);
        let right_owner = self.is_creators(ids);
        let (dir, name) = split(path);
        let parent = self.tree.directory(dir, Missing::Fail)?;
        if !right_owner {
            let (uid, gid) = (Uid::from_raw(ids.0), Gid::from_raw(ids.1));
            fchownat(
                parent,
                name,
                Some(uid),
                Some(gid),
                AtFlags::AT_SYMLINK_NOFOLLOW,
            )
            .map_err(owner_error(path, ids))?;
        }
        if entry.kind != Kind::Symlink {
            let mode = Mode::from_bits_truncate(entry.mode);
            fchmodat(parent, name, mode, FchmodatFlags::NoFollowSymlink)
                .map_err(TreeError::io("set the mode of", path))?;
        }
        let time = time_of(entry);
        utimensat(parent, name, &time, &time, UtimensatFlags::NoFollowSymlink)
            .map_err(TreeError::io("set the time of", path))
    }
}

fn stat(dir: impl std::os::fd::AsFd, name: &OsStr) -> Result<FileStat, Errno> {
    fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW)
}

fn is_gone_error(error: &io::Error) -> bool {
    error
        .raw_os_error()
        .is_some_and(|errno| is_gone(Errno::from_raw(errno)))
}

fn owner_error(path: &[u8], (uid, gid): (u32, u32)) -> impl FnOnce(Errno) -> TreeError {
    let path = to_path(path);
    move |errno| TreeError::Owner {
        path,
        uid,
        gid,
        source: io::Error::from(errno),
    }
}

fn time_of(entry: &Entry) -> TimeSpec {
    TimeSpec::new(entry.mtime.seconds, entry.mtime.nanos.into())
}
