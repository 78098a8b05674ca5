//! One step after another of a stage: from the cache, or run.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use rctr_runtime::plan::Driver;
use rctr_storage::cache::{StepInput, StepLock, StepRecord};
use rctr_storage::digest::Digest;
use rctr_storage::explain::Explain;
use rctr_storage::layer::{self, KeepUpper, LayerError};
use rctr_storage::timestamp;

use super::board::Board;
use super::growing::{Crew, Growing, Ran};
use super::key::{self, Inputs};
use super::perform::{Upper, Work};
use super::{BuildError, Engine, Finished, FinishedStep, Vertices, explain, needs};
use crate::context::Context;
use crate::copy::{self, CopyError, SourceTree};
use crate::plan::{
    CopyFrom, CopyStep, Operation, PlannedSource, RunMount, RunMountFrom, RunStep, Step,
};
use crate::source::{Place, SourceError};
use crate::tracker::Vertex;

/// Finds a finished stage.
pub(super) type Known<'k> = dyn Fn(usize) -> Option<Arc<Finished>> + 'k;

/// Which step.
#[derive(Debug, Clone, Copy)]
pub(super) struct At {
    pub(super) stage: usize,
    pub(super) number: usize,
}

/// What a COPY or a bind mount selects.
struct Found {
    digest: Digest,
    /// A file each; none when the digest was remembered.
    inputs: Vec<StepInput>,
}

/// Files beyond this number are not told apart in a record.
const FILES: usize = 5000;

/// The memos of what a COPY selects.
pub(super) const SELECTION: &str = "selection";

impl Found {
    fn add_to(self, inputs: &mut Inputs, what: &str) {
        inputs.add(what, self.digest.to_string());
        if self.inputs.len() <= FILES {
            inputs.note(self.inputs);
        }
    }
}

/// A step with its key.
struct Keyed {
    key: Digest,
    inputs: Vec<StepInput>,
}

/// Where files come from.
pub(super) enum Source<'e> {
    Context(&'e Context),
    /// Top first.
    Layers(Vec<PathBuf>),
}

impl Source<'_> {
    pub(super) fn tree(&self) -> SourceTree<'_> {
        match self {
            Self::Context(context) => SourceTree::Context(context),
            Self::Layers(layers) => SourceTree::Layers(layers),
        }
    }
}

/// What may be looked at to find a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// The context, and what was remembered of layers.
    Host,
    /// Layers too: in the user namespace.
    Layers,
}

impl Engine<'_> {
    /// The stage as far as the cache has it.
    pub(super) fn cached_prefix(
        &self,
        stage: usize,
        base: Finished,
        known: &Known<'_>,
        vertices: &[Vertex],
    ) -> Result<Finished, BuildError> {
        let mut finished = base;
        if !self.may_use_cache(stage) {
            return Ok(finished);
        }
        let steps = &self.plan.stages[stage].steps;
        for (step, vertex) in steps.iter().zip(vertices) {
            let keyed = self.key(step, vertex, &finished.key, known, Reach::Host)?;
            let Some(keyed) = keyed else { break };
            let Some(record) = self.store.cached_step(&keyed.key)? else {
                break;
            };
            let number = finished.steps.len();
            let step = self.served(At { stage, number }, record, vertex)?;
            finished.push(step);
        }
        Ok(finished)
    }

    /// Runs what is missing: a thread a stage.
    pub(super) fn execute(
        &self,
        driver: Driver,
        partial: Vec<Option<Finished>>,
        vertices: &Vertices,
    ) -> Result<Vec<Finished>, BuildError> {
        let board = Board::new(partial.len(), self.request.jobs, self.cancel);
        std::thread::scope(|scope| {
            let crew = Crew {
                engine: self,
                board: &board,
                scope,
            };
            for (stage, (partial, vertices)) in partial.into_iter().zip(vertices).enumerate() {
                scope.spawn(move || {
                    let result = crew.engine.stage(stage, partial, driver, crew, vertices);
                    crew.board.ended(stage, result);
                });
            }
        });
        let outcome = board.outcome();
        match outcome {
            // Who has pressed ^C waits for no disk. Until the next build syncs, only a power cut takes what was finished.
            Err(BuildError::Canceled) => {}
            // The failure is the news.
            Err(_) => drop(self.store.sync_build()),
            // What was finished serves the next build.
            Ok(_) => self.store.sync_build()?,
        }
        outcome
    }

    fn stage<'s, 'e>(
        &self,
        stage: usize,
        partial: Option<Finished>,
        driver: Driver,
        crew: Crew<'s, 'e>,
        vertices: &[Vertex],
    ) -> Result<Finished, BuildError> {
        let board = crew.board;
        let begun = match partial {
            Some(finished) => finished,
            None => {
                if let crate::plan::Base::Stage(below) = self.plan.stages[stage].base {
                    board.wait_for(below)?;
                }
                self.foundation(stage, &|stage| board.wait_for(stage).ok())
                    .ok_or(BuildError::Canceled)?
            }
        };
        let steps = &self.plan.stages[stage].steps;
        let mut growing = Growing::new(crew, begun);
        for (number, step) in steps.iter().enumerate().skip(growing.len()) {
            let at = At { stage, number };
            if let Err(error) = self.next(at, &mut growing, driver, &vertices[number]) {
                // A failure of the steps before comes first, and is on the board then.
                let _ = growing.settled();
                let interrupted = matches!(error, BuildError::Canceled);
                for waiting in &vertices[number + usize::from(!interrupted)..] {
                    waiting.canceled();
                }
                return Err(self.placed(error, step));
            }
        }
        let finished = growing.finished()?;
        self.forget_kept(stage);
        Ok(finished)
    }

    fn served(
        &self,
        at: At,
        record: StepRecord,
        vertex: &Vertex,
    ) -> Result<FinishedStep, BuildError> {
        let place = self.place_of(at.stage, at.number);
        self.store.note_like(&place, &record.key)?;
        vertex.cached(record.log);
        Ok(FinishedStep {
            key: record.key,
            layer: record.layer,
            created: record.created,
        })
    }

    /// Names a step across builds of the same Dockerfile.
    pub(super) fn place_of(&self, stage: usize, number: usize) -> String {
        let name = &self.plan.stages[stage].label;
        format!("{}#{name}#{number}", self.place)
    }

    /// Makes the next step, or takes it from the cache.
    fn next(
        &self,
        at: At,
        growing: &mut Growing<'_, '_>,
        driver: Driver,
        vertex: &Vertex,
    ) -> Result<(), BuildError> {
        let board = growing.board();
        let step = &self.plan.stages[at.stage].steps[at.number];
        for stage in needs(&step.operation) {
            board.wait_for(stage)?;
        }
        let known = |stage| board.wait_for(stage).ok();
        let keyed = self
            .key(step, vertex, &growing.key(), &known, Reach::Layers)?
            .ok_or(BuildError::Canceled)?;
        self.loading.keyed(step);
        let place = self.place_of(at.stage, at.number);
        let lock = if self.may_use_cache(at.stage) {
            if let Some(record) = self.store.cached_step(&keyed.key)? {
                growing.push(self.served(at, record, vertex)?);
                return Ok(());
            }
            let lock = self.lock(&keyed.key, vertex)?;
            // Another build may have made it meanwhile.
            let record = match self.store.cached_step(&keyed.key)? {
                Some(record) => Some(record),
                None => self.travelling.take(self.store, &keyed.key, vertex),
            };
            if let Some(record) = record {
                growing.push(self.served(at, record, vertex)?);
                return Ok(());
            }
            if self.request.explain {
                let before = self.store.last_like(&place);
                let before = before.as_ref().map(|record| record.inputs.as_slice());
                vertex.missed(explain::why(before, &keyed.inputs));
            }
            Some(lock)
        } else {
            None
        };
        self.fail_on_miss()?;
        let _turn = board.turn()?;
        if self.cancel.is_canceled() {
            return Err(BuildError::Canceled);
        }
        vertex.started();
        let began = Instant::now();
        let upper = self.perform(&Work {
            at,
            growing,
            driver,
            vertex,
            known: &known,
        })?;
        let ran = Ran {
            at,
            vertex: vertex.clone(),
            key: keyed.key,
            parent: growing.key(),
            inputs: keyed.inputs,
            created: timestamp::now(),
            began,
            _lock: lock,
        };
        self.add_layer(ran, upper, driver, growing)
    }

    /// Makes the upper directory of a step the layer: at once, or beside the next step if it has much in it.
    fn add_layer(
        &self,
        ran: Ran,
        upper: Upper,
        driver: Driver,
        growing: &mut Growing<'_, '_>,
    ) -> Result<(), BuildError> {
        let (at, vertex) = (ran.at, ran.vertex.clone());
        let failed = |e: LayerError| self.failed(at, &vertex, Box::new(e), Vec::new(), None);
        let is_last = at.number + 1 == self.plan.stages[at.stage].steps.len();
        // fuse-overlayfs has its own marks in the directory, and a process that knows nothing of locks.
        let beside = driver == Driver::Overlay
            && (growing.is_busy() || !is_last && !layer::is_small(&upper.path));
        let settled = match beside {
            true => self.store.settle_upper(&upper.path).map_err(failed)?,
            false => None,
        };
        if let Some(settled) = settled {
            growing.push_unnamed(ran, settled)?;
        } else {
            // Records are written in the order of the steps.
            growing.settled()?;
            let added = self
                .store
                .add_upper(&upper.path, KeepUpper::Move, &[])
                .map_err(failed)?;
            growing.push(FinishedStep {
                key: ran.key,
                layer: added.clone(),
                created: ran.created.clone(),
            });
            self.record(ran, added)?;
        }
        growing.board().sweep(upper.directory);
        Ok(())
    }

    /// Gives an error its place, if it has none.
    fn placed(&self, error: BuildError, step: &Step) -> BuildError {
        match error {
            BuildError::Copy(cause) => self.source_error(&cause, step),
            BuildError::Remote(cause) => self.source_error(&cause, step),
            other => other,
        }
    }

    fn source_error(&self, cause: &dyn Explain, step: &Step) -> BuildError {
        BuildError::Source(SourceError {
            hint: cause.hint(),
            message: causes(cause),
            place: Some(Place {
                file: Arc::clone(&self.plan.file),
                span: step.span,
            }),
        })
    }

    /// Waits until no other build makes this step.
    fn lock(&self, key: &Digest, vertex: &Vertex) -> Result<StepLock, BuildError> {
        let mut told = false;
        let lock = self.store.step_lock(key, &mut |pid| {
            if !std::mem::replace(&mut told, true) {
                let who = pid.map_or_else(String::new, |pid| format!(" (process {pid})"));
                // What hasn't begun is shown nowhere.
                vertex.started();
                vertex.note(format!(
                    "waiting for another build that runs this step{who}"
                ));
            }
            match self.cancel.is_canceled() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })?;
        lock.ok_or(BuildError::Canceled)
    }

    /// `None`: it can't be told from here.
    fn key(
        &self,
        step: &Step,
        vertex: &Vertex,
        base: &Digest,
        known: &Known<'_>,
        reach: Reach,
    ) -> Result<Option<Keyed>, BuildError> {
        let keyed = match &step.operation {
            Operation::Run(run) => self.run_key(run, vertex, base, known, reach),
            Operation::Copy(copy) => self.copy_key(copy, vertex, base, known, reach),
            Operation::Workdir(workdir) => {
                let mut inputs = Inputs::new("workdir", base);
                key::workdir(&mut inputs, workdir);
                Ok(Some(inputs))
            }
        };
        match keyed {
            Ok(inputs) => Ok(inputs.map(|mut inputs| {
                if let Some(epoch) = self.plan.epoch {
                    inputs.add("SOURCE_DATE_EPOCH", epoch.to_string());
                }
                let (key, inputs) = inputs.finish();
                Keyed { key, inputs }
            })),
            Err(BuildError::Canceled) => Err(BuildError::Canceled),
            Err(error) => {
                vertex.started();
                vertex.failed(error.to_string());
                Err(self.placed(error, step))
            }
        }
    }

    fn copy_key(
        &self,
        step: &CopyStep,
        vertex: &Vertex,
        base: &Digest,
        known: &Known<'_>,
        reach: Reach,
    ) -> Result<Option<Inputs>, BuildError> {
        // With --link the layer is the same whatever it stands on.
        let base = if step.link { key::scratch() } else { *base };
        let mut inputs = Inputs::new("copy", &base);
        key::copy(&mut inputs, step);
        let found = self.selection(step, vertex, known, reach)?;
        Ok(found.map(|found| {
            found.add_to(&mut inputs, "the files");
            inputs
        }))
    }

    fn run_key(
        &self,
        step: &RunStep,
        vertex: &Vertex,
        base: &Digest,
        known: &Known<'_>,
        reach: Reach,
    ) -> Result<Option<Inputs>, BuildError> {
        let mut inputs = Inputs::new("run", base);
        key::run(&mut inputs, step, self.request);
        for (number, mount) in step.mounts.iter().enumerate() {
            let (from, source) = match mount {
                RunMount::Bind { from, source, .. } => (from, source),
                RunMount::Cache {
                    from: Some((from, source)),
                    ..
                } => (from, source),
                _ => continue,
            };
            let from = match from {
                RunMountFrom::Context => CopyFrom::Context,
                RunMountFrom::Stage(stage) => CopyFrom::Stage(*stage),
                RunMountFrom::Image(layers) => {
                    CopyFrom::Image(format!("{layers:?}"), layers.clone())
                }
                RunMountFrom::Named(name) => CopyFrom::Named(name.clone()),
                RunMountFrom::Scratch => continue,
            };
            let selection = key::mount_selection(source, from);
            match self.selection(&selection, vertex, known, reach)? {
                Some(found) => found.add_to(&mut inputs, &format!("mount {}", number + 1)),
                None => return Ok(None),
            }
        }
        Ok(Some(inputs))
    }

    /// What a COPY selects, by content.
    fn selection(
        &self,
        step: &CopyStep,
        vertex: &Vertex,
        known: &Known<'_>,
        reach: Reach,
    ) -> Result<Option<Found>, BuildError> {
        let Some((source, key)) = self.source(&step.from, known)? else {
            return Ok(None);
        };
        let memo = key.map(|key| key::selection(&key, step));
        if let Some(digest) = memo.and_then(|memo| self.store.memo(SELECTION, &memo)) {
            memo.inspect(|memo| self.travelling.note(*memo, digest));
            let inputs = Vec::new();
            return Ok(Some(Found { digest, inputs }));
        }
        let inline = |source: &PlannedSource| matches!(source, PlannedSource::Inline { .. });
        let readable = key.is_none() || step.sources.iter().all(inline);
        if reach == Reach::Host && !readable {
            return Ok(None);
        }
        let selection = copy::digest(
            step,
            &source.tree(),
            &self.remotes.of(step, self.store, vertex)?,
            Some(self.cancel),
        );
        let selection = match selection {
            Err(CopyError::Canceled) => return Err(BuildError::Canceled),
            other => other?,
        };
        if let Some(memo) = memo {
            self.store.set_memo(SELECTION, &memo, &selection.digest)?;
            self.travelling.note(memo, selection.digest);
        }
        Ok(Some(Found {
            digest: selection.digest,
            inputs: selection.inputs,
        }))
    }

    /// Where a COPY's files are, and the key of layers, which don't change. `None`: a stage that isn't finished.
    pub(super) fn source(
        &self,
        from: &CopyFrom,
        known: &Known<'_>,
    ) -> Result<Option<(Source<'_>, Option<Digest>)>, BuildError> {
        Ok(Some(match from {
            CopyFrom::Context => (Source::Context(self.context), None),
            CopyFrom::Named(name) => {
                let context = self.named.get(name).ok_or(BuildError::Canceled)?;
                (Source::Context(context), None)
            }
            CopyFrom::Image(id, layers) => {
                let key = Digest::of(id.as_bytes());
                (Source::Layers(layers.clone()), Some(key))
            }
            CopyFrom::Stage(stage) => {
                let Some(finished) = known(*stage) else {
                    return Ok(None);
                };
                let layers = self.lowers(&finished);
                // Not the stage's own key: a step that was run again has the same key and other files.
                let key = key::layers(&finished.layers);
                (Source::Layers(layers), Some(key))
            }
        }))
    }

    /// The directories of a stage's layers, top first.
    pub(super) fn lowers(&self, finished: &Finished) -> Vec<PathBuf> {
        self.store
            .lowers(finished.layers.iter().map(|layer| layer.diff_id))
    }
}

/// The error with all that is beneath it.
pub(super) fn causes(error: &(impl std::error::Error + ?Sized)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let told = cause.to_string();
        // Some messages end with their cause's.
        if !text.ends_with(&told) {
            text.push_str(&format!(": {told}"));
        }
        next = cause.source();
    }
    text
}

pub(super) fn kind(operation: &Operation) -> &'static str {
    match operation {
        Operation::Run(_) => "run",
        Operation::Copy(_) => "copy",
        Operation::Workdir(_) => "workdir",
    }
}
