//! What names a repository: a URL, and behind `#` a reference and a directory.

use std::fmt;
use std::path::Path;

use rctr_storage::web::without_password;

/// `https://host/repo.git#REFERENCE:DIRECTORY` and the like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitUrl {
    /// As git takes it.
    pub remote: String,
    /// A branch, a tag or a commit; `None`: the default branch.
    pub reference: Option<String>,
    /// Below the top; `None`: the top.
    pub directory: Option<String>,
}

impl GitUrl {
    /// `None`: it isn't one. `git://`, `ssh://`, `file://`, `git@host:path`, `github.com/…`, http(s) URLs that end in
    /// `.git`, and so do paths, where a repository must be.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (remote, fragment) = text.split_once('#').unwrap_or((text, ""));
        let remote = remote_of(remote)?;
        let (reference, directory) = fragment.split_once(':').unwrap_or((fragment, ""));
        // An option to git isn't a reference.
        if reference.starts_with('-')
            || reference.contains(|c: char| c.is_whitespace() || c.is_control())
        {
            return None;
        }
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let directory = directory.trim_matches('/');
        Some(Self {
            remote,
            reference: some(reference),
            directory: some(directory).filter(|directory| directory != "."),
        })
    }
}

/// `None`: not of git.
fn remote_of(text: &str) -> Option<String> {
    let of_git = text.ends_with(".git") || text.ends_with(".git/");
    let scheme = text.split_once("://").map(|(scheme, _)| scheme);
    match scheme {
        Some("git" | "ssh" | "file") => Some(text.to_owned()),
        Some("http" | "https") => of_git.then(|| text.to_owned()),
        Some(_) => None,
        None if text.starts_with("github.com/") => Some(format!("https://{text}")),
        None if is_scp(text) => Some(text.to_owned()),
        // The directory `x.git` may be meant as a directory: only what can't be a context is a repository.
        None => {
            let path = Path::new(text);
            let bare = path.join("HEAD").is_file() && path.join("objects").is_dir();
            (of_git && bare).then(|| absolute(path)).flatten()
        }
    }
}

/// `git@host:path`.
fn is_scp(text: &str) -> bool {
    text.strip_prefix("git@").is_some_and(|rest| {
        let host = rest.split_once(':').map_or("", |(host, _)| host);
        !host.is_empty() && !host.starts_with('-') && !host.contains('/')
    })
}

/// git runs in another directory.
fn absolute(path: &Path) -> Option<String> {
    path.canonicalize()
        .ok()?
        .into_os_string()
        .into_string()
        .ok()
}

impl fmt::Display for GitUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&without_password(&self.remote))?;
        match (&self.reference, &self.directory) {
            (None, None) => Ok(()),
            (Some(reference), None) => write!(f, "#{reference}"),
            (reference, Some(directory)) => {
                write!(
                    f,
                    "#{}:{directory}",
                    reference.as_deref().unwrap_or_default()
                )
            }
        }
    }
}
