//! Writing an archive: ustar, with pax headers where something doesn't fit.

use std::io::{self, Write};

use super::header::{self, Block};
use super::pax;
use super::{BLOCK, Entry, Kind, Segment, Time};

/// Writes an archive's entries one after the other. The same entries give the same bytes.
pub struct Writer<W> {
    sink: W,
    /// Bytes that the present entry still wants.
    left: u64,
    padding: usize,
}

impl<W: Write> Writer<W> {
    /// Writes to `sink`, in small pieces: give it a buffer.
    pub fn new(sink: W) -> Self {
        Self {
            sink,
            left: 0,
            padding: 0,
        }
    }

    /// Begins an entry. Of a regular file, [`Entry::stored_size`] bytes of content are to follow in
    /// [`write_data`](Self::write_data) before the next one begins.
    ///
    /// # Errors
    /// When the sink fails, or the content of the entry before wasn't complete.
    pub fn begin(&mut self, entry: &Entry) -> io::Result<()> {
        self.end_entry()?;
        let mut records = Vec::new();
        let mut block = [0; BLOCK];
        let map = entry.sparse.as_deref().map(map_1_0);
        let stored = entry.stored_size() + map.as_ref().map_or(0, |map| map.len() as u64);
        fill(&mut block, entry, stored, &mut records);
        if !records.is_empty() {
            self.pax_header(entry, &records)?;
        }
        header::seal(&mut block);
        self.sink.write_all(&block)?;
        if entry.kind == Kind::File {
            self.left = stored;
            self.padding = (stored.wrapping_neg() % BLOCK as u64) as usize;
        }
        match map {
            Some(map) => self.write_data(&map),
            None => Ok(()),
        }
    }

    /// The next bytes of the present entry's content.
    ///
    /// # Errors
    /// When the sink fails, or the bytes are more than the entry's header said.
    pub fn write_data(&mut self, bytes: &[u8]) -> io::Result<()> {
        let len = bytes.len() as u64;
        self.left = self
            .left
            .checked_sub(len)
            .ok_or_else(|| io::Error::other("more content than the header says"))?;
        self.sink.write_all(bytes)
    }

    /// Bytes of content that the present entry still wants.
    #[must_use]
    pub fn wanted(&self) -> u64 {
        self.left
    }

    /// Ends the archive.
    ///
    /// # Errors
    /// When the sink fails, or the last entry's content wasn't complete.
    pub fn finish(mut self) -> io::Result<W> {
        self.end_entry()?;
        self.sink.write_all(&[0; 2 * BLOCK])?;
        self.sink.flush()?;
        Ok(self.sink)
    }

    /// Pads the present entry, whose content is complete.
    ///
    /// # Errors
    /// When the sink fails, or the content isn't complete.
    pub fn end_entry(&mut self) -> io::Result<()> {
        if self.left > 0 {
            return Err(io::Error::other("less content than the header says"));
        }
        let padding = std::mem::take(&mut self.padding);
        self.sink.write_all(&[0; BLOCK][..padding])
    }

    /// The sink, in the middle of an archive.
    pub fn into_inner(self) -> W {
        self.sink
    }

    fn pax_header(&mut self, entry: &Entry, records: &[u8]) -> io::Result<()> {
        let mut block = [0; BLOCK];
        header::put_text(&mut block[header::NAME], &pax_name(&entry.path));
        header::put_number(&mut block[header::MODE], 0o644);
        header::put_number(&mut block[header::UID], 0);
        header::put_number(&mut block[header::GID], 0);
        header::put_number(&mut block[header::SIZE], records.len() as u64);
        header::put_number(&mut block[header::MTIME], 0);
        block[header::TYPE] = b'x';
        header::put_text(&mut block[header::MAGIC], header::USTAR_MAGIC);
        header::seal(&mut block);
        self.sink.write_all(&block)?;
        self.sink.write_all(records)?;
        let padding = records.len().wrapping_neg() % BLOCK;
        self.sink.write_all(&[0; BLOCK][..padding])
    }
}

/// Fills the header, and appends to `records` what doesn't fit.
fn fill(block: &mut Block, entry: &Entry, stored: u64, records: &mut Vec<u8>) {
    put_path(block, entry, records);
    if entry.link.len() <= header::LINK.len() {
        header::put_text(&mut block[header::LINK], &entry.link);
    } else {
        pax::push(records, b"linkpath", &entry.link);
    }
    header::put_number(&mut block[header::MODE], u64::from(entry.mode));
    let mut number = |range, key: &[u8], value: u64| {
        if !header::put_number(&mut block[range], value) {
            pax::push(records, key, value.to_string().as_bytes());
        }
    };
    number(header::UID, b"uid", entry.uid.into());
    number(header::GID, b"gid", entry.gid.into());
    number(header::SIZE, b"size", stored);
    let seconds = u64::try_from(entry.mtime.seconds).ok();
    let whole = entry.mtime.nanos == 0;
    if !header::put_number(&mut block[header::MTIME], seconds.unwrap_or(0))
        || seconds.is_none()
        || !whole
    {
        pax::push(records, b"mtime", decimal_time(entry.mtime).as_bytes());
    }
    block[header::TYPE] = match entry.kind {
        Kind::File => b'0',
        Kind::HardLink => b'1',
        Kind::Symlink => b'2',
        Kind::CharDevice => b'3',
        Kind::BlockDevice => b'4',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
    };
    header::put_text(&mut block[header::MAGIC], header::USTAR_MAGIC);
    // Linux has 12 bits of major and 20 of minor number: they fit.
    header::put_number(&mut block[header::DEVMAJOR], entry.device.0.into());
    header::put_number(&mut block[header::DEVMINOR], entry.device.1.into());
    for (name, value) in &entry.xattrs {
        pax::push(records, &[pax::XATTR, name].concat(), value);
    }
}

fn put_path(block: &mut Block, entry: &Entry, records: &mut Vec<u8>) {
    let path = &entry.path;
    if entry.sparse.is_some() {
        pax::push(records, b"GNU.sparse.major", b"1");
        pax::push(records, b"GNU.sparse.minor", b"0");
        pax::push(records, b"GNU.sparse.name", path);
        pax::push(
            records,
            b"GNU.sparse.realsize",
            entry.size.to_string().as_bytes(),
        );
    }
    if path.len() <= header::NAME.len() {
        header::put_text(&mut block[header::NAME], path);
    } else if let Some(at) = split(path) {
        header::put_text(&mut block[header::PREFIX], &path[..at]);
        header::put_text(&mut block[header::NAME], &path[at + 1..]);
    } else {
        pax::push(records, b"path", path);
        // For readers that know no pax.
        header::put_text(&mut block[header::NAME], &path[..header::NAME.len()]);
    }
}

/// The slash at which a path splits into prefix (155 bytes) and name (100 bytes), both not empty.
fn split(path: &[u8]) -> Option<usize> {
    let name_max = header::NAME.len();
    let first = path.len().checked_sub(name_max + 1)?;
    let last = header::PREFIX.len().min(path.len() - 2);
    (first.max(1)..=last).find(|&at| path[at] == b'/')
}

/// `dir/PaxHeaders.0/name`, cut to fit: only readers that know no pax see it.
fn pax_name(path: &[u8]) -> Vec<u8> {
    let path = path.strip_suffix(b"/").unwrap_or(path);
    let slash = path.iter().rposition(|&byte| byte == b'/');
    let (dir, name) = path.split_at(slash.map_or(0, |at| at + 1));
    let mut out = [dir, b"PaxHeaders.0/", name].concat();
    if out.len() > header::NAME.len() {
        out = [b"PaxHeaders.0/", name].concat();
    }
    out.truncate(header::NAME.len());
    out
}

fn decimal_time(time: Time) -> String {
    let (sign, seconds, nanos) = if time.seconds < 0 && time.nanos > 0 {
        ("-", -(time.seconds + 1), 1_000_000_000 - time.nanos)
    } else if time.seconds < 0 {
        return time.seconds.to_string();
    } else {
        ("", time.seconds, time.nanos)
    };
    if nanos == 0 {
        return seconds.to_string();
    }
    let text = format!("{sign}{seconds}.{nanos:09}");
    text.trim_end_matches('0').to_owned()
}

/// A sparse map in format 1.0, padded to a block.
fn map_1_0(segments: &[Segment]) -> Vec<u8> {
    let mut text = format!("{}\n", segments.len());
    for segment in segments {
        text += &format!("{}\n{}\n", segment.offset, segment.len);
    }
    let mut map = text.into_bytes();
    map.resize(map.len().next_multiple_of(BLOCK), 0);
    map
}
