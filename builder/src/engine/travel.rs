//! `--cache-from`, `--cache-to`: caches that travel.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rctr_storage::Store;
use rctr_storage::cache::{PortableCache, PortableMemo, StepRecord};
use rctr_storage::digest::Digest;

use super::{BuildError, Built, Engine, image, step};
use crate::event::Stream;
use crate::request::{CacheMode, CachePlace, CacheTo};
use crate::tracker::{Tracker, Vertex};

/// The caches of `--cache-from` that can be read, and what goes along in `--cache-to` beside the steps.
#[derive(Default)]
pub struct Travelling {
    caches: Vec<PortableCache>,
    memos: Mutex<Vec<PortableMemo>>,
}

impl Travelling {
    /// Opens the caches. One that isn't there, or damaged, is told of and left out.
    #[must_use]
    pub fn open(from: &[CachePlace], store: &Store, tracker: &Tracker) -> Self {
        let mut caches = Vec::new();
        for CachePlace::Local(dir) in from {
            let name = format!("importing cache manifest from local:{}", dir.display());
            let vertex = tracker.start(name);
            match PortableCache::open(dir) {
                Ok(cache) => {
                    for memo in cache.memos().iter().filter(|m| m.kind == step::SELECTION) {
                        // What can't be remembered is found out again.
                        let _ = store.set_memo(&memo.kind, &memo.key, &memo.value);
                    }
                    caches.push(cache);
                }
                Err(error) => warn(&vertex, &error),
            }
            vertex.completed();
        }
        Self {
            caches,
            memos: Mutex::default(),
        }
    }

    /// Whether there is none to take steps from.
    pub(super) fn is_empty(&self) -> bool {
        self.caches.is_empty()
    }

    /// The step from the first cache that has it whole.
    pub(super) fn take(&self, store: &Store, key: &Digest, vertex: &Vertex) -> Option<StepRecord> {
        self.caches.iter().find_map(|cache| {
            cache.take(store, key).unwrap_or_else(|error| {
                warn(vertex, &error);
                None
            })
        })
    }

    /// Notes a memo of this build.
    pub(super) fn note(&self, key: Digest, value: Digest) {
        let kind = step::SELECTION.to_owned();
        let memo = PortableMemo { kind, key, value };
        let mut memos = self.memos.lock().unwrap_or_else(PoisonError::into_inner);
        if !memos.contains(&memo) {
            memos.push(memo);
        }
    }
}

fn warn(vertex: &Vertex, error: &(impl std::error::Error + ?Sized)) {
    let text = format!("rctr: warning: cache not used: {}\n", step::causes(error));
    vertex.log(Stream::Err, text.as_bytes());
}

impl Engine<'_> {
    /// Writes the caches of `--cache-to`.
    ///
    /// # Errors
    /// When one can't be written, unless that was to be ignored.
    pub fn write_caches(&self, built: &Built) -> Result<(), BuildError> {
        for to in &self.request.cache_to {
            let CachePlace::Local(dir) = &to.place;
            let vertex = self
                .tracker
                .start(format!("exporting cache to local:{}", dir.display()));
            match self.write_cache(built, to, dir) {
                Ok(()) => vertex.completed(),
                Err(error) if to.ignore_error => {
                    warn(&vertex, &error);
                    vertex.completed();
                }
                Err(error) => {
                    vertex.failed(error.to_string());
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn write_cache(&self, built: &Built, to: &CacheTo, dir: &Path) -> Result<(), BuildError> {
        let stages: Vec<usize> = match to.mode {
            CacheMode::Max => (0..built.stages.len()).collect(),
            CacheMode::Min => image::chain(self.plan, built.stages.len() - 1),
        };
        let steps = stages.iter().flat_map(|&stage| &built.stages[stage].steps);
        let keys: Vec<Digest> = steps.map(|step| step.key).collect();
        let memos = &self.travelling.memos;
        let mut memos = memos.lock().unwrap_or_else(PoisonError::into_inner).clone();
        memos.sort_by_key(|memo| memo.key);
        Ok(self.store.write_portable_cache(dir, &keys, &memos)?)
    }
}
