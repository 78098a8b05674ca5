//! Logs of builds: all output of all steps, never clipped, readable while the build runs and after it was killed.
//!
//! `logs/<build id>/build.json` is the entry, `log` the output: for each piece a line `<ms> <step> <stream> <bytes>` and then
//! that many bytes and a line's end. Pieces are as they came, whatever bytes they are.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::{entries, make_dirs};
use crate::atomic::{self, Durability};
use crate::digest::Digest;
use crate::random;
use crate::store::{Store, StoreError};
use crate::timestamp;
use crate::tree;

const VERSION: u32 = 1;
/// How many builds are kept.
const KEPT_BUILDS: usize = 100;
/// Their logs take this much at most: 500 MB.
const KEPT_BYTES: u64 = 500_000_000;
/// No piece that we write is larger: 64 MiB. What claims to be is damaged.
const PIECE_LIMIT: usize = 64 << 20;

/// A build, as `builder history` lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BuildEntry {
    /// Of `build.json`.
    pub version: u32,
    /// 12 hexadecimal digits.
    pub id: String,
    /// The Dockerfile, as shown.
    pub dockerfile: String,
    /// The context, as shown.
    pub context: String,
    /// `--target`.
    pub target: Option<String>,
    /// The names that the image is to get.
    pub tags: Vec<String>,
    /// RFC 3339.
    pub started: String,
    /// RFC 3339; `None`: it runs, or was killed.
    pub ended: Option<String>,
    /// How it ended.
    pub result: BuildResult,
    /// What went wrong, in a line.
    pub error: Option<String>,
    /// Its image.
    pub image: Option<Digest>,
    /// How many steps it had.
    pub steps: u32,
    /// How many of them were cached.
    pub cached: u32,
}

/// How a build ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BuildResult {
    /// Not yet.
    #[default]
    Running,
    /// With an image.
    Completed,
    /// With an error.
    Failed,
    /// By Ctrl-C.
    Canceled,
    /// It was killed: nobody wrote its end. Told by [`Store::builds`], never written.
    Killed,
}

impl Default for BuildEntry {
    fn default() -> Self {
        Self {
            version: VERSION,
            id: random::hex::<6>(),
            dockerfile: String::new(),
            context: String::new(),
            target: None,
            tags: Vec::new(),
            started: timestamp::now(),
            ended: None,
            result: BuildResult::Running,
            error: None,
            image: None,
            steps: 0,
            cached: 0,
        }
    }
}

/// What a piece of a log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStream {
    /// A step's name: it begins. The text may be followed by `CACHED` in a [`LogStream::Note`].
    Step,
    /// Written to the standard output.
    Stdout,
    /// Written to the standard error.
    Stderr,
    /// Said by rctr.
    Note,
    /// Where the output of a cached step is: `<build id> <step>`.
    Origin,
}

impl LogStream {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Step, "step"),
        (Self::Stdout, "out"),
        (Self::Stderr, "err"),
        (Self::Note, "note"),
        (Self::Origin, "origin"),
    ];

    fn word(self) -> &'static str {
        let found = Self::ALL.iter().find(|(stream, _)| *stream == self);
        found.map_or("", |(_, word)| word)
    }

    fn parse(word: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(_, known)| *known == word);
        found.map(|(stream, _)| *stream)
    }
}

/// A piece of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogChunk {
    /// Since the build's start, in milliseconds.
    pub at_ms: u64,
    /// Which step, counted as the build shows them.
    pub step: u32,
    /// Where from.
    pub stream: LogStream,
    /// As it came: not always whole lines, nor UTF-8.
    pub bytes: Vec<u8>,
}

/// The log of a build that runs. Threads may share it.
#[derive(Debug)]
pub struct BuildLog {
    dir: PathBuf,
    entry: Mutex<BuildEntry>,
    start: Instant,
    // Its lock tells that the build lives.
    file: Mutex<Flock<File>>,
}

impl Store {
    /// Begins the log of a build. `entry.id` names it; the defaults make a new one. Logs of old builds go.
    ///
    /// # Errors
    /// When it can't be written, or a build with this ID is there.
    pub fn build_log(&self, entry: BuildEntry) -> Result<BuildLog, StoreError> {
        // A full disk or a stranger's file among the logs isn't this build's error.
        let _ = self.drop_old_logs();
        let staged = self.temp_path("log")?;
        make_dirs(&staged)?;
        let path = staged.join("log");
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(StoreError::io("create", &path))?;
        let file = Flock::lock(file, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, errno)| StoreError::io("lock", &path)(errno.into()))?;
        atomic::write_json(&staged.join("build.json"), &entry, Durability::None)?;
        let dir = self.cache_path("logs").join(&entry.id);
        self.publish_cache(&staged, &dir)?;
        Ok(BuildLog {
            dir,
            entry: Mutex::new(entry),
            start: Instant::now(),
            file: Mutex::new(file),
        })
    }

    /// The builds whose logs are kept, newest first.
    ///
    /// # Errors
    /// When they can't be listed. A damaged entry is left out.
    pub fn builds(&self) -> Result<Vec<BuildEntry>, StoreError> {
        let top = self.cache_path("logs");
        let mut builds = Vec::new();
        for id in entries(&top)? {
            let dir = top.join(&id);
            let Ok(mut entry) = atomic::read_json::<BuildEntry>(&dir.join("build.json")) else {
                continue;
            };
            if entry.result == BuildResult::Running && !is_locked(&dir) {
                // It may have ended between the two looks.
                entry = atomic::read_json(&dir.join("build.json")).unwrap_or(entry);
                if entry.result == BuildResult::Running {
                    entry.result = BuildResult::Killed;
                }
            }
            builds.push(entry);
        }
        builds.sort_by_cached_key(|build| {
            let started = timestamp::nanoseconds(&build.started);
            (std::cmp::Reverse(started), build.id.clone())
        });
        Ok(builds)
    }

    /// The log of a build.
    ///
    /// # Errors
    /// When there is none.
    pub fn read_build_log(&self, id: &str) -> Result<LogReader, StoreError> {
        let path = self.cache_path("logs").join(id).join("log");
        let file = File::open(&path).map_err(StoreError::io("read", &path))?;
        Ok(LogReader {
            file: BufReader::with_capacity(64 << 10, file),
        })
    }

    /// Keeps the newest logs.
    fn drop_old_logs(&self) -> Result<(), StoreError> {
        let top = self.cache_path("logs");
        let mut bytes = 0;
        // One more comes now.
        for (index, build) in self.builds()?.iter().enumerate() {
            let dir = top.join(&build.id);
            bytes += fs::metadata(dir.join("log")).map_or(0, |meta| meta.len());
            let kept = index + 1 < KEPT_BUILDS && bytes <= KEPT_BYTES;
            if !kept && build.result != BuildResult::Running {
                self.remove_log(&build.id)?;
            }
        }
        Ok(())
    }

    /// Removes the log of a build.
    ///
    /// # Errors
    /// When it can't be removed.
    pub fn remove_log(&self, id: &str) -> Result<(), StoreError> {
        let dir = self.cache_path("logs").join(id);
        let gone = self.temp_path("removed-log")?;
        match fs::rename(&dir, &gone) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(StoreError::io("remove", dir)(source)),
            Ok(()) => tree::remove_tree(&gone).map_err(StoreError::io("remove", dir)),
        }
    }
}

/// Whether the build lives.
fn is_locked(dir: &std::path::Path) -> bool {
    File::open(dir.join("log"))
        .is_ok_and(|file| Flock::lock(file, FlockArg::LockSharedNonblock).is_err())
}

impl BuildLog {
    /// The build's ID.
    #[must_use]
    pub fn id(&self) -> String {
        let entry = self.entry.lock().unwrap_or_else(PoisonError::into_inner);
        entry.id.clone()
    }

    /// Appends a piece. It is with the kernel when this returns: killing the build doesn't lose it.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(&self, step: u32, stream: LogStream, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(PIECE_LIMIT) {
            let at = self.start.elapsed().as_millis();
            let head = format!("{at} {step} {} {}\n", stream.word(), piece.len());
            let framed = [head.as_bytes(), piece, b"\n"].concat();
            let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
            file.write_all(&framed)?;
        }
        Ok(())
    }

    /// Changes the entry: what becomes known while the build runs, and its end.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn update(&self, change: impl FnOnce(&mut BuildEntry)) -> Result<(), StoreError> {
        let mut entry = self.entry.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut entry);
        atomic::write_json(&self.dir.join("build.json"), &*entry, Durability::None)
    }

    /// Changes the entry; written with its next change.
    pub fn update_later(&self, change: impl FnOnce(&mut BuildEntry)) {
        change(&mut self.entry.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Writes the build's end.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn finish(
        &self,
        result: BuildResult,
        image: Option<Digest>,
        error: Option<String>,
    ) -> Result<(), StoreError> {
        self.update(|entry| {
            entry.ended = Some(timestamp::now());
            entry.result = result;
            entry.image = image;
            entry.error = error;
        })
    }
}

/// Reads a log, piece by piece. One that was cut off ends with the last whole piece.
#[derive(Debug)]
pub struct LogReader {
    file: BufReader<File>,
}

impl Iterator for LogReader {
    type Item = io::Result<LogChunk>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

impl LogReader {
    fn read(&mut self) -> io::Result<Option<LogChunk>> {
        let mut line = Vec::new();
        // A head is short: what isn't is damaged.
        (&mut self.file).take(100).read_until(b'\n', &mut line)?;
        let Some((mut chunk, length)) = parse_head(&line) else {
            return Ok(None);
        };
        let wanted = length as u64 + 1;
        (&mut self.file)
            .take(wanted)
            .read_to_end(&mut chunk.bytes)?;
        let whole = chunk.bytes.len() > length && chunk.bytes.pop() == Some(b'\n');
        Ok(whole.then_some(chunk))
    }
}

fn parse_head(line: &[u8]) -> Option<(LogChunk, usize)> {
    let line = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
    let mut words = line.split(' ');
    let chunk = LogChunk {
        at_ms: words.next()?.parse().ok()?,
        step: words.next()?.parse().ok()?,
        stream: LogStream::parse(words.next()?)?,
        bytes: Vec::new(),
    };
    let length: usize = words.next()?.parse().ok()?;
    (words.next().is_none() && length <= PIECE_LIMIT).then_some((chunk, length))
}
