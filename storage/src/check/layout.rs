//! The store's own files, and what doesn't belong there.

use std::fs;
use std::path::Path;

use super::{Check, Repair};
use crate::atomic;
use crate::image::ImageError;
use crate::index::Catalog;
use crate::manifest::{Descriptor, Document, Index};
use crate::store::{DIRECTORIES, Store, StoreError};
use crate::tree::remove_tree;

impl Check<'_> {
    /// Directories, `oci-layout` and `index.json`. `false`: without them nothing more can be looked at.
    pub(super) fn layout(&mut self) -> Result<bool, ImageError> {
        for name in DIRECTORIES {
            if !self.store.path(name).is_dir() {
                self.mend(name, "the directory is missing", |store| {
                    store.create().map(|()| "made anew".to_owned())
                })?;
            }
        }
        let oci = self.store.path("oci-layout");
        if atomic::read_json::<serde_json::Value>(&oci)
            .is_ok_and(|layout| layout["imageLayoutVersion"] == "1.0.0")
        {
            // As it should be.
        } else {
            self.mend("oci-layout", "it is missing or damaged", |store| {
                // Nothing there is fine as well.
                let _ = fs::remove_file(&oci);
                store.create().map(|()| "made anew".to_owned())
            })?;
        }
        if atomic::read_json::<Index>(&self.store.path("index.json")).is_err() {
            self.mend("index.json", "it is missing or damaged", rebuild_index)?;
        }
        Ok(self.repair == Repair::Yes || self.report.problems.is_empty())
    }

    /// `tmp/` and unfinished files elsewhere.
    pub(super) fn leftovers(&mut self) -> Result<(), ImageError> {
        // A repairing check is a command that writes: its session clears what dead ones have left.
        let living = match self.repair {
            Repair::Yes => {
                self.store.session()?;
                self.store.living_sessions()?
            }
            Repair::No => self.store.living_sessions()?,
        };
        for name in names(&self.store.path("tmp"))? {
            let session = name.strip_suffix(".lock").unwrap_or(&name);
            if !living.iter().any(|living| living == session) {
                let path = self.store.path("tmp").join(&name);
                self.remove(&format!("tmp/{name}"), &path)?;
            }
        }
        let mut places = vec![String::new()];
        for part in ["containers", "volumes"] {
            let inner = names(&self.store.path(part))?;
            places.extend(inner.into_iter().map(|name| format!("{part}/{name}")));
        }
        for place in places {
            let dir = self.store.path(&place);
            for name in names(&dir).unwrap_or_default() {
                // One that is being written now is there for less than this.
                let path = dir.join(&name);
                if name.ends_with(".new") && is_older_than_a_minute(&path) {
                    self.remove(&format!("{place}/{name}"), &path)?;
                }
            }
        }
        for place in ["blobs/sha256", "layers"] {
            for name in names(&self.store.path(place))? {
                if crate::digest::Digest::from_hex(&name).is_err() {
                    let path = self.store.path(place).join(&name);
                    self.mend(
                        format!("{place}/{name}"),
                        "it doesn't belong there",
                        |store| store.put_aside(&path),
                    )?;
                }
            }
        }
        Ok(())
    }

    fn remove(&mut self, subject: &str, path: &Path) -> Result<(), StoreError> {
        self.mend(subject, "it is left over from a killed command", |_| {
            remove_tree(path).map_err(StoreError::io("remove", path))?;
            Ok("removed".to_owned())
        })
    }

    /// Blobs and layers that nothing refers to.
    pub(super) fn garbage(&mut self) -> Result<(), ImageError> {
        if self.repair == Repair::Yes {
            // What was unpacked again is listed, or of no use.
            self.store.unpin()?;
        }
        let (blobs, layers) = {
            let shared = self.store.lock_shared()?;
            self.report.blobs = self.store.blob_digests()?.len();
            self.report.layers = self.store.layer_diff_ids()?.len();
            match self.store.garbage() {
                Ok(found) => found,
                Err(error) => {
                    drop(shared);
                    self.tell(
                        "blobs and layers",
                        format!("can't tell which are of use: {error}"),
                        "repair what is reported above",
                    );
                    return Ok(());
                }
            }
        };
        if blobs.is_empty() && layers.is_empty() {
            return Ok(());
        }
        let problem = format!(
            "{} blobs and {} layers are of no use",
            blobs.len(),
            layers.len()
        );
        self.mend("garbage", problem, |store| {
            let freed = store.sweep()?;
            Ok(format!("removed, {} bytes", freed.bytes))
        })
    }
}

fn is_older_than_a_minute(path: &Path) -> bool {
    let age = path.symlink_metadata().and_then(|meta| meta.modified());
    age.is_ok_and(|when| when.elapsed().is_ok_and(|age| age.as_secs() > 60))
}

pub(super) fn names(dir: &Path) -> Result<Vec<String>, StoreError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(StoreError::io("read", dir))? {
        let entry = entry.map_err(StoreError::io("read", dir))?;
        names.extend(entry.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

/// Lists every manifest and index among the blobs; the tags are lost.
fn rebuild_index(store: &Store) -> Result<String, ImageError> {
    store.session()?;
    let held = store.lock()?;
    let path = store.path("index.json");
    if path.exists() {
        store.put_aside(&path)?;
    }
    store.create()?;
    let mut index = Index::default();
    for digest in store.blob_digests()? {
        let Ok(bytes) = store.read_document(&digest) else {
            continue;
        };
        let Ok(document) = Document::parse(&bytes) else {
            continue;
        };
        let of_use = match &document {
            Document::Manifest(manifest) => store.has_blob(&manifest.config.digest),
            Document::Index(index) => index.manifests.iter().any(|m| store.has_blob(&m.digest)),
        };
        if of_use {
            let size = bytes.len() as u64;
            index
                .manifests
                .push(Descriptor::new(document.media_type(), digest, size));
        }
    }
    let found = index.manifests.len();
    atomic::write_json(&path, &index, atomic::Durability::Fsync)?;
    // With our annotations.
    Catalog::read(store)?.write(&held)?;
    Ok(format!("rebuilt from {found} manifests, tags are lost"))
}
