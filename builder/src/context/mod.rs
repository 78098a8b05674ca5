//! Build contexts: the files that COPY and ADD see, and the Dockerfile beside them.
//!
//! ```text
//! directory ───────────────────────────────┐
//! stdin, http(s): a tar ── unpacked to tmp/ ┼─▶ Context { root, ignore, hashes } + the Dockerfile's bytes
//! stdin, http(s): a Dockerfile ── empty dir ┤
//! git ──────────── checked out to tmp/ ─────┘
//! ```
//!
//! A context isn't trusted: what is read from it by name is looked up with its root as `/`, whatever its links say.

mod compiled;
mod error;
mod glob;
mod hashes;
mod ignore;
mod open;
pub mod pattern;
mod read;

pub use error::ContextError;
pub use hashes::FileHashes;
pub use ignore::{Ignore, IgnoreError, Verdict};
pub use open::{Surroundings, open};

use std::path::{Path, PathBuf};

use rctr_storage::Store;

/// Where the context is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContextSource {
    /// A directory.
    Directory(PathBuf),
}

/// Where the Dockerfile is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DockerfileSource {
    /// A path below the context's root.
    InContext(String),
    /// A file anywhere.
    File(PathBuf),
    /// `-f -`.
    Stdin,
}

/// A context that can be read.
#[derive(Debug)]
pub struct Context {
    /// Its top directory.
    pub root: PathBuf,
    /// What isn't there for the build.
    pub ignore: Ignore,
    /// The file that says so, as shown: `.dockerignore`, `Dockerfile.dev.dockerignore`; `None`: there is none.
    pub ignore_file: Option<String>,
    /// As the user named it.
    pub name: String,
    /// Digests of its files.
    pub hashes: FileHashes,
}

impl Context {
    /// The directory `path` with its own `.dockerignore`, as `--build-context NAME=DIR` has it.
    ///
    /// # Errors
    /// When there is no such directory, or its `.dockerignore` can't be used.
    pub fn directory(path: &Path, store: &Store) -> Result<Self, ContextError> {
        let root = open::directory(path)?;
        let (ignore, ignore_file) = read::ignore(&root, None)?;
        Ok(Self {
            hashes: FileHashes::open(store, &root),
            root,
            ignore,
            ignore_file,
            name: path.display().to_string(),
        })
    }
}
