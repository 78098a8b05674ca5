//! Compressed files, decompressed by a thread beside the one that uses them.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Scope;

use rctr_storage::compression::Compression;

/// Bytes of a piece between the threads.
const PIECE: usize = 256 << 10;
/// Pieces that wait.
const WAITING: usize = 4;

/// The plain bytes of a file from its start.
pub(super) fn plain(file: &File) -> io::Result<(Compression, Box<dyn Read + Send>)> {
    let mut head = Vec::new();
    let mut file = file.try_clone()?;
    file.seek(SeekFrom::Start(0))?;
    (&file)
        .take(Compression::HEAD as u64)
        .read_to_end(&mut head)?;
    file.seek(SeekFrom::Start(0))?;
    let compression = Compression::of(&head);
    let source = BufReader::with_capacity(PIECE, file);
    Ok((compression, compression.reader(source)?))
}

/// Reads `from` in a thread of its own.
pub(super) fn ahead<'scope>(
    scope: &'scope Scope<'scope, '_>,
    from: Box<dyn Read + Send>,
) -> Pieces {
    let (to, pieces) = sync_channel(WAITING);
    scope.spawn(move || send(from, &to));
    Pieces {
        from: pieces,
        piece: Vec::new(),
        at: 0,
    }
}

/// The end is an empty piece. Who doesn't read on has failed, and says so itself.
fn send(mut from: Box<dyn Read + Send>, to: &SyncSender<io::Result<Vec<u8>>>) {
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        let read = (&mut from).take(PIECE as u64).read_to_end(&mut piece);
        let ends = piece.is_empty();
        // What came before an error counts, too.
        if !ends && to.send(Ok(piece)).is_err() {
            return;
        }
        match read {
            Err(error) => {
                let _ = to.send(Err(error));
                return;
            }
            Ok(_) if ends => {
                let _ = to.send(Ok(Vec::new()));
                return;
            }
            Ok(_) => {}
        }
    }
}

/// What the other thread has read.
pub(super) struct Pieces {
    from: Receiver<io::Result<Vec<u8>>>,
    piece: Vec<u8>,
    at: usize,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() {
            // A thread that died sends no end.
            self.piece = self
                .from
                .recv()
                .unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))?;
            self.at = 0;
            if self.piece.is_empty() {
                let (to, from) = sync_channel(1);
                self.from = from;
                // The end stays the end.
                drop(to.send(Ok(Vec::new())));
                return Ok(0);
            }
        }
        let count = buffer.len().min(self.piece.len() - self.at);
        buffer[..count].copy_from_slice(&self.piece[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_comes_after_what_was_read() {
        struct Broken(usize);
        impl Read for Broken {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                if self.0 == 0 {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                let count = self.0.min(buffer.len());
                self.0 -= count;
                Ok(count)
            }
        }
        let size = PIECE + 7;
        std::thread::scope(|scope| {
            let mut pieces = ahead(scope, Box::new(Broken(size)));
            let mut bytes = Vec::new();
            let error = pieces.read_to_end(&mut bytes).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert_eq!(bytes.len(), size);
        });
    }
}
