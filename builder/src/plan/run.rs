//! RUN: what is executed, and how history tells it.

use std::collections::HashSet;
use std::path::PathBuf;

use rctr_storage::config::ContainerConfig;

use super::config;
use super::scope::Variables;
use super::types::HeredocFile;
use crate::dockerfile::{CommandLine, RunInstruction};

/// Where heredocs that are scripts of their own are shown to the process.
const PIPES: &str = "/dev/pipes";

/// What is executed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Command {
    /// With the shell, if there is one.
    pub(super) argv: Vec<String>,
    pub(super) files: Vec<HeredocFile>,
}

/// The command as BuildKit makes it.
///
/// A RUN that is nothing but a heredoc is a script: of its own interpreter if it begins with `#!`, else of the stage's
/// shell. Any other heredoc is put behind the line again, for the shell to deal with.
///
/// # Errors
/// One sentence.
pub(super) fn command(config: &ContainerConfig, run: &RunInstruction) -> Result<Command, String> {
    let mut files = Vec::new();
    let argv = match &run.command {
        CommandLine::Exec(words) if words.iter().all(String::is_empty) => {
            return Err("RUN requires at least one argument".to_owned());
        }
        CommandLine::Exec(words) if run.heredocs.is_empty() => words.clone(),
        CommandLine::Exec(_) => {
            return Err("a heredoc needs the shell form of RUN".to_owned());
        }
        CommandLine::Shell(line) => {
            let script = match run.heredocs.as_slice() {
                [] => line.clone(),
                [heredoc] if is_heredoc_word(line) && heredoc.content.starts_with("#!") => {
                    let path = PathBuf::from(PIPES).join(&heredoc.name);
                    let script = path.display().to_string();
                    let content = heredoc.content.clone();
                    files.push(HeredocFile { path, content });
                    script
                }
                [heredoc] if is_heredoc_word(line) => heredoc.content.clone(),
                heredocs => {
                    let mut script = line.clone();
                    for heredoc in heredocs {
                        script.push_str(&format!("\n{}{}", heredoc.content, heredoc.name));
                    }
                    script
                }
            };
            config::in_shell(config, &script)
        }
    };
    Ok(Command { argv, files })
}

/// Whether the line is one word `<<NAME`, `<<-"NAME"` or `3<<NAME`.
fn is_heredoc_word(line: &str) -> bool {
    let line = line.trim();
    let rest = line.trim_start_matches(|c: char| c.is_ascii_digit());
    let Some(word) = rest.strip_prefix("<<") else {
        return false;
    };
    let word = word.strip_prefix('-').unwrap_or(word);
    let quoted = |quote: char| {
        let inner = word
            .strip_prefix(quote)
            .and_then(|word| word.strip_suffix(quote));
        inner.is_some_and(|inner| !inner.is_empty() && !inner.contains(quote))
    };
    let plain =
        |c: char| !c.is_whitespace() && !matches!(c, '<' | '>' | '|' | '&' | ';' | '"' | '\'');
    quoted('"') || quoted('\'') || (!word.is_empty() && word.chars().all(plain))
}

/// How history tells it, in BuildKit's words: the ARGs in scope with their values, the command.
pub(super) fn created_by(
    argv: &[String],
    arguments: &[(String, Option<String>)],
    variables: &Variables,
) -> String {
    let mut seen = HashSet::new();
    let mut shown: Vec<(&str, &str)> = Vec::new();
    for (name, value) in arguments {
        let value = variables.get(name).or(value.as_deref()).unwrap_or_default();
        if seen.insert(name) {
            shown.push((name, value));
        }
    }
    let mut out = "RUN ".to_owned();
    if !shown.is_empty() {
        out.push_str(&format!("|{} ", shown.len()));
        for (name, value) in &shown {
            out.push_str(&format!("{name}={value} "));
        }
    }
    format!("{out}{} # buildkit", argv.join(" "))
}

/// The first line of a heredoc's script, as progress shows it behind the command.
pub(super) fn summary(run: &RunInstruction) -> Option<String> {
    let CommandLine::Shell(line) = &run.command else {
        return None;
    };
    let [heredoc] = run.heredocs.as_slice() else {
        return None;
    };
    let script = heredoc.content.trim();
    let first = script.lines().next().unwrap_or_default();
    let more = if script.contains('\n') { "..." } else { "" };
    is_heredoc_word(line).then(|| format!("({first}{more})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heredoc_words() {
        for word in ["<<EOF", " <<-EOF ", "<<\"EOF\"", "<<'E F'", "3<<EOF"] {
            assert!(is_heredoc_word(word), "{word}");
        }
        for line in [
            "<<EOF cat",
            "cat <<EOF",
            "<<",
            "<<A <<B",
            "<<EOF>x",
            "<<\"EOF",
            "<<<EOF",
        ] {
            assert!(!is_heredoc_word(line), "{line}");
        }
    }
}
