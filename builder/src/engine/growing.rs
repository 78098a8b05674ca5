//! A stage under way, whose last layers may still be packed and hashed while the next step runs.
//!
//! ```text
//! the stage's thread    step ─ settle its upper directory ─▶ next step, upon that directory …
//!                                     │ a queue, in order
//! the stage's publisher               └▶ pack, hash, move to layers/, write the record, tell that it is done
//! ```
//!
//! A step's key asks for no digest, so only two paths meet: the publisher moves a directory while the next step looks up
//! where it is. Hence a lock a layer, held from there until everything is mounted or opened. What is mounted stays
//! mounted wherever its directory goes. Other stages see the stage when all of it is published.

use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::Instant;

use rctr_storage::cache::{LogPlace, StepInput, StepLock, StepRecord};
use rctr_storage::digest::Digest;
use rctr_storage::image::StackLayer;
use rctr_storage::layer::{LayerBlob, LayerError, SettledUpper};

use super::board::Board;
use super::run::{Held, Lowers};
use super::step::At;
use super::{BuildError, Engine, Finished, FinishedStep};
use crate::tracker::Vertex;

/// Steps whose layers wait to be packed, beside the one that is: with more the disk couldn't keep up.
const WAITING: usize = 1;

/// A step that ran, before its layer has a digest.
pub(super) struct Ran {
    pub(super) at: At,
    pub(super) vertex: Vertex,
    pub(super) key: Digest,
    pub(super) parent: Digest,
    pub(super) inputs: Vec<StepInput>,
    /// RFC 3339.
    pub(super) created: String,
    pub(super) began: Instant,
    /// Nobody else makes this step before its record is there.
    pub(super) _lock: Option<StepLock>,
}

/// A layer without a digest. It goes with the stage: until then it may be mounted.
struct Unnamed {
    upper: SettledUpper,
    /// Held by who relies on its place, and by the publisher while it moves it.
    moving: Mutex<()>,
    published: OnceLock<LayerBlob>,
}

impl Unnamed {
    fn lock(&self) -> MutexGuard<'_, ()> {
        self.moving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Layer {
    Published(LayerBlob),
    Unnamed(Arc<Unnamed>),
}

struct Step {
    key: Digest,
    layer: Layer,
    created: String,
}

struct Job {
    ran: Ran,
    layer: Arc<Unnamed>,
}

struct Publisher<'s> {
    queue: SyncSender<Job>,
    /// Whether it has published everything.
    thread: ScopedJoinHandle<'s, bool>,
}

/// Where the threads of a build are started, and what they share.
#[derive(Clone, Copy)]
pub(super) struct Crew<'s, 'e> {
    pub(super) engine: &'e Engine<'e>,
    pub(super) board: &'e Board<'e>,
    pub(super) scope: &'s Scope<'s, 'e>,
}

/// One stage, as far as it has come.
pub(super) struct Growing<'s, 'e> {
    crew: Crew<'s, 'e>,
    /// Base and steps that were there when it began.
    begun: Finished,
    steps: Vec<Step>,
    publisher: RefCell<Option<Publisher<'s>>>,
    /// Layers that the publisher has still to publish.
    waiting: Arc<AtomicUsize>,
}

impl<'s, 'e> Growing<'s, 'e> {
    pub(super) fn new(crew: Crew<'s, 'e>, begun: Finished) -> Self {
        Self {
            crew,
            begun,
            steps: Vec::new(),
            publisher: RefCell::new(None),
            waiting: Arc::default(),
        }
    }

    /// Of the last step.
    pub(super) fn key(&self) -> Digest {
        self.steps.last().map_or(self.begun.key, |step| step.key)
    }

    /// How many steps there are.
    pub(super) fn len(&self) -> usize {
        self.begun.steps.len() + self.steps.len()
    }

    pub(super) fn board(&self) -> &'e Board<'e> {
        self.crew.board
    }

    /// Whether layers wait to be published: what follows has to wait behind them.
    pub(super) fn is_busy(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }

    /// Adds a step whose layer is published.
    pub(super) fn push(&mut self, step: FinishedStep) {
        self.steps.push(Step {
            key: step.key,
            layer: Layer::Published(step.layer),
            created: step.created,
        });
    }

    /// Adds a step whose layer is published beside the next one.
    pub(super) fn push_unnamed(&mut self, ran: Ran, upper: SettledUpper) -> Result<(), BuildError> {
        let layer = Arc::new(Unnamed {
            upper,
            moving: Mutex::default(),
            published: OnceLock::new(),
        });
        self.steps.push(Step {
            key: ran.key,
            layer: Layer::Unnamed(Arc::clone(&layer)),
            created: ran.created.clone(),
        });
        self.waiting.fetch_add(1, Ordering::Release);
        let mut slot = self.publisher.borrow_mut();
        let publisher = match &*slot {
            Some(publisher) => publisher,
            None => slot.insert(self.start()?),
        };
        // It takes all that comes until the queue is closed; were it gone, so would be the build.
        let sent = publisher.queue.send(Job { ran, layer });
        sent.map_err(|_| BuildError::Canceled)
    }

    fn start(&self) -> Result<Publisher<'s>, BuildError> {
        let (queue, jobs) = sync_channel(WAITING);
        let (crew, waiting) = (self.crew, Arc::clone(&self.waiting));
        let thread = thread::Builder::new()
            .spawn_scoped(crew.scope, move || crew.publish_all(&jobs, &waiting))
            .map_err(|source| LayerError::Read { source })?;
        Ok(Publisher { queue, thread })
    }

    /// Waits until everything is published.
    ///
    /// # Errors
    /// When something can't be: the board knows why.
    pub(super) fn settled(&self) -> Result<(), BuildError> {
        let Some(publisher) = self.publisher.take() else {
            return Ok(());
        };
        drop(publisher.queue);
        match publisher.thread.join() {
            Ok(true) => Ok(()),
            Ok(false) => Err(BuildError::Canceled),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// The stage as it is now, when everything is published.
    ///
    /// # Errors
    /// As [`settled`](Self::settled).
    pub(super) fn finished(&self) -> Result<Finished, BuildError> {
        self.settled()?;
        let mut finished = self.begun.clone();
        for step in &self.steps {
            let layer = match &step.layer {
                Layer::Published(layer) => Some(layer),
                Layer::Unnamed(unnamed) => unnamed.published.get(),
            };
            finished.push(FinishedStep {
                key: step.key,
                layer: layer.ok_or(BuildError::Canceled)?.clone(),
                created: step.created.clone(),
            });
        }
        Ok(finished)
    }
}

impl Lowers for Growing<'_, '_> {
    fn hold(&self) -> Held<'_> {
        let named = |layer: &LayerBlob| StackLayer::Named(layer.diff_id);
        let mut stack: Vec<_> = self.begun.layers.iter().map(named).collect();
        let mut locks = Vec::new();
        for step in &self.steps {
            stack.push(match &step.layer {
                Layer::Published(layer) => named(layer),
                Layer::Unnamed(unnamed) => {
                    let moving = unnamed.lock();
                    match unnamed.published.get() {
                        Some(layer) => named(layer),
                        None => {
                            locks.push(moving);
                            StackLayer::At(unnamed.upper.path())
                        }
                    }
                }
            });
        }
        Held {
            paths: self.crew.engine.store.stack(stack.into_iter()),
            _locks: locks,
        }
    }
}

impl Crew<'_, '_> {
    /// The publisher's thread. Whether all went well.
    fn publish_all(&self, jobs: &Receiver<Job>, waiting: &AtomicUsize) -> bool {
        let mut well = true;
        for Job { ran, layer } in jobs {
            // Who has pressed ^C waits for no more layers; but another step's failure takes nothing from what is done.
            if !well || self.board.is_interrupted() {
                ran.vertex.canceled();
                well = false;
            } else if let Err(error) = self.publish(ran, &layer) {
                self.board.failed(error);
                well = false;
            }
            waiting.fetch_sub(1, Ordering::Release);
        }
        well
    }

    fn publish(&self, ran: Ran, layer: &Unnamed) -> Result<(), BuildError> {
        let store = self.engine.store;
        let (at, vertex) = (ran.at, ran.vertex.clone());
        let failed = |error: LayerError| {
            let cause = Box::new(error);
            self.engine.failed(at, &vertex, cause, Vec::new(), None)
        };
        let packed = store.pack_settled(&layer.upper).map_err(failed)?;
        let blob = {
            let _moving = layer.lock();
            let blob = store
                .publish_settled(&layer.upper, &packed)
                .map_err(failed)?;
            layer.published.get_or_init(|| blob.clone());
            blob
        };
        self.engine.record(ran, blob)
    }
}

impl Engine<'_> {
    /// Writes the record of a step whose layer is published, and tells that it is done.
    pub(super) fn record(&self, ran: Ran, layer: LayerBlob) -> Result<(), BuildError> {
        let step = &self.plan.stages[ran.at.stage].steps[ran.at.number];
        let record = StepRecord {
            key: ran.key,
            kind: super::step::kind(&step.operation).to_owned(),
            name: step.name.clone(),
            layer,
            parent: Some(ran.parent),
            inputs: ran.inputs,
            created: ran.created,
            duration_ms: u64::try_from(ran.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            log: self.build_id.map(|build| LogPlace {
                build: build.to_owned(),
                step: ran.vertex.id().number(),
            }),
        };
        self.store.remember_step(&record)?;
        let place = self.place_of(ran.at.stage, ran.at.number);
        self.store.note_like(&place, &record.key)?;
        ran.vertex.completed();
        Ok(())
    }
}
