//! The build cache at rest: what steps have made, what was learned about them, cache mounts, logs.
//!
//! ```text
//! cache/steps/<2 hex>/<key hex>.json   what a step has made: a StepRecord with checksums; its time is that of the last use
//! cache/memo/<kind>/<key hex>          a symbolic link whose target is the digest that is remembered
//! cache/like/<hash of place>           a symbolic link whose target is the key that was last seen at this place
//! cache/mounts/<hash of id>/           mount.json, and for each instance <n>/data (private mounts make several)
//! cache/files/<hash of directory>      digests of a context's files (written by builder)
//! cache/logs/<build id>/               build.json and log
//! locks/step-<key hex>                 flock'ed by who makes that step; gone when nobody does
//! ```
//!
//! | what | rule |
//! |---|---|
//! | readers | take no lock; what a power cut left half-written has a wrong checksum and is absent |
//! | step records | roots of the [garbage collection](crate::gc), as long as they are there |
//! | layers of steps | are published without fsync and marked so ([`unsynced`](crate::layer)); [`Store::sync_build`] makes them last |
//! | cache mounts | the lock of an instance is its directory: shared or exclusive while a step uses it |
//!
//! Nothing here is needed by an image or a container: all of it may be deleted when nobody builds.

mod collect;
mod log;
mod memo;
mod mount;
mod step;
mod step_lock;
#[cfg(test)]
mod tests;
mod usage;

pub use collect::{CachePolicy, Collected, PruneCache};
pub use log::{BuildEntry, BuildLog, BuildResult, LogChunk, LogReader, LogStream};
pub use mount::{CacheMount, CacheMountOrder, Fill, Sharing};
pub use step::{LogPlace, StepInput, StepRecord};
pub use step_lock::{StepLock, TryStepLock};
pub use usage::{CacheUsage, UsageKind, total};

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::store::{Store, StoreError};

impl Store {
    fn cache_path(&self, part: impl AsRef<Path>) -> PathBuf {
        self.path("cache").join(part)
    }

    /// Where the digests of the files below `root` (a canonical path) are kept. The directory of that file is there.
    #[must_use]
    pub fn file_hashes_path(&self, root: &Path) -> PathBuf {
        use std::os::unix::ffi::OsStrExt;
        let dir = self.cache_path("files");
        // Without it nothing is kept, which the writer of the file is told by its own error.
        let _ = make_dirs(&dir);
        dir.join(Digest::of(root.as_os_str().as_bytes()).hex())
    }

    /// Moves `temp` (from [`Store::temp_path`]) to `path`, whose directory may be missing.
    fn publish_cache(&self, temp: &Path, path: &Path) -> Result<(), StoreError> {
        match fs::rename(temp, path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let dir = path.parent().unwrap_or(path);
                make_dirs(dir)?;
                fs::rename(temp, path).map_err(StoreError::io("write", path))
            }
            other => other.map_err(StoreError::io("write", path)),
        }
    }
}

/// Makes a directory of the cache, for nobody else to look into.
fn make_dirs(dir: &Path) -> Result<(), StoreError> {
    let mut builder = DirBuilder::new();
    builder.mode(0o700).recursive(true);
    builder.create(dir).map_err(StoreError::io("create", dir))
}

/// The entries of a directory of the cache; none when it isn't there.
fn entries(dir: &Path) -> Result<Vec<String>, StoreError> {
    let list = match fs::read_dir(dir) {
        Ok(list) => list,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(StoreError::io("read", dir)(source)),
    };
    let mut names = Vec::new();
    for entry in list {
        let entry = entry.map_err(StoreError::io("read", dir))?;
        names.extend(entry.file_name().into_string());
    }
    names.sort();
    Ok(names)
}
