//! Content digests of context files, remembered from build to build.
//!
//! ```text
//! cache/files/<sha256 of the root's path>
//!     "rctr files 1\n"  count u32  entries…  CRC-32 of all before      numbers little-endian
//!     entry: path length u16, path, dev u64, ino u64, size u64, mtime ns i64, ctime ns i64, digest 32 bytes
//! ```
//!
//! A file whose device, inode, size, mtime and ctime are those of the entry has the content of the entry: nobody can set a
//! ctime. One that changed less than [`MARGIN`] before this table was opened isn't remembered, since it may change again
//! within the same tick of the file system's clock (some count in 2 s). A file that is damaged or of another version is as
//! good as none.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::FileStat;
use rctr_storage::Store;
use rctr_storage::atomic::{self, Durability};
use rctr_storage::digest::Digest;
use rctr_storage::store::StoreError;

const MAGIC: &[u8] = b"rctr files 1\n";
/// Nanoseconds.
const MARGIN: i64 = 3_000_000_000;
/// Entries of one root: some 60 MB.
const LIMIT: usize = 400_000;
/// Bytes of an entry beside its path.
const FIXED: usize = 2 + 5 * 8 + 32;

/// What is remembered of the files below one root. Threads may share it.
#[derive(Debug)]
pub struct FileHashes {
    /// Where it is kept; `None`: nowhere.
    path: Option<PathBuf>,
    root: PathBuf,
    /// Nanoseconds since 1970: files must have changed before.
    newest: i64,
    table: Mutex<Table>,
    /// Bytes.
    read: AtomicU64,
}

#[derive(Debug, Default)]
struct Table {
    entries: HashMap<Box<[u8]>, Entry>,
    /// Those whose digests aren't remembered.
    recent: HashMap<Box<[u8]>, Identity>,
    changed: bool,
}

#[derive(Debug, Clone)]
struct Entry {
    identity: Identity,
    digest: [u8; 32],
    /// In this process.
    seen: bool,
}

/// What tells one content of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    dev: u64,
    ino: u64,
    size: u64,
    mtime: i64,
    ctime: i64,
}

impl Identity {
    fn of(stat: &FileStat) -> Self {
        let nanos =
            |seconds: i64, nanos: i64| seconds.saturating_mul(1_000_000_000).saturating_add(nanos);
        Self {
            dev: stat.st_dev,
            ino: stat.st_ino,
            size: stat.st_size.cast_unsigned(),
            mtime: nanos(stat.st_mtime, stat.st_mtime_nsec),
            ctime: nanos(stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}

impl FileHashes {
    /// What is remembered of the files below `root`. Must be opened before the files are looked at.
    #[must_use]
    pub fn open(store: &Store, root: &Path) -> Self {
        let path = store.file_hashes_path(root);
        let mut hashes = Self::forgetful(root);
        if let Some(entries) = fs::read(&path).ok().and_then(|bytes| decode(&bytes)) {
            hashes.table = Mutex::new(Table {
                entries,
                ..Table::default()
            });
        }
        hashes.path = Some(path);
        hashes
    }

    /// For files that won't be there again: nothing is kept.
    #[must_use]
    pub fn forgetful(root: &Path) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |now| i64::try_from(now.as_nanos()).unwrap_or(i64::MAX));
        Self {
            path: None,
            root: root.to_owned(),
            newest: now - MARGIN,
            table: Mutex::default(),
            read: AtomicU64::new(0),
        }
    }

    /// The digest of the content of the file `rel` below the root, if it is known.
    #[must_use]
    pub fn get(&self, rel: &Path, stat: &FileStat) -> Option<Digest> {
        let mut table = self.table();
        let entry = table.entries.get_mut(rel.as_os_str().as_bytes())?;
        if entry.identity != Identity::of(stat) {
            return None;
        }
        entry.seen = true;
        Some(Digest::from_bytes(entry.digest))
    }

    /// Whether the file `rel` was another one when its digest was found, in this process.
    #[must_use]
    pub fn is_other(&self, rel: &Path, stat: &FileStat) -> bool {
        let table = self.table();
        let name = rel.as_os_str().as_bytes();
        let seen = table.entries.get(name).filter(|entry| entry.seen);
        let known = table.recent.get(name).or(seen.map(|entry| &entry.identity));
        // Its ctime changes also when it gets one more name.
        let content = |id: &Identity| (id.dev, id.ino, id.size, id.mtime);
        known.is_some_and(|known| content(known) != content(&Identity::of(stat)))
    }

    /// Remembers the digest of the file `rel`, whose `stat` was taken before it was read.
    pub fn put(&self, rel: &Path, stat: &FileStat, digest: Digest) {
        let identity = Identity::of(stat);
        let name = rel.as_os_str().as_bytes();
        let mut table = self.table();
        // A recent one is read again by each step that selects it.
        if table.recent.get(name) != Some(&identity) {
            self.read.fetch_add(identity.size, Ordering::Relaxed);
        }
        if identity.mtime.max(identity.ctime) > self.newest || name.len() > usize::from(u16::MAX) {
            table.recent.insert(name.into(), identity);
            return;
        }
        table.recent.remove(name);
        if table.entries.len() >= LIMIT && !table.entries.contains_key(name) {
            return;
        }
        let entry = Entry {
            identity,
            digest: *digest.bytes(),
            seen: true,
        };
        table.entries.insert(name.into(), entry);
        table.changed = true;
    }

    /// The size of the files that had to be read in this process, in bytes.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Writes what is new, and forgets files that have vanished. Two builds that save at once: the last one wins, and what
    /// the other knew is hashed again.
    ///
    /// # Errors
    /// When it can't be written. The build is none the worse for it.
    pub fn save(&self) -> Result<(), StoreError> {
        let mut table = self.table();
        let Some(path) = self.path.as_ref().filter(|_| table.changed) else {
            return Ok(());
        };
        table.entries.retain(|name, entry| {
            entry.seen || fs::symlink_metadata(self.root.join(OsStr::from_bytes(name))).is_ok()
        });
        let dir = path.parent().unwrap_or(path);
        let _lock = lock(dir).map_err(|source| StoreError::Io {
            operation: "lock",
            path: dir.to_owned(),
            source,
        })?;
        // The checksum tells what a power cut left.
        atomic::write(path, &encode(&table.entries), Durability::None)?;
        table.changed = false;
        Ok(())
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One writer at a time.
fn lock(dir: &Path) -> io::Result<Flock<File>> {
    let dir = File::open(dir)?;
    Flock::lock(dir, FlockArg::LockExclusive).map_err(|(_, errno)| errno.into())
}

fn encode(entries: &HashMap<Box<[u8]>, Entry>) -> Vec<u8> {
    let names: usize = entries.keys().map(|name| name.len()).sum();
    let mut out = Vec::with_capacity(MAGIC.len() + 8 + names + entries.len() * FIXED);
    out.extend_from_slice(MAGIC);
    let count = u32::try_from(entries.len()).expect("bounded by LIMIT");
    out.extend_from_slice(&count.to_le_bytes());
    for (name, entry) in entries {
        let len = u16::try_from(name.len()).expect("longer ones aren't put in");
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(name);
        let id = &entry.identity;
        for number in [id.dev, id.ino, id.size] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for number in [id.mtime, id.ctime] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&entry.digest);
    }
    let sum = checksum(&out);
    out.extend_from_slice(&sum.to_le_bytes());
    out
}

/// `None`: damaged, or of another version.
fn decode(bytes: &[u8]) -> Option<HashMap<Box<[u8]>, Entry>> {
    let (bytes, sum) = bytes.split_last_chunk::<4>()?;
    if u32::from_le_bytes(*sum) != checksum(bytes) {
        return None;
    }
    let mut rest = bytes.strip_prefix(MAGIC)?;
    let count = u32::from_le_bytes(take(&mut rest)?) as usize;
    if count > LIMIT {
        return None;
    }
    let mut entries = HashMap::with_capacity(count.min(rest.len() / FIXED));
    for _ in 0..count {
        let len = usize::from(u16::from_le_bytes(take(&mut rest)?));
        let (name, behind) = rest.split_at_checked(len)?;
        rest = behind;
        let identity = Identity {
            dev: u64::from_le_bytes(take(&mut rest)?),
            ino: u64::from_le_bytes(take(&mut rest)?),
            size: u64::from_le_bytes(take(&mut rest)?),
            mtime: i64::from_le_bytes(take(&mut rest)?),
            ctime: i64::from_le_bytes(take(&mut rest)?),
        };
        let entry = Entry {
            identity,
            digest: take(&mut rest)?,
            seen: false,
        };
        entries.insert(name.into(), entry);
    }
    rest.is_empty().then_some(entries)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, behind) = rest.split_first_chunk::<N>()?;
    *rest = behind;
    Some(*head)
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

#[cfg(test)]
#[path = "hashes_tests.rs"]
mod tests;
