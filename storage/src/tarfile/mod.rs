//! The tar format: reading and writing a stream of entries. No files are touched here.
//!
//! ```text
//! entry   [L|K blocks] [x pax block]  header (512 bytes)  content, padded to 512
//! end     two blocks of zeros; what follows is padding
//! ```
//!
//! Read are v7, ustar (POSIX.1-1988), pax (POSIX.1-2001) and GNU archives with all their sparse formats. Written is
//! ustar, with a pax header only where a field doesn't fit, so that the bytes depend on the content alone.
//!
//! Names are bytes and come as they stand in the archive: who creates files judges them. Global pax headers are passed
//! over, as Docker does. Every length that an archive claims is bounded before memory is taken for it.

mod header;
mod pax;
mod read;
mod sparse;
#[cfg(test)]
mod tests;
mod write;

pub use read::Reader;
pub use write::Writer;

use std::io;

/// Bytes in a block; headers and contents are padded to it.
pub const BLOCK: usize = 512;

/// What an entry makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file, with content.
    File,
    /// Another name for the file named by `link`, a path in the same archive.
    HardLink,
    /// A symbolic link to `link`.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
}

/// A time, as seconds and nanoseconds since 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Time {
    /// May be negative.
    pub seconds: i64,
    /// 0..1_000_000_000, later than `seconds`.
    pub nanos: u32,
}

/// A run of content in a sparse file; what is between the runs reads as zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Bytes from the file's start.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
}

/// One entry's header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// As it stands in the archive.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// The target of a hard or symbolic link, else empty.
    pub link: Vec<u8>,
    /// The twelve permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change of the content.
    pub mtime: Time,
    /// Bytes of a regular file, holes included; else 0.
    pub size: u64,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Extended attributes (`SCHILY.xattr.*`), in the archive's order.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The runs of content of a sparse file, ascending; `None`: content is one run.
    pub sparse: Option<Vec<Segment>>,
}

impl Entry {
    /// An entry of root's, with nothing in it.
    #[must_use]
    pub fn new(path: impl Into<Vec<u8>>, kind: Kind, mode: u32) -> Self {
        Self {
            path: path.into(),
            kind,
            link: Vec::new(),
            mode,
            uid: 0,
            gid: 0,
            mtime: Time::default(),
            size: 0,
            device: (0, 0),
            xattrs: Vec::new(),
            sparse: None,
        }
    }

    /// The bytes of content that stand in the archive: `size` without holes.
    #[must_use]
    pub fn stored_size(&self) -> u64 {
        match &self.sparse {
            None => self.size,
            Some(segments) => segments.iter().map(|segment| segment.len).sum(),
        }
    }
}

/// Why an archive can't be read.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// What delivers the bytes said no.
    #[error("cannot read the archive at byte {offset}")]
    Read {
        /// Bytes from the archive's start.
        offset: u64,
        /// The reason.
        source: io::Error,
    },
    /// The bytes end where they shouldn't.
    #[error("the archive is truncated: it ends at byte {offset}, within {within}")]
    Truncated {
        /// Bytes from the archive's start.
        offset: u64,
        /// What should have been there.
        within: String,
    },
    /// A header that isn't one.
    #[error("the archive is damaged or no tar: {problem} at byte {offset}")]
    Header {
        /// Where the header begins, in bytes from the archive's start.
        offset: u64,
        /// What is wrong with it.
        problem: String,
    },
}
