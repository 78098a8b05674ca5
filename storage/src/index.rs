//! `index.json`: the store's list of images, in a form that other tools read as well.
//!
//! One descriptor a tag (OCI image-layout.md wants one `ref.name` each), or one without for an image that has no tag.
//! What `images` and `ps` show stands in annotations of ours, so that they need no other file. Descriptors that other
//! tools have put there lack them: they are completed from the blobs, each time, until the image is tagged anew.

use std::collections::BTreeMap;
use std::fs;

use crate::atomic::{self, Durability};
use crate::config::ImageConfig;
use crate::digest::Digest;
use crate::image::{ImageError, ImageSummary};
use crate::lock::StoreLock;
use crate::manifest::{Descriptor, Document, Index, Manifest, Platform, REF_NAME};
use crate::reference::Reference;
use crate::store::{Store, StoreError};

const CONFIG: &str = "dev.rctr.config";
const CREATED: &str = "dev.rctr.created";
const SIZE: &str = "dev.rctr.size";
const LAYERS: &str = "dev.rctr.layers";
const PARENT: &str = "dev.rctr.parent";
const DIGESTS: &str = "dev.rctr.digests";
const TAGGED: &str = "dev.rctr.tagged";

/// What we call this machine's architecture: the GOARCH word.
#[must_use]
pub fn host_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        "loongarch64" => "loong64",
        other => other,
    }
}

impl ImageSummary {
    /// The descriptors that stand for this image in `index.json`.
    pub(crate) fn descriptors(&self) -> Vec<Descriptor> {
        let mut plain = Descriptor::new(&self.manifest_type, self.manifest, self.manifest_size);
        plain.platform = Some(self.platform.clone());
        let mut put = |key: &str, value: String| {
            if !value.is_empty() {
                plain.annotations.insert(key.to_owned(), value);
            }
        };
        put(CONFIG, self.id.to_string());
        put(CREATED, self.created.clone());
        put(SIZE, self.size.to_string());
        put(LAYERS, self.layers.to_string());
        put(TAGGED, self.tagged.clone().unwrap_or_default());
        put(
            PARENT,
            self.parent.map(|id| id.to_string()).unwrap_or_default(),
        );
        let digests: Vec<String> = self.digests.iter().map(Reference::to_string).collect();
        put(DIGESTS, digests.join(" "));
        if self.tags.is_empty() {
            return vec![plain];
        }
        let tagged = |tag: &Reference| {
            let mut descriptor = plain.clone();
            descriptor
                .annotations
                .insert(REF_NAME.to_owned(), tag.to_string());
            descriptor
        };
        self.tags.iter().map(tagged).collect()
    }

    /// From our annotations; `None`: another tool made this descriptor.
    fn from_annotations(descriptor: &Descriptor) -> Option<Self> {
        let get = |key: &str| descriptor.annotations.get(key);
        Some(Self {
            id: get(CONFIG)?.parse().ok()?,
            manifest: descriptor.digest,
            manifest_size: descriptor.size,
            manifest_type: descriptor.media_type.clone(),
            tags: Vec::new(),
            digests: get(DIGESTS)
                .map(|text| parse_digests(text))
                .unwrap_or_default(),
            created: get(CREATED).cloned().unwrap_or_default(),
            size: get(SIZE)?.parse().ok()?,
            layers: get(LAYERS)?.parse().ok()?,
            parent: get(PARENT).and_then(|text| text.parse().ok()),
            platform: descriptor.platform.clone().unwrap_or_default(),
            tagged: get(TAGGED).cloned(),
        })
    }

    pub(crate) fn from_documents(
        descriptor: &Descriptor,
        manifest: &Manifest,
        config: &ImageConfig,
        size: u64,
    ) -> Self {
        Self {
            id: manifest.config.digest,
            manifest: descriptor.digest,
            manifest_size: descriptor.size,
            manifest_type: descriptor.media_type.clone(),
            tags: Vec::new(),
            digests: Vec::new(),
            created: config.created.clone().unwrap_or_default(),
            size,
            layers: manifest.layers.len(),
            parent: None,
            platform: Platform::of(config),
            tagged: None,
        }
    }
}

fn parse_digests(text: &str) -> Vec<Reference> {
    text.split_ascii_whitespace()
        .filter_map(|word| Reference::parse_bare(word).ok())
        .collect()
}

/// The images of the store, as `index.json` has them.
pub(crate) struct Catalog {
    /// By ID. An ID may have several manifests, of which the first in the file counts.
    pub(crate) images: BTreeMap<Digest, ImageSummary>,
    /// Descriptors that we can't make sense of: kept as they are.
    pub(crate) foreign: Vec<Descriptor>,
}

impl Catalog {
    /// Reads `index.json`. Takes no lock.
    pub(crate) fn read(store: &Store) -> Result<Self, ImageError> {
        let index: Index = atomic::read_json(&store.path("index.json"))?;
        let mut catalog = Self {
            images: BTreeMap::new(),
            foreign: Vec::new(),
        };
        for descriptor in index.manifests {
            let summary = ImageSummary::from_annotations(&descriptor)
                .or_else(|| summary_from_blobs(store, &descriptor).ok());
            let Some(summary) = summary else {
                catalog.foreign.push(descriptor);
                continue;
            };
            let tag = descriptor.annotations.get(REF_NAME);
            let tag = tag.and_then(|name| Reference::parse(name).ok());
            let image = catalog.images.entry(summary.id).or_insert(summary);
            image.tags.extend(tag.filter(|tag| tag.digest.is_none()));
        }
        Ok(catalog)
    }

    /// Writes `index.json`: the same images, the same bytes.
    pub(crate) fn write(&mut self, held: &StoreLock<'_>) -> Result<(), StoreError> {
        let mut index = Index::default();
        for image in self.images.values_mut() {
            image.tags.sort();
            image.tags.dedup();
            image.digests.sort();
            image.digests.dedup();
            index.manifests.extend(image.descriptors());
        }
        index.manifests.extend(self.foreign.iter().cloned());
        let path = held.store.path("index.json");
        let bytes = atomic::to_json(&path, &index)?;
        if fs::read(&path).is_ok_and(|old| old == bytes) {
            return Ok(());
        }
        atomic::write(&path, &bytes, Durability::Fsync)
    }

    /// Whether `tag` stands on the image `id`, and on no other.
    pub(crate) fn is_tagged(&self, id: &Digest, tag: &Reference) -> bool {
        let mut owners = self.images.values().filter(|i| i.tags.contains(tag));
        owners.next().is_some_and(|image| image.id == *id) && owners.next().is_none()
    }

    /// Gives `tag` to the image `id`, and takes it from any other, which stays without one.
    pub(crate) fn tag(&mut self, id: &Digest, tag: &Reference) {
        for image in self.images.values_mut() {
            image.tags.retain(|other| other != tag);
        }
        // A tag that stood on something unreadable is ours now.
        let name = tag.to_string();
        let same = |d: &Descriptor| {
            let other = d.annotations.get(REF_NAME).map(|n| Reference::parse(n));
            other.is_some_and(|other| other.is_ok_and(|other| other.to_string() == name))
        };
        self.foreign.retain(|descriptor| !same(descriptor));
        if let Some(image) = self.images.get_mut(id) {
            image.tags.push(tag.clone());
            image.tagged = Some(crate::timestamp::now());
        }
    }
}

fn summary_from_blobs(store: &Store, descriptor: &Descriptor) -> Result<ImageSummary, ImageError> {
    let (descriptor, manifest) = store.resolve_manifest(descriptor)?;
    let config = store.read_config(&manifest.config.digest)?;
    let size = manifest.layers.iter().map(|layer| layer.size).sum();
    Ok(ImageSummary::from_documents(
        &descriptor,
        &manifest,
        &config,
        size,
    ))
}

impl Store {
    /// The manifest behind a descriptor, which may be of an index: then that of this machine's platform.
    pub(crate) fn resolve_manifest(
        &self,
        descriptor: &Descriptor,
    ) -> Result<(Descriptor, Manifest), ImageError> {
        let mut descriptor = descriptor.clone();
        // Indexes nest, but nobody nests them deeply.
        for _ in 0..4 {
            let bytes = self.read_document(&descriptor.digest)?;
            let document = Document::parse(&bytes).map_err(|source| ImageError::Document {
                what: "manifest",
                digest: descriptor.digest,
                source,
            })?;
            match document {
                Document::Manifest(manifest) => return Ok((descriptor, *manifest)),
                Document::Index(index) => {
                    let found = index.for_architecture(host_architecture());
                    descriptor = found.cloned().ok_or(ImageError::NoPlatform {
                        digest: descriptor.digest,
                    })?;
                }
            }
        }
        Err(ImageError::NoPlatform {
            digest: descriptor.digest,
        })
    }

    /// An image's config, by its digest: the image's ID.
    ///
    /// # Errors
    /// When it is missing or damaged.
    pub fn read_config(&self, id: &Digest) -> Result<ImageConfig, ImageError> {
        let bytes = self.read_document(id)?;
        serde_json::from_slice(&bytes).map_err(|source| ImageError::Document {
            what: "config",
            digest: *id,
            source,
        })
    }
}
