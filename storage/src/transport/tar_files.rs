//! The files of a tar that can be read in any order.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::TransportError;
use super::files::{Content, Files};
use crate::archive::{ArchiveError, MAX_FILES, MAX_LINKS, clean, decompressed, normal};
use crate::compression::Compression;
use crate::random;
use crate::tarfile::{BLOCK, Entry, Kind, Reader, TarError};
use crate::tree::PATH_LIMIT;

/// Where a path of the archive leads.
enum Part {
    /// Content: where it begins, and how many bytes it has.
    At(u64, u64),
    /// Another name of the file with this path.
    Link(String),
}

/// A tar's files.
pub(super) struct TarFiles {
    path: PathBuf,
    file: Arc<File>,
    parts: HashMap<String, Part>,
}

impl TarFiles {
    /// Reads the headers of the archive at `path`. One that can't be read in any order is copied to `scratch` first.
    pub(super) fn open(path: &Path, scratch: &Path) -> Result<Self, TransportError> {
        let failed = || TransportError::io("read", path);
        let mut file = File::open(path).map_err(failed())?;
        let meta = file.metadata().map_err(failed())?;
        if meta.is_dir() {
            let source = io::Error::from(io::ErrorKind::IsADirectory);
            return Err(failed()(source));
        }
        if !meta.is_file() || is_compressed(&file).map_err(failed())? {
            file = spool(path, file, scratch)?;
        }
        let size = file.seek(io::SeekFrom::End(0)).map_err(failed())?;
        let mut files = Self {
            path: path.to_owned(),
            file: Arc::new(file),
            parts: HashMap::new(),
        };
        files.read_headers(size)?;
        Ok(files)
    }

    /// From header to header: the contents aren't read.
    fn read_headers(&mut self, size: u64) -> Result<(), TransportError> {
        /// A header with a long name.
        const AHEAD: usize = 4 * BLOCK;
        let mut at = 0;
        loop {
            let section = self.section(at, size.saturating_sub(at));
            let mut reader = Reader::resume(BufReader::with_capacity(AHEAD, section), at);
            let tar = |source| TransportError::Tar {
                path: self.path.clone(),
                source,
            };
            let Some(entry) = reader.next_entry().map_err(tar)? else {
                return Ok(());
            };
            let (begin, len) = (reader.offset(), entry.stored_size());
            if entry.kind == Kind::File && begin.saturating_add(len) > size {
                let within = "a file's content".to_owned();
                return Err(tar(TarError::Truncated {
                    offset: size,
                    within,
                }));
            }
            at = reader.entry_end();
            self.add(&entry, begin)?;
        }
    }

    fn add(&mut self, entry: &Entry, begin: u64) -> Result<(), TransportError> {
        if self.parts.len() >= MAX_FILES {
            return Err(TransportError::TooManyFiles {
                path: self.path.clone(),
                limit: MAX_FILES,
            });
        }
        if entry.path.len() > PATH_LIMIT || entry.link.len() > PATH_LIMIT {
            return Ok(());
        }
        let Some(path) = normal(&entry.path, "") else {
            return Ok(()); // Nothing may refer to it.
        };
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        let link = |parent| normal(&entry.link, parent).map(Part::Link);
        let part = match entry.kind {
            Kind::File if entry.sparse.is_none() => Some(Part::At(begin, entry.size)),
            Kind::Symlink => link(parent),
            Kind::HardLink => link(""),
            _ => None,
        };
        if let Some(part) = part {
            self.parts.insert(path, part);
        }
        Ok(())
    }

    fn section(&self, at: u64, left: u64) -> Section {
        let file = Arc::clone(&self.file);
        Section { file, at, left }
    }
}

impl Files for TarFiles {
    fn place(&self) -> &Path {
        &self.path
    }

    fn open(&self, path: &str, offset: u64) -> Result<Content, TransportError> {
        let mut next = clean(path);
        for _ in 0..MAX_LINKS {
            match self.parts.get(&next) {
                Some(Part::Link(target)) => next.clone_from(target),
                Some(Part::At(begin, size)) => {
                    let skipped = offset.min(*size);
                    return Ok(Content {
                        size: *size,
                        bytes: Box::new(self.section(begin + skipped, size - skipped)),
                    });
                }
                None => {
                    return Err(TransportError::Missing {
                        file: path.to_owned(),
                        place: self.path.clone(),
                    });
                }
            }
        }
        Err(TransportError::NoFile {
            file: path.to_owned(),
            place: self.path.clone(),
        })
    }
}

/// A part of a file, read without moving its position.
struct Section {
    file: Arc<File>,
    at: u64,
    left: u64,
}

impl Read for Section {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.left).unwrap_or(usize::MAX);
        let len = buf.len().min(want);
        let count = self.file.read_at(&mut buf[..len], self.at)?;
        self.at += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

/// Whether the bytes don't begin as a tar's do.
fn is_compressed(file: &File) -> io::Result<bool> {
    let mut head = [0; BLOCK];
    let count = file.read_at(&mut head, 0)?;
    let plain = head[..count].get(257..262) == Some(b"ustar");
    // A v7 tar and what is no tar at all are told apart by who reads them.
    Ok(!plain && Compression::of(&head[..count]) != Compression::None)
}

/// Copies the plain bytes of `input` to a file that has no name.
fn spool(path: &Path, input: File, scratch: &Path) -> Result<File, TransportError> {
    let archive = |source: ArchiveError| TransportError::Archive {
        path: path.to_owned(),
        source: Box::new(source),
    };
    let mut plain = decompressed(input).map_err(archive)?;
    let mut file = unnamed(scratch).map_err(TransportError::io("create a file in", scratch))?;
    let mut buffer = vec![0; 1 << 17];
    loop {
        let count = plain.read(&mut buffer);
        let count = count.map_err(|source| archive(ArchiveError::Decompress { source }))?;
        if count == 0 {
            return Ok(file);
        }
        file.write_all(&buffer[..count])
            .map_err(TransportError::io("write a file in", scratch))?;
    }
}

fn unnamed(dir: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    let temporary = options.clone().custom_flags(libc::O_TMPFILE).open(dir);
    // Not every file system can.
    temporary.or_else(|_| {
        let path = dir.join(format!("spool-{}", random::hex::<8>()));
        let file = options.create_new(true).open(&path)?;
        fs::remove_file(&path)?;
        Ok(file)
    })
}
