//! A tree, or a part of it, as a tar: `export` and `cp` out of a container; the parts that layers need too.

use std::collections::HashMap;
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, major, minor};

use super::beneath::{normalize, open_in_root};
use super::walk::{DIRECTORY, Walk};
use super::{PATH_LIMIT, TreeError, attributes, content, open_root, to_path};
use crate::layer::overlay;
use crate::tarfile::{Entry, Kind, Time, Writer};

/// Whether a symbolic link at the end of the path is followed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Follow {
    /// The link itself is packed.
    #[default]
    No,
    /// What it leads to, within the tree (`cp -L`).
    Yes,
}

/// Whether what is mounted below is packed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mounts {
    /// It is.
    #[default]
    Cross,
    /// Of a mount point there is only the directory, empty.
    Skip,
}

/// What of a tree is packed, and how it is named.
#[derive(Debug, Clone, Default)]
pub struct PackOptions {
    /// The name of the path itself in the tar. Empty: a directory isn't in the tar, only what is in it, by its name
    /// below the directory; anything else has the path's last name.
    pub name: String,
    /// For a link at the end of the path.
    pub follow: Follow,
    /// For what is mounted below.
    pub mounts: Mounts,
}

/// Writes what is at `path` in the tree `root` to `out`, as a tar with names in sorted order.
///
/// The path resolves as in a chroot; one that ends in a slash or `/.` must be a directory. Sockets are left out. Times
/// are whole seconds, as Docker writes them. Needs ids.
///
/// # Errors
/// When the path isn't there, something can't be read, or `out` fails.
pub fn pack(
    root: &Path,
    path: &str,
    options: &PackOptions,
    out: &mut dyn Write,
) -> Result<(), TreeError> {
    let root = open_root(root)?;
    let clean = normalize(path.as_bytes())?;
    let mut packer = Packer::new(io::BufWriter::with_capacity(256 << 10, out));
    let top = open_top(root.as_fd(), path, &clean, options.follow)
        .map_err(TreeError::io("open", path.as_bytes()))?;
    let stat = fstat(&top).map_err(TreeError::io("read", &clean))?;
    let name = options.name.as_bytes();
    if overlay::kind(&stat) != SFlag::S_IFDIR {
        let (_, last) = super::beneath::split(&clean);
        let name = if name.is_empty() {
            last.as_bytes()
        } else {
            name
        };
        packer.add_top(root.as_fd(), &top, name, &clean, stat, options.follow)?;
        return packer.finish();
    }
    let top =
        openat(&top, c".", DIRECTORY, Mode::empty()).map_err(TreeError::io("open", &clean))?;
    if !name.is_empty() {
        let entry = packer.directory(&top, name, &stat)?;
        packer.write(&entry, None)?;
    }
    packer.add_below(top, name, stat.st_dev, options.mounts)?;
    packer.finish()
}

/// The end of a path, as a descriptor that only names it.
pub(super) fn open_top(
    root: BorrowedFd<'_>,
    given: &str,
    clean: &[u8],
    follow: Follow,
) -> Result<OwnedFd, Errno> {
    let mut flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    if given.ends_with('/') || given.ends_with("/.") {
        flags |= OFlag::O_DIRECTORY;
    } else if follow == Follow::No {
        flags |= OFlag::O_NOFOLLOW;
    }
    let path = if clean.is_empty() { b"." } else { clean };
    open_in_root(root, path, flags)
}

/// Writes files as entries of a tar.
pub(crate) struct Packer<W: Write> {
    tar: Writer<W>,
    /// First names of files with several, by device and inode.
    links: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
}

impl<W: Write> Packer<W> {
    pub(crate) fn new(sink: W) -> Self {
        Self {
            tar: Writer::new(sink),
            links: HashMap::new(),
            buffer: Vec::new(),
        }
    }

    pub(crate) fn finish(self) -> Result<(), TreeError> {
        self.tar
            .finish()
            .map(drop)
            .map_err(|source| TreeError::Write { source })
    }

    /// A tree's content, `prefix` before every name.
    fn add_below(
        &mut self,
        top: OwnedFd,
        prefix: &[u8],
        device: u64,
        mounts: Mounts,
    ) -> Result<(), TreeError> {
        let mut walk = Walk::new(top)?;
        while let Some(found) = walk.next()? {
            let path = match prefix {
                b"" => found.path.to_vec(),
                _ => [prefix, b"/", found.path].concat(),
            };
            let directory = self.add(found.dir, found.name, path, found.stat)?;
            if let Some(fd) = directory
                && (mounts == Mounts::Cross || found.stat.st_dev == device)
            {
                walk.descend(fd)?;
            }
        }
        Ok(())
    }

    /// One file that is not a directory, which the caller has named.
    fn add_top(
        &mut self,
        root: BorrowedFd<'_>,
        top: &OwnedFd,
        name: &[u8],
        path: &[u8],
        stat: FileStat,
        follow: Follow,
    ) -> Result<(), TreeError> {
        let mut entry = self.plain(name, &stat)?;
        let Some(kind) = kind_of(&stat) else {
            return Err(TreeError::io("pack the socket", path)(Errno::EOPNOTSUPP));
        };
        entry.kind = kind;
        match kind {
            Kind::File => {
                let mut flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
                if follow == Follow::No {
                    flags |= OFlag::O_NOFOLLOW;
                }
                let file = open_in_root(root, path, flags).map_err(TreeError::io("open", path))?;
                self.file(file.into(), entry)
            }
            Kind::Symlink => {
                // An empty name reads the link that the descriptor is of (Linux 2.6.39).
                let target = readlinkat(top, c"").map_err(TreeError::io("read", path))?;
                entry.link = target.as_bytes().to_vec();
                self.write(&entry, None)
            }
            _ => {
                entry.device = device_of(&stat);
                self.write(&entry, None)
            }
        }
    }

    /// Writes what `name` in `dir` is. Of a directory the descriptor is returned, to go into it.
    pub(crate) fn add(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &CStr,
        path: Vec<u8>,
        stat: FileStat,
    ) -> Result<Option<OwnedFd>, TreeError> {
        let failed = || TreeError::io("read", &path);
        let Some(kind) = kind_of(&stat) else {
            // A socket: a tar can't hold it, and it means nothing without its process.
            return Ok(None);
        };
        if kind == Kind::Directory {
            let fd = openat(dir, name, DIRECTORY, Mode::empty()).map_err(failed())?;
            let entry = self.directory(&fd, &path, &stat)?;
            self.write(&entry, None)?;
            return Ok(Some(fd));
        }
        let mut entry = self.plain(&path, &stat)?;
        entry.kind = kind;
        if stat.st_nlink > 1 {
            let key = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.links.get(&key) {
                entry.kind = Kind::HardLink;
                entry.link = first.clone();
                self.write(&entry, None)?;
                return Ok(None);
            }
            self.links.insert(key, path.clone());
        }
        match kind {
            Kind::File => {
                let flags =
                    OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                let fd = openat(dir, name, flags, Mode::empty()).map_err(failed())?;
                self.file(fd.into(), entry)?;
            }
            Kind::Symlink => {
                let target = readlinkat(dir, name).map_err(failed())?;
                entry.link = target.as_bytes().to_vec();
                self.write(&entry, None)?;
            }
            _ => {
                entry.device = device_of(&stat);
                self.write(&entry, None)?;
            }
        }
        Ok(None)
    }

    /// An entry that is only a name: `.wh.NAME` and the like.
    pub(crate) fn add_mark(&mut self, path: Vec<u8>) -> Result<(), TreeError> {
        self.write(&Entry::new(path, Kind::File, 0o600), None)
    }

    fn directory(&self, fd: &OwnedFd, path: &[u8], stat: &FileStat) -> Result<Entry, TreeError> {
        let mut entry = self.plain(path, stat)?;
        entry.kind = Kind::Directory;
        entry.path.push(b'/');
        attributes::read(fd, &mut entry).map_err(TreeError::io("read the attributes of", path))?;
        Ok(entry)
    }

    fn file(&mut self, file: File, mut entry: Entry) -> Result<(), TreeError> {
        let path = entry.path.clone();
        let failed = |source: io::Error| TreeError::io("read", &path)(source);
        let stat = fstat(&file).map_err(|errno| failed(errno.into()))?;
        if overlay::kind(&stat) != SFlag::S_IFREG {
            return Err(failed(Errno::ESTALE.into()));
        }
        entry.size = stat.st_size.cast_unsigned();
        attributes::read(&file, &mut entry)
            .map_err(TreeError::io("read the attributes of", &path))?;
        if entry.kind == Kind::File {
            entry.sparse = content::find_segments(&file, entry.size).map_err(failed)?;
        }
        self.write(&entry, Some(&file))
    }

    fn write(&mut self, entry: &Entry, content: Option<&File>) -> Result<(), TreeError> {
        self.tar
            .begin(entry)
            .map_err(|source| TreeError::Write { source })?;
        match content {
            Some(file) if entry.kind == Kind::File => {
                let failed = |source: io::Error| TreeError::io("read", &entry.path)(source);
                content::archive(file, entry, &mut self.buffer, &mut self.tar, failed)
            }
            _ => Ok(()),
        }
    }

    /// Name, owner, mode and time.
    fn plain(&self, path: &[u8], stat: &FileStat) -> Result<Entry, TreeError> {
        if path.len() > PATH_LIMIT {
            return Err(TreeError::BadPath {
                path: to_path(&path[..100]),
                problem: "what is below it is longer than 4095 bytes",
            });
        }
        Ok(described(path, stat))
    }
}

/// An entry with name, owner, mode and time, the latter in whole seconds.
pub(crate) fn described(path: &[u8], stat: &FileStat) -> Entry {
    let mut entry = Entry::new(path, Kind::File, stat.st_mode & 0o7777);
    entry.uid = stat.st_uid;
    entry.gid = stat.st_gid;
    entry.mtime = Time {
        seconds: stat.st_mtime,
        nanos: 0,
    };
    entry
}

/// What a tar calls it; `None`: a socket.
pub(crate) fn kind_of(stat: &FileStat) -> Option<Kind> {
    Some(match overlay::kind(stat) {
        SFlag::S_IFREG => Kind::File,
        SFlag::S_IFDIR => Kind::Directory,
        SFlag::S_IFLNK => Kind::Symlink,
        SFlag::S_IFCHR => Kind::CharDevice,
        SFlag::S_IFBLK => Kind::BlockDevice,
        SFlag::S_IFIFO => Kind::Fifo,
        _ => return None,
    })
}

pub(crate) fn device_of(stat: &FileStat) -> (u32, u32) {
    // Linux has 12 and 20 bits.
    (major(stat.st_rdev) as u32, minor(stat.st_rdev) as u32)
}
