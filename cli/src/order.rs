//! A container's record to the work order of its monitor: what `run`, `start` and `restart` have in common.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rctr_runtime::caps::{self, Privilege};
use rctr_runtime::emulation;
use rctr_runtime::monitor::MonitorOrder;
use rctr_runtime::net::NetworkPlan;
use rctr_runtime::plan::Driver;
use rctr_runtime::rootfs;
use rctr_runtime::sandbox::FILES;
use rctr_storage::Store;
use rctr_storage::container::Container;
use rctr_storage::digest::DiffId;
use rctr_storage::record::{ContainerRecord, HostConfig};

use crate::commands::start;
use crate::context::Context;
use crate::merge::plan::{self, Found};
use crate::report::Failure;
use rctr_runtime::signals;

/// Docker's time between the stop signal and SIGKILL, in seconds.
const STOP_TIMEOUT: i64 = 10;

/// Whether the container's user namespace is its own: no other one's namespaces are joined.
pub(crate) fn own_user_namespace(host: &HostConfig) -> bool {
    joined_ids(host).is_empty()
}

fn joined_ids(host: &HostConfig) -> Vec<&str> {
    [&host.network_mode, &host.pid_mode, &host.ipc_mode]
        .into_iter()
        .filter_map(|mode| mode.strip_prefix("container:"))
        .collect()
}

/// The order for a monitor that is to start `container`. Writes the files that are bound over the image's.
///
/// # Errors
/// A container whose namespaces are joined doesn't run; an unknown capability; a file can't be written.
pub(crate) fn order(
    context: &Context,
    store: &Store,
    container: &Container,
) -> Result<MonitorOrder, Failure> {
    let record = &container.record;
    let host = &record.host_config;
    let joined = joined(store, host)?;
    let driver = rootfs::parse(&record.driver).unwrap_or(Driver::Overlay);
    let merged = container.dir.join("merged");
    // A copy is there once it is complete.
    if driver != Driver::Copy {
        match fs::create_dir(&merged) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(cannot("create", &merged, &error));
            }
            _ => {}
        }
    }
    let found = Found {
        dir: &container.dir,
        merged,
        lowers: lowers(store, record),
        driver,
        capabilities: capabilities(host)?,
        joined,
        files: files(container)?,
        emulation: emulation::find(&record.platform, &context.path),
    };
    let config = &record.config;
    Ok(MonitorOrder {
        store: store.root().to_owned(),
        run: context.run.clone(),
        plan: plan::launch(record, &found),
        network: network(record)?,
        open_stdin: config.open_stdin,
        stdin_once: config.stdin_once,
        log: host.log_config.clone(),
        auto_remove: host.auto_remove,
        restart: host.restart_policy.clone(),
        stop_signal: stop_signal(record),
        stop_timeout: u64::try_from(stop_timeout(record)).unwrap_or(u64::MAX),
        health: config.healthcheck.clone(),
        attach: None,
        size: None,
    })
}

/// The network that the record asks for.
fn network(record: &ContainerRecord) -> Result<NetworkPlan, Failure> {
    let config = &record.config;
    Ok(NetworkPlan::of(
        &record.host_config,
        config.exposed_ports.keys().map(String::as_str),
        &config.hostname,
        &config.domainname,
    )?)
}

/// The signal that `stop` sends first.
pub(crate) fn stop_signal(record: &ContainerRecord) -> i32 {
    signals::parse(&record.config.stop_signal).unwrap_or(nix::libc::SIGTERM)
}

/// Seconds until `stop` kills; negative: never.
pub(crate) fn stop_timeout(record: &ContainerRecord) -> i64 {
    record.config.stop_timeout.unwrap_or(STOP_TIMEOUT)
}

/// Names with `CAP_`, by docker's rules.
///
/// # Errors
/// When a name is unknown.
pub(crate) fn capabilities(host: &HostConfig) -> Result<Vec<String>, Failure> {
    let privilege = if host.privileged {
        Privilege::Privileged
    } else {
        Privilege::Ordinary
    };
    Ok(caps::resolve(&host.cap_add, &host.cap_drop, privilege)?)
}

/// The layers' directories, top first.
pub(crate) fn lowers(store: &Store, record: &ContainerRecord) -> Vec<PathBuf> {
    store.lowers(record.layers.iter().copied().map(DiffId))
}

/// Host PIDs of the containers whose namespaces are joined.
fn joined(store: &Store, host: &HostConfig) -> Result<BTreeMap<String, i32>, Failure> {
    let mut pids = BTreeMap::new();
    for id in joined_ids(host) {
        let other = store.find_container(id)?;
        if !start::is_up(&other) || other.state.pid == 0 {
            return Err(Failure::new(format!(
                "cannot join the namespaces of container {}: it is not running",
                other.record.name
            ))
            .hint(format!("start it first: rctr start {}", other.record.name)));
        }
        pids.insert(id.to_owned(), other.state.pid);
    }
    Ok(pids)
}

/// `/etc/hostname`, `/etc/hosts` and `/etc/resolv.conf` of the container. The monitor writes the last two: it knows the
/// container's addresses.
fn files(container: &Container) -> Result<Vec<(PathBuf, &'static str)>, Failure> {
    let record = &container.record;
    if let Some(id) = record.host_config.network_mode.strip_prefix("container:") {
        let other = container.dir.with_file_name(id);
        return Ok(FILES
            .iter()
            .map(|(name, target)| (other.join(name), *target))
            .filter(|(source, _)| source.exists())
            .collect());
    }
    let path = container.dir.join(FILES[0].0);
    fs::write(&path, format!("{}\n", record.config.hostname))
        .map_err(|error| cannot("write", &path, &error))?;
    Ok(FILES
        .iter()
        .map(|(name, target)| (container.dir.join(name), *target))
        .collect())
}

fn cannot(operation: &str, path: &Path, error: &io::Error) -> Failure {
    let mut failure = Failure::new(format!("cannot {operation} {}", path.display()));
    failure.causes.push(error.to_string());
    failure
}
