//! What ADD fetches: once a build, before its key can be told.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use rctr_storage::Store;
use rctr_storage::digest::Digest;
use rctr_storage::explain::Explain;

use crate::copy::{Remote, RemoteFile};
use crate::fetch;
use crate::git::{self, GitUrl};
use crate::plan::{CopyStep, PlannedSource};
use crate::tracker::Vertex;

/// All that was fetched, by source.
pub struct Remotes<'a> {
    /// The web.
    pub web: &'a fetch::Client,
    /// The program git.
    pub git: &'a git::Settings,
    fetched: Mutex<HashMap<Wanted, Remote>>,
}

/// The source's word, the checksum and whether .git is kept.
type Wanted = (String, Option<String>, bool);

/// Why something can't be fetched.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct RemoteError {
    message: String,
    hint: Option<String>,
}

impl Explain for RemoteError {
    fn hint(&self) -> Option<String> {
        self.hint.clone()
    }
}

impl RemoteError {
    fn of(error: &(impl Explain + ?Sized)) -> Self {
        Self {
            message: super::step::causes(error),
            hint: error.hint(),
        }
    }

    fn new(message: impl Into<String>) -> Self {
        let (message, hint) = (message.into(), None);
        Self { message, hint }
    }
}

impl<'a> Remotes<'a> {
    /// Nothing is fetched yet.
    #[must_use]
    pub fn new(web: &'a fetch::Client, git: &'a git::Settings) -> Self {
        let fetched = Mutex::default();
        Self { web, git, fetched }
    }

    /// The remote sources of a step, in their order.
    pub(super) fn of(
        &self,
        step: &CopyStep,
        store: &Store,
        vertex: &Vertex,
    ) -> Result<Vec<Remote>, RemoteError> {
        let mut remotes = Vec::new();
        for source in &step.sources {
            let (PlannedSource::Url(word) | PlannedSource::Git(word)) = source else {
                continue;
            };
            let key = (word.clone(), step.checksum.clone(), step.keep_git_dir);
            let fetched = || self.fetched.lock().unwrap_or_else(PoisonError::into_inner);
            let known = fetched().get(&key).cloned();
            let remote = match (known, source) {
                (Some(remote), _) => remote,
                (None, PlannedSource::Url(url)) => self.get(url, step, store, vertex)?,
                (None, _) => self.check_out(word, step, store)?,
            };
            fetched().insert(key, remote.clone());
            remotes.push(remote);
        }
        Ok(remotes)
    }

    fn get(
        &self,
        url: &str,
        step: &CopyStep,
        store: &Store,
        vertex: &Vertex,
    ) -> Result<Remote, RemoteError> {
        let expected: Option<Digest> = match &step.checksum {
            None => None,
            Some(text) => Some(text.parse().map_err(|e| RemoteError::of(&e))?),
        };
        let path = store.temp_path("url").map_err(|e| RemoteError::of(&e))?;
        let part = vertex.part(format!("fetching {url}"));
        let mut shown = |current, total: Option<u64>| part.progress(current, total.unwrap_or(0));
        let fetched = self
            .web
            .get(url, expected, &path, &mut shown)
            .map_err(|e| RemoteError::of(&e))?;
        part.completed(fetched.bytes);
        Ok(Remote::File(RemoteFile {
            path,
            name: fetched.file_name,
            digest: fetched.digest,
            last_modified: fetched.last_modified,
        }))
    }

    fn check_out(&self, word: &str, step: &CopyStep, store: &Store) -> Result<Remote, RemoteError> {
        let url = GitUrl::parse(word)
            .ok_or_else(|| RemoteError::new(format!("invalid git URL: {word:?}")))?;
        let path = store.temp_path("git").map_err(|e| RemoteError::of(&e))?;
        let commit = git::checkout(&url, &path, step.keep_git_dir, self.git)
            .map_err(|e| RemoteError::of(&e))?;
        match &step.checksum {
            Some(wanted) if !commit.id.starts_with(wanted.as_str()) => {
                Err(RemoteError::new(format!(
                    "expected commit checksum {wanted} of {word}, got {}",
                    commit.id
                )))
            }
            _ => Ok(Remote::Tree(commit.root)),
        }
    }
}
