//! Layers: a tar as a blob, and the same unpacked in overlay's own format (OCI image-spec, layer.md).
//!
//! ```text
//! blobs/sha256/<hex digest>     the tar, compressed or not, byte for byte as it came or as it was made
//! layers/<hex diffID>/fs        unpacked, immutable: a lowerdir of overlay mounted with `userxattr`
//! layers/<hex diffID>/boot      and the sticky bit: it doesn't last yet (see [`unsynced`])
//! tmp/<session>/layer-N/        a layer under way: `blob` and `unpacked/fs`
//! ```
//!
//! | in the tar | unpacked |
//! |---|---|
//! | `.wh.NAME` | character device 0:0 `NAME` (or the attribute `user.overlay.whiteout`, where it can't be made) |
//! | `.wh..wh..opq` | the attribute `user.overlay.opaque` = `y` of its directory |
//! | `.wh.NAME` and a directory `NAME` | that directory, opaque |
//! | a device | an empty file with the attribute `user.rctr.device` (see [`tree`](crate::tree)) |
//! | attributes of overlay and ours | nothing: strangers may not use them |
//! | a run of zeros, a sparse file | a hole |
//!
//! [`add_layer`](crate::Store::add_layer) does all in one pass: reading, decompressing, hashing, writing the blob and
//! unpacking are threads with channels of 256 KiB pieces between them ([`add`]). [`diff`] is the way back, from an upper
//! directory to a tar.
//!
//! A layer whose root is opaque hides every layer below it; overlay itself doesn't look there. `snapshot` asks
//! [`hides_lower`](crate::Store::hides_lower).

mod add;
mod channel;
pub mod diff;
pub mod flat;
pub mod mask;
pub mod merged;
pub mod mount_points;
pub(crate) mod overlay;
mod settled;
mod stack;
#[cfg(test)]
mod tests;
mod unpack;
pub(crate) mod unsynced;
mod upper;

pub use settled::{PackedUpper, SettledUpper};
pub use upper::{KeepUpper, is_small};

pub(crate) use add::media_type_of;

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::blob::BlobError;
use crate::digest::{DiffId, Digest};
use crate::explain::Explain;
use crate::store::{Store, StoreError, hint_for_io};
use crate::tarfile::TarError;
use crate::tree::TreeError;

/// OCI image-spec, layer.md, "`+gzip` Media Types"; without suffix: a plain tar.
pub const MEDIA_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";

/// A layer that is in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LayerBlob {
    /// Of the blob as it is stored.
    pub digest: Digest,
    /// Bytes of the blob.
    pub size: u64,
    /// The OCI media type of the blob.
    pub media_type: String,
    /// Of the uncompressed tar.
    pub diff_id: DiffId,
}

impl LayerBlob {
    /// The tar in `blob`, the bytes of this layer's blob.
    pub(crate) fn decompressed(&self, blob: std::fs::File) -> io::Result<Box<dyn io::Read + Send>> {
        add::decompressed(blob)
    }
}

/// What is known of a layer before it is read; it is verified.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Expected {
    /// Of the bytes as they come.
    pub digest: Option<Digest>,
    /// Of the uncompressed tar.
    pub diff_id: Option<DiffId>,
    /// How many bytes come.
    pub size: Option<u64>,
}

/// In which form the blob is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreAs {
    /// As it comes.
    Verbatim,
    /// As a plain tar.
    Decompressed,
}

/// Why a layer can't be added or made.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// What delivers the bytes said no.
    #[error("cannot read the layer")]
    Read {
        /// The reason.
        source: io::Error,
    },
    /// Nothing came.
    #[error("the layer is empty: not a single byte came")]
    Empty,
    /// The compressed bytes are damaged or end too early.
    #[error("cannot decompress the layer ({format}): it is damaged or truncated")]
    Decompress {
        /// `gzip` or `zstd`.
        format: &'static str,
        /// The reason.
        source: io::Error,
    },
    /// A compression that layers don't have.
    #[error("the layer is compressed with {format}, which is not supported")]
    Compression {
        /// Its name, which is that of the program.
        format: &'static str,
    },
    /// The tar can't be unpacked.
    #[error("cannot unpack the layer")]
    Unpack {
        /// The reason.
        source: TreeError,
    },
    /// The upper directory can't be read.
    #[error("cannot make a layer of {}", upper.display())]
    Pack {
        /// The directory.
        upper: PathBuf,
        /// The reason.
        source: TreeError,
    },
    /// The copy of the layers can't be made.
    #[error("cannot copy the layers to {}", dir.display())]
    Flatten {
        /// Where to.
        dir: PathBuf,
        /// The reason.
        source: TreeError,
    },
    /// The changes can't be told.
    #[error("cannot compare {} with the layers below", upper.display())]
    Compare {
        /// The directory.
        upper: PathBuf,
        /// The reason.
        source: TreeError,
    },
    /// The tar stops between two entries.
    #[error("the layer is truncated: its tar has no end")]
    NoEnd,
    /// Other bytes than expected.
    #[error("the layer has the wrong digest: want {expected}, have {actual}")]
    Digest {
        /// What was asked for.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// Another tar than expected.
    #[error("the layer has the wrong diffID: want {expected}, have {actual}")]
    DiffId {
        /// What was asked for.
        expected: DiffId,
        /// What came.
        actual: DiffId,
    },
    /// More or fewer bytes than expected.
    #[error("the layer has the wrong size: want {expected} bytes, have {actual}")]
    Size {
        /// What was asked for.
        expected: u64,
        /// What came.
        actual: u64,
    },
    /// The store's file system said no.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// `create`, `write`, …
        operation: &'static str,
        /// What it was about.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The blob store said no.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The store said no.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl LayerError {
    /// For `map_err`: what was done to which path.
    fn io<E: Into<io::Error>>(
        operation: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(E) -> Self {
        let path = path.into();
        move |source| Self::Io {
            operation,
            path,
            source: source.into(),
        }
    }
}

impl Explain for LayerError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Unpack {
                source: TreeError::Tar(TarError::Header { offset: 0, .. }),
            } => Some(
                "it must be a tar, plain or compressed with gzip or zstd".to_owned(),
            ),
            Self::Unpack {
                source: TreeError::Tar(TarError::Truncated { .. }),
            } => Some("the file or the transfer was cut off: get it again".to_owned()),
            Self::Unpack { source } => source.hint().or_else(|| {
                Some(
                    "the archive is damaged or made to do harm: nothing of it was kept".to_owned(),
                )
            }),
            Self::Pack { source, .. }
            | Self::Flatten { source, .. }
            | Self::Compare { source, .. } => source.hint(),
            Self::Compression { format } => Some(format!(
                "decompress it first: `{format} -dc FILE | rctr …`"
            )),
            Self::Read { source } if source.kind() == io::ErrorKind::UnexpectedEof => {
                Some("the transfer was cut off: try again".to_owned())
            }
            Self::Decompress { .. } | Self::NoEnd | Self::Empty => {
                Some("the file or the transfer was cut off or damaged: get it again".to_owned())
            }
            Self::Digest { .. } | Self::DiffId { .. } | Self::Size { .. } => Some(
                "the bytes were damaged or exchanged on the way: get them again from a source that you trust"
                    .to_owned(),
            ),
            Self::Io { path, source, .. } => hint_for_io(path, source),
            Self::Blob(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::Read { .. } => None,
        }
    }
}

impl Store {
    /// Where the unpacked layer is, if it is: a lowerdir.
    #[must_use]
    pub fn layer_dir(&self, diff_id: &DiffId) -> PathBuf {
        self.path("layers").join(diff_id.0.hex()).join("fs")
    }

    /// Whether the layer is there, unpacked.
    #[must_use]
    pub fn has_layer(&self, diff_id: &DiffId) -> bool {
        self.layer_dir(diff_id).exists()
    }

    /// Whether the layer's root is opaque: layers below it are then no part of the image's file system.
    #[must_use]
    pub fn hides_lower(&self, diff_id: &DiffId) -> bool {
        std::fs::File::open(self.layer_dir(diff_id))
            .is_ok_and(|root| overlay::is_opaque(&root).unwrap_or(false))
    }
}
