//! Manifests and indexes: OCI image-spec manifest.md and image-index.md, and Docker's schema 2, which has the same shape.
//!
//! Fields that we don't know are kept. A document that was received keeps its bytes in the blob store; these types
//! are for reading it, and for writing documents of our own.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::config::ImageConfig;
use crate::digest::Digest;

/// OCI manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// OCI config.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// OCI layer, plain.
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// OCI layer, gzip.
pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// OCI layer, zstd.
pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// Docker's manifest.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker's index.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// Says which tag a descriptor in an index stands for (annotations.md).
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A typed link to a blob (descriptor.md).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the blob is.
    #[serde(default)]
    pub media_type: String,
    /// Of its bytes.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// Free text by key.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
    /// For manifests in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Fields that we don't know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Descriptor {
    /// A plain link.
    #[must_use]
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            annotations: BTreeMap::new(),
            platform: None,
            extra: Map::new(),
        }
    }
}

/// What an image runs on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// GOARCH word.
    #[serde(default)]
    pub architecture: String,
    /// GOOS word.
    #[serde(default)]
    pub os: String,
    /// GOARM and the like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Fields that we don't know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Platform {
    /// The platform that a config names.
    #[must_use]
    pub fn of(config: &ImageConfig) -> Self {
        Self {
            architecture: config.architecture.clone(),
            os: config.os.clone(),
            variant: config.variant.clone(),
            extra: Map::new(),
        }
    }
}

/// An image: its config and its layers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// [`OCI_MANIFEST`] or [`DOCKER_MANIFEST`]; optional in OCI 1.0.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// The image config.
    pub config: Descriptor,
    /// Base first.
    #[serde(default, deserialize_with = "null_as_default")]
    pub layers: Vec<Descriptor>,
    /// Fields that we don't know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Manifest {
    /// An OCI manifest.
    #[must_use]
    pub fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: OCI_MANIFEST.to_owned(),
            config,
            layers,
            extra: Map::new(),
        }
    }
}

/// A list of manifests, and of other indexes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// [`OCI_INDEX`] or [`DOCKER_LIST`]; optional in OCI 1.0.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// In no order that means anything.
    #[serde(default, deserialize_with = "null_as_default")]
    pub manifests: Vec<Descriptor>,
    /// Fields that we don't know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            schema_version: 2,
            media_type: OCI_INDEX.to_owned(),
            manifests: Vec::new(),
            extra: Map::new(),
        }
    }
}

/// A manifest or an index, told by its fields: media types are optional, and wrong often enough.
#[derive(Debug, Clone, PartialEq)]
pub enum Document {
    /// It has a config.
    Manifest(Box<Manifest>),
    /// It has manifests.
    Index(Index),
}

impl Document {
    /// Reads either.
    ///
    /// # Errors
    /// When it isn't JSON of one of the shapes.
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Probe {
            manifests: Option<serde::de::IgnoredAny>,
        }
        let probe: Probe = serde_json::from_slice(bytes)?;
        if probe.manifests.is_some() {
            return serde_json::from_slice(bytes).map(Self::Index);
        }
        serde_json::from_slice(bytes).map(|manifest| Self::Manifest(Box::new(manifest)))
    }

    /// The media type to be written into a descriptor.
    #[must_use]
    pub fn media_type(&self) -> &str {
        let (said, default) = match self {
            Self::Manifest(manifest) => (&manifest.media_type, OCI_MANIFEST),
            Self::Index(index) => (&index.media_type, OCI_INDEX),
        };
        if said.is_empty() { default } else { said }
    }
}

/// The OCI word for a layer's media type, which may be Docker's.
#[must_use]
pub fn oci_layer_type(media_type: &str) -> &str {
    match media_type {
        "application/vnd.docker.image.rootfs.diff.tar" => OCI_LAYER,
        "application/vnd.docker.image.rootfs.diff.tar.gzip"
        | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => OCI_LAYER_GZIP,
        "application/vnd.docker.image.rootfs.diff.tar.zstd" => OCI_LAYER_ZSTD,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_survive() {
        let text = r#"{"schemaVersion":2,"config":{"mediaType":"c","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0,"urls":["x"]},"layers":[],"subject":{"a":1}}"#;
        let manifest: Manifest = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&manifest).unwrap(), text);
    }

    #[test]
    fn an_index_is_told_by_its_manifests() {
        let index = Document::parse(br#"{"schemaVersion":2,"manifests":[]}"#).unwrap();
        assert_eq!(index.media_type(), OCI_INDEX);
        assert!(Document::parse(b"{}").is_err());
        assert!(Document::parse(b"[1]").is_err());
    }
}
