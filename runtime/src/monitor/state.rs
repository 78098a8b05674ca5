//! `state.json` as the monitor writes it.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rctr_storage::atomic::Durability;
use rctr_storage::container::ContainerError;
use rctr_storage::lock::MonitorLock;
use rctr_storage::record::{ContainerState, Endpoint, Health, NEVER, PortBinding, Status};
use rctr_storage::store::Store;
use rctr_storage::timestamp;

use crate::{process, sys};

/// What is known of a program that is about to run.
#[derive(Debug)]
pub(super) struct Started {
    /// As seen from the host.
    pub(super) pid: i32,
    /// As they are bound: `80/tcp` to addresses.
    pub(super) ports: BTreeMap<String, Option<Vec<PortBinding>>>,
    /// Its own addresses.
    pub(super) endpoint: Option<Endpoint>,
}

/// The container's state, in memory and on disk.
#[derive(Debug)]
pub(super) struct Book {
    store: Store,
    lock: MonitorLock,
    state: ContainerState,
    /// When the last run before this monitor started.
    last_start: String,
    /// The container's anonymous volumes, once it is known that they will be removed soon.
    anonymous: Option<Vec<String>>,
}

/// Ends a process that outlived its monitor, whose lock we have: it still uses the writable layer.
fn end_orphan(state: &ContainerState) {
    if let Ok(orphan) = process::pidfd(state.pid, state.pid_start) {
        // It may be ending at this moment. One that doesn't die within the time is stuck in the kernel and does nothing.
        let _ = sys::pidfd_send_signal(orphan.as_fd(), libc::SIGKILL);
        let mut fds = [PollFd::new(orphan.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut fds, PollTimeout::from(5000_u16));
    }
}

impl Book {
    /// Takes the monitor's lock.
    pub(super) fn open(store: Store, id: &str) -> Result<Self, ContainerError> {
        let lock = store.take_monitor_lock(id)?;
        let mut state = store.read_container(id)?.state;
        end_orphan(&state);
        state.monitor_pid = i32::try_from(std::process::id()).unwrap_or(0);
        state.monitor_start = process::start_time(state.monitor_pid).unwrap_or(0);
        state.restart_count = 0;
        state.stopped_by_user = false;
        let last_start = state.started_at.clone();
        Ok(Self {
            store,
            lock,
            state,
            last_start,
            anonymous: None,
        })
    }

    /// The store that it is in.
    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// Where the container's files are.
    pub(super) fn directory(&self) -> std::path::PathBuf {
        self.store.container_dir(self.lock.id())
    }

    /// Of the last run.
    pub(super) fn last_code(&self) -> i32 {
        self.state.exit_code
    }

    fn write(&self) -> Result<(), ContainerError> {
        // No fsync while somebody waits: what a power cut takes is the news of a process that it ended as well.
        self.store
            .write_state(self.lock.id(), &self.state, Durability::None)
    }

    pub(super) fn started(
        &mut self,
        now: Started,
        health: Option<Health>,
    ) -> Result<(), ContainerError> {
        let state = &mut self.state;
        state.status = Status::Running;
        state.pid = now.pid;
        state.pid_start = process::start_time(now.pid).unwrap_or(0);
        state.exit_code = 0;
        state.error = String::new();
        state.oom_killed = false;
        state.started_at = timestamp::now();
        state.ports = now.ports;
        state.endpoint = now.endpoint;
        state.health = health;
        self.write()
    }

    /// It could not be started at all: `code` is 125 to 127. One that never ran stays "created", as Docker has it.
    pub(super) fn never_started(&mut self, code: i32, error: String) -> Result<(), ContainerError> {
        self.end(code);
        self.state.started_at.clone_from(&self.last_start);
        if self.last_start == NEVER {
            self.state.status = Status::Created;
        }
        self.state.error = error;
        self.write()
    }

    /// It could not be started again; [`Book::exited`] follows.
    pub(super) fn not_restarted(&mut self, error: String) {
        self.state.error = error;
    }

    fn end(&mut self, code: i32) {
        let state = &mut self.state;
        state.status = Status::Exited;
        state.pid = 0;
        state.pid_start = 0;
        state.monitor_pid = 0;
        state.monitor_start = 0;
        state.exit_code = code;
        state.finished_at = timestamp::now();
        state.ports.clear();
        state.endpoint = None;
    }

    /// It has ended for good.
    pub(super) fn exited(
        &mut self,
        code: i32,
        stopped_by_user: bool,
    ) -> Result<(), ContainerError> {
        self.end(code);
        self.state.stopped_by_user = stopped_by_user;
        self.write()
    }

    /// It has ended and is about to be started again.
    pub(super) fn restarting(&mut self, code: i32, count: u32) -> Result<(), ContainerError> {
        let (pid, start) = (self.state.monitor_pid, self.state.monitor_start);
        self.end(code);
        self.state.status = Status::Restarting;
        (self.state.monitor_pid, self.state.monitor_start) = (pid, start);
        self.state.restart_count = count;
        self.write()
    }

    pub(super) fn health(&mut self, health: &Health) -> Result<(), ContainerError> {
        self.state.health = Some(health.clone());
        self.write()
    }

    /// Does what [`Book::remove`] can have done before, while the program is still ending. More than once does nothing.
    pub(super) fn prepare_removal(&mut self) {
        if self.anonymous.is_none() {
            self.anonymous = Some(self.anonymous_volumes());
            // What fails now is tried again.
            let _ = self.store.begin_session();
        }
    }

    /// Removes the container and its anonymous volumes from the store, its files last: `gone` is called when nobody finds
    /// it any more. What fails is left for the next command that clears up.
    pub(super) fn remove(mut self, gone: impl FnOnce()) {
        let known = self.anonymous.take();
        let volumes = known.unwrap_or_else(|| self.anonymous_volumes());
        let retired = self.store.retire_own_container(&self.lock);
        for name in volumes {
            // In use by another container that took it over (`--volumes-from`).
            let _ = self.store.remove_volume(&name);
        }
        gone();
        if let Ok(retired) = retired {
            let _ = self.store.delete_retired(&retired);
        }
    }

    fn anonymous_volumes(&self) -> Vec<String> {
        let record = self.store.read_container(self.lock.id()).map(|c| c.record);
        let mounts = record.map(|r| r.mounts).unwrap_or_default();
        let anonymous = mounts
            .into_iter()
            .filter(|m| m.anonymous && m.kind == "volume");
        anonymous.map(|m| m.name).collect()
    }

    /// Ends the monitor's hold; `free` is called when another one may start. Then makes the last state survive a power
    /// cut: nobody waits for that any more.
    pub(super) fn close(self, free: impl FnOnce()) {
        let directory = self.directory();
        drop(self.lock);
        free();
        // It may have been removed already; and there is nobody left to tell.
        for path in [directory.join("state.json"), directory] {
            let _ = File::open(path).and_then(|file| file.sync_all());
        }
    }
}
