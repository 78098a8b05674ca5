//! Who we are to registries: `docker login`'s file and its helper programs, then the files of containers' tools.
//!
//! ```text
//! $DOCKER_CONFIG/config.json (~/.docker)            credHelpers > credsStore > auths
//! $REGISTRY_AUTH_FILE                               credHelpers > auths
//! $XDG_RUNTIME_DIR/containers/auth.json             "
//! ~/.config/containers/auth.json                    "
//! ```
//!
//! The first that knows the registry counts; in a file the longest key: `host/path/repository` before `host`. `login` and
//! `logout` change the first only, and nothing in it but the one entry.

mod file;
mod helper;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use rctr_storage::explain::Explain;

pub(crate) use file::Place;
use file::{AuthFile, Entry};
use helper::Helper;

use crate::report::Failure;

/// The key of Docker Hub, as `docker login` writes it: older than the registry's protocol.
pub(crate) const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// A user and a secret.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Login {
    /// `<token>` or empty: `secret` is an identity token.
    pub(crate) user: String,
    /// Never shown.
    pub(crate) secret: String,
}

impl Login {
    /// Whether the secret isn't a password but what a login gave in its place.
    pub(crate) fn is_token(&self) -> bool {
        self.user.is_empty() || self.user == helper::TOKEN
    }
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// Why credentials can't be had, kept or removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeysError {
    /// A file can't be read or written.
    #[error("cannot {operation} {}", path.display())]
    Io {
        operation: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    /// It isn't JSON.
    #[error("{} is no valid JSON", path.display())]
    Json {
        path: PathBuf,
        source: serde_json::Error,
    },
    /// It is JSON of another shape.
    #[error("{}: {what}", path.display())]
    Shape { path: PathBuf, what: String },
    /// A program did not do what was wanted.
    #[error("the credential helper {program} {what}")]
    Helper {
        program: String,
        what: String,
        hint: &'static str,
    },
}

impl Explain for KeysError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Io { .. } => "check the file's owner and mode".to_owned(),
            Self::Json { path, .. } | Self::Shape { path, .. } => format!(
                "mend {0}, or move it away (`mv {0} {0}.old`) and log in again; it was left as it is",
                path.display()
            ),
            Self::Helper { hint, .. } => (*hint).to_owned(),
        })
    }
}

/// Where credentials are, read when they are wanted.
#[derive(Debug)]
pub(crate) struct Keys {
    places: Vec<Place>,
    /// Where programs are looked up.
    path: String,
    /// Programs are asked once.
    answers: Mutex<BTreeMap<(String, String), Option<Login>>>,
}

impl Keys {
    /// As the environment says.
    pub(crate) fn new(get: impl Fn(&str) -> Option<OsString>) -> Self {
        let dir = |name: &str| {
            get(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let home = dir("HOME");
        let below = |path: &str| home.as_ref().map(|home| home.join(path));
        let docker = dir("DOCKER_CONFIG").or_else(|| below(".docker"));
        let config = dir("XDG_CONFIG_HOME").or_else(|| below(".config"));
        let containers = [dir("XDG_RUNTIME_DIR"), config].into_iter().flatten();
        let containers = containers.map(|dir| dir.join("containers/auth.json"));
        let files = dir("REGISTRY_AUTH_FILE").into_iter().chain(containers);
        let docker = docker.map(|dir| Place::docker(dir.join("config.json")));
        Self {
            places: docker
                .into_iter()
                .chain(files.map(Place::containers))
                .collect(),
            path: get("PATH")
                .map(|p| p.to_string_lossy().into_owned())
                .unwrap_or_default(),
            answers: Mutex::default(),
        }
    }

    /// The credentials for `repository` (may be empty) of `registry` (`docker.io`, `host[:port]`).
    ///
    /// # Errors
    /// A damaged file; a program that fails. That there are none is no error.
    pub(crate) fn login(
        &self,
        registry: &str,
        repository: &str,
    ) -> Result<Option<Login>, KeysError> {
        for place in &self.places {
            let Some(file) = AuthFile::read(place)? else {
                continue;
            };
            let found = match file.find(registry, repository)? {
                Some(Entry::Login(login)) => Some(login),
                Some(Entry::Helper(name, key)) => self.ask(name, key)?,
                None => None,
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Asks programs now, as the user's own processes: in a user namespace they would not find their owner again.
    ///
    /// # Errors
    /// As [`login`](Self::login).
    pub(crate) fn prefetch(&self, registry: &str, repository: &str) -> Result<(), KeysError> {
        self.login(registry, repository).map(drop)
    }

    fn ask(&self, name: String, key: String) -> Result<Option<Login>, KeysError> {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let question = (name, key);
        if let Some(answer) = answers.get(&question) {
            return Ok(answer.clone());
        }
        let answer = Helper::new(&question.0, &self.path).get(&question.1)?;
        answers.insert(question, answer.clone());
        Ok(answer)
    }

    /// Keeps credentials; the result is the file that has them readable, if no program has them.
    ///
    /// # Errors
    /// When they can't be kept.
    pub(crate) fn store(&self, key: &str, login: &Login) -> Result<Option<PathBuf>, Failure> {
        let place = self.own()?;
        let mut file = AuthFile::read(place)?.unwrap_or_else(|| AuthFile::empty(place));
        let helper = file.helper(key)?;
        match &helper {
            Some(name) => {
                Helper::new(name, &self.path).store(key, login)?;
                // As docker does it: `logout` sees whom it was logged in to.
                file.set(key, None)?;
            }
            None => file.set(key, Some(login))?,
        }
        file.write()?;
        Ok(helper.is_none().then(|| place.path.clone()))
    }

    /// Forgets credentials; whether there were any.
    ///
    /// # Errors
    /// When they can't be removed.
    pub(crate) fn erase(&self, key: &str) -> Result<bool, Failure> {
        let place = self.own()?;
        let Some(mut file) = AuthFile::read(place)? else {
            return Ok(false);
        };
        let mut was_there = file.remove(key);
        if let Some(name) = file.helper(key)? {
            let helper = Helper::new(&name, &self.path);
            if helper.get(key)?.is_some() {
                helper.erase(key)?;
                was_there = true;
            }
        }
        if was_there {
            file.write()?;
        }
        Ok(was_there)
    }

    /// Another file that still has credentials for `key`.
    pub(crate) fn elsewhere(&self, key: &str) -> Option<PathBuf> {
        let has = |place: &&Place| {
            // A damaged one is told when it is needed.
            let file = AuthFile::read(place).ok().flatten();
            file.is_some_and(|file| matches!(file.find(key, ""), Ok(Some(_))))
        };
        self.places
            .iter()
            .skip(1)
            .find(has)
            .map(|place| place.path.clone())
    }

    fn own(&self) -> Result<&Place, Failure> {
        self.places
            .first()
            .filter(|place| place.is_docker())
            .ok_or_else(|| {
                Failure::new("cannot tell where credentials are kept: HOME is not set")
                    .hint("set HOME or DOCKER_CONFIG to an absolute path")
            })
    }
}

/// The key that a registry's credentials stand under, as docker writes it.
pub(crate) fn key_of(registry: &str) -> String {
    match registry {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => DOCKER_HUB.to_owned(),
        other => other.to_owned(),
    }
}

/// `host[:port][/path]` of what people type or files have: schemes, the version and a slash at the end mean nothing.
pub(crate) fn plain(key: &str) -> &str {
    let rest = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"));
    let rest = rest.unwrap_or(key).trim_end_matches('/');
    let rest = rest
        .strip_suffix("/v1")
        .or_else(|| rest.strip_suffix("/v2"))
        .unwrap_or(rest);
    match rest {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        other => other,
    }
}

#[cfg(test)]
mod tests;
