//! The files of a place, by their paths in it.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2};
use nix::sys::stat::Mode;
use serde::de::DeserializeOwned;

use super::TransportError;
use crate::blob::DOCUMENT_LIMIT;
use crate::digest::Digest;

/// A file's content from some place in it on.
pub(super) struct Content {
    /// Of the whole file, in bytes.
    pub(super) size: u64,
    pub(super) bytes: Box<dyn Read + Send>,
}

/// A directory's or an archive's files.
pub(super) trait Files: Send + Sync {
    /// The directory or archive.
    fn place(&self) -> &Path;

    /// Opens a plain file; its bytes begin at `offset`.
    fn open(&self, path: &str, offset: u64) -> Result<Content, TransportError>;

    /// The content of a manifest, index or config.
    fn document(&self, path: &str) -> Result<Vec<u8>, TransportError> {
        let Content { size, bytes } = self.open(path, 0)?;
        if size > DOCUMENT_LIMIT {
            return Err(TransportError::TooLarge {
                file: path.to_owned(),
                place: self.place().to_owned(),
                size,
            });
        }
        let mut out = Vec::new();
        // It may have grown meanwhile.
        let read = bytes.take(DOCUMENT_LIMIT).read_to_end(&mut out);
        read.map_err(TransportError::io("read", self.place().join(path)))?;
        Ok(out)
    }

    /// The same, where the digest is known.
    fn verified(&self, path: &str, digest: &Digest) -> Result<Vec<u8>, TransportError> {
        let bytes = self.document(path)?;
        let actual = Digest::of(&bytes);
        match actual == *digest {
            true => Ok(bytes),
            false => Err(TransportError::Digest {
                file: path.to_owned(),
                place: self.place().to_owned(),
                actual,
            }),
        }
    }

    /// Opens a blob, which has `size` bytes.
    fn blob(&self, path: &str, size: u64, offset: u64) -> Result<Content, TransportError> {
        let content = self.open(path, offset.min(size))?;
        match content.size == size {
            true => Ok(content),
            false => Err(TransportError::Size {
                file: path.to_owned(),
                place: self.place().to_owned(),
                expected: size,
                actual: content.size,
            }),
        }
    }
}

/// JSON of a place's file.
pub(super) fn parse<T: DeserializeOwned>(
    files: &dyn Files,
    path: &str,
    bytes: &[u8],
) -> Result<T, TransportError> {
    serde_json::from_slice(bytes).map_err(|source| TransportError::Document {
        file: path.to_owned(),
        place: files.place().to_owned(),
        source,
    })
}

/// Where a layout has a blob.
pub(super) fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// The files of a directory.
pub(super) struct DirFiles {
    dir: OwnedFd,
    path: PathBuf,
}

impl DirFiles {
    pub(super) fn open(path: &Path) -> Result<Self, TransportError> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let dir = open(path, flags, Mode::empty()).map_err(TransportError::io("open", path))?;
        let path = path.to_owned();
        Ok(Self { dir, path })
    }

    /// Links within the directory are followed, those that lead out of it refused.
    fn open_beneath(&self, path: &str) -> Result<OwnedFd, Errno> {
        // Opening a pipe must not wait for its writer.
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let how = OpenHow::new()
            .flags(flags)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        match openat2(&self.dir, path, how) {
            // A seccomp filter may forbid openat2.
            Err(Errno::ENOSYS | Errno::EPERM) => {
                openat(&self.dir, path, flags | OFlag::O_NOFOLLOW, Mode::empty())
            }
            other => other,
        }
    }
}

impl Files for DirFiles {
    fn place(&self) -> &Path {
        &self.path
    }

    fn open(&self, path: &str, offset: u64) -> Result<Content, TransportError> {
        let no_file = || TransportError::NoFile {
            file: path.to_owned(),
            place: self.path.clone(),
        };
        let failed = || TransportError::io("read", self.path.join(path));
        let mut file = match self.open_beneath(path) {
            Ok(fd) => File::from(fd),
            Err(Errno::ENOENT | Errno::ENOTDIR) => {
                return Err(TransportError::Missing {
                    file: path.to_owned(),
                    place: self.path.clone(),
                });
            }
            Err(Errno::EXDEV | Errno::ELOOP | Errno::ENXIO) => return Err(no_file()),
            Err(errno) => return Err(failed()(errno.into())),
        };
        let meta = file.metadata().map_err(failed())?;
        if !meta.is_file() {
            return Err(no_file());
        }
        file.seek(SeekFrom::Start(offset)).map_err(failed())?;
        Ok(Content {
            size: meta.len(),
            bytes: Box::new(file),
        })
    }
}
