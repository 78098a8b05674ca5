//! Why a place can't be read or written.

use std::io;
use std::path::{Path, PathBuf};

use crate::archive::ArchiveError;
use crate::blob::DOCUMENT_LIMIT;
use crate::digest::Digest;
use crate::explain::Explain;
use crate::tarfile::TarError;
use crate::transfer::{PlaceError, PlaceFailure};

/// Why a layout, an archive or a directory can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The file system said no.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// `read`, `write`, …
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No tar, or a damaged one.
    #[error("cannot read {}", path.display())]
    Tar {
        /// The archive.
        path: PathBuf,
        /// Why.
        source: TarError,
    },
    /// Compressed, and damaged.
    #[error("cannot read {}", path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// Why.
        source: Box<ArchiveError>,
    },
    /// More than an archive of images has.
    #[error("{} has more than {limit} files", path.display())]
    TooManyFiles {
        /// The archive.
        path: PathBuf,
        /// How many it may have.
        limit: usize,
    },
    /// It isn't there.
    #[error("{file} is missing from {}", place.display())]
    Missing {
        /// What should be there.
        file: String,
        /// The directory or archive.
        place: PathBuf,
    },
    /// A directory, a device, or a link that leads out.
    #[error("{file} in {} is no plain file", place.display())]
    NoFile {
        /// What should be one.
        file: String,
        /// The directory or archive.
        place: PathBuf,
    },
    /// A manifest or config that is too large.
    #[error("{file} in {} has {size} bytes: a manifest or config has at most {DOCUMENT_LIMIT}", place.display())]
    TooLarge {
        /// Which.
        file: String,
        /// The directory or archive.
        place: PathBuf,
        /// In bytes.
        size: u64,
    },
    /// Not JSON of the expected shape.
    #[error("{file} in {} is no valid document", place.display())]
    Document {
        /// Which.
        file: String,
        /// The directory or archive.
        place: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// The content isn't what its name says.
    #[error("{file} in {} is damaged: it has the digest {actual}", place.display())]
    Digest {
        /// Which.
        file: String,
        /// The directory or archive.
        place: PathBuf,
        /// What it is.
        actual: Digest,
    },
    /// Longer or shorter than the manifest says.
    #[error("{file} in {} is damaged: it has {actual} bytes instead of {expected}", place.display())]
    Size {
        /// Which.
        file: String,
        /// The directory or archive.
        place: PathBuf,
        /// In bytes.
        expected: u64,
        /// In bytes.
        actual: u64,
    },
    /// Manifest and config disagree.
    #[error("{} has {layers} layers for an image whose config wants {diff_ids}", place.display())]
    Layers {
        /// The archive.
        place: PathBuf,
        /// In the manifest.
        layers: usize,
        /// In the config.
        diff_ids: usize,
    },
    /// There are images, but not this one.
    #[error("{} has no image {name}", place.display())]
    NoImage {
        /// The directory or archive.
        place: PathBuf,
        /// What was asked for.
        name: String,
        /// What there is.
        names: Vec<String>,
    },
    /// None was named, and there isn't just one.
    #[error("{} has {count} images, and none is named", place.display())]
    WhichImage {
        /// The directory or archive.
        place: PathBuf,
        /// How many.
        count: usize,
        /// What can be named.
        names: Vec<String>,
    },
    /// A target that is something else.
    #[error("{} is neither empty nor {wanted}", dir.display())]
    OtherDirectory {
        /// The directory.
        dir: PathBuf,
        /// What it should be.
        wanted: &'static str,
    },
    /// A docker archive for several platforms.
    #[error("a docker archive holds no image of several platforms")]
    Index,
    /// What is to be written isn't what it was said to be.
    #[error("blob {digest} changed on its way: {problem}")]
    Changed {
        /// What it should be.
        digest: Digest,
        /// What it is.
        problem: String,
    },
    /// What is to be written can't be read.
    #[error("cannot read blob {digest}")]
    Content {
        /// Which.
        digest: Digest,
        /// Why.
        source: io::Error,
    },
    /// An earlier failure has left half a file in a pipe.
    #[error("{} can't be completed: a blob broke off within it", path.display())]
    BrokenPipe {
        /// The pipe.
        path: PathBuf,
    },
}

impl TransportError {
    /// The file system said no to `operation` on `path`.
    pub(super) fn io<E: Into<io::Error>>(
        operation: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(E) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Io {
            operation,
            path,
            source: source.into(),
        }
    }
}

impl Explain for TransportError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Io { path, source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    format!("free space where {} is", path.display())
                }
                io::ErrorKind::NotFound => "check the path".to_owned(),
                io::ErrorKind::PermissionDenied => {
                    format!("check owner and mode of {}", path.display())
                }
                _ => return None,
            },
            Self::Archive { source, .. } => return source.hint(),
            Self::Tar { .. } => "want a tar, plain or compressed, as `save` writes it".to_owned(),
            Self::NoImage { names, .. } | Self::WhichImage { names, .. } if !names.is_empty() => {
                format!("name one of: {}", names.join(", "))
            }
            Self::WhichImage { .. } => "name one by its number, from @0 on".to_owned(),
            Self::Missing { .. } => "is it complete, and of this kind?".to_owned(),
            Self::Document { .. }
            | Self::Digest { .. }
            | Self::Size { .. }
            | Self::Layers { .. } => "it is damaged or was tampered with: get it again".to_owned(),
            Self::OtherDirectory { .. } => "name a new directory".to_owned(),
            Self::Index => "name one platform, or use oci-archive:FILE".to_owned(),
            Self::NoImage { .. }
            | Self::TooManyFiles { .. }
            | Self::NoFile { .. }
            | Self::TooLarge { .. }
            | Self::Changed { .. }
            | Self::Content { .. }
            | Self::BrokenPipe { .. } => return None,
        })
    }
}

impl PlaceFailure for TransportError {
    fn is_not_found(&self) -> bool {
        match self {
            Self::Missing { .. } | Self::NoImage { .. } => true,
            Self::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
            _ => false,
        }
    }
}

impl From<TransportError> for PlaceError {
    fn from(error: TransportError) -> Self {
        Box::new(error)
    }
}
