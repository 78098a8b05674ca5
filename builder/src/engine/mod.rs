//! Runs a plan: each step from the cache or for real, independent stages at once.
//!
//! ```text
//! follow_cache   one thread, no user namespace: follows every stage as far as the cache knows it. All there: done.
//! enter        the user namespace (single-threaded until here)
//! execute      one thread a stage; a step waits for the stages that it reads
//!   step       key ─ cached? ─ lock of the key ─ cached by another build meanwhile? ─ run ─ upper directory becomes layer,
//!              a large one beside the next step
//! ```
//!
//! No lock but the step's own is held while it runs.

mod board;
mod error;
mod explain;
mod export;
mod growing;
mod image;
mod keep;
mod key;
mod loading;
mod perform;
mod remotes;
pub mod run;
mod squash;
mod step;
mod travel;

use std::collections::BTreeMap;
use std::sync::Arc;

use rctr_runtime::emulation::Emulation;
use rctr_runtime::plan::Driver;
use rctr_storage::Store;
use rctr_storage::digest::Digest;
use rctr_storage::image::{Image, NewImage};
use rctr_storage::layer::LayerBlob;
use rctr_storage::manifest::Platform;

use crate::context::Context;
use crate::plan::{Base, Operation, Plan, PlannedStage};
use crate::request::BuildRequest;
use crate::tracker::{Tracker, Vertex};

pub use error::{BuildError, Cause, Kept, StepFailure};
pub use export::{Destination, Files};
pub use loading::Loading;
pub use remotes::{RemoteError, Remotes};
pub use travel::{Repositories, TravelError, Travelling};

/// What a build has of the host.
pub trait Host: Sync {
    /// Moves this process, which has one thread, to where files of several owners can be made and mounts be put, and tells
    /// how root file systems are put together there. Once it is there, it only tells.
    ///
    /// # Errors
    /// When this host gives no identity.
    fn enter(&self) -> Result<Driver, Cause>;

    /// What programs of this platform (`linux/arm64`) need to run here.
    fn emulation(&self, platform: &Platform) -> Option<Emulation>;
}

/// All that a build works with.
pub struct Engine<'a> {
    /// Where layers and cache are.
    pub store: &'a Store,
    /// What is done.
    pub plan: &'a Plan,
    /// What was asked for.
    pub request: &'a BuildRequest,
    /// The build context.
    pub context: &'a Context,
    /// What is told of reading it.
    pub loading: Loading<'a>,
    /// `--build-context NAME=DIRECTORY`.
    pub named: &'a BTreeMap<String, Context>,
    /// What ADD fetches.
    pub remotes: Remotes<'a>,
    /// Caches from elsewhere, and to elsewhere.
    pub travelling: &'a Travelling<'a>,
    /// Who hears of it.
    pub tracker: &'a Tracker,
    /// Ends it early.
    pub cancel: &'a run::Cancel,
    /// Of the log that the vertices' output goes to.
    pub build_id: Option<&'a str>,
    /// What builds of the same Dockerfile have in common, for `--explain`.
    pub place: &'a str,
    /// The host.
    pub host: &'a dyn Host,
}

/// A step that is done.
#[derive(Debug, Clone)]
struct FinishedStep {
    key: Digest,
    layer: LayerBlob,
    /// RFC 3339: when it was run.
    created: String,
}

/// A stage as far as it is done.
#[derive(Debug, Clone)]
struct Finished {
    /// Of the last step.
    key: Digest,
    steps: Vec<FinishedStep>,
    /// All of them, base first.
    layers: Vec<LayerBlob>,
}

impl Finished {
    fn push(&mut self, step: FinishedStep) {
        self.key = step.key;
        self.layers.push(step.layer.clone());
        self.steps.push(step);
    }
}

/// The stages' vertices: one a step.
type Vertices = Vec<Vec<Vertex>>;

/// A finished build.
#[derive(Debug)]
pub struct Built {
    /// The target's layers, base first, in the store and pinned.
    pub layers: Vec<LayerBlob>,
    /// How root file systems are put together, if the process has entered the user namespace.
    driver: Option<Driver>,
    stages: Vec<Finished>,
}

impl Engine<'_> {
    /// Makes the layers of the target.
    ///
    /// # Errors
    /// The first thing that failed; everything that was finished before is in the cache.
    pub fn build(&self) -> Result<Built, BuildError> {
        let built = self.layers();
        self.loading.ended();
        built
    }

    fn layers(&self) -> Result<Built, BuildError> {
        let vertices = self.declare();
        let partial = self.follow_cache(&vertices)?;
        self.loading.served(self.plan, &partial);
        let complete = |(index, stage): (usize, &Option<Finished>)| {
            stage
                .as_ref()
                .is_some_and(|s| s.steps.len() == self.plan.stages[index].steps.len())
        };
        let (driver, stages): (_, Vec<Finished>) = if partial.iter().enumerate().all(complete) {
            let driver = self.forget_all_kept();
            (driver, partial.into_iter().flatten().collect())
        } else {
            // What other caches have can only be told later.
            if self.travelling.is_empty() {
                self.fail_on_miss()?;
            }
            let driver = self.host.enter().map_err(BuildError::Host)?;
            (Some(driver), self.execute(driver, partial, &vertices)?)
        };
        let layers = stages
            .last()
            .map(|stage| stage.layers.clone())
            .unwrap_or_default();
        Ok(Built {
            layers,
            driver,
            stages,
        })
    }

    /// Removes what failed steps have left of stages that are in the cache.
    fn forget_all_kept(&self) -> Option<Driver> {
        let stages = 0..self.plan.stages.len();
        let with_kept: Vec<usize> = stages.filter(|s| self.kept(*s).is_some()).collect();
        if with_kept.is_empty() {
            return None;
        }
        // Where that isn't possible no step has ever failed.
        let driver = self.host.enter().ok()?;
        with_kept.iter().for_each(|stage| self.forget_kept(*stage));
        Some(driver)
    }

    /// Makes the image of [`assemble`](Self::assemble), with the request's tags.
    ///
    /// # Errors
    /// When the store can't be written.
    pub fn create_image(&self, new: NewImage) -> Result<Image, BuildError> {
        let vertex = self.tracker.start("exporting to image");
        let result = self.image(new, &vertex);
        match &result {
            Ok(_) => vertex.completed(),
            Err(error) => vertex.failed(error.to_string()),
        }
        result
    }

    fn image(&self, new: NewImage, vertex: &Vertex) -> Result<Image, BuildError> {
        let part = vertex.part("exporting layers");
        let image = self.store.create_image(new)?;
        part.completed(0);
        vertex.note(format!("writing image {}", image.id));
        for tag in &self.request.tags {
            vertex.note(format!("naming to {tag}"));
        }
        Ok(image)
    }

    /// Tells of all that there is to do, in the order of the Dockerfile.
    fn declare(&self) -> Vertices {
        let stages = self.plan.stages.iter();
        stages
            .map(|stage| {
                if matches!(stage.base, Base::Image(_)) {
                    let name = numbered(stage, 1, &format!("FROM {}", stage.base_name));
                    self.tracker.start(name).completed();
                }
                let names = (0..stage.steps.len()).map(|number| vertex_name(stage, number));
                names.map(|name| self.tracker.vertex(name)).collect()
            })
            .collect()
    }

    /// Follows the stages as far as the cache goes. `None`: not even its base is there.
    fn follow_cache(&self, vertices: &Vertices) -> Result<Vec<Option<Finished>>, BuildError> {
        let mut stages: Vec<Option<Finished>> = Vec::new();
        for (index, vertices) in vertices.iter().enumerate() {
            let known = |stage: usize| {
                let finished = stages.get(stage)?.as_ref()?;
                (finished.steps.len() == self.plan.stages[stage].steps.len())
                    .then(|| Arc::new(finished.clone()))
            };
            let stage = match self.foundation(index, &known) {
                Some(base) => Some(self.cached_prefix(index, base, &known, vertices)?),
                None => None,
            };
            stages.push(stage);
        }
        Ok(stages)
    }

    /// Where a stage starts, when that is there.
    fn foundation(
        &self,
        stage: usize,
        known: &dyn Fn(usize) -> Option<Arc<Finished>>,
    ) -> Option<Finished> {
        let (key, layers) = match &self.plan.stages[stage].base {
            Base::Scratch => (key::scratch(), Vec::new()),
            Base::Image(image) => (key::image(image), image.layers.clone()),
            Base::Stage(below) => {
                let below = known(*below)?;
                (below.key, below.layers.clone())
            }
        };
        Some(Finished {
            key,
            steps: Vec::new(),
            layers,
        })
    }

    /// Whether the cache may serve a stage's steps.
    fn may_use_cache(&self, stage: usize) -> bool {
        let filter = &self.request.no_cache_filter;
        // What stands on a stage that is run again would have another base than when it was made.
        let filtered = |stage: &usize| {
            let name = self.plan.stages[*stage].name.as_ref();
            name.is_some_and(|name| filter.contains(name))
        };
        !self.request.no_cache && !image::chain(self.plan, stage).iter().any(filtered)
    }

    fn fail_on_miss(&self) -> Result<(), BuildError> {
        match self.request.fail_on_miss {
            true => Err(BuildError::Missed),
            false => Ok(()),
        }
    }
}

/// `[builder 2/3] RUN make`.
fn vertex_name(stage: &PlannedStage, number: usize) -> String {
    let from = usize::from(matches!(stage.base, Base::Image(_)));
    numbered(stage, from + number + 1, &stage.steps[number].name)
}

fn numbered(stage: &PlannedStage, number: usize, what: &str) -> String {
    let from = usize::from(matches!(stage.base, Base::Image(_)));
    let total = from + stage.steps.len();
    match stage.label.as_str() {
        "" => format!("[{number}/{total}] {what}"),
        label => format!("[{label} {number}/{total}] {what}"),
    }
}

/// The stages that a step reads.
fn needs(operation: &Operation) -> Vec<usize> {
    use crate::plan::{CopyFrom, RunMount, RunMountFrom};
    let of_mount = |from: &RunMountFrom| match from {
        RunMountFrom::Stage(stage) => Some(*stage),
        _ => None,
    };
    match operation {
        Operation::Copy(copy) => match copy.from {
            CopyFrom::Stage(stage) => vec![stage],
            _ => Vec::new(),
        },
        Operation::Run(run) => run
            .mounts
            .iter()
            .filter_map(|mount| match mount {
                RunMount::Bind { from, .. } => of_mount(from),
                RunMount::Cache {
                    from: Some((from, _)),
                    ..
                } => of_mount(from),
                _ => None,
            })
            .collect(),
        Operation::Workdir(_) => Vec::new(),
    }
}
