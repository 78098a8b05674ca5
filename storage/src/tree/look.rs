//! What is at a path of a tree.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::readlinkat;
use nix::sys::stat::{SFlag, fstat};

use super::beneath::normalize;
use super::pack::{Follow, open_top};
use super::{TreeError, is_gone, open_root};

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A directory.
    Directory,
    /// A symbolic link to this.
    Link(PathBuf),
    /// A file, device, pipe or socket.
    Other,
}

/// What is at `path` in the tree `root`; the path resolves as in a chroot. `None`: nothing. Needs ids.
///
/// # Errors
/// When the path leads out of the tree by its `..`, or a directory on the way can't be read.
pub fn look(root: &Path, path: &str, follow: Follow) -> Result<Option<Found>, TreeError> {
    let clean = normalize(path.as_bytes())?;
    let root = open_root(root)?;
    // A trailing slash is for the caller to judge.
    let given = path.trim_end_matches("/.").trim_end_matches('/');
    let fd = match open_top(root.as_fd(), given, &clean, follow) {
        Ok(fd) => fd,
        Err(errno) if is_gone(errno) => return Ok(None),
        Err(errno) => return Err(TreeError::io("open", &clean)(errno)),
    };
    let stat = fstat(&fd).map_err(TreeError::io("read", &clean))?;
    let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
    Ok(Some(match kind {
        SFlag::S_IFDIR => Found::Directory,
        SFlag::S_IFLNK => {
            let target = readlinkat(&fd, c"").map_err(TreeError::io::<Errno>("read", &clean))?;
            Found::Link(target.into())
        }
        _ => Found::Other,
    }))
}
