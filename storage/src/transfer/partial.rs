//! Blobs that have come in part, in `partial/<hex digest>` of the store: a broken or killed pull goes on from there.
//!
//! The file is its own lock, flock(2)ed by who fetches the blob, so that two who want it share the work. It stays, as a
//! second name of the blob, until the image that wanted it is listed: what a killed pull has published nobody refers to,
//! and the next sweep takes it. Old ones that nobody comes back for are swept as well.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Deref;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::digest::Digest;
use crate::store::{Store, StoreError};

/// A sweep takes what has not grown for a week.
pub(crate) const KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Whether to wait for somebody else who fetches the blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// Until it is there, or the other is gone.
    Yes,
    /// Come back later.
    No,
}

/// The locked file of a blob that is being fetched.
pub(super) struct Partial {
    pub(super) path: PathBuf,
    file: Flock<File>,
}

impl Deref for Partial {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

impl Partial {
    /// Locks the file of a blob of `size` bytes, which is made when it isn't there. `None`: somebody else has it.
    pub(super) fn open(
        store: &Store,
        digest: &Digest,
        size: u64,
        wait: Wait,
    ) -> Result<Option<Self>, StoreError> {
        let path = store.path("partial").join(digest.hex());
        loop {
            let file = create(&path)?;
            let how = match wait {
                Wait::Yes => FlockArg::LockExclusive,
                Wait::No => FlockArg::LockExclusiveNonblock,
            };
            let file = match Flock::lock(file, how) {
                Ok(file) => file,
                Err((_, Errno::EINTR)) => continue,
                Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
                Err((_, errno)) => return Err(StoreError::io("lock", path)(errno.into())),
            };
            // While we waited it may have been removed, because the blob is there.
            if is_at(&file, &path) {
                let mut partial = Self { path, file };
                if partial.size()? > size {
                    partial.clear()?;
                }
                return Ok(Some(partial));
            }
        }
    }

    /// Bytes that are there.
    pub(super) fn size(&self) -> Result<u64, StoreError> {
        let meta = self.file.metadata();
        Ok(meta.map_err(StoreError::io("stat", &self.path))?.len())
    }

    /// They were wrong. A blob of which the file is another name stays as it is.
    pub(super) fn clear(&mut self) -> Result<(), StoreError> {
        let meta = self.file.metadata();
        let meta = meta.map_err(StoreError::io("stat", &self.path))?;
        if meta.nlink() == 1 {
            let emptied = self.file.set_len(0);
            return emptied.map_err(StoreError::io("write", &self.path));
        }
        // Who waits for our lock finds then that the file is another one, and waits for that.
        let temp = self.path.with_extension("new");
        let file = create(&temp)?;
        let file = Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, errno)| StoreError::io("lock", &temp)(errno.into()))?;
        fs::rename(&temp, &self.path).map_err(StoreError::io("write", &self.path))?;
        self.file = file;
        Ok(())
    }
}

fn create(path: &Path) -> Result<File, StoreError> {
    let open = || {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        options.mode(0o644).open(path)
    };
    match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let dir = path.parent().unwrap_or(path);
            let mut builder = fs::DirBuilder::new();
            let made = builder.mode(0o700).recursive(true).create(dir);
            made.map_err(StoreError::io("create", dir))?;
            open()
        }
        other => other,
    }
    .map_err(StoreError::io("create", path))
}

fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(ours), Ok(there)) = (file.metadata(), fs::symlink_metadata(path)) else {
        return false;
    };
    (ours.dev(), ours.ino()) == (there.dev(), there.ino())
}

impl Store {
    /// The image is listed: its blobs need no second name.
    pub(super) fn forget_partials<'d>(&self, digests: impl Iterator<Item = &'d Digest>) {
        let dir = self.path("partial");
        for digest in digests {
            remove_unlocked(&dir.join(digest.hex()));
        }
    }

    /// Deletes what broken pulls have left for longer than `age`, and nobody is fetching now. Returns the bytes freed.
    pub(crate) fn sweep_partials(&self, age: Duration) -> u64 {
        let Ok(list) = fs::read_dir(self.path("partial")) else {
            return 0; // There never was one.
        };
        let mut bytes = 0;
        for entry in list.flatten() {
            let Ok(meta) = entry.metadata() else {
                continue;
            };
            let old = meta
                .modified()
                .is_ok_and(|when| when.elapsed().is_ok_and(|elapsed| elapsed >= age));
            if old && remove_unlocked(&entry.path()) && meta.nlink() == 1 {
                bytes += meta.len();
            }
        }
        bytes
    }
}

/// Removes the file unless somebody has it locked.
fn remove_unlocked(path: &Path) -> bool {
    let Ok(file) = File::open(path) else {
        return false;
    };
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => is_at(&lock, path) && fs::remove_file(path).is_ok(),
        Err(_) => false,
    }
}
