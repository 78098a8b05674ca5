//! `load`: from an archive into the store.

use std::io::Read;

use super::parts::Parts;
use super::{ArchiveError, CONTAINERD_NAME, DockerEntry, parse_name};
use crate::config::ImageConfig;
use crate::digest::Digest;
use crate::image::Image;
use crate::index::host_architecture;
use crate::layer::LayerBlob;
use crate::manifest::{Descriptor, Document, Index, Manifest, REF_NAME};
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
    let mut found = Vec::new();
    // The OCI manifests first: their bytes, and so their digests, survive.
    if parts.has("index.json") {
        for descriptor in parse::<Index>("index.json", parts.document("index.json")?)?.manifests {
            add_oci(store, &mut parts, &descriptor, &mut found)?;
        }
    }
    if parts.has("manifest.json") {
        let entries: Vec<DockerEntry> = parse("manifest.json", parts.document("manifest.json")?)?;
        for entry in entries {
            add_docker(store, &mut parts, entry, &mut found)?;
        }
    }
    if found.is_empty() {
        return Err(match parts.has("repositories") {
            true => ArchiveError::TooOld,
            false => ArchiveError::NoImage,
        });
    }
    let mut loaded = Vec::new();
    for image in found {
        let Image { id, .. } = store.list_image(&image.manifest, &image.tags, &[], None)?;
        if image.tags.is_empty() {
            loaded.push(Loaded { id, name: None });
        }
        let named = |tag| Loaded {
            id,
            name: Some(tag),
        };
        loaded.extend(image.tags.into_iter().map(named));
    }
    Ok(loaded)
}

/// Adds a tag, or the image, to what was found.
fn add_found(found: &mut Vec<Found>, image: Found) {
    match found.iter_mut().find(|other| other.id == image.id) {
        Some(other) => {
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
    found: &mut Vec<Found>,
) -> Result<(), ArchiveError> {
    let (descriptor, manifest) = resolve(parts, listed)?;
    let id = manifest.config.digest;
    let tags = name_of(listed)?.into_iter().collect();
    let image = Found {
        manifest: descriptor,
        id,
        tags,
    };
    if found.iter().any(|other| other.id == id) {
        add_found(found, image);
        return Ok(());
    }
    let config_bytes = parts.blob(&id)?.to_vec();
    let path = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
    let config: ImageConfig = parse(&path(&id), &config_bytes)?;
    let paths: Vec<String> = manifest.layers.iter().map(|l| path(&l.digest)).collect();
    add_layers(parts, &paths, &config)?;
    store.put_document(&config_bytes)?;
    store.put_document(parts.blob(&image.manifest.digest)?)?;
    add_found(found, image);
    Ok(())
}

/// The manifest behind a descriptor, which may be of an index.
fn resolve(
    parts: &Parts<'_>,
    descriptor: &Descriptor,
) -> Result<(Descriptor, Manifest), ArchiveError> {
    let mut descriptor = descriptor.clone();
    for _ in 0..4 {
        let bytes = parts.blob(&descriptor.digest)?;
        let path = || format!("blobs/sha256/{}", descriptor.digest.hex());
        let document = Document::parse(bytes).map_err(|source| ArchiveError::Document {
            path: path(),
            source,
        })?;
        let media_type = document.media_type().to_owned();
        match document {
            Document::Manifest(manifest) => {
                let size = bytes.len() as u64;
                let plain = Descriptor::new(&media_type, descriptor.digest, size);
                return Ok((plain, *manifest));
            }
            Document::Index(index) => {
                let inner = index.for_architecture(host_architecture());
                descriptor = inner.cloned().ok_or(ArchiveError::NoPlatform)?;
            }
        }
    }
    Err(ArchiveError::NoPlatform)
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
    add_found(found, Found { manifest, id, tags });
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
