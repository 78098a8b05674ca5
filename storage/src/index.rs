//! `index.json`: the store's list of images, in a form that other tools read as well.
//!
//! One descriptor a tag (OCI image-layout.md wants one `ref.name` each), or one without for an image that has no tag. An index
//! (an image for several platforms) is listed the same way, and beside it, without its tags, each image of it that is here.
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
const MEMBERS: &str = "dev.rctr.members";
const TAGGED: &str = "dev.rctr.tagged";

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
        one_a_tag(plain, &self.tags)
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
            part_of: None,
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
            part_of: None,
        }
    }
}

/// An index of several platforms, as `index.json` lists it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct IndexSummary {
    pub(crate) digest: Digest,
    /// In bytes.
    pub(crate) size: u64,
    pub(crate) media_type: String,
    /// None: it is dangling.
    pub(crate) tags: Vec<Reference>,
    /// `repository@digest`.
    pub(crate) digests: Vec<Reference>,
    /// RFC 3339; `None`: never tagged here.
    pub(crate) tagged: Option<String>,
    /// Its images that are here, in its order; all of them are in the catalog, too.
    pub(crate) members: Vec<Member>,
}

/// An image of an index.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Member {
    /// As the index says.
    pub(crate) platform: Platform,
    pub(crate) id: Digest,
}

impl IndexSummary {
    /// The member for `platform`, else the only one.
    pub(crate) fn choice(&self, platform: &Platform) -> Option<Digest> {
        let chosen = platform.choose(&self.members, |member| Some(&member.platform));
        match (chosen, self.members.as_slice()) {
            (None, [only]) => Some(only.id),
            (chosen, _) => chosen.map(|member| member.id),
        }
    }

    pub(crate) fn has(&self, id: &Digest) -> bool {
        self.members.iter().any(|member| member.id == *id)
    }

    fn descriptors(&self) -> Vec<Descriptor> {
        let mut plain = Descriptor::new(&self.media_type, self.digest, self.size);
        let mut put = |key: &str, value: String| plain.annotations.insert(key.to_owned(), value);
        let members = self.members.iter();
        let members = members.map(|m| format!("{}={}", m.platform, m.id));
        put(MEMBERS, Vec::from_iter(members).join(" "));
        if let Some(tagged) = &self.tagged {
            put(TAGGED, tagged.clone());
        }
        if !self.digests.is_empty() {
            let digests = self.digests.iter().map(Reference::to_string);
            put(DIGESTS, Vec::from_iter(digests).join(" "));
        }
        one_a_tag(plain, &self.tags)
    }

    /// From our annotations; `None`: another tool made this descriptor.
    fn from_annotations(descriptor: &Descriptor) -> Option<Self> {
        let get = |key: &str| descriptor.annotations.get(key);
        let member = |word: &str| {
            let (platform, id) = word.split_once('=')?;
            let mut words = platform.splitn(3, '/');
            Some(Member {
                platform: Platform::new(words.next()?, words.next()?, words.next()),
                id: id.parse().ok()?,
            })
        };
        let members = get(MEMBERS)?.split_ascii_whitespace().map(member);
        Some(Self {
            members: members.collect::<Option<_>>()?,
            digests: get(DIGESTS)
                .map(|text| parse_digests(text))
                .unwrap_or_default(),
            tagged: get(TAGGED).cloned(),
            ..Self::of(descriptor)
        })
    }

    /// Without its members.
    pub(crate) fn of(descriptor: &Descriptor) -> Self {
        Self {
            digest: descriptor.digest,
            size: descriptor.size,
            media_type: descriptor.media_type.clone(),
            tags: Vec::new(),
            digests: Vec::new(),
            tagged: None,
            members: Vec::new(),
        }
    }
}

/// The descriptor once for each tag, or once without.
fn one_a_tag(plain: Descriptor, tags: &[Reference]) -> Vec<Descriptor> {
    if tags.is_empty() {
        return vec![plain];
    }
    let tagged = |tag: &Reference| {
        let mut descriptor = plain.clone();
        let annotations = &mut descriptor.annotations;
        annotations.insert(REF_NAME.to_owned(), tag.to_string());
        descriptor
    };
    tags.iter().map(tagged).collect()
}

fn parse_digests(text: &str) -> Vec<Reference> {
    text.split_ascii_whitespace()
        .filter_map(|word| Reference::parse_bare(word).ok())
        .collect()
}

/// What a tag or digest stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Named {
    /// By its ID.
    Image(Digest),
    /// By its own digest.
    Index(Digest),
}

/// The images of the store, as `index.json` has them.
pub(crate) struct Catalog {
    /// By ID. An ID may have several manifests, of which the first in the file counts.
    pub(crate) images: BTreeMap<Digest, ImageSummary>,
    /// By digest.
    pub(crate) indexes: BTreeMap<Digest, IndexSummary>,
    /// Descriptors that we can't make sense of: kept as they are.
    pub(crate) foreign: Vec<Descriptor>,
}

impl Catalog {
    /// Reads `index.json`. Takes no lock.
    pub(crate) fn read(store: &Store) -> Result<Self, ImageError> {
        let index: Index = atomic::read_json(&store.path("index.json"))?;
        let mut catalog = Self {
            images: BTreeMap::new(),
            indexes: BTreeMap::new(),
            foreign: Vec::new(),
        };
        for descriptor in index.manifests {
            let tag = descriptor.annotations.get(REF_NAME);
            let tag = tag.and_then(|name| Reference::parse(name).ok());
            let tag = tag.filter(|tag| tag.digest.is_none());
            if let Some(index) = IndexSummary::from_annotations(&descriptor) {
                let index = catalog.indexes.entry(index.digest).or_insert(index);
                index.tags.extend(tag);
                continue;
            }
            if let Some(summary) = ImageSummary::from_annotations(&descriptor) {
                catalog.add(&summary).tags.extend(tag);
                continue;
            }
            match listed_by_others(store, &descriptor) {
                Ok(Listed::Image(summary)) => catalog.add(&summary).tags.extend(tag),
                Ok(Listed::Index(mut index, members)) => {
                    index.tags.extend(tag);
                    catalog.indexes.insert(index.digest, index);
                    for summary in members {
                        catalog.add(&summary);
                    }
                }
                Err(_) => catalog.foreign.push(descriptor),
            }
        }
        Ok(catalog)
    }

    /// The image of this ID, listed with the given manifest if there was none.
    pub(crate) fn add(&mut self, new: &ImageSummary) -> &mut ImageSummary {
        self.images.entry(new.id).or_insert_with(|| new.clone())
    }

    /// Writes `index.json`: the same images, the same bytes.
    pub(crate) fn write(&mut self, held: &StoreLock<'_>) -> Result<(), StoreError> {
        let tidy = |names: &mut Vec<Reference>| {
            names.sort();
            names.dedup();
        };
        let mut index = Index::default();
        for image in self.images.values_mut() {
            tidy(&mut image.tags);
            tidy(&mut image.digests);
            index.manifests.extend(image.descriptors());
        }
        for listed in self.indexes.values_mut() {
            tidy(&mut listed.tags);
            tidy(&mut listed.digests);
            listed.members.retain(|m| self.images.contains_key(&m.id));
            index.manifests.extend(listed.descriptors());
        }
        index.manifests.extend(self.foreign.iter().cloned());
        let path = held.store.path("index.json");
        let bytes = atomic::to_json(&path, &index)?;
        if fs::read(&path).is_ok_and(|old| old == bytes) {
            return Ok(());
        }
        atomic::write(&path, &bytes, Durability::Fsync)
    }

    /// An image with all its names: its own and those of the indexes that it is in.
    pub(crate) fn summary(&self, id: &Digest) -> ImageSummary {
        let mut summary = self.images[id].clone();
        for index in self.indexes.values().filter(|index| index.has(id)) {
            summary.tags.extend(index.tags.iter().cloned());
            summary.digests.extend(index.digests.iter().cloned());
            summary.tagged = summary.tagged.max(index.tagged.clone());
        }
        summary
    }

    /// All images, the names of an index at one of its members only.
    pub(crate) fn summaries(&self) -> Vec<ImageSummary> {
        let host = Platform::host();
        let mut all = self.images.clone();
        for index in self.indexes.values() {
            // Of several for other machines the first.
            let first = index.members.first().map(|member| member.id);
            let shown = index.choice(&host).or(first);
            for member in &index.members {
                let Some(summary) = all.get_mut(&member.id) else {
                    continue;
                };
                if shown == Some(member.id) {
                    summary.tags.extend(index.tags.iter().cloned());
                    summary.digests.extend(index.digests.iter().cloned());
                    summary.tagged = summary.tagged.take().max(index.tagged.clone());
                } else {
                    summary.part_of = Some(index.digest);
                }
            }
            if let Some(summary) = shown.and_then(|id| all.get_mut(&id)) {
                summary.part_of = None;
            }
        }
        for summary in all.values_mut() {
            if !(summary.tags.is_empty() && summary.digests.is_empty()) {
                summary.part_of = None;
            }
        }
        all.into_values().collect()
    }

    /// Whether `tag` stands on `named`, and on nothing else.
    pub(crate) fn is_tagged(&self, named: Named, tag: &Reference) -> bool {
        let images = self.images.values().filter(|i| i.tags.contains(tag));
        let images = images.map(|image| Named::Image(image.id));
        let indexes = self.indexes.values().filter(|i| i.tags.contains(tag));
        let indexes = indexes.map(|index| Named::Index(index.digest));
        images.chain(indexes).eq([named])
    }

    /// Gives `tag` to `named`, and takes it from any other, which stays without one.
    pub(crate) fn tag(&mut self, named: Named, tag: &Reference) {
        let images = self.images.values_mut().map(|image| &mut image.tags);
        let indexes = self.indexes.values_mut().map(|index| &mut index.tags);
        for tags in images.chain(indexes) {
            tags.retain(|other| other != tag);
        }
        // A tag that stood on something unreadable is ours now.
        let name = tag.to_string();
        let same = |d: &Descriptor| {
            let other = d.annotations.get(REF_NAME).map(|n| Reference::parse(n));
            other.is_some_and(|other| other.is_ok_and(|other| other.to_string() == name))
        };
        self.foreign.retain(|descriptor| !same(descriptor));
        let place = match named {
            Named::Image(id) => self
                .images
                .get_mut(&id)
                .map(|i| (&mut i.tags, &mut i.tagged)),
            Named::Index(digest) => {
                let index = self.indexes.get_mut(&digest);
                index.map(|i| (&mut i.tags, &mut i.tagged))
            }
        };
        if let Some((tags, tagged)) = place {
            tags.push(tag.clone());
            *tagged = Some(crate::timestamp::now());
        }
    }
}

/// What a descriptor of another tool lists.
enum Listed {
    Image(Box<ImageSummary>),
    /// With the images of it that are here.
    Index(IndexSummary, Vec<ImageSummary>),
}

fn listed_by_others(store: &Store, descriptor: &Descriptor) -> Result<Listed, ImageError> {
    let bytes = store.read_document(&descriptor.digest)?;
    let document = Document::parse(&bytes).map_err(|source| ImageError::Document {
        what: "manifest",
        digest: descriptor.digest,
        source,
    })?;
    let Document::Index(index) = document else {
        return summary_from_blobs(store, descriptor).map(|image| Listed::Image(Box::new(image)));
    };
    let mut found = IndexSummary::of(descriptor);
    let mut members = Vec::new();
    for (descriptor, platform) in store.images_of_index(&index) {
        if let Ok(summary) = summary_from_blobs(store, &descriptor) {
            found.members.push(Member {
                platform: platform.unwrap_or_else(|| summary.platform.clone()),
                id: summary.id,
            });
            members.push(summary);
        }
    }
    Ok(Listed::Index(found, members))
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

fn no_platform(index: &Index, digest: Digest) -> ImageError {
    let platforms = index.manifests.iter().filter_map(|d| d.platform.as_ref());
    let platforms: Vec<String> = platforms.map(Platform::to_string).collect();
    ImageError::NoPlatform {
        name: digest.to_string(),
        there: platforms.join(", "),
    }
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
                    let found = index.for_platform(&Platform::host()).cloned();
                    let Some(found) = found else {
                        return Err(no_platform(&index, descriptor.digest));
                    };
                    descriptor = found;
                }
            }
        }
        Err(no_platform(&Index::default(), descriptor.digest))
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
