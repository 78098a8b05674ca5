//! A docker archive as a source.
//!
//! Its `manifest.json` names a config and layers, and no manifest. When the archive is an OCI layout as well (docker's since
//! 25, and ours), that one's manifest is taken, whose digest so survives; else the one that `load` would make.

use std::collections::HashMap;
use std::io::Read;

use super::files::{Files, blob_path, parse};
use super::layout::{self, raw_manifest};
use super::tar_files::TarFiles;
use super::{Opened, TransportError};
use crate::archive::{DockerEntry, clean};
use crate::config::ImageConfig;
use crate::digest::{Digest, Hasher};
use crate::layer::media_type_of;
use crate::manifest::{Descriptor, Manifest, OCI_CONFIG, OCI_MANIFEST, oci_layer_type};
use crate::reference::Reference;
use crate::transfer::{BlobStream, PlaceError, RawManifest, Source};

/// One image of an archive.
struct DockerSource {
    files: TarFiles,
    shown: String,
    manifest: RawManifest,
    /// Where the blobs are.
    paths: HashMap<Digest, String>,
}

/// Opens the archive's image `name`.
pub(super) fn open(
    files: TarFiles,
    shown: String,
    name: Option<&str>,
) -> Result<Opened, TransportError> {
    let path = "manifest.json";
    let entries: Vec<DockerEntry> = parse(&files, path, &files.document(path)?)?;
    let entry = choose(&files, &entries, name)?;
    let tags = entry.repo_tags.iter().flatten();
    let names = tags.filter_map(|tag| Reference::parse(tag).ok()).collect();
    let config = files.document(&entry.config)?;
    let id = Digest::of(&config);
    let mut paths = HashMap::from([(id, clean(&entry.config))]);
    let manifest = match layout::manifest_of(&files, &id) {
        Some(known) => layout::manifest(&files, &known.digest, &known.media_type)?,
        None => make_manifest(&files, entry, &config, &mut paths)?,
    };
    let source = DockerSource {
        files,
        shown,
        manifest,
        paths,
    };
    Ok(Opened {
        source: Box::new(source),
        names,
    })
}

fn choose<'e>(
    files: &TarFiles,
    entries: &'e [DockerEntry],
    name: Option<&str>,
) -> Result<&'e DockerEntry, TransportError> {
    let place = || files.place().to_owned();
    let names = || {
        let all = entries.iter().filter_map(|entry| entry.repo_tags.as_ref());
        all.flatten().cloned().collect()
    };
    let Some(name) = name else {
        let which = || TransportError::WhichImage {
            place: place(),
            count: entries.len(),
            names: names(),
        };
        return match entries {
            [only] => Ok(only),
            _ => Err(which()),
        };
    };
    let number = name.strip_prefix('@').and_then(|n| n.parse::<usize>().ok());
    let wanted = Reference::parse(name).ok();
    let is_wanted = |tag: &String| wanted.is_some() && Reference::parse(tag).ok() == wanted;
    let found = match number {
        Some(number) => entries.get(number),
        None => entries
            .iter()
            .find(|entry| entry.repo_tags.iter().flatten().any(is_wanted)),
    };
    found.ok_or_else(|| TransportError::NoImage {
        place: place(),
        name: name.to_owned(),
        names: names(),
    })
}

/// The manifest of an image that has none.
fn make_manifest(
    files: &TarFiles,
    entry: &DockerEntry,
    config_bytes: &[u8],
    paths: &mut HashMap<Digest, String>,
) -> Result<RawManifest, TransportError> {
    let config: ImageConfig = parse(files, &entry.config, config_bytes)?;
    let diff_ids = &config.rootfs.diff_ids;
    let layer_paths = entry.layers.as_deref().unwrap_or_default();
    if layer_paths.len() != diff_ids.len() {
        return Err(TransportError::Layers {
            place: files.place().to_owned(),
            layers: layer_paths.len(),
            diff_ids: diff_ids.len(),
        });
    }
    let mut layers = Vec::new();
    for (path, diff_id) in layer_paths.iter().zip(diff_ids) {
        let layer = describe(files, path, diff_id.0)?;
        paths.insert(layer.digest, clean(path));
        layers.push(layer);
    }
    let (id, size) = (Digest::of(config_bytes), config_bytes.len() as u64);
    let manifest = Manifest::new(Descriptor::new(OCI_CONFIG, id, size), layers);
    let path = "manifest.json";
    let bytes = serde_json::to_vec(&manifest).map_err(|source| TransportError::Document {
        file: path.to_owned(),
        place: files.place().to_owned(),
        source,
    })?;
    raw_manifest(files, path, bytes, OCI_MANIFEST)
}

/// A layer as it stands in the archive. Only of a compressed one the digest isn't known before it is read.
fn describe(files: &TarFiles, path: &str, diff_id: Digest) -> Result<Descriptor, TransportError> {
    let failed = || TransportError::io("read", files.place().join(path));
    let mut content = files.open(path, 0)?;
    let mut head = Vec::new();
    let mut first = (&mut content.bytes).take(16);
    first.read_to_end(&mut head).map_err(failed())?;
    let plain = media_type_of(&[]);
    let media_type = media_type_of(&head);
    let mut digest = diff_id;
    if media_type != plain {
        let mut hasher = Hasher::new();
        hasher.update(&head);
        let mut buffer = vec![0; 1 << 17];
        loop {
            let count = content.bytes.read(&mut buffer).map_err(failed())?;
            if count == 0 {
                break;
            }
            hasher.update(&buffer[..count]);
        }
        digest = hasher.finish();
    }
    Ok(Descriptor::new(
        oci_layer_type(&media_type),
        digest,
        content.size,
    ))
}

impl Source for DockerSource {
    fn shown(&self) -> String {
        self.shown.clone()
    }

    fn manifest(&self, digest: Option<&Digest>) -> Result<RawManifest, PlaceError> {
        match digest {
            Some(other) if *other != self.manifest.digest => {
                Ok(layout::manifest(&self.files, other, "")?)
            }
            _ => Ok(self.manifest.clone()),
        }
    }

    fn blob(&self, descriptor: &Descriptor, offset: u64) -> Result<BlobStream, PlaceError> {
        let in_layout = || blob_path(&descriptor.digest);
        let path = self.paths.get(&descriptor.digest);
        let path = path.cloned().unwrap_or_else(in_layout);
        let content = self.files.blob(&path, descriptor.size, offset)?;
        Ok(BlobStream {
            offset: offset.min(descriptor.size),
            bytes: content.bytes,
        })
    }
}
