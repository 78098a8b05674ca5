//! Finding a path in a tree as a process in it would: symbolic links are followed, and nothing leads out of the root.

use std::collections::VecDeque;
use std::ffi::CString;

use nix::sys::stat::SFlag;
use rctr_storage::layer::merged::{Merged, MergedDir, Node, join, shown};

use super::CopyError;

/// As many links as BuildKit follows.
const LINKS: u32 = 255;

/// What is at a path.
#[derive(Debug)]
pub(super) enum Resolved {
    /// A directory.
    Directory(MergedDir),
    /// Anything else; never a link.
    Other(Place),
    /// Nothing, as are all names in `rest` but for its first, which may be something that isn't a directory.
    Missing {
        /// The last directory on the way.
        dir: MergedDir,
        /// What is missing in it: at least one name.
        rest: Vec<CString>,
        /// It is there, but left out.
        hidden: bool,
    },
}

/// A name in a directory, and what is there.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) dir: MergedDir,
    pub(super) name: CString,
    pub(super) node: Node,
}

/// What of a tree isn't to be seen.
pub(super) trait Hides {
    /// Whether the path, a directory or not, is left out.
    fn hides(&self, path: &[u8], is_dir: bool) -> bool;
}

/// Nothing is left out.
pub(super) struct Everything;

impl Hides for Everything {
    fn hides(&self, _path: &[u8], _is_dir: bool) -> bool {
        false
    }
}

/// Finds `path`; `..` stops at the root.
pub(super) fn resolve(
    tree: &Merged,
    path: &[u8],
    hidden: &dyn Hides,
) -> Result<Resolved, CopyError> {
    resolve_below(tree, tree.root(), path, hidden)
}

/// Finds `path` as a chroot in the directory `top` would.
pub(super) fn resolve_below(
    tree: &Merged,
    top: MergedDir,
    path: &[u8],
    hidden: &dyn Hides,
) -> Result<Resolved, CopyError> {
    let failed = |source| CopyError::Source { source };
    let mut todo = names(path)?;
    let mut here = vec![top];
    let mut links = 0;
    while let Some(name) = todo.pop_front() {
        if name.as_bytes() == b".." {
            if here.len() > 1 {
                here.pop();
            }
            continue;
        }
        let dir = here.last().expect("the root is never popped");
        let open = tree.open(dir).map_err(failed)?;
        let node = open.look(&name).map_err(failed)?;
        let left_out = node.as_ref().is_some_and(|node| {
            hidden.hides(&join(&dir.path, name.as_bytes()), node.dir.is_some())
        });
        match node.filter(|_| !left_out) {
            None => return Ok(missing(here, name, todo, left_out)),
            Some(node) if node.kind() == SFlag::S_IFLNK => {
                links += 1;
                if links > LINKS {
                    return Err(CopyError::Links { path: shown(path) });
                }
                let target = open.read_link(&name, &node).map_err(failed)?;
                if target.starts_with(b"/") {
                    here.truncate(1);
                }
                for name in names(&target)?.into_iter().rev() {
                    todo.push_front(name);
                }
            }
            Some(Node { dir: Some(dir), .. }) => here.push(dir),
            Some(node) if todo.is_empty() => {
                let dir = here.pop().expect("the root is never popped");
                return Ok(Resolved::Other(Place { dir, name, node }));
            }
            Some(_) => return Ok(missing(here, name, todo, false)),
        }
    }
    let dir = here.pop().expect("the root is never popped");
    Ok(Resolved::Directory(dir))
}

/// Beyond what is there, `..` goes back by the names alone.
fn missing(
    mut here: Vec<MergedDir>,
    name: CString,
    todo: VecDeque<CString>,
    hidden: bool,
) -> Resolved {
    let mut rest = vec![name];
    for name in todo {
        if name.as_bytes() != b".." {
            rest.push(name);
        } else if rest.pop().is_none() && here.len() > 1 {
            here.pop();
        }
    }
    let dir = here.pop().expect("the root is never popped");
    if rest.is_empty() {
        return Resolved::Directory(dir);
    }
    Resolved::Missing { dir, rest, hidden }
}

/// The names of a path, without empty ones and `.`.
pub(super) fn names(path: &[u8]) -> Result<VecDeque<CString>, CopyError> {
    path.split(|&byte| byte == b'/')
        .filter(|name| !matches!(*name, b"" | b"."))
        .map(|name| {
            CString::new(name).map_err(|_| CopyError::Pattern {
                pattern: String::from_utf8_lossy(path).into_owned(),
                problem: "it has a NUL byte".to_owned(),
            })
        })
        .collect()
}

/// A path by its names alone: no `.`, `..` or double slashes; `..` stops at the root. The root is empty.
pub(super) fn clean(path: &[u8]) -> Vec<u8> {
    let mut out: Vec<&[u8]> = Vec::new();
    for name in path.split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => drop(out.pop()),
            name => out.push(name),
        }
    }
    out.join(&b'/')
}
