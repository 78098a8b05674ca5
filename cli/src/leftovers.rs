//! What killed monitors have left: processes that outlived them, and `--rm` containers that nobody removed.
//!
//! Every running container has a directory in the run directory, which a killed monitor leaves behind: so what is left is
//! found without reading the records of all containers.

use std::fs;

use rctr_runtime::{attach, control};
use rctr_storage::Store;
use rctr_storage::atomic::Durability;
use rctr_storage::container::Container;
use rctr_storage::record::Status;

use crate::commands::{create, stop};
use crate::context::Context;

/// Clears up after killed monitors, before a command that writes, and before it enters an identity: only the owner of a
/// container's user namespace may kill in it. What fails is left to the next such command: it is no
/// part of what the user asked for.
pub(crate) fn clear(context: &Context, store: &Store) {
    let entries = fs::read_dir(&context.run).into_iter().flatten();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(short) = name.to_str().filter(|name| is_short_id(name)) else {
            continue;
        };
        // One that isn't found may be of another store.
        if let Ok(container) = store.find_container(short)
            && is_dead(store, &container)
        {
            settle(context, store, &container);
        }
    }
}

/// The same, by the records of all containers: `system check --repair`.
pub(crate) fn clear_all(context: &Context, store: &Store) {
    clear(context, store);
    for container in store.containers().unwrap_or_default() {
        if container.state.pid != 0 && is_dead(store, &container) {
            settle(context, store, &container);
        }
    }
}

fn is_short_id(name: &str) -> bool {
    name.len() == 12 && name.bytes().all(|c| c.is_ascii_hexdigit())
}

/// Whether it ran and its monitor is gone. One that was started anew in this moment isn't.
fn is_dead(store: &Store, container: &Container) -> bool {
    container.state.status == Status::Exited && !store.monitor_alive(&container.record.id)
}

fn settle(context: &Context, store: &Store, container: &Container) {
    let id = &container.record.id;
    if control::reap_orphan(&stop::target(context, store, container)).is_err() {
        return;
    }
    if container.record.host_config.auto_remove {
        // What belongs to other owners is deleted by a command that has their ids.
        if store.remove_container(id).is_ok() || store.read_container(id).is_err() {
            for name in create::anonymous(&container.record) {
                let _ = store.remove_volume(name);
            }
            attach::forget(&context.run, id);
        }
        return;
    }
    let Ok(_held) = store.lock_container(id) else {
        return;
    };
    // Nobody can start it while we have its monitor's lock.
    let Ok(_monitor) = store.take_monitor_lock(id) else {
        return;
    };
    if let Ok(now) = store.read_container(id) {
        let mut state = now.state;
        (state.pid, state.pid_start) = (0, 0);
        if store.write_state(id, &state, Durability::None).is_ok() {
            attach::forget(&context.run, id);
        }
    }
}
