//! A build cache that travels: an image manifest whose layers are those of the steps.
//!
//! ```text
//! manifest ─▶ config    what is known of the steps: in BuildKit's form (application/vnd.buildkit.cacheconfig.v0: `layers`,
//!         │             `records`), and in full under `rctr`
//!         └─▶ layers    of the steps, and of cache mounts, a tar each
//! ```
//!
//! BuildKit reads it without complaint, but finds nothing in it for itself: its keys are digests of its own definitions. An
//! image may carry the same inside its config (`type=inline`): only keys, and which of the image's layers is theirs.
//!
//! What is read is not trusted: every document and every layer is verified by its digest. That a step makes this layer
//! must be believed, as with any cache.

mod mounts;
mod read;
mod write;

pub use read::BuildCache;
pub use write::{CacheOptions, write_cache};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cache::{StepInput, StepRecord};
use crate::config::ImageConfig;
use crate::digest::{DiffId, Digest};
use crate::layer::LayerBlob;

const VERSION: u32 = 2;
/// What the config is.
const CACHE_CONFIG: &str = "application/vnd.buildkit.cacheconfig.v0";
/// Where an image's config has its cache.
const INLINE: &str = "dev.rctr.cache.v1";

/// The config.
#[derive(Debug, Default, Serialize, Deserialize)]
struct CacheConfig {
    layers: Vec<CacheLayer>,
    records: Vec<CacheRecord>,
    /// `None`: it is BuildKit's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rctr: Option<Known>,
}

/// BuildKit's: a layer and the one below it, by its place in the list; -1: none.
#[derive(Debug, Serialize, Deserialize)]
struct CacheLayer {
    blob: Digest,
    parent: i64,
}

/// BuildKit's: what a key has made, and the keys that it follows from, by their place in the list.
#[derive(Debug, Serialize, Deserialize)]
struct CacheRecord {
    digest: Digest,
    #[serde(default)]
    results: Vec<CacheResult>,
    #[serde(default)]
    inputs: Vec<Vec<CacheInput>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct CacheResult {
    layer: usize,
    #[serde(rename = "createdAt")]
    created_at: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct CacheInput {
    link: usize,
}

/// All that is known of the steps.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
struct Known {
    version: u32,
    /// Those of the newest build first.
    steps: Vec<PortableStep>,
    #[serde(default)]
    memos: Vec<PortableMemo>,
    #[serde(default)]
    mounts: Vec<PortableMount>,
}

/// A step; its record's layer is as it is in the cache.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct PortableStep {
    record: StepRecord,
    inputs: Vec<StepInput>,
}

/// The content of a cache mount of RUN.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct PortableMount {
    id: String,
    layer: LayerBlob,
}

/// A memo that belongs to steps: see [`Store::memo`](crate::Store::memo).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortableMemo {
    /// Its kind.
    pub kind: String,
    /// What it is remembered for.
    pub key: Digest,
    /// What is remembered.
    pub value: Digest,
}

/// A step in an image's config.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct InlineStep {
    key: Digest,
    kind: String,
    name: String,
    layer: DiffId,
}

/// Puts what a build has made into the config of its image: `steps` are key, kind, name and layer of each. The same steps give
/// the same bytes.
pub fn write_inline<'a>(
    config: &mut ImageConfig,
    steps: impl Iterator<Item = (Digest, &'a str, &'a str, DiffId)>,
) {
    let steps = steps.map(|(key, kind, name, layer)| InlineStep {
        key,
        kind: kind.to_owned(),
        name: name.to_owned(),
        layer,
    });
    let steps: Vec<InlineStep> = steps.collect();
    // Digests and text: they can always be written.
    let value = serde_json::to_value(steps).unwrap_or(Value::Null);
    config.extra.insert(INLINE.to_owned(), value);
}
