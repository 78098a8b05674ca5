//! The store: one directory, its layout, its version, and the names of its parts.
//!
//! Opening reads one small file. Writers pin what they add in their [session](crate::session) and take
//! [locks](crate::lock) for a step; readers take none.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use crate::atomic::{self, Durability};
use crate::digest::DiffId;
use crate::explain::Explain;
use crate::session::Session;

/// The version of the layout that this code reads and writes.
const FORMAT: u32 = 1;
/// Written last when a store is made: a store is whole when it is there.
const MARKER: &str = "store.json";
const OCI_LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
const EMPTY_INDEX: &str =
    r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
pub(crate) const DIRECTORIES: [&str; 8] = [
    "blobs",
    "blobs/sha256",
    "layers",
    "containers",
    "names",
    "volumes",
    "locks",
    "tmp",
];

/// Why the store can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system said no.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// `create`, `read`, `write`, `remove`, …
        operation: &'static str,
        /// What it was about.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Made by a newer rctr.
    #[error("the store at {} has format {found}, this rctr knows {FORMAT}", root.display())]
    UnknownFormat {
        /// The store's directory.
        root: PathBuf,
        /// Its format; 0 when the features were at fault.
        found: u32,
    },
    /// Made by a newer rctr that uses something we don't know.
    #[error("the store at {} uses features that this rctr doesn't know: {}", root.display(), features.join(", "))]
    UnknownFeatures {
        /// The store's directory.
        root: PathBuf,
        /// Their names.
        features: Vec<String>,
    },
    /// Somebody holds a lock for too long.
    #[error("gave up waiting for the lock {}{}", path.display(), holder.map(|pid| format!(", held by process {pid}")).unwrap_or_default())]
    Busy {
        /// The lock's file.
        path: PathBuf,
        /// The process that has it, if it can be told.
        holder: Option<i32>,
    },
    /// A file of the store that isn't JSON of the expected shape.
    #[error("{} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
}

impl StoreError {
    /// For `map_err`: an I/O error with what was done to which path.
    pub(crate) fn io(
        operation: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            operation,
            path,
            source,
        }
    }
}

impl Explain for StoreError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Io {
                operation: "create",
                source,
                ..
            } if source.kind() == io::ErrorKind::NotFound => {
                "set HOME or RCTR_ROOT to a directory of yours".to_owned()
            }
            Self::Io { path, source, .. } => return hint_for_io(path, source),
            Self::UnknownFormat { .. } | Self::UnknownFeatures { .. } => {
                "it was made by a newer rctr: use that one, or set RCTR_ROOT to another directory"
                    .to_owned()
            }
            Self::Busy { holder, .. } => match holder {
                Some(pid) => {
                    format!("see what process {pid} does; if it hangs, end it and try again")
                }
                None => "wait for the other rctr commands to end and try again".to_owned(),
            },
            Self::Damaged { .. } => "run `rctr system check --repair` to mend the store".to_owned(),
        })
    }
}

/// What to do about a file system's refusal.
pub(crate) fn hint_for_io(path: &Path, error: &io::Error) -> Option<String> {
    let path = path.display();
    Some(match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => format!(
            "no space is left for {path}: free some, or run `rctr image prune` and `rctr volume prune`"
        ),
        io::ErrorKind::ReadOnlyFilesystem => format!(
            "{path} is on a read-only file system: images can be looked at, not changed; set RCTR_ROOT to a writable directory"
        ),
        io::ErrorKind::PermissionDenied => format!(
            "{path} must belong to you: check its owner and mode, or set RCTR_ROOT to a directory of yours"
        ),
        _ => return None,
    })
}

/// The marker file's content.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Marker {
    format: u32,
    /// Who doesn't know these may read and write.
    compatible: Vec<String>,
    /// Who doesn't know these may only read.
    read_only: Vec<String>,
    /// Who doesn't know these must not touch the store.
    incompatible: Vec<String>,
}

/// An open store.
///
/// Cheap to open, without a file descriptor of its own until something is written. Threads may share it.
pub struct Store {
    root: PathBuf,
    /// Made by the first write.
    pub(crate) session: Mutex<Option<Arc<Session>>>,
    /// Layers that [`Store::sync_build`] has to make last.
    pub(crate) unsynced: Mutex<HashSet<DiffId>>,
    /// Bytes by which this process has made the build cache grow, since it was last told.
    pub(crate) grown: AtomicU64,
}

impl Store {
    /// Opens the store at `root`; makes it when there is none.
    ///
    /// # Errors
    /// When it can't be read or made, or was made by a newer rctr.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let store = Self {
            root: root.to_owned(),
            session: Mutex::new(None),
            unsynced: Mutex::default(),
            grown: AtomicU64::new(0),
        };
        let path = store.path(MARKER);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                store.create()?;
                return Ok(store);
            }
            Err(source) => return Err(StoreError::io("read", path)(source)),
        };
        let marker: Marker = serde_json::from_slice(&bytes)
            .map_err(|source| StoreError::Damaged { path, source })?;
        if marker.format != FORMAT {
            return Err(StoreError::UnknownFormat {
                root: root.to_owned(),
                found: marker.format,
            });
        }
        let features = [marker.read_only, marker.incompatible].concat();
        if !features.is_empty() {
            return Err(StoreError::UnknownFeatures {
                root: root.to_owned(),
                features,
            });
        }
        Ok(store)
    }

    /// The store's directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A part of the store, by its path below the root.
    #[must_use]
    pub fn path(&self, part: impl AsRef<Path>) -> PathBuf {
        self.root.join(part)
    }

    /// Makes the layout. Several processes may do it at once, and one that was killed is no harm: every step is
    /// repeatable and the marker comes last.
    pub(crate) fn create(&self) -> Result<(), StoreError> {
        let mut builder = fs::DirBuilder::new();
        builder.mode(0o700).recursive(true);
        builder
            .create(&self.root)
            .map_err(StoreError::io("create", &self.root))?;
        for part in DIRECTORIES {
            let path = self.path(part);
            // Whatever the root's own mode is: an image's set-user-ID programs belong to us, and are nobody else's to run.
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(StoreError::io("create", path)(source)),
            }
        }
        let marker = Marker {
            format: FORMAT,
            ..Marker::default()
        };
        let marker = serde_json::to_vec(&marker).expect("a marker is plain data");
        for (name, bytes) in [
            ("oci-layout", OCI_LAYOUT.as_bytes()),
            ("index.json", EMPTY_INDEX.as_bytes()),
            (MARKER, &marker),
        ] {
            atomic::create(&self.path(name), bytes, Durability::Fsync)?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("root", &self.root).finish()
    }
}
