//! Why a repository can't be had.

use std::io;

use rctr_storage::explain::Explain;

/// Why a repository can't be had. URLs are shown without passwords.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// No program.
    #[error("cannot get {url}: the program git isn't installed")]
    NotInstalled {
        /// Which repository.
        url: String,
    },
    /// git says no.
    #[error("cannot {what} {url}: {message}")]
    Failed {
        /// `fetch`, `check out`.
        what: &'static str,
        /// Which repository.
        url: String,
        /// git's own words.
        message: String,
    },
    /// It can't be run, or the file system said no.
    #[error("cannot {what} {url}")]
    Io {
        /// `fetch`, `check out`.
        what: &'static str,
        /// Which repository.
        url: String,
        /// The reason.
        source: io::Error,
    },
    /// The directory in the URL isn't in the repository.
    #[error("cannot use {url}: directory {directory} of the repository")]
    Directory {
        /// Which repository.
        url: String,
        /// As given.
        directory: String,
        /// The reason.
        source: io::Error,
    },
}

impl Explain for GitError {
    fn hint(&self) -> Option<String> {
        let message = match self {
            Self::NotInstalled { .. } => {
                return Some(
                    "install git, or get the files yourself and build from the directory"
                        .to_owned(),
                );
            }
            Self::Directory { .. } => {
                return Some(
                    "it is given behind the reference: URL#REFERENCE:DIRECTORY".to_owned(),
                );
            }
            Self::Io { .. } => return None,
            Self::Failed { message, .. } => message,
        };
        let says = |words: &str| message.contains(words);
        let hint = if says("couldn't find remote ref") || says("not our ref") {
            "there is no such branch, tag or commit: URL#REFERENCE:DIRECTORY"
        } else if says("could not read Username")
            || says("Authentication failed")
            || says("terminal prompts disabled")
        {
            "there is no such repository, or it isn't public: give git a credential helper, or use git@HOST:PATH with an SSH agent"
        } else if says("Permission denied (publickey") || says("Host key verification") {
            "SSH must work without questions: try `ssh -o BatchMode=yes git@HOST`, with the key in ssh-agent and the host in known_hosts"
        } else if says("Could not resolve host") || says("Failed to connect") {
            "check the name and the network; behind a proxy, set HTTPS_PROXY"
        } else if says("dubious ownership") {
            "the repository belongs to somebody else: see safe.directory in git-config(1)"
        } else if says("does not appear to be a git repository") || says("not found") {
            "check the URL's spelling"
        } else {
            return None;
        };
        Some(hint.to_owned())
    }
}
