//! `--squash`: all that was built is one layer on the base image's.

use std::time::Instant;

use rctr_storage::cache::StepRecord;
use rctr_storage::config::History;
use rctr_storage::digest::Digest;
use rctr_storage::image::NewImage;
use rctr_storage::layer::LayerBlob;
use rctr_storage::timestamp;

use super::{BuildError, Built, Engine, image};
use crate::plan::Base;

impl Engine<'_> {
    /// The finished target as an image that is to be made.
    ///
    /// # Errors
    /// When its layers can't be made one.
    pub fn assemble(&self, built: &Built) -> Result<NewImage, BuildError> {
        let mut whole = NewImage {
            config: image::config(self.plan, &built.stages),
            layers: built.layers.clone(),
            tags: self.request.tags.clone(),
            parent: None,
        };
        self.add_inline_cache(built, &mut whole);
        let stage = self.plan.stages.len() - 1;
        let first = image::chain(self.plan, stage)[0];
        let base = match &self.plan.stages[first].base {
            Base::Image(image) => Some(image),
            Base::Scratch | Base::Stage(_) => None,
        };
        let below = base.map_or(0, |image| image.layers.len());
        if !self.request.squash || built.layers.len() == below {
            return Ok(whole);
        }
        let id = self.store.unlisted_image(whole.clone())?.image.id;
        let mut squashed = whole;
        let layer = self.one_layer(built, below)?;
        squashed.layers.truncate(below);
        squashed.layers.push(layer);
        let known = base.map_or(0, |image| image.config.history.len());
        for entry in squashed.config.history.iter_mut().skip(known) {
            entry.empty_layer = true;
        }
        squashed.config.history.push(History {
            created: squashed.config.created.clone(),
            comment: Some(match base {
                Some(base) => format!("merge {id} to {}", base.id),
                None => format!("create new from {id}"),
            }),
            ..History::default()
        });
        Ok(squashed)
    }

    /// All layers but the first `below` as one, which the cache keeps as a step's.
    fn one_layer(&self, built: &Built, below: usize) -> Result<LayerBlob, BuildError> {
        let vertex = self.tracker.start("squashing layers");
        let digests: Vec<String> = built
            .layers
            .iter()
            .map(|layer| layer.diff_id.to_string())
            .collect();
        let key = Digest::of(format!("squash {below} {}", digests.join(" ")).as_bytes());
        if let (Some(record), false) = (self.store.cached_step(&key)?, self.request.no_cache) {
            vertex.completed();
            return Ok(record.layer);
        }
        let began = Instant::now();
        self.host.enter().map_err(BuildError::Host)?;
        let lowers = |layers: &[LayerBlob]| self.store.lowers(layers.iter().map(|l| l.diff_id));
        let (base, new) = built.layers.split_at(below);
        let layer = self.store.squash(&lowers(new), &lowers(base))?;
        self.store.remember_step(&StepRecord {
            key,
            kind: "squash".to_owned(),
            name: "squash".to_owned(),
            layer: layer.clone(),
            parent: None,
            inputs: Vec::new(),
            created: timestamp::now(),
            duration_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            log: None,
        })?;
        self.store.sync_build()?;
        vertex.completed();
        Ok(layer)
    }
}
