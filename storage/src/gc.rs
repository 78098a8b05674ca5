//! What nothing refers to is deleted here, and nowhere else.
//!
//! Roots: the manifests and indexes in `index.json` with what they refer to, as far as it is here; the layers that containers stand on and the configs
//! of their images; the layers of the [build cache](crate::cache); the pins of living [sessions](crate::session). If a root can't be read nothing is deleted: what it
//! refers to isn't known. [`Store::check`] repairs that.

use std::collections::HashSet;
use std::fs;
use std::io;

use crate::atomic;
use crate::blob::BlobError;
use crate::digest::{DiffId, Digest};
use crate::image::ImageError;
use crate::lock::StoreLock;
use crate::manifest::{Descriptor, Document, Index};
use crate::record::ContainerRecord;
use crate::session::Pin;
use crate::store::{Store, StoreError};
use crate::tree::remove_tree;

/// What was deleted.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Freed {
    /// Layers, by diffID.
    pub layers: Vec<DiffId>,
    /// Blobs.
    pub blobs: Vec<Digest>,
    /// Bytes of both, and of what broken pulls have left.
    pub bytes: u64,
}

/// What must stay.
#[derive(Debug, Default)]
pub(crate) struct Roots {
    pub(crate) blobs: HashSet<Digest>,
    pub(crate) layers: HashSet<DiffId>,
}

impl Roots {
    /// Reads all roots. `dead`: sessions whose pins don't count.
    pub(crate) fn read(store: &Store, dead: &[String]) -> Result<Self, ImageError> {
        let mut roots = Self::listed(store)?;
        roots.add_pins(store, dead)?;
        for layer in store.cached_layers()? {
            roots.blobs.insert(layer.digest);
            roots.layers.insert(layer.diff_id);
        }
        Ok(roots)
    }

    /// Those of images and containers.
    pub(crate) fn listed(store: &Store) -> Result<Self, ImageError> {
        let mut roots = Self::default();
        let index: Index = atomic::read_json(&store.path("index.json"))?;
        for descriptor in &index.manifests {
            roots.add_document(store, descriptor, 0)?;
        }
        for id in store.container_ids()? {
            let path = store.container_dir(&id).join("record.json");
            match atomic::read_json::<ContainerRecord>(&path) {
                Ok(record) => {
                    roots.blobs.insert(record.image);
                    roots.layers.extend(record.layers.into_iter().map(DiffId));
                }
                // Removed in this moment.
                Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(roots)
    }

    /// Those of living sessions.
    pub(crate) fn add_pins(&mut self, store: &Store, dead: &[String]) -> Result<(), StoreError> {
        for pin in store.pins(dead)? {
            match pin {
                Pin::Blob(digest) => _ = self.blobs.insert(digest),
                Pin::Layer(diff_id) => _ = self.layers.insert(diff_id),
                Pin::Volume(_) => {}
            }
        }
        Ok(())
    }

    fn add_document(
        &mut self,
        store: &Store,
        descriptor: &Descriptor,
        depth: u32,
    ) -> Result<(), ImageError> {
        if !self.blobs.insert(descriptor.digest) || depth > 4 {
            return Ok(());
        }
        let bytes = match store.read_document(&descriptor.digest) {
            // An index lists manifests of other platforms that nobody has fetched.
            Err(BlobError::Missing { .. }) if depth > 0 => return Ok(()),
            other => other?,
        };
        let document = Document::parse(&bytes).map_err(|source| ImageError::Document {
            what: "manifest",
            digest: descriptor.digest,
            source,
        })?;
        match document {
            Document::Index(index) => {
                for inner in &index.manifests {
                    self.add_document(store, inner, depth + 1)?;
                }
            }
            Document::Manifest(manifest) => {
                self.blobs.insert(manifest.config.digest);
                self.blobs.extend(manifest.layers.iter().map(|l| l.digest));
                match store.read_config(&manifest.config.digest) {
                    Ok(config) => self.layers.extend(config.rootfs.diff_ids),
                    // An index may list what is no image, or is here as a manifest only: it has no layers then.
                    Err(
                        ImageError::Blob(BlobError::Missing { .. }) | ImageError::Document { .. },
                    ) if depth > 0 => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}

impl Store {
    /// Deletes what nothing refers to. Needs ids.
    ///
    /// # Errors
    /// When a root can't be read: nothing is deleted then.
    pub fn sweep(&self) -> Result<Freed, ImageError> {
        self.session()?;
        sweep(self.lock()?, &[])
    }
}

impl Store {
    /// After a failed addition, or when what was to be used has been removed: forgets what this store's session has pinned, and deletes what nothing refers to. Needs
    /// ids.
    ///
    /// # Errors
    /// As [`Store::sweep`].
    pub fn abandon(&self) -> Result<Freed, ImageError> {
        self.unpin()?;
        self.sweep()
    }
}

/// Deletes what nothing refers to. The lock is held while it is decided and taken away, not while files are deleted.
pub(crate) fn sweep(held: StoreLock<'_>, dead: &[String]) -> Result<Freed, ImageError> {
    let store = held.store;
    let roots = Roots::read(store, dead)?;
    let mut freed = Freed::default();
    for digest in store.blob_digests()? {
        if roots.blobs.contains(&digest) {
            continue;
        }
        let path = store.blob_path(&digest);
        let size = fs::metadata(&path).map_or(0, |meta| meta.len());
        fs::remove_file(&path).map_err(StoreError::io("remove", path))?;
        freed.blobs.push(digest);
        freed.bytes += size;
    }
    let mut trash = Vec::new();
    for diff_id in store.layer_diff_ids()? {
        if roots.layers.contains(&diff_id) {
            continue;
        }
        freed.bytes += store.layer_size(&diff_id);
        let path = store.path("layers").join(diff_id.0.hex());
        let gone = store.temp_path("removed-layer")?;
        fs::rename(&path, &gone).map_err(StoreError::io("remove", path))?;
        freed.layers.push(diff_id);
        trash.push(gone);
    }
    drop(held);
    freed.bytes += store.sweep_partials(crate::transfer::partial::KEPT);
    for path in trash {
        // What can't be deleted now stays in the session's directory and is tried again by later ones.
        let _ = remove_tree(&path);
    }
    Ok(freed)
}

impl Store {
    /// What a sweep would delete.
    pub(crate) fn garbage(&self) -> Result<(Vec<Digest>, Vec<DiffId>), ImageError> {
        let roots = Roots::read(self, &[])?;
        let mut blobs = self.blob_digests()?;
        blobs.retain(|digest| !roots.blobs.contains(digest));
        let mut layers = self.layer_diff_ids()?;
        layers.retain(|diff_id| !roots.layers.contains(diff_id));
        Ok((blobs, layers))
    }

    pub(crate) fn blob_digests(&self) -> Result<Vec<Digest>, StoreError> {
        self.hex_entries("blobs/sha256")
    }

    pub(crate) fn layer_diff_ids(&self) -> Result<Vec<DiffId>, StoreError> {
        Ok(self
            .hex_entries("layers")?
            .into_iter()
            .map(DiffId)
            .collect())
    }

    fn hex_entries(&self, part: &str) -> Result<Vec<Digest>, StoreError> {
        let dir = self.path(part);
        let mut digests = Vec::new();
        for entry in fs::read_dir(&dir).map_err(StoreError::io("read", &dir))? {
            let entry = entry.map_err(StoreError::io("read", &dir))?;
            let name = entry.file_name();
            digests.extend(name.to_str().and_then(|name| Digest::from_hex(name).ok()));
        }
        digests.sort();
        Ok(digests)
    }
}
