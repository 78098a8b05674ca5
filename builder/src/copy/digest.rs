//! The content key of what is selected: names, kinds, modes, targets of links, content and attributes; no times, and no
//! owners but those that are kept.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use nix::sys::stat::{FileStat, SFlag, fstat};
use rctr_storage::cache::StepInput;
use rctr_storage::digest::{Digest, Hasher};
use rctr_storage::layer::merged::{MergedDir, OpenDir, join};
use rctr_storage::tarfile::{Entry as TarEntry, Kind};
use rctr_storage::tree::attributes;

use super::CopyError;
use super::select::{Dir, Entry, Pick, Picked, Source};
use super::walk::THREADS;

/// Files that one thread takes at a time.
const PORTION: usize = 64;

/// A run of files of one directory, waiting for their digests.
struct Job<'a> {
    at: &'a MergedDir,
    entries: &'a mut [Entry],
}

/// Finds the digests of all regular files, from what is known or by reading them.
pub(super) fn find_digests(picks: &mut [Pick], source: &Source<'_>) -> Result<(), CopyError> {
    let mut jobs: Vec<Job<'_>> = Vec::new();
    for pick in picks {
        match &mut pick.what {
            Picked::One { dir, entry } => jobs.push(Job {
                at: dir,
                entries: std::slice::from_mut(entry),
            }),
            Picked::Tree(dirs) => {
                for dir in dirs {
                    let at = &dir.at;
                    let runs = dir.entries.chunks_mut(PORTION);
                    jobs.extend(runs.map(|entries| Job { at, entries }));
                }
            }
        }
    }
    let jobs: Vec<Mutex<Job<'_>>> = jobs.into_iter().map(Mutex::new).collect();
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(None);
    let work = || {
        let mut buffer = Vec::new();
        while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut job = job.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = do_job(&mut job, source, &mut buffer) {
                next.store(jobs.len(), Ordering::Relaxed);
                failed
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .get_or_insert(error);
            }
        }
    };
    thread::scope(|scope| {
        if jobs.len() > 1 {
            for _ in 1..THREADS {
                scope.spawn(work);
            }
        }
        work();
    });
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

fn do_job(job: &mut Job<'_>, source: &Source<'_>, buffer: &mut Vec<u8>) -> Result<(), CopyError> {
    let mut open: Option<OpenDir> = None;
    let mut path = job.at.path.clone();
    if !path.is_empty() {
        path.push(b'/');
    }
    let base = path.len();
    for entry in job.entries.iter_mut() {
        if entry.kind() != SFlag::S_IFREG {
            continue;
        }
        source.go_on()?;
        path.truncate(base);
        path.extend_from_slice(entry.name.as_bytes());
        let rel = Path::new(OsStr::from_bytes(&path));
        let known = source
            .hashes
            .and_then(|hashes| hashes.get(rel, &entry.stat));
        if known.is_some() {
            entry.digest = known;
            continue;
        }
        let dir = match &open {
            Some(dir) => dir,
            None => open.insert(
                source
                    .tree
                    .open(job.at)
                    .map_err(|source| CopyError::Source { source })?,
            ),
        };
        let (stat, digest) = read(source, dir, entry, &path, buffer)?;
        if let Some(hashes) = source.hashes {
            hashes.put(rel, &stat, digest);
        }
        (entry.stat, entry.digest) = (stat, Some(digest));
    }
    Ok(())
}

/// The digest of a file's content, and of its attributes where it has some.
fn read(
    source: &Source<'_>,
    dir: &OpenDir,
    entry: &Entry,
    path: &[u8],
    buffer: &mut Vec<u8>,
) -> Result<(FileStat, Digest), CopyError> {
    const PIECE: usize = 128 << 10;
    let failed = |error: std::io::Error| CopyError::source("read", path)(error);
    let mut file = dir
        .open_file(&entry.name, entry.layer)
        .map_err(|source| CopyError::Source { source })?;
    // Of before: if it changes while it is read, what is remembered is void.
    let stat = fstat(&file).map_err(|errno| failed(errno.into()))?;
    buffer.resize(PIECE, 0);
    let mut hasher = Hasher::new();
    loop {
        match file.read(buffer) {
            Ok(0) => break,
            Ok(count) => {
                hasher.update(&buffer[..count]);
                source.go_on()?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
    let content = hasher.finish();
    let attributes = attributes_of(&file, &stat).map_err(failed)?;
    let digest = match attributes {
        None => content,
        Some(attributes) => {
            let mut hasher = Hasher::new();
            put(&mut hasher, content.hex().as_bytes());
            put(&mut hasher, attributes.hex().as_bytes());
            hasher.finish()
        }
    };
    Ok((stat, digest))
}

/// Of the attributes that are kept, and of what a file that stands for a device stands for.
fn attributes_of(
    fd: impl std::os::fd::AsFd,
    stat: &FileStat,
) -> Result<Option<Digest>, std::io::Error> {
    let mut entry = TarEntry::new(Vec::new(), Kind::File, 0);
    entry.size = stat.st_size.cast_unsigned();
    attributes::read(fd, &mut entry)?;
    if entry.xattrs.is_empty() && entry.kind == Kind::File {
        return Ok(None);
    }
    let mut hasher = Hasher::new();
    put(
        &mut hasher,
        format!("{:?} {:?}", entry.kind, entry.device).as_bytes(),
    );
    for (name, value) in &entry.xattrs {
        put(&mut hasher, name);
        put(&mut hasher, value);
    }
    Ok(Some(hasher.finish()))
}

/// Takes in bytes with their length, so that nothing can be taken for something else.
fn put(hasher: &mut Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

/// Takes in all that is selected, and tells it file by file.
pub(super) fn fold(
    picks: &[Pick],
    source: &Source<'_>,
    hasher: &mut Hasher,
    inputs: &mut Vec<StepInput>,
) -> Result<(), CopyError> {
    let mut line = Vec::with_capacity(256);
    for pick in picks {
        put(hasher, &pick.name);
        match &pick.what {
            Picked::One { dir, entry } => {
                fold_entry(entry, source.keeps_owners, &mut line);
                put(hasher, &line);
                inputs.push(input(&dir.path, entry));
            }
            Picked::Tree(dirs) => {
                for dir in dirs {
                    fold_directory(dir, source, &mut line)?;
                    for entry in &dir.entries {
                        fold_entry(entry, source.keeps_owners, &mut line);
                        inputs.push(input(&dir.at.path, entry));
                    }
                    put(hasher, &line);
                    line.clear();
                }
            }
        }
        line.clear();
    }
    Ok(())
}

fn input(dir: &[u8], entry: &Entry) -> StepInput {
    let path = join(dir, entry.name.as_bytes());
    let path = String::from_utf8_lossy(&path);
    let value = match (&entry.digest, entry.kind()) {
        (Some(digest), _) => {
            let mut value = digest.hex();
            value.push_str(&format!(" {:o}", entry.stat.st_mode & 0o7777));
            value
        }
        (None, SFlag::S_IFLNK) => format!("-> {}", String::from_utf8_lossy(&entry.link)),
        (None, _) => format!("{:o} {}", entry.stat.st_mode, entry.stat.st_rdev),
    };
    StepInput {
        what: format!("file {path}"),
        value,
    }
}

fn fold_directory(dir: &Dir, source: &Source<'_>, line: &mut Vec<u8>) -> Result<(), CopyError> {
    push(line, &dir.path);
    // The first gives its time alone.
    if dir.path.is_empty() {
        return Ok(());
    }
    push_mode(line, &dir.stat, source.keeps_owners);
    let open = source
        .tree
        .open(&dir.at)
        .map_err(|source| CopyError::Source { source })?;
    if let Some(fd) = open.top() {
        let attributes =
            attributes_of(fd, &dir.stat).map_err(CopyError::source("read", &dir.at.path))?;
        push(
            line,
            attributes
                .map(|digest| digest.hex())
                .unwrap_or_default()
                .as_bytes(),
        );
    }
    Ok(())
}

fn fold_entry(entry: &Entry, with_owner: bool, line: &mut Vec<u8>) {
    push(line, entry.name.as_bytes());
    push_mode(line, &entry.stat, with_owner);
    match (&entry.digest, entry.kind()) {
        (Some(digest), _) => line.extend_from_slice(digest.hex().as_bytes()),
        (None, SFlag::S_IFLNK) => push(line, &entry.link),
        (None, _) => line.extend_from_slice(&entry.stat.st_rdev.to_le_bytes()),
    }
}

fn push(line: &mut Vec<u8>, bytes: &[u8]) {
    line.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    line.extend_from_slice(bytes);
}

fn push_mode(line: &mut Vec<u8>, stat: &FileStat, with_owner: bool) {
    line.extend_from_slice(&stat.st_mode.to_le_bytes());
    if with_owner {
        line.extend_from_slice(&stat.st_uid.to_le_bytes());
        line.extend_from_slice(&stat.st_gid.to_le_bytes());
    }
}
