//! Who makes a step holds its lock, so that two builds at once (or two stages of one) don't make it twice.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::entries;
use crate::digest::Digest;
use crate::store::{Store, StoreError};

const PREFIX: &str = "step-";

/// Proof that nobody else makes this step. Its file goes with it.
#[derive(Debug)]
pub struct StepLock {
    path: PathBuf,
    _lock: Flock<File>,
}

impl Drop for StepLock {
    fn drop(&mut self) {
        // Before it is unlocked: who waits finds that the file is no longer the one at that path, and makes a new one.
        let _ = fs::remove_file(&self.path);
    }
}

/// What came of trying.
#[derive(Debug)]
pub enum TryStepLock {
    /// It is ours.
    Held(StepLock),
    /// Somebody makes the step.
    Busy {
        /// Its process, which may be this one (another thread); `None` when it can't be told.
        pid: Option<i32>,
    },
}

impl Store {
    /// The lock of a step, if nobody has it now.
    ///
    /// # Errors
    /// When the lock's file can't be made.
    pub fn try_step_lock(&self, key: &Digest) -> Result<TryStepLock, StoreError> {
        let path = self.path("locks").join(format!("{PREFIX}{}", key.hex()));
        try_lock(&path)
    }

    /// Waits for the lock of a step. `waiting` is called at once and then some twenty times a second as long as somebody
    /// has it, with the process that has it; it ends the wait by `Break`, and the result is `None`.
    ///
    /// # Errors
    /// As [`Store::try_step_lock`].
    pub fn step_lock(
        &self,
        key: &Digest,
        waiting: &mut dyn FnMut(Option<i32>) -> ControlFlow<()>,
    ) -> Result<Option<StepLock>, StoreError> {
        let mut pause = Duration::from_millis(1);
        loop {
            match self.try_step_lock(key)? {
                TryStepLock::Held(lock) => return Ok(Some(lock)),
                TryStepLock::Busy { pid } => {
                    if waiting(pid).is_break() {
                        return Ok(None);
                    }
                }
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// Removes the files of locks whose holders were killed.
    pub(crate) fn clear_step_locks(&self) -> Result<(), StoreError> {
        let dir = self.path("locks");
        for name in entries(&dir)? {
            if name.starts_with(PREFIX) {
                // The lock's file goes when it is dropped.
                drop(try_lock(&dir.join(name)));
            }
        }
        Ok(())
    }
}

fn try_lock(path: &Path) -> Result<TryStepLock, StoreError> {
    loop {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(StoreError::io("open", path))?;
        let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, Errno::EWOULDBLOCK | Errno::EINTR)) => {
                let pid = fs::read_to_string(path).ok();
                let pid = pid.and_then(|text| text.trim_end().parse().ok());
                return Ok(TryStepLock::Busy { pid });
            }
            Err((_, errno)) => return Err(StoreError::io("lock", path)(errno.into())),
        };
        let meta = lock.metadata().map_err(StoreError::io("stat", path))?;
        // The former holder has removed it, after we had opened it.
        if meta.nlink() == 0 {
            continue;
        }
        // What a killed holder wrote is overwritten; a reader between sees no number, or an old one for a moment.
        let note = lock
            .set_len(0)
            .and_then(|()| (&*lock).write_all(format!("{}\n", std::process::id()).as_bytes()));
        match note {
            // Without room for the number nobody can tell who waits for whom, and that is all.
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {}
            Err(source) => return Err(StoreError::io("write", path)(source)),
        }
        return Ok(TryStepLock::Held(StepLock {
            path: path.to_owned(),
            _lock: lock,
        }));
    }
}
