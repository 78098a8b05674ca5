//! A container's files from outside: its tree as it sees it, whether it runs or not.

use std::path::PathBuf;

use rctr_runtime::plan::{Driver, RootfsPlan};
use rctr_runtime::process::Known;
use rctr_runtime::{rootfs, sandbox};
use rctr_storage::container::Container;
use rctr_storage::layer::diff::{self, Change};
use rctr_storage::layer::{KeepUpper, LayerBlob, LayerError, flat};
use rctr_storage::{Store, tree};

use crate::commands::start::is_up;
use crate::context::Context;
use crate::order;
use crate::report::Failure;

/// How the container's root file system is put together.
pub(crate) fn rootfs_plan(store: &Store, container: &Container) -> RootfsPlan {
    let record = &container.record;
    RootfsPlan {
        driver: rootfs::parse(&record.driver).unwrap_or(Driver::Overlay),
        lowers: order::lowers(store, record),
        upper: container.dir.join("upper"),
        work: container.dir.join("work"),
        merged: container.dir.join("merged"),
        read_only: record.host_config.readonly_rootfs,
        volatile: false,
    }
}

/// Which mounts of a container are looked through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Volumes {
    /// Its volumes and bind mounts.
    Shown,
    /// Only its own root.
    Hidden,
}

/// The container's root directory, after this process has moved to where it can be used: its user namespace, as root.
/// Once a process, and before it has threads.
///
/// # Errors
/// When the container has just ended, or its tree can't be mounted.
pub(crate) fn enter(
    context: &Context,
    store: &Store,
    container: &Container,
    volumes: Volumes,
) -> Result<PathBuf, Failure> {
    let plan = RootfsPlan {
        // What isn't writable for the container is so for `cp`, as with docker.
        read_only: false,
        volatile: false,
        ..rootfs_plan(store, container)
    };
    // A copy is where it is, and only the container has something mounted in it.
    let bare = plan.driver == Driver::Copy && volumes == Volumes::Hidden;
    if !bare && is_up(container) && container.state.pid != 0 {
        return Ok(rootfs::look_into_running(Known {
            pid: container.state.pid,
            start: container.state.pid_start,
        })?);
    }
    let binds: Vec<(PathBuf, PathBuf)> = container
        .record
        .mounts
        .iter()
        .filter(|mount| volumes == Volumes::Shown && mount.kind != "tmpfs")
        .map(|mount| {
            (
                PathBuf::from(&mount.source),
                PathBuf::from(&mount.destination),
            )
        })
        .filter(|(source, _)| source.exists())
        .collect();
    Ok(rootfs::look_into_stopped(
        &context.identity()?,
        store.root(),
        &plan,
        &binds,
    )?)
}

/// What the container has changed in its layers. Needs ids.
///
/// # Errors
/// When something can't be read.
pub(crate) fn changes(plan: &RootfsPlan) -> Result<Vec<Change>, LayerError> {
    match plan.driver {
        Driver::Copy => flat::changes(&plan.merged, &plan.lowers),
        Driver::Overlay | Driver::FuseOverlayfs => diff::changes(&plan.upper, &plan.lowers),
    }
}

/// Bytes that the container has written. Needs ids. What vanishes while it is counted doesn't count.
pub(crate) fn written(store: &Store, container: &Container) -> u64 {
    let plan = rootfs_plan(store, container);
    match plan.driver {
        Driver::Copy => flat::size(&plan.merged, &plan.lowers).unwrap_or(0),
        Driver::Overlay | Driver::FuseOverlayfs => tree::size(&plan.upper).unwrap_or(0),
    }
}

/// Makes a layer of what the container has changed. Needs ids.
///
/// # Errors
/// When something can't be read or written.
pub(crate) fn layer(store: &Store, plan: &RootfsPlan) -> Result<LayerBlob, LayerError> {
    match plan.driver {
        Driver::Copy => {
            let upper = store.upper_of_flat(&plan.merged, &plan.lowers)?;
            store.add_upper(&upper, KeepUpper::Move, &sandbox::PLACEHOLDERS)
        }
        Driver::Overlay | Driver::FuseOverlayfs => {
            store.add_upper(&plan.upper, KeepUpper::Copy, &sandbox::PLACEHOLDERS)
        }
    }
}
