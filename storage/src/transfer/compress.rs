//! Compressing a layer on several cores, the same bytes each time.
//!
//! The tar is cut into blocks of a fixed size that are compressed each for itself, in turn by the workers, so that the
//! result is the same however many there are. A gzip file is one member, as pigz makes it: each block is a piece of raw
//! deflate that ends at a byte and has the 32 KiB before it as its dictionary. A zstd file is a frame for each block
//! (RFC 8878, section 3).

use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use flate2::{Compress, Crc, FlushCompress};

use super::push::Compression;
use crate::digest::{Digest, Hasher};

/// Bytes of the dictionary, deflate's window: 32 KiB.
const WINDOW: usize = 32 << 10;

/// What compression is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Codec {
    pub(super) compression: Compression,
    pub(super) level: i32,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Compressed {
    /// Of the compressed bytes.
    pub(super) digest: Digest,
    /// Of the bytes that were read.
    pub(super) content: Digest,
    /// Compressed bytes.
    pub(super) size: u64,
}

impl Codec {
    /// Says which bytes come of a tar: changes whenever this code makes others.
    pub(super) fn name(self) -> String {
        let word = match self.compression {
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
        };
        format!("packed-1-{word}-{}", self.level)
    }

    /// Bytes of a block: small enough for all cores to have some, large enough to lose nothing.
    fn block(self) -> usize {
        match self.compression {
            Compression::Gzip => 256 << 10,
            Compression::Zstd => 1 << 20,
        }
    }

    /// No more cores than this work at a layer: together they need less than 50 MiB.
    fn most_workers(self) -> usize {
        match (self.compression, self.level) {
            (Compression::Gzip, _) | (_, ..=6) => 8,
            (_, 7..=8) => 6,
            (_, 9..=10) => 3,
            _ => 2,
        }
    }

    /// Reads `input` to its end and writes it to `output`, compressed.
    pub(super) fn compress(
        self,
        input: &mut (dyn Read + Send),
        output: &mut (dyn Write + Send),
    ) -> io::Result<Compressed> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        self.compress_with(cores.min(self.most_workers()), input, output)
    }

    fn compress_with(
        self,
        workers: usize,
        input: &mut (dyn Read + Send),
        output: &mut (dyn Write + Send),
    ) -> io::Result<Compressed> {
        thread::scope(|scope| {
            let (mut to, mut from) = (Vec::new(), Vec::new());
            for _ in 0..workers.max(1) {
                let (block_sender, blocks) = sync_channel(1);
                let (packed_sender, packed) = sync_channel(1);
                to.push(block_sender);
                from.push(packed);
                scope.spawn(move || self.work(&blocks, &packed_sender));
            }
            let writing = scope.spawn(move || self.write(from, output));
            let read = self.read(input, to);
            let written = writing.join();
            let written = written.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            // If nobody writes, nobody takes blocks either: that is the first to have failed.
            let read = match (read, written.is_err()) {
                (Err(error), false) => return Err(error),
                (read, _) => read,
            };
            let mut out = written?;
            let read = read?;
            out.end(&self.trailer(&read))?;
            Ok(Compressed {
                digest: out.hasher.finish(),
                content: read.content,
                size: out.size,
            })
        })
    }

    /// Gives the blocks to the workers in turn.
    fn read(self, input: &mut dyn Read, to: Vec<SyncSender<Block>>) -> io::Result<Content> {
        let (mut hasher, mut crc) = (Hasher::new(), Crc::new());
        let mut before = Vec::new();
        let mut first = true;
        for worker in to.iter().cycle() {
            let mut bytes = Vec::with_capacity(self.block());
            (&mut *input)
                .take(self.block() as u64)
                .read_to_end(&mut bytes)?;
            // Of nothing there is an empty block as well.
            if bytes.is_empty() && !first {
                break;
            }
            first = false;
            hasher.update(&bytes);
            let mut block = Block {
                before: std::mem::take(&mut before),
                bytes,
            };
            if self.compression == Compression::Gzip {
                crc.update(&block.bytes);
                before = block.bytes[block.bytes.len().saturating_sub(WINDOW)..].to_vec();
            } else {
                block.before = Vec::new();
            }
            if worker.send(block).is_err() {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        }
        Ok(Content {
            content: hasher.finish(),
            crc: crc.sum(),
            amount: crc.amount(),
        })
    }

    fn work(self, blocks: &Receiver<Block>, packed: &SyncSender<io::Result<Vec<u8>>>) {
        let mut packer = match self.compression {
            Compression::Gzip => {
                let level = u32::try_from(self.level).unwrap_or(0);
                Ok(Packer::Gzip(flate2::Compression::new(level)))
            }
            Compression::Zstd => zstd::bulk::Compressor::new(self.level).map(Packer::Zstd),
        };
        for block in blocks {
            let done = match &mut packer {
                Ok(packer) => packer.pack(&block),
                Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
            };
            let failed = done.is_err();
            if packed.send(done).is_err() || failed {
                return;
            }
        }
    }

    fn write<'o>(
        self,
        from: Vec<Receiver<io::Result<Vec<u8>>>>,
        output: &'o mut (dyn Write + Send),
    ) -> io::Result<Output<'o>> {
        let mut out = Output {
            output,
            hasher: Hasher::new(),
            size: 0,
        };
        if self.compression == Compression::Gzip {
            // RFC 1952: deflate, no name, no time, an unknown system.
            out.write(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255])?;
        }
        for worker in from.iter().cycle() {
            let Ok(packed) = worker.recv() else {
                break;
            };
            out.write(&packed?)?;
        }
        Ok(out)
    }

    fn trailer(self, read: &Content) -> Vec<u8> {
        match self.compression {
            Compression::Gzip => {
                // An empty last block (RFC 1951, 3.2.6), the checksum, and the length modulo 2^32.
                let mut trailer = vec![3, 0];
                trailer.extend(read.crc.to_le_bytes());
                trailer.extend(read.amount.to_le_bytes());
                trailer
            }
            Compression::Zstd => Vec::new(),
        }
    }
}

struct Block {
    /// What stands before it, for gzip.
    before: Vec<u8>,
    bytes: Vec<u8>,
}

struct Content {
    content: Digest,
    crc: u32,
    amount: u32,
}

struct Output<'o> {
    output: &'o mut (dyn Write + Send),
    hasher: Hasher,
    size: u64,
}

impl Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        self.output.write_all(bytes)
    }

    fn end(&mut self, trailer: &[u8]) -> io::Result<()> {
        self.write(trailer)?;
        self.output.flush()
    }
}

enum Packer {
    Gzip(flate2::Compression),
    Zstd(zstd::bulk::Compressor<'static>),
}

impl Packer {
    fn pack(&mut self, block: &Block) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(level) => deflate_block(*level, block),
            Self::Zstd(frame) => frame.compress(&block.bytes),
        }
    }
}

fn deflate_block(level: flate2::Compression, block: &Block) -> io::Result<Vec<u8>> {
    // Never one that was used before: its bytes depend on what it has seen, even after a reset (zlib-rs 0.6.8).
    let mut deflate = Compress::new(level, false);
    if !block.before.is_empty() {
        deflate.set_dictionary(&block.before)?;
    }
    let mut out = Vec::with_capacity(block.bytes.len() / 2 + 1024);
    loop {
        let taken = usize::try_from(deflate.total_in()).unwrap_or(usize::MAX);
        deflate.compress_vec(&block.bytes[taken..], &mut out, FlushCompress::Sync)?;
        // With room left after a flush, all is out.
        if out.len() < out.capacity() && deflate.total_in() == block.bytes.len() as u64 {
            return Ok(out);
        }
        out.reserve(out.capacity());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compresses about as a layer does.
    fn content(size: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let words = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            format!("{} ", state >> 20)
        });
        let mut bytes: Vec<u8> = words.take(size / 4).flat_map(String::into_bytes).collect();
        bytes.truncate(size);
        bytes
    }

    fn codecs() -> [Codec; 4] {
        [
            (Compression::Gzip, 6),
            (Compression::Gzip, 1),
            (Compression::Zstd, 3),
            (Compression::Zstd, 9),
        ]
        .map(|(compression, level)| Codec { compression, level })
    }

    fn decompressed(codec: Codec, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match codec.compression {
            Compression::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut out),
            Compression::Zstd => zstd::stream::read::Decoder::new(bytes)
                .unwrap()
                .read_to_end(&mut out),
        }
        .unwrap();
        out
    }

    #[test]
    fn any_number_of_workers_makes_the_same_bytes() {
        for size in [0, 1, 256 << 10, (1 << 20) + 1, (3 << 20) + 77] {
            let content = content(size);
            for codec in codecs() {
                let pack = |workers| {
                    let mut out = Vec::new();
                    let made = codec.compress_with(workers, &mut content.as_slice(), &mut out);
                    let made = made.unwrap();
                    assert_eq!(made.digest, Digest::of(&out));
                    assert_eq!(made.content, Digest::of(&content));
                    assert_eq!(made.size, out.len() as u64);
                    out
                };
                let one = pack(1);
                assert!(
                    one == pack(2) && one == pack(5),
                    "{codec:?} of {size} bytes"
                );
                assert!(
                    decompressed(codec, &one) == content,
                    "{codec:?} of {size} bytes"
                );
            }
        }
    }

    #[test]
    fn blocks_cost_little() {
        let content = content(4 << 20);
        for codec in codecs() {
            let mut out = Vec::new();
            codec.compress(&mut content.as_slice(), &mut out).unwrap();
            let whole = match codec.compression {
                Compression::Gzip => {
                    let level = flate2::Compression::new(codec.level.unsigned_abs());
                    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
                    encoder.write_all(&content).unwrap();
                    encoder.finish().unwrap()
                }
                Compression::Zstd => {
                    zstd::stream::encode_all(content.as_slice(), codec.level).unwrap()
                }
            };
            assert!(
                out.len() < whole.len() / 100 * 103,
                "{codec:?}: {} and {}",
                out.len(),
                whole.len()
            );
        }
    }

    #[test]
    fn no_level_needs_more_than_50_mib() {
        let content = content(1 << 20);
        for level in [6, 8, 10, 15, 22] {
            let codec = Codec {
                compression: Compression::Zstd,
                level,
            };
            let mut frame = zstd::bulk::Compressor::new(level).unwrap();
            frame.compress(&content).unwrap();
            // Two blocks wait and two are worked at, as they are and compressed.
            let each = frame.context_mut().sizeof() + 2 * codec.block();
            let all = (each * codec.most_workers()) >> 20;
            assert!(all < 50, "{all} MiB at level {level}");
        }
    }

    #[test]
    fn an_output_that_fails_is_told() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let content = content(8 << 20);
        let error = codecs()[0].compress(&mut content.as_slice(), &mut Full);
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
