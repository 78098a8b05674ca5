//! `--cache-from`, `--cache-to`: caches that travel.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rctr_storage::Store;
use rctr_storage::cache::StepRecord;
use rctr_storage::digest::Digest;
use rctr_storage::image::NewImage;
use rctr_storage::reference::Reference;
use rctr_storage::registry::{Access, Repository};
use rctr_storage::transfer::cache::{BuildCache, CacheOptions, PortableMemo};
use rctr_storage::transfer::cache::{write_cache, write_inline};
use rctr_storage::transfer::{Source, Target, TransferError};
use rctr_storage::transport::{Place, TransportError, sweep_layout};

use super::{BuildError, Built, Cause, Engine, image, step};
use crate::event::Stream;
use crate::plan::{Operation, RunMount};
use crate::request::{CacheMode, CachePlace, CacheTo};
use crate::tracker::{Tracker, Vertex};

/// How registries are reached.
pub type Repositories<'a> = dyn Fn(&Reference, Access) -> Result<Repository, Cause> + Sync + 'a;

/// What a directory's cache is called in its index, as BuildKit calls it.
const LOCAL_NAME: &str = "latest";
/// Blobs that no cache lists any more are removed from a directory when they are so old: younger ones may be another build's
/// that is writing.
const GRACE: Duration = Duration::from_secs(3600);

/// Why a cache can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum TravelError {
    /// The registry isn't allowed, or it can't be told.
    #[error("{0}")]
    Registry(Cause),
    /// The directory is none, or can't be read or written.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The cache is damaged, or doesn't get from one place to the other.
    #[error(transparent)]
    Transfer(#[from] TransferError),
}

impl rctr_storage::explain::Explain for TravelError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Registry(error) => error.hint(),
            Self::Transport(error) => error.hint(),
            Self::Transfer(error) => error.hint(),
        }
    }
}

/// The caches of `--cache-from` that can be read, and what goes along in `--cache-to` beside the steps.
pub struct Travelling<'a> {
    caches: Vec<BuildCache>,
    memos: Mutex<Vec<PortableMemo>>,
    repositories: &'a Repositories<'a>,
}

impl<'a> Travelling<'a> {
    /// Opens the caches of `from`; credentials for those of `to` are looked up. One that isn't there, or damaged, is told of and left out.
    #[must_use]
    pub fn open(
        from: &[CachePlace],
        to: &[CacheTo],
        store: &Store,
        repositories: &'a Repositories<'a>,
        tracker: &Tracker,
    ) -> Self {
        let mut travelling = Self {
            caches: Vec::new(),
            memos: Mutex::default(),
            repositories,
        };
        for to in to {
            if let CachePlace::Registry(name) = &to.place {
                // Programs that keep credentials are asked now, as long as we are who we are. The answer counts later.
                let _ = travelling.repository(name, Access::Push);
            }
        }
        for place in from {
            let vertex = tracker.start(format!("importing cache manifest from {place}"));
            match travelling.cache(place, store) {
                Ok(cache) => {
                    for memo in cache.memos().iter().filter(|m| m.kind == step::SELECTION) {
                        // What can't be remembered is found out again.
                        let _ = store.set_memo(&memo.kind, &memo.key, &memo.value);
                    }
                    travelling.caches.push(cache);
                }
                Err(error) => warn(&vertex, &error),
            }
            vertex.completed();
        }
        travelling
    }

    fn cache(&self, place: &CachePlace, store: &Store) -> Result<BuildCache, TravelError> {
        let source: Box<dyn Source> = match place {
            CachePlace::Local(dir) => {
                // No archive is opened, so nothing is written there.
                match layout(dir).open_source(store.root())? {
                    Some(opened) => opened.source,
                    None => return Err(no_cache(place).into()),
                }
            }
            CachePlace::Registry(name) => Box::new(self.repository(name, Access::Pull)?),
            CachePlace::Inline => return Err(no_cache(place).into()),
        };
        Ok(BuildCache::open(source)?)
    }

    fn target(&self, place: &CachePlace) -> Result<Option<Box<dyn Target>>, TravelError> {
        Ok(match place {
            CachePlace::Local(dir) => layout(dir).open_target()?,
            CachePlace::Registry(name) => Some(Box::new(self.repository(name, Access::Push)?)),
            CachePlace::Inline => None,
        })
    }

    fn repository(&self, name: &Reference, access: Access) -> Result<Repository, TravelError> {
        (self.repositories)(name, access).map_err(TravelError::Registry)
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

    /// Puts what the first cache has for the cache mount `id` into its new directory.
    pub(super) fn fill_mount(&self, store: &Store, id: &str, into: &Path, vertex: &Vertex) {
        for cache in &self.caches {
            match cache.fill_mount(store, id, into) {
                Ok(true) => return,
                Ok(false) => {}
                // A cache mount may be empty, or have a part.
                Err(error) => warn(vertex, &error),
            }
        }
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

fn layout(dir: &Path) -> Place {
    Place::OciLayout {
        dir: dir.to_owned(),
        name: Some(LOCAL_NAME.to_owned()),
    }
}

fn no_cache(place: &CachePlace) -> TransferError {
    TransferError::NoCache {
        place: place.to_string(),
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
        let inline = |to: &&CacheTo| to.place == CachePlace::Inline;
        for to in self.request.cache_to.iter().filter(|to| !inline(to)) {
            let vertex = self
                .tracker
                .start(format!("exporting cache to {}", to.place));
            match self.write_cache(built, to) {
                Ok(()) => vertex.completed(),
                Err(error) if to.ignore_error => {
                    warn(&vertex, &error);
                    vertex.completed();
                }
                Err(error) => {
                    vertex.failed(error.to_string());
                    return Err(error.into());
                }
            }
        }
        Ok(())
    }

    fn write_cache(&self, built: &Built, to: &CacheTo) -> Result<(), TravelError> {
        let Some(target) = self.travelling.target(&to.place)? else {
            return Ok(());
        };
        let stages = self.stages_of(built, to.mode);
        let steps = stages.iter().flat_map(|&stage| &built.stages[stage].steps);
        let keys: Vec<Digest> = steps.map(|step| step.key).collect();
        let memos = &self.travelling.memos;
        let mut memos = memos.lock().unwrap_or_else(PoisonError::into_inner).clone();
        memos.sort_by_key(|memo| memo.key);
        // None there yet, or damaged: then it is written anew.
        let before = self.travelling.cache(&to.place, self.store).ok();
        let options = CacheOptions {
            keys: &keys,
            memos: &memos,
            // Where nothing was run, nothing has changed in them either; and who hasn't entered can't read them.
            mounts: &match to.mounts && built.driver.is_some() {
                true => self.cache_mounts(&stages),
                false => Vec::new(),
            },
            compression: to.compression,
            before: before.as_ref(),
            max_size: to.max_size,
        };
        write_cache(self.store, &*target, &options)?;
        if let CachePlace::Local(dir) = &to.place {
            sweep_layout(dir, GRACE)?;
        }
        Ok(())
    }

    fn stages_of(&self, built: &Built, mode: CacheMode) -> Vec<usize> {
        match mode {
            CacheMode::Max => (0..built.stages.len()).collect(),
            CacheMode::Min => image::chain(self.plan, built.stages.len() - 1),
        }
    }

    /// The ids of the cache mounts in those stages.
    fn cache_mounts(&self, stages: &[usize]) -> Vec<String> {
        let steps = stages
            .iter()
            .flat_map(|&stage| &self.plan.stages[stage].steps);
        let mut ids: Vec<String> = steps
            .filter_map(|step| match &step.operation {
                Operation::Run(run) => Some(&run.mounts),
                _ => None,
            })
            .flatten()
            .filter_map(|mount| match mount {
                RunMount::Cache { id, .. } => Some(id.clone()),
                _ => None,
            })
            .collect();
        ids.sort();
        ids.dedup();
        ids
    }

    /// Puts the cache of `--cache-to type=inline` into the image.
    pub(super) fn add_inline_cache(&self, built: &Built, new: &mut NewImage) {
        let is_inline = |to: &CacheTo| to.place == CachePlace::Inline;
        if !self.request.cache_to.iter().any(is_inline) {
            return;
        }
        let stages = self.stages_of(built, CacheMode::Min);
        let steps = stages.iter().flat_map(|&stage| {
            let planned = &self.plan.stages[stage].steps;
            planned.iter().zip(&built.stages[stage].steps)
        });
        let steps = steps.map(|(planned, done)| {
            let kind = step::kind(&planned.operation);
            (done.key, kind, planned.name.as_str(), done.layer.diff_id)
        });
        write_inline(&mut new.config, steps);
    }
}
