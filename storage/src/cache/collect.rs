//! Making room: `builder prune`, and the collection after each build.
//!
//! The order is that of last use, oldest first, where a step counts as used when a step upon it was; of a chain that was used
//! at the same time the last step goes first, for the first ones may serve other builds. What a running build has pinned or
//! locked stays.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use nix::sys::statvfs::statvfs;
use serde::{Deserialize, Serialize};

use super::usage::{CacheUsage, Count, UsageKind, total};
use crate::atomic::{self, Durability};
use crate::digest::{DiffId, Digest};
use crate::gc;
use crate::image::ImageError;
use crate::removal::PruneScope;
use crate::store::{Store, StoreError};
use crate::tree;

/// The default limit is this or a tenth of the file system, whichever is larger: 10 GB.
const DEFAULT_LIMIT: u64 = 10_000_000_000;
/// The estimate of the cache's size is replaced by a count after this time.
const COUNT_AGAIN: Duration = Duration::from_secs(24 * 60 * 60);

/// How much may stay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CachePolicy {
    /// `--max-used-space`, in bytes: no more than this stays.
    pub max_used: Option<u64>,
    /// `--reserved-space` and `--keep-storage`: so much may always stay.
    pub reserved: Option<u64>,
    /// `--min-free-space`: so much of the file system is to be free afterwards.
    pub min_free: Option<u64>,
}

impl CachePolicy {
    /// How many of `used` bytes may stay, with `free` bytes of the file system free; 0 when nothing is said.
    pub(super) fn kept(&self, used: u64, free: u64) -> u64 {
        let excess = self.min_free.unwrap_or(0).saturating_sub(free);
        let kept = match (self.max_used, excess) {
            (Some(max), 0) => max,
            (Some(max), excess) => max.min(used.saturating_sub(excess)),
            // Enough is free: only that was asked for.
            (None, 0) if self.min_free.is_some() => used,
            (None, 0) => 0,
            (None, excess) => used.saturating_sub(excess),
        };
        kept.max(self.reserved.unwrap_or(0))
    }
}

/// What `builder prune` is asked to do.
pub struct PruneCache<'a> {
    /// [`PruneScope::Dangling`]: what no image has; [`PruneScope::Unused`]: all that no running build uses.
    pub scope: PruneScope,
    /// How much may stay.
    pub policy: CachePolicy,
    /// `--filter`: decides about each candidate.
    pub wanted: &'a dyn Fn(&CacheUsage) -> bool,
}

/// What was removed.
#[derive(Debug, Default)]
pub struct Collected {
    /// In the order in which it went.
    pub removed: Vec<CacheUsage>,
    /// Freed on the disk.
    pub bytes: u64,
}

/// `cache/size`: what the cache takes, roughly.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Estimate {
    bytes: u64,
    /// Seconds since 1970.
    counted: u64,
}

impl Store {
    /// Removes what is of no use any more from the build cache. Needs ids.
    ///
    /// # Errors
    /// When the store can't be read or written.
    pub fn prune_cache(&self, order: &PruneCache<'_>) -> Result<Collected, ImageError> {
        self.session()?;
        let mut candidates = self.step_usage()?;
        candidates.extend(self.mount_usage(Count::Now)?);
        if order.scope == PruneScope::Unused {
            candidates.extend(self.file_usage()?);
        } else {
            candidates.retain(|usage| !usage.shared);
        }
        let used = total(&candidates);
        candidates.retain(|usage| (order.wanted)(usage));
        let kept = order.policy.kept(used, free_bytes(self.root())?);
        let everything = order.scope == PruneScope::Unused && kept == 0;
        let collected = self.remove_until(candidates, used, kept)?;
        self.clear_step_locks()?;
        if everything && self.step_keys()?.is_empty() {
            self.forget_memos()?;
        }
        let _ = fs::remove_file(self.cache_path("size"));
        Ok(collected)
    }

    /// Keeps the cache below a limit, after a build. Cheap when the build has made nothing or there is room: the size
    /// is estimated. Needs ids. Without a policy the limit is 10 GB or a tenth of the file system, the larger of them.
    ///
    /// # Errors
    /// When the store can't be read or written.
    pub fn collect_cache(&self, policy: Option<CachePolicy>) -> Result<Collected, ImageError> {
        let grown = self.grown.swap(0, Ordering::Relaxed);
        if grown == 0 {
            return Ok(Collected::default());
        }
        let policy = match policy {
            Some(policy) => policy,
            None => default_policy(self.root())?,
        };
        let path = self.cache_path("size");
        if let Some(old) = fresh_estimate(&path) {
            let bytes = old.bytes.saturating_add(grown);
            if bytes <= policy.kept(bytes, free_bytes(self.root())?) {
                // Two builds that end at once may lose one's part, until it is counted again.
                self.write_estimate(Estimate { bytes, ..old })?;
                return Ok(Collected::default());
            }
        }
        let mut candidates = self.step_usage()?;
        candidates.retain(|usage| !usage.shared);
        candidates.extend(self.mount_usage(Count::Kept)?);
        let used = total(&candidates);
        let kept = policy.kept(used, free_bytes(self.root())?);
        let collected = if used > kept {
            // A tenth more, so that the next builds needn't do it again.
            self.remove_until(candidates, used, kept - kept / 10)?
        } else {
            Collected::default()
        };
        let bytes = used.saturating_sub(collected.bytes);
        let counted = seconds(SystemTime::now());
        self.write_estimate(Estimate { bytes, counted })?;
        Ok(collected)
    }

    fn write_estimate(&self, estimate: Estimate) -> Result<(), StoreError> {
        let path = self.cache_path("size");
        let temp = self.temp_path("size")?;
        let bytes = atomic::to_json(&path, &estimate)?;
        atomic::fill(&temp, &bytes, Durability::None).map_err(StoreError::io("write", &temp))?;
        self.publish_cache(&temp, &path)
    }

    /// Removes the oldest of `candidates` until `kept` of `used` bytes are left.
    fn remove_until(
        &self,
        mut candidates: Vec<CacheUsage>,
        used: u64,
        kept: u64,
    ) -> Result<Collected, ImageError> {
        order_by_use(&mut candidates);
        let mut collected = Collected::default();
        let mut left = used;
        let mut steps = Vec::new();
        let mut users = layer_users(&candidates);
        for usage in candidates {
            if left <= kept && kept > 0 {
                break;
            }
            if usage.in_use {
                continue;
            }
            // A layer is freed with the last of its records.
            let frees = usage.layer.is_none_or(|layer| {
                let count = users.entry(layer).or_insert(1);
                *count -= 1;
                *count == 0
            });
            if frees {
                left = left.saturating_sub(usage.bytes);
            }
            match usage.kind {
                UsageKind::Step => steps.push(usage),
                UsageKind::Mount | UsageKind::Files => {
                    if self.remove_thing(&usage)? {
                        collected.bytes += usage.bytes;
                        collected.removed.push(usage);
                    }
                }
            }
        }
        if !steps.is_empty() {
            collected.bytes += self.remove_steps(&mut steps)?;
            collected.removed.extend(steps);
        }
        Ok(collected)
    }

    /// Removes records, and then what nothing refers to any more. Those that a build has begun to use stay, and in `steps` are
    /// those that went. Returns the bytes that are freed.
    fn remove_steps(&self, steps: &mut Vec<CacheUsage>) -> Result<u64, ImageError> {
        let held = self.lock()?;
        let mut pinned = gc::Roots::default();
        pinned.add_pins(self, &[])?;
        steps.retain(|usage| {
            let pinned = |layer| pinned.layers.contains(&layer);
            !usage.layer.is_some_and(pinned)
        });
        for usage in &*steps {
            remove_file(&usage.path)?;
        }
        Ok(gc::sweep(held, &[])?.bytes)
    }

    /// Removes an instance of a mount, or digests of files. `false`: it is in use.
    fn remove_thing(&self, usage: &CacheUsage) -> Result<bool, StoreError> {
        if usage.kind == UsageKind::Files {
            remove_file(&usage.path)?;
            return Ok(true);
        }
        if !self.remove_instance(&usage.path)? {
            return Ok(false);
        }
        if let Some(dir) = usage.path.parent() {
            // The id's file goes with its last instance; who makes one anew makes this as well.
            let only = super::entries(dir)?.iter().all(|name| name == "mount.json");
            if only {
                let _ = fs::remove_file(dir.join("mount.json"));
                let _ = fs::remove_dir(dir);
            }
        }
        Ok(true)
    }

    fn forget_memos(&self) -> Result<(), StoreError> {
        for part in ["memo", "like"] {
            let path = self.cache_path(part);
            let gone = self.temp_path("removed-memos")?;
            match fs::rename(&path, &gone) {
                Ok(()) => tree::remove_tree(&gone).map_err(StoreError::io("remove", path))?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(StoreError::io("remove", path)(source)),
            }
        }
        Ok(())
    }
}

fn remove_file(path: &Path) -> Result<(), StoreError> {
    let removed = match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => tree::remove_tree(path),
        other => other,
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

fn fresh_estimate(path: &Path) -> Option<Estimate> {
    let estimate: Estimate = atomic::read_json(path).ok()?;
    let age = seconds(SystemTime::now()).checked_sub(estimate.counted)?;
    (age < COUNT_AGAIN.as_secs()).then_some(estimate)
}

fn seconds(when: SystemTime) -> u64 {
    let since = when.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

fn default_policy(root: &Path) -> Result<CachePolicy, StoreError> {
    let disk = statvfs(root).map_err(|errno| StoreError::io("stat", root)(errno.into()))?;
    let size = disk.blocks().saturating_mul(disk.fragment_size());
    Ok(CachePolicy {
        max_used: Some(DEFAULT_LIMIT.max(size / 10)),
        ..CachePolicy::default()
    })
}

fn free_bytes(root: &Path) -> Result<u64, StoreError> {
    let disk = statvfs(root).map_err(|errno| StoreError::io("stat", root)(errno.into()))?;
    Ok(disk.blocks_available().saturating_mul(disk.fragment_size()))
}

/// How many of the records have the same layer.
fn layer_users(candidates: &[CacheUsage]) -> HashMap<DiffId, usize> {
    let mut users = HashMap::new();
    for layer in candidates.iter().filter_map(|usage| usage.layer) {
        *users.entry(layer).or_insert(0) += 1;
    }
    users
}

/// Oldest first; a step is as new as the newest upon it, and goes after those.
fn order_by_use(candidates: &mut [CacheUsage]) {
    let parents: HashMap<Digest, Option<Digest>> = candidates
        .iter()
        .filter_map(|usage| Some((usage.key?, usage.parent)))
        .collect();
    let mut used: HashMap<Digest, SystemTime> = HashMap::new();
    let mut depth: HashMap<Digest, usize> = HashMap::new();
    for usage in candidates.iter() {
        let mut next = usage.key;
        // A ring of parents is nothing that we write, and no reason to hang.
        let mut seen = HashSet::new();
        while let Some(key) = next.filter(|key| parents.contains_key(key) && seen.insert(*key)) {
            let newest = used.entry(key).or_insert(usage.used);
            *newest = usage.used.max(*newest);
            next = parents[&key];
        }
        depth.extend(usage.key.map(|key| (key, seen.len())));
    }
    candidates.sort_by_cached_key(|usage| {
        let own = usage.key.and_then(|key| used.get(&key).copied());
        let depth = usage.key.and_then(|key| depth.get(&key).copied());
        (
            own.unwrap_or(usage.used),
            std::cmp::Reverse(depth.unwrap_or(0)),
            usage.id.clone(),
        )
    });
}
