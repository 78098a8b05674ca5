//! Git repositories, by the program `git`.
//!
//! It is run with an environment of our choice: no questions, no hooks, nothing but the wanted commit where the server
//! allows that. What is in a repository isn't trusted: no filter or hook of its own can run, and a directory in it is
//! looked up with the checkout as `/`.

mod error;
#[cfg(test)]
mod tests;
mod url;

pub use error::GitError;
pub use url::GitUrl;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

/// Variables that make git ask nobody.
const QUIET: [(&str, &str); 5] = [
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GIT_ASKPASS", "false"),
    ("SSH_ASKPASS", "false"),
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("LC_ALL", "C"),
];
/// Settings that let nothing of the repository, and nothing in the background, run.
const SAFE: [&str; 6] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "init.templateDir=",
    "init.defaultBranch=main",
    "gc.auto=0",
    "maintenance.auto=false",
];
/// Whatever the user's umask is: modes become part of images.
const WITH_UMASK: &str = r#"umask 022; exec "$0" "$@""#;

/// How git is run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The program, a name or a path.
    pub program: PathBuf,
    /// Its whole environment, beside what makes it quiet: `PATH`, `HOME`, `SSH_AUTH_SOCK`, proxies.
    pub env: Vec<(OsString, OsString)>,
}

/// What was checked out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Its name, in full.
    pub id: String,
    /// The directory that the URL means: the checkout or one in it.
    pub root: PathBuf,
}

/// Checks the repository out to `dest`, where nothing is yet. Without `keep_git_dir`, `.git` is removed.
///
/// # Errors
/// When git isn't there or fails, or the URL's directory isn't there. What is at `dest` then is the caller's to remove.
pub fn checkout(
    url: &GitUrl,
    dest: &Path,
    keep_git_dir: bool,
    settings: &Settings,
) -> Result<Commit, GitError> {
    let git = Git {
        url,
        dest,
        settings,
    };
    git.run("prepare for", &["init", "--quiet", "."])?;
    let commit = git.fetch()?;
    git.run(
        "check out",
        &["checkout", "--quiet", "--force", "--detach", &commit],
    )?;
    if dest.join(".gitmodules").exists() {
        let update = [
            "submodule",
            "update",
            "--quiet",
            "--init",
            "--recursive",
            "--depth=1",
        ];
        git.run("get the submodules of", &update)?;
    }
    if !keep_git_dir {
        remove_git_dirs(dest).map_err(|source| git.io("remove .git of", source))?;
    }
    Ok(Commit {
        id: commit,
        root: git.subdirectory()?,
    })
}

struct Git<'a> {
    url: &'a GitUrl,
    dest: &'a Path,
    settings: &'a Settings,
}

impl Git<'_> {
    /// Gets the wanted commit, alone if possible, and returns its name.
    fn fetch(&self) -> Result<String, GitError> {
        let reference = self.url.reference.as_deref().unwrap_or("HEAD");
        let fetch = ["fetch", "--quiet", "--no-tags", "--update-head-ok"];
        let shallow = [
            &fetch[..],
            &["--depth=1", "--", &self.url.remote, reference],
        ]
        .concat();
        let error = match self.run("fetch", &shallow) {
            Ok(_) => return self.resolve("FETCH_HEAD"),
            Err(error) => error,
        };
        // A commit by a part of its name, or a server that gives out branches and tags only.
        let hex = reference.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !hex || !(4..=64).contains(&reference.len()) {
            return Err(error);
        }
        const ALL: [&str; 2] = [
            "+refs/heads/*:refs/remotes/origin/*",
            "+refs/tags/*:refs/tags/*",
        ];
        let all = [&fetch[..], &["--", &self.url.remote], &ALL].concat();
        self.run("fetch", &all)?;
        self.resolve(reference).map_err(|_| error)
    }

    fn resolve(&self, name: &str) -> Result<String, GitError> {
        let name = format!("{name}^{{commit}}");
        let output = self.run(
            "find the commit in",
            &["rev-parse", "--verify", "--quiet", &name],
        )?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn run(&self, what: &'static str, args: &[&str]) -> Result<Output, GitError> {
        fs::create_dir_all(self.dest).map_err(|source| self.io("prepare for", source))?;
        let program = self.program()?;
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(WITH_UMASK).arg(program);
        for setting in SAFE {
            command.args(["-c", setting]);
        }
        command
            .args(args)
            .current_dir(self.dest)
            .env_clear()
            .envs(self.settings.env.iter().map(|(name, value)| (name, value)))
            .envs(QUIET)
            .env("GIT_SSH_COMMAND", "ssh -o BatchMode=yes")
            .stdin(Stdio::null());
        let output = command.output().map_err(|source| self.io(what, source))?;
        match output.status.success() {
            true => Ok(output),
            false => Err(GitError::Failed {
                what,
                url: self.url.to_string(),
                message: last_words(&output.stderr),
            }),
        }
    }

    /// Where the program is, looked for in the `PATH` that it will have.
    fn program(&self) -> Result<PathBuf, GitError> {
        let program = &self.settings.program;
        if program.components().count() > 1 {
            return match program.exists() {
                true => Ok(program.clone()),
                false => Err(self.not_installed()),
            };
        }
        let path = self.settings.env.iter().find(|(name, _)| name == "PATH");
        let path = path.map_or(
            OsString::from("/usr/local/bin:/usr/bin:/bin"),
            |(_, value)| value.clone(),
        );
        let mut candidates = std::env::split_paths(&path).map(|dir| dir.join(program));
        let found = candidates.find(|file| file.is_file());
        found.ok_or_else(|| self.not_installed())
    }

    fn not_installed(&self) -> GitError {
        GitError::NotInstalled {
            url: self.url.to_string(),
        }
    }

    /// The directory in the checkout that the URL names.
    fn subdirectory(&self) -> Result<PathBuf, GitError> {
        let Some(name) = &self.url.directory else {
            return Ok(self.dest.to_owned());
        };
        let open = || {
            let top = File::open(self.dest)?;
            let how = OpenHow::new()
                .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
                .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
            let found = openat2(&top, name.as_str(), how)?;
            fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd()))
        };
        open().map_err(|source| GitError::Directory {
            url: self.url.to_string(),
            directory: name.clone(),
            source,
        })
    }

    fn io(&self, what: &'static str, source: io::Error) -> GitError {
        GitError::Io {
            what,
            url: self.url.to_string(),
            source,
        }
    }
}

/// The repository's own `.git`, and those of its submodules.
fn remove_git_dirs(dir: &Path) -> io::Result<()> {
    let modules = fs::read_to_string(dir.join(".gitmodules")).unwrap_or_default();
    rctr_storage::tree::remove_tree(&dir.join(".git"))?;
    let paths = modules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("path"));
    for path in paths.filter_map(|rest| rest.trim().strip_prefix('=')) {
        let inner = dir.join(path.trim());
        // Links and `..` could lead anywhere; git doesn't check such submodules out.
        let inside = inner.canonicalize().is_ok_and(|real| real == inner);
        if inside && inner.join(".git").exists() {
            remove_git_dirs(&inner)?;
        }
    }
    Ok(())
}

/// What git said in the end, without its prefixes.
fn last_words(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let fatal = lines
        .iter()
        .find(|line| line.starts_with("fatal: ") || line.starts_with("error: "));
    let line = fatal.or(lines.last()).copied().unwrap_or("it said nothing");
    let line = line
        .trim_start_matches("fatal: ")
        .trim_start_matches("error: ");
    line.chars().take(400).collect()
}
