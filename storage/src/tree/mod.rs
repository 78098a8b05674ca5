//! Trees of files: into a tar, out of a tar, from one place to another, and away.
//!
//! A tree is a directory that strangers filled, perhaps one that a running container changes meanwhile. Nothing is
//! ever followed out of it: paths from outside resolve with openat2(RESOLVE_IN_ROOT), as chroot(2) would resolve
//! them, and what is created, read or deleted is named by a descriptor of its directory and a single name that isn't
//! followed ([`beneath`]). Walking takes neither stack nor descriptors by depth ([`walk`]).
//!
//! Device nodes can't be made in a user namespace. One is kept as an empty regular file with the extended attribute
//! `user.rctr.device` = `c:MAJOR:MINOR` or `b:MAJOR:MINOR`, which becomes a device again in a tar ([`attributes`]).

pub mod attributes;
pub(crate) mod beneath;
mod clamp;
pub(crate) mod content;
mod copy;
mod give;
mod look;
mod pack;
pub(crate) mod place;
mod remove;
#[cfg(test)]
mod tests;
mod unpack;
pub(crate) mod walk;

pub use clamp::clamp_times;
pub use content::{copy as copy_content, copy_while, extract};
pub(crate) use copy::{Copier, READ};
pub use copy::{copy_up, size};
pub use give::give;
pub use look::{Found, look};
pub(crate) use pack::Packer;
pub use pack::{Follow, Mounts, PackOptions, pack};
pub use remove::{remove_at, remove_tree};
pub use unpack::{UnpackOptions, unpack};

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::explain::Explain;
use crate::store::hint_for_io;
use crate::tarfile::TarError;

/// Bytes of a path below a tree's root; Linux's own limit for a path in a system call (`PATH_MAX`).
pub const PATH_LIMIT: usize = 4095;

/// What went wrong with a tree. Paths are below its root.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The file system said no.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// `create`, `read`, `remove`, …
        operation: &'static str,
        /// What it was about.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A path with `..` beyond the root, or one that can't be a path at all.
    #[error("{:?} is no path that could be in a tree: {problem}", short(path))]
    BadPath {
        /// As it was given.
        path: PathBuf,
        /// What is wrong.
        problem: &'static str,
    },
    /// A hard link whose target isn't there.
    #[error("cannot link {} to {}, which isn't in the same archive", short(path).display(), short(target).display())]
    HardLink {
        /// The new name.
        path: PathBuf,
        /// The old one.
        target: PathBuf,
    },
    /// An owner that can't be given.
    #[error("cannot give {} to {uid}:{gid}", path.display())]
    Owner {
        /// Whose owner.
        path: PathBuf,
        /// The wanted owner.
        uid: u32,
        /// The wanted group.
        gid: u32,
        /// The reason.
        source: io::Error,
    },
    /// A directory would have to make place for something else, or the reverse.
    #[error("cannot overwrite {} {} with {}", if *directory { "directory" } else { "non-directory" }, path.display(), if *directory { "non-directory" } else { "directory" })]
    Overwrite {
        /// What is there.
        path: PathBuf,
        /// Whether it is a directory.
        directory: bool,
    },
    /// More than a layer may have.
    #[error("more than {limit} entries")]
    TooMany {
        /// The limit.
        limit: u64,
    },
    /// The archive can't be read.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// The archive can't be written.
    #[error("cannot write the archive")]
    Write {
        /// The reason.
        source: io::Error,
    },
}

impl TreeError {
    /// For `map_err`: what was done to which path.
    pub(crate) fn io<E: Into<io::Error>>(
        operation: &'static str,
        path: &[u8],
    ) -> impl FnOnce(E) -> Self {
        let path = to_path(path);
        move |source| Self::Io {
            operation,
            path,
            source: source.into(),
        }
    }
}

impl Explain for TreeError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Io { path, source, .. } => hint_for_io(path, source),
            Self::Owner { uid, gid, source, .. } => match source.raw_os_error() {
                Some(libc::EINVAL) => Some(format!(
                    "{uid}:{gid} has no place in this user namespace: more subordinate ids are needed, see `rctr doctor`"
                )),
                Some(libc::EPERM) => Some(
                    "only root of a user namespace may give files away: subordinate ids are needed, see `rctr doctor`"
                        .to_owned(),
                ),
                _ => None,
            },
            _ => None,
        }
    }
}

/// The first 200 bytes or so: who made a path of a hundred kilobytes shall not fill the terminal with it.
fn short(path: &Path) -> PathBuf {
    const LONGEST: usize = 200;
    match path.as_os_str().as_bytes() {
        bytes if bytes.len() > LONGEST => {
            let shown = String::from_utf8_lossy(&bytes[..LONGEST]);
            PathBuf::from(format!("{shown}…"))
        }
        _ => path.to_owned(),
    }
}

/// Path bytes for people; the root is `/`.
pub(crate) fn to_path(path: &[u8]) -> PathBuf {
    if path.is_empty() {
        return PathBuf::from("/");
    }
    PathBuf::from(OsStr::from_bytes(path))
}

/// A directory that a caller named by its path on the host.
pub(crate) fn open_root(path: &Path) -> Result<std::os::fd::OwnedFd, TreeError> {
    use nix::fcntl::{OFlag, open};
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open(path, flags, nix::sys::stat::Mode::empty()).map_err(|errno| TreeError::Io {
        operation: "open",
        path: path.to_owned(),
        source: errno.into(),
    })
}

/// Whether the error says that nothing, or nothing of that kind, is there.
pub(crate) fn is_gone(errno: Errno) -> bool {
    matches!(errno, Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP)
}
