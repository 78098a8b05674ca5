//! The tree that is copied to: an upper directory over the layers below, written without mounting them.
//!
//! Copying only adds, so nothing that overlay does by a mount is needed: a directory of the layers below in which something
//! is made is *brought up* (made in the upper directory with the same owner, mode and attributes), and a file in the upper
//! directory hides the one below. Every driver reads the result.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fchmod, fstat, futimens, mkdirat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};
use rctr_storage::layer::merged::{Merged, MergedDir, OpenDir, join, make_opaque, shown};
use rctr_storage::tarfile::{Entry as TarEntry, Kind};
use rctr_storage::tree::{attributes, remove_at};

use super::CopyError;
use super::owner::Ids;
use super::resolve::{Everything, Resolved, resolve};

/// The number of the upper directory among the layers.
pub(super) const UPPER: u32 = 0;
const DIRECTORY: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// Where files are made. Threads may share it.
pub(super) struct Target {
    pub(super) tree: Merged,
    /// Who directories on the way belong to.
    owner: Ids,
    /// All times later than this become it.
    epoch: Option<i64>,
    /// The times that directories get in the end: what is made in them would change them.
    times: Mutex<Vec<(Vec<u8>, TimeSpec)>>,
}

/// A directory that was asked for.
pub(super) struct Made {
    pub(super) dir: MergedDir,
    /// It wasn't there before.
    pub(super) is_new: bool,
}

/// What everything that is made gets. The mode isn't given to links.
pub(super) struct Looks {
    pub(super) ids: Ids,
    pub(super) mode: u32,
    pub(super) time: TimeSpec,
}

impl Target {
    /// `upper` must be there; `lowers` are top first.
    pub(super) fn new(
        upper: &std::path::Path,
        lowers: &[PathBuf],
        owner: Ids,
        epoch: Option<i64>,
    ) -> Result<Self, CopyError> {
        let layers: Vec<PathBuf> = std::iter::once(upper.to_owned())
            .chain(lowers.iter().cloned())
            .collect();
        let tree = Merged::of_layers(&layers).map_err(|source| CopyError::Target { source })?;
        Ok(Self {
            tree,
            owner,
            epoch,
            times: Mutex::default(),
        })
    }

    /// A time as it is given: not later than the epoch.
    pub(super) fn clamp(&self, time: TimeSpec) -> TimeSpec {
        match self.epoch {
            Some(epoch) if time.tv_sec() >= epoch => TimeSpec::new(epoch, 0),
            _ => time,
        }
    }

    /// The time of what is made now.
    pub(super) fn now(&self) -> TimeSpec {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        self.clamp(now.map_or(TimeSpec::new(0, 0), TimeSpec::from_duration))
    }

    /// What is at `path`, links followed inside the root.
    pub(super) fn find(&self, path: &[u8]) -> Result<Resolved, CopyError> {
        resolve(&self.tree, path, &Everything).map_err(CopyError::in_target)
    }

    /// The directory at `path`, which is made if it is missing, with its parents: 0755, the owner's.
    pub(super) fn directory(&self, path: &[u8]) -> Result<MergedDir, CopyError> {
        match self.find(path)? {
            Resolved::Directory(dir) => self.bring_up(&dir),
            Resolved::Other(place) => Err(CopyError::NotADirectory {
                path: shown(&join(&place.dir.path, place.name.as_bytes())),
            }),
            Resolved::Missing { dir, rest, .. } => self.make_below(&dir, &rest),
        }
    }

    /// Makes the directories `names` one in the other.
    pub(super) fn make_below(
        &self,
        dir: &MergedDir,
        names: &[CString],
    ) -> Result<MergedDir, CopyError> {
        let mut dir = self.bring_up(dir)?;
        for name in names {
            let open = self.open(&dir)?;
            let made = self.make_directory(&dir, &open, name)?;
            if made.is_new {
                let fd = self.upper_directory(&made.dir)?;
                self.give(&fd, &made.dir.path, self.owner)?;
                set_mode(&fd, &made.dir.path, 0o755)?;
                if self.epoch.is_some() {
                    self.later(&made.dir.path, self.now());
                }
            }
            dir = made.dir;
        }
        Ok(dir)
    }

    /// The same directory, which from now on is in the upper directory too.
    pub(super) fn bring_up(&self, dir: &MergedDir) -> Result<MergedDir, CopyError> {
        let mut here = self.tree.root();
        if dir.parts.first() == Some(&UPPER) {
            return Ok(dir.clone());
        }
        for name in super::resolve::names(&dir.path)? {
            let open = self.open(&here)?;
            let node = open
                .look(&name)
                .map_err(|source| CopyError::Target { source })?;
            let Some(below) = node.and_then(|node| node.dir) else {
                return Err(CopyError::target("open", &dir.path)(Errno::ENOENT));
            };
            here = self.bring_up_in(&open, &name, below)?;
        }
        Ok(here)
    }

    /// `open` is of its parent, which is in the upper directory.
    fn bring_up_in(
        &self,
        open: &OpenDir,
        name: &CStr,
        mut dir: MergedDir,
    ) -> Result<MergedDir, CopyError> {
        if dir.parts.first() == Some(&UPPER) {
            return Ok(dir);
        }
        let failed = || CopyError::target("bring up", &dir.path);
        let below = self.open(&dir)?;
        let below = below.top().ok_or_else(|| failed()(Errno::ENOENT))?;
        let stat = fstat(below).map_err(failed())?;
        let mut entry = TarEntry::new(Vec::new(), Kind::Directory, 0);
        attributes::read(below, &mut entry).map_err(CopyError::target("read", &dir.path))?;
        let parent = self.upper(open, &dir.path)?;
        mkdirat(parent, name, Mode::S_IRWXU).map_err(failed())?;
        let fd = openat(parent, name, DIRECTORY, Mode::empty()).map_err(failed())?;
        self.give(&fd, &dir.path, (stat.st_uid, stat.st_gid))?;
        attributes::write(&fd, &entry)
            .map_err(CopyError::target("set the attributes of", &dir.path))?;
        set_mode(&fd, &dir.path, stat.st_mode)?;
        if self.epoch.is_some() {
            self.later(&dir.path, self.now());
        }
        dir.parts.insert(0, UPPER);
        Ok(dir)
    }

    /// The directory `name` in `parent`, of which `open` is; made, or brought up. A new one is the creator's alone, for the
    /// caller to change.
    pub(super) fn make_directory(
        &self,
        parent: &MergedDir,
        open: &OpenDir,
        name: &CStr,
    ) -> Result<Made, CopyError> {
        let path = join(&parent.path, name.to_bytes());
        let failed = || CopyError::target("create the directory", &path);
        let upper = self.upper(open, &path)?;
        // What only the upper directory has can be tried.
        let is_fresh = parent.parts == [UPPER];
        if is_fresh || !self.is_there(open, name)? {
            match mkdirat(upper, name, Mode::S_IRWXU) {
                Ok(()) => {
                    let dir = MergedDir {
                        path,
                        parts: vec![UPPER],
                    };
                    return Ok(Made { dir, is_new: true });
                }
                Err(Errno::EEXIST) => {}
                Err(errno) => return Err(failed()(errno)),
            }
        }
        let node = open
            .look(name)
            .map_err(|source| CopyError::Target { source })?;
        match node.and_then(|node| node.dir) {
            Some(dir) => Ok(Made {
                dir: self.bring_up_in(open, name, dir)?,
                is_new: false,
            }),
            None => Err(CopyError::NotADirectory { path: shown(&path) }),
        }
    }

    fn is_there(&self, open: &OpenDir, name: &CStr) -> Result<bool, CopyError> {
        let node = open
            .look(name)
            .map_err(|source| CopyError::Target { source })?;
        Ok(node.is_some())
    }

    /// Makes place for something that is no directory in `dir`, of which `open` is: what the upper directory has there goes.
    pub(super) fn clear(
        &self,
        dir: &MergedDir,
        open: &OpenDir,
        name: &CStr,
    ) -> Result<(), CopyError> {
        let path = || join(&dir.path, name.to_bytes());
        let node = open
            .look(name)
            .map_err(|source| CopyError::Target { source })?;
        match node {
            Some(node) if node.dir.is_some() => Err(CopyError::IsADirectory {
                path: shown(&path()),
            }),
            Some(node) if node.layer == UPPER => {
                let upper = self.upper(open, &path())?;
                unlinkat(upper, name, UnlinkatFlags::NoRemoveDir)
                    .map_err(CopyError::target("replace", &path()))
            }
            _ => Ok(()),
        }
    }

    /// Removes what the upper directory has at `name`, whatever it is: a tar's entry takes its place.
    pub(super) fn replace(
        &self,
        open: &OpenDir,
        name: &CStr,
        path: &[u8],
    ) -> Result<(), CopyError> {
        let upper = self.upper(open, path)?;
        let name = std::ffi::OsStr::from_bytes(name.to_bytes());
        self.forget_times(path);
        remove_at(upper, name).map_err(CopyError::target("replace", path))
    }

    /// The directory `name` in `parent` for a tar's entry. `replaces`: something else is in the way below, of which nothing
    /// may be seen through it.
    pub(super) fn make_anew(
        &self,
        parent: &MergedDir,
        open: &OpenDir,
        name: &CStr,
        replaces: bool,
    ) -> Result<MergedDir, CopyError> {
        if !replaces {
            return Ok(self.make_directory(parent, open, name)?.dir);
        }
        let path = join(&parent.path, name.to_bytes());
        let upper = self.upper(open, &path)?;
        mkdirat(upper, name, Mode::S_IRWXU)
            .map_err(CopyError::target("create the directory", &path))?;
        let dir = MergedDir {
            path,
            parts: vec![UPPER],
        };
        if parent.parts != [UPPER] {
            let fd = self.upper_directory(&dir)?;
            make_opaque(&fd).map_err(CopyError::target("make opaque", &dir.path))?;
        }
        Ok(dir)
    }

    pub(super) fn open(&self, dir: &MergedDir) -> Result<OpenDir, CopyError> {
        self.tree
            .open(dir)
            .map_err(|source| CopyError::Target { source })
    }

    /// Where an open directory's new names go.
    pub(super) fn upper<'a>(
        &self,
        open: &'a OpenDir,
        path: &[u8],
    ) -> Result<BorrowedFd<'a>, CopyError> {
        open.part(UPPER)
            .ok_or_else(|| CopyError::target("write to", path)(Errno::EROFS))
    }

    /// A directory of the upper directory, to set its attributes.
    pub(super) fn upper_directory(&self, dir: &MergedDir) -> Result<OwnedFd, CopyError> {
        let only = MergedDir {
            path: dir.path.clone(),
            parts: vec![UPPER],
        };
        let open = self.open(&only)?;
        let fd = self.upper(&open, &dir.path)?;
        fd.try_clone_to_owned()
            .map_err(CopyError::target("open", &dir.path))
    }

    /// Gives a file or directory away, if it isn't the owner's already: we are root here.
    pub(super) fn give(&self, fd: impl AsFd, path: &[u8], ids: Ids) -> Result<(), CopyError> {
        if ids == creator() {
            return Ok(());
        }
        fchown(fd, Some(Uid::from_raw(ids.0)), Some(Gid::from_raw(ids.1)))
            .map_err(|errno| owner_error(path, ids, errno))
    }

    /// Owner, attributes, mode and, in the end, the time of a directory.
    pub(super) fn dress_directory(
        &self,
        dir: &MergedDir,
        looks: &Looks,
        entry: &TarEntry,
    ) -> Result<(), CopyError> {
        let fd = self.upper_directory(dir)?;
        let (uid, gid) = looks.ids;
        fchown(&fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            .map_err(|errno| owner_error(&dir.path, looks.ids, errno))?;
        attributes::write(&fd, entry)
            .map_err(CopyError::target("set the attributes of", &dir.path))?;
        set_mode(&fd, &dir.path, looks.mode)?;
        self.later(&dir.path, self.clamp(looks.time));
        Ok(())
    }

    /// The directory's time, to be set when nothing is made in it any more.
    pub(super) fn later(&self, path: &[u8], time: TimeSpec) {
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        times.push((path.to_owned(), time));
    }

    fn forget_times(&self, path: &[u8]) {
        let below = join(path, b"");
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        times.retain(|(known, _)| known != path && !known.starts_with(&below));
    }

    /// Sets the times of directories.
    pub(super) fn finish(&self) -> Result<(), CopyError> {
        let times = std::mem::take(&mut *self.times.lock().unwrap_or_else(PoisonError::into_inner));
        // What was said last holds.
        for (path, time) in times {
            let dir = MergedDir {
                path,
                parts: vec![UPPER],
            };
            let fd = self.upper_directory(&dir)?;
            futimens(&fd, &time, &time).map_err(CopyError::target("set the time of", &dir.path))?;
        }
        Ok(())
    }
}

/// Who owns what this process makes: root of the user namespace.
pub(super) fn creator() -> Ids {
    (
        nix::unistd::geteuid().as_raw(),
        nix::unistd::getegid().as_raw(),
    )
}

pub(super) fn set_mode(fd: impl AsFd, path: &[u8], mode: u32) -> Result<(), CopyError> {
    fchmod(fd, Mode::from_bits_truncate(mode)).map_err(CopyError::target("set the mode of", path))
}

pub(super) fn owner_error(path: &[u8], (uid, gid): Ids, errno: Errno) -> CopyError {
    CopyError::Target {
        source: rctr_storage::tree::TreeError::Owner {
            path: PathBuf::from(shown(path)),
            uid,
            gid,
            source: errno.into(),
        },
    }
}
