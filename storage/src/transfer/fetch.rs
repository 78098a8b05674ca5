//! A blob as a stream that doesn't break: first what is in its partial file, then what the source still has, which goes
//! into the file as it comes.

use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};

use super::error::Cause;
use super::partial::Partial;
use super::retry::{Attempts, Patience};
use super::{Progress, Source, Step, TransferError};
use crate::digest::{Digest, Hasher};
use crate::manifest::Descriptor;
use crate::sys;

/// The file is given to the disk in portions of 16 MiB while the rest still comes.
const WRITEBACK: u64 = 16 << 20;

/// What all fetches of a transfer share.
pub(super) struct Context<'a> {
    pub(super) source: &'a dyn Source,
    pub(super) progress: &'a dyn Progress,
    pub(super) patience: Patience,
    /// One of them has failed: the others give up.
    pub(super) stop: &'a AtomicBool,
}

impl Context<'_> {
    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// See the module.
pub(super) struct Fetch<'a> {
    context: &'a Context<'a>,
    descriptor: &'a Descriptor,
    partial: &'a Partial,
    /// Bytes that were read from here.
    at: u64,
    /// Bytes that are in the file.
    kept: u64,
    on_the_way: u64,
    connection: Option<Box<dyn Read + Send>>,
    attempts: Attempts,
    /// All bytes have come, and it was looked whether there are more.
    ended: bool,
    /// Why reading failed.
    failure: Option<TransferError>,
}

impl<'a> Fetch<'a> {
    /// Begins with what is in the file, which is no more than the blob.
    pub(super) fn new(
        context: &'a Context<'a>,
        descriptor: &'a Descriptor,
        partial: &'a Partial,
    ) -> Result<Self, TransferError> {
        let kept = partial.size()?;
        if kept > 0 {
            let step = Step::Downloading(kept);
            context.progress.blob(&descriptor.digest, step);
        }
        Ok(Self {
            context,
            descriptor,
            partial,
            at: 0,
            kept,
            on_the_way: kept,
            connection: None,
            attempts: Attempts::new(context.patience),
            ended: false,
            failure: None,
        })
    }

    /// Why reading failed, if it was the fetch that failed and not who reads it.
    pub(super) fn take_failure(&mut self) -> Option<TransferError> {
        self.failure.take()
    }

    fn tell(&self, step: Step) {
        self.context.progress.blob(&self.descriptor.digest, step);
    }

    fn fail(&mut self, error: TransferError) -> io::Error {
        self.failure = Some(error);
        io::Error::other("see the failure")
    }

    fn io(&self, operation: &'static str) -> impl FnOnce(io::Error) -> TransferError + use<> {
        TransferError::io(operation, self.partial.path.clone())
    }

    fn read_file(&mut self, buffer: &mut [u8]) -> Result<usize, TransferError> {
        let left = usize::try_from(self.kept - self.at).unwrap_or(usize::MAX);
        let count = buffer.len().min(left);
        let read = self.partial.read_at(&mut buffer[..count], self.at);
        let read = read.map_err(self.io("read"))?;
        if read == 0 && count > 0 {
            // Somebody has cut the file off under us.
            self.kept = self.at;
        }
        self.at += read as u64;
        Ok(read)
    }

    /// The next bytes of the source; none at the end of the blob.
    fn receive(&mut self, buffer: &mut [u8]) -> Result<usize, Broken> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => connect(self.context.source, self.descriptor, self.kept)?,
        };
        let left = self.descriptor.size.saturating_sub(self.kept);
        let wanted = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        let count = loop {
            match connection.read(&mut buffer[..wanted]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // What a connection says when it breaks can't be told apart well.
                other => break other.map_err(Broken::ForNow)?,
            }
        };
        if count == 0 {
            return Err(Broken::ForNow(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("only {} of {} bytes came", self.kept, self.descriptor.size),
            )));
        }
        self.connection = Some(connection);
        Ok(count)
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), TransferError> {
        let written = self.partial.write_all_at(bytes, self.kept);
        written.map_err(self.io("write"))?;
        self.kept += bytes.len() as u64;
        self.at = self.kept;
        if self.kept - self.on_the_way >= WRITEBACK {
            // A help, not a promise: the sync at the end tells of errors.
            let count = self.kept - self.on_the_way;
            let _ = sys::begin_writeback(&**self.partial, self.on_the_way, count);
            self.on_the_way = self.kept;
        }
        self.tell(Step::Downloading(self.kept));
        Ok(())
    }

    fn retry(&mut self, error: io::Error) -> Result<(), TransferError> {
        self.connection = None;
        let (context, digest) = (self.context, self.descriptor.digest);
        let again = !context.stopped()
            && self.attempts.wait(self.kept, || {
                let step = Step::Retrying(error.to_string());
                context.progress.blob(&digest, step);
            });
        match again {
            true => Ok(()),
            false => Err(TransferError::Broken {
                digest,
                place: context.source.shown(),
                have: self.kept,
                size: self.descriptor.size,
                source: error,
            }),
        }
    }

    fn end(&mut self) -> Result<(), TransferError> {
        let mut surplus = [0];
        // No answer is fine: all that was wanted is here.
        if let Some(mut connection) = self.connection.take()
            && connection.read(&mut surplus).is_ok_and(|count| count > 0)
        {
            return Err(TransferError::TooLong {
                digest: self.descriptor.digest,
                place: self.context.source.shown(),
                size: self.descriptor.size,
            });
        }
        self.ended = true;
        self.tell(Step::Extracting);
        Ok(())
    }

    fn next(&mut self, buffer: &mut [u8]) -> Result<usize, TransferError> {
        loop {
            if self.context.stopped() {
                return Err(TransferError::Stopped);
            }
            if self.at < self.kept {
                let count = self.read_file(buffer)?;
                if count > 0 {
                    return Ok(count);
                }
                continue;
            }
            if self.at >= self.descriptor.size {
                if !self.ended {
                    self.end()?;
                }
                return Ok(0);
            }
            match self.receive(buffer) {
                Ok(count) => {
                    self.keep(&buffer[..count])?;
                    return Ok(count);
                }
                Err(Broken::ForNow(error)) => self.retry(error)?,
                Err(Broken::ForGood(error)) => return Err(error),
            }
        }
    }
}

/// Connects to the source of a blob at `at`. A source that begins earlier is read up to there.
pub(super) fn connect(
    source: &dyn Source,
    descriptor: &Descriptor,
    at: u64,
) -> Result<Box<dyn Read + Send>, Broken> {
    let opened = source.blob(descriptor, at);
    let mut stream = opened.map_err(|error| match error.is_transient() {
        true => Broken::ForNow(io::Error::other(Cause(error))),
        false => Broken::ForGood(TransferError::Blob {
            digest: descriptor.digest,
            place: source.shown(),
            source: Cause(error),
        }),
    })?;
    let Some(skip) = at.checked_sub(stream.offset) else {
        let text = format!(
            "asked for the bytes from {at}, got those from {}",
            stream.offset
        );
        return Err(Broken::ForNow(io::Error::other(text)));
    };
    let skipped = io::copy(&mut (&mut stream.bytes).take(skip), &mut io::sink());
    if skipped.map_err(Broken::ForNow)? < skip {
        return Err(Broken::ForNow(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(stream.bytes)
}

/// How a connection fails.
pub(super) enum Broken {
    ForNow(io::Error),
    ForGood(TransferError),
}

impl Read for Fetch<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        self.next(buffer).map_err(|error| self.fail(error))
    }
}

/// All bytes of the stream, hashed.
pub(super) fn hash(fetch: &mut Fetch<'_>) -> Result<Digest, TransferError> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match fetch.next(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            count => hasher.update(&buffer[..count]),
        }
    }
}
