//! Runs a step for real, and makes its upper directory a layer.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rctr_runtime::plan::Driver;
use rctr_storage::cache::{CacheMount, CacheMountOrder, Sharing as CacheSharing};
use rctr_storage::explain::Explain;
use rctr_storage::tree;

use super::growing::Growing;
use super::run::{self, Lowers, ResolvedMount, RunError, RunOrder};
use super::step::{At, Known};
use super::{BuildError, Engine, StepFailure, keep};
use crate::context::Context;
use crate::copy::{self, CopyError, CopyOrder, WorkdirOrder};
use crate::event::Stream;
use crate::plan::{CopyStep, Operation, RunMount, RunMountFrom, RunStep, Sharing, WorkdirStep};
use crate::source::Place;
use crate::tracker::Vertex;

/// Bytes of a step's output that a failure shows.
const TAIL: usize = 64 << 10;

/// The last of what a step printed.
#[derive(Default)]
struct Tail(Mutex<VecDeque<u8>>);

impl Tail {
    fn push(&self, bytes: &[u8]) {
        let mut tail = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tail.extend(&bytes[bytes.len().saturating_sub(TAIL)..]);
        let surplus = tail.len().saturating_sub(TAIL);
        tail.drain(..surplus);
    }

    fn take(self) -> Vec<u8> {
        self.0
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
            .into()
    }
}

/// What a step has left.
pub(super) struct Upper {
    /// What it changed.
    pub(super) path: PathBuf,
    /// Its directory, in which that and all else is.
    pub(super) directory: PathBuf,
}

/// Makes an empty upper directory.
fn empty(directory: &Path) -> Result<PathBuf, BuildError> {
    let upper = directory.join("upper");
    std::fs::create_dir_all(&upper).map_err(|source| BuildError::Export {
        path: upper.clone(),
        source,
    })?;
    Ok(upper)
}

/// What a step stands on, and who hears of it.
pub(super) struct Work<'w, 's, 'e> {
    pub(super) at: At,
    pub(super) growing: &'w Growing<'s, 'e>,
    pub(super) driver: Driver,
    pub(super) vertex: &'w Vertex,
    pub(super) known: &'w Known<'w>,
}

impl Engine<'_> {
    /// Runs the step.
    pub(super) fn perform(&self, work: &Work<'_, '_, '_>) -> Result<Upper, BuildError> {
        let step = &self.plan.stages[work.at.stage].steps[work.at.number];
        let directory = self.store.temp_path("step")?;
        let upper = match &step.operation {
            Operation::Run(run) => self.run(run, work, &directory),
            Operation::Copy(copy) => self.copy(copy, work, &directory),
            Operation::Workdir(workdir) => self.workdir(workdir, work, &directory),
        }?;
        if let (Operation::Run(_), Some(epoch)) = (&step.operation, self.plan.epoch) {
            tree::clamp_times(&upper, epoch)?;
        }
        Ok(Upper {
            path: upper,
            directory,
        })
    }

    fn run(
        &self,
        step: &RunStep,
        work: &Work<'_, '_, '_>,
        directory: &Path,
    ) -> Result<PathBuf, BuildError> {
        let tail = Tail::default();
        let (mounts, _locked) = self.mounts(step, work)?;
        let order = RunOrder {
            step,
            lowers: work.growing,
            driver: work.driver,
            directory: directory.to_owned(),
            request: self.request,
            mounts,
            output: &|stream, bytes: &[u8]| {
                tail.push(bytes);
                work.vertex.log(stream, bytes);
            },
            cancel: self.cancel,
            emulation: self
                .host
                .emulation(&self.plan.stages[work.at.stage].platform),
        };
        match run::run(self.store, &order) {
            Ok(done) => {
                if let Some(why) = done.host_network {
                    let text = format!("rctr: the host's network is used: {why}\n");
                    work.vertex.log(Stream::Err, text.as_bytes());
                }
                Ok(done.upper)
            }
            Err(RunError::Canceled) => Err(BuildError::Canceled),
            Err(error) => {
                let kept = match error {
                    RunError::Exit { .. } | RunError::Signal { .. } => {
                        keep::keep(self, step, work, directory)
                    }
                    _ => None,
                };
                Err(self.failed(work.at, work.vertex, Box::new(error), tail.take(), kept))
            }
        }
    }

    fn copy(
        &self,
        step: &CopyStep,
        work: &Work<'_, '_, '_>,
        directory: &Path,
    ) -> Result<PathBuf, BuildError> {
        let (source, _) = self
            .source(&step.from, work.known)?
            .ok_or(BuildError::Canceled)?;
        let upper = empty(directory)?;
        let remotes = self
            .remotes
            .of(step, self.store, work.vertex)
            .map_err(|error| {
                self.failed(work.at, work.vertex, Box::new(error), Vec::new(), None)
            })?;
        let order = CopyOrder {
            step,
            from: source.tree(),
            remotes: &remotes,
            lowers: &work.growing.hold().paths,
            upper: upper.clone(),
            epoch: self.plan.epoch,
            cancel: Some(self.cancel),
        };
        match copy::copy(&order) {
            Ok(()) => Ok(upper),
            Err(CopyError::Canceled) => Err(BuildError::Canceled),
            Err(error) => Err(self.failed(work.at, work.vertex, Box::new(error), Vec::new(), None)),
        }
    }

    fn workdir(
        &self,
        step: &WorkdirStep,
        work: &Work<'_, '_, '_>,
        directory: &Path,
    ) -> Result<PathBuf, BuildError> {
        let upper = empty(directory)?;
        let order = WorkdirOrder {
            step,
            lowers: &work.growing.hold().paths,
            upper: upper.clone(),
            epoch: self.plan.epoch,
        };
        match copy::workdir(&order) {
            Ok(()) => Ok(upper),
            Err(error) => Err(self.failed(work.at, work.vertex, Box::new(error), Vec::new(), None)),
        }
    }

    /// Tells of the failure, and gives it its place.
    pub(super) fn failed(
        &self,
        at: At,
        vertex: &Vertex,
        cause: Box<dyn Explain + Send + Sync>,
        tail: Vec<u8>,
        kept: Option<super::Kept>,
    ) -> BuildError {
        let stage = &self.plan.stages[at.stage];
        let step = &stage.steps[at.number];
        vertex.failed(super::step::causes(&*cause));
        BuildError::Step(Box::new(StepFailure {
            place: Place {
                file: self.plan.file.clone(),
                span: step.span,
            },
            vertex: super::vertex_name(stage, at.number),
            cause,
            tail,
            kept,
        }))
    }

    /// The step's mounts as they are found on this host, and the locks of its caches.
    fn mounts(
        &self,
        step: &RunStep,
        work: &Work<'_, '_, '_>,
    ) -> Result<(Vec<ResolvedMount>, Vec<CacheMount>), BuildError> {
        let mut mounts = Vec::new();
        let mut locked = Vec::new();
        for mount in &step.mounts {
            mounts.push(match mount {
                RunMount::Bind { from, .. } => ResolvedMount::Bind(self.mount_source(from, work)?),
                RunMount::Cache { from, .. } => {
                    let seed = match from {
                        Some((from, _)) => Some(self.mount_source(from, work)?),
                        None => None,
                    };
                    let cache = self.cache_mount(mount, work.vertex)?;
                    let path = cache.path.clone();
                    locked.push(cache);
                    ResolvedMount::Cache { path, seed }
                }
                _ => ResolvedMount::Plain,
            });
        }
        Ok((mounts, locked))
    }

    fn cache_mount(&self, mount: &RunMount, vertex: &Vertex) -> Result<CacheMount, BuildError> {
        let RunMount::Cache {
            id,
            sharing,
            mode,
            uid,
            gid,
            ..
        } = mount
        else {
            return Err(BuildError::Canceled);
        };
        let order = CacheMountOrder {
            id,
            sharing: match sharing {
                Sharing::Shared => CacheSharing::Shared,
                Sharing::Private => CacheSharing::Private,
                Sharing::Locked => CacheSharing::Locked,
            },
            uid: *uid,
            gid: *gid,
            mode: *mode,
            fill: Some(&|into| {
                self.travelling.fill_mount(self.store, id, into, vertex);
                Ok(())
            }),
        };
        let mut told = false;
        let mount = self.store.cache_mount(&order, &mut |pid| {
            if !std::mem::replace(&mut told, true) {
                let who = pid.map_or_else(String::new, |pid| format!(" (process {pid})"));
                vertex.note(format!("waiting for the cache mount {id}{who}"));
            }
            match self.cancel.is_canceled() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })?;
        mount.ok_or(BuildError::Canceled)
    }

    fn bound(
        &self,
        context: &Context,
        shown: &str,
        work: &Work<'_, '_, '_>,
    ) -> Result<run::Source, BuildError> {
        let place = self.store.temp_path("mask")?;
        run::Source::context(context, shown, &place)
            .map_err(|error| self.failed(work.at, work.vertex, Box::new(error), Vec::new(), None))
    }

    fn mount_source(
        &self,
        from: &RunMountFrom,
        work: &Work<'_, '_, '_>,
    ) -> Result<run::Source, BuildError> {
        let (layers, shown) = match from {
            RunMountFrom::Scratch => (Vec::new(), "scratch".to_owned()),
            RunMountFrom::Image(layers) => (layers.clone(), "the image".to_owned()),
            RunMountFrom::Stage(stage) => {
                let finished = (work.known)(*stage).ok_or(BuildError::Canceled)?;
                let label = &self.plan.stages[*stage].label;
                (self.lowers(&finished), format!("stage {label}"))
            }
            RunMountFrom::Context => return self.bound(self.context, "the build context", work),
            RunMountFrom::Named(name) => {
                let context = self.named.get(name).ok_or(BuildError::Canceled)?;
                return self.bound(context, &format!("the context {name}"), work);
            }
        };
        Ok(run::Source { layers, shown })
    }
}
