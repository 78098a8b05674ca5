//! The tree that a stack of layers makes, read without mounting it, and the directory that becomes a layer on top of it.
//!
//! A name is looked up in the layers from the top: a whiteout, a file or an opaque directory ends the search, directories
//! are merged (Documentation/filesystems/overlayfs.rst). Nothing is followed: directories are opened by their own path
//! with openat2(`RESOLVE_NO_SYMLINKS`), and who follows a symbolic link does so name by name.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat};

use super::overlay;
use crate::tree::walk::list;
use crate::tree::{TreeError, is_gone, open_root, to_path};

/// What stands in a layer beside files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Marks {
    /// Whiteouts and opaque directories.
    Overlay,
    /// Nothing: any directory of the host.
    None,
}

/// A stack of layers, or a plain directory.
#[derive(Debug)]
pub struct Merged {
    /// Top first.
    layers: Vec<OwnedFd>,
    marks: Marks,
}

/// A directory in a [`Merged`]. No descriptor is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergedDir {
    /// Below the root, without slashes at its ends; empty: the root.
    pub path: Vec<u8>,
    /// The numbers of the layers that have a part of it, top first; layer 0 is the topmost.
    pub parts: Vec<u32>,
}

/// A [`MergedDir`] with its parts open.
#[derive(Debug)]
pub struct OpenDir {
    parts: Vec<(u32, OwnedFd)>,
    path: Vec<u8>,
    marks: Marks,
}

/// What is at a name.
#[derive(Debug, Clone)]
pub struct Node {
    /// Of what is seen.
    pub stat: FileStat,
    /// The layer that it is in; of a directory the topmost.
    pub layer: u32,
    /// When it is a directory.
    pub dir: Option<MergedDir>,
}

impl Node {
    /// `S_IFREG`, `S_IFDIR`, …
    #[must_use]
    pub fn kind(&self) -> SFlag {
        overlay::kind(&self.stat)
    }
}

impl Merged {
    /// The tree of `layers`, top first.
    ///
    /// # Errors
    /// When a layer can't be opened.
    pub fn of_layers(layers: &[PathBuf]) -> Result<Self, TreeError> {
        let mut open = Vec::new();
        for path in layers {
            let fd = open_root(path)?;
            let opaque = overlay::is_opaque(&fd).map_err(TreeError::io("read", b""))?;
            open.push(fd);
            if opaque {
                break;
            }
        }
        Ok(Self {
            layers: open,
            marks: Marks::Overlay,
        })
    }

    /// The directory `path` as it is.
    ///
    /// # Errors
    /// When it can't be opened.
    pub fn plain(path: &Path) -> Result<Self, TreeError> {
        Ok(Self {
            layers: vec![open_root(path)?],
            marks: Marks::None,
        })
    }

    /// Its root.
    #[must_use]
    pub fn root(&self) -> MergedDir {
        MergedDir {
            path: Vec::new(),
            parts: (0..u32::try_from(self.layers.len()).unwrap_or(u32::MAX)).collect(),
        }
    }

    /// Opens a directory to look up or list what is in it.
    ///
    /// # Errors
    /// When it can't be.
    pub fn open(&self, dir: &MergedDir) -> Result<OpenDir, TreeError> {
        let mut parts = Vec::with_capacity(dir.parts.len());
        for &layer in &dir.parts {
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            let fd = open_below(self.layer(layer), &dir.path, flags)
                .map_err(TreeError::io("open the directory", &dir.path))?;
            parts.push((layer, fd));
        }
        Ok(OpenDir {
            parts,
            path: dir.path.clone(),
            marks: self.marks,
        })
    }

    fn layer(&self, number: u32) -> BorrowedFd<'_> {
        self.layers[number as usize].as_fd()
    }
}

/// Opens the normalized `path` below `root`, following nothing.
fn open_below(root: BorrowedFd<'_>, path: &[u8], flags: OFlag) -> Result<OwnedFd, Errno> {
    if path.is_empty() {
        return openat(root, c".", flags, Mode::empty());
    }
    let how = OpenHow::new()
        .flags(flags)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    match openat2(root, path, how) {
        // Where a seccomp filter forbids openat2, name by name.
        Err(Errno::ENOSYS | Errno::EPERM) => {
            let mut fd = openat(root, c".", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
            let mut names = path.split(|&byte| byte == b'/').peekable();
            while let Some(name) = names.next() {
                let flags = match names.peek() {
                    Some(_) => OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
                    None => flags,
                };
                let name = OsStr::from_bytes(name);
                fd = openat(&fd, name, flags | OFlag::O_NOFOLLOW, Mode::empty())?;
            }
            Ok(fd)
        }
        other => other,
    }
}

impl OpenDir {
    /// What is at `name`, links not followed.
    ///
    /// # Errors
    /// When a layer can't be read.
    pub fn look(&self, name: &CStr) -> Result<Option<Node>, TreeError> {
        let mut node: Option<Node> = None;
        let path = || join(&self.path, name.to_bytes());
        for (at, (layer, dir)) in self.parts.iter().enumerate() {
            let stat = match fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(errno) if is_gone(errno) => continue,
                Err(errno) => return Err(TreeError::io("read", &path())(errno)),
            };
            if self.marks == Marks::Overlay
                && (overlay::is_whiteout_device(&stat)
                    || overlay::is_whiteout_file(dir.as_fd(), name, &stat)
                        .map_err(TreeError::io("read", &path()))?)
            {
                break;
            }
            let is_dir = overlay::kind(&stat) == SFlag::S_IFDIR;
            let node = match &mut node {
                None => node.insert(Node {
                    stat,
                    layer: *layer,
                    dir: is_dir.then(|| MergedDir {
                        path: path(),
                        parts: Vec::new(),
                    }),
                }),
                Some(_) if !is_dir => break,
                Some(node) => node,
            };
            let Some(merged) = &mut node.dir else { break };
            merged.parts.push(*layer);
            let last = at + 1 == self.parts.len();
            if !last
                && self
                    .hides(dir, name)
                    .map_err(TreeError::io("read", &path()))?
            {
                break;
            }
        }
        Ok(node)
    }

    fn hides(&self, dir: &OwnedFd, name: &CStr) -> Result<bool, Errno> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        overlay::is_opaque(openat(dir, name, flags, Mode::empty())?)
    }

    /// All names, sorted. In a stack some may be whiteouts: [`look`](Self::look) tells.
    ///
    /// # Errors
    /// When a layer can't be read.
    pub fn names(&self) -> Result<Vec<CString>, TreeError> {
        let mut all: Vec<CString> = Vec::new();
        for (_, fd) in &self.parts {
            let read = || -> Result<Vec<CString>, Errno> {
                let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
                let mut dir = Dir::from_fd(openat(fd, c".", flags, Mode::empty())?)?;
                Ok(list(&mut dir)?.into_iter().map(|(name, _)| name).collect())
            };
            let names = read().map_err(TreeError::io("read", &self.path))?;
            all.extend(names);
        }
        if self.parts.len() > 1 {
            let unique: BTreeSet<CString> = all.into_iter().collect();
            return Ok(unique.into_iter().collect());
        }
        all.sort_unstable();
        Ok(all)
    }

    /// Its part in `layer`.
    #[must_use]
    pub fn part(&self, layer: u32) -> Option<BorrowedFd<'_>> {
        let found = self.parts.iter().find(|(number, _)| *number == layer);
        found.map(|(_, fd)| fd.as_fd())
    }

    /// Its topmost part; every directory has one, but the root of no layers at all.
    #[must_use]
    pub fn top(&self) -> Option<BorrowedFd<'_>> {
        self.parts.first().map(|(_, fd)| fd.as_fd())
    }

    /// Where a symbolic link that [`look`](Self::look) found points to.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn read_link(&self, name: &CStr, node: &Node) -> Result<Vec<u8>, TreeError> {
        let path = join(&self.path, name.to_bytes());
        let failed = || TreeError::io("read the link", &path);
        let dir = self
            .part(node.layer)
            .ok_or_else(|| failed()(Errno::ENOENT))?;
        let target = readlinkat(dir, name).map_err(failed())?;
        Ok(target.as_bytes().to_vec())
    }

    /// Opens a regular file that [`look`](Self::look) found, to read it.
    ///
    /// # Errors
    /// When it can't be opened.
    pub fn open_file(&self, name: &CStr, layer: u32) -> Result<File, TreeError> {
        let path = join(&self.path, name.to_bytes());
        let failed = || TreeError::io("open", &path);
        let dir = self.part(layer).ok_or_else(|| failed()(Errno::ENOENT))?;
        let file = openat(dir, name, crate::tree::READ, Mode::empty()).map_err(failed())?;
        Ok(file.into())
    }
}

/// A path and a name in it.
#[must_use]
pub fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    super::diff::join(dir, name)
}

/// A path of a tree as people read it: `/etc/passwd`.
#[must_use]
pub fn shown(path: &[u8]) -> String {
    format!(
        "/{}",
        if path.is_empty() {
            String::new()
        } else {
            to_path(path).display().to_string()
        }
    )
}

/// Makes a directory of an upper directory hide what the layers below have there. Not with an `O_PATH` descriptor.
///
/// # Errors
/// When the file system keeps no attributes.
pub fn make_opaque(dir: impl AsFd) -> Result<(), Errno> {
    overlay::set_opaque(dir)
}
