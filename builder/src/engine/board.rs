//! Where the threads of a build meet: which stages are done, and whether one has failed.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use rctr_storage::tree;

use super::{BuildError, Finished, run::Cancel};

/// One for a build.
pub(super) struct Board<'a> {
    state: Mutex<State>,
    changed: Condvar,
    cancel: &'a Cancel,
    /// Steps that may run at once.
    jobs: usize,
}

struct State {
    stages: Vec<Option<Arc<Finished>>>,
    /// The first one.
    failure: Option<BuildError>,
    running: usize,
    /// Threads that remove what steps have left.
    sweeping: Vec<JoinHandle<()>>,
}

/// The right to run a step.
pub(super) struct Turn<'a>(&'a Board<'a>);

impl<'a> Board<'a> {
    /// `jobs` 0: no limit.
    pub(super) fn new(stages: usize, jobs: usize, cancel: &'a Cancel) -> Self {
        Self {
            state: Mutex::new(State {
                stages: vec![None; stages],
                failure: None,
                running: 0,
                sweeping: Vec::new(),
            }),
            changed: Condvar::new(),
            cancel,
            jobs: if jobs == 0 { usize::MAX } else { jobs },
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a stage. `Err`: the build is over.
    pub(super) fn wait_for(&self, stage: usize) -> Result<Arc<Finished>, BuildError> {
        let mut state = self.lock();
        loop {
            if state.failure.is_some() {
                return Err(BuildError::Canceled);
            }
            if let Some(finished) = &state.stages[stage] {
                return Ok(Arc::clone(finished));
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until one more step may run.
    pub(super) fn turn(&'a self) -> Result<Turn<'a>, BuildError> {
        let mut state = self.lock();
        loop {
            if state.failure.is_some() {
                return Err(BuildError::Canceled);
            }
            if state.running < self.jobs {
                state.running += 1;
                return Ok(Turn(self));
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Removes a step's directory beside the next step. What can't be removed is removed with the session.
    pub(super) fn sweep(&self, directory: PathBuf) {
        let remove = move || drop(tree::remove_tree(&directory));
        // Without one more thread it stays for the session's end.
        if let Ok(thread) = thread::Builder::new().spawn(remove) {
            self.lock().sweeping.push(thread);
        }
    }

    /// A stage is done, or the build with it.
    pub(super) fn ended(&self, stage: usize, result: Result<Finished, BuildError>) {
        match result {
            Ok(finished) => {
                self.lock().stages[stage] = Some(Arc::new(finished));
                self.changed.notify_all();
            }
            Err(error) => self.failed(error),
        }
    }

    /// Something failed, and the build with it.
    pub(super) fn failed(&self, error: BuildError) {
        // What fails because of the first failure is no news.
        self.lock().failure.get_or_insert(error);
        self.cancel.cancel();
        self.changed.notify_all();
    }

    /// Whether the user has ended the build.
    pub(super) fn is_interrupted(&self) -> bool {
        self.cancel.is_canceled() && self.lock().failure.is_none()
    }

    /// All stages, or the first failure.
    pub(super) fn outcome(self) -> Result<Vec<Finished>, BuildError> {
        let state = self
            .state
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        for thread in state.sweeping {
            // One that panicked is over as well.
            let _ = thread.join();
        }
        match state.failure {
            Some(error) => Err(error),
            None => Ok(state
                .stages
                .into_iter()
                .flatten()
                .map(Arc::unwrap_or_clone)
                .collect()),
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.lock().running -= 1;
        self.0.changed.notify_all();
    }
}
