//! What a request takes from the caller's surroundings: files that flags name, environment, directory.

use std::fs;
use std::path::{Path, PathBuf};

use rctr_storage::record::MountRequest;

use super::{RunRequest, mounts, values};
use crate::report::{ENGINE, Failure};

/// The caller's environment and directory.
pub(crate) struct Surroundings<'a> {
    /// The value of a variable.
    pub(crate) env: &'a dyn Fn(&str) -> Option<String>,
    /// The working directory.
    pub(crate) directory: &'a dyn Fn() -> std::io::Result<PathBuf>,
}

impl RunRequest {
    /// Reads env files, label files and a seccomp profile, takes `-e NAME` from the environment, makes paths absolute.
    ///
    /// # Errors
    /// A file that can't be read or is malformed.
    pub(crate) fn settle(&mut self, around: &Surroundings<'_>) -> Result<(), Failure> {
        self.env = settle_env(&self.env, &self.env_files, around)?;
        if !self.label_files.is_empty() {
            let mut labels = Vec::new();
            for file in &self.label_files {
                labels.extend(read_lines("label", file)?);
            }
            labels.append(&mut self.labels);
            self.labels = labels;
        }
        for request in self.mounts.iter_mut().chain(&mut self.host.mounts) {
            absolute(request, around)?;
        }
        for option in &mut self.host.security_opt {
            if let Some(file) = option
                .strip_prefix("seccomp=")
                .filter(|v| !matches!(*v, "unconfined" | "builtin" | "default"))
            {
                let text = fs::read_to_string(file).map_err(|source| {
                    refuse(format!("opening seccomp profile ({file}) failed"), &source)
                        .hint("give a profile's file, or seccomp=unconfined")
                })?;
                *option = format!("seccomp={text}");
            }
        }
        Ok(())
    }
}

/// The variables of `files`, then those of `words`; a word without `=` takes the caller's value, or is dropped when
/// the caller has none.
///
/// # Errors
/// A file that can't be read or is malformed.
pub(crate) fn settle_env(
    words: &[String],
    files: &[PathBuf],
    around: &Surroundings<'_>,
) -> Result<Vec<String>, Failure> {
    let mut env = Vec::new();
    let mut from_files = Vec::new();
    for file in files {
        from_files.extend(read_lines("environment", file)?);
    }
    for word in from_files.iter().chain(words) {
        if word.contains('=') {
            values::set_env(&mut env, word.clone());
        } else if let Some(value) = (around.env)(word) {
            values::set_env(&mut env, format!("{word}={value}"));
        }
    }
    Ok(env)
}

fn absolute(request: &mut MountRequest, around: &Surroundings<'_>) -> Result<(), Failure> {
    if request.kind != "bind" {
        return Ok(());
    }
    let path = if request.source.starts_with('.') {
        let directory = (around.directory)()
            .map_err(|source| refuse("cannot tell the current directory".to_owned(), &source))?;
        directory.join(&request.source)
    } else {
        PathBuf::from(&request.source)
    };
    request.source = mounts::clean(&path.to_string_lossy());
    Ok(())
}

fn read_lines(kind: &str, file: &Path) -> Result<Vec<String>, Failure> {
    let text = fs::read_to_string(file).map_err(|source| {
        refuse(
            format!("cannot read the {kind} file {}", file.display()),
            &source,
        )
        .hint("give a file with a line NAME=VALUE for each")
    })?;
    values::parse_lines(&text).map_err(|(line, why)| {
        Failure::new(format!(
            "invalid {kind} file {}: line {line}: {why}",
            file.display()
        ))
        .code(ENGINE)
    })
}

fn refuse(message: String, source: &std::io::Error) -> Failure {
    let mut failure = Failure::new(message).code(ENGINE);
    failure.causes.push(source.to_string());
    failure
}
