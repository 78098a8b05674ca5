//! Images from one place to another: pull, push, copy.
//!
//! A place that images come from is a [`Source`], one that they go to a [`Target`]: a registry, an OCI layout, an archive, a
//! directory. What goes between them is verified here, whatever the place says.
//!
//! | file | what is there |
//! |---|---|
//! | [`pull`](mod@pull) | from a source into the store: layers at once, unpacked while they come |
//! | [`partial`], [`fetch`] | blobs that came in part, and the stream that goes on from there |
//! | [`push`](mod@push) | from the store to a target |
//! | [`copy`](mod@copy) | from place to place |
//! | [`look`](mod@look) | what a source has, without its layers |
//! | [`content`], [`compress`] | what is sent: a blob as it is, or a layer compressed anew, on all cores |
//! | [`documents`] | manifest and config, and which one of an index |
//! | [`cache`] | a build cache that travels |
//! | [`retry`] | how often, after which pause |

pub mod cache;
mod compress;
mod content;
mod copy;
mod documents;
mod error;
mod fetch;
mod jobs;
mod look;
mod mounts;
pub(crate) mod partial;
mod pull;
mod push;
mod retry;

pub use copy::{CopyOptions, copy};
pub use error::{Cause, TransferError};
pub use look::{look, look_at_image};
pub use pull::{PullOptions, Pulled, pull};
pub use push::{Compression, PushOptions, Pushed, push, push_index};
pub use retry::Patience;

use std::io::{self, Read};

use crate::digest::Digest;
use crate::manifest::Descriptor;
use crate::reference::Reference;

/// Why something can't be had from a source or given to a target.
pub type PlaceError = Box<dyn PlaceFailure>;

/// An error of a place.
pub trait PlaceFailure: crate::explain::Explain + Send + Sync {
    /// Whether there is nothing of that name or digest, and asking again won't help.
    fn is_not_found(&self) -> bool {
        false
    }

    /// Whether the same may work a moment later: a connection broke, a server was overloaded.
    fn is_transient(&self) -> bool {
        false
    }
}

/// A manifest or index as it was received: its bytes are its identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawManifest {
    /// At most [`DOCUMENT_LIMIT`](crate::blob::DOCUMENT_LIMIT).
    pub bytes: Vec<u8>,
    /// As the place or the document said.
    pub media_type: String,
    /// Of `bytes`, computed here.
    pub digest: Digest,
}

/// A blob's bytes.
pub struct BlobStream {
    /// Where in the blob the bytes begin, in bytes: a server that knows no ranges begins at 0.
    pub offset: u64,
    /// Not verified. It may end early.
    pub bytes: Box<dyn Read + Send>,
}

/// Where images come from.
pub trait Source: Sync {
    /// As shown to the user.
    fn shown(&self) -> String;

    /// The manifest or index that the source's name stands for, or with `digest` one that an index names.
    ///
    /// # Errors
    /// When it can't be had, or `digest` is given and isn't that of the bytes.
    fn manifest(&self, digest: Option<&Digest>) -> Result<RawManifest, PlaceError>;

    /// Opens a blob at `offset` or before.
    ///
    /// # Errors
    /// When it can't be had.
    fn blob(&self, descriptor: &Descriptor, offset: u64) -> Result<BlobStream, PlaceError>;

    /// The registry and repository, for `repository@digest`.
    fn repository(&self) -> Option<Reference> {
        None
    }
}

/// A blob that is to be given to a target; it may be asked for more than once.
pub trait BlobContent: Sync {
    /// In bytes.
    fn size(&self) -> u64;

    /// The bytes from `offset`.
    ///
    /// # Errors
    /// When they can't be read.
    fn open(&self, offset: u64) -> io::Result<Box<dyn Read + Send + '_>>;
}

/// How a blob came to its target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Put {
    /// It was there.
    Present,
    /// The registry took it from another of its repositories.
    Mounted(Reference),
    /// Its bytes were sent.
    Sent,
}

/// Where images go.
pub trait Target: Sync {
    /// As shown to the user.
    fn shown(&self) -> String;

    /// Makes sure that the target has the blob: looks whether it is there, tries to take it from `mount_from`
    /// (repositories of the same registry that may have it), else sends it. `sent` is told how many bytes have gone.
    ///
    /// # Errors
    /// When the target doesn't take it.
    fn put_blob(
        &self,
        descriptor: &Descriptor,
        content: &dyn BlobContent,
        mount_from: &[Reference],
        sent: &dyn Fn(u64),
    ) -> Result<Put, PlaceError>;

    /// Puts a manifest whose blobs are there: under the target's name, or `named == false` by its digest only.
    ///
    /// # Errors
    /// When the target doesn't take it.
    fn put_manifest(&self, manifest: &RawManifest, named: bool) -> Result<(), PlaceError>;

    /// All is there: an archive gets its end.
    ///
    /// # Errors
    /// When the target can't be completed.
    fn finish(&self) -> Result<(), PlaceError> {
        Ok(())
    }

    /// The registry and repository.
    fn repository(&self) -> Option<Reference> {
        None
    }
}

/// What happens to a blob on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It is wanted: its size in bytes.
    Waiting(u64),
    /// It is here, or there, already.
    Exists,
    /// So many bytes have come; the first time with those that an earlier, broken run left.
    Downloading(u64),
    /// Another process is fetching it; ours waits.
    Shared,
    /// All bytes are here; it is being unpacked.
    Extracting,
    /// Here, verified and unpacked.
    Pulled,
    /// So many bytes have gone.
    Pushing(u64),
    /// There.
    Pushed,
    /// The registry took it from that repository.
    Mounted(Reference),
    /// It broke and is tried again: why.
    Retrying(String),
}

/// Who is told how it goes; called from several threads.
pub trait Progress: Sync {
    /// Something happened to the blob `digest`.
    fn blob(&self, digest: &Digest, step: Step);
}

/// A `Progress` that tells nobody.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Progress for Silent {
    fn blob(&self, _: &Digest, _: Step) {}
}

/// How many blobs go at once, where nothing is said: 3 as docker does, fewer on a smaller machine.
#[must_use]
pub fn default_jobs() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    cores.clamp(1, 3)
}
