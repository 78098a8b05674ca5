//! Indexes: images for several platforms under one name.

use std::collections::BTreeMap;

use crate::atomic;
use crate::blob::BlobError;
use crate::digest::Digest;
use crate::image::{ImageError, UnlistedImage, UnlistedIndex, only_tags};
use crate::index::{Catalog, IndexSummary, Member, Named};
use crate::manifest::{Descriptor, Document, Index, OCI_INDEX, Platform};
use crate::reference::Reference;
use crate::session::Pin;
use crate::store::Store;

/// Indexes nest, but nobody nests them deeply.
const DEPTH: u32 = 4;

impl Store {
    /// Makes an index of manifests, which say what platform they are for, and lists it. The same input gives the same bytes.
    ///
    /// # Errors
    /// As [`Store::list_index`].
    pub fn put_index(
        &self,
        manifests: &[Descriptor],
        tags: &[Reference],
    ) -> Result<Descriptor, ImageError> {
        let (descriptor, bytes) = self.index_of(manifests)?;
        self.put_document(&bytes)?;
        self.list_index(&descriptor, tags, &[])?;
        Ok(descriptor)
    }

    /// An index of images, as [`put_index`](Self::put_index) would make it when they are listed, without writing anything.
    ///
    /// # Errors
    /// When a document can't be made.
    pub fn unlisted_index(&self, images: &[UnlistedImage]) -> Result<UnlistedIndex, ImageError> {
        let manifests: Vec<Descriptor> = images
            .iter()
            .map(|unlisted| Descriptor {
                platform: Some(Platform::of(&unlisted.image.config)),
                ..unlisted.image.manifest.clone()
            })
            .collect();
        let (descriptor, bytes) = self.index_of(&manifests)?;
        let mut documents = BTreeMap::from([(descriptor.digest, bytes)]);
        let mut layers = BTreeMap::new();
        for UnlistedImage {
            image,
            documents: own,
        } in images
        {
            documents.extend(own.iter().map(|(digest, bytes)| (*digest, bytes.clone())));
            layers.extend(image.layers.iter().map(|layer| (layer.digest, layer.size)));
        }
        Ok(UnlistedIndex {
            descriptor,
            documents,
            layers,
        })
    }

    fn index_of(&self, manifests: &[Descriptor]) -> Result<(Descriptor, Vec<u8>), ImageError> {
        let mut index = Index::default();
        for descriptor in manifests {
            let mut descriptor = descriptor.clone();
            // Ours are of the store alone.
            let annotations = &mut descriptor.annotations;
            annotations.retain(|key, _| !key.starts_with("dev.rctr."));
            index.manifests.push(descriptor);
        }
        let bytes = atomic::to_json(&self.path("blobs"), &index)?;
        let descriptor = Descriptor::new(OCI_INDEX, Digest::of(&bytes), bytes.len() as u64);
        Ok((descriptor, bytes))
    }

    /// Lists an index whose document is in the store, and the images of it that are here as a whole; manifests that aren't are no
    /// fault. Indexes that were pulled keep their bytes.
    ///
    /// # Errors
    /// When its document isn't in the store, or `index.json` can't be written.
    pub fn list_index(
        &self,
        descriptor: &Descriptor,
        tags: &[Reference],
        digests: &[Reference],
    ) -> Result<(), ImageError> {
        only_tags(tags)?;
        self.pin(&[Pin::Blob(descriptor.digest)])?;
        let index = self.read_index(&descriptor.digest)?;
        let mut summary = IndexSummary::of(descriptor);
        let mut images = Vec::new();
        for (descriptor, platform) in self.images_of_index(&index) {
            let image = match self.complete_image(&descriptor) {
                Ok(image) => image,
                // Not fetched, or no image at all: an attestation.
                Err(
                    ImageError::Blob(BlobError::Missing { .. })
                    | ImageError::Incomplete { .. }
                    | ImageError::Document { .. }
                    | ImageError::Layers { .. },
                ) => continue,
                Err(error) => return Err(error),
            };
            summary.members.push(Member {
                platform: platform.unwrap_or_else(|| image.platform.clone()),
                id: image.id,
            });
            images.push(image);
        }
        let held = self.lock()?;
        let mut catalog = Catalog::read(self)?;
        for image in &images {
            catalog.add(image);
        }
        let listed = catalog.indexes.entry(summary.digest);
        let listed = listed.or_insert_with(|| summary.clone());
        listed.members = summary.members;
        listed.digests.extend(digests.iter().cloned());
        for tag in tags {
            if !catalog.is_tagged(Named::Index(descriptor.digest), tag) {
                catalog.tag(Named::Index(descriptor.digest), tag);
            }
        }
        Ok(catalog.write(&held)?)
    }

    /// The manifests of images behind an index with what it says about their platform. Those of indexes in it that aren't here are
    /// left out, and so are attestations.
    pub(crate) fn images_of_index(&self, index: &Index) -> Vec<(Descriptor, Option<Platform>)> {
        let mut found = Vec::new();
        self.add_images_of(index, 0, &mut found);
        found
    }

    fn add_images_of(
        &self,
        index: &Index,
        depth: u32,
        found: &mut Vec<(Descriptor, Option<Platform>)>,
    ) {
        for descriptor in &index.manifests {
            let platform = descriptor.platform.clone();
            let platform = platform.filter(|p| !(p.os.is_empty() && p.architecture.is_empty()));
            if platform.as_ref().is_some_and(|p| p.os == "unknown") {
                continue;
            }
            let inner = self.read_document(&descriptor.digest);
            match inner.map(|bytes| Document::parse(&bytes)) {
                Ok(Ok(Document::Index(inner))) if depth < DEPTH => {
                    self.add_images_of(&inner, depth + 1, found);
                }
                Ok(Ok(Document::Manifest(_))) => found.push((descriptor.clone(), platform)),
                // Not here, or for `system check` to tell.
                _ => {}
            }
        }
    }
}
