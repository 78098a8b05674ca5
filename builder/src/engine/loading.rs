//! What is told of reading the build context: one vertex, as long as steps may want files of it.

use std::sync::{Mutex, PoisonError};

use super::Finished;
use crate::context::Context;
use crate::plan::{CopyFrom, Operation, Plan, PlannedSource, RunMount, RunMountFrom, Step};
use crate::tracker::{Part, Tracker, Vertex};

/// Ends when every step that reads the context has its key. The bytes are those of files whose digests were not known.
pub struct Loading<'a> {
    context: &'a Context,
    /// Told of by others: builds for other platforms.
    before: u64,
    state: Mutex<Option<State>>,
}

struct State {
    vertex: Vertex,
    part: Part,
    /// Steps without a key.
    pending: usize,
}

impl<'a> Loading<'a> {
    /// Begins, if a step reads the context.
    #[must_use]
    pub fn new(plan: &Plan, context: &'a Context, tracker: &Tracker) -> Self {
        let steps = plan.stages.iter().flat_map(|stage| &stage.steps);
        let pending = steps.filter(|step| reads_context(step)).count();
        let state = (pending > 0).then(|| {
            let vertex = tracker.start("[internal] load build context");
            State {
                part: vertex.part("transferring context"),
                vertex,
                pending,
            }
        });
        Self {
            context,
            before: context.hashes.bytes_read(),
            state: Mutex::new(state),
        }
    }

    /// The cache has served these steps.
    pub(super) fn served(&self, plan: &Plan, stages: &[Option<Finished>]) {
        for (planned, finished) in plan.stages.iter().zip(stages) {
            let served = finished.as_ref().map_or(0, |stage| stage.steps.len());
            planned.steps[..served]
                .iter()
                .for_each(|step| self.keyed(step));
        }
    }

    /// This step has its key.
    pub(super) fn keyed(&self, step: &Step) {
        if !reads_context(step) {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(loading) = &mut *state {
            loading.pending -= 1;
            if loading.pending > 0 {
                return;
            }
        }
        if let Some(State { vertex, part, .. }) = state.take() {
            let bytes = self.context.hashes.bytes_read() - self.before;
            part.completed(bytes.max(crate::build::EMPTY));
            vertex.completed();
        }
    }

    /// The build has ended before all were read.
    pub(super) fn ended(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(State { vertex, .. }) = state.take() {
            vertex.canceled();
        }
    }
}

fn reads_context(step: &Step) -> bool {
    let is_context = |mount: &RunMount| {
        matches!(
            mount,
            RunMount::Bind {
                from: RunMountFrom::Context,
                ..
            }
        )
    };
    match &step.operation {
        Operation::Copy(copy) => {
            let is_path = |source: &PlannedSource| matches!(source, PlannedSource::Path(_));
            matches!(copy.from, CopyFrom::Context) && copy.sources.iter().any(is_path)
        }
        Operation::Run(run) => run.mounts.iter().any(is_context),
        Operation::Workdir(_) => false,
    }
}
