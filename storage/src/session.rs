//! Sessions: what a process has under way in `tmp/`, and what it needs to stay until it is done.
//!
//! ```text
//! tmp/<session>.lock   flock'ed while the process lives; its lines are the session's pins
//! tmp/<session>/       everything unfinished, and what waits to be deleted
//! ```
//!
//! A blob or layer that was just added isn't referenced by `index.json` yet. Its *pin* keeps a concurrent deletion from
//! taking it: a line in the session's lock file, written under the store's shared lock before the thing is published
//! (or found to be there already). Who deletes has the exclusive lock and counts the pins of living sessions as roots.
//!
//! The next process that writes finds the sessions whose lock is free, deletes what they left, and sweeps the store
//! if they had pinned something.

use std::collections::HashSet;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nix::fcntl::{Flock, FlockArg};

use crate::digest::{DiffId, Digest};
use crate::random;
use crate::store::{Store, StoreError};
use crate::tree::remove_tree;

/// What a session needs to stay.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Pin {
    /// `blobs/sha256/<hex>`.
    Blob(Digest),
    /// `layers/<hex>`.
    Layer(DiffId),
    /// `volumes/<name>`.
    Volume(String),
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blob(digest) => write!(f, "blob {}", digest.hex()),
            Self::Layer(diff_id) => write!(f, "layer {}", diff_id.0.hex()),
            Self::Volume(name) => write!(f, "volume {name}"),
        }
    }
}

impl Pin {
    fn parse(line: &str) -> Option<Self> {
        let (kind, name) = line.split_once(' ')?;
        Some(match kind {
            "blob" => Self::Blob(Digest::from_hex(name).ok()?),
            "layer" => Self::Layer(DiffId(Digest::from_hex(name).ok()?)),
            "volume" => Self::Volume(name.to_owned()),
            _ => return None,
        })
    }
}

/// A process's place in `tmp/`.
pub(crate) struct Session {
    name: String,
    dir: PathBuf,
    lock_path: PathBuf,
    lock: Flock<File>,
    pins: Mutex<HashSet<Pin>>,
    counter: AtomicU32,
    /// A forked child must not clear what is its parent's.
    owner: u32,
}

impl Session {
    fn begin(tmp: &Path) -> Result<Self, StoreError> {
        loop {
            let name = format!("{}-{}", process::id(), random::hex::<6>());
            let lock_path = tmp.join(format!("{name}.lock"));
            let file = OpenOptions::new()
                .read(true)
                .append(true)
                .create_new(true)
                .mode(0o600)
                .open(&lock_path)
                .map_err(StoreError::io("create", &lock_path))?;
            // Somebody who sweeps may have seen the file before we have locked it, and removes it then.
            let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else {
                continue;
            };
            let links = lock.metadata().map(|meta| meta.nlink());
            if links.map_err(StoreError::io("stat", &lock_path))? == 0 {
                continue;
            }
            let dir = tmp.join(&name);
            if let Err(source) = fs::create_dir(&dir) {
                // Nothing else was made; the error is the news.
                let _ = fs::remove_file(&lock_path);
                return Err(StoreError::io("create", dir)(source));
            }
            return Ok(Self {
                name,
                dir,
                lock_path,
                lock,
                pins: Mutex::default(),
                counter: AtomicU32::new(0),
                owner: process::id(),
            });
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // What can't be removed now (it may need ids that we don't have) is removed by a later session.
        if self.owner == process::id() && remove_tree(&self.dir).is_ok() {
            let _ = fs::remove_file(&self.lock_path);
        }
    }
}

impl Store {
    /// The session of this process; the first call makes it, and clears what dead ones have left.
    pub(crate) fn session(&self) -> Result<Arc<Session>, StoreError> {
        let mut slot = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = &*slot {
            return Ok(Arc::clone(session));
        }
        let session = Arc::new(Session::begin(&self.path("tmp"))?);
        *slot = Some(Arc::clone(&session));
        drop(slot);
        self.sweep_dead_sessions(&session);
        Ok(session)
    }

    /// Ends this process's session, if it has one: nothing is under way any more, and what was added is referenced. The
    /// next call that needs one begins another.
    pub fn end_session(&self) {
        let mut slot = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        *slot = None;
    }

    /// Begins this process's session before it is needed, for who has time now and none then.
    ///
    /// # Errors
    /// When `tmp/` can't be written to.
    pub fn begin_session(&self) -> Result<(), StoreError> {
        self.session().map(drop)
    }

    /// A path in `tmp/` that nobody else uses, for something unfinished: nothing is there yet. What is left there is
    /// deleted when this store is dropped, or by the next writing command after a crash.
    ///
    /// # Errors
    /// When `tmp/` can't be written to.
    pub fn temp_path(&self, label: &str) -> Result<PathBuf, StoreError> {
        let session = self.session()?;
        let count = session.counter.fetch_add(1, Ordering::Relaxed);
        Ok(session.dir.join(format!("{label}-{count}")))
    }

    /// Keeps `pins` from being deleted by others until this store is dropped. Before publishing something, and before
    /// relying on something that is there but may be unreferenced.
    ///
    /// Never while holding the [`StoreLock`](crate::lock::StoreLock).
    ///
    /// # Errors
    /// When `tmp/` can't be written to, or the store's lock can't be had.
    pub fn pin(&self, pins: &[Pin]) -> Result<(), StoreError> {
        let session = self.session()?;
        let mut known = session.pins.lock().unwrap_or_else(PoisonError::into_inner);
        let new: Vec<&Pin> = pins.iter().filter(|pin| !known.contains(pin)).collect();
        if new.is_empty() {
            return Ok(());
        }
        let lines: String = new.iter().map(|pin| format!("{pin}\n")).collect();
        let _shared = self.lock_shared()?;
        (&*session.lock)
            .write_all(lines.as_bytes())
            .map_err(StoreError::io("write", &session.lock_path))?;
        known.extend(new.into_iter().cloned());
        Ok(())
    }

    /// Forgets the pins of this session.
    pub(crate) fn unpin(&self) -> Result<(), StoreError> {
        let session = self.session()?;
        let mut known = session.pins.lock().unwrap_or_else(PoisonError::into_inner);
        known.clear();
        let emptied = session.lock.set_len(0);
        emptied.map_err(StoreError::io("write", &session.lock_path))
    }

    /// The pins of all living sessions but `dead`, which the caller has found to be dead and locked.
    pub(crate) fn pins(&self, dead: &[String]) -> Result<HashSet<Pin>, StoreError> {
        let mut pins = HashSet::new();
        for name in self.session_names()? {
            let path = self.path("tmp").join(format!("{name}.lock"));
            if dead.contains(&name) {
                continue;
            }
            let Ok(mut file) = File::open(&path) else {
                continue; // It ended just now.
            };
            let mut text = String::new();
            file.read_to_string(&mut text)
                .map_err(StoreError::io("read", &path))?;
            if Flock::lock(file, FlockArg::LockSharedNonblock).is_err() {
                pins.extend(text.lines().filter_map(Pin::parse));
            }
        }
        Ok(pins)
    }

    /// The names of the sessions whose process lives.
    pub(crate) fn living_sessions(&self) -> Result<Vec<String>, StoreError> {
        let mut names = self.session_names()?;
        names.retain(|name| {
            let file = File::open(self.path("tmp").join(format!("{name}.lock")));
            file.is_ok_and(|file| Flock::lock(file, FlockArg::LockSharedNonblock).is_err())
        });
        Ok(names)
    }

    fn session_names(&self) -> Result<Vec<String>, StoreError> {
        let tmp = self.path("tmp");
        let mut names = Vec::new();
        for entry in fs::read_dir(&tmp).map_err(StoreError::io("read", &tmp))? {
            let entry = entry.map_err(StoreError::io("read", &tmp))?;
            let name = entry.file_name();
            if let Some(name) = name.to_str().and_then(|name| name.strip_suffix(".lock")) {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    /// Deletes what dead sessions have left. Failures are left to the next: this is no part of what the user asked for.
    fn sweep_dead_sessions(&self, own: &Session) {
        let tmp = self.path("tmp");
        let mut dead: Vec<(String, Flock<File>)> = Vec::new();
        let mut pinned = false;
        for name in self.session_names().unwrap_or_default() {
            if name == own.name {
                continue;
            }
            let Ok(file) = File::open(tmp.join(format!("{name}.lock"))) else {
                continue;
            };
            let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else {
                continue;
            };
            if let Ok(meta) = lock.metadata()
                && meta.nlink() > 0
            {
                pinned |= meta.len() > 0;
                dead.push((name, lock));
            }
        }
        if pinned {
            let names: Vec<String> = dead.iter().map(|(name, _)| name.clone()).collect();
            // Somebody else works on the store: the next command will sweep it.
            let Ok(Some(held)) = self.try_lock() else {
                return;
            };
            if crate::gc::sweep(held, &names).is_err() {
                return;
            }
        }
        for (name, _lock) in dead {
            if remove_tree(&tmp.join(&name)).is_ok() {
                let _ = fs::remove_file(tmp.join(format!("{name}.lock")));
            }
        }
    }
}
