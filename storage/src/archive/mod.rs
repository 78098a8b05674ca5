//! Images in a tar: `load`, `save` and `import`.
//!
//! What is saved is one tar that is two things at once, or the second alone:
//!
//! ```text
//! manifest.json repositories            docker's archive: which config and which layers, by path
//! oci-layout index.json blobs/sha256/…  an OCI image layout, as an archive
//! ```
//!
//! The bytes depend on the images and the names only. What is loaded may be docker's of any age since 1.10, podman's,
//! skopeo's, buildah's or any OCI layout, compressed or not, from a pipe: it is read once, from begin to end, and layers are
//! unpacked as they come. An archive is not trusted: nothing in it names a path of ours, sizes and counts are bounded,
//! and every digest is verified.

mod import;
mod load;
mod parts;
mod save;

pub use import::{ImportOptions, import};
pub use load::{Loaded, load};
pub use save::{Format, save, save_for, save_image, save_index};

pub(crate) use parts::{MAX_FILES, MAX_LINKS, clean, normal};
pub(crate) use save::repositories;

use std::io::{self, BufRead, BufReader, Read};

use serde::{Deserialize, Serialize};

use crate::blob::BlobError;
use crate::compression::Compression;
use crate::digest::{DiffId, Digest};
use crate::explain::Explain;
use crate::image::ImageError;
use crate::layer::LayerError;
use crate::reference::{InvalidReference, Reference};
use crate::store::StoreError;
use crate::tarfile::TarError;

/// What containerd, docker 25 and podman read an image's full name from.
pub(crate) const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// An image in `manifest.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct DockerEntry {
    /// A path in the archive.
    pub(crate) config: String,
    /// `name:tag`.
    #[serde(default)]
    pub(crate) repo_tags: Option<Vec<String>>,
    /// Paths in the archive, base first.
    #[serde(default)]
    pub(crate) layers: Option<Vec<String>>,
}

/// Why an archive can't be loaded or saved.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The bytes aren't a tar, or not a whole one.
    #[error("cannot read the archive")]
    Tar(#[from] TarError),
    /// Compressed, but damaged or in a way that we don't know.
    #[error("cannot decompress the archive")]
    Decompress {
        /// The reason.
        source: io::Error,
    },
    /// A tar, but of something else.
    #[error("the archive holds no image: it has neither manifest.json nor index.json")]
    NoImage,
    /// From before docker 1.10.
    #[error("the archive is of a docker older than 1.10: it has no manifest.json")]
    TooOld,
    /// More files than an archive of images has.
    #[error("the archive has more than {limit} files")]
    TooManyFiles {
        /// How many are allowed.
        limit: usize,
    },
    /// A manifest or config larger than [`DOCUMENT_LIMIT`](crate::blob::DOCUMENT_LIMIT).
    #[error("{path} in the archive has {size} bytes, more than a manifest or config may have")]
    TooLarge {
        /// Its path in the archive.
        path: String,
        /// In bytes.
        size: u64,
    },
    /// A file that others refer to.
    #[error("{path} is missing from the archive")]
    Missing {
        /// Its path in the archive.
        path: String,
    },
    /// Links that go in a circle.
    #[error("{path} in the archive is a link without an end")]
    Link {
        /// Its path in the archive.
        path: String,
    },
    /// Not JSON of the expected shape.
    #[error("{path} in the archive is no valid document")]
    Document {
        /// Its path in the archive.
        path: String,
        /// Where and why.
        source: serde_json::Error,
    },
    /// The content isn't what its name says.
    #[error("{path} in the archive has the wrong digest {actual}")]
    Digest {
        /// Its path in the archive.
        path: String,
        /// What it is.
        actual: Digest,
    },
    /// A layer isn't what the config says.
    #[error("layer {path} in the archive has diffID {actual}, the image's config wants {expected}")]
    DiffId {
        /// Its path in the archive.
        path: String,
        /// What the config says.
        expected: DiffId,
        /// What it is.
        actual: DiffId,
    },
    /// Manifest and config disagree.
    #[error("the archive has {layers} layers for an image whose config wants {diff_ids}")]
    Layers {
        /// In the manifest.
        layers: usize,
        /// In the config.
        diff_ids: usize,
    },
    /// An index without a fitting manifest.
    #[error("the archive has no image for this machine's architecture")]
    NoPlatform,
    /// A layer can't be unpacked.
    #[error("cannot unpack layer {path} of the archive")]
    Layer {
        /// Its path in the archive.
        path: String,
        /// The reason.
        source: Box<LayerError>,
    },
    /// The root file system can't be unpacked.
    #[error("cannot import the archive")]
    Import {
        /// The reason.
        source: Box<LayerError>,
    },
    /// A tag that isn't one.
    #[error("the archive names an image {text:?}")]
    Name {
        /// The name.
        text: String,
        /// Why it is none.
        source: InvalidReference,
    },
    /// Nothing to save.
    #[error("no image was named")]
    NoNames,
    /// Where the archive goes said no.
    #[error("cannot write the archive")]
    Write {
        /// The reason.
        source: io::Error,
    },
    /// An image failed.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A blob failed.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The store said no.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Explain for ArchiveError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoImage => {
                "a plain root file system is imported: rctr import FILE NAME[:TAG]".to_owned()
            }
            Self::TooOld => "load it with a newer docker and save it again".to_owned(),
            Self::Tar(TarError::Truncated { .. }) | Self::Missing { .. } => {
                "the file is incomplete: get it again".to_owned()
            }
            Self::Tar(_) | Self::Decompress { .. } => {
                "want a tar, plain or compressed by gzip, bzip2, xz or zstd, as `save` writes it"
                    .to_owned()
            }
            Self::Digest { .. } | Self::DiffId { .. } | Self::Layers { .. } => {
                "the archive is damaged or was tampered with: get it again".to_owned()
            }
            Self::Write { source } if source.kind() == io::ErrorKind::StorageFull => {
                "free space where the archive goes".to_owned()
            }
            Self::Layer { source, .. } | Self::Import { source } => return source.hint(),
            Self::Name { source, .. } => return source.hint(),
            Self::Image(error) => return error.hint(),
            Self::Blob(error) => return error.hint(),
            Self::Store(error) => return error.hint(),
            Self::TooManyFiles { .. }
            | Self::TooLarge { .. }
            | Self::Link { .. }
            | Self::Document { .. }
            | Self::NoPlatform
            | Self::NoNames
            | Self::Write { .. } => return None,
        })
    }
}

/// The bytes of `input`, decompressed if they are compressed.
pub(crate) fn decompressed<'a>(
    input: impl Read + Send + 'a,
) -> Result<Box<dyn BufRead + Send + 'a>, ArchiveError> {
    const BUFFER: usize = 1 << 17;
    let fail = |source| ArchiveError::Decompress { source };
    let mut input = BufReader::with_capacity(BUFFER, input);
    let compression = Compression::of(input.fill_buf().map_err(fail)?);
    if compression == Compression::None {
        return Ok(Box::new(input));
    }
    let plain = compression.reader(input).map_err(fail)?;
    Ok(Box::new(BufReader::with_capacity(BUFFER, plain)))
}

/// A layer's bytes: what layers can't be compressed by is decompressed.
fn as_layer<'a>(input: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut input = BufReader::with_capacity(1 << 17, input);
    match Compression::of(input.fill_buf()?) {
        foreign @ (Compression::Bzip2 | Compression::Xz) => foreign.reader(input),
        _ => Ok(Box::new(input)),
    }
}

fn parse_name(text: &str) -> Result<Reference, ArchiveError> {
    Reference::parse(text).map_err(|source| ArchiveError::Name {
        text: text.to_owned(),
        source,
    })
}
