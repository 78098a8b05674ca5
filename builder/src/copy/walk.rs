//! Walking a tree with two threads: which directories and files are chosen.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;

use nix::sys::stat::{FileStat, SFlag};
use rctr_storage::layer::merged::{MergedDir, join};

use super::CopyError;
use super::select::{Dir, Entry, Source};
use crate::context::{Ignore, Verdict};

/// As many as there are cores to count on.
pub(super) const THREADS: usize = 2;

/// Which paths are chosen.
pub(super) struct Filter<'a> {
    /// By paths in the context.
    pub(super) ignore: &'a Ignore,
    /// `--exclude`, by paths in the tree.
    pub(super) exclude: &'a Ignore,
    /// `--parents`: only what these match, by paths in the tree.
    pub(super) include: Option<&'a Ignore>,
}

/// What the patterns say of a directory, for what is in it.
#[derive(Clone, Default)]
struct Above {
    ignore: Verdict,
    exclude: Verdict,
    include: Verdict,
}

/// What becomes of a path.
enum Choice {
    Chosen(Above),
    /// A directory in which something may be chosen.
    Perhaps(Above),
    Not,
}

impl Filter<'_> {
    fn is_plain(&self) -> bool {
        self.ignore.is_empty() && self.exclude.is_empty() && self.include.is_none()
    }

    /// `full` is the path in the context, `path` the one in the tree.
    fn choose(&self, full: &[u8], path: &[u8], is_dir: bool, above: &Above) -> Choice {
        if self.is_plain() {
            return Choice::Chosen(Above::default());
        }
        let (full, path) = (
            Path::new(OsStr::from_bytes(full)),
            Path::new(OsStr::from_bytes(path)),
        );
        let mut here = Above::default();
        let mut chosen = true;
        for (rules, path, above, here) in [
            (self.ignore, full, &above.ignore, &mut here.ignore),
            (self.exclude, path, &above.exclude, &mut here.exclude),
        ] {
            if rules.is_empty() {
                continue;
            }
            *here = rules.judge(path, above);
            if here.excluded {
                if !is_dir || !rules.may_reinclude_below(path) {
                    return Choice::Not;
                }
                chosen = false;
            }
        }
        if let Some(include) = self.include {
            here.include = include.judge(path, &above.include);
            chosen &= here.include.excluded;
        }
        match (chosen, is_dir) {
            (true, _) => Choice::Chosen(here),
            (false, true) => Choice::Perhaps(here),
            (false, false) => Choice::Not,
        }
    }
}

/// A directory that waits for being listed.
struct Todo {
    at: MergedDir,
    path: Vec<u8>,
    stat: FileStat,
    chosen: bool,
    above: Above,
}

#[derive(Default)]
struct State {
    todo: Vec<Todo>,
    /// Threads that list a directory, and may find more.
    busy: usize,
    done: Vec<Dir>,
    failed: Option<CopyError>,
}

/// The directory `top` with all that is chosen in it. Sockets are left out.
pub(super) fn walk(
    source: &Source<'_>,
    top: &MergedDir,
    filter: &Filter<'_>,
) -> Result<Vec<Dir>, CopyError> {
    let stat = top_stat(source, top)?;
    let above = Above {
        ignore: verdict_of(filter.ignore, &top.path),
        ..Above::default()
    };
    let state = Mutex::new(State {
        todo: vec![Todo {
            at: top.clone(),
            path: Vec::new(),
            stat,
            chosen: true,
            above,
        }],
        ..State::default()
    });
    let more = Condvar::new();
    let work = || work(source, filter, &state, &more);
    thread::scope(|scope| {
        for _ in 1..THREADS {
            scope.spawn(work);
        }
        work();
    });
    let state = state.into_inner().unwrap_or_else(PoisonError::into_inner);
    match state.failed {
        Some(error) => Err(error),
        None => Ok(ordered(state.done)),
    }
}

/// What the patterns say of the directory where the walk starts.
fn verdict_of(rules: &Ignore, path: &[u8]) -> Verdict {
    let mut verdict = Verdict::default();
    if path.is_empty() || rules.is_empty() {
        return verdict;
    }
    let slashes = path.iter().enumerate().filter(|&(_, &byte)| byte == b'/');
    for end in slashes.map(|(at, _)| at).chain([path.len()]) {
        verdict = rules.judge(Path::new(OsStr::from_bytes(&path[..end])), &verdict);
    }
    verdict
}

fn top_stat(source: &Source<'_>, top: &MergedDir) -> Result<FileStat, CopyError> {
    let open = source
        .tree
        .open(top)
        .map_err(|source| CopyError::Source { source })?;
    match open.top() {
        Some(fd) => nix::sys::stat::fstat(fd).map_err(CopyError::source("read", &top.path)),
        // The root of no layers.
        None => nix::sys::stat::stat("/proc/self/root").map_err(CopyError::source("read", b"")),
    }
}

/// One thread: takes directories until there are none left and nobody can find more.
fn work(source: &Source<'_>, filter: &Filter<'_>, state: &Mutex<State>, more: &Condvar) {
    let lock = || state.lock().unwrap_or_else(PoisonError::into_inner);
    let mut now = lock();
    loop {
        if now.failed.is_some() {
            break;
        }
        let Some(todo) = now.todo.pop() else {
            if now.busy == 0 {
                break;
            }
            now = more.wait(now).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        now.busy += 1;
        drop(now);
        let listed = list(source, filter, todo);
        now = lock();
        now.busy -= 1;
        match listed {
            Ok((dir, found)) => {
                now.done.push(dir);
                now.todo.extend(found);
            }
            Err(error) => now.failed = Some(error),
        }
        more.notify_all();
    }
    more.notify_all();
}

fn list(
    source: &Source<'_>,
    filter: &Filter<'_>,
    todo: Todo,
) -> Result<(Dir, Vec<Todo>), CopyError> {
    let failed = |source| CopyError::Source { source };
    let open = source.tree.open(&todo.at).map_err(failed)?;
    let names = open.names().map_err(failed)?;
    let (mut entries, mut found) = (Vec::with_capacity(names.len()), Vec::new());
    for name in names {
        // Vanished meanwhile, or a whiteout.
        let Some(node) = open.look(&name).map_err(failed)? else {
            continue;
        };
        if node.kind() == SFlag::S_IFSOCK {
            continue;
        }
        let (full, path) = match filter.is_plain() && node.dir.is_none() {
            true => (Vec::new(), Vec::new()),
            false => (
                join(&todo.at.path, name.as_bytes()),
                join(&todo.path, name.as_bytes()),
            ),
        };
        let choice = filter.choose(&full, &path, node.dir.is_some(), &todo.above);
        let (chosen, above) = match choice {
            Choice::Not => continue,
            Choice::Chosen(above) => (true, above),
            Choice::Perhaps(above) => (false, above),
        };
        let link = match node.kind() {
            SFlag::S_IFLNK => open.read_link(&name, &node).map_err(failed)?,
            _ => Vec::new(),
        };
        match node.dir {
            Some(at) => found.push(Todo {
                at,
                path,
                stat: node.stat,
                chosen,
                above,
            }),
            None => entries.push(Entry {
                name,
                layer: node.layer,
                stat: node.stat,
                link,
                digest: None,
            }),
        }
    }
    let dir = Dir {
        path: todo.path,
        at: todo.at,
        stat: todo.stat,
        parent: 0,
        chosen: todo.chosen,
        entries,
    };
    Ok((dir, found))
}

/// Parents before children, without directories in which nothing was chosen.
fn ordered(mut dirs: Vec<Dir>) -> Vec<Dir> {
    let by_names = |path: &[u8]| -> Vec<u8> {
        // A slash comes before all that names are made of.
        path.iter()
            .map(|&byte| if byte == b'/' { 0 } else { byte })
            .collect()
    };
    dirs.sort_by_cached_key(|dir| by_names(&dir.path));
    let mut keep = vec![false; dirs.len()];
    let index: HashMap<&[u8], usize> = dirs
        .iter()
        .enumerate()
        .map(|(at, dir)| (dir.path.as_slice(), at))
        .collect();
    let parents: Vec<usize> = dirs
        .iter()
        .map(
            |dir| match dir.path.iter().rposition(|&byte| byte == b'/') {
                Some(slash) => index[&dir.path[..slash]],
                None => 0,
            },
        )
        .collect();
    for at in (0..dirs.len()).rev() {
        if at == 0 || keep[at] || dirs[at].chosen || !dirs[at].entries.is_empty() {
            keep[at] = true;
            keep[parents[at]] = true;
        }
    }
    let mut moved = vec![0; dirs.len()];
    let mut out = Vec::with_capacity(dirs.len());
    for (at, mut dir) in dirs.into_iter().enumerate() {
        if keep[at] {
            moved[at] = out.len();
            dir.parent = moved[parents[at]];
            out.push(dir);
        }
    }
    out
}
