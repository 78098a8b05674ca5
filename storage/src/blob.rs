//! Blobs: files named by the digest of their content (OCI image-spec, image-layout.md, "Blobs").

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use crate::atomic::{self, Durability};
use crate::digest::{Digest, Hasher};
use crate::explain::Explain;
use crate::session::Pin;
use crate::store::{Store, StoreError, hint_for_io};

/// Manifests, indexes and configs are never larger: 16 MiB.
pub const DOCUMENT_LIMIT: u64 = 16 << 20;

/// Why a blob can't be had.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// Not in the store.
    #[error("blob {digest} is missing from the store")]
    Missing {
        /// Which.
        digest: Digest,
    },
    /// The content isn't what its name says.
    #[error("wrong digest: want {expected}, have {actual}")]
    Mismatch {
        /// What was asked for.
        expected: Digest,
        /// What it is.
        actual: Digest,
    },
    /// A manifest or config larger than [`DOCUMENT_LIMIT`].
    #[error("{digest} has {size} bytes, more than a manifest or config may have")]
    TooLarge {
        /// Which.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
    },
    /// The file system said no.
    #[error("cannot {operation} blob {}", path.display())]
    Io {
        /// `read` or `write`.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The store said no.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Explain for BlobError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { .. } | Self::Mismatch { .. } | Self::TooLarge { .. } => Some(
                "run `rctr system check --repair`, then load or pull the image again".to_owned(),
            ),
            Self::Io { path, source, .. } => hint_for_io(path, source),
            Self::Store(error) => error.hint(),
        }
    }
}

impl Store {
    /// Where the blob is, if it is.
    #[must_use]
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.path("blobs/sha256").join(digest.hex())
    }

    /// Whether the blob is there.
    #[must_use]
    pub fn has_blob(&self, digest: &Digest) -> bool {
        self.blob_path(digest).exists()
    }

    /// Opens a blob for reading; what is read isn't verified.
    ///
    /// # Errors
    /// When it isn't there or can't be read.
    pub fn open_blob(&self, digest: &Digest) -> Result<File, BlobError> {
        let path = self.blob_path(digest);
        File::open(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => BlobError::Missing { digest: *digest },
            _ => BlobError::Io {
                operation: "read",
                path,
                source,
            },
        })
    }

    /// The content of a manifest, index or config, verified.
    ///
    /// # Errors
    /// When it isn't there, is larger than [`DOCUMENT_LIMIT`] or not what its digest says.
    pub fn read_document(&self, digest: &Digest) -> Result<Vec<u8>, BlobError> {
        let file = self.open_blob(digest)?;
        let io = |source| BlobError::Io {
            operation: "read",
            path: self.blob_path(digest),
            source,
        };
        let size = file.metadata().map_err(io)?.len();
        if size > DOCUMENT_LIMIT {
            return Err(BlobError::TooLarge {
                digest: *digest,
                size,
            });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        file.take(DOCUMENT_LIMIT)
            .read_to_end(&mut bytes)
            .map_err(io)?;
        let actual = Digest::of(&bytes);
        if actual != *digest {
            return Err(BlobError::Mismatch {
                expected: *digest,
                actual,
            });
        }
        Ok(bytes)
    }

    /// Stores a manifest, index or config. It is pinned until the store is dropped.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn put_document(&self, bytes: &[u8]) -> Result<Digest, BlobError> {
        let digest = Digest::of(bytes);
        self.pin(&[Pin::Blob(digest)])?;
        // One of another size is damaged: this mends it.
        let there = fs::metadata(self.blob_path(&digest));
        if there.is_ok_and(|meta| meta.len() == bytes.len() as u64) {
            return Ok(digest);
        }
        let mut writer = self.blob_writer()?;
        writer.write_all(bytes).map_err(|source| BlobError::Io {
            operation: "write",
            path: self.blob_path(&digest),
            source,
        })?;
        let (digest, _) = writer.finish(Some(&digest))?;
        Ok(digest)
    }

    /// A new blob, to be written and then [finished](BlobWriter::finish).
    ///
    /// # Errors
    /// When `tmp/` can't be written to.
    pub fn blob_writer(&self) -> Result<BlobWriter<'_>, BlobError> {
        let path = self.temp_path("blob")?;
        let file = File::create(&path).map_err(|source| BlobError::Io {
            operation: "write",
            path: path.clone(),
            source,
        })?;
        Ok(BlobWriter {
            store: self,
            path,
            file: BufWriter::with_capacity(1 << 17, file),
            hasher: Hasher::new(),
            size: 0,
        })
    }

    /// Makes the file at `temp` (from [`Store::temp_path`], written and synced) the blob `digest`, and pins it.
    ///
    /// # Errors
    /// When it can't be moved.
    pub fn publish_blob(&self, temp: &Path, digest: &Digest) -> Result<(), BlobError> {
        self.publish_blob_as(temp, digest, Durability::Fsync)
    }

    /// The same, for one that needn't last yet.
    pub(crate) fn publish_blob_as(
        &self,
        temp: &Path,
        digest: &Digest,
        durability: Durability,
    ) -> Result<(), BlobError> {
        self.pin(&[Pin::Blob(*digest)])?;
        let path = self.blob_path(digest);
        fs::rename(temp, &path).map_err(|source| BlobError::Io {
            operation: "write",
            path: path.clone(),
            source,
        })?;
        Ok(atomic::sync_parent(&path, durability)?)
    }
}

/// A blob that is being written. Dropped before it is finished, it was never there.
pub struct BlobWriter<'s> {
    store: &'s Store,
    path: PathBuf,
    file: BufWriter<File>,
    hasher: Hasher,
    size: u64,
}

impl BlobWriter<'_> {
    /// Publishes the blob; it is pinned until the store is dropped. Returns its digest and size in bytes.
    ///
    /// # Errors
    /// When it isn't `expected`, or can't be written.
    pub fn finish(mut self, expected: Option<&Digest>) -> Result<(Digest, u64), BlobError> {
        let io = |source| BlobError::Io {
            operation: "write",
            path: self.path.clone(),
            source,
        };
        self.file.flush().map_err(io)?;
        let hasher = std::mem::take(&mut self.hasher);
        let actual = hasher.finish();
        if let Some(expected) = expected
            && *expected != actual
        {
            return Err(BlobError::Mismatch {
                expected: *expected,
                actual,
            });
        }
        self.file.get_ref().sync_data().map_err(io)?;
        self.store.publish_blob(&self.path, &actual)?;
        Ok((actual, self.size))
    }
}

impl Write for BlobWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for BlobWriter<'_> {
    fn drop(&mut self) {
        // After `finish` nothing is there; else the session's end would clear it as well.
        let _ = fs::remove_file(&self.path);
    }
}
