//! Cache mounts of RUN: directories that outlive the build, found by their id.
//!
//! `mounts/<hash of id>/mount.json` says what the id is, `<n>/data` is what a step sees. Everybody who shares uses instance 0;
//! a private user takes the first instance that nobody has, or makes one more.

use std::fs::{self, File};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::usage::Count;
use super::{entries, make_dirs};
use crate::atomic::{self, Durability};
use crate::digest::Digest;
use crate::lock::holder;
use crate::store::{Store, StoreError};
use crate::timestamp;
use crate::tree;

const VERSION: u32 = 1;

/// `sharing=` of a cache mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sharing {
    /// Several steps write to it at once.
    Shared,
    /// A second one gets another directory.
    Private,
    /// A second one waits.
    Locked,
}

/// Puts the first content into a directory.
pub type Fill<'a> = dyn Fn(&Path) -> io::Result<()> + 'a;

/// Which cache mount is wanted.
pub struct CacheMountOrder<'a> {
    /// Its id, which defaults to the target path.
    pub id: &'a str,
    /// Who may use it at once.
    pub sharing: Sharing,
    /// Owner of a new one.
    pub uid: u32,
    /// Group of a new one.
    pub gid: u32,
    /// Permissions of a new one.
    pub mode: u32,
    /// Puts the first content (`from=`) into a new one.
    pub fill: Option<&'a Fill<'a>>,
}

/// `mount.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct About {
    version: u32,
    pub(super) id: String,
    pub(super) created: String,
}

/// A cache mount in use; dropped, it isn't any more.
#[derive(Debug)]
pub struct CacheMount {
    /// The directory to be mounted.
    pub path: PathBuf,
    instance: PathBuf,
    _lock: Flock<File>,
}

impl Drop for CacheMount {
    fn drop(&mut self) {
        touch(&self.instance);
    }
}

/// Notes the use, for the order of pruning.
fn touch(instance: &Path) {
    // Without it the mount only seems to be older.
    let _ = File::open(instance).and_then(|dir| dir.set_modified(SystemTime::now()));
}

enum Tried {
    Got(CacheMount),
    Busy(Option<i32>),
    Absent,
}

impl Store {
    /// The directory of a cache mount, made when there is none. Needs ids.
    ///
    /// `waiting` is called at once and then some twenty times a second as long as others keep us from it, with one of
    /// them; it ends the wait by `Break`, and the result is `None`.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn cache_mount(
        &self,
        order: &CacheMountOrder<'_>,
        waiting: &mut dyn FnMut(Option<i32>) -> ControlFlow<()>,
    ) -> Result<Option<CacheMount>, StoreError> {
        let dir = self.mount_dir(order.id);
        let how = match order.sharing {
            Sharing::Shared => FlockArg::LockSharedNonblock,
            Sharing::Private | Sharing::Locked => FlockArg::LockExclusiveNonblock,
        };
        let mut pause = Duration::from_millis(1);
        let mut number = 0_u32;
        loop {
            let instance = dir.join(number.to_string());
            let holder = match try_instance(&instance, how)? {
                Tried::Got(mount) => {
                    touch(&instance);
                    return Ok(Some(mount));
                }
                Tried::Absent => {
                    self.make_instance(order, &instance)?;
                    continue;
                }
                Tried::Busy(_) if order.sharing == Sharing::Private => {
                    number += 1;
                    continue;
                }
                Tried::Busy(holder) => holder,
            };
            if waiting(holder).is_break() {
                return Ok(None);
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// Whether there is a cache mount of that id.
    pub(crate) fn has_cache_mount(&self, id: &str) -> bool {
        self.mount_dir(id).join("0/data").is_dir()
    }

    pub(super) fn mount_dir(&self, id: &str) -> PathBuf {
        self.cache_path("mounts")
            .join(Digest::of(id.as_bytes()).hex())
    }

    /// Makes an instance aside and moves it to its place. When another has done it meanwhile, that one is used.
    fn make_instance(&self, order: &CacheMountOrder<'_>, place: &Path) -> Result<(), StoreError> {
        let dir = self.mount_dir(order.id);
        make_dirs(&dir)?;
        let about = dir.join("mount.json");
        if !about.exists() {
            let content = About {
                version: VERSION,
                id: order.id.to_owned(),
                created: timestamp::now(),
            };
            let temp = self.temp_path("mount")?;
            let bytes = atomic::to_json(&about, &content)?;
            atomic::fill(&temp, &bytes, Durability::None)
                .map_err(StoreError::io("write", &temp))?;
            fs::rename(&temp, &about).map_err(StoreError::io("write", &about))?;
        }
        let staged = self.temp_path("mount")?;
        let data = staged.join("data");
        make_dirs(&data)?;
        if let Some(fill) = order.fill {
            fill(&data).map_err(StoreError::io("fill", place))?;
        }
        chown(&data, Some(order.uid), Some(order.gid))
            .map_err(StoreError::io("change the owner of", &data))?;
        // After chown, which takes set-ID bits away.
        fs::set_permissions(&data, fs::Permissions::from_mode(order.mode & 0o7777))
            .map_err(StoreError::io("change the mode of", &data))?;
        match fs::rename(&staged, place) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty
                ) =>
            {
                // It was filled for nothing; what can't be deleted is left to later sessions.
                let _ = tree::remove_tree(&staged);
                Ok(())
            }
            other => other.map_err(StoreError::io("create", place)),
        }
    }

    /// Takes an instance away that nobody uses: to `tmp/`. `false`: somebody uses it.
    pub(super) fn remove_instance(&self, instance: &Path) -> Result<bool, StoreError> {
        let Tried::Got(mount) = try_instance(instance, FlockArg::LockExclusiveNonblock)? else {
            return Ok(false);
        };
        let gone = self.temp_path("removed-mount")?;
        fs::rename(instance, &gone).map_err(StoreError::io("remove", instance))?;
        drop(mount);
        // What can't be deleted now stays in the session's directory and is tried again by later ones.
        let _ = tree::remove_tree(&gone);
        Ok(true)
    }
}

/// Whether somebody uses the instance now.
pub(super) fn is_in_use(instance: &Path) -> bool {
    File::open(instance).is_ok_and(|dir| {
        matches!(
            Flock::lock(dir, FlockArg::LockExclusiveNonblock),
            Err((_, Errno::EWOULDBLOCK))
        )
    })
}

fn try_instance(instance: &Path, how: FlockArg) -> Result<Tried, StoreError> {
    loop {
        let dir = match File::open(instance) {
            Ok(dir) => dir,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Tried::Absent),
            Err(source) => return Err(StoreError::io("open", instance)(source)),
        };
        let lock = match Flock::lock(dir, how) {
            Ok(lock) => lock,
            Err((dir, Errno::EWOULDBLOCK | Errno::EINTR)) => {
                return Ok(Tried::Busy(holder(&dir)));
            }
            Err((_, errno)) => return Err(StoreError::io("lock", instance)(errno.into())),
        };
        // It may have been pruned after we had opened it.
        let ours = lock.metadata().map_err(StoreError::io("stat", instance))?;
        match fs::metadata(instance) {
            Ok(there) if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) => {
                return Ok(Tried::Got(CacheMount {
                    path: instance.join("data"),
                    instance: instance.to_owned(),
                    _lock: lock,
                }));
            }
            _ => {}
        }
    }
}

/// All instances with the id that they belong to.
pub(super) fn instances(store: &Store) -> Result<Vec<(Option<About>, PathBuf)>, StoreError> {
    let top = store.cache_path("mounts");
    let mut found = Vec::new();
    for hash in entries(&top)? {
        let dir = top.join(hash);
        for name in entries(&dir)? {
            if name.bytes().all(|byte| byte.is_ascii_digit()) {
                let about = atomic::read_json(&dir.join("mount.json")).ok();
                found.push((about, dir.join(name)));
            }
        }
    }
    Ok(found)
}

/// What is in the instance; kept in `size` beside it, because counting is a walk.
pub(super) fn bytes(instance: &Path, count: Count) -> u64 {
    let path = instance.join("size");
    let kept = || fs::read_to_string(&path).ok()?.trim_end().parse().ok();
    if count == Count::Kept
        && let Some(bytes) = kept()
    {
        return bytes;
    }
    // Other users' files may be closed to us: what was counted inside the identity is better than nothing then.
    let Ok(bytes) = tree::size(&instance.join("data")) else {
        return kept().unwrap_or(0);
    };
    // Writing beside it changes the directory's time, which is that of the last use: only if the file is new.
    let used = fs::metadata(instance).and_then(|meta| meta.modified());
    let written = atomic::fill(&path, bytes.to_string().as_bytes(), Durability::None);
    if let (Ok(()), Ok(used)) = (written, used) {
        let _ = File::open(instance).and_then(|dir| dir.set_modified(used));
    }
    bytes
}
