//! RUN: a program in the sandbox of `rctr run`, on the layers so far; what it changed is left in an upper directory.
//!
//! The program is PID 1 of its own namespaces, in a process tree that [`rctr_runtime::step`] starts and that ends with
//! the builder. Host name `buildkitsandbox`; `/etc/hosts` and `/etc/resolv.conf` are ours, in memory and read-only, as
//! with BuildKit. Nothing that was made only to mount something on stays in the upper directory.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::MutexGuard;

use rctr_runtime::caps::{self, Privilege};
use rctr_runtime::emulation::Emulation;
use rctr_runtime::net::{Mode, NetworkPlan};
use rctr_runtime::plan::{
    Driver, LaunchPlan, Namespace, Namespaces, ProcessPlan, RootfsPlan, Seccomp,
};
use rctr_runtime::sandbox;
use rctr_runtime::step::{self, End, StepError, StepOrder, WithoutHelper};
use rctr_storage::Store;
use rctr_storage::atomic::Durability;
use rctr_storage::layer::mount_points;
use rctr_storage::random;

use crate::dockerfile::{NetworkFlag, SecurityFlag};
use crate::event::Stream;
use crate::plan::{RunNetwork, RunStep};
use crate::request::BuildRequest;

mod cancel;
mod error;
mod mounts;
mod source;
mod ssh;

pub use cancel::Cancel;
pub use error::RunError;
pub use mounts::ResolvedMount;
pub use source::Source;

/// The host name of every step, as with BuildKit.
const HOST_NAME: &str = "buildkitsandbox";

/// The layers below a step, some of which may still have to move to their place.
pub trait Lowers {
    /// Where they are. They stay there until the result is dropped.
    fn hold(&self) -> Held<'_>;
}

/// Layers that don't move.
pub struct Held<'a> {
    /// Top first.
    pub paths: Vec<PathBuf>,
    /// Who moves one has to wait for it.
    pub(super) _locks: Vec<MutexGuard<'a, ()>>,
}

impl Lowers for Vec<PathBuf> {
    fn hold(&self) -> Held<'_> {
        Held {
            paths: self.clone(),
            _locks: Vec::new(),
        }
    }
}

/// A step that is to run.
pub struct RunOrder<'a> {
    /// What runs.
    pub step: &'a RunStep,
    /// The layers so far.
    pub lowers: &'a dyn Lowers,
    /// How they are put together.
    pub driver: Driver,
    /// Where nothing is yet, on the store's file system ([`Store::temp_path`]): upper and work directory and all that
    /// the mounts need are made below it. The caller removes it when it has taken the upper directory.
    pub directory: PathBuf,
    /// `--network`, `--add-host`, `--shm-size`, `--ulimit`, `--secret`, `--ssh`, `--allow`.
    pub request: &'a BuildRequest,
    /// One for each of the step's mounts, in their order.
    pub mounts: Vec<ResolvedMount>,
    /// Takes what the program writes, in pieces as they come.
    pub output: &'a dyn Fn(Stream, &[u8]),
    /// Ends the step at once.
    pub cancel: &'a Cancel,
    /// For programs of other processors.
    pub emulation: Option<Emulation>,
}

/// What a step leaves that ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// What it changed: for [`Store::add_upper`], without any placeholders.
    pub upper: PathBuf,
    /// Why it used the host's network though a private one was wanted: to be shown once a build.
    pub host_network: Option<String>,
}

/// Runs a step to its end. The caller is root of its user namespace, has a mount namespace of its own, and may have
/// threads. Needs ids.
///
/// # Errors
/// When it can't be started, or its exit code isn't 0.
pub fn run(store: &Store, order: &RunOrder<'_>) -> Result<Finished, RunError> {
    if order.step.security == SecurityFlag::Insecure && !order.request.allow_insecure {
        return Err(RunError::InsecureNotAllowed);
    }
    let directory = make_directory(&order.directory)?;
    let held = order.lowers.hold();
    let rootfs = rootfs(store, order, &directory, &held.paths)?;
    let held = RefCell::new(Some(held));
    let mut mounted = mounts::prepare(store, order, &directory)?;
    let place = directory.join("files");
    make(&place)?;
    let step_order = StepOrder {
        plan: plan(
            order,
            rootfs,
            std::mem::take(&mut mounted.env),
            std::mem::take(&mut mounted.ops),
        ),
        network: network(order),
        without_helper: WithoutHelper::UseHost,
        place,
    };
    let stream = |stream, bytes: &[u8]| {
        let stream = match stream {
            rctr_runtime::log::Stream::Stdout => Stream::Out,
            rctr_runtime::log::Stream::Stderr => Stream::Err,
        };
        (order.output)(stream, bytes);
    };
    let ended = step::start(&step_order)
        .and_then(|running| {
            let mounted = || drop(held.take());
            running.follow(&stream, &mounted, order.cancel.fd())
        })
        .map_err(|error| match error {
            StepError::Canceled => RunError::Canceled,
            StepError::Start(failure) => RunError::Launch(failure),
            other => RunError::Process(other),
        })?;
    drop(held);
    // The agents and proxies of ssh mounts end here.
    drop(mounted);
    let process = || order.step.argv.join(" ");
    match ended.end {
        End::Code(0) => {}
        End::Code(code) => {
            let process = process();
            return Err(RunError::Exit { process, code });
        }
        End::Signal(signal) => {
            let process = process();
            return Err(RunError::Signal { process, signal });
        }
    }
    let upper = upper(store, order, &step_order.plan.rootfs, &ended.made)?;
    Ok(Finished {
        upper,
        host_network: ended.host_network,
    })
}

/// What the program changed, without what was made for mounts.
fn upper(
    store: &Store,
    order: &RunOrder<'_>,
    rootfs: &RootfsPlan,
    made: &[PathBuf],
) -> Result<PathBuf, RunError> {
    let flat = order.driver == Driver::Copy;
    let below = order.lowers.hold();
    let (top, lowers) = match flat {
        true => (&rootfs.merged, &[][..]),
        false => (&rootfs.upper, below.paths.as_slice()),
    };
    mount_points::remove(top, lowers, made).map_err(RunError::Layer)?;
    match flat {
        true => store
            .upper_of_flat(&rootfs.merged, &below.paths)
            .map_err(RunError::Layer),
        false => Ok(rootfs.upper.clone()),
    }
}

fn make(path: &Path) -> Result<(), RunError> {
    fs::create_dir(path).map_err(RunError::io("make", path))
}

/// The step's directory, without links in its path: init compares paths with what the kernel calls them.
fn make_directory(path: &Path) -> Result<PathBuf, RunError> {
    make(path)?;
    path.canonicalize().map_err(RunError::io("find", path))
}

fn rootfs(
    store: &Store,
    order: &RunOrder<'_>,
    directory: &Path,
    lowers: &[PathBuf],
) -> Result<RootfsPlan, RunError> {
    let plan = RootfsPlan {
        driver: order.driver,
        lowers: lowers.to_vec(),
        upper: directory.join("upper"),
        work: directory.join("work"),
        merged: directory.join("merged"),
        read_only: false,
        // A step that a power cut ends is run again, and a layer is synced when it is added.
        volatile: true,
    };
    if order.driver == Driver::Copy {
        // What a killed build leaves is thrown away: nothing has to reach the disk.
        store
            .flatten(&plan.lowers, &plan.merged, Durability::None)
            .map_err(RunError::Layer)?;
    } else {
        for part in [&plan.upper, &plan.work, &plan.merged] {
            make(part)?;
        }
    }
    Ok(plan)
}

fn network(order: &RunOrder<'_>) -> NetworkPlan {
    let mode = match (order.step.network, order.request.network) {
        (NetworkFlag::None, _) | (NetworkFlag::Default, RunNetwork::None) => Mode::None,
        (NetworkFlag::Host, _) | (NetworkFlag::Default, RunNetwork::Host) => Mode::Host,
        (NetworkFlag::Default, RunNetwork::Private) => Mode::Private,
    };
    NetworkPlan {
        mode,
        extra_hosts: order.request.extra_hosts.clone(),
        hostname: HOST_NAME.to_owned(),
        ..NetworkPlan::default()
    }
}

fn plan(
    order: &RunOrder<'_>,
    rootfs: RootfsPlan,
    more_env: Vec<String>,
    mounts: Vec<rctr_runtime::plan::MountOp>,
) -> LaunchPlan {
    let insecure = order.step.security == SecurityFlag::Insecure;
    let protected = |paths: &[&str]| match insecure {
        true => Vec::new(),
        false => sandbox::owned(paths),
    };
    let new = Namespace::Private;
    LaunchPlan {
        container_id: random::hex::<32>(),
        namespaces: Namespaces {
            user: new.clone(),
            pid: new.clone(),
            net: new.clone(),
            ipc: new.clone(),
            uts: new.clone(),
            cgroup: new,
        },
        rootfs,
        mounts,
        devices: Vec::new(),
        shm_size: order.request.shm_size.unwrap_or(sandbox::SHM_SIZE),
        sysctls: BTreeMap::new(),
        default_sysctls: BTreeMap::new(),
        masked_paths: protected(&sandbox::MASKED),
        readonly_paths: protected(&sandbox::READ_ONLY),
        privileged: insecure,
        hostname: HOST_NAME.to_owned(),
        domainname: String::new(),
        process: process(order, insecure, more_env),
        emulation: order.emulation.clone(),
        init: false,
        tells_made: true,
    }
}

fn process(order: &RunOrder<'_>, insecure: bool, more_env: Vec<String>) -> ProcessPlan {
    let step = order.step;
    let mut env = step.env.clone();
    // The variables of mounts win over those of the Dockerfile.
    for entry in step.proxies.iter().chain(&more_env) {
        let name = entry.split('=').next().unwrap_or_default();
        env.retain(|other| other.split('=').next() != Some(name));
        env.push(entry.clone());
    }
    let capabilities = match insecure {
        true => caps::all(),
        // Nothing is added or dropped, so there is no name that could be unknown.
        false => caps::resolve(&[], &[], Privilege::Ordinary).unwrap_or_default(),
    };
    ProcessPlan {
        argv: step.argv.clone(),
        env,
        cwd: step.cwd.clone(),
        create_cwd: true,
        user: step.user.clone(),
        additional_groups: Vec::new(),
        capabilities,
        rlimits: order.request.ulimits.iter().map(sandbox::rlimit).collect(),
        no_new_privileges: false,
        seccomp: match insecure {
            true => Seccomp::Unconfined,
            false => Seccomp::Default,
        },
        tty: false,
        oom_score_adj: None,
    }
}
