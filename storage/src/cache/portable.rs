//! A build cache in a directory that travels: an OCI image layout with one manifest, whose config lists the steps and
//! whose layers are theirs.
//!
//! ```text
//! oci-layout  index.json  blobs/sha256/…
//! ```
//!
//! What is written is complete when `index.json` is put in place. What is read is not trusted: nothing in it names a path,
//! every document and every layer is verified by its digest. That a step makes this layer must be believed, as with
//! any cache.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{StepInput, StepRecord};
use crate::atomic::{self, Durability};
use crate::digest::Digest;
use crate::explain::Explain;
use crate::layer::{Expected, LayerBlob, LayerError, StoreAs};
use crate::manifest::{Descriptor, Index, Manifest, OCI_MANIFEST, oci_layer_type};
use crate::store::{Store, StoreError};

const VERSION: u32 = 1;
/// What the config is.
const RECORDS: &str = "application/vnd.rctr.build.cache.v1+json";
/// Bytes of a document that is read.
const LIMIT: u64 = 64 << 20;

/// The config: what is known of the steps.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Records {
    version: u32,
    steps: Vec<PortableStep>,
    memos: Vec<PortableMemo>,
}

#[derive(Debug, Serialize, Deserialize)]
struct PortableStep {
    record: StepRecord,
    inputs: Vec<StepInput>,
}

/// A memo that belongs to steps: see [`Store::memo`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortableMemo {
    /// Its kind.
    pub kind: String,
    /// What it is remembered for.
    pub key: Digest,
    /// What is remembered.
    pub value: Digest,
}

/// Why a cache's directory can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PortableError {
    /// The file system said no.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// `read`, `write`, …
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something in it isn't what it must be.
    #[error("{} is damaged: {problem}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A layer can't be taken over.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The store said no.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Explain for PortableError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Io { .. } => None,
            Self::Damaged { .. } => Some("write it again with --cache-to".to_owned()),
            Self::Layer(error) => error.hint(),
            Self::Store(error) => error.hint(),
        }
    }
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PortableError {
    let path = path.to_owned();
    move |source| PortableError::Io {
        operation,
        path,
        source,
    }
}

/// A cache's directory that was opened: its documents are read, its layers not yet.
pub struct PortableCache {
    dir: PathBuf,
    steps: BTreeMap<Digest, PortableStep>,
    memos: Vec<PortableMemo>,
}

impl PortableCache {
    /// Reads what is known of the steps.
    ///
    /// # Errors
    /// When it isn't there or damaged.
    pub fn open(dir: &Path) -> Result<Self, PortableError> {
        let index: Index = parse(&dir.join("index.json"), &read(&dir.join("index.json"))?)?;
        let manifest = index
            .manifests
            .first()
            .ok_or_else(|| damaged(&dir.join("index.json"), "it lists nothing"))?;
        let manifest: Manifest = document(dir, &manifest.digest)?;
        if manifest.config.media_type != RECORDS {
            let problem = format!("{} is no build cache of rctr", manifest.config.media_type);
            return Err(damaged(&dir.join("index.json"), problem));
        }
        let records: Records = document(dir, &manifest.config.digest)?;
        if records.version != VERSION {
            let problem = format!("version {} is not known", records.version);
            return Err(damaged(&dir.join("index.json"), problem));
        }
        let steps = records.steps.into_iter();
        Ok(Self {
            dir: dir.to_owned(),
            steps: steps.map(|step| (step.record.key, step)).collect(),
            memos: records.memos,
        })
    }

    /// The memos.
    #[must_use]
    pub fn memos(&self) -> &[PortableMemo] {
        &self.memos
    }

    /// Takes a step over into the store, as if it had been made here; `None`: it isn't known. Needs ids.
    ///
    /// # Errors
    /// When its layer is damaged or missing, or the store can't be written.
    pub fn take(&self, store: &Store, key: &Digest) -> Result<Option<StepRecord>, PortableError> {
        let Some(step) = self.steps.get(key) else {
            return Ok(None);
        };
        let wanted = &step.record.layer;
        let expected = Expected {
            digest: Some(wanted.digest),
            diff_id: Some(wanted.diff_id),
            size: Some(wanted.size),
        };
        let blob = open(&blob(&self.dir, &wanted.digest))?;
        let layer = store.add_layer(blob, &expected, StoreAs::Verbatim)?;
        let record = StepRecord {
            layer,
            inputs: step.inputs.clone(),
            log: None,
            ..step.record.clone()
        };
        store.remember_step(&record)?;
        Ok(Some(record))
    }
}

impl Store {
    /// Writes what the steps `keys` have made to the directory `dir`, which is made if missing. What it lists is replaced; layers
    /// that are there aren't written again. Steps that aren't in the cache are left out.
    ///
    /// # Errors
    /// When something can't be read or written: the directory lists what it listed before then.
    pub fn write_portable_cache(
        &self,
        dir: &Path,
        keys: &[Digest],
        memos: &[PortableMemo],
    ) -> Result<(), PortableError> {
        let blobs = dir.join("blobs/sha256");
        fs::create_dir_all(&blobs).map_err(failed("create", &blobs))?;
        let mut records = Records {
            version: VERSION,
            steps: Vec::new(),
            memos: memos.to_vec(),
        };
        let mut layers: BTreeMap<Digest, LayerBlob> = BTreeMap::new();
        for mut record in keys.iter().filter_map(|key| self.step_with_inputs(key)) {
            // It is of this machine.
            record.log = None;
            layers.insert(record.layer.digest, record.layer.clone());
            let inputs = record.inputs.clone();
            records.steps.push(PortableStep { record, inputs });
        }
        for layer in layers.values() {
            self.copy_blob(layer, &blob(dir, &layer.digest))?;
        }
        let config = put(dir, RECORDS, &records)?;
        let layers = layers.values();
        let manifest = Manifest {
            schema_version: 2,
            media_type: OCI_MANIFEST.to_owned(),
            config,
            layers: layers
                .map(|l| Descriptor::new(oci_layer_type(&l.media_type), l.digest, l.size))
                .collect(),
            extra: serde_json::Map::new(),
        };
        let index = Index {
            manifests: vec![put(dir, OCI_MANIFEST, &manifest)?],
            ..Index::default()
        };
        write(
            &dir.join("oci-layout"),
            br#"{"imageLayoutVersion":"1.0.0"}"#,
        )?;
        let path = dir.join("index.json");
        write(&path, &atomic::to_json(&path, &index)?)
    }

    fn copy_blob(&self, layer: &LayerBlob, to: &Path) -> Result<(), PortableError> {
        if fs::symlink_metadata(to).is_ok_and(|meta| meta.is_file() && meta.len() == layer.size) {
            return Ok(());
        }
        let from = self.blob_path(&layer.digest);
        let temp = temporary(to);
        let copied = fs::copy(&from, &temp)
            .and_then(|_| fs::rename(&temp, to))
            .map_err(failed("write", to));
        if copied.is_err() {
            // The error is the news.
            let _ = fs::remove_file(&temp);
        }
        copied
    }
}

fn temporary(path: &Path) -> PathBuf {
    path.with_extension(format!("partial-{}", std::process::id()))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), PortableError> {
    let temp = temporary(path);
    let written = atomic::fill(&temp, bytes, Durability::Fsync)
        .and_then(|()| fs::rename(&temp, path))
        .map_err(failed("write", path));
    if written.is_err() {
        // The error is the news.
        let _ = fs::remove_file(&temp);
    }
    written
}

fn put<T: Serialize>(dir: &Path, kind: &str, value: &T) -> Result<Descriptor, PortableError> {
    let bytes = atomic::to_json(dir, value)?;
    let digest = Digest::of(&bytes);
    write(&blob(dir, &digest), &bytes)?;
    Ok(Descriptor::new(kind, digest, bytes.len() as u64))
}

fn blob(dir: &Path, digest: &Digest) -> PathBuf {
    dir.join("blobs/sha256").join(digest.hex())
}

fn damaged(path: &Path, problem: impl Into<String>) -> PortableError {
    PortableError::Damaged {
        path: path.to_owned(),
        problem: problem.into(),
    }
}

/// A plain file, and no link to one.
fn open(path: &Path) -> Result<File, PortableError> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .map_err(failed("read", path))?;
    match file.metadata().map_err(failed("read", path))?.is_file() {
        true => Ok(file),
        false => Err(damaged(path, "it is no plain file")),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, PortableError> {
    let mut bytes = Vec::new();
    let mut file = open(path)?.take(LIMIT + 1);
    file.read_to_end(&mut bytes).map_err(failed("read", path))?;
    match bytes.len() as u64 > LIMIT {
        true => Err(damaged(path, "it is too large")),
        false => Ok(bytes),
    }
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, PortableError> {
    serde_json::from_slice(bytes).map_err(|error| damaged(path, error.to_string()))
}

fn document<T: serde::de::DeserializeOwned>(
    dir: &Path,
    digest: &Digest,
) -> Result<T, PortableError> {
    let path = blob(dir, digest);
    let bytes = read(&path)?;
    match Digest::of(&bytes) == *digest {
        true => parse(&path, &bytes),
        false => Err(damaged(&path, "it has another digest")),
    }
}
