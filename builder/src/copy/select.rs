//! What the sources of COPY and ADD name: files and trees, in the order in which they are copied.
//!
//! As in BuildKit a source is looked up from the root of the context, whatever `..` it begins with; links in it are
//! followed inside the context; a pattern's names are matched with Go's `filepath.Match`; of a directory its content is
//! meant.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::sys::stat::{FileStat, SFlag};
use rctr_storage::digest::Digest;
use rctr_storage::layer::merged::{Merged, MergedDir, join, shown};

use super::CopyError;
use super::near::near;
use super::resolve::{Hides, Place, Resolved, clean, resolve};
use super::walk::{Filter, walk};
use crate::context::{FileHashes, Ignore, pattern};
use crate::engine::run::Cancel;
use crate::plan::CopyStep;

/// A tree that files are copied from.
pub(super) struct Source<'a> {
    pub(super) tree: Merged,
    /// What of it isn't to be seen.
    pub(super) ignore: &'a Ignore,
    /// Digests that are known.
    pub(super) hashes: Option<&'a FileHashes>,
    /// Ends what reads it.
    pub(super) cancel: Option<&'a Cancel>,
    /// Whether owners are kept: those of a context are the host's and mean nothing.
    pub(super) keeps_owners: bool,
    /// For messages: `the build context`.
    pub(super) name: String,
}

impl Source<'_> {
    /// Whether the build goes on.
    pub(super) fn go_on(&self) -> Result<(), CopyError> {
        match self.cancel.is_some_and(Cancel::is_canceled) {
            true => Err(CopyError::Canceled),
            false => Ok(()),
        }
    }

    /// Whether the file at `path` isn't the one any more of which the key was made.
    pub(super) fn has_changed(&self, path: &[u8], stat: &FileStat) -> bool {
        let path = Path::new(OsStr::from_bytes(path.strip_prefix(b"/").unwrap_or(path)));
        self.hashes
            .is_some_and(|hashes| hashes.is_other(path, stat))
    }
}

/// What a source, or one match of a pattern, is.
pub(super) struct Pick {
    /// As messages call it: absolute, links not followed.
    pub(super) shown: String,
    /// Its last name, links not followed; what it is called in the destination directory.
    pub(super) name: Vec<u8>,
    pub(super) what: Picked,
}

pub(super) enum Picked {
    /// A directory: parents before children, in lexical order; the first is itself.
    Tree(Vec<Dir>),
    /// Anything else.
    One { dir: MergedDir, entry: Box<Entry> },
}

/// A directory of a [`Picked::Tree`].
pub(super) struct Dir {
    /// Below the tree's root.
    pub(super) path: Vec<u8>,
    /// Where it is.
    pub(super) at: MergedDir,
    pub(super) stat: FileStat,
    /// The number of its parent in the list; of the first its own.
    pub(super) parent: usize,
    /// Whether it is copied for its own sake, not only for what is in it.
    pub(super) chosen: bool,
    /// All in it but directories, sorted.
    pub(super) entries: Vec<Entry>,
}

/// Something that is no directory.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) name: CString,
    pub(super) layer: u32,
    pub(super) stat: FileStat,
    /// Where a link points to.
    pub(super) link: Vec<u8>,
    /// Of a regular file's content and attributes, once it is known.
    pub(super) digest: Option<Digest>,
}

impl Entry {
    pub(super) fn kind(&self) -> SFlag {
        SFlag::from_bits_truncate(self.stat.st_mode) & SFlag::S_IFMT
    }
}

impl Hides for Source<'_> {
    fn hides(&self, path: &[u8], is_dir: bool) -> bool {
        if self.ignore.is_empty() {
            return false;
        }
        let path = Path::new(OsStr::from_bytes(path));
        self.ignore.excludes(path, is_dir) && !(is_dir && self.ignore.may_reinclude_below(path))
    }
}

/// What the source `given` of `step` names. A pattern may name nothing.
pub(super) fn select(
    given: &str,
    step: &CopyStep,
    source: &Source<'_>,
) -> Result<Vec<Pick>, CopyError> {
    let exclude = patterns(&step.exclude)?;
    if step.parents {
        return with_parents(given, &exclude, source);
    }
    let path = clean(given.as_bytes());
    let (fixed, wild) = split_wildcards(&path);
    if wild.is_empty() {
        let pick = pick(&path, &exclude, source)?;
        return Ok(pick.into_iter().collect());
    }
    let mut picks = Vec::new();
    for path in expand(&fixed, &wild, given, source)? {
        picks.extend(pick(&path, &exclude, source)?);
    }
    Ok(picks)
}

fn patterns(given: &[String]) -> Result<Ignore, CopyError> {
    Ignore::from_patterns(given).map_err(|error| CopyError::Pattern {
        pattern: error.pattern.clone(),
        problem: error.problem.to_owned(),
    })
}

/// A path with all that the names in front of its last lead through.
fn pick(path: &[u8], exclude: &Ignore, source: &Source<'_>) -> Result<Option<Pick>, CopyError> {
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    let found = resolve(&source.tree, path, source)?;
    let what = match found {
        Resolved::Missing { dir, rest, hidden } => {
            return Err(not_found(path, &dir, &rest, hidden, source));
        }
        Resolved::Directory(top) => {
            let filter = Filter {
                ignore: source.ignore,
                exclude,
                include: None,
            };
            let tree = walk(source, &top, &filter)?;
            let above = Path::new(OsStr::from_bytes(&top.path));
            if tree.len() == 1 && tree[0].entries.is_empty() && source.ignore.excludes(above, true)
            {
                return Err(left_out(path, source));
            }
            Picked::Tree(tree)
        }
        Resolved::Other(Place { dir, name, node }) => {
            if exclude.excludes(Path::new(OsStr::from_bytes(base(path))), false) {
                return Ok(None);
            }
            if node.kind() == SFlag::S_IFSOCK {
                return Err(CopyError::Socket { path: shown(path) });
            }
            let entry = Entry {
                name,
                layer: node.layer,
                stat: node.stat,
                link: Vec::new(),
                digest: None,
            };
            Picked::One {
                dir,
                entry: Box::new(entry),
            }
        }
    };
    Ok(Some(Pick {
        shown: shown(path),
        name: name.to_vec(),
        what,
    }))
}

fn base(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
}

/// `--parents`: what is in front of `/./` is where it starts, and the rest is a pattern of what is taken from there with
/// all its directories.
fn with_parents(
    given: &str,
    exclude: &Ignore,
    source: &Source<'_>,
) -> Result<Vec<Pick>, CopyError> {
    let (start, rest) = given.split_once("/./").unwrap_or(("/", given));
    let (start, rest) = (clean(start.as_bytes()), clean(rest.as_bytes()));
    let rest = String::from_utf8_lossy(&rest).into_owned();
    let top = match resolve(&source.tree, &start, source)? {
        Resolved::Directory(top) => top,
        Resolved::Missing { dir, rest, hidden } => {
            return Err(not_found(&start, &dir, &rest, hidden, source));
        }
        Resolved::Other(_) => {
            return Err(CopyError::NotADirectory {
                path: shown(&start),
            });
        }
    };
    // All of it, where nothing follows the pivot.
    let include = patterns(std::slice::from_ref(&rest))?;
    let filter = Filter {
        ignore: source.ignore,
        exclude,
        include: Some(&include).filter(|_| !rest.is_empty()),
    };
    let tree = walk(source, &top, &filter)?;
    let nothing = tree.len() == 1 && tree[0].entries.is_empty();
    if nothing && !rest.is_empty() && !pattern::has_meta(&rest) {
        let path = join(&start, rest.as_bytes());
        return match resolve(&source.tree, &path, source)? {
            Resolved::Missing { dir, rest, hidden } => {
                Err(not_found(&path, &dir, &rest, hidden, source))
            }
            _ => Ok(Vec::new()),
        };
    }
    Ok(vec![Pick {
        shown: shown(&start),
        name: Vec::new(),
        what: Picked::Tree(tree),
    }])
}

/// A pattern's names before the first with a wildcard, and the rest.
fn split_wildcards(path: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let names: Vec<&[u8]> = path.split(|&byte| byte == b'/').collect();
    let wild = names.iter().position(|name| has_wildcard(name));
    let (fixed, wild) = names.split_at(wild.unwrap_or(names.len()));
    (fixed.join(&b'/'), wild.join(&b'/'))
}

fn has_wildcard(name: &[u8]) -> bool {
    let mut bytes = name.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            b'*' | b'?' | b'[' => return true,
            _ => {}
        }
    }
    false
}

/// The paths that match, in lexical order. `*` doesn't match a slash, so all are as deep as the pattern.
fn expand(
    fixed: &[u8],
    wild: &[u8],
    given: &str,
    source: &Source<'_>,
) -> Result<Vec<Vec<u8>>, CopyError> {
    let failed = |source| CopyError::Source { source };
    let Resolved::Directory(top) = resolve(&source.tree, fixed, source)? else {
        return Ok(Vec::new());
    };
    let mut level = vec![top.clone()];
    let mut found = Vec::new();
    let names: Vec<&[u8]> = wild.split(|&byte| byte == b'/').collect();
    for (depth, name) in names.iter().enumerate() {
        let text = String::from_utf8_lossy(name);
        let matcher = pattern::Pattern::parse(&text).map_err(|error| CopyError::Pattern {
            pattern: given.to_owned(),
            problem: error.problem.to_owned(),
        })?;
        let last = depth + 1 == names.len();
        let mut next = Vec::new();
        for dir in &level {
            let open = source.tree.open(dir).map_err(failed)?;
            for name in open.names().map_err(failed)? {
                if !matcher.matches(name.as_bytes()) {
                    continue;
                }
                let path = join(&dir.path, name.as_bytes());
                let Some(node) = open.look(&name).map_err(failed)? else {
                    continue;
                };
                if source.hides(&path, node.dir.is_some()) {
                    continue;
                }
                match node.dir {
                    _ if last => found.push(path),
                    Some(dir) => next.push(dir),
                    None => {}
                }
            }
        }
        level = next;
    }
    Ok(found)
}

fn left_out(path: &[u8], source: &Source<'_>) -> CopyError {
    CopyError::NotFound {
        path: shown(path),
        ignored: true,
        near: None,
        place: source.name.clone(),
    }
}

fn not_found(
    path: &[u8],
    dir: &MergedDir,
    rest: &[CString],
    hidden: bool,
    source: &Source<'_>,
) -> CopyError {
    let names = source.tree.open(dir).and_then(|open| open.names());
    let mut similar = None;
    if let (Ok(names), Some(wanted)) = (names, rest.first()) {
        let visible = names.iter().filter(|name| {
            let path = join(&dir.path, name.as_bytes());
            !source.hides(&path, true) || !source.hides(&path, false)
        });
        let visible: Vec<String> = visible
            .map(|name| name.to_string_lossy().into_owned())
            .collect();
        similar = near(&wanted.to_string_lossy(), &visible).map(|name| {
            let mut path = join(&dir.path, name.as_bytes());
            for name in &rest[1..] {
                path = join(&path, name.as_bytes());
            }
            String::from_utf8_lossy(&path).into_owned()
        });
    }
    // Links in front of what is missing were followed.
    let missing = rest
        .iter()
        .fold(dir.path.clone(), |path, name| join(&path, name.as_bytes()));
    CopyError::NotFound {
        path: shown(if hidden { path } else { &missing }),
        ignored: hidden,
        near: similar,
        place: source.name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_begin_at_the_first_name_with_a_wildcard() {
        for (path, fixed, wild) in [
            ("a/b", "a/b", ""),
            ("a/b*/c", "a", "b*/c"),
            ("*", "", "*"),
            ("a/[b]/c", "a", "[b]/c"),
            (r"a/\*b/c", r"a/\*b/c", ""),
            ("", "", ""),
        ] {
            let (have_fixed, have_wild) = split_wildcards(path.as_bytes());
            assert_eq!(have_fixed, fixed.as_bytes(), "{path}");
            assert_eq!(have_wild, wild.as_bytes(), "{path}");
        }
    }

    #[test]
    fn paths_are_clamped_to_the_root() {
        for (path, want) in [
            ("../../a", "a"),
            ("./a/./b/", "a/b"),
            (".", ""),
            ("/", ""),
            ("a/../../b", "b"),
        ] {
            assert_eq!(clean(path.as_bytes()), want.as_bytes(), "{path}");
        }
    }
}
