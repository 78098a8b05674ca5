//! Files that change as a whole: a reader sees the old content or the new, and so does a machine after a power cut.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::store::StoreError;

/// Whether what was written survives a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// It does, once the call has returned.
    Fsync,
    /// It survives the end of the process, and that is enough: what `run --rm` leaves isn't wanted after a boot.
    None,
}

/// Replaces `path` by a file with `bytes`.
///
/// The unfinished file is `path` with `.new` at its end: one name, so that what a crash leaves is overwritten by the
/// next write. Only one writer at a time, therefore; every file that is written this way is covered by a lock.
///
/// # Errors
/// When the file can't be written; `path` has its old content then.
pub fn write(path: &Path, bytes: &[u8], durability: Durability) -> Result<(), StoreError> {
    let temp = with_suffix(path, ".new");
    let result = fill(&temp, bytes, durability).and_then(|()| replace(&temp, path, durability));
    match result {
        Ok(()) => sync_parent(path, durability),
        Err(source) => {
            // The error is the news; the leftover would be overwritten by the next write anyway.
            let _ = fs::remove_file(&temp);
            Err(StoreError::io("write", path)(source))
        }
    }
}

/// Renames `temp` to `path`. What needn't last changes places with the old file, which is deleted then: ext4 writes a
/// file out at once that is renamed over another (mount option `auto_da_alloc`), and it will soon be deleted again.
fn replace(temp: &Path, path: &Path, durability: Durability) -> io::Result<()> {
    if durability == Durability::None {
        let exchanged = renameat2(AT_FDCWD, temp, AT_FDCWD, path, RenameFlags::RENAME_EXCHANGE);
        if exchanged.is_ok() {
            return fs::remove_file(temp);
        }
        // Nothing is there yet, or the file system can't exchange.
    }
    fs::rename(temp, path)
}

/// Makes `path` with `bytes`, or leaves what is there.
pub(crate) fn create(path: &Path, bytes: &[u8], durability: Durability) -> Result<(), StoreError> {
    // Several processes may be here at once.
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let temp = with_suffix(path, &format!(".{}-{count}.new", process::id()));
    let result = fill(&temp, bytes, durability).and_then(|()| match fs::hard_link(&temp, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    });
    let removed = fs::remove_file(&temp);
    result
        .and(removed)
        .map_err(StoreError::io("create", path))?;
    sync_parent(path, durability)
}

/// [`write`] of `value` as JSON.
///
/// # Errors
/// As [`write`].
pub fn write_json<T: Serialize>(
    path: &Path,
    value: &T,
    durability: Durability,
) -> Result<(), StoreError> {
    let bytes = to_json(path, value)?;
    write(path, &bytes, durability)
}

pub(crate) fn to_json<T: Serialize>(path: &Path, value: &T) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|source| StoreError::Damaged {
        path: path.to_owned(),
        source,
    })
}

/// Reads `path` as JSON.
///
/// # Errors
/// When it can't be read, or isn't of the shape of `T`.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, StoreError> {
    let bytes = fs::read(path).map_err(StoreError::io("read", path))?;
    serde_json::from_slice(&bytes).map_err(|source| StoreError::Damaged {
        path: path.to_owned(),
        source,
    })
}

/// Makes the entries of the directory `path` survive a power cut.
pub(crate) fn sync_dir(path: &Path) -> Result<(), StoreError> {
    File::open(path)
        .and_then(|dir| dir.sync_all())
        .map_err(StoreError::io("sync", path))
}

pub(crate) fn sync_parent(path: &Path, durability: Durability) -> Result<(), StoreError> {
    match (durability, path.parent()) {
        (Durability::Fsync, Some(parent)) => sync_dir(parent),
        _ => Ok(()),
    }
}

/// A new file with `bytes`.
pub(crate) fn fill(path: &Path, bytes: &[u8], durability: Durability) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .open(path)?;
    file.write_all(bytes)?;
    match durability {
        Durability::Fsync => file.sync_all(),
        Durability::None => Ok(()),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
