//! What is in the build cache, and what it takes.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

use super::{entries, mount};
use crate::digest::{DiffId, Digest};
use crate::gc::Roots;
use crate::image::ImageError;
use crate::store::{Store, StoreError};
use crate::timestamp;
use crate::tree;

/// What a thing in the cache is. The words are docker's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UsageKind {
    /// `regular`: the layer of a step.
    Step,
    /// `exec.cachemount`: an instance of a cache mount.
    Mount,
    /// `source.local`: digests of the files of a context.
    Files,
}

impl UsageKind {
    /// Docker's word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Step => "regular",
            Self::Mount => "exec.cachemount",
            Self::Files => "source.local",
        }
    }
}

/// A thing in the cache.
#[derive(Debug, Clone)]
pub struct CacheUsage {
    /// 64 hexadecimal digits: a step's key, or a hash of what the thing is called.
    pub id: String,
    /// What it is.
    pub kind: UsageKind,
    /// A step's name, a mount's id.
    pub description: String,
    /// The key of the step before.
    pub parent: Option<Digest>,
    /// The layer of a step.
    pub layer: Option<DiffId>,
    /// On the disk. Layers that several steps share count for each.
    pub bytes: u64,
    /// RFC 3339.
    pub created: String,
    /// When a build last used it.
    pub used: SystemTime,
    /// A running build uses it.
    pub in_use: bool,
    /// An image or a container has the layer, too: removing the record frees nothing.
    pub shared: bool,
    /// What is there: a record, an instance, a file.
    pub(super) path: PathBuf,
    /// The step's key.
    pub(super) key: Option<Digest>,
}

/// Whether the content of cache mounts is counted, which is a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Count {
    /// It is.
    Now,
    /// What was counted last is good enough.
    Kept,
}

impl Store {
    /// Everything in the build cache, last used first.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn cache_usage(&self) -> Result<Vec<CacheUsage>, ImageError> {
        let mut all = self.step_usage()?;
        all.extend(self.mount_usage(Count::Now)?);
        all.extend(self.file_usage()?);
        all.sort_by(|a, b| (b.used, &a.id).cmp(&(a.used, &b.id)));
        Ok(all)
    }

    pub(super) fn step_usage(&self) -> Result<Vec<CacheUsage>, ImageError> {
        let keys = self.step_keys()?;
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let listed = Roots::listed(self)?.layers;
        let mut pinned = Roots::default();
        pinned.add_pins(self, &[])?;
        let usage = |key: &Digest| {
            let found = self.read_step(key)?;
            let record = found.head.record;
            let layer = record.layer.diff_id;
            Some(CacheUsage {
                id: key.hex(),
                kind: UsageKind::Step,
                description: record.name,
                parent: record.parent,
                layer: Some(layer),
                bytes: found.head.bytes,
                created: record.created,
                used: found.used,
                in_use: pinned.layers.contains(&layer),
                shared: listed.contains(&layer),
                path: self.step_path(key),
                key: Some(*key),
            })
        };
        Ok(keys.iter().filter_map(usage).collect())
    }

    pub(super) fn mount_usage(&self, count: Count) -> Result<Vec<CacheUsage>, StoreError> {
        let mut all = Vec::new();
        for (about, path) in mount::instances(self)? {
            let Ok(meta) = fs::metadata(&path) else {
                continue; // Pruned just now.
            };
            let used = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            let (id, created) = match about {
                Some(about) => (about.id, about.created),
                None => (String::new(), timestamp::of(used)),
            };
            let number = path.file_name().unwrap_or_default().to_string_lossy();
            all.push(CacheUsage {
                id: Digest::of(format!("{id}#{number}").as_bytes()).hex(),
                kind: UsageKind::Mount,
                description: format!("cached mount {id}"),
                parent: None,
                layer: None,
                bytes: mount::bytes(&path, count),
                created,
                used,
                in_use: mount::is_in_use(&path),
                shared: false,
                path,
                key: None,
            });
        }
        Ok(all)
    }

    pub(super) fn file_usage(&self) -> Result<Vec<CacheUsage>, StoreError> {
        let dir = self.cache_path("files");
        let mut all = Vec::new();
        for id in entries(&dir)? {
            let path = dir.join(&id);
            let Ok(meta) = fs::metadata(&path) else {
                continue;
            };
            let used = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            let bytes = if meta.is_dir() {
                tree::size(&path).unwrap_or(0)
            } else {
                meta.len()
            };
            all.push(CacheUsage {
                id,
                kind: UsageKind::Files,
                description: "digests of the files of a build context".to_owned(),
                parent: None,
                layer: None,
                bytes,
                created: timestamp::of(used),
                used,
                in_use: false,
                shared: false,
                path,
                key: None,
            });
        }
        Ok(all)
    }
}

/// What the things take together: layers that steps share count once, and what images have not at all.
#[must_use]
pub fn total<'a>(usage: impl IntoIterator<Item = &'a CacheUsage>) -> u64 {
    let mut seen = HashSet::new();
    let counts = |usage: &&CacheUsage| usage.layer.is_none_or(|layer| seen.insert(layer));
    usage
        .into_iter()
        .filter(counts)
        .map(|usage| usage.bytes)
        .sum()
}
