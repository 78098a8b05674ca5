//! The monitor: one small process for each running container, and the only one.
//!
//! ```text
//! cli ── prepare(): spawns `rctr monitor` (order: a pipe as fd 0; conversation: a packet socket as fd 1)
//!  │        monitor: own session, cwd /, no other descriptors; enters the identity's user namespace meanwhile
//!  └─ start(order): writes the order; the monitor launches the program and answers Started or Failed
//!           monitor: [supervise] streams, attach.sock, log, state.json, restarts, health checks, --rm
//! ```
//!
//! It holds the container's monitor lock for life: a record that says "running" while that lock is free belongs to a
//! monitor that was killed, and the container's process died with it (PR_SET_PDEATHSIG, and the guard). It has one thread and sleeps in
//! poll(2); it keeps no more than an idle process must ([`crate::sys::release_memory`]). What a restart or a health
//! check needs of the order is kept in a memory file, unmapped.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;

use rctr_storage::config::Healthcheck;
use rctr_storage::explain::Explain;
use rctr_storage::record::{LogConfig, RestartPolicy};
use serde::{Deserialize, Serialize};

use crate::attach::message::{Size, Streams};
use crate::net::NetworkPlan;
use crate::plan::LaunchPlan;

mod clients;
mod health;
mod network;
mod process;
mod program;
mod requests;
mod restart;
mod start;
mod state;
mod supervise;

pub use network::RELAY_VERB;
pub(crate) use network::relay_command;
pub use process::main;
pub use start::{Prepared, Started, prepare};

/// All that a monitor needs to know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MonitorOrder {
    /// The store's root.
    pub store: PathBuf,
    /// The directory of run state.
    pub run: PathBuf,
    /// What runs; with the container's ID.
    pub plan: LaunchPlan,
    /// How it is networked.
    pub network: NetworkPlan,
    /// Standard input is a pipe that clients write to; else /dev/null. With a terminal, input is always possible.
    pub open_stdin: bool,
    /// Standard input ends when the first client that was attached to it leaves.
    pub stdin_once: bool,
    /// How output is kept.
    pub log: LogConfig,
    /// Remove the container and its anonymous volumes when it has ended.
    pub auto_remove: bool,
    /// What happens when it ends by itself.
    pub restart: RestartPolicy,
    /// First signal of a stop.
    pub stop_signal: i32,
    /// Seconds until SIGKILL when the monitor itself is told to end (SIGTERM).
    pub stop_timeout: u64,
    /// Merged from image and command line; `None` or `NONE`: no checks.
    pub health: Option<Healthcheck>,
    /// The caller's attachment from the start; filled in by [`Prepared::start`].
    #[serde(default)]
    pub attach: Option<Streams>,
    /// First size of the terminal; filled in by [`Prepared::start`].
    #[serde(default)]
    pub size: Option<Size>,
}

/// Why a container's program could not be started, as the monitor tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartFailure {
    /// One sentence.
    pub message: String,
    /// The errors beneath.
    pub cause: Option<Box<Cause>>,
    /// What to do.
    pub hint: Option<String>,
    /// 125, 126 or 127.
    pub code: u8,
}

/// An error beneath another, as text: it crossed a process boundary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// One sentence.
    pub message: String,
    /// The next one.
    pub cause: Option<Box<Cause>>,
}

impl StartFailure {
    pub(crate) fn new(error: &dyn Explain, code: u8) -> Self {
        fn chain(error: Option<&(dyn Error + 'static)>) -> Option<Box<Cause>> {
            error.map(|error| {
                Box::new(Cause {
                    message: error.to_string(),
                    cause: chain(error.source()),
                })
            })
        }
        Self {
            message: error.to_string(),
            cause: chain(error.source()),
            hint: error.hint(),
            code,
        }
    }

    /// Message and causes in one line: `State.Error`.
    fn line(&self) -> String {
        let mut line = self.message.clone();
        let mut next = &self.cause;
        while let Some(cause) = next {
            line.push_str(": ");
            line.push_str(&cause.message);
            next = &cause.cause;
        }
        line
    }
}

impl fmt::Display for StartFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for StartFailure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}

impl Explain for StartFailure {
    fn hint(&self) -> Option<String> {
        self.hint.clone()
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Cause {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}

/// Why there is no running container after [`Prepared::start`].
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    /// The monitor itself could not be started.
    #[error("cannot start the container's monitor")]
    Spawn {
        /// Why.
        source: io::Error,
    },
    /// The monitor has gone without an answer.
    #[error("the container's monitor died while it started the container")]
    Died,
    /// The program could not be started.
    #[error(transparent)]
    Start(StartFailure),
}

impl MonitorError {
    /// Docker's exit code for this failure: 125, 126 or 127.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Start(failure) => failure.code,
            Self::Spawn { .. } | Self::Died => 125,
        }
    }
}

impl Explain for MonitorError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Start(failure) => failure.hint.clone(),
            Self::Spawn { source } => match source.raw_os_error() {
                Some(libc::EAGAIN) => Some("too many processes: see `ulimit -u`".to_owned()),
                Some(libc::ENOENT) => Some("/proc must be mounted".to_owned()),
                _ => None,
            },
            Self::Died => Some("was it killed, or is memory short? `dmesg` may tell".to_owned()),
        }
    }
}

/// The hidden verb.
pub const VERB: &str = "monitor";
/// Argument of the verb: the container gets a user namespace of its own.
const OWN_USER_NAMESPACE: &str = "own-user-namespace";
