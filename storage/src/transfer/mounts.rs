//! Layers that the target's registry may have already, in other repositories.

use std::collections::HashMap;

use super::push::PushOptions;
use super::{Target, TransferError};
use crate::digest::DiffId;
use crate::reference::Reference;
use crate::store::Store;

/// More repositories than this aren't asked for a blob.
const MOUNTS: usize = 3;

/// Which repositories of the target's registry may have a layer: those of the images here that have it.
pub(super) struct Mounts {
    given: Vec<Reference>,
    known: HashMap<DiffId, Vec<Reference>>,
}

impl Mounts {
    pub(super) fn new(
        store: &Store,
        target: &dyn Target,
        options: &PushOptions,
    ) -> Result<Self, TransferError> {
        let mut mounts = Self {
            given: options.mount_from.clone(),
            known: HashMap::new(),
        };
        let Some(there) = target.repository() else {
            return Ok(mounts);
        };
        for summary in store.images()? {
            let names = summary
                .digests
                .iter()
                .filter(|name| name.domain == there.domain && name.path != there.path);
            let names: Vec<Reference> = names
                .map(|name| Reference {
                    tag: None,
                    digest: None,
                    ..name.clone()
                })
                .collect();
            if names.is_empty() {
                continue;
            }
            // One that is damaged is of no help.
            let Ok(image) = store.read_image(&summary) else {
                continue;
            };
            for layer in image.layers {
                let known = mounts.known.entry(layer.diff_id).or_default();
                for name in &names {
                    if known.len() < MOUNTS && !known.contains(name) {
                        known.push(name.clone());
                    }
                }
            }
        }
        for known in mounts.known.values_mut() {
            known.splice(0..0, mounts.given.iter().cloned());
        }
        Ok(mounts)
    }

    pub(super) fn of(&self, layer: &DiffId) -> &[Reference] {
        self.known.get(layer).unwrap_or(&self.given)
    }
}
