//! The clock and the vertices of a build: what [`crate::event`]s are made with.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rctr_storage::cache::LogPlace;

use crate::event::{Event, Progress, Stream, VertexId};
use crate::source::Warning;

/// One for a build. Clones are the same.
#[derive(Clone)]
pub struct Tracker {
    inner: Arc<Inner>,
}

struct Inner {
    progress: Arc<dyn Progress>,
    began: Instant,
    last: AtomicUsize,
}

impl Tracker {
    /// The build begins now.
    #[must_use]
    pub fn new(progress: Arc<dyn Progress>) -> Self {
        Self {
            inner: Arc::new(Inner {
                progress,
                began: Instant::now(),
                last: AtomicUsize::new(0),
            }),
        }
    }

    /// Since the build began.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.inner.began.elapsed()
    }

    /// Declares a vertex.
    #[must_use]
    pub fn vertex(&self, name: impl Into<String>) -> Vertex {
        let id = VertexId(self.inner.last.fetch_add(1, Ordering::Relaxed) + 1);
        let name = name.into();
        self.send(Event::Vertex { id, name });
        Vertex {
            tracker: self.clone(),
            id,
        }
    }

    /// Declares a vertex that begins at once.
    #[must_use]
    pub fn start(&self, name: impl Into<String>) -> Vertex {
        let vertex = self.vertex(name);
        vertex.started();
        vertex
    }

    /// A build check's finding.
    pub fn warning(&self, warning: Warning) {
        self.send(Event::Warning(warning));
    }

    fn send(&self, event: Event) {
        self.inner.progress.event(event);
    }
}

/// A vertex of a build. Clones are the same.
#[derive(Clone)]
pub struct Vertex {
    tracker: Tracker,
    id: VertexId,
}

impl Vertex {
    /// It begins.
    pub fn started(&self) {
        let (id, at) = (self.id, self.tracker.now());
        self.tracker.send(Event::Started { id, at });
    }

    /// It was served from the cache.
    pub fn cached(&self, log: Option<LogPlace>) {
        let (id, at) = (self.id, self.tracker.now());
        self.tracker.send(Event::Cached { id, at, log });
    }

    /// Its number, in the order of declaration from 1.
    #[must_use]
    pub fn id(&self) -> VertexId {
        self.id
    }

    /// Why it isn't.
    pub fn missed(&self, why: String) {
        self.tracker.send(Event::Missed { id: self.id, why });
    }

    /// It ended well.
    pub fn completed(&self) {
        self.end(None);
    }

    /// It failed.
    pub fn failed(&self, error: impl Into<String>) {
        self.end(Some(error.into()));
    }

    /// It never began, or was interrupted.
    pub fn canceled(&self) {
        self.tracker.send(Event::Canceled { id: self.id });
    }

    /// It printed something.
    pub fn log(&self, stream: Stream, bytes: &[u8]) {
        self.tracker.send(Event::Log {
            id: self.id,
            stream,
            bytes: bytes.to_vec(),
            at: self.tracker.now(),
        });
    }

    /// A part of it begins.
    #[must_use]
    pub fn part(&self, name: impl Into<String>) -> Part {
        let part = Part {
            vertex: self.clone(),
            name: name.into(),
            started: self.tracker.now(),
        };
        part.send(0, 0, None);
        part
    }

    /// A part of it that took no time.
    pub fn note(&self, name: impl Into<String>) {
        self.part(name).completed(0);
    }

    fn end(&self, error: Option<String>) {
        let (id, at) = (self.id, self.tracker.now());
        self.tracker.send(Event::Completed { id, at, error });
    }
}

/// A part of a vertex.
pub struct Part {
    vertex: Vertex,
    name: String,
    started: Duration,
}

impl Part {
    /// How far it is: bytes or things, `total` 0 if that isn't known.
    pub fn progress(&self, current: u64, total: u64) {
        self.send(current, total, None);
    }

    /// It is done.
    pub fn completed(self, current: u64) {
        self.send(current, current, Some(self.vertex.tracker.now()));
    }

    fn send(&self, current: u64, total: u64, completed: Option<Duration>) {
        self.vertex.tracker.send(Event::Status {
            id: self.vertex.id,
            name: self.name.clone(),
            current,
            total,
            started: self.started,
            completed,
        });
    }
}
