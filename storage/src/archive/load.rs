//! `load`: from an archive into the store.

use std::io::Read;

use super::parts::Parts;
use super::{ArchiveError, CONTAINERD_NAME, DockerEntry, parse_name};
use crate::config::ImageConfig;
use crate::digest::Digest;
use crate::image::Image;
use crate::layer::LayerBlob;
use crate::manifest::{Descriptor, Document, Index, Platform, REF_NAME};
use crate::reference::Reference;
use crate::store::Store;

/// An image that was loaded, under one of its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Its ID.
    pub id: Digest,
    /// `None`: the archive has no name for it.
    pub name: Option<Reference>,
}

/// An image of the archive that is in the store but not listed yet.
struct Found {
    manifest: Descriptor,
    id: Digest,
    tags: Vec<Reference>,
    /// It is listed through an index.
    only_in_index: bool,
}

/// What the archive holds.
#[derive(Default)]
struct FoundAll {
    images: Vec<Found>,
    indexes: Vec<FoundIndex>,
}

/// An index of several images that are in the archive.
struct FoundIndex {
    descriptor: Descriptor,
    /// The image for this machine, or the first.
    id: Digest,
    tags: Vec<Reference>,
}

/// Loads all images of an archive. Needs ids. A tag that another image has moves.
///
/// # Errors
/// When the archive holds no image, or something in it is damaged or missing; no image is listed then.
pub fn load(store: &Store, input: impl Read + Send) -> Result<Vec<Loaded>, ArchiveError> {
    let loaded = load_parts(store, input);
    if loaded.is_err() {
        // The error is the news; what can't be deleted now is found by the next sweep.
        let _ = store.abandon();
    }
    loaded
}

fn load_parts(store: &Store, input: impl Read + Send) -> Result<Vec<Loaded>, ArchiveError> {
    let mut parts = Parts::gather(store, input)?;
    let mut found = FoundAll::default();
    // The OCI manifests first: their bytes, and so their digests, survive.
    if parts.has("index.json") {
        for descriptor in parse::<Index>("index.json", parts.document("index.json")?)?.manifests {
            add_oci(store, &mut parts, &descriptor, &mut found)?;
        }
    }
    if parts.has("manifest.json") {
        let entries: Vec<DockerEntry> = parse("manifest.json", parts.document("manifest.json")?)?;
        for entry in entries {
            add_docker(store, &mut parts, entry, &mut found.images)?;
        }
    }
    if found.images.is_empty() {
        return Err(match parts.has("repositories") {
            true => ArchiveError::TooOld,
            false => ArchiveError::NoImage,
        });
    }
    list(store, found)
}

fn list(store: &Store, found: FoundAll) -> Result<Vec<Loaded>, ArchiveError> {
    let FoundAll { images, indexes } = found;
    let named = |id| {
        move |tag: &Reference| Loaded {
            id,
            name: Some(tag.clone()),
        }
    };
    let mut loaded = Vec::new();
    for mut image in images {
        // `manifest.json` gives the index's name to one of its images.
        let in_index = |tag: &Reference| indexes.iter().any(|index| index.tags.contains(tag));
        let parts = image.tags.iter().any(in_index) || image.only_in_index;
        image.tags.retain(|tag| !in_index(tag));
        let Image { id, .. } = store.list_image(&image.manifest, &image.tags, &[], None)?;
        if image.tags.is_empty() && !parts {
            loaded.push(Loaded { id, name: None });
        }
        loaded.extend(image.tags.iter().map(named(id)));
    }
    for index in indexes {
        let FoundIndex { id, tags, .. } = index;
        store.list_index(&index.descriptor, &tags, &[])?;
        if tags.is_empty() {
            loaded.push(Loaded { id, name: None });
        }
        loaded.extend(tags.iter().map(named(id)));
    }
    Ok(loaded)
}

/// Adds a tag, or the image, to what was found.
fn add_found(found: &mut Vec<Found>, image: Found) {
    match found.iter_mut().find(|other| other.id == image.id) {
        Some(other) => {
            other.only_in_index &= image.only_in_index;
            for tag in image.tags {
                if !other.tags.contains(&tag) {
                    other.tags.push(tag);
                }
            }
        }
        None => found.push(image),
    }
}

fn add_oci(
    store: &Store,
    parts: &mut Parts<'_>,
    listed: &Descriptor,
    found: &mut FoundAll,
) -> Result<(), ArchiveError> {
    let tags: Vec<Reference> = name_of(listed)?.into_iter().collect();
    let Document::Index(index) = document(parts, &listed.digest)? else {
        let image = add_image(store, parts, &listed.digest)?;
        add_found(&mut found.images, Found { tags, ..image });
        return Ok(());
    };
    let mut inside = Index::default();
    let mut documents = vec![listed.digest];
    manifests_in(parts, &index, &mut inside.manifests, &mut documents)?;
    let host = inside.for_platform(&Platform::host()).map(|d| d.digest);
    let mut images = Vec::new();
    for digest in inside.manifests.iter().map(|descriptor| descriptor.digest) {
        match add_image(store, parts, &digest) {
            Ok(image) => images.push(image),
            // Who saved it had only what his machine runs.
            Err(ArchiveError::Missing { .. }) if host != Some(digest) => {}
            Err(error) => return Err(error),
        }
    }
    let chosen = images.iter().find(|i| Some(i.manifest.digest) == host);
    let Some(id) = chosen.or(images.first()).map(|image| image.id) else {
        return Err(ArchiveError::NoPlatform);
    };
    if images.len() == 1 {
        let only = images.remove(0);
        add_found(&mut found.images, Found { tags, ..only });
        return Ok(());
    }
    for digest in &documents {
        store.put_document(parts.blob(digest)?)?;
    }
    for image in images {
        let only_in_index = true;
        let image = Found {
            only_in_index,
            ..image
        };
        add_found(&mut found.images, image);
    }
    let size = parts.blob(&listed.digest)?.len() as u64;
    let media_type = Document::Index(index).media_type().to_owned();
    found.indexes.push(FoundIndex {
        descriptor: Descriptor::new(&media_type, listed.digest, size),
        id,
        tags,
    });
    Ok(())
}

/// The image of a manifest of the OCI layout.
fn add_image(store: &Store, parts: &mut Parts<'_>, digest: &Digest) -> Result<Found, ArchiveError> {
    let path = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
    let document = document(parts, digest)?;
    let media_type = document.media_type().to_owned();
    let Document::Manifest(manifest) = document else {
        return Err(ArchiveError::NoPlatform);
    };
    let id = manifest.config.digest;
    let config_bytes = parts.blob(&id)?.to_vec();
    let config: ImageConfig = parse(&path(&id), &config_bytes)?;
    let paths: Vec<String> = manifest.layers.iter().map(|l| path(&l.digest)).collect();
    add_layers(parts, &paths, &config)?;
    store.put_document(&config_bytes)?;
    let bytes = parts.blob(digest)?;
    store.put_document(bytes)?;
    Ok(Found {
        manifest: Descriptor::new(&media_type, *digest, bytes.len() as u64),
        id,
        tags: Vec::new(),
        only_in_index: false,
    })
}

/// A manifest or an index of the OCI layout.
fn document(parts: &Parts<'_>, digest: &Digest) -> Result<Document, ArchiveError> {
    Document::parse(parts.blob(digest)?).map_err(|source| ArchiveError::Document {
        path: format!("blobs/sha256/{}", digest.hex()),
        source,
    })
}

/// The manifests of images behind an index, as far as they are in the archive, and the indexes on the way to them.
fn manifests_in(
    parts: &Parts<'_>,
    index: &Index,
    manifests: &mut Vec<Descriptor>,
    indexes: &mut Vec<Digest>,
) -> Result<(), ArchiveError> {
    for descriptor in &index.manifests {
        let platform = descriptor.platform.as_ref();
        let attestation = platform.is_some_and(|platform| platform.os == "unknown");
        let digest = descriptor.digest;
        let there = parts.has(&format!("blobs/sha256/{}", digest.hex()));
        if attestation || !there || indexes.contains(&digest) {
            continue;
        }
        match document(parts, &digest)? {
            Document::Manifest(_) => manifests.push(descriptor.clone()),
            Document::Index(_) if indexes.len() > 16 => return Err(ArchiveError::NoPlatform),
            Document::Index(inner) => {
                indexes.push(digest);
                manifests_in(parts, &inner, manifests, indexes)?;
            }
        }
    }
    Ok(())
}

fn name_of(descriptor: &Descriptor) -> Result<Option<Reference>, ArchiveError> {
    let annotations = &descriptor.annotations;
    // containerd's is always a full name; the spec's may be as well, or only a tag, which makes a poor name.
    let name = annotations
        .get(CONTAINERD_NAME)
        .or_else(|| annotations.get(REF_NAME))
        .filter(|name| !name.is_empty());
    let name = name.map(|name| parse_name(name)).transpose()?;
    Ok(name.filter(|name| name.digest.is_none()))
}

fn add_docker(
    store: &Store,
    parts: &mut Parts<'_>,
    entry: DockerEntry,
    found: &mut Vec<Found>,
) -> Result<(), ArchiveError> {
    let config_bytes = parts.document(&entry.config)?.to_vec();
    let id = Digest::of(&config_bytes);
    let tags = entry.repo_tags.unwrap_or_default();
    let tags = tags.iter().map(|tag| parse_name(tag));
    let tags: Vec<Reference> = tags.collect::<Result<_, _>>()?;
    let manifest = match found.iter().find(|other| other.id == id) {
        Some(other) => other.manifest.clone(),
        None => {
            let config: ImageConfig = parse(&entry.config, &config_bytes)?;
            let layers = add_layers(parts, &entry.layers.unwrap_or_default(), &config)?;
            store.put_document(&config_bytes)?;
            store.put_manifest(id, config_bytes.len() as u64, &layers)?
        }
    };
    let image = Found {
        manifest,
        id,
        tags,
        only_in_index: false,
    };
    add_found(found, image);
    Ok(())
}

fn add_layers(
    parts: &mut Parts<'_>,
    paths: &[String],
    config: &ImageConfig,
) -> Result<Vec<LayerBlob>, ArchiveError> {
    let diff_ids = &config.rootfs.diff_ids;
    if paths.len() != diff_ids.len() {
        return Err(ArchiveError::Layers {
            layers: paths.len(),
            diff_ids: diff_ids.len(),
        });
    }
    let pairs = paths.iter().zip(diff_ids);
    pairs
        .map(|(path, diff_id)| parts.layer(path, diff_id))
        .collect()
}

fn parse<'a, T: serde::Deserialize<'a>>(path: &str, bytes: &'a [u8]) -> Result<T, ArchiveError> {
    serde_json::from_slice(bytes).map_err(|source| ArchiveError::Document {
        path: path.to_owned(),
        source,
    })
}
