//! Pieces of a stream between threads: a few, so that who is slow slows all down.

use std::io::{self, BufRead, Read, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Bytes of a piece: 256 KiB.
pub(super) const PIECE: usize = 256 << 10;
/// Pieces that wait between two threads.
const WAITING: usize = 8;

/// A piece, shared by all who read it.
pub(super) type Piece = Arc<Vec<u8>>;

/// What a channel carries: the end is said, so that a sender which died isn't taken for one that is done.
enum Message {
    Piece(Piece),
    End,
}

/// One to some readers.
#[derive(Default)]
pub(super) struct Fan {
    to: Vec<SyncSender<Message>>,
}

impl Fan {
    /// Another reader, who gets all pieces from now on.
    pub(super) fn reader(&mut self) -> Pieces {
        let (sender, receiver) = sync_channel(WAITING);
        self.to.push(sender);
        Pieces {
            from: Some(receiver),
            piece: Piece::default(),
            at: 0,
        }
    }

    /// Gives the piece to all readers. `false`: one of them is gone, so the work has failed.
    #[must_use]
    pub(super) fn send(&self, piece: Vec<u8>) -> bool {
        let piece = Arc::new(piece);
        self.to
            .iter()
            .all(|to| to.send(Message::Piece(Arc::clone(&piece))).is_ok())
    }

    /// Tells all readers that this was all.
    pub(super) fn end(self) {
        for to in self.to {
            // Who is gone has failed, and says so itself.
            let _ = to.send(Message::End);
        }
    }
}

/// A stream of pieces, to be read. Fails with `BrokenPipe` when the sender is gone without an end.
pub(super) struct Pieces {
    /// `None` after the end.
    from: Option<Receiver<Message>>,
    piece: Piece,
    at: usize,
}

impl Pieces {
    /// The next piece as a whole, for who doesn't mix it with reading.
    pub(super) fn next_piece(&mut self) -> io::Result<Option<Piece>> {
        let Some(from) = &self.from else {
            return Ok(None);
        };
        match from.recv() {
            Ok(Message::Piece(piece)) => Ok(Some(piece)),
            Ok(Message::End) => {
                self.from = None;
                Ok(None)
            }
            Err(_) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

impl BufRead for Pieces {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at == self.piece.len() {
            let Some(piece) = self.next_piece()? else {
                return Ok(&[]);
            };
            self.piece = piece;
            self.at = 0;
        }
        Ok(&self.piece[self.at..])
    }

    fn consume(&mut self, count: usize) {
        self.at += count;
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let count = bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        self.consume(count);
        Ok(count)
    }
}

/// The writing side as a `Write`. Without [`finish`](Self::finish), readers fail.
pub(super) struct FanWriter {
    fan: Fan,
    piece: Vec<u8>,
}

impl FanWriter {
    pub(super) fn new(fan: Fan) -> Self {
        Self {
            fan,
            piece: Vec::with_capacity(PIECE),
        }
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        self.send()?;
        self.fan.end();
        Ok(())
    }

    fn send(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        match self.fan.send(piece) {
            true => Ok(()),
            false => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

impl Write for FanWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..count]);
        if self.piece.len() == PIECE {
            self.send()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The next piece of a source; empty at its end.
pub(super) fn read_piece(source: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut piece = Vec::with_capacity(PIECE);
    source.take(PIECE as u64).read_to_end(&mut piece)?;
    Ok(piece)
}
