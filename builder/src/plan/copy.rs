//! COPY and ADD: from words to sources and a destination.

use rctr_storage::digest::Digest;

use super::text;
use super::types::{CopyFrom, CopyStep, PlannedSource};
use crate::dockerfile::{CopyInstruction, CopySource};

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Add,
    Copy,
}

/// Makes a step of an instruction whose words are expanded. `cwd`: absolute.
///
/// # Errors
/// One sentence, and what to do.
pub(super) fn step(
    kind: Kind,
    copy: &CopyInstruction,
    from: CopyFrom,
    cwd: &str,
) -> Result<CopyStep, (String, Option<String>)> {
    if let Some(mode) = copy.chmod.as_deref().filter(|mode| !mode.is_empty()) {
        check_mode(mode)?;
    }
    let sources = sources(kind, copy)?;
    check_checksum(copy, &sources)?;
    Ok(CopyStep {
        sources,
        from,
        destination: destination(&copy.destination, cwd),
        chown: copy.chown.clone().filter(|owner| !owner.is_empty()),
        chmod: copy.chmod.clone().filter(|mode| !mode.is_empty()),
        link: copy.link,
        parents: copy.parents,
        exclude: copy.exclude.clone(),
        checksum: copy
            .checksum
            .clone()
            .filter(|checksum| !checksum.is_empty()),
        keep_git_dir: copy.keep_git_dir,
        unpack_local: kind == Kind::Add && copy.unpack != Some(false),
        unpack_remote: kind == Kind::Add && copy.unpack == Some(true),
    })
}

fn sources(
    kind: Kind,
    copy: &CopyInstruction,
) -> Result<Vec<PlannedSource>, (String, Option<String>)> {
    let only_add = |what: &str| {
        let message = format!("source can't be a {what} for COPY");
        Err((message, Some("use ADD for it".to_owned())))
    };
    let mut sources = Vec::new();
    for source in &copy.sources {
        sources.push(match source {
            CopySource::Heredoc(heredoc) => PlannedSource::Inline {
                name: heredoc.name.clone(),
                content: heredoc.content.clone(),
            },
            CopySource::Path(path) if is_git(path) && kind == Kind::Copy => {
                return only_add("git ref");
            }
            CopySource::Path(path) if is_git(path) => PlannedSource::Git(path.clone()),
            CopySource::Path(path) if is_http(path) && kind == Kind::Copy => {
                return only_add("URL");
            }
            CopySource::Path(path) if is_http(path) => PlannedSource::Url(path.clone()),
            CopySource::Path(path) => PlannedSource::Path(path.clone()),
        });
    }
    Ok(sources)
}

/// Absolute; with a slash at its end if it is meant as a directory.
fn destination(written: &str, cwd: &str) -> String {
    let is_directory = matches!(written, "" | "." | "..")
        || written.ends_with('/')
        || written.ends_with("/.")
        || written.ends_with("/..");
    let path = text::within(cwd, written);
    if is_directory && path != "/" {
        format!("{path}/")
    } else {
        path
    }
}

fn is_http(source: &str) -> bool {
    source.starts_with("http://") || source.starts_with("https://")
}

/// `git://…`, `ssh://…`, `git@host:path`, `https://….git[#ref]`.
fn is_git(source: &str) -> bool {
    if source.starts_with("git://") || source.starts_with("ssh://") {
        return true;
    }
    if is_http(source) {
        let path = source.split(['#', '?']).next().unwrap_or_default();
        return path.ends_with(".git");
    }
    is_scp_style(source)
}

/// `user@host:path`, as git and scp write it.
fn is_scp_style(source: &str) -> bool {
    let Some((user, rest)) = source.split_once('@') else {
        return false;
    };
    let word = |text: &str| {
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        !text.is_empty() && text.bytes().all(good)
    };
    let Some((host, path)) = rest.split_once(':') else {
        return false;
    };
    word(user) && word(host) && !path.is_empty()
}

/// Octal up to 7777, or chmod(1)'s symbolic form.
fn check_mode(mode: &str) -> Result<(), (String, Option<String>)> {
    let octal = mode.bytes().all(|b| b.is_ascii_digit());
    let good = if octal {
        u32::from_str_radix(mode, 8).is_ok_and(|mode| mode <= 0o7777)
    } else {
        mode.split(',').all(is_symbolic_clause)
    };
    if good {
        return Ok(());
    }
    let message = format!(
        "invalid chmod parameter: '{mode}'. it should be octal string and between 0 and 07777"
    );
    let hint = "write for example --chmod=755 or --chmod=u=rwX,go=rX";
    Err((message, Some(hint.to_owned())))
}

/// `[ugoa]*([-+=]([rwxXst]*|[ugo]))+`.
fn is_symbolic_clause(clause: &str) -> bool {
    let actions = clause.trim_start_matches(['u', 'g', 'o', 'a']);
    if !actions.starts_with(['-', '+', '=']) {
        return false;
    }
    actions.split(['-', '+', '=']).all(|permissions| {
        matches!(permissions, "u" | "g" | "o")
            || permissions
                .chars()
                .all(|c| matches!(c, 'r' | 'w' | 'x' | 'X' | 's' | 't'))
    })
}

/// ADD --checksum fits one remote source, and is a digest (or, for git, a commit).
fn check_checksum(
    copy: &CopyInstruction,
    sources: &[PlannedSource],
) -> Result<(), (String, Option<String>)> {
    let Some(checksum) = copy
        .checksum
        .as_deref()
        .filter(|checksum| !checksum.is_empty())
    else {
        return Ok(());
    };
    let good = match sources {
        [PlannedSource::Url(_)] => checksum.parse::<Digest>().is_ok(),
        [PlannedSource::Git(_)] => {
            (7..=64).contains(&checksum.len()) && checksum.bytes().all(|b| b.is_ascii_hexdigit())
        }
        [_] => return Err(("checksum requires HTTP(S) or Git sources".to_owned(), None)),
        _ => {
            return Err((
                "checksum can't be specified for multiple sources".to_owned(),
                None,
            ));
        }
    };
    if good {
        return Ok(());
    }
    let hint = "want sha256: and 64 hexadecimal digits, or for git a commit's digits";
    Err((
        format!("invalid checksum {checksum:?}"),
        Some(hint.to_owned()),
    ))
}

/// How history tells it, in BuildKit's words.
pub(super) fn created_by(kind: Kind, copy: &CopyInstruction) -> String {
    let mut out = match kind {
        Kind::Add => "ADD".to_owned(),
        Kind::Copy => "COPY".to_owned(),
    };
    let flag = |name: &str, value: &Option<String>| match value.as_deref() {
        None | Some("") => String::new(),
        Some(value) => format!(" --{name}={value}"),
    };
    if copy.parents {
        out.push_str(" --parents");
    }
    out.push_str(&flag("chown", &copy.chown));
    out.push_str(&flag("chmod", &copy.chmod));
    let path = |source: &&CopySource| matches!(source, CopySource::Path(_));
    let (paths, heredocs): (Vec<_>, Vec<_>) = copy.sources.iter().partition(path);
    for source in paths.into_iter().chain(heredocs) {
        match source {
            CopySource::Path(path) => out.push_str(&format!(" {path}")),
            CopySource::Heredoc(heredoc) => out.push_str(&format!(" <<{}", heredoc.name)),
        }
    }
    format!("{out} {} # buildkit", copy.destination)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_say_whether_they_are_directories() {
        for (written, cwd, want) in [
            ("/a", "/w", "/a"),
            ("/a/", "/w", "/a/"),
            ("a", "/w", "/w/a"),
            (".", "/w", "/w/"),
            ("./", "/", "/"),
            ("a/.", "/w", "/w/a/"),
            ("..", "/w/x", "/w/"),
            ("/", "/w", "/"),
            ("../../../etc/", "/w", "/etc/"),
        ] {
            assert_eq!(destination(written, cwd), want, "{written} in {cwd}");
        }
    }

    #[test]
    fn remote_sources_are_told_apart() {
        for git in [
            "git://host/a",
            "https://host/a.git",
            "https://host/a.git#v1:sub",
            "git@github.com:a/b.git",
            "ssh://git@host/a",
        ] {
            assert!(is_git(git), "{git}");
        }
        for file in [
            "a.git",
            "a@b",
            "dir/a@b:c/d",
            "https://host/a.tar.gz",
            "host/a.git",
            "@:",
        ] {
            assert!(!is_git(file), "{file}");
        }
    }

    #[test]
    fn modes_are_checked() {
        for mode in [
            "0",
            "755",
            "07777",
            "u=rwX,go=rX",
            "+x",
            "a+rw-x",
            "g=u",
            "u+s,o+t",
        ] {
            assert!(check_mode(mode).is_ok(), "{mode}");
        }
        for mode in ["8", "10000", "rwx", "u", "u=q", "u=rw,", "0x1", "755u"] {
            assert!(check_mode(mode).is_err(), "{mode}");
        }
    }
}
