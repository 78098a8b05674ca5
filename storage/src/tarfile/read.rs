//! Reading an archive.

use std::io::{self, BufRead};

use super::header::{self, Block};
use super::pax::{self, Records};
use super::sparse::{self, PaxSparse};
use super::{BLOCK, Entry, Kind, TarError, Time};

/// Reads an archive's entries one after the other, in a single pass.
///
/// [`next_entry`](Self::next_entry) gives the header; [`data`](Self::data) and [`consume`](Self::consume) the content,
/// without copying it. What isn't read of a content is passed over.
pub struct Reader<R> {
    source: R,
    /// Bytes taken from the source.
    offset: u64,
    /// Where the present header is.
    header_at: u64,
    /// Bytes left of the present entry's content.
    left: u64,
    padding: u64,
    ended: bool,
    has_end_mark: bool,
}

/// What stands before a header and adds to it.
#[derive(Default)]
struct Extras {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    mtime: Option<Time>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    sparse: PaxSparse,
    sparse_name: Option<Vec<u8>>,
}

impl<R: BufRead> Reader<R> {
    /// Reads from `source`, which stands at an archive's start.
    pub fn new(source: R) -> Self {
        Self::resume(source, 0)
    }

    /// Reads from `source`, which stands at an entry's start, `offset` bytes into the archive.
    pub fn resume(source: R, offset: u64) -> Self {
        Self {
            source,
            offset,
            header_at: offset,
            left: 0,
            padding: 0,
            ended: false,
            has_end_mark: false,
        }
    }

    /// The next entry; `None` at the archive's end.
    ///
    /// # Errors
    /// When the source fails, or what comes is no tar.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        if self.ended {
            return Ok(None);
        }
        self.skip_content()?;
        let mut extras = Extras::default();
        loop {
            let Some(block) = self.header_block()? else {
                self.ended = true;
                return Ok(None);
            };
            let size = self.field(&block, header::SIZE, "size")?;
            match block[header::TYPE] {
                b'x' | b'X' => {
                    let text = self.long_text(size)?;
                    self.apply_pax(&text, &mut extras)?;
                }
                b'L' => extras.path = Some(self.long_name(size)?),
                b'K' => extras.link = Some(self.long_name(size)?),
                // Global headers, and a GNU volume's label.
                b'g' | b'V' => {
                    self.begin_content(size);
                    self.skip_content()?;
                }
                _ => return self.entry(&block, size, extras).map(Some),
            }
        }
    }

    /// What comes next of the present entry's content; empty at its end. Say with [`consume`](Self::consume) how much
    /// of it was used. Of a sparse file only the segments stand in the archive.
    ///
    /// # Errors
    /// When the source fails or ends too early.
    pub fn data(&mut self) -> Result<&[u8], TarError> {
        if self.left == 0 {
            return Ok(&[]);
        }
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        let offset = self.offset;
        match fill(&mut self.source, offset)? {
            [] => Err(truncated(offset, "a file's content")),
            bytes => Ok(&bytes[..bytes.len().min(left)]),
        }
    }

    /// Passes over the first `count` bytes of what [`data`](Self::data) gave.
    pub fn consume(&mut self, count: usize) {
        self.source.consume(count);
        self.left -= count as u64;
        self.offset += count as u64;
    }

    /// How many bytes into the archive the next ones stand: after [`next_entry`](Self::next_entry) the content.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// How many bytes into the archive the entry after the present one begins.
    #[must_use]
    pub fn entry_end(&self) -> u64 {
        self.offset + self.left + self.padding
    }

    /// Whether the archive had a proper end, once [`next_entry`](Self::next_entry) gave `None`. Some programs leave it
    /// out; an archive that was cut between two entries looks the same.
    #[must_use]
    pub fn has_end_mark(&self) -> bool {
        self.has_end_mark
    }

    /// Reads what follows the archive's end, until the source's.
    ///
    /// # Errors
    /// When the source fails.
    pub fn drain(&mut self) -> Result<(), TarError> {
        loop {
            let count = fill(&mut self.source, self.offset)?.len();
            if count == 0 {
                return Ok(());
            }
            self.source.consume(count);
            self.offset += count as u64;
        }
    }

    fn entry(&mut self, block: &Block, size: u64, extras: Extras) -> Result<Entry, TarError> {
        let extra_path = extras.sparse_name.or(extras.path);
        let mut entry = Entry::new(extra_path.unwrap_or_else(|| name(block)), Kind::File, 0);
        entry.kind = match block[header::TYPE] {
            // In the v7 format, a slash at the end is what makes a directory.
            b'0' | 0 if entry.path.ends_with(b"/") => Kind::Directory,
            b'0' | 0 | b'7' | b'S' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::CharDevice,
            b'4' => Kind::BlockDevice,
            b'5' | b'D' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => {
                let name = String::from_utf8_lossy(&entry.path).into_owned();
                let kind = char::from(other);
                return Err(self.broken(format!("{name:?} has the unknown type {kind:?}")));
            }
        };
        let link = || header::text(&block[header::LINK]).to_vec();
        if matches!(entry.kind, Kind::HardLink | Kind::Symlink) {
            entry.link = extras.link.unwrap_or_else(link);
        }
        entry.mode = self.field(block, header::MODE, "mode")? as u32 & 0o7777;
        entry.uid = match extras.uid {
            Some(uid) => uid,
            None => self.id(block, header::UID, "uid")?,
        };
        entry.gid = match extras.gid {
            Some(gid) => gid,
            None => self.id(block, header::GID, "gid")?,
        };
        entry.mtime = match extras.mtime {
            Some(time) => time,
            None => Time {
                seconds: header::number(&block[header::MTIME])
                    .ok_or_else(|| self.broken("a broken mtime"))?,
                nanos: 0,
            },
        };
        if matches!(entry.kind, Kind::CharDevice | Kind::BlockDevice) {
            entry.device = (
                self.id(block, header::DEVMAJOR, "device number")?,
                self.id(block, header::DEVMINOR, "device number")?,
            );
        }
        entry.xattrs = extras.xattrs;
        // Links, devices and pipes have none, whatever the field says. GNU's dump directories have a list, to be skipped.
        let has_content = entry.kind == Kind::File || block[header::TYPE] == b'D';
        self.begin_content(if has_content {
            extras.size.unwrap_or(size)
        } else {
            0
        });
        if entry.kind == Kind::File {
            entry.size = self.left;
            self.sparse(block, extras.sparse, &mut entry)?;
        }
        Ok(entry)
    }

    /// The map of a sparse file, which may stand in the header, in pax records or before the content.
    fn sparse(&mut self, block: &Block, pax: PaxSparse, entry: &mut Entry) -> Result<(), TarError> {
        let map = if block[header::TYPE] == b'S' {
            entry.size = self.field(block, header::GNU_REAL_SIZE, "size")?;
            self.old_gnu_map(block)?
        } else if pax.is_sparse {
            entry.size = pax.real_size.unwrap_or(entry.size);
            if pax.major == Some(1) {
                let map = sparse::pax_1_0(|| self.content_block())?;
                map.map_err(|problem| self.broken(problem))?
            } else {
                pax.map
            }
        } else {
            return Ok(());
        };
        if !sparse::is_sound(&map, entry.size, self.left) || entry.size > i64::MAX as u64 {
            return Err(self.broken("a broken sparse map"));
        }
        entry.sparse = Some(map);
        Ok(())
    }

    fn old_gnu_map(&mut self, block: &Block) -> Result<Vec<super::Segment>, TarError> {
        let mut map = Vec::new();
        sparse::old_gnu_pairs(&block[header::GNU_SPARSE], &mut map)
            .map_err(|problem| self.broken(problem))?;
        let mut more = block[header::GNU_EXTENDED] != 0;
        // These blocks stand between header and content and are no part of its size.
        while more {
            let block = self.block("a sparse map")?;
            sparse::old_gnu_pairs(&block[..504], &mut map)
                .map_err(|problem| self.broken(problem))?;
            more = block[504] != 0;
        }
        Ok(map)
    }

    fn apply_pax(&self, text: &[u8], extras: &mut Extras) -> Result<(), TarError> {
        for record in Records(text) {
            let (key, value) = record.map_err(|problem| self.broken(problem))?;
            self.apply_record(key, value, extras)?;
        }
        Ok(())
    }

    fn apply_record(&self, key: &[u8], value: &[u8], extras: &mut Extras) -> Result<(), TarError> {
        let broken = || self.broken(format!("a broken {}", String::from_utf8_lossy(key)));
        let id = || {
            let value = pax::decimal(value).and_then(|id| u32::try_from(id).ok());
            value.ok_or_else(broken).map(Some)
        };
        // An empty value takes back what an earlier record said.
        let given = !value.is_empty();
        match key {
            b"path" | b"linkpath" | b"GNU.sparse.name" if value.contains(&0) => {
                return Err(broken());
            }
            b"path" => extras.path = given.then(|| value.to_vec()),
            b"linkpath" => extras.link = given.then(|| value.to_vec()),
            b"GNU.sparse.name" => extras.sparse_name = given.then(|| value.to_vec()),
            b"size" if given => {
                let size = pax::decimal(value).filter(|&size| size <= i64::MAX as u64);
                extras.size = Some(size.ok_or_else(broken)?);
            }
            b"uid" if given => extras.uid = id()?,
            b"gid" if given => extras.gid = id()?,
            b"mtime" if given => extras.mtime = Some(pax::time(value).ok_or_else(broken)?),
            b"size" => extras.size = None,
            b"uid" => extras.uid = None,
            b"gid" => extras.gid = None,
            b"mtime" => extras.mtime = None,
            _ => {
                if let Some(name) = key.strip_prefix(pax::XATTR) {
                    extras.xattrs.retain(|(known, _)| known != name);
                    extras.xattrs.push((name.to_vec(), value.to_vec()));
                } else if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    (extras.sparse.record(key, value)).map_err(|problem| self.broken(problem))?;
                }
            }
        }
        Ok(())
    }

    /// The next header; `None` at the end.
    fn header_block(&mut self) -> Result<Option<Block>, TarError> {
        self.header_at = self.offset;
        if fill(&mut self.source, self.offset)?.is_empty() {
            return Ok(None);
        }
        let block = self.block("a header")?;
        if block.iter().all(|&byte| byte == 0) {
            self.has_end_mark = true;
            return Ok(None);
        }
        if !header::checksum_is_right(&block) {
            return Err(self.broken("a wrong header checksum"));
        }
        Ok(Some(block))
    }

    fn begin_content(&mut self, size: u64) {
        self.left = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
    }

    fn skip_content(&mut self) -> Result<(), TarError> {
        loop {
            let count = self.data()?.len();
            if count == 0 {
                break;
            }
            self.consume(count);
        }
        while self.padding > 0 {
            let count = fill(&mut self.source, self.offset)?.len();
            let count = count.min(self.padding as usize);
            if count == 0 {
                return Err(truncated(self.offset, "a file's content"));
            }
            self.source.consume(count);
            self.offset += count as u64;
            self.padding -= count as u64;
        }
        Ok(())
    }

    /// The content of a header that is text.
    fn long_text(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        if size > pax::LIMIT {
            return Err(self.broken("an extended header of more than 1 MiB"));
        }
        self.begin_content(size);
        let mut text = Vec::new();
        loop {
            let data = self.data()?;
            if data.is_empty() {
                break;
            }
            text.extend_from_slice(data);
            let count = data.len();
            self.consume(count);
        }
        self.skip_content()?;
        Ok(text)
    }

    fn long_name(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        let text = self.long_text(size)?;
        Ok(header::text(&text).to_vec())
    }

    /// A block of the present entry's content.
    fn content_block(&mut self) -> Result<Block, TarError> {
        if self.left < BLOCK as u64 {
            return Err(self.broken("a broken sparse map"));
        }
        self.left -= BLOCK as u64;
        self.block("a sparse map")
    }

    fn block(&mut self, within: &str) -> Result<Block, TarError> {
        let mut block = [0; BLOCK];
        let mut have = 0;
        while have < BLOCK {
            let bytes = fill(&mut self.source, self.offset)?;
            if bytes.is_empty() {
                return Err(truncated(self.offset, within));
            }
            let count = bytes.len().min(BLOCK - have);
            block[have..have + count].copy_from_slice(&bytes[..count]);
            self.source.consume(count);
            self.offset += count as u64;
            have += count;
        }
        Ok(block)
    }

    fn field(
        &self,
        block: &Block,
        range: std::ops::Range<usize>,
        what: &str,
    ) -> Result<u64, TarError> {
        let value = header::number(&block[range]).and_then(|value| u64::try_from(value).ok());
        value.ok_or_else(|| self.broken(format!("a broken {what}")))
    }

    fn id(
        &self,
        block: &Block,
        range: std::ops::Range<usize>,
        what: &str,
    ) -> Result<u32, TarError> {
        let value = self.field(block, range, what)?;
        u32::try_from(value).map_err(|_| self.broken(format!("a broken {what}")))
    }

    fn broken(&self, problem: impl Into<String>) -> TarError {
        TarError::Header {
            offset: self.header_at,
            problem: problem.into(),
        }
    }
}

fn truncated(offset: u64, within: &str) -> TarError {
    TarError::Truncated {
        offset,
        within: within.to_owned(),
    }
}

/// The source's next bytes; empty at its end.
fn fill<R: BufRead>(source: &mut R, offset: u64) -> Result<&[u8], TarError> {
    loop {
        match source.fill_buf() {
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(TarError::Read { offset, source }),
        }
    }
    // Asked again, because the borrow above can't be returned out of a loop; the bytes are there already.
    source
        .fill_buf()
        .map_err(|source| TarError::Read { offset, source })
}

/// The name in a header. The prefix field is POSIX's: GNU has other things there.
fn name(block: &Block) -> Vec<u8> {
    let name = header::text(&block[header::NAME]);
    let prefix = header::text(&block[header::PREFIX]);
    if block[header::MAGIC][..6] != header::USTAR_MAGIC[..6] || prefix.is_empty() {
        return name.to_vec();
    }
    let mut path = Vec::with_capacity(prefix.len() + 1 + name.len());
    path.extend_from_slice(prefix);
    path.push(b'/');
    path.extend_from_slice(name);
    path
}
