//! Content of files: writing with holes where zeros are, and finding the holes again.

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::unistd::{Whence, ftruncate, lseek};

use super::TreeError;
use crate::sys;
use crate::tarfile::{Entry, Reader, Segment, Writer};

/// A run of zeros becomes a hole when it covers one of these, aligned: 32 KiB.
const HOLE_BLOCK: usize = 32 << 10;
const HOLE_PART: usize = 4 << 10;
static ZEROS: [u8; HOLE_BLOCK] = [0; HOLE_BLOCK];

/// Holes of this size together make a file sparse in a tar: 16 MiB. Smaller ones aren't worth the pax format, which
/// not every reader of layers knows.
const SPARSE_SAVING: u64 = 16 << 20;
/// Content is copied in pieces of 256 KiB.
const PIECE: usize = 256 << 10;

/// Writes the content of the entry that `reader` stands at to an empty file, with holes where zeros are.
///
/// # Errors
/// When the archive is broken, or the file can't be written (`failed` says what it was).
pub fn extract<R: BufRead>(
    file: &File,
    entry: &Entry,
    reader: &mut Reader<R>,
    failed: impl Fn(io::Error) -> TreeError,
) -> Result<(), TreeError> {
    let whole = [Segment {
        offset: 0,
        len: entry.size,
    }];
    let segments = entry.sparse.as_deref().unwrap_or(&whole);
    let mut end = 0;
    for segment in segments {
        let (mut at, mut left) = (segment.offset, segment.len);
        while left > 0 {
            let data = reader.data()?;
            let count = data.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            end = write_with_holes(file, &data[..count], at, end).map_err(&failed)?;
            reader.consume(count);
            at += count as u64;
            left -= count as u64;
        }
    }
    if end < entry.size {
        ftruncate(file, entry.size.cast_signed()).map_err(|errno| failed(errno.into()))?;
    }
    Ok(())
}

/// Writes `data` at `at`, but for blocks of zeros. Returns where the file ends; it ended at `end` before.
fn write_with_holes(file: &File, data: &[u8], at: u64, end: u64) -> io::Result<u64> {
    let mut end = end;
    // What of `data` waits to be written begins at `start`.
    let (mut start, mut block) = (0, 0);
    while block < data.len() {
        let position = at + block as u64;
        let to_next = HOLE_BLOCK - (position % HOLE_BLOCK as u64) as usize;
        let len = to_next.min(data.len() - block);
        // At the edges of `data`, parts of blocks: only large ones, for a call each isn't worth less.
        if len >= HOLE_PART && data[block..block + len] == ZEROS[..len] {
            if start < block {
                file.write_all_at(&data[start..block], at + start as u64)?;
                end = position;
            }
            start = block + len;
        }
        block += len;
    }
    if start < data.len() {
        file.write_all_at(&data[start..], at + start as u64)?;
        end = at + data.len() as u64;
    }
    Ok(end)
}

/// The segments of a file that is mostly zeros; `None` when writing it as a whole is as well.
///
/// Decided by the content alone, so that the same content gives the same bytes wherever the file lies; holes only
/// make it faster.
pub(crate) fn find_segments(file: &File, size: u64) -> io::Result<Option<Vec<Segment>>> {
    if size < SPARSE_SAVING {
        return Ok(None);
    }
    let mut segments: Vec<Segment> = Vec::new();
    let mut buffer = vec![0; PIECE];
    let mut at = 0;
    while at < size {
        let data = match lseek(file, at.cast_signed(), Whence::SeekData) {
            Ok(data) => data.cast_unsigned().min(size),
            Err(Errno::ENXIO) => size,
            // This file system can't tell.
            Err(_) => at,
        };
        at = data - data % HOLE_BLOCK as u64;
        let want = usize::try_from(size - at).map_or(PIECE, |left| left.min(PIECE));
        let count = read_at(file, &mut buffer[..want], at)?;
        if count == 0 {
            break;
        }
        for block in buffer[..count].chunks(HOLE_BLOCK) {
            let len = block.len() as u64;
            if *block != ZEROS[..block.len()] {
                match segments.last_mut() {
                    Some(last) if last.offset + last.len == at => last.len += len,
                    _ => segments.push(Segment { offset: at, len }),
                }
            }
            at += len;
        }
    }
    let stored: u64 = segments.iter().map(|segment| segment.len).sum();
    Ok((size - stored >= SPARSE_SAVING).then_some(segments))
}

fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut have = 0;
    while have < buffer.len() {
        match file.read_at(&mut buffer[have..], at + have as u64) {
            Ok(0) => break,
            Ok(count) => have += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(have)
}

/// Writes a file's content to a tar, `entry` being begun. A file that became shorter meanwhile gets zeros at its end.
pub(crate) fn archive(
    file: &File,
    entry: &Entry,
    buffer: &mut Vec<u8>,
    tar: &mut Writer<impl io::Write>,
    failed: impl Fn(io::Error) -> TreeError,
) -> Result<(), TreeError> {
    let whole = [Segment {
        offset: 0,
        len: entry.size,
    }];
    buffer.resize(PIECE, 0);
    for segment in entry.sparse.as_deref().unwrap_or(&whole) {
        let (mut at, mut left) = (segment.offset, segment.len);
        while left > 0 {
            let want = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
            let count = read_at(file, &mut buffer[..want], at).map_err(&failed)?;
            buffer[count..want].fill(0);
            tar.write_data(&buffer[..want])
                .map_err(|source| TreeError::Write { source })?;
            at += want as u64;
            left -= want as u64;
        }
    }
    Ok(())
}

/// Copies a file's content to an empty file: shared blocks where the file system can, else with its holes.
///
/// # Errors
/// When one can't be read or the other written.
pub fn copy(from: &File, to: &File, size: u64) -> io::Result<()> {
    copy_while(from, to, size, &|| Ok(()))
}

/// The same, as long as `go_on` has no error.
///
/// # Errors
/// As [`copy`], and that of `go_on`.
pub fn copy_while(
    from: &File,
    to: &File,
    size: u64,
    go_on: &dyn Fn() -> io::Result<()>,
) -> io::Result<()> {
    if size == 0 || sys::clone_file(from, to).is_ok() {
        return Ok(());
    }
    let mut buffer = vec![0; usize::try_from(size).map_or(PIECE, |size| size.min(PIECE))];
    let (mut at, mut end) = (0, 0);
    while at < size {
        match lseek(from.as_fd(), at.cast_signed(), Whence::SeekData) {
            Ok(data) => at = data.cast_unsigned(),
            Err(Errno::ENXIO) => break,
            Err(_) => {}
        }
        let count = read_at(from, &mut buffer, at)?;
        if count == 0 {
            break;
        }
        end = write_with_holes(to, &buffer[..count], at, end)?;
        at += count as u64;
        go_on()?;
    }
    if end < size {
        ftruncate(to, size.cast_signed())?;
    }
    Ok(())
}

/// Whether two files have the same `size` bytes.
pub(crate) fn is_same(one: &File, other: &File, size: u64) -> io::Result<bool> {
    let piece = usize::try_from(size).map_or(PIECE, |size| size.min(PIECE));
    let (mut left, mut right) = (vec![0; piece], vec![0; piece]);
    let mut at = 0;
    while at < size {
        let count = read_at(one, &mut left, at)?;
        if count != read_at(other, &mut right, at)? || left[..count] != right[..count] {
            return Ok(false);
        }
        if count == 0 {
            break;
        }
        at += count as u64;
    }
    Ok(true)
}

/// A reader with a buffer of its own, for archives that come from anywhere.
pub(crate) fn buffered<R: Read>(source: R) -> io::BufReader<R> {
    io::BufReader::with_capacity(PIECE, source)
}
