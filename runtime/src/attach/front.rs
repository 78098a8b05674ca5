//! The caller's side of a relay: its standard streams, terminal, keys and signals.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt;

use nix::sys::signal::{Signal, raise};
use nix::unistd::{read, write};

use super::keys::Matcher;
use super::message::{MAX_DATA, Streams};
use super::signals::{Asked, Signals};
use super::terminal::RawMode;
use crate::log::Stream;

/// How to relay.
#[derive(Debug, Clone, Default)]
pub struct RelayOptions {
    /// What is relayed.
    pub streams: Streams,
    /// The process has a terminal: the caller's goes into raw mode, and its size is passed on.
    pub tty: bool,
    /// Bytes of [`super::keys::parse`]; empty: no way to detach. They count only when standard input is a terminal or
    /// the process has one.
    pub detach_keys: Vec<u8>,
    /// Signals to the caller go to the process.
    pub sig_proxy: bool,
}

/// How a relay ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The process ended with this code, 128+n if by a signal.
    Exited(i32),
    /// The detach keys were typed; the process goes on.
    Detached,
    /// A signal ended the relay (`--sig-proxy=false`); the process goes on.
    Interrupted(i32),
    /// SIGINT or SIGTERM came three times, to no avail; the process goes on.
    GivenUp,
    /// Nobody reads the caller's output any more (EPIPE); the process goes on.
    OutputClosed,
}

/// What came from the caller's standard input.
pub(crate) enum Typed {
    /// Possibly nothing: a beginning of the detach keys is held back.
    Data(Vec<u8>),
    /// The end.
    Eof,
    /// The detach keys.
    Detach,
}

/// One of the caller's outputs. Never written to while it would block: signals and keys are to be heard meanwhile.
struct Output {
    stream: Stream,
    pending: Vec<u8>,
    written: usize,
    /// The most of one write(2) after POLLOUT: a pipe has room for one page then.
    chunk: usize,
}

impl Output {
    fn new(stream: Stream) -> Self {
        let file = match stream {
            Stream::Stdout => io::stdout().as_fd().try_clone_to_owned(),
            Stream::Stderr => io::stderr().as_fd().try_clone_to_owned(),
        };
        let kind = file
            .and_then(|f| File::from(f).metadata())
            .map(|m| m.file_type());
        let chunk = match kind {
            Ok(kind) if kind.is_fifo() || kind.is_socket() || kind.is_char_device() => 4096,
            _ => usize::MAX,
        };
        Self {
            stream,
            pending: Vec::new(),
            written: 0,
            chunk,
        }
    }

    /// Writes some of what is pending.
    fn flush(&mut self) -> io::Result<()> {
        let rest = &self.pending[self.written..];
        let rest = &rest[..rest.len().min(self.chunk)];
        let result = match self.stream {
            Stream::Stdout => write(io::stdout(), rest),
            Stream::Stderr => write(io::stderr(), rest),
        };
        match result {
            Ok(count) => self.written += count,
            // The descriptor may be non-blocking, by another process that shares it.
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        if self.written == self.pending.len() {
            self.pending.clear();
            self.written = 0;
        }
        Ok(())
    }
}

/// The caller's side.
pub(crate) struct Front {
    pub(crate) signals: Signals,
    raw: Option<RawMode>,
    keys: Matcher,
    outputs: [Output; 2],
    buffer: Vec<u8>,
}

impl Front {
    pub(crate) fn enter(options: &RelayOptions, signals: Signals) -> Self {
        let raw = if options.tty && options.streams.stdin {
            RawMode::enter()
        } else {
            None
        };
        let typed_by_hand = options.tty || nix::unistd::isatty(io::stdin()).unwrap_or(false);
        let keys = if typed_by_hand {
            options.detach_keys.clone()
        } else {
            Vec::new()
        };
        Self {
            signals,
            raw,
            keys: Matcher::new(keys),
            outputs: [Output::new(Stream::Stdout), Output::new(Stream::Stderr)],
            buffer: vec![0; MAX_DATA],
        }
    }

    /// Queues output; call it only when nothing is pending, or memory grows.
    pub(crate) fn show(&mut self, stream: Stream, data: &[u8]) {
        self.outputs[usize::from(stream == Stream::Stderr)]
            .pending
            .extend_from_slice(data);
    }

    /// Whether output waits for the caller's reader.
    pub(crate) fn pending(&self) -> bool {
        self.pending_of(Stream::Stdout) || self.pending_of(Stream::Stderr)
    }

    pub(crate) fn pending_of(&self, stream: Stream) -> bool {
        !self.outputs[usize::from(stream == Stream::Stderr)]
            .pending
            .is_empty()
    }

    /// Writes some of what is pending to a descriptor that poll(2) said is writable.
    /// True: nobody reads it any more.
    pub(crate) fn flush(&mut self, stream: Stream) -> io::Result<bool> {
        match self.outputs[usize::from(stream == Stream::Stderr)].flush() {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(true),
            // The terminal has hung up: SIGHUP says the same.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => Ok(true),
            other => other.map(|()| false),
        }
    }

    /// Writes all that is pending, blocking.
    pub(crate) fn drain(&mut self) -> io::Result<bool> {
        for stream in [Stream::Stdout, Stream::Stderr] {
            while self.pending_of(stream) {
                wait_writable(stream);
                if self.flush(stream)? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Reads what poll(2) said is there.
    pub(crate) fn typed(&mut self) -> Typed {
        match read(io::stdin(), &mut self.buffer) {
            Ok(0) => Typed::Eof,
            Ok(length) => {
                let mut data = Vec::new();
                if self.keys.filter(&self.buffer[..length], &mut data) {
                    Typed::Detach
                } else {
                    Typed::Data(data)
                }
            }
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => Typed::Data(Vec::new()),
            // A directory, a terminal that has hung up, a closed descriptor: there is no input.
            Err(_) => Typed::Eof,
        }
    }

    /// Stops this process as the signal would have, with the terminal as it was before, and goes on when continued.
    pub(crate) fn job_control(&self, asked: Asked) {
        let Some(raw) = &self.raw else { return };
        if asked == Asked::Suspend {
            raw.suspend();
            // SIGSTOP can't be caught; it can't fail for oneself.
            let _ = raise(Signal::SIGSTOP);
        }
        raw.resume();
    }
}

fn wait_writable(stream: Stream) {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let (stdout, stderr) = (io::stdout(), io::stderr());
    let fd: BorrowedFd<'_> = match stream {
        Stream::Stdout => stdout.as_fd(),
        Stream::Stderr => stderr.as_fd(),
    };
    // Interrupted: the write then blocks or not, both are right.
    let _ = poll(
        &mut [PollFd::new(fd, PollFlags::POLLOUT)],
        PollTimeout::NONE,
    );
}
