//! From where the user points to, to files that can be read.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rctr_storage::Store;

use super::read::{self, Beside};
use super::{Context, ContextError, ContextSource, DockerfileSource, FileHashes};

/// What is outside of the builder.
pub struct Surroundings<'a> {
    /// Standard input.
    pub stdin: &'a mut dyn Read,
}

/// Opens a context. Returns it, the Dockerfile's bytes, and how the Dockerfile is called in messages.
///
/// Trees from a stream are unpacked with the owner of this process.
///
/// # Errors
/// When the context, the Dockerfile or the ignore file can't be read.
pub fn open(
    source: &ContextSource,
    dockerfile: &DockerfileSource,
    store: &Store,
    around: &mut Surroundings<'_>,
) -> Result<(Context, Vec<u8>, String), ContextError> {
    match source {
        ContextSource::Directory(path) => {
            let root = directory(path)?;
            let place = Place {
                hashes: FileHashes::open(store, &root),
                root,
                name: path.display().to_string(),
            };
            place.finish(dockerfile, around)
        }
    }
}

/// Files that are there, without what says how to use them.
struct Place {
    root: PathBuf,
    name: String,
    hashes: FileHashes,
}

impl Place {
    fn finish(
        self,
        dockerfile: &DockerfileSource,
        around: &mut Surroundings<'_>,
    ) -> Result<(Context, Vec<u8>, String), ContextError> {
        let (bytes, shown, beside) = match dockerfile {
            DockerfileSource::InContext(name) => {
                let bytes = read::in_context(&self.root, name)?;
                let beside = Beside::InContext(format!("{name}.dockerignore"));
                (bytes, name.clone(), Some(beside))
            }
            DockerfileSource::File(path) => {
                let bytes = read::on_host(path)?;
                let mut beside = path.clone().into_os_string();
                beside.push(".dockerignore");
                let beside = Beside::OnHost(beside.into());
                (bytes, path.display().to_string(), Some(beside))
            }
            DockerfileSource::Stdin => (stdin_dockerfile(around)?, "Dockerfile".to_owned(), None),
        };
        let (ignore, ignore_file) = read::ignore(&self.root, beside)?;
        let context = Context {
            root: self.root,
            ignore,
            ignore_file,
            name: self.name,
            hashes: self.hashes,
        };
        Ok((context, bytes, shown))
    }
}

fn stdin_dockerfile(around: &mut Surroundings<'_>) -> Result<Vec<u8>, ContextError> {
    let fail = |source| ContextError::Stdin { source };
    read::whole(&mut *around.stdin, "standard input", fail)
}

/// The directory at `path`, by its absolute path without links: what is remembered of it is found by that.
pub(super) fn directory(path: &Path) -> Result<PathBuf, ContextError> {
    let fail = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => ContextError::NotFound {
            path: path.to_owned(),
        },
        io::ErrorKind::NotADirectory => ContextError::NotADirectory {
            path: path.to_owned(),
        },
        _ => ContextError::Unreadable {
            path: path.to_owned(),
            source,
        },
    };
    let root = fs::canonicalize(path).map_err(fail)?;
    // Reads nothing yet: it tells whether it can be read, and whether it is a directory.
    fs::read_dir(&root).map_err(fail)?;
    Ok(root)
}

#[cfg(test)]
#[path = "open_tests.rs"]
mod tests;
