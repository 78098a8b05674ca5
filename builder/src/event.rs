//! What happens in a build: told to whoever shows it.

use std::time::Duration;

use rctr_storage::cache::LogPlace;

use crate::source::Warning;

/// A thing that is done, a line of progress; numbered in the order of their declaration from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VertexId(pub usize);

impl VertexId {
    /// In a log.
    #[must_use]
    pub fn number(self) -> u32 {
        u32::try_from(self.0).unwrap_or(u32::MAX)
    }
}

/// Which stream of a step said something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// Something that happened. Times are since the build began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// There is a vertex. `name` is `[2/3] RUN apt-get update`, `[internal] load .dockerignore`, `exporting to image`.
    Vertex {
        /// Which.
        id: VertexId,
        /// One line.
        name: String,
    },
    /// It began.
    Started {
        /// Which.
        id: VertexId,
        /// When.
        at: Duration,
    },
    /// It is served from the cache (in place of `Started`; `Completed` doesn't follow).
    Cached {
        /// Which.
        id: VertexId,
        /// When.
        at: Duration,
        /// Where is what it said when it was run, if that is known.
        log: Option<LogPlace>,
    },
    /// Why it isn't served from the cache (`--explain`).
    Missed {
        /// Which.
        id: VertexId,
        /// One sentence.
        why: String,
    },
    /// It ended.
    Completed {
        /// Which.
        id: VertexId,
        /// When.
        at: Duration,
        /// `None`: well.
        error: Option<String>,
    },
    /// It never began, since something else failed or the build was interrupted.
    Canceled {
        /// Which.
        id: VertexId,
    },
    /// What it printed, in pieces of any size.
    Log {
        /// Which.
        id: VertexId,
        /// Where.
        stream: Stream,
        /// Any bytes.
        bytes: Vec<u8>,
        /// When.
        at: Duration,
    },
    /// A part of it: `transferring context: 2.1MB`, `exporting layers`, `writing image sha256:…`.
    Status {
        /// Which.
        id: VertexId,
        /// Repeated ones of the same name are one line; `name` says all but the numbers.
        name: String,
        /// Bytes or things so far; 0 if not counted.
        current: u64,
        /// 0: not known.
        total: u64,
        /// Since when.
        started: Duration,
        /// `None`: under way.
        completed: Option<Duration>,
    },
    /// A build check's finding.
    Warning(Warning),
}

/// Who shows it. Called from several threads; must be quick.
pub trait Progress: Send + Sync {
    /// Something happened.
    fn event(&self, event: Event);
}

/// Shows nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _event: Event) {}
}
