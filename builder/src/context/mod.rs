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

mod archive;
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
pub use read::IgnoreFile;

use std::path::{Path, PathBuf};

use rctr_storage::Store;

use crate::git::GitUrl;

/// Where the context is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContextSource {
    /// A directory.
    Directory(PathBuf),
    /// `-`: a tar, or a Dockerfile without a context.
    Stdin,
    /// A repository, with `#REFERENCE:DIRECTORY` or without.
    Git(String),
    /// An http or https URL of a tar or of a Dockerfile.
    Http(String),
}

impl ContextSource {
    /// What the last argument of `build` means.
    #[must_use]
    pub fn of(argument: &str) -> Self {
        let web = ["http://", "https://"].iter().any(|scheme| {
            let start = argument.get(..scheme.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(scheme))
        });
        match argument {
            "-" => Self::Stdin,
            _ if GitUrl::parse(argument).is_some() => Self::Git(argument.to_owned()),
            _ if web => Self::Http(argument.to_owned()),
            _ => Self::Directory(argument.into()),
        }
    }
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
    /// The file that says so; `None`: there is none.
    pub ignore_file: Option<IgnoreFile>,
    /// As the user named it.
    pub name: String,
    /// Digests of its files.
    pub hashes: FileHashes,
    /// Of a repository: the commit, in full.
    pub commit: Option<String>,
    /// What is deleted with it.
    _temporary: Option<Temporary>,
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
            commit: None,
            _temporary: None,
        })
    }
}

/// A tree in the store's `tmp/`, deleted at the end.
#[derive(Debug)]
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // What is left is deleted with the session.
        let _ = rctr_storage::tree::remove_tree(&self.0);
    }
}
