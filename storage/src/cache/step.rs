//! Records of steps: key → layer.
//!
//! A record is one file of four lines: the record as JSON, the digest of that line, the inputs as JSON, the digest of
//! that line. A cached build reads the first two only (a COPY may have thousands of inputs).

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::entries;
use crate::atomic::{self, Durability};
use crate::digest::Digest;
use crate::layer::LayerBlob;
use crate::session::Pin;
use crate::store::{Store, StoreError};

const VERSION: u32 = 1;
/// Of a record's file, in bytes: enough for the first two lines of nearly all.
const FIRST_READ: usize = 4096;

/// What a step has made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepRecord {
    /// What the step is, with all that it depends on.
    pub key: Digest,
    /// `run`, `copy` or `workdir`.
    pub kind: String,
    /// As progress shows it: `RUN apt-get update`.
    pub name: String,
    /// Its layer.
    pub layer: LayerBlob,
    /// The key of the step before it.
    #[serde(default)]
    pub parent: Option<Digest>,
    /// What the key was made of. Empty in what [`Store::cached_step`] returns: see [`Store::step_with_inputs`].
    #[serde(skip)]
    pub inputs: Vec<StepInput>,
    /// RFC 3339.
    pub created: String,
    /// How long it took to make, in milliseconds.
    pub duration_ms: u64,
    /// Where its output is.
    #[serde(default)]
    pub log: Option<LogPlace>,
}

/// A part of a step's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepInput {
    /// `base`, `argument FOO`, `file src/main.c`, `command`.
    pub what: String,
    /// A digest or a short text, never a secret.
    pub value: String,
}

/// A step's output in a [build log](super::BuildLog), which may be gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPlace {
    /// The build's ID.
    pub build: String,
    /// The step's number in that log.
    pub step: u32,
}

/// The first line of the file.
#[derive(Serialize, Deserialize)]
pub(super) struct Head {
    version: u32,
    /// What it takes on the disk: the layer, unpacked and as a blob.
    pub(super) bytes: u64,
    pub(super) record: StepRecord,
}

/// A record's file, parsed.
pub(super) struct Found {
    pub(super) head: Head,
    pub(super) used: SystemTime,
}

impl Store {
    pub(crate) fn step_path(&self, key: &Digest) -> PathBuf {
        let hex = key.hex();
        self.cache_path("steps")
            .join(&hex[..2])
            .join(format!("{hex}.json"))
    }

    /// What the step with this key has made, if it is known and there. Its layer and blob are pinned until the store is
    /// dropped, and this is noted as its last use.
    ///
    /// # Errors
    /// When the record can't be read or the layer not be pinned. A damaged record is none.
    pub fn cached_step(&self, key: &Digest) -> Result<Option<StepRecord>, StoreError> {
        let path = self.step_path(key);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StoreError::io("read", path)(source)),
        };
        let bytes = read_head(&mut file).map_err(StoreError::io("read", &path))?;
        let Some(head) = parse_head(&bytes).filter(|head| head.record.key == *key) else {
            return Ok(None);
        };
        let layer = &head.record.layer;
        // First the pins: what is there afterwards stays.
        self.pin(&[Pin::Blob(layer.digest), Pin::Layer(layer.diff_id)])?;
        if !self.has_whole_blob(layer) || !self.settle_layer(&layer.diff_id)? {
            return Ok(None);
        }
        // For the order in which the cache is pruned; in a read-only store there is none.
        let _ = file.set_modified(SystemTime::now());
        Ok(Some(head.record))
    }

    fn has_whole_blob(&self, layer: &LayerBlob) -> bool {
        fs::metadata(self.blob_path(&layer.digest)).is_ok_and(|meta| meta.len() == layer.size)
    }

    /// Remembers what a step has made; another record of the same key is replaced. It lasts after
    /// [`Store::sync_build`].
    ///
    /// # Errors
    /// When it can't be written.
    pub fn remember_step(&self, record: &StepRecord) -> Result<(), StoreError> {
        let path = self.step_path(&record.key);
        let head = Head {
            version: VERSION,
            bytes: self.layer_size(&record.layer.diff_id) + record.layer.size,
            record: record.clone(),
        };
        let mut bytes = Vec::new();
        push_line(&mut bytes, &atomic::to_json(&path, &head)?);
        push_line(&mut bytes, &atomic::to_json(&path, &record.inputs)?);
        let temp = self.temp_path("step")?;
        atomic::fill(&temp, &bytes, Durability::None).map_err(StoreError::io("write", &temp))?;
        self.publish_cache(&temp, &path)?;
        self.grown.fetch_add(head.bytes, Ordering::Relaxed);
        Ok(())
    }

    /// A record with its inputs; nothing is pinned, and the layer may be gone.
    #[must_use]
    pub fn step_with_inputs(&self, key: &Digest) -> Option<StepRecord> {
        parse_whole(&fs::read(self.step_path(key)).ok()?)
    }

    /// Notes which step was last at `place` (`<Dockerfile>#<stage>#<number>`), for [`Store::last_like`].
    ///
    /// # Errors
    /// When it can't be written.
    pub fn note_like(&self, place: &str, key: &Digest) -> Result<(), StoreError> {
        let path = self
            .cache_path("like")
            .join(Digest::of(place.as_bytes()).hex());
        self.write_memo(&path, key)
    }

    /// The step that was last at `place`, with its inputs: what to compare with when the one there now isn't cached.
    #[must_use]
    pub fn last_like(&self, place: &str) -> Option<StepRecord> {
        let path = self
            .cache_path("like")
            .join(Digest::of(place.as_bytes()).hex());
        self.step_with_inputs(&super::memo::read_memo(&path)?)
    }

    /// The keys of all records, damaged ones too.
    pub(crate) fn step_keys(&self) -> Result<Vec<Digest>, StoreError> {
        let top = self.cache_path("steps");
        let mut keys = Vec::new();
        for part in entries(&top)? {
            for name in entries(&top.join(part))? {
                let hex = name.strip_suffix(".json").unwrap_or_default();
                keys.extend(Digest::from_hex(hex).ok());
            }
        }
        Ok(keys)
    }

    /// The record of a key and when it was last used; `None`: it is gone or damaged.
    pub(super) fn read_step(&self, key: &Digest) -> Option<Found> {
        let mut file = File::open(self.step_path(key)).ok()?;
        let bytes = read_head(&mut file).ok()?;
        let head = parse_head(&bytes).filter(|head| head.record.key == *key)?;
        let used = file.metadata().and_then(|meta| meta.modified()).ok()?;
        Some(Found { head, used })
    }

    /// The layers of all records: roots of the garbage collection.
    pub(crate) fn cached_layers(&self) -> Result<Vec<LayerBlob>, StoreError> {
        let keys = self.step_keys()?;
        let records = keys.iter().filter_map(|key| self.read_step(key));
        Ok(records.map(|found| found.head.record.layer).collect())
    }
}

/// The line and the digest of it, each with its end.
fn push_line(bytes: &mut Vec<u8>, line: &[u8]) {
    bytes.extend_from_slice(line);
    bytes.push(b'\n');
    bytes.extend_from_slice(Digest::of(line).hex().as_bytes());
    bytes.push(b'\n');
}

/// The beginning of the file, as far as its second line's end.
fn read_head(file: &mut File) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; FIRST_READ];
    let mut filled = 0;
    loop {
        let count = file.read(&mut bytes[filled..])?;
        filled += count;
        let lines = bytes[..filled].iter().filter(|byte| **byte == b'\n');
        if count == 0 || lines.count() >= 2 {
            bytes.truncate(filled);
            return Ok(bytes);
        }
        if filled == bytes.len() {
            bytes.resize(filled * 2, 0);
        }
    }
}

/// A line whose digest follows it, and the rest.
fn checked_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
    let (sum, rest) = (rest.get(..64)?, rest.get(64..)?);
    let rest = rest.strip_prefix(b"\n")?;
    (Digest::of(line).hex().as_bytes() == sum).then_some((line, rest))
}

fn parse_head(bytes: &[u8]) -> Option<Head> {
    let (line, _) = checked_line(bytes)?;
    let head: Head = serde_json::from_slice(line).ok()?;
    (head.version == VERSION).then_some(head)
}

/// The whole file; `None` when any of it is damaged.
pub(super) fn parse_whole(bytes: &[u8]) -> Option<StepRecord> {
    let mut record = parse_head(bytes)?.record;
    let (_, rest) = checked_line(bytes)?;
    let (inputs, rest) = checked_line(rest)?;
    record.inputs = serde_json::from_slice(inputs).ok()?;
    rest.is_empty().then_some(record)
}
