//! `save`: from the store into an archive.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufWriter, Read, Write};

use serde::Serialize;

use super::{ArchiveError, CONTAINERD_NAME, DockerEntry};
use crate::atomic;
use crate::digest::Digest;
use crate::image::{Image, ImageError, UnlistedImage};
use crate::manifest::{Descriptor, Index, Platform, REF_NAME};
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

/// Saves the named images. A repository without a tag means all its tags, as with docker; an ID carries no name along.
///
/// # Errors
/// When an image isn't there or damaged, or the archive can't be written.
pub fn save<N: AsRef<str>>(
    store: &Store,
    names: &[N],
    format: Format,
    out: impl Write,
) -> Result<(), ArchiveError> {
    let mut chosen = Vec::new();
    for name in names {
        choose(store, name.as_ref(), &mut chosen)?;
    }
    if chosen.is_empty() {
        return Err(ArchiveError::NoNames);
    }
    write(store, &chosen, &BTreeMap::new(), format, out)
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
    let chosen = [Chosen { image, tags }];
    write(store, &chosen, &unlisted.documents, format, out)
}

fn write(
    store: &Store,
    chosen: &[Chosen],
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
    let mut blobs = BTreeMap::new();
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
    archive.document("index.json", &index(chosen))?;
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

fn choose(store: &Store, name: &str, chosen: &mut Vec<Chosen>) -> Result<(), ArchiveError> {
    let bare = Reference::parse_bare(name).ok();
    if let Some(bare) = bare.filter(|name| name.tag.is_none() && name.digest.is_none()) {
        let mut images = store.images()?;
        images.sort_by_key(|image| image.id);
        let mut any = false;
        for summary in &images {
            let same = |tag: &&Reference| (&tag.domain, &tag.path) == (&bare.domain, &bare.path);
            for tag in summary.tags.iter().filter(same) {
                push(chosen, store.read_image(summary)?, Some(tag.clone()));
                any = true;
            }
        }
        if any {
            return Ok(());
        }
    }
    let image = store.find_image(name)?;
    let tag = Reference::parse(name).ok();
    let tag = tag.filter(|tag| image.tags.contains(tag));
    push(chosen, image, tag);
    Ok(())
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

fn index(chosen: &[Chosen]) -> Index {
    let mut index = Index::default();
    for Chosen { image, tags } in chosen {
        let mut plain = Descriptor {
            platform: Some(Platform::of(&image.config)),
            ..image.manifest.clone()
        };
        // Ours are of the store alone.
        plain
            .annotations
            .retain(|key, _| !key.starts_with("dev.rctr."));
        if tags.is_empty() {
            index.manifests.push(plain);
            continue;
        }
        for tag in tags {
            let mut tagged = plain.clone();
            let annotations = &mut tagged.annotations;
            annotations.insert(CONTAINERD_NAME.to_owned(), tag.full_name());
            annotations.insert(REF_NAME.to_owned(), tag.to_string());
            index.manifests.push(tagged);
        }
    }
    index
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn docker_entries(chosen: &[Chosen]) -> Vec<DockerEntry> {
    let entry = |Chosen { image, tags }: &Chosen| DockerEntry {
        config: blob_name(&image.id),
        repo_tags: Some(tags.iter().map(Reference::to_string).collect()),
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
