//! A network that is up: what its processes are, when they have died, and how they are started again.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::Child;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::helper::{self, Found, Running, Starting};
use super::listen::{Bound, Listener};
use super::relay_process::{self, Relay};
use super::{Helper, NetError, Subnet};
use crate::sys;

/// For a helper that is started again: the monitor does nothing else meanwhile.
const MEND_TIMEOUT: Duration = Duration::from_secs(3);

/// All that it takes to start the processes, once more if they die.
#[derive(Debug)]
pub(super) struct Recipe {
    pub(super) found: Found,
    pub(super) mtu: Option<u16>,
    pub(super) subnet: Subnet,
    /// Whose network namespace it is.
    pub(super) pid: i32,
    /// The relay's command.
    pub(super) relay: Vec<OsString>,
    /// Kept open here as well: while there is no relay, clients wait instead of being refused, and nobody takes the port.
    pub(super) listeners: Vec<Listener>,
}

impl Recipe {
    pub(super) fn start_helper(&self) -> Result<Starting, NetError> {
        helper::start(&self.found, self.mtu, self.subnet, self.pid)
    }

    /// `None`: nothing is published, and nothing else needs it.
    pub(super) fn start_relay(&self) -> Result<Option<Relay>, NetError> {
        if !self.wants_relay() {
            return Ok(None);
        }
        relay_process::start(&self.relay, self.pid, self.subnet, &self.listeners).map(Some)
    }

    fn wants_relay(&self) -> bool {
        !self.listeners.is_empty() || self.found.helper == Helper::Pasta
    }
}

/// A network that is up. Dropped, it ends its helper processes; the published ports are free then.
#[derive(Debug)]
pub struct NetworkHandle {
    ports: Bound,
    recipe: Option<Recipe>,
    pub(super) relay: Option<Relay>,
    pub(super) helper: Option<Running>,
}

impl NetworkHandle {
    /// Without a recipe there are no processes: the mode isn't `private`.
    pub(super) fn new(ports: Bound, recipe: Option<Recipe>) -> Self {
        Self {
            ports,
            recipe,
            relay: None,
            helper: None,
        }
    }

    /// For `ContainerState::ports`.
    #[must_use]
    pub fn ports(&self) -> &Bound {
        &self.ports
    }

    /// The container's network, mode `private` only.
    #[must_use]
    pub fn subnet(&self) -> Option<Subnet> {
        self.recipe.as_ref().map(|recipe| recipe.subnet)
    }

    /// Which helper serves it, and why this one.
    #[must_use]
    pub fn helper(&self) -> Option<(Helper, &'static str)> {
        let recipe = self.recipe.as_ref()?;
        Some((recipe.found.helper, recipe.found.reason))
    }

    /// The helper processes.
    #[must_use]
    pub fn pids(&self) -> Vec<i32> {
        let relay = self
            .relay
            .as_ref()
            .and_then(|relay| i32::try_from(relay.child.id()).ok());
        self.helper
            .as_ref()
            .map(|helper| helper.pid)
            .into_iter()
            .chain(relay)
            .collect()
    }

    /// Descriptors that are readable when a helper process has died.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let helper = self.helper.iter().map(|helper| helper.pidfd.as_fd());
        helper.chain(self.relay.iter().map(Relay::fd))
    }

    /// Lets go of the processes that have died. The name of one of them, if there are any.
    pub fn take_dead(&mut self) -> Option<&'static str> {
        let mut dead = None;
        if self.relay.as_ref().is_some_and(|relay| ended(relay.fd())) {
            self.relay = None;
            dead = Some("the port relay");
        }
        if self.helper.as_ref().is_some_and(|h| ended(h.pidfd.as_fd())) {
            self.end_helper();
            dead = self.helper().map(|(kind, _)| kind.program());
        }
        dead
    }

    /// Starts again what [`Self::take_dead`] took. Connections through it are lost; the container's addresses stay.
    ///
    /// # Errors
    /// As for the first start. It can be tried again.
    pub fn mend(&mut self) -> Result<(), NetError> {
        reap();
        let Some(recipe) = &self.recipe else {
            return Ok(());
        };
        if self.helper.is_none() {
            self.helper = Some(recipe.start_helper()?.finish(MEND_TIMEOUT)?);
        }
        if self.relay.is_none() {
            self.relay = recipe.start_relay()?;
            if let Some(relay) = &self.relay
                && let Err(error) = relay.wait()
            {
                self.relay = None;
                return Err(error);
            }
        }
        self.entrust()
    }

    /// pasta ends by the relay's hand when the monitor is killed; slirp4netns by itself.
    pub(super) fn entrust(&self) -> Result<(), NetError> {
        match (&self.relay, &self.helper, self.helper()) {
            (Some(relay), Some(helper), Some((Helper::Pasta, _))) => relay.entrust(&helper.pidfd),
            _ => Ok(()),
        }
    }

    fn end_helper(&mut self) {
        if let Some(mut helper) = self.helper.take() {
            helper.lifeline = None;
            // It may have ended with the container.
            let _ = sys::pidfd_send_signal(helper.pidfd.as_fd(), libc::SIGKILL);
            if let Some(child) = helper.child.take() {
                dying().push(child);
            }
        }
    }
}

impl Drop for NetworkHandle {
    fn drop(&mut self) {
        self.end_helper();
    }
}

/// Whether there is something to read, or the other end is gone.
fn ended(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// Helpers that were killed and not yet waited for: waiting for them made every short run up to 30 ms longer
/// (presumably the kernel takes their interface apart), and nobody needs it. A monitor that goes on reaps them at the
/// next start.
static DYING: Mutex<Vec<Child>> = Mutex::new(Vec::new());

fn dying() -> MutexGuard<'static, Vec<Child>> {
    // A list of processes is whole whatever happened to another thread.
    DYING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for the helpers that have ended meanwhile.
pub(super) fn reap() {
    dying().retain_mut(|child| matches!(child.try_wait(), Ok(None)));
}
