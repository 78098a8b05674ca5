//! The container's network while it starts: see [`crate::net`] for the order of the steps.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rctr_storage::explain::Explain;
use rctr_storage::record::Status;
use rctr_storage::store::Store;

use super::StartFailure;
use crate::net::{self, Mode, NetworkPlan, Prepared, Published};

/// The hidden verb of the process that serves published ports.
pub const RELAY_VERB: &str = "relay";

#[derive(Debug, thiserror::Error)]
#[error("cannot write {}", path.display())]
struct WriteError {
    path: PathBuf,
    source: io::Error,
}

impl Explain for WriteError {}

/// Decides on the network, and writes the container's `resolv.conf` and `hosts` beside its record, from where they are
/// bound in.
pub(super) fn prepare(
    plan: &NetworkPlan,
    store: &Store,
    directory: &Path,
) -> Result<Prepared, StartFailure> {
    let refuse = |error: &dyn Explain| StartFailure::new(error, 125);
    let prepared = net::prepare(plan, &|| published(store)).map_err(|e| refuse(&e))?;
    // Another container's files are bound in with its network.
    if plan.mode != Mode::Container {
        for (name, text) in [
            ("resolv.conf", prepared.resolv_conf()),
            ("hosts", prepared.hosts()),
        ] {
            let path = directory.join(name);
            fs::write(&path, text).map_err(|source| refuse(&WriteError { path, source }))?;
        }
    }
    Ok(prepared)
}

/// When the network's helper processes are started again after they died: at once at first, never more often than a
/// few times a minute.
#[derive(Debug, Default)]
pub(super) struct Upkeep {
    starts: Vec<Instant>,
    /// The next start.
    pub(super) due: Option<Instant>,
}

/// Starts within [`WINDOW`].
const MOST_STARTS: usize = 3;
const WINDOW: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(200);

impl Upkeep {
    /// A helper has died, or didn't start. False: it must wait for longer than a moment, since it happens too often.
    pub(super) fn plan(&mut self, now: Instant) -> bool {
        self.starts.retain(|at| now < *at + WINDOW);
        let many = self.starts.len() >= MOST_STARTS;
        self.due = Some(match self.starts.first() {
            None => now,
            Some(first) if many => *first + WINDOW,
            Some(_) => now + PAUSE,
        });
        !many
    }

    /// Whether it is time to start what died; it counts as a start.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let due = self.due.is_some_and(|at| now >= at);
        if due {
            self.due = None;
            self.starts.push(now);
        }
        due
    }
}

/// What runs in the container's network beside it: our own program once more.
pub(crate) fn relay_command() -> [OsString; 2] {
    ["/proc/self/exe", RELAY_VERB].map(OsString::from)
}

/// What running containers have published.
fn published(store: &Store) -> Vec<Published> {
    // Only for a message: a store that can't be read has no names to tell.
    let containers = store.containers().unwrap_or_default();
    containers
        .into_iter()
        .filter(|c| c.state.status == Status::Running)
        .map(|c| Published {
            container: c.record.name,
            ports: c.state.ports,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn helpers_start_again_three_times_a_minute() {
        let mut upkeep = Upkeep::default();
        let first = Instant::now();
        for expected in [first, first + PAUSE, first + PAUSE] {
            assert!(upkeep.plan(first));
            assert_eq!(upkeep.due, Some(expected));
            assert!(upkeep.is_due(expected));
        }
        assert!(!upkeep.plan(first + PAUSE));
        assert_eq!(upkeep.due, Some(first + WINDOW));
        assert!(!upkeep.is_due(first + PAUSE));
        assert!(upkeep.is_due(first + WINDOW));
        assert!(upkeep.plan(first + 2 * WINDOW));
    }
}
