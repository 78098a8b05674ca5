//! Manifest and config of an image in a source, verified and found to be what we can work with.

use std::io::Read;

use super::error::Cause;
use super::retry::{Attempts, Patience};
use super::{PlaceError, RawManifest, Source, TransferError};
use crate::blob::DOCUMENT_LIMIT;
use crate::config::ImageConfig;
use crate::digest::Digest;
use crate::manifest::{Descriptor, Document, Index, Manifest, OCI_CONFIG, Platform};

/// Docker's own limit is 127; the rest of the world has none.
const MAX_LAYERS: usize = 1000;
/// Of an index.
const MAX_MANIFESTS: usize = 1000;
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// How a layer's media type may begin; compression is told by the bytes.
const LAYER_TYPES: [&str; 4] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
];
const SUFFIXES: [&str; 5] = ["", "+gzip", ".gzip", "+zstd", ".zstd"];

/// What a source's name stands for.
pub(super) enum Found {
    /// One image.
    One(RawManifest, Box<Manifest>),
    /// Several.
    Index(RawManifest, Index),
}

/// What an index lists, directly and through others.
#[derive(Default)]
pub(super) struct Members {
    pub(super) indexes: Vec<RawManifest>,
    pub(super) images: Vec<(RawManifest, Box<Manifest>)>,
}

/// Asks a source for documents.
pub(super) struct Documents<'a> {
    pub(super) source: &'a dyn Source,
    pub(super) patience: Patience,
}

impl Documents<'_> {
    /// What the source's name, or an index's descriptor, stands for.
    pub(super) fn find(&self, wanted: Option<&Descriptor>) -> Result<Found, TransferError> {
        let digest = wanted.map(|wanted| &wanted.digest);
        let asked = Attempts::ask(self.patience, None, || self.source.manifest(digest));
        let raw = asked.map_err(|source| TransferError::Manifest {
            place: self.source.shown(),
            source: Cause(source),
        })?;
        // Whatever the place says.
        let actual = Digest::of(&raw.bytes);
        let expected = digest.copied().unwrap_or(raw.digest);
        if actual != expected {
            return Err(self.wrong(expected, actual));
        }
        if raw.bytes.len() as u64 > DOCUMENT_LIMIT {
            return Err(self.too_large("manifest", &actual, raw.bytes.len() as u64));
        }
        match Document::parse(&raw.bytes) {
            Ok(Document::Manifest(manifest)) => Ok(Found::One(raw, manifest)),
            Ok(Document::Index(index)) => Ok(Found::Index(raw, index)),
            Err(_) if is_schema1(&raw) => Err(TransferError::Schema1 {
                place: self.source.shown(),
            }),
            Err(source) => Err(TransferError::Document {
                what: "manifest",
                digest: actual,
                place: self.source.shown(),
                source,
            }),
        }
    }

    /// The manifest for `wanted` behind an index, which may be nested.
    pub(super) fn choose(
        &self,
        index: Index,
        wanted: &Platform,
    ) -> Result<(RawManifest, Box<Manifest>), TransferError> {
        let mut index = index;
        for _ in 0..4 {
            let Some(descriptor) = choose(&index, wanted) else {
                return Err(self.no_platform(wanted, available(&index)));
            };
            match self.find(Some(descriptor))? {
                Found::One(raw, manifest) => return Ok((raw, manifest)),
                Found::Index(_, inner) => index = inner,
            }
        }
        Err(TransferError::Nested {
            place: self.source.shown(),
        })
    }

    pub(super) fn no_platform(&self, wanted: &Platform, available: Vec<String>) -> TransferError {
        TransferError::NoPlatform {
            place: self.source.shown(),
            wanted: wanted.to_string(),
            available: match available.is_empty() {
                true => vec!["no platform at all".to_owned()],
                false => available,
            },
        }
    }

    /// Whether there aren't absurdly many layers.
    pub(super) fn check_layers(&self, manifest: &Manifest) -> Result<(), TransferError> {
        match manifest.layers.len() {
            layers if layers > MAX_LAYERS => Err(TransferError::TooManyLayers {
                place: self.source.shown(),
                layers,
                limit: MAX_LAYERS,
            }),
            _ => Ok(()),
        }
    }

    /// Whether there aren't absurdly many images.
    pub(super) fn check_index(&self, index: &Index) -> Result<(), TransferError> {
        match index.manifests.len() {
            manifests if manifests > MAX_MANIFESTS => Err(TransferError::TooManyManifests {
                place: self.source.shown(),
                manifests,
                limit: MAX_MANIFESTS,
            }),
            _ => Ok(()),
        }
    }

    /// An image that isn't in an index says in its config what it is for.
    pub(super) fn check_platform(
        &self,
        asked: Option<&Platform>,
        config: &ImageConfig,
    ) -> Result<(), TransferError> {
        let offered = Platform::of(config);
        match asked {
            Some(asked) if !asked.matches(&offered) => {
                Err(self.no_platform(asked, vec![offered.to_string()]))
            }
            _ => Ok(()),
        }
    }

    /// All images of an index and of those in it, and what else it lists.
    pub(super) fn members(&self, index: Index) -> Result<Members, TransferError> {
        let mut members = Members::default();
        let mut waiting = vec![index];
        for _ in 0..MAX_MANIFESTS {
            let Some(index) = waiting.pop() else {
                return Ok(members);
            };
            self.check_index(&index)?;
            for descriptor in &index.manifests {
                match self.find(Some(descriptor))? {
                    Found::One(raw, manifest) => members.images.push((raw, manifest)),
                    Found::Index(raw, index) => {
                        members.indexes.push(raw);
                        waiting.push(index);
                    }
                }
            }
        }
        Err(TransferError::Nested {
            place: self.source.shown(),
        })
    }

    /// Whether the manifest is of a container image whose layers we know how to unpack.
    pub(super) fn check(&self, manifest: &Manifest) -> Result<(), TransferError> {
        let place = || self.source.shown();
        let config = manifest.config.media_type.as_str();
        if !matches!(config, OCI_CONFIG | DOCKER_CONFIG | "") {
            let kind = manifest.extra.get("artifactType");
            let kind = kind.and_then(|kind| kind.as_str()).unwrap_or(config);
            let (place, kind) = (place(), kind.to_owned());
            return Err(TransferError::Artifact { place, kind });
        }
        self.check_layers(manifest)?;
        for layer in &manifest.layers {
            let known = LAYER_TYPES.iter().any(|start| {
                let suffix = layer.media_type.strip_prefix(start);
                suffix.is_some_and(|suffix| SUFFIXES.contains(&suffix))
            });
            if !known && !layer.media_type.is_empty() {
                return Err(TransferError::LayerType {
                    digest: layer.digest,
                    place: place(),
                    media_type: layer.media_type.clone(),
                });
            }
        }
        Ok(())
    }

    /// The config's bytes and what they say.
    pub(super) fn config(
        &self,
        manifest: &Manifest,
    ) -> Result<(Vec<u8>, ImageConfig), TransferError> {
        let bytes = self.document(&manifest.config)?;
        let config: ImageConfig =
            serde_json::from_slice(&bytes).map_err(|source| TransferError::Document {
                what: "config",
                digest: manifest.config.digest,
                place: self.source.shown(),
                source,
            })?;
        let (layers, diff_ids) = (manifest.layers.len(), config.rootfs.diff_ids.len());
        if layers != diff_ids {
            return Err(TransferError::Layers {
                place: self.source.shown(),
                layers,
                diff_ids,
            });
        }
        Ok((bytes, config))
    }

    /// A small blob, verified; asked for once more when it is wrong.
    pub(super) fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>, TransferError> {
        if descriptor.size > DOCUMENT_LIMIT {
            return Err(self.too_large("config", &descriptor.digest, descriptor.size));
        }
        let mut actual = descriptor.digest;
        for _ in 0..2 {
            let asked = Attempts::ask(self.patience, None, || self.read(descriptor));
            let bytes = asked.map_err(|source| TransferError::Blob {
                digest: descriptor.digest,
                place: self.source.shown(),
                source: Cause(source),
            })?;
            if bytes.len() as u64 > descriptor.size {
                return Err(TransferError::TooLong {
                    digest: descriptor.digest,
                    place: self.source.shown(),
                    size: descriptor.size,
                });
            }
            actual = Digest::of(&bytes);
            if actual == descriptor.digest {
                return Ok(bytes);
            }
        }
        Err(self.wrong(descriptor.digest, actual))
    }

    fn read(&self, descriptor: &Descriptor) -> Result<Vec<u8>, PlaceError> {
        let mut stream = self.source.blob(descriptor, 0)?;
        let mut bytes = Vec::new();
        // One byte more tells that it is too long.
        let limit = descriptor.size + 1;
        let read = (&mut stream.bytes).take(limit).read_to_end(&mut bytes);
        read.map_err(|source| -> PlaceError { Box::new(Interrupted(source)) })?;
        if (bytes.len() as u64) < descriptor.size {
            return Err(Box::new(Interrupted(
                std::io::ErrorKind::UnexpectedEof.into(),
            )));
        }
        Ok(bytes)
    }

    fn wrong(&self, expected: Digest, actual: Digest) -> TransferError {
        TransferError::Digest {
            place: self.source.shown(),
            expected,
            actual,
        }
    }

    fn too_large(&self, what: &'static str, digest: &Digest, size: u64) -> TransferError {
        TransferError::DocumentSize {
            what,
            digest: *digest,
            place: self.source.shown(),
            size,
        }
    }
}

/// The descriptor that fits best. One that says nothing of its platform may be for any, if it is the only one.
fn choose<'i>(index: &'i Index, wanted: &Platform) -> Option<&'i Descriptor> {
    let fitting = wanted.choose(&index.manifests, |descriptor| descriptor.platform.as_ref());
    match (fitting, index.manifests.as_slice()) {
        (None, [only]) if only.platform.is_none() => Some(only),
        (found, _) => found,
    }
}

/// All platforms of an index; attestations and the like have none.
fn available(index: &Index) -> Vec<String> {
    let platforms = index.manifests.iter().filter_map(|d| d.platform.as_ref());
    let mut names = Vec::new();
    for platform in platforms.filter(|platform| platform.os != "unknown") {
        let name = platform.to_string();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// A stream broke while it was read.
#[derive(Debug, thiserror::Error)]
#[error("the connection broke")]
struct Interrupted(#[source] std::io::Error);

impl crate::explain::Explain for Interrupted {}

impl super::PlaceFailure for Interrupted {
    fn is_transient(&self) -> bool {
        true
    }
}

fn is_schema1(raw: &RawManifest) -> bool {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Probe {
        schema_version: u32,
    }
    serde_json::from_slice(&raw.bytes).is_ok_and(|probe: Probe| probe.schema_version == 1)
}
