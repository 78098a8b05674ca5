//! Reading and following a log.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::{LogError, Stream, line, rotated, tail};

/// What is asked of a log.
#[derive(Debug, Clone, Default)]
pub struct ReadOptions {
    /// The last so many lines; `None`: all.
    pub tail: Option<u64>,
    /// Go on as lines are written, until the container has ended.
    pub follow: bool,
    /// Not older than this.
    pub since: Option<SystemTime>,
    /// Not newer than this.
    pub until: Option<SystemTime>,
}

/// A line (or piece of one) of output.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// Where it was written to.
    pub stream: Stream,
    /// RFC 3339 with nanoseconds, trailing zeros left out.
    pub time: &'a str,
    /// The text with its newline, if it has one.
    pub text: &'a str,
}

/// Gives the lines of the log at `path` to `sink`, oldest first. While following, `alive` tells whether the container
/// (still) runs; it is asked at least twice a second.
///
/// # Errors
/// When a file can't be read, or `sink` fails. A missing log is an empty one.
pub fn read(
    path: &Path,
    options: &ReadOptions,
    alive: &mut dyn FnMut() -> bool,
    sink: &mut dyn FnMut(Entry<'_>) -> io::Result<()>,
) -> Result<(), LogError> {
    let failed = |source| LogError::Io {
        verb: "read",
        path: path.to_owned(),
        source,
    };
    // The watch is set before the first read: what is written in between isn't missed.
    let mut changes = match options.follow {
        true => Some(Changes::watch(path)),
        false => None,
    };
    let mut files = open_all(path).map_err(failed)?;
    seek_to_tail(&mut files, options.tail).map_err(failed)?;
    let mut partial = Vec::new();
    let last = files.pop();
    for mut file in files {
        if pass(&mut file, &mut partial, options, sink)
            .map_err(failed)?
            .is_break()
        {
            return Ok(());
        }
        partial.clear();
    }
    let Some(mut current) = last else {
        return Ok(());
    };
    loop {
        // Asked before reading: what was written before the end is read after it.
        let goes_on = changes.is_some() && alive();
        if pass(&mut current, &mut partial, options, sink)
            .map_err(failed)?
            .is_break()
        {
            return Ok(());
        }
        if let Some(next) = successor(path, &current).map_err(failed)? {
            // What was appended between the last read and the rename.
            let _ = pass(&mut current, &mut partial, options, sink).map_err(failed)?;
            partial.clear();
            current = next;
            continue;
        }
        let Some(changes) = changes.as_mut().filter(|_| goes_on) else {
            return Ok(());
        };
        if options.until.is_some_and(|until| SystemTime::now() > until) {
            return Ok(());
        }
        changes.wait();
    }
}

/// The log's files, oldest first, the current one last.
fn open_all(path: &Path) -> io::Result<Vec<BufReader<File>>> {
    let mut files = Vec::new();
    for n in 0.. {
        match File::open(rotated(path, n)) {
            Ok(file) => files.push(BufReader::with_capacity(64 * 1024, file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) => return Err(error),
        }
    }
    files.reverse();
    Ok(files)
}

/// Drops the files and skips the parts before the last `count` lines.
fn seek_to_tail(files: &mut Vec<BufReader<File>>, count: Option<u64>) -> io::Result<()> {
    let Some(mut wanted) = count else {
        return Ok(());
    };
    let mut keep = files.len();
    for (at, file) in files.iter_mut().enumerate().rev() {
        let (start, found) = tail::start_of_last(file.get_ref(), wanted)?;
        file.seek(SeekFrom::Start(start))?;
        keep = at;
        wanted -= found;
        if wanted == 0 {
            break;
        }
    }
    files.drain(..keep);
    Ok(())
}

/// Gives whole lines to `sink` up to the end of the file; what is left of an unfinished one stays in `partial`.
fn pass(
    file: &mut BufReader<File>,
    partial: &mut Vec<u8>,
    options: &ReadOptions,
    sink: &mut dyn FnMut(Entry<'_>) -> io::Result<()>,
) -> io::Result<ControlFlow<()>> {
    loop {
        file.read_until(b'\n', partial)?;
        if partial.last() != Some(&b'\n') {
            return Ok(ControlFlow::Continue(()));
        }
        // What isn't ours (a line that a killed monitor left unfinished) is passed over.
        if let Some(line) = line::parse(partial) {
            let wanted = match (options.since, options.until) {
                (None, None) => true,
                (since, until) => match line::parse_time(&line.time) {
                    Some(at) if until.is_some_and(|u| at > u) => return Ok(ControlFlow::Break(())),
                    Some(at) => since.is_none_or(|s| at >= s),
                    None => true,
                },
            };
            if wanted {
                sink(Entry {
                    stream: match &*line.stream {
                        "stderr" => Stream::Stderr,
                        _ => Stream::Stdout,
                    },
                    time: &line.time,
                    text: &line.log,
                })?;
            }
        }
        partial.clear();
    }
}

/// The file that is at `path` now, if it is another one than `current`.
fn successor(path: &Path, current: &BufReader<File>) -> io::Result<Option<BufReader<File>>> {
    let now = match std::fs::metadata(path) {
        Ok(now) => now,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mine = current.get_ref().metadata()?;
    if (now.dev(), now.ino()) == (mine.dev(), mine.ino()) {
        return Ok(None);
    }
    match File::open(path) {
        Ok(file) => Ok(Some(BufReader::with_capacity(64 * 1024, file))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Wakes when the log changes; without inotify (its instances are limited), every 100 ms.
struct Changes(Option<Inotify>);

impl Changes {
    fn watch(path: &Path) -> Self {
        let watch = || {
            let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
            let directory = path.parent().unwrap_or(path);
            let what = AddWatchFlags::IN_MODIFY
                | AddWatchFlags::IN_CREATE
                | AddWatchFlags::IN_MOVED_TO
                | AddWatchFlags::IN_MOVED_FROM
                | AddWatchFlags::IN_DELETE_SELF
                | AddWatchFlags::IN_MOVE_SELF;
            inotify.add_watch(directory, what)?;
            nix::Result::Ok(inotify)
        };
        Self(watch().ok())
    }

    fn wait(&mut self) {
        let Some(inotify) = &self.0 else {
            std::thread::sleep(std::time::Duration::from_millis(100));
            return;
        };
        // The time-out is for `alive`, which makes no event here. An interrupted wait is as good.
        let mut fds = [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut fds, PollTimeout::from(500_u16));
        let _ = inotify.read_events();
    }
}
