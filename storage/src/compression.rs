//! Compressed streams, recognised by their first bytes.
//!
//! Layers are plain, gzip or zstd (OCI image-spec, layer.md); archives, contexts and what ADD unpacks may be all of these.

use std::io::{self, BufRead, Read};

/// Memory that an xz stream may ask for: `xz -9` needs 65 MiB.
const XZ_MEMORY_KIB: u32 = 512 << 10;

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// It isn't.
    None,
    /// RFC 1952.
    Gzip,
    /// Not for layers.
    Bzip2,
    /// Not for layers.
    Xz,
    /// RFC 8878.
    Zstd,
}

impl Compression {
    /// First bytes that are enough to tell.
    pub const HEAD: usize = 8;

    /// By the first bytes.
    #[must_use]
    pub fn of(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, 0x08, ..] => Self::Gzip,
            // A block, or the end of a stream of nothing: a tar's first file may be called BZh….
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, ..]
            | [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, 0x45, ..] => Self::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            // Or a skippable frame, as zstd:chunked may begin with.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::None,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
        }
    }

    /// The plain bytes of `source`.
    ///
    /// # Errors
    /// When a decompressor can't be made.
    pub fn reader<'a>(
        self,
        source: impl BufRead + Send + 'a,
    ) -> io::Result<Box<dyn Read + Send + 'a>> {
        Ok(match self {
            Self::None => Box::new(source),
            // Members follow each other in estargz and in what pigz writes.
            Self::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
            Self::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(source)),
            Self::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(
                source,
                true,
                XZ_MEMORY_KIB,
            )),
            Self::Zstd => Box::new(zstd::Decoder::with_buffer(source)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compressions_are_told_by_their_first_bytes() {
        for (head, want) in [
            (&b"\x1f\x8b\x08\0"[..], Compression::Gzip),
            (b"BZh91AY", Compression::Bzip2),
            (b"BZhang/\0", Compression::None),
            (b"\xfd7zXZ\0\0", Compression::Xz),
            (b"\x28\xb5\x2f\xfd", Compression::Zstd),
            (b"\x50\x2a\x4d\x18", Compression::Zstd),
            (b"app/\0\0", Compression::None),
            (b"", Compression::None),
        ] {
            assert_eq!(Compression::of(head), want, "{head:?}");
        }
    }
}
