//! Walking a tree in the order of names, at any depth, without following anything.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, fstat, fstatat};

use super::TreeError;

/// Directories kept open; of those further up only the way back is known.
const OPEN: usize = 64;

pub(crate) const DIRECTORY: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// A walk under way: [`next`](Self::next) gives a name, [`descend`](Self::descend) goes into it.
pub(crate) struct Walk {
    frames: Vec<Frame>,
    /// Of what `next` gave, below the root.
    path: Vec<u8>,
    /// The last name of `path`.
    name: CString,
}

struct Frame {
    dir: Option<Dir>,
    device: u64,
    inode: u64,
    /// Sorted backwards: taken from the end.
    names: Vec<CString>,
    /// Of the directory's own path.
    path_len: usize,
}

/// A name in a directory.
pub(crate) struct Found<'a> {
    pub(crate) dir: BorrowedFd<'a>,
    pub(crate) name: &'a CStr,
    /// Below the root, without a leading slash.
    pub(crate) path: &'a [u8],
    pub(crate) stat: FileStat,
}

impl Walk {
    /// Begins in `root`, of which only what is in it is found.
    pub(crate) fn new(root: OwnedFd) -> Result<Self, TreeError> {
        let mut walk = Self {
            frames: Vec::new(),
            path: Vec::new(),
            name: CString::default(),
        };
        walk.descend(root)?;
        Ok(walk)
    }

    /// The next name. What vanishes while the walk goes on isn't found.
    pub(crate) fn next(&mut self) -> Result<Option<Found<'_>>, TreeError> {
        let stat = loop {
            let Some(frame) = self.frames.last_mut() else {
                return Ok(None);
            };
            self.path.truncate(frame.path_len);
            let Some(name) = frame.names.pop() else {
                self.ascend()?;
                continue;
            };
            let dir = frame.dir.as_ref().expect("the last frame's is open");
            if !self.path.is_empty() {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name.as_bytes());
            self.name = name;
            match fstatat(dir, self.name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(stat) => break stat,
                Err(Errno::ENOENT) => {}
                Err(errno) => return Err(TreeError::io("read", &self.path)(errno)),
            }
        };
        let frame = self.frames.last().expect("a name came from it");
        let dir = frame.dir.as_ref().expect("the last frame's is open");
        Ok(Some(Found {
            dir: dir.as_fd(),
            name: &self.name,
            path: &self.path,
            stat,
        }))
    }

    /// Goes into the directory that was found last, `fd` being a descriptor of it that can be read.
    pub(crate) fn descend(&mut self, fd: OwnedFd) -> Result<(), TreeError> {
        let failed = |errno| TreeError::io("read", &self.path)(errno);
        let stat = fstat(&fd).map_err(failed)?;
        let mut dir = Dir::from_fd(fd).map_err(failed)?;
        let mut names = list(&mut dir).map_err(failed)?;
        names.sort_unstable_by(|a, b| b.0.cmp(&a.0));
        self.frames.push(Frame {
            dir: Some(dir),
            device: stat.st_dev,
            inode: stat.st_ino,
            names: names.into_iter().map(|(name, _)| name).collect(),
            path_len: self.path.len(),
        });
        if let Some(above) = self.frames.len().checked_sub(OPEN + 1) {
            // The root stays open: nothing above it may ever be opened.
            if above > 0 {
                self.frames[above].dir = None;
            }
        }
        Ok(())
    }

    fn ascend(&mut self) -> Result<(), TreeError> {
        let left = self.frames.pop().expect("only called with a frame");
        let Some(frame) = self.frames.last_mut() else {
            return Ok(());
        };
        if frame.dir.is_some() {
            return Ok(());
        }
        let failed = |errno| TreeError::io("go back to", &self.path[..frame.path_len])(errno);
        let below = left.dir.as_ref().expect("the last frame's is open");
        let fd = openat(below, c"..", DIRECTORY, Mode::empty()).map_err(failed)?;
        let stat = fstat(&fd).map_err(failed)?;
        if (stat.st_dev, stat.st_ino) != (frame.device, frame.inode) {
            // Moved meanwhile: its parent may be anywhere.
            return Err(failed(Errno::ESTALE));
        }
        frame.dir = Some(Dir::from_fd(fd).map_err(failed)?);
        Ok(())
    }
}

/// The names in a directory and what they are, where the file system tells.
pub(crate) fn list(dir: &mut Dir) -> Result<Vec<(CString, Option<Type>)>, Errno> {
    let mut names = Vec::new();
    for entry in dir.iter() {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push((entry.file_name().to_owned(), entry.file_type()));
        }
    }
    Ok(names)
}
