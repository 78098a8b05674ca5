//! Taking steps over from a cache.

use std::collections::BTreeMap;

use super::{CACHE_CONFIG, CacheConfig, INLINE, InlineStep, Known, PortableMemo, PortableMount};
use super::{PortableStep, VERSION};
use crate::cache::StepRecord;
use crate::config::ImageConfig;
use crate::digest::{DiffId, Digest};
use crate::layer::LayerBlob;
use crate::manifest::{Descriptor, Manifest, Platform, oci_layer_type};
use crate::store::Store;
use crate::timestamp;
use crate::transfer::documents::{Documents, Found};
use crate::transfer::pull::fetch_blob;
use crate::transfer::retry::Patience;
use crate::transfer::{Silent, Source, TransferError};

/// A cache that was opened: its documents are read, its layers not yet.
pub struct BuildCache {
    source: Box<dyn Source>,
    steps: BTreeMap<Digest, PortableStep>,
    /// In the order in which they are listed.
    order: Vec<Digest>,
    memos: Vec<PortableMemo>,
    pub(super) mounts: Vec<PortableMount>,
}

impl BuildCache {
    /// Reads what is known of the steps: a cache's manifest, or an image that carries its cache inside.
    ///
    /// # Errors
    /// When the source doesn't give it, or it is something else.
    pub fn open(source: Box<dyn Source>) -> Result<Self, TransferError> {
        let documents = Documents {
            source: &*source,
            patience: Patience::default(),
        };
        let manifest = match documents.find(None)? {
            Found::One(_, manifest) => manifest,
            Found::Index(_, index) => documents.choose(index, &Platform::host())?.1,
        };
        let place = source.shown();
        let known = if manifest.config.media_type == CACHE_CONFIG {
            let bytes = documents.document(&manifest.config)?;
            let config: CacheConfig = parse(&bytes, &manifest.config, &place)?;
            config.rctr.filter(|known| known.version == VERSION)
        } else {
            documents.check(&manifest)?;
            inline(&manifest, documents.config(&manifest)?.1)
        };
        let Some(known) = known else {
            return Err(TransferError::NoCache { place });
        };
        Ok(Self {
            order: known.steps.iter().map(|step| step.record.key).collect(),
            steps: known
                .steps
                .into_iter()
                .map(|step| (step.record.key, step))
                .collect(),
            source,
            memos: known.memos,
            mounts: known.mounts,
        })
    }

    /// As shown to the user.
    #[must_use]
    pub fn shown(&self) -> String {
        self.source.shown()
    }

    /// The memos.
    #[must_use]
    pub fn memos(&self) -> &[PortableMemo] {
        &self.memos
    }

    /// Takes a step over into the store, as if it had been made here; `None`: it isn't known. Needs ids.
    ///
    /// # Errors
    /// When its layer is damaged or missing, or the store can't be written.
    pub fn take(&self, store: &Store, key: &Digest) -> Result<Option<StepRecord>, TransferError> {
        let Some(step) = self.steps.get(key) else {
            return Ok(None);
        };
        let record = StepRecord {
            layer: self.fetch(store, &step.record.layer)?,
            inputs: step.inputs.clone(),
            log: None,
            ..step.record.clone()
        };
        store.remember_step(&record)?;
        Ok(Some(record))
    }

    /// Brings a layer into the store.
    fn fetch(&self, store: &Store, layer: &LayerBlob) -> Result<LayerBlob, TransferError> {
        self.fetch_blob(store, layer, Some(layer.diff_id))?;
        Ok(LayerBlob {
            media_type: oci_layer_type(&layer.media_type).to_owned(),
            ..layer.clone()
        })
    }

    /// Brings a blob into the store, which with its diffID is a layer.
    pub(super) fn fetch_blob(
        &self,
        store: &Store,
        layer: &LayerBlob,
        diff_id: Option<DiffId>,
    ) -> Result<(), TransferError> {
        let descriptor = Descriptor::new(&layer.media_type, layer.digest, layer.size);
        fetch_blob(store, &*self.source, &descriptor, diff_id, &Silent)
    }

    /// Its steps in their order, for a cache that is written anew.
    pub(super) fn steps(&self) -> impl Iterator<Item = &PortableStep> {
        self.order.iter().filter_map(|key| self.steps.get(key))
    }
}

fn parse<T: serde::de::DeserializeOwned>(
    bytes: &[u8],
    descriptor: &Descriptor,
    place: &str,
) -> Result<T, TransferError> {
    serde_json::from_slice(bytes).map_err(|source| TransferError::Document {
        what: "config",
        digest: descriptor.digest,
        place: place.to_owned(),
        source,
    })
}

/// The cache inside an image: steps whose layer the image has.
fn inline(manifest: &Manifest, mut config: ImageConfig) -> Option<Known> {
    let steps: Vec<InlineStep> = serde_json::from_value(config.extra.remove(INLINE)?).ok()?;
    let diff_ids = config.rootfs.diff_ids.iter().copied();
    let layers: BTreeMap<_, _> = diff_ids.zip(&manifest.layers).collect();
    let created = config.created.unwrap_or_else(|| timestamp::of_epoch(0));
    let steps = steps.into_iter().filter_map(|step| {
        let layer = layers.get(&step.layer)?;
        Some(PortableStep {
            record: StepRecord {
                key: step.key,
                kind: step.kind,
                name: step.name,
                layer: LayerBlob {
                    digest: layer.digest,
                    size: layer.size,
                    media_type: layer.media_type.clone(),
                    diff_id: step.layer,
                },
                parent: None,
                inputs: Vec::new(),
                created: created.clone(),
                duration_ms: 0,
                log: None,
            },
            inputs: Vec::new(),
        })
    });
    Some(Known {
        version: VERSION,
        steps: steps.collect(),
        memos: Vec::new(),
        mounts: Vec::new(),
    })
}
