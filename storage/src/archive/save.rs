//! `save`: from the store into an archive.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufWriter, Read, Write};

use serde::Serialize;

use super::{ArchiveError, CONTAINERD_NAME, DockerEntry};
use crate::atomic;
use crate::digest::Digest;
use crate::image::{Image, ImageError, UnlistedImage, UnlistedIndex};
use crate::manifest::{Descriptor, Document, Index, Platform, REF_NAME};
use crate::reference::Reference;
use crate::store::Store;
use crate::tarfile::{Entry, Kind, Writer};

/// What kind of archive is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Docker's, which is an OCI layout as well.
    Docker,
    /// An OCI layout alone.
    Oci,
}

/// An image to be saved with the names it goes by in the archive.
struct Chosen {
    image: Image,
    tags: BTreeSet<Reference>,
}

/// What is saved.
#[derive(Default)]
struct Choice {
    images: Vec<Chosen>,
    /// Indexes as they are, with what is here of them, by name or without one.
    indexes: Vec<(Descriptor, Option<Reference>)>,
    /// Theirs, layers with their size.
    blobs: BTreeMap<Digest, Option<u64>>,
}

/// Saves the named images. A repository without a tag means all its tags, as with docker; an ID carries no name along. Of an index
/// it is the image for this machine, or as an OCI layout all that is here.
///
/// # Errors
/// When an image isn't there or damaged, or the archive can't be written.
pub fn save<N: AsRef<str>>(
    store: &Store,
    names: &[N],
    format: Format,
    out: impl Write,
) -> Result<(), ArchiveError> {
    save_for(store, names, format, None, out)
}

/// As [`save`], of an index the image for `platform`.
///
/// # Errors
/// As with [`save`], and when one isn't there for that platform.
pub fn save_for<N: AsRef<str>>(
    store: &Store,
    names: &[N],
    format: Format,
    platform: Option<&Platform>,
    out: impl Write,
) -> Result<(), ArchiveError> {
    let mut choice = Choice::default();
    for name in names {
        choose(store, name.as_ref(), format, platform, &mut choice)?;
    }
    if choice.images.is_empty() && choice.indexes.is_empty() {
        return Err(ArchiveError::NoNames);
    }
    write(store, &choice, &BTreeMap::new(), format, out)
}

/// Saves an image that isn't listed, with all its tags.
///
/// # Errors
/// When a part of it isn't there, or the archive can't be written.
pub fn save_image(
    store: &Store,
    unlisted: &UnlistedImage,
    format: Format,
    out: impl Write,
) -> Result<(), ArchiveError> {
    let image = unlisted.image.clone();
    let tags = image.tags.iter().cloned().collect();
    let choice = Choice {
        images: vec![Chosen { image, tags }],
        ..Choice::default()
    };
    write(store, &choice, &unlisted.documents, format, out)
}

/// Saves an index that isn't listed, with all its images, as an OCI layout: docker's format has no place for one.
///
/// # Errors
/// When a layer isn't there, or the archive can't be written.
pub fn save_index(
    store: &Store,
    unlisted: &UnlistedIndex,
    tags: &[Reference],
    out: impl Write,
) -> Result<(), ArchiveError> {
    let index = &unlisted.descriptor;
    let mut choice = Choice::default();
    choice
        .indexes
        .extend(tags.iter().map(|tag| (index.clone(), Some(tag.clone()))));
    if tags.is_empty() {
        choice.indexes.push((index.clone(), None));
    }
    choice
        .blobs
        .extend(unlisted.documents.keys().map(|digest| (*digest, None)));
    let layers = unlisted.layers.iter();
    choice
        .blobs
        .extend(layers.map(|(digest, size)| (*digest, Some(*size))));
    write(store, &choice, &unlisted.documents, Format::Oci, out)
}

fn write(
    store: &Store,
    choice: &Choice,
    unlisted: &BTreeMap<Digest, Vec<u8>>,
    format: Format,
    out: impl Write,
) -> Result<(), ArchiveError> {
    let mut archive = Archive {
        store,
        tar: Writer::new(BufWriter::with_capacity(1 << 17, out)),
    };
    archive.directory("blobs/")?;
    archive.directory("blobs/sha256/")?;
    let chosen = choice.images.as_slice();
    let mut blobs = choice.blobs.clone();
    for Chosen { image, .. } in chosen {
        blobs.insert(image.manifest.digest, None);
        blobs.insert(image.id, None);
        blobs.extend(image.layers.iter().map(|l| (l.digest, Some(l.size))));
    }
    for (digest, size) in &blobs {
        match unlisted.get(digest) {
            Some(bytes) => archive.file(&blob_name(digest), bytes)?,
            None => archive.blob(digest, *size)?,
        }
    }
    archive.document("index.json", &index(choice, format))?;
    if format == Format::Docker {
        archive.document("manifest.json", &docker_entries(chosen))?;
    }
    archive.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    if format == Format::Docker {
        let names = |c: &Chosen| (c.image.id, c.tags.iter().cloned().collect());
        archive.document("repositories", &repositories(chosen.iter().map(names)))?;
    }
    let write = |source| ArchiveError::Write { source };
    archive.tar.finish().map_err(write)?.flush().map_err(write)
}

fn choose(
    store: &Store,
    name: &str,
    format: Format,
    platform: Option<&Platform>,
    choice: &mut Choice,
) -> Result<(), ArchiveError> {
    let bare = Reference::parse_bare(name).ok();
    if let Some(bare) = bare.filter(|name| name.tag.is_none() && name.digest.is_none()) {
        let mut images = store.images()?;
        images.sort_by_key(|image| image.id);
        let same = |tag: &&Reference| (&tag.domain, &tag.path) == (&bare.domain, &bare.path);
        let tags = images.iter().flat_map(|image| &image.tags).filter(same);
        let tags: Vec<String> = tags.map(Reference::to_string).collect();
        for tag in &tags {
            choose_one(store, tag, format, platform, choice)?;
        }
        if !tags.is_empty() {
            return Ok(());
        }
    }
    choose_one(store, name, format, platform, choice)
}

fn choose_one(
    store: &Store,
    name: &str,
    format: Format,
    platform: Option<&Platform>,
    choice: &mut Choice,
) -> Result<(), ArchiveError> {
    let tag = Reference::parse(name).ok();
    if format == Format::Oci
        && platform.is_none()
        && let Some((descriptor, _)) = store.find_index(name)?
    {
        store.blobs_of(&descriptor, &mut choice.blobs)?;
        // A digest is no name that a tag could be made of.
        let tag =
            tag.filter(|tag| tag.digest.is_none() && !name.contains(&descriptor.digest.hex()));
        choice.indexes.push((descriptor, tag));
        return Ok(());
    }
    let image = match platform {
        None => store.find_image(name)?,
        Some(platform) => store.find_image_for(name, platform)?,
    };
    let tag = tag.filter(|tag| image.tags.contains(tag));
    push(&mut choice.images, image, tag);
    Ok(())
}

impl Store {
    /// The blobs behind a manifest or index that are here, layers with their size.
    fn blobs_of(
        &self,
        descriptor: &Descriptor,
        blobs: &mut BTreeMap<Digest, Option<u64>>,
    ) -> Result<(), ImageError> {
        if blobs.contains_key(&descriptor.digest) || !self.has_blob(&descriptor.digest) {
            return Ok(());
        }
        blobs.insert(descriptor.digest, None);
        let bytes = self.read_document(&descriptor.digest)?;
        let document = Document::parse(&bytes).map_err(|source| ImageError::Document {
            what: "manifest",
            digest: descriptor.digest,
            source,
        })?;
        match document {
            Document::Index(index) => {
                for inner in &index.manifests {
                    self.blobs_of(inner, blobs)?;
                }
            }
            Document::Manifest(manifest) => {
                if self.has_blob(&manifest.config.digest) {
                    blobs.insert(manifest.config.digest, None);
                }
                let layers = manifest.layers.iter();
                let here = layers.filter(|layer| self.has_blob(&layer.digest));
                blobs.extend(here.map(|layer| (layer.digest, Some(layer.size))));
            }
        }
        Ok(())
    }
}

fn push(chosen: &mut Vec<Chosen>, image: Image, tag: Option<Reference>) {
    match chosen.iter_mut().find(|other| other.image.id == image.id) {
        Some(other) => other.tags.extend(tag),
        None => chosen.push(Chosen {
            image,
            tags: tag.into_iter().collect(),
        }),
    }
}

/// podman reads a tar as an OCI layout if it can, and then doesn't see what only docker's format has (HEALTHCHECK, ONBUILD,
/// SHELL). It gives up where nobody names one of several entries, and reads `manifest.json`: so the only image that has such
/// things is listed once more, without a name.
fn wants_dockers_format(image: &Image) -> bool {
    let config = &image.config.config;
    config.healthcheck.is_some() || config.shell.is_some() || !config.on_build.is_empty()
}

fn index(choice: &Choice, format: Format) -> Index {
    let mut index = Index::default();
    let mut list = |plain: Descriptor, tags: &mut dyn Iterator<Item = &Reference>| {
        let before = index.manifests.len();
        let tagged = tags.map(|tag| named(plain.clone(), tag));
        index.manifests.extend(tagged);
        if index.manifests.len() == before {
            index.manifests.push(plain);
        }
    };
    for Chosen { image, tags } in &choice.images {
        let mut plain = Descriptor {
            platform: Some(Platform::of(&image.config)),
            ..image.manifest.clone()
        };
        // Ours are of the store alone.
        plain
            .annotations
            .retain(|key, _| !key.starts_with("dev.rctr."));
        list(plain, &mut tags.iter());
    }
    for (descriptor, tag) in &choice.indexes {
        list(descriptor.clone(), &mut tag.iter());
    }
    if let ([Chosen { image, .. }], [only]) = (choice.images.as_slice(), index.manifests.as_slice())
        && format == Format::Docker
        && wants_dockers_format(image)
    {
        let mut again = only.clone();
        again.annotations.clear();
        index.manifests.push(again);
    }
    index
}

fn named(mut descriptor: Descriptor, tag: &Reference) -> Descriptor {
    let annotations = &mut descriptor.annotations;
    annotations.insert(CONTAINERD_NAME.to_owned(), tag.full_name());
    annotations.insert(REF_NAME.to_owned(), tag.to_string());
    descriptor
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn docker_entries(chosen: &[Chosen]) -> Vec<DockerEntry> {
    let entry = |Chosen { image, tags }: &Chosen| DockerEntry {
        config: blob_name(&image.id),
        // In full: podman takes short ones for names of its own host.
        repo_tags: Some(tags.iter().map(Reference::full_name).collect()),
        layers: Some(image.layers.iter().map(|l| blob_name(&l.digest)).collect()),
    };
    chosen.iter().map(entry).collect()
}

/// What docker read before 1.10: repository, tag, ID.
pub(crate) fn repositories(
    images: impl Iterator<Item = (Digest, Vec<Reference>)>,
) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut out: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for (id, tags) in images {
        for tag in tags {
            let ids = out.entry(tag.familiar_name()).or_default();
            ids.insert(tag.tag.unwrap_or_default(), id.hex());
        }
    }
    out
}

struct Archive<'s, W: Write> {
    store: &'s Store,
    tar: Writer<W>,
}

impl<W: Write> Archive<'_, W> {
    fn directory(&mut self, path: &str) -> Result<(), ArchiveError> {
        let entry = Entry::new(path, Kind::Directory, 0o755);
        self.tar
            .begin(&entry)
            .map_err(|source| ArchiveError::Write { source })
    }

    fn document(&mut self, path: &str, value: &impl Serialize) -> Result<(), ArchiveError> {
        let bytes = atomic::to_json(&self.store.path(path), value)?;
        self.file(path, &bytes)
    }

    fn file(&mut self, path: &str, bytes: &[u8]) -> Result<(), ArchiveError> {
        let mut entry = Entry::new(path, Kind::File, 0o644);
        entry.size = bytes.len() as u64;
        self.tar
            .begin(&entry)
            .and_then(|()| self.tar.write_data(bytes))
            .map_err(|source| ArchiveError::Write { source })
    }

    /// A blob as it is; `size` is what the manifest says, for layers. Their digests aren't verified: they were when the
    /// layer came in, and whoever loads this verifies them again.
    fn blob(&mut self, digest: &Digest, size: Option<u64>) -> Result<(), ArchiveError> {
        let Some(size) = size else {
            let bytes = self.store.read_document(digest)?;
            return self.file(&blob_name(digest), &bytes);
        };
        let mut file = self.store.open_blob(digest)?;
        let there = file.metadata().map_or(0, |meta| meta.len());
        if there != size {
            let part = format!("a part of blob {digest}");
            return Err(ImageError::Incomplete { part }.into());
        }
        let mut entry = Entry::new(blob_name(digest), Kind::File, 0o644);
        entry.size = size;
        let write = |source| ArchiveError::Write { source };
        self.tar.begin(&entry).map_err(write)?;
        let mut buffer = vec![0; 1 << 18];
        loop {
            let count =
                file.read(&mut buffer)
                    .map_err(|source: io::Error| crate::blob::BlobError::Io {
                        operation: "read",
                        path: self.store.blob_path(digest),
                        source,
                    })?;
            if count == 0 {
                return Ok(());
            }
            self.tar.write_data(&buffer[..count]).map_err(write)?;
        }
    }
}
