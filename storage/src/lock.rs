//! Locks: flock(2)ed files, held for a step and never for a command, nor across the network (but for one) or a user's input.
//!
//! | lock | shared | exclusive |
//! |---|---|---|
//! | `locks/store` | to pin what is being added, to publish a container or a volume | to change `index.json`, to delete blobs, layers, volumes |
//! | `containers/<id>` (the directory itself) | – | to start, change or remove that container |
//! | `tmp/<session>.lock` | – | by the session while it lives |
//! | `locks/step-<key>` | – | to make that build step |
//! | `partial/<hex digest>` (the file itself) | – | to fetch that blob: the only one that is held across the network |
//! | `cache/mounts/<hash>/<n>` (the directory itself) | to use that cache mount with others | to use it alone, to remove it |
//! | `containers/<id>/monitor.lock` (OFD record lock) | – | by the monitor while it lives |
//!
//! Order: the store's lock, then a container's. A process that has the one may wait for the next, never the reverse.
//! Nobody waits for a session's or a monitor's lock: they are probed, to tell whether the owner lives.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, Flock, FlockArg, fcntl};
use nix::libc;

use crate::store::{Store, StoreError};

/// Locks are held for milliseconds; who holds one for so long hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// Proof that the store's exclusive lock is held.
#[derive(Debug)]
pub struct StoreLock<'s> {
    pub(crate) store: &'s Store,
    _lock: Flock<File>,
}

/// Proof that nobody has the store's exclusive lock.
#[derive(Debug)]
pub struct SharedLock {
    _lock: Flock<File>,
}

/// Proof that a container's lock is held: nobody else starts, changes or removes it.
#[derive(Debug)]
pub struct ContainerLock {
    _lock: Flock<File>,
}

/// Held by a container's monitor for as long as it lives.
#[derive(Debug)]
pub struct MonitorLock {
    /// The container.
    pub(crate) id: String,
    file: File,
}

impl MonitorLock {
    /// The container's ID.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl AsFd for MonitorLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Store {
    /// Waits for the store's exclusive lock.
    ///
    /// # Errors
    /// When somebody has it for more than 30 seconds.
    pub fn lock(&self) -> Result<StoreLock<'_>, StoreError> {
        let lock = acquire(&self.path("locks/store"), FlockArg::LockExclusiveNonblock)?;
        Ok(StoreLock {
            store: self,
            _lock: lock,
        })
    }

    /// The store's exclusive lock, if nobody has it now.
    pub(crate) fn try_lock(&self) -> Result<Option<StoreLock<'_>>, StoreError> {
        let path = self.path("locks/store");
        let file = open(&path)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Some(StoreLock {
                store: self,
                _lock: lock,
            })),
            Err((_, Errno::EWOULDBLOCK | Errno::EINTR)) => Ok(None),
            Err((_, errno)) => Err(StoreError::io("lock", path)(errno.into())),
        }
    }

    /// Waits for the store's shared lock.
    ///
    /// # Errors
    /// When somebody has the exclusive lock for more than 30 seconds.
    pub fn lock_shared(&self) -> Result<SharedLock, StoreError> {
        let lock = acquire(&self.path("locks/store"), FlockArg::LockSharedNonblock)?;
        Ok(SharedLock { _lock: lock })
    }
}

/// The lock of a container's directory; `None` when there is no such directory.
pub(crate) fn lock_directory(dir: &Path) -> Result<Option<ContainerLock>, StoreError> {
    loop {
        let lock = match acquire(dir, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        // While we waited the container may have been removed, which renames its directory.
        let ours = lock.metadata().map_err(StoreError::io("stat", dir))?;
        match fs::metadata(dir) {
            Ok(there) if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) => {
                return Ok(Some(ContainerLock { _lock: lock }));
            }
            _ => {}
        }
    }
}

/// Takes the monitor's lock in a container's directory; `None` when a monitor lives.
pub(crate) fn take_monitor_lock(dir: &Path, id: &str) -> Result<Option<MonitorLock>, StoreError> {
    let path = dir.join("monitor.lock");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(StoreError::io("open", &path))?;
    match fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_file())) {
        Ok(_) => Ok(Some(MonitorLock {
            id: id.to_owned(),
            file,
        })),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(None),
        Err(errno) => Err(StoreError::io("lock", path)(errno.into())),
    }
}

/// Whether somebody has the monitor's lock. Takes nothing, so it never makes a monitor fail.
pub(crate) fn monitor_alive(dir: &Path) -> bool {
    let Ok(file) = File::open(dir.join("monitor.lock")) else {
        return false;
    };
    let mut lock = whole_file();
    fcntl(&file, FcntlArg::F_OFD_GETLK(&mut lock)).is_ok()
        && i32::from(lock.l_type) != libc::F_UNLCK
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the constants are small numbers; the C library's struct has them as short"
)]
fn whole_file() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

fn open(path: &Path) -> Result<File, StoreError> {
    // Read-only is enough for flock, and works in a read-only store.
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && path.ends_with("locks/store") => {
            OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(path)
        }
        other => other,
    }
    .map_err(StoreError::io("open", path))
}

fn acquire(path: &Path, how: FlockArg) -> Result<Flock<File>, StoreError> {
    let mut file = open(path)?;
    let start = Instant::now();
    let mut pause = Duration::from_micros(200);
    loop {
        file = match Flock::lock(file, how) {
            Ok(lock) => return Ok(lock),
            Err((file, Errno::EWOULDBLOCK | Errno::EINTR)) => file,
            Err((_, errno)) => return Err(StoreError::io("lock", path)(errno.into())),
        };
        if start.elapsed() > PATIENCE {
            return Err(StoreError::Busy {
                path: path.to_owned(),
                holder: holder(&file),
            });
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// The process that has the lock on `file`, from /proc/locks (proc_locks(5)).
pub(crate) fn holder(file: &File) -> Option<i32> {
    let meta = file.metadata().ok()?;
    let (major, minor) = (libc::major(meta.dev()), libc::minor(meta.dev()));
    let wanted = format!("{major:02x}:{minor:02x}:{}", meta.ino());
    let table = fs::read_to_string(PathBuf::from("/proc/locks")).ok()?;
    table.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (kind, _, _, pid, place) = (
            words.next()?,
            words.next()?,
            words.next()?,
            words.next()?,
            words.next()?,
        );
        (kind == "FLOCK" && place == wanted).then(|| pid.parse().ok())?
    })
}
