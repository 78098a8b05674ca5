//! Why a transfer fails.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;

use super::PlaceError;
use crate::blob::BlobError;
use crate::digest::{DiffId, Digest};
use crate::explain::Explain;
use crate::image::ImageError;
use crate::layer::LayerError;
use crate::store::{StoreError, hint_for_io};

/// A [`PlaceError`] as the cause of another error.
#[derive(Debug)]
pub struct Cause(pub PlaceError);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Error for Cause {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

/// Why an image doesn't get from one place to another.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The source has no such manifest, or doesn't give it.
    #[error("cannot get the manifest of {place}")]
    Manifest {
        /// The source.
        place: String,
        /// The reason.
        source: Cause,
    },
    /// The source doesn't give a blob.
    #[error("cannot get blob {digest} from {place}")]
    Blob {
        /// Which.
        digest: Digest,
        /// The source.
        place: String,
        /// The reason.
        source: Cause,
    },
    /// The connection broke too often; what has come is kept.
    #[error(
        "cannot get blob {digest} from {place}: {have} of {size} bytes came, and then it broke again and again"
    )]
    Broken {
        /// Which.
        digest: Digest,
        /// The source.
        place: String,
        /// Bytes that are here.
        have: u64,
        /// Bytes that it has.
        size: u64,
        /// The last of the reasons.
        source: io::Error,
    },
    /// What the source has is no build cache that we can read.
    #[error("{place} holds no build cache of rctr")]
    NoCache {
        /// The source.
        place: String,
    },
    /// The target doesn't take a blob.
    #[error("cannot put blob {digest} to {place}")]
    PutBlob {
        /// Which.
        digest: Digest,
        /// The target.
        place: String,
        /// The reason.
        source: Cause,
    },
    /// The target doesn't take the manifest, or can't be completed.
    #[error("cannot put the manifest to {place}")]
    PutManifest {
        /// The target.
        place: String,
        /// The reason.
        source: Cause,
    },
    /// The source gave other bytes than it was asked for.
    #[error("{place} gave wrong bytes: want {expected}, have {actual}")]
    Digest {
        /// The source.
        place: String,
        /// What was asked for.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// More bytes than the descriptor says.
    #[error("blob {digest} from {place} is larger than the {size} bytes that its manifest says")]
    TooLong {
        /// Which.
        digest: Digest,
        /// The source.
        place: String,
        /// Bytes it should have.
        size: u64,
    },
    /// A manifest or config that is larger than one may be.
    #[error(
        "the {what} {digest} of {place} has {size} bytes, more than a manifest or config may have"
    )]
    DocumentSize {
        /// `manifest` or `config`.
        what: &'static str,
        /// Which.
        digest: Digest,
        /// The source.
        place: String,
        /// Its size in bytes.
        size: u64,
    },
    /// A manifest or config that isn't one.
    #[error("the {what} {digest} of {place} is no valid document")]
    Document {
        /// `manifest` or `config`.
        what: &'static str,
        /// Which.
        digest: Digest,
        /// The source.
        place: String,
        /// Where and why.
        source: serde_json::Error,
    },
    /// What docker wrote before 1.10.
    #[error("{place} is in the format of manifests that docker gave up (schema 1)")]
    Schema1 {
        /// The source.
        place: String,
    },
    /// Something else than a container image.
    #[error("{place} is no container image, it is an artifact of type {kind}")]
    Artifact {
        /// The source.
        place: String,
        /// Its media type.
        kind: String,
    },
    /// A layer that is no tar.
    #[error("layer {digest} of {place} is of the unknown type {media_type}")]
    LayerType {
        /// Which.
        digest: Digest,
        /// The source.
        place: String,
        /// What the manifest says.
        media_type: String,
    },
    /// More layers than an image may have.
    #[error("{place} has {layers} layers, more than the {limit} that an image may have")]
    TooManyLayers {
        /// The source.
        place: String,
        /// How many.
        layers: usize,
        /// At most.
        limit: usize,
    },
    /// Manifest and config disagree.
    #[error("{place} has {layers} layers in its manifest and {diff_ids} in its config")]
    Layers {
        /// The source.
        place: String,
        /// In the manifest.
        layers: usize,
        /// In the config.
        diff_ids: usize,
    },
    /// One blob that is to be two different layers.
    #[error("{place} has blob {digest} for two layers: {first} and {second}")]
    TwoDiffIds {
        /// The source.
        place: String,
        /// The blob.
        digest: Digest,
        /// According to the config.
        first: DiffId,
        /// According to the config.
        second: DiffId,
    },
    /// Not for that platform.
    #[error("no matching manifest for {wanted} in {place}: it is for {}", available.join(", "))]
    NoPlatform {
        /// The source.
        place: String,
        /// `os/architecture[/variant]`.
        wanted: String,
        /// Those that there are.
        available: Vec<String>,
    },
    /// More images in an index than there may be.
    #[error(
        "the index of {place} lists {manifests} images, more than the {limit} that it may have"
    )]
    TooManyManifests {
        /// The source.
        place: String,
        /// How many.
        manifests: usize,
        /// At most.
        limit: usize,
    },
    /// There is no index.
    #[error("{name} is an image for one platform, no index")]
    NoIndex {
        /// The image.
        name: String,
    },
    /// An index in an index in an index …
    #[error("the index of {place} is nested too deeply")]
    Nested {
        /// The source.
        place: String,
    },
    /// A layer can't be added.
    #[error("cannot unpack layer {digest}")]
    Layer {
        /// Its blob.
        digest: Digest,
        /// The reason.
        source: Box<LayerError>,
    },
    /// A layer can't be compressed.
    #[error("cannot compress layer {diff_id}")]
    Compress {
        /// Which.
        diff_id: DiffId,
        /// The reason.
        source: io::Error,
    },
    /// The store's file system said no.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// `write`, …
        operation: &'static str,
        /// What it was about.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Something about an image of the store.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The blob store said no.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another layer of the same image has failed, which is told.
    #[error("the transfer was stopped")]
    Stopped,
}

impl From<BlobError> for TransferError {
    fn from(error: BlobError) -> Self {
        Self::Image(error.into())
    }
}

impl TransferError {
    /// Whether the source has nothing of that name.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Manifest { source, .. } if source.0.is_not_found())
    }

    /// For `map_err`: what was done to which path.
    pub(super) fn io(
        operation: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            operation,
            path,
            source,
        }
    }
}

impl Explain for TransferError {
    fn hint(&self) -> Option<String> {
        let words = match self {
            Self::Manifest { source, .. }
            | Self::Blob { source, .. }
            | Self::PutBlob { source, .. }
            | Self::PutManifest { source, .. } => return source.0.hint(),
            Self::Broken { .. } => "what has come is kept: the next attempt goes on from there",
            Self::Digest { .. } | Self::TooLong { .. } => {
                "the bytes were damaged or exchanged on the way, or the place is broken: try again, or get the image from a source that you trust"
            }
            Self::DocumentSize { .. }
            | Self::Document { .. }
            | Self::TooManyLayers { .. }
            | Self::TooManyManifests { .. }
            | Self::Layers { .. }
            | Self::TwoDiffIds { .. }
            | Self::Nested { .. } => "the image is damaged: whoever made it has to make it again",
            Self::Schema1 { .. } => "push it again with a docker that is newer than 1.10",
            Self::Artifact { .. } => {
                "there is nothing in it to run; a tool for such artifacts, such as oras, can fetch it"
            }
            Self::LayerType { .. } => "layers are tars, plain or compressed with gzip or zstd",
            Self::NoPlatform { available, .. } => {
                return available.first().map(|platform| {
                    format!("choose one with --platform, for example --platform {platform}")
                });
            }
            Self::Layer { source, .. } => return source.hint(),
            Self::NoIndex { .. } => {
                "leave --all-platforms out, or pull the image with --all-platforms first"
            }
            Self::NoCache { .. } => "write one there with --cache-to",
            Self::Compress { .. } | Self::Stopped => return None,
            Self::Io { path, source, .. } => return hint_for_io(path, source),
            Self::Image(error) => return error.hint(),
            Self::Store(error) => return error.hint(),
        };
        Some(words.to_owned())
    }
}
