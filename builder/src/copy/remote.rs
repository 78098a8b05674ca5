//! Sources of ADD that come from elsewhere. They are there before the step's key is made: the key is of their content.

use std::fs::File;
use std::path::PathBuf;

use rctr_storage::digest::Digest;

/// A source that was fetched.
#[derive(Debug, Clone)]
pub enum Remote {
    /// What a URL gave.
    File(RemoteFile),
    /// The directory that a repository was checked out to.
    Tree(PathBuf),
}

/// A fetched file.
#[derive(Debug, Clone)]
pub struct RemoteFile {
    /// Where it is.
    pub path: PathBuf,
    /// What it is called in a destination directory.
    pub name: String,
    /// Of its content; verified.
    pub digest: Digest,
    /// Its time in the image, in seconds since 1970; `None`: now.
    pub last_modified: Option<i64>,
}

impl RemoteFile {
    pub(super) fn open(&self) -> std::io::Result<File> {
        File::open(&self.path)
    }
}
