//! Copying what was selected: directories one after the other, then the files in them with two threads.

use std::collections::HashMap;
use std::ffi::CStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, copy_file_range, openat};
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, UtimensatFlags, fchmodat, fstat, futimens, major, minor,
    mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchownat, linkat, symlinkat};
use rctr_storage::layer::merged::{MergedDir, OpenDir, join};
use rctr_storage::tarfile::{Entry as TarEntry, Kind};
use rctr_storage::tree::{attributes, copy_while};

use super::CopyError;
use super::chmod::Chmod;
use super::owner::Ids;
use super::select::{Dir, Entry, Source};
use super::target::{Looks, Target, owner_error, set_mode};
use super::walk::THREADS;

/// Files that one thread takes at a time.
const PORTION: usize = 128;

/// Bytes of a large file that are copied before it is asked whether to go on: 64 MiB.
const CHUNK: usize = 64 << 20;

/// For a new file.
pub(super) const NEW: OFlag = OFlag::O_WRONLY
    .union(OFlag::O_CREAT)
    .union(OFlag::O_EXCL)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);
/// Its mode until it has its own.
pub(super) const PRIVATE: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR);

/// Copies from one tree to another.
pub(super) struct Copier<'a> {
    pub(super) source: &'a Source<'a>,
    pub(super) target: &'a Target,
    /// `--chown`.
    pub(super) chown: Option<Ids>,
    /// `--chmod`.
    pub(super) chmod: Option<&'a Chmod>,
    /// copy_file_range(2) doesn't work between these file systems.
    pub(super) without_range: AtomicBool,
}

/// Files of one directory that one thread copies.
struct Job<'a> {
    from: &'a MergedDir,
    to: &'a MergedDir,
    entries: &'a [Entry],
}

impl Copier<'_> {
    /// Copies the content of a tree into the directory `to`, which takes nothing but the time of the tree's root.
    pub(super) fn tree(&self, dirs: &[Dir], to: &MergedDir) -> Result<(), CopyError> {
        let places = self.directories(dirs, to)?;
        let mut jobs = Vec::new();
        let mut links: Vec<(&MergedDir, &MergedDir, &Entry)> = Vec::new();
        for (dir, to) in dirs.iter().zip(&places) {
            let from = &dir.at;
            jobs.extend(
                dir.entries
                    .chunks(PORTION)
                    .map(|entries| Job { from, to, entries }),
            );
            let several = dir.entries.iter().filter(|entry| has_several_names(entry));
            links.extend(several.map(|entry| (from, to, entry)));
        }
        self.run(&jobs)?;
        self.hard_links(&links)
    }

    /// Makes the directories of a tree; returns where they are.
    fn directories(&self, dirs: &[Dir], to: &MergedDir) -> Result<Vec<MergedDir>, CopyError> {
        let failed = |source| CopyError::Source { source };
        let mut places: Vec<MergedDir> = Vec::with_capacity(dirs.len());
        let mut above: Option<(usize, OpenDir)> = None;
        for dir in dirs {
            if dir.path.is_empty() {
                places.push(to.clone());
                self.target
                    .later(&to.path, self.target.clamp(time_of(&dir.stat)));
                continue;
            }
            let parent = &places[dir.parent];
            let open = match &above {
                Some((at, open)) if *at == dir.parent => open,
                _ => &above.insert((dir.parent, self.target.open(parent)?)).1,
            };
            let name = dir
                .path
                .rsplit(|&byte| byte == b'/')
                .next()
                .unwrap_or_default();
            let name = std::ffi::CString::new(name).expect("a name that was listed has no NUL");
            let made = self.target.make_directory(parent, open, &name)?;
            if dir.chosen || made.is_new {
                let mut entry = TarEntry::new(Vec::new(), Kind::Directory, 0);
                let from = self.source.tree.open(&dir.at).map_err(failed)?;
                if let Some(fd) = from.top() {
                    attributes::read(fd, &mut entry)
                        .map_err(CopyError::source("read", &dir.at.path))?;
                }
                let looks = self.looks(&dir.stat, true);
                self.target.dress_directory(&made.dir, &looks, &entry)?;
            }
            places.push(made.dir);
        }
        Ok(places)
    }

    fn looks(&self, stat: &FileStat, is_dir: bool) -> Looks {
        let own = match self.source.keeps_owners {
            true => (stat.st_uid, stat.st_gid),
            false => (0, 0),
        };
        let mode = stat.st_mode & 0o7777;
        Looks {
            ids: self.chown.unwrap_or(own),
            mode: self.chmod.map_or(mode, |chmod| chmod.apply(mode, is_dir)),
            time: self.target.clamp(time_of(stat)),
        }
    }

    fn run(&self, jobs: &[Job<'_>]) -> Result<(), CopyError> {
        let next = AtomicUsize::new(0);
        let failed = Mutex::new(None);
        let work = || {
            while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Err(error) = self.job(job) {
                    next.store(jobs.len(), Ordering::Relaxed);
                    let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                    failed.get_or_insert(error);
                }
            }
        };
        thread::scope(|scope| {
            if jobs.len() > 1 {
                for _ in 1..THREADS {
                    scope.spawn(work);
                }
            }
            work();
        });
        match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn job(&self, job: &Job<'_>) -> Result<(), CopyError> {
        let from = self
            .source
            .tree
            .open(job.from)
            .map_err(|source| CopyError::Source { source })?;
        let to = self.target.open(job.to)?;
        for entry in job.entries.iter().filter(|entry| !has_several_names(entry)) {
            self.source.go_on()?;
            self.entry(&from, job.from, entry, &to, job.to, &entry.name)?;
        }
        Ok(())
    }

    /// Files with several names: the first is copied, the others become links to it.
    fn hard_links(&self, links: &[(&MergedDir, &MergedDir, &Entry)]) -> Result<(), CopyError> {
        let mut first: HashMap<(u64, u64), (&MergedDir, &CStr)> = HashMap::new();
        for &(from, to, entry) in links {
            let key = (entry.stat.st_dev, entry.stat.st_ino);
            let open = self.target.open(to)?;
            let Some(&(dir, name)) = first.get(&key) else {
                let opened = self
                    .source
                    .tree
                    .open(from)
                    .map_err(|source| CopyError::Source { source })?;
                self.entry(&opened, from, entry, &open, to, &entry.name)?;
                first.insert(key, (to, &entry.name));
                continue;
            };
            self.target.clear(to, &open, &entry.name)?;
            let path = join(&to.path, entry.name.as_bytes());
            let dir = self.target.open(dir)?;
            let old = self.target.upper(&dir, &path)?;
            let new = self.target.upper(&open, &path)?;
            linkat(old, name, new, entry.name.as_c_str(), AtFlags::empty())
                .map_err(CopyError::target("create", &path))?;
        }
        Ok(())
    }

    /// Copies one file, link, pipe or device to `name` in the directory `dir`, of which `to` is.
    pub(super) fn entry(
        &self,
        from: &OpenDir,
        from_dir: &MergedDir,
        entry: &Entry,
        to: &OpenDir,
        dir: &MergedDir,
        name: &CStr,
    ) -> Result<(), CopyError> {
        let path = || join(&dir.path, name.to_bytes());
        let upper = self.target.upper(to, &dir.path)?;
        let only_upper = dir.parts.len() == 1;
        if !only_upper {
            self.target.clear(dir, to, name)?;
        }
        let make = || match entry.kind() {
            SFlag::S_IFREG => self.file(from, from_dir, entry, upper, name, &path),
            _ => self.special(from, entry, upper, name, &path),
        };
        match make() {
            Err(CopyError::Target {
                source: rctr_storage::tree::TreeError::Io { source, .. },
            }) if only_upper && source.raw_os_error() == Some(libc::EEXIST) => {
                self.target.clear(dir, to, name)?;
                make()
            }
            other => other,
        }
    }

    fn file(
        &self,
        from: &OpenDir,
        from_dir: &MergedDir,
        entry: &Entry,
        upper: BorrowedFd<'_>,
        name: &CStr,
        path: &dyn Fn() -> Vec<u8>,
    ) -> Result<(), CopyError> {
        let source = from
            .open_file(&entry.name, entry.layer)
            .map_err(|source| CopyError::Source { source })?;
        let shown = || join(&from_dir.path, entry.name.as_bytes());
        let stat = fstat(&source).map_err(|errno| CopyError::source("read", &shown())(errno))?;
        if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
            return Err(CopyError::Changed {
                path: rctr_storage::layer::merged::shown(&shown()),
            });
        }
        let mut tar = TarEntry::new(Vec::new(), Kind::File, 0);
        tar.size = stat.st_size.cast_unsigned();
        attributes::read(&source, &mut tar)
            .map_err(|error| CopyError::source("read", &shown())(error))?;
        let looks = self.looks(&stat, false);
        let made = openat(upper, name, NEW, PRIVATE)
            .map_err(|errno| CopyError::target("create", &path())(errno))?;
        let file = File::from(made);
        self.content(&source, &file, &stat)
            .map_err(|error| match self.source.go_on() {
                Err(canceled) => canceled,
                Ok(()) => CopyError::target("write", &path())(error),
            })?;
        let after = fstat(&source).map_err(|errno| CopyError::source("read", &shown())(errno))?;
        if !same_content(&stat, &after) || self.source.has_changed(&shown(), &after) {
            return Err(CopyError::Changed {
                path: rctr_storage::layer::merged::shown(&shown()),
            });
        }
        if tar.kind != Kind::File {
            attributes::mark_device(&file, &tar)
                .map_err(|error| CopyError::target("mark the device", &path())(error))?;
        }
        self.dress_file(&file, &looks, &tar, path)
    }

    /// Owner, attributes, mode and time of a file that was just made; chown(2) takes bits of the mode away.
    pub(super) fn dress_file(
        &self,
        file: &File,
        looks: &Looks,
        tar: &TarEntry,
        path: &dyn Fn() -> Vec<u8>,
    ) -> Result<(), CopyError> {
        if looks.ids != super::target::creator() {
            self.target.give(file, &path(), looks.ids)?;
        }
        if !tar.xattrs.is_empty() {
            attributes::write(file, tar)
                .map_err(|error| CopyError::target("set the attributes of", &path())(error))?;
        }
        if looks.mode != 0o600 {
            set_mode(file, &path(), looks.mode)?;
        }
        futimens(file, &looks.time, &looks.time)
            .map_err(|errno| CopyError::target("set the time of", &path())(errno))
    }

    /// A file of that content, made now, at `name` in `dir`.
    pub(super) fn write(
        &self,
        dir: &MergedDir,
        name: &CStr,
        content: &[u8],
        mode: u32,
    ) -> Result<(), CopyError> {
        let path = || join(&dir.path, name.to_bytes());
        let file = self.make(dir, name)?;
        (&file)
            .write_all(content)
            .map_err(|error| CopyError::target("write", &path())(error))?;
        self.dress_new(&file, mode, None, &path)
    }

    /// A copy of `from`, 0600, at `name` in `dir`.
    pub(super) fn put(
        &self,
        dir: &MergedDir,
        name: &CStr,
        from: &File,
        time: Option<TimeSpec>,
    ) -> Result<(), CopyError> {
        let path = || join(&dir.path, name.to_bytes());
        let file = self.make(dir, name)?;
        let stat = fstat(from).map_err(|errno| CopyError::source("read", &path())(errno))?;
        self.content(from, &file, &stat)
            .map_err(|error| CopyError::target("write", &path())(error))?;
        self.dress_new(&file, 0o600, time, &path)
    }

    /// An empty file at `name` in `dir`, where a file may be.
    fn make(&self, dir: &MergedDir, name: &CStr) -> Result<File, CopyError> {
        let path = join(&dir.path, name.to_bytes());
        let open = self.target.open(dir)?;
        self.target.clear(dir, &open, name)?;
        let upper = self.target.upper(&open, &path)?;
        let made = openat(upper, name, NEW, PRIVATE).map_err(CopyError::target("create", &path))?;
        Ok(File::from(made))
    }

    fn dress_new(
        &self,
        file: &File,
        mode: u32,
        time: Option<TimeSpec>,
        path: &dyn Fn() -> Vec<u8>,
    ) -> Result<(), CopyError> {
        let looks = Looks {
            ids: self.chown.unwrap_or((0, 0)),
            mode: self.chmod.map_or(mode, |chmod| chmod.apply(mode, false)),
            time: time.map_or_else(|| self.target.now(), |time| self.target.clamp(time)),
        };
        let tar = TarEntry::new(Vec::new(), Kind::File, 0);
        self.dress_file(file, &looks, &tar, path)
    }

    /// In the kernel where it can: that shares blocks, too, where the file system can.
    fn content(&self, from: &File, to: &File, stat: &FileStat) -> std::io::Result<()> {
        let size = stat.st_size.cast_unsigned();
        let has_holes = stat.st_blocks.cast_unsigned().saturating_mul(512) < size;
        if has_holes || self.without_range.load(Ordering::Relaxed) {
            return self.by_hand(from, to, size);
        }
        let mut left = usize::try_from(size).unwrap_or(usize::MAX);
        while left > 0 {
            if left as u64 != size && self.source.go_on().is_err() {
                return Err(Errno::ECANCELED.into());
            }
            match copy_file_range(from, None, to, None, left.min(CHUNK)) {
                // It became shorter meanwhile.
                Ok(0) => break,
                Ok(count) => left -= count,
                Err(Errno::EINTR) => {}
                Err(
                    Errno::EXDEV | Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP | Errno::EPERM,
                ) if left as u64 == size => {
                    self.without_range.store(true, Ordering::Relaxed);
                    return self.by_hand(from, to, size);
                }
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    fn by_hand(&self, from: &File, to: &File, size: u64) -> std::io::Result<()> {
        copy_while(from, to, size, &|| match self.source.go_on() {
            Err(_) => Err(Errno::ECANCELED.into()),
            Ok(()) => Ok(()),
        })
    }

    /// A link, pipe or device. A device can't be made here: an empty file with a mark stands for it.
    fn special(
        &self,
        from: &OpenDir,
        entry: &Entry,
        upper: BorrowedFd<'_>,
        name: &CStr,
        path: &dyn Fn() -> Vec<u8>,
    ) -> Result<(), CopyError> {
        let failed = |errno: Errno| CopyError::target("create", &path())(errno);
        let looks = self.looks(&entry.stat, false);
        match entry.kind() {
            SFlag::S_IFLNK => {
                let target = match entry.link.is_empty() {
                    false => entry.link.clone(),
                    true => {
                        let node = rctr_storage::layer::merged::Node {
                            stat: entry.stat,
                            layer: entry.layer,
                            dir: None,
                        };
                        from.read_link(&entry.name, &node)
                            .map_err(|source| CopyError::Source { source })?
                    }
                };
                let target = std::ffi::OsStr::from_bytes(&target);
                symlinkat(target, upper, name).map_err(failed)?;
            }
            SFlag::S_IFIFO => {
                mknodat(upper, name, SFlag::S_IFIFO, Mode::S_IRUSR, 0).map_err(failed)?;
            }
            kind => return self.device(kind, entry, upper, name, path),
        }
        let (uid, gid) = looks.ids;
        if looks.ids != super::target::creator() {
            let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
            let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
            fchownat(upper, name, uid, gid, flags)
                .map_err(|errno| owner_error(&path(), looks.ids, errno))?;
        }
        if entry.kind() != SFlag::S_IFLNK {
            let mode = Mode::from_bits_truncate(looks.mode);
            fchmodat(upper, name, mode, FchmodatFlags::NoFollowSymlink)
                .map_err(|errno| CopyError::target("set the mode of", &path())(errno))?;
        }
        let flag = UtimensatFlags::NoFollowSymlink;
        utimensat(upper, name, &looks.time, &looks.time, flag)
            .map_err(|errno| CopyError::target("set the time of", &path())(errno))
    }

    fn device(
        &self,
        kind: SFlag,
        entry: &Entry,
        upper: BorrowedFd<'_>,
        name: &CStr,
        path: &dyn Fn() -> Vec<u8>,
    ) -> Result<(), CopyError> {
        let kind = match kind {
            SFlag::S_IFBLK => Kind::BlockDevice,
            _ => Kind::CharDevice,
        };
        let mut tar = TarEntry::new(Vec::new(), kind, 0);
        // Linux has 12 and 20 bits.
        tar.device = (
            major(entry.stat.st_rdev) as u32,
            minor(entry.stat.st_rdev) as u32,
        );
        let made = openat(upper, name, NEW, PRIVATE)
            .map_err(|errno| CopyError::target("create", &path())(errno))?;
        attributes::mark_device(&made, &tar)
            .map_err(|error| CopyError::target("mark the device", &path())(error))?;
        self.dress_file(
            &File::from(made),
            &self.looks(&entry.stat, false),
            &tar,
            path,
        )
    }
}

/// Whether a file is as it was.
fn same_content(before: &FileStat, after: &FileStat) -> bool {
    let of = |stat: &FileStat| (stat.st_size, stat.st_mtime, stat.st_mtime_nsec);
    of(before) == of(after)
}

fn has_several_names(entry: &Entry) -> bool {
    entry.stat.st_nlink > 1 && entry.kind() == SFlag::S_IFREG
}

pub(super) fn time_of(stat: &FileStat) -> TimeSpec {
    TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec)
}
