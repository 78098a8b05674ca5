//! Why there is no context to build from.

use std::io;
use std::path::PathBuf;

use rctr_storage::explain::Explain;
use rctr_storage::store::StoreError;
use rctr_storage::tree::TreeError;

use super::IgnoreError;
use crate::fetch::FetchError;
use crate::git::GitError;

/// Why a context, its Dockerfile or its ignore file can't be had.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// Nothing is there.
    #[error("unable to prepare context: path {path:?} not found")]
    NotFound {
        /// As given.
        path: PathBuf,
    },
    /// A file, for example.
    #[error("unable to prepare context: {} is not a directory", path.display())]
    NotADirectory {
        /// As given.
        path: PathBuf,
    },
    /// The file system said no.
    #[error("unable to prepare context: cannot read {}", path.display())]
    Unreadable {
        /// As given.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// No Dockerfile.
    #[error("failed to read the Dockerfile: open {name}")]
    Dockerfile {
        /// As given.
        name: String,
        /// The reason.
        source: io::Error,
        /// Files in its directory that may have been meant.
        there: Vec<String>,
        /// What it is a symbolic link to.
        link: Option<PathBuf>,
    },
    /// Not a file that can be read as a whole.
    #[error("failed to read the Dockerfile: {name} is {what}")]
    NotAFile {
        /// As given.
        name: String,
        /// `a directory`.
        what: &'static str,
    },
    /// Larger than a Dockerfile can be.
    #[error("failed to read the Dockerfile: {name} has more than {limit} bytes")]
    TooLarge {
        /// As given.
        name: String,
        /// In bytes.
        limit: u64,
    },
    /// Standard input was asked for both.
    #[error("standard input can't be both the context and the Dockerfile")]
    BothStdin,
    /// A stream failed.
    #[error("cannot read the context from {name}")]
    Stream {
        /// `standard input`, or a URL.
        name: String,
        /// The reason.
        source: io::Error,
    },
    /// Nothing came.
    #[error("the context from {name} is empty: want a tar, or a Dockerfile")]
    Empty {
        /// `standard input`, or a URL.
        name: String,
    },
    /// An ignore file has a bad line.
    #[error("cannot use {file}")]
    Ignore {
        /// Which.
        file: String,
        /// Line and reason.
        source: IgnoreError,
    },
    /// An ignore file can't be read.
    #[error("cannot read {file}")]
    IgnoreFile {
        /// Which.
        file: String,
        /// The reason.
        source: io::Error,
    },
    /// Neither a tar nor text.
    #[error("the context from {name} is {what}: want a tar")]
    NotATar {
        /// `standard input`, or a URL.
        name: String,
        /// `a Dockerfile`.
        what: &'static str,
    },
    /// A tar can't be unpacked.
    #[error("cannot unpack the context from {name}")]
    Archive {
        /// `standard input`, or a URL.
        name: String,
        /// The reason.
        source: TreeError,
    },
    /// A repository can't be had.
    #[error(transparent)]
    Git(#[from] GitError),
    /// Not a URL of git.
    #[error("{text:?} is no git repository's URL")]
    GitUrl {
        /// As given.
        text: String,
    },
    /// A URL can't be had.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The store's `tmp/` can't be written to.
    #[error("cannot write {}", path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The store said no.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Explain for ContextError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NotFound { .. } => {
                "the last argument of build is the directory with the files to build from: `.` is the current one".to_owned()
            }
            Self::NotADirectory { .. } => {
                "give the directory as the context, and the Dockerfile with -f".to_owned()
            }
            Self::Dockerfile {
                link: Some(link), ..
            } => format!(
                "it is a symbolic link to {}, and links are followed within the context only: name the file itself with -f",
                link.display()
            ),
            Self::Dockerfile { there, source, .. } if source.kind() == io::ErrorKind::NotFound => {
                match there.as_slice() {
                    [] => "write one there, or name another with -f FILE".to_owned(),
                    [one] => format!("did you mean -f {one}?"),
                    several => format!("name one with -f: there are {}", several.join(", ")),
                }
            }
            Self::NotAFile { .. } => "name a file with -f FILE".to_owned(),
            Self::TooLarge { .. } => "is it a Dockerfile at all?".to_owned(),
            Self::BothStdin => "give the context as a directory or a URL".to_owned(),
            Self::Empty { .. } => "as in `tar -c . | rctr build -`".to_owned(),
            Self::Ignore { .. } => "write \\[ for the character [, and ! before a pattern".to_owned(),
            Self::IgnoreFile { .. } => {
                "make it a readable file, or remove it: files that it should leave out might get into the image".to_owned()
            }
            Self::Archive { source, .. } => return source.hint(),
            Self::Store(error) => return error.hint(),
            Self::Git(error) => return error.hint(),
            Self::Fetch(error) => return error.hint(),
            Self::NotATar { .. } => {
                "pipe in a tar, plain or compressed by gzip, bzip2, xz or zstd, or a Dockerfile without -f".to_owned()
            }
            Self::GitUrl { .. } => "write https://HOST/REPOSITORY.git#REFERENCE:DIRECTORY".to_owned(),
            Self::Dockerfile { .. }
            | Self::Unreadable { .. }
            | Self::Stream { .. }
            | Self::Write { .. } => return None,
        })
    }
}
