//! Writing a cache.

use std::collections::{BTreeMap, HashSet};
use std::sync::Mutex;

use serde_json::{Map, Value};

use super::{BuildCache, CACHE_CONFIG, CacheConfig, CacheInput, CacheLayer, CacheRecord};
use super::{CacheResult, Known, PortableMemo, PortableStep, VERSION, mounts};
use crate::atomic;
use crate::digest::Digest;
use crate::layer::LayerBlob;
use crate::manifest::{Descriptor, Manifest, OCI_LAYER, OCI_MANIFEST, oci_layer_type};
use crate::session::Pin;
use crate::store::Store;
use crate::transfer::content::{Bytes, Repacked, Stored};
use crate::transfer::error::Cause;
use crate::transfer::retry::{Attempts, Patience};
use crate::transfer::{BlobContent, Compression, Pushed, RawManifest, Target, TransferError};

/// Inputs of a step that go along: `--explain` shows no more of them, and a COPY may have very many.
const MAX_INPUTS: usize = 200;
/// What containerd calls a layer's diffID; BuildKit wants it.
const UNCOMPRESSED: &str = "containerd.io/uncompressed";

/// What goes into a cache, and how.
pub struct CacheOptions<'a> {
    /// The steps of this build, in order. Those that aren't in the store's cache are left out.
    pub keys: &'a [Digest],
    /// Memos of this build.
    pub memos: &'a [PortableMemo],
    /// Cache mounts whose content goes along, by id. Needs ids, if there are any.
    pub mounts: &'a [String],
    /// How layers are compressed that are plain here; `None`: they stay plain.
    pub compression: Option<(Compression, Option<i32>)>,
    /// What the place had before: it stays in the cache, as far as there is room.
    pub before: Option<&'a BuildCache>,
    /// Bytes of all layers; what was used longest ago is left out.
    pub max_size: u64,
}

/// Writes what a build has made to `target`. Layers that are there aren't sent again.
///
/// # Errors
/// When something can't be read, or the target doesn't take it: it has what it had before then.
pub fn write_cache(
    store: &Store,
    target: &dyn Target,
    options: &CacheOptions<'_>,
) -> Result<Pushed, TransferError> {
    let writing = Writing {
        store,
        target,
        options,
        turn: Mutex::new(()),
    };
    let known = writing.known()?;
    let document = |value: &Value| atomic::to_json(&store.path("blobs"), value);
    let config = document(&json(&config(&known))?)?;
    let descriptor = Descriptor::new(CACHE_CONFIG, Digest::of(&config), config.len() as u64);
    writing.put(&descriptor, &Bytes(config))?;
    let manifest = document(&json(&manifest(descriptor, &known))?)?;
    let raw = RawManifest {
        media_type: OCI_MANIFEST.to_owned(),
        digest: Digest::of(&manifest),
        bytes: manifest,
    };
    let failed = |source| TransferError::PutManifest {
        place: target.shown(),
        source: Cause(source),
    };
    let put = || target.put_manifest(&raw, true);
    Attempts::ask(Patience::default(), None, put).map_err(failed)?;
    target.finish().map_err(failed)?;
    Ok(Pushed {
        digest: raw.digest,
        size: raw.bytes.len() as u64,
    })
}

fn json(value: &impl serde::Serialize) -> Result<Value, TransferError> {
    serde_json::to_value(value).map_err(|source| TransferError::Document {
        what: "config",
        digest: Digest::of(b""),
        place: "the cache".to_owned(),
        source,
    })
}

/// What takes part in a cache's size, each blob once.
struct Room {
    left: u64,
    counted: HashSet<Digest>,
}

impl Room {
    fn take(&mut self, layer: &LayerBlob) -> bool {
        if self.counted.contains(&layer.digest) {
            return true;
        }
        let fits = layer.size <= self.left;
        if fits {
            self.left -= layer.size;
            self.counted.insert(layer.digest);
        }
        fits
    }
}

struct Writing<'a> {
    store: &'a Store,
    target: &'a dyn Target,
    options: &'a CacheOptions<'a>,
    turn: Mutex<()>,
}

impl Writing<'_> {
    /// Sends the layers of this build, and says what the cache has then: this build's first, then what was there, until the
    /// room ends.
    fn known(&self) -> Result<Known, TransferError> {
        let mut room = Room {
            left: self.options.max_size,
            counted: HashSet::new(),
        };
        let mut known = Known {
            version: VERSION,
            ..Known::default()
        };
        let mut keys = HashSet::new();
        for key in self.options.keys {
            let Some(mut record) = self
                .store
                .step_with_inputs(key)
                .filter(|_| keys.insert(*key))
            else {
                continue;
            };
            record.layer = self.layer(&record.layer)?;
            record.log = None;
            if !room.take(&record.layer) {
                continue;
            }
            let mut inputs = std::mem::take(&mut record.inputs);
            inputs.truncate(MAX_INPUTS);
            known.steps.push(PortableStep { record, inputs });
        }
        known.memos = self.options.memos.to_vec();
        for id in self.options.mounts {
            let mount = mounts::pack(self.store, id)?;
            if let Some((mount, content)) = mount
                && room.take(&mount.layer)
            {
                self.put(&descriptor(&mount.layer), &content)?;
                known.mounts.push(mount);
            }
        }
        let Some(before) = self.options.before else {
            return Ok(known);
        };
        let ids: HashSet<_> = known.mounts.iter().map(|mount| mount.id.clone()).collect();
        let others = before.mounts.iter();
        for mount in others.filter(|mount| !ids.contains(&mount.id)) {
            if room.take(&mount.layer) {
                known.mounts.push(mount.clone());
            }
        }
        for step in before.steps().filter(|step| keys.insert(step.record.key)) {
            if room.take(&step.record.layer) {
                known.steps.push(step.clone());
            }
        }
        for memo in before.memos() {
            let same = |other: &PortableMemo| (&other.kind, &other.key) == (&memo.kind, &memo.key);
            if !known.memos.iter().any(same) {
                known.memos.push(memo.clone());
            }
        }
        Ok(known)
    }

    /// Sends a layer of the store; as it is in the cache then.
    fn layer(&self, layer: &LayerBlob) -> Result<LayerBlob, TransferError> {
        self.store.pin(&[Pin::Blob(layer.digest)])?;
        let plain = oci_layer_type(&layer.media_type) == OCI_LAYER;
        let codec = self.options.compression.filter(|_| plain);
        let Some((compression, level)) = codec else {
            let content = Stored {
                store: self.store,
                digest: layer.digest,
                size: layer.size,
            };
            self.put(&descriptor(layer), &content)?;
            return Ok(layer.clone());
        };
        let codec = compression.codec(level);
        let mut content = Repacked::new(self.store, layer, codec, &self.turn);
        loop {
            let identity = content.identity();
            let (digest, size) = identity.map_err(|source| TransferError::Compress {
                diff_id: layer.diff_id,
                source,
            })?;
            let packed = LayerBlob {
                digest,
                size,
                media_type: compression.layer_type().to_owned(),
                diff_id: layer.diff_id,
            };
            match self.put(&descriptor(&packed), &content) {
                Err(_) if content.has_changed() => content.known = None,
                other => return other.map(|()| packed),
            }
        }
    }

    fn put(&self, descriptor: &Descriptor, content: &dyn BlobContent) -> Result<(), TransferError> {
        let put = Attempts::ask(Patience::default(), None, || {
            self.target.put_blob(descriptor, content, &[], &|_| {})
        });
        put.map(drop).map_err(|source| TransferError::PutBlob {
            digest: descriptor.digest,
            place: self.target.shown(),
            source: Cause(source),
        })
    }
}

fn descriptor(layer: &LayerBlob) -> Descriptor {
    let mut descriptor =
        Descriptor::new(oci_layer_type(&layer.media_type), layer.digest, layer.size);
    let diff_id = layer.diff_id.to_string();
    descriptor
        .annotations
        .insert(UNCOMPRESSED.to_owned(), diff_id);
    descriptor
}

/// All layers, each blob once, in the order of the steps.
fn layers(known: &Known) -> Vec<&LayerBlob> {
    let mut seen = HashSet::new();
    let steps = known.steps.iter().map(|step| &step.record.layer);
    let mounts = known.mounts.iter().map(|mount| &mount.layer);
    steps
        .chain(mounts)
        .filter(|layer| seen.insert(layer.digest))
        .collect()
}

fn manifest(config: Descriptor, known: &Known) -> Manifest {
    Manifest {
        schema_version: 2,
        media_type: OCI_MANIFEST.to_owned(),
        config,
        layers: layers(known).into_iter().map(descriptor).collect(),
        extra: Map::new(),
    }
}

/// The steps in BuildKit's form, beside our own.
fn config(known: &Known) -> CacheConfig {
    let places = |keys: Vec<Digest>| -> BTreeMap<Digest, usize> {
        keys.into_iter()
            .enumerate()
            .map(|(n, key)| (key, n))
            .collect()
    };
    let records = places(known.steps.iter().map(|s| s.record.key).collect());
    let mut layers: Vec<CacheLayer> = Vec::new();
    let mut chains: BTreeMap<Digest, usize> = BTreeMap::new();
    // Parents stand before their children in a build, and builds follow each other: one pass in order finds nearly all,
    // and who has no parent here begins a chain.
    for step in &known.steps {
        let parent = step.record.parent.and_then(|key| chains.get(&key));
        let parent = parent.map_or(-1, |&n| i64::try_from(n).unwrap_or(-1));
        chains.insert(step.record.key, layers.len());
        layers.push(CacheLayer {
            blob: step.record.layer.digest,
            parent,
        });
    }
    let record = |(layer, step): (usize, &PortableStep)| {
        let link = step.record.parent.and_then(|key| records.get(&key));
        CacheRecord {
            digest: step.record.key,
            results: vec![CacheResult {
                layer,
                created_at: step.record.created.clone(),
            }],
            inputs: link
                .map(|&link| vec![CacheInput { link }])
                .into_iter()
                .collect(),
        }
    };
    CacheConfig {
        records: known.steps.iter().enumerate().map(record).collect(),
        layers,
        rctr: Some(known.clone()),
    }
}
