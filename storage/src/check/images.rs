//! Images with their documents, blobs and layers; layers of containers.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::Read;

use super::{Check, Depth, Repair};
use crate::digest::{DiffId, Digest, Hasher};
use crate::image::{Image, ImageError, ImageSummary};
use crate::index::Catalog;
use crate::layer::{Expected, LayerBlob, StoreAs};
use crate::reference::Reference;
use crate::store::{Store, StoreError};

const LOAD_AGAIN: &str = "load or pull the image again";

impl Check<'_> {
    /// `hashed`: blobs that were found to be as they should be.
    pub(super) fn images(&mut self, hashed: &mut HashSet<Digest>) -> Result<(), ImageError> {
        let Ok(catalog) = Catalog::read(self.store) else {
            return Ok(()); // Told by `layout`.
        };
        let mut sources: BTreeMap<DiffId, LayerBlob> = BTreeMap::new();
        let mut broken = Vec::new();
        for summary in catalog.images.values() {
            self.report.images += 1;
            match self.store.read_image(summary) {
                Ok(image) => {
                    if !self.layers(summary, &image, hashed)? {
                        broken.push(summary.id);
                    }
                    sources.extend(image.layers.into_iter().map(|l| (l.diff_id, l)));
                }
                Err(error) => {
                    broken.push(summary.id);
                    let subject = subject(summary);
                    self.mend::<ImageError>(subject, error.to_string(), |_| {
                        Ok(format!("removed; {LOAD_AGAIN}"))
                    })?;
                }
            }
        }
        let lost = self.indexes(&catalog)?;
        for descriptor in &catalog.foreign {
            let subject = format!("manifest {}", descriptor.digest);
            self.mend::<ImageError>(subject, "it is missing or damaged", |_| {
                Ok(format!("removed; {LOAD_AGAIN}"))
            })?;
        }
        let well = broken.is_empty() && lost.is_empty() && catalog.foreign.is_empty();
        if self.repair == Repair::Yes && !well {
            let held = self.store.lock()?;
            let mut catalog = Catalog::read(self.store)?;
            for id in &broken {
                self.forget(&catalog, id);
            }
            catalog.images.retain(|id, _| !broken.contains(id));
            catalog.indexes.retain(|digest, _| !lost.contains(digest));
            catalog.foreign.clear();
            catalog.write(&held)?;
        }
        self.container_layers(&sources)
    }

    /// Looks at the documents of indexes. What is returned is of no use any more and is to go; its images stay.
    fn indexes(&mut self, catalog: &Catalog) -> Result<Vec<Digest>, ImageError> {
        let mut lost = Vec::new();
        for index in catalog.indexes.values() {
            if let Err(error) = self.store.read_index(&index.digest) {
                lost.push(index.digest);
                let name = index.tags.first().map(Reference::to_string);
                let subject = name.unwrap_or_else(|| index.digest.to_string());
                self.mend::<ImageError>(format!("index {subject}"), error.to_string(), |_| {
                    Ok(format!("removed, its images stay; {LOAD_AGAIN}"))
                })?;
            }
        }
        Ok(lost)
    }

    /// An index without one of its images is as if that had never been fetched: its manifest goes, and damage with it.
    fn forget(&self, catalog: &Catalog, id: &Digest) {
        let Some(image) = catalog.images.get(id) else {
            return;
        };
        if catalog.indexes.values().any(|index| index.has(id)) {
            for digest in [image.manifest, image.id] {
                // It may be what is missing.
                let _ = fs::remove_file(self.store.blob_path(&digest));
            }
        }
    }

    /// Looks at an image's layers. `false`: it is of no use any more and is to go.
    fn layers(
        &mut self,
        summary: &ImageSummary,
        image: &Image,
        hashed: &mut HashSet<Digest>,
    ) -> Result<bool, ImageError> {
        let mut usable = true;
        for layer in &image.layers {
            let fault = self.blob_fault(layer, hashed)?;
            let unpacked = self.store.has_layer(&layer.diff_id);
            let subject = subject(summary);
            match (fault, unpacked) {
                (None, true) => {}
                (None, false) => {
                    let problem = format!("layer {} isn't unpacked", layer.diff_id);
                    if self.repair == Repair::No || unpack(self.store, layer) {
                        self.mend::<ImageError>(subject, problem, |_| {
                            Ok("unpacked from its blob".to_owned())
                        })?;
                    } else {
                        usable = false;
                        self.mend::<ImageError>(subject, problem, |_| {
                            Ok(format!("removed, it can't be unpacked; {LOAD_AGAIN}"))
                        })?;
                    }
                }
                (Some(fault), true) => {
                    // A damaged blob would stand in the way of the right one.
                    if self.repair == Repair::Yes {
                        let path = self.store.blob_path(&layer.digest);
                        // It may be missing.
                        let _ = fs::remove_file(path);
                    }
                    let advice = format!("it can be run, not saved or pushed; {LOAD_AGAIN}");
                    self.tell(subject, fault, advice);
                }
                (Some(fault), false) => {
                    usable = false;
                    self.mend::<ImageError>(subject, fault, |_| {
                        Ok(format!("removed; {LOAD_AGAIN}"))
                    })?;
                }
            }
        }
        Ok(usable)
    }

    /// What is wrong with a layer's blob.
    pub(super) fn blob_fault(
        &mut self,
        layer: &LayerBlob,
        hashed: &mut HashSet<Digest>,
    ) -> Result<Option<String>, ImageError> {
        let digest = layer.digest;
        let path = self.store.blob_path(&digest);
        let Ok(meta) = fs::metadata(&path) else {
            return Ok(Some(format!("blob {digest} is missing")));
        };
        if meta.len() != layer.size {
            let sizes = format!("{} bytes instead of {}", meta.len(), layer.size);
            return Ok(Some(format!("blob {digest} has {sizes}")));
        }
        if self.depth == Depth::Quick || !hashed.insert(digest) {
            return Ok(None);
        }
        let mut file = self.store.open_blob(&digest)?;
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; 1 << 18];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => hasher.update(&buffer[..count]),
                Err(source) => return Ok(Some(format!("blob {digest} can't be read: {source}"))),
            }
        }
        let same = hasher.finish() == digest;
        if !same {
            hashed.remove(&digest);
        }
        Ok((!same).then(|| format!("blob {digest} is damaged")))
    }

    /// Layers that containers stand on.
    fn container_layers(
        &mut self,
        sources: &BTreeMap<DiffId, LayerBlob>,
    ) -> Result<(), ImageError> {
        for container in self.store.containers()? {
            for diff_id in container.record.layers.iter().copied().map(DiffId) {
                if self.store.has_layer(&diff_id) {
                    continue;
                }
                let subject = format!("container {}", container.record.name);
                let problem = format!("layer {diff_id} is missing");
                let source = sources.get(&diff_id);
                if self.repair == Repair::Yes
                    && source.is_some_and(|layer| unpack(self.store, layer))
                {
                    self.mend::<ImageError>(subject, problem, |_| {
                        Ok("unpacked from its blob".to_owned())
                    })?;
                } else if self.repair == Repair::No && source.is_some() {
                    self.mend::<ImageError>(subject, problem, |_| Ok(String::new()))?;
                } else {
                    self.tell(subject, problem, LOAD_AGAIN);
                }
            }
        }
        Ok(())
    }
}

fn subject(summary: &ImageSummary) -> String {
    let name = summary.tags.first().map(Reference::to_string);
    format!("image {}", name.unwrap_or_else(|| summary.id.to_string()))
}

/// Unpacks a layer from its blob again.
fn unpack(store: &Store, layer: &LayerBlob) -> bool {
    let expected = Expected {
        digest: Some(layer.digest),
        diff_id: Some(layer.diff_id),
        size: Some(layer.size),
    };
    // What is there is no whole layer.
    let remains = store.path("layers").join(layer.diff_id.0.hex());
    if remains.exists() {
        let moved = store
            .temp_path("removed-layer")
            .and_then(|to| fs::rename(&remains, to).map_err(StoreError::io("remove", &remains)));
        if moved.is_err() {
            return false;
        }
    }
    store
        .open_blob(&layer.digest)
        .is_ok_and(|file| store.add_layer(file, &expected, StoreAs::Verbatim).is_ok())
}
