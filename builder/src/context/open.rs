//! From where the user points to, to files that can be read.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rctr_storage::Store;
use rctr_storage::web::without_password;

use super::archive;
use super::read::{self, Beside};
use super::{Context, ContextError, ContextSource, DockerfileSource, FileHashes, Temporary};
use crate::fetch;
use crate::git::{self, GitUrl};

/// What is outside of the builder.
pub struct Surroundings<'a> {
    /// Standard input.
    pub stdin: &'a mut (dyn Read + Send),
    /// The web.
    pub web: &'a fetch::Client,
    /// The program git.
    pub git: &'a git::Settings,
    /// Gets the bytes fetched so far, and how many there will be.
    pub progress: &'a mut dyn FnMut(u64, Option<u64>),
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
    let files = match source {
        ContextSource::Directory(path) => {
            let root = directory(path)?;
            Files {
                hashes: FileHashes::open(store, &root),
                ..Files::at(root, path.display().to_string())
            }
        }
        ContextSource::Stdin if *dockerfile == DockerfileSource::Stdin => {
            return Err(ContextError::BothStdin);
        }
        ContextSource::Stdin => {
            from_stream(&mut *around.stdin, "standard input", dockerfile, store)?
        }
        ContextSource::Git(text) => from_git(text, store, around)?,
        ContextSource::Http(url) => from_web(url, dockerfile, store, around)?,
    };
    files.open(dockerfile, around)
}

/// Files that are there, without what says how to use them.
struct Files {
    root: PathBuf,
    name: String,
    hashes: FileHashes,
    commit: Option<String>,
    temporary: Option<Temporary>,
    /// What came in place of a context.
    dockerfile: Option<Vec<u8>>,
}

impl Files {
    fn at(root: PathBuf, name: String) -> Self {
        Self {
            hashes: FileHashes::forgetful(&root),
            root,
            name,
            commit: None,
            temporary: None,
            dockerfile: None,
        }
    }

    fn open(
        mut self,
        dockerfile: &DockerfileSource,
        around: &mut Surroundings<'_>,
    ) -> Result<(Context, Vec<u8>, String), ContextError> {
        let (bytes, shown, beside) = match (self.dockerfile.take(), dockerfile) {
            (Some(bytes), _) => (bytes, "Dockerfile".to_owned(), None),
            (None, DockerfileSource::InContext(name)) => {
                let bytes = read::in_context(&self.root, name)?;
                let beside = Beside::InContext(format!("{name}.dockerignore"));
                (bytes, name.clone(), Some(beside))
            }
            (None, DockerfileSource::File(path)) => {
                let bytes = read::on_host(path)?;
                let mut beside = path.clone().into_os_string();
                beside.push(".dockerignore");
                let beside = Beside::OnHost(beside.into());
                (bytes, path.display().to_string(), Some(beside))
            }
            (None, DockerfileSource::Stdin) => {
                (stdin_dockerfile(around)?, "Dockerfile".to_owned(), None)
            }
        };
        let (ignore, ignore_file) = read::ignore(&self.root, beside)?;
        let context = Context {
            root: self.root,
            ignore,
            ignore_file,
            name: self.name,
            hashes: self.hashes,
            commit: self.commit,
            _temporary: self.temporary,
        };
        Ok((context, bytes, shown))
    }
}

/// A tar, or a Dockerfile alone.
fn from_stream(
    input: &mut (dyn Read + Send),
    name: &str,
    dockerfile: &DockerfileSource,
    store: &Store,
) -> Result<Files, ContextError> {
    let root = store.temp_path("context")?;
    let temporary = Temporary(root.clone());
    fs::create_dir(&root).map_err(|source| ContextError::Write {
        path: root.clone(),
        source,
    })?;
    let text = archive::unpack_or_read(input, name, &root)?;
    if text.is_some() && !matches!(dockerfile, DockerfileSource::InContext(_)) {
        return Err(ContextError::NotATar {
            name: name.to_owned(),
            what: "a Dockerfile",
        });
    }
    Ok(Files {
        temporary: Some(temporary),
        dockerfile: text,
        ..Files::at(root, name.to_owned())
    })
}

fn from_git(
    text: &str,
    store: &Store,
    around: &mut Surroundings<'_>,
) -> Result<Files, ContextError> {
    let url = GitUrl::parse(text).ok_or_else(|| ContextError::GitUrl {
        text: text.to_owned(),
    })?;
    let dest = store.temp_path("git")?;
    let temporary = Temporary(dest.clone());
    let commit = git::checkout(&url, &dest, false, around.git)?;
    Ok(Files {
        temporary: Some(temporary),
        commit: Some(commit.id),
        ..Files::at(commit.root, url.to_string())
    })
}

fn from_web(
    url: &str,
    dockerfile: &DockerfileSource,
    store: &Store,
    around: &mut Surroundings<'_>,
) -> Result<Files, ContextError> {
    let path = store.temp_path("fetched")?;
    around.web.get(url, None, &path, around.progress)?;
    // Only as long as it is read.
    let fetched = Temporary(path.clone());
    let mut file = fs::File::open(&path).map_err(|source| ContextError::Write { path, source })?;
    let files = from_stream(&mut file, &without_password(url), dockerfile, store);
    drop(fetched);
    files
}

fn stdin_dockerfile(around: &mut Surroundings<'_>) -> Result<Vec<u8>, ContextError> {
    let name = "standard input";
    read::whole(&mut *around.stdin, name, |source| ContextError::Stream {
        name: name.to_owned(),
        source,
    })
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
