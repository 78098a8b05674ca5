//! Reading Dockerfiles and ignore files.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

use super::{ContextError, Ignore};

/// Bytes of a Dockerfile or an ignore file.
const LIMIT: u64 = 16 << 20;
const IGNORE: &str = ".dockerignore";

/// The Dockerfile at `name` in the context at `root`.
pub(super) fn in_context(root: &Path, name: &str) -> Result<Vec<u8>, ContextError> {
    let path = root.join(name.trim_start_matches('/'));
    let opened = open_in(root, name);
    let result = opened.and_then(|file| Ok((file.metadata()?, file)));
    let (meta, file) = result.map_err(|source| missing(name, &path, source))?;
    if let Some(what) = kind(&meta.file_type()) {
        let name = name.to_owned();
        return Err(ContextError::NotAFile { name, what });
    }
    whole(file, name, |source| missing(name, &path, source))
}

/// The Dockerfile at `path` on the host. A pipe is fine: `-f <(make-dockerfile)`.
pub(super) fn on_host(path: &Path) -> Result<Vec<u8>, ContextError> {
    let name = path.display().to_string();
    let fail = |source| missing(&name, path, source);
    let file = File::open(path).map_err(fail)?;
    if file.metadata().map_err(fail)?.is_dir() {
        return Err(ContextError::NotAFile {
            name,
            what: "a directory",
        });
    }
    whole(file, &name, fail)
}

/// All of `from`, which is called `name`.
pub(super) fn whole(
    from: impl Read,
    name: &str,
    fail: impl FnOnce(io::Error) -> ContextError,
) -> Result<Vec<u8>, ContextError> {
    let mut bytes = Vec::new();
    from.take(LIMIT + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > LIMIT {
        return Err(ContextError::TooLarge {
            name: name.to_owned(),
            limit: LIMIT,
        });
    }
    Ok(bytes)
}

/// The rules for the context at `root`, and the file that they are from: `beside` (`DIR/NAME.dockerignore` on the host, or
/// such a path in the context) before `.dockerignore`.
pub(super) fn ignore(
    root: &Path,
    beside: Option<Beside>,
) -> Result<(Ignore, Option<IgnoreFile>), ContextError> {
    let special = match beside {
        None => None,
        Some(Beside::InContext(name)) => Some((open_in(root, &name), name)),
        Some(Beside::OnHost(path)) => Some((open_plain(&path), path.display().to_string())),
    };
    let candidates = special
        .into_iter()
        .chain([(open_in(root, IGNORE), IGNORE.to_owned())]);
    for (opened, file) in candidates {
        let fail = |source| ContextError::IgnoreFile {
            file: file.clone(),
            source,
        };
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(fail(error)),
        };
        if let Some(what) = kind(&opened.metadata().map_err(fail)?.file_type()) {
            return Err(fail(io::Error::other(format!("it is {what}"))));
        }
        let text = whole(opened, &file, fail)?;
        let rules = Ignore::parse(&text).map_err(|source| ContextError::Ignore {
            file: file.clone(),
            source,
        })?;
        let size = text.len() as u64;
        return Ok((rules, Some(IgnoreFile { name: file, size })));
    }
    Ok((Ignore::none(), None))
}

/// An ignore file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IgnoreFile {
    /// As shown: `.dockerignore`, `Dockerfile.dev.dockerignore`.
    pub name: String,
    /// In bytes.
    pub size: u64,
}

/// Where the ignore file of a Dockerfile is.
pub(super) enum Beside {
    /// A path below the context's root.
    InContext(String),
    /// A path on the host.
    OnHost(PathBuf),
}

/// Opens a file of the context as if `root` were `/`. Doesn't wait for the writer of a pipe.
fn open_in(root: &Path, name: &str) -> io::Result<File> {
    let root = File::open(root)?;
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    Ok(openat2(root, name, how).map(File::from)?)
}

fn open_plain(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NONBLOCK.bits();
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// What it is, unless it is a regular file.
fn kind(kind: &fs::FileType) -> Option<&'static str> {
    match kind {
        kind if kind.is_file() => None,
        kind if kind.is_dir() => Some("a directory"),
        _ => Some("neither a file nor a link to one"),
    }
}

fn missing(name: &str, path: &Path, source: io::Error) -> ContextError {
    // A link that leads to something, though not within the context.
    let link = fs::read_link(path).ok().filter(|_| path.exists());
    ContextError::Dockerfile {
        name: name.to_owned(),
        source,
        there: candidates(path, name),
        link,
    }
}

/// Files in the directory of `path` that look like Dockerfiles, named as `name` is.
fn candidates(path: &Path, name: &str) -> Vec<String> {
    const MOST: usize = 8;
    let dir = path.parent().unwrap_or(path);
    let above = match name.rsplit_once('/') {
        Some((above, _)) => format!("{above}/"),
        None => String::new(),
    };
    let mut found: Vec<String> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().is_file())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|file| {
            let lower = file.to_lowercase();
            let looks = lower.contains("dockerfile") || lower.contains("containerfile");
            looks && !lower.ends_with(".dockerignore")
        })
        .map(|file| format!("{above}{file}"))
        .collect();
    found.sort();
    found.truncate(MOST);
    found
}
