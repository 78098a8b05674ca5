//! The monitor's side of the log.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::{Limits, LogError, PIECE, Stream, line, rotated};

/// Splits output into lines and appends them. Holds at most one piece of an unfinished line per stream.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    limits: Limits,
    file: File,
    size: u64,
    /// Unfinished lines; empty ones own no memory.
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Writer {
    /// Opens the log for appending; a half-written last line (of a killed monitor) is ended first.
    ///
    /// # Errors
    /// When the file can't be made or opened.
    pub fn open(path: &Path, limits: Limits) -> Result<Self, LogError> {
        let failed = |source| LogError::Io {
            verb: "open",
            path: path.to_owned(),
            source,
        };
        let mut file = append(path).map_err(failed)?;
        let mut size = file.metadata().map_err(failed)?.len();
        if size > 0 && !ends_with_newline(path, size).map_err(failed)? {
            file.write_all(b"\n").map_err(failed)?;
            size += 1;
        }
        Ok(Self {
            path: path.to_owned(),
            limits,
            file,
            size,
            stdout: Vec::new(),
            stderr: Vec::new(),
        })
    }

    /// Takes what was read from the program. On an error (a full disk) these bytes are lost to the log, and the next
    /// call tries again: a container isn't stopped for its log.
    ///
    /// # Errors
    /// When a file can't be written or rotated.
    pub fn write(&mut self, stream: Stream, data: &[u8]) -> io::Result<()> {
        let time = line::now();
        let mut out = Vec::with_capacity(data.len() + data.len() / 8 + 128);
        let held = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let mut rest = data;
        while !rest.is_empty() {
            // A piece is full when `held` and what is taken from `rest` make PIECE bytes without a newline.
            let window = &rest[..rest.len().min(PIECE - held.len())];
            let end = window.iter().position(|b| *b == b'\n');
            let taken = &window[..end.unwrap_or(window.len())];
            if end.is_none() && held.len() + taken.len() < PIECE {
                held.extend_from_slice(taken);
                break;
            }
            if held.is_empty() {
                line::write(&mut out, stream, taken, end.is_some(), &time);
            } else {
                held.extend_from_slice(taken);
                line::write(&mut out, stream, held, end.is_some(), &time);
                *held = Vec::new();
            }
            rest = &rest[taken.len() + usize::from(end.is_some())..];
        }
        self.append(&out)
    }

    /// Writes the unfinished lines out: the program has ended.
    ///
    /// # Errors
    /// As [`Writer::write`].
    pub fn finish(&mut self) -> io::Result<()> {
        let time = line::now();
        let mut out = Vec::new();
        for (stream, held) in [
            (Stream::Stdout, std::mem::take(&mut self.stdout)),
            (Stream::Stderr, std::mem::take(&mut self.stderr)),
        ] {
            if !held.is_empty() {
                line::write(&mut out, stream, &held, false, &time);
            }
        }
        self.append(&out)
    }

    /// Appends whole lines; with `max-size`, a file is left as soon as it is full.
    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let Some(max) = self.limits.max_size else {
            return self.put(lines);
        };
        for line in lines.split_inclusive(|b| *b == b'\n') {
            if self.size >= max {
                self.rotate()?;
            }
            self.put(line)?;
        }
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.file.write_all(bytes)?;
        self.size += bytes.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        if self.limits.max_file < 2 {
            fs::remove_file(&self.path)?;
        }
        for n in (0..self.limits.max_file - 1).rev() {
            match fs::rename(rotated(&self.path, n), rotated(&self.path, n + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.file = append(&self.path)?;
        self.size = 0;
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)
}

fn ends_with_newline(path: &Path, size: u64) -> io::Result<bool> {
    use std::os::unix::fs::FileExt;
    let mut last = [0];
    File::open(path)?.read_exact_at(&mut last, size - 1)?;
    Ok(last == *b"\n")
}
