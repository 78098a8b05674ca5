//! Being attached to a container: between the caller's terminal (or pipes, files) and the container's.
//!
//! ```text
//! terminal ── Client (cli) ── attach.sock: packets ── monitor ── pty or pipes ── program
//! terminal ── relay_local (cli exec) ──────────────────────────── pty or pipes ── program
//! ```
//!
//! The client that started the container in the foreground loses no output: the program waits for it as it would for
//! any reader. Clients that attach later slow the program down as a terminal does, but one that has read nothing for ten
//! seconds is left out until it reads again ([`Event::Lost`] says how much it missed; the log has everything).
//! A client may vanish at any time: the container goes on.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rctr_storage::explain::Explain;

use crate::log::Stream;

mod front;
pub mod keys;
mod local;
pub mod message;
mod signals;
pub(crate) mod socket;
pub mod terminal;

use front::{Front, Typed};
pub use front::{Outcome, RelayOptions};
pub use local::{Local, pipes, relay_local};
pub(crate) use local::{non_blocking, reap};
use message::{Event, MAX_PACKET, Request, STDIN_WINDOW, Size};
use signals::Asked;
pub(crate) use signals::Signals;
pub use socket::{forget, run_directory, sweep};

/// Why a relay can't go on.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// Nobody listens.
    #[error("cannot attach to container {id}: it is not running")]
    NotRunning {
        /// Short ID.
        id: String,
        /// Why.
        source: io::Error,
    },
    /// The monitor has gone without saying how the container ended.
    #[error("the container's monitor was killed, and the container with it")]
    MonitorDied,
    /// The connection, a terminal or a stream of ours failed.
    #[error("cannot {verb}")]
    Io {
        /// What was tried.
        verb: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl Explain for AttachError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::NotRunning { .. } => Some("start it: rctr start -a CONTAINER".to_owned()),
            Self::MonitorDied => {
                Some("what it wrote is in its log: rctr logs CONTAINER".to_owned())
            }
            Self::Io { .. } => None,
        }
    }
}

pub(crate) fn failed(verb: &'static str) -> impl Fn(io::Error) -> AttachError {
    move |source| AttachError::Io { verb, source }
}

/// A connection to a container's monitor that is (or will be) attached to its streams.
pub struct Client {
    socket: OwnedFd,
    /// Taken before the start by the one that starts a container; else when the relay begins.
    signals: Option<Signals>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}

/// So many SIGINT and SIGTERM are forwarded; with the last one the caller itself ends too, as docker's does. A first
/// process that handles neither doesn't notice them, and the caller would sit there for ever.
const PATIENCE: u32 = 3;

impl Client {
    /// Attaches to a running container; `run` is the directory of run state.
    ///
    /// # Errors
    /// When it isn't running.
    pub fn connect(
        run: &Path,
        container_id: &str,
        options: &RelayOptions,
    ) -> Result<Self, AttachError> {
        let directory = run_directory(run, container_id);
        let socket = socket::connect_in(&directory).map_err(|source| AttachError::NotRunning {
            id: container_id.chars().take(12).collect(),
            source,
        })?;
        let client = Self {
            socket,
            signals: None,
        };
        client.send(Request::Attach(options.streams))?;
        if let Some(size) = terminal::own_size().filter(|_| options.tty) {
            // A full-screen program draws itself anew when the size changes, which it needn't have done.
            client.send(Request::Resize(Size {
                rows: size.rows.saturating_add(1),
                ..size
            }))?;
            client.send(Request::Resize(size))?;
        }
        Ok(client)
    }

    /// The client that is attached from the start.
    pub(crate) fn started(socket: OwnedFd, signals: Option<Signals>) -> Self {
        Self { socket, signals }
    }

    fn send(&self, request: Request<'_>) -> Result<(), AttachError> {
        match socket::send_packet(&self.socket, &request.encode()) {
            // The monitor is about to say why: what it sent before it went can still be received.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other.map_err(failed("talk to the container's monitor")),
        }
    }

    /// Relays until the process ends or the caller leaves. Takes this process's signals for good: afterwards it is
    /// expected to exit.
    ///
    /// # Errors
    /// When the monitor has died, or one of the caller's streams fails.
    pub fn relay(mut self, options: &RelayOptions) -> Result<Outcome, AttachError> {
        let signals = match self.signals.take() {
            Some(signals) => signals,
            None => {
                Signals::take(options.sig_proxy, options.tty).map_err(failed("take signals"))?
            }
        };
        let mut front = Front::enter(options, signals);
        let mut stdin_open = options.streams.stdin;
        let mut credit = STDIN_WINDOW;
        let mut insisted = 0;
        let mut packet = vec![0; MAX_PACKET];
        loop {
            let ready = self.wait(&front, stdin_open && credit > 0)?;
            if ready.signal {
                while let Some(asked) = front.signals.next() {
                    match asked {
                        Asked::Forward(signal) => {
                            self.send(Request::Signal(signal))?;
                            insisted += u32::from(matches!(signal, libc::SIGINT | libc::SIGTERM));
                            if insisted == PATIENCE {
                                return Ok(Outcome::GivenUp);
                            }
                        }
                        Asked::End(signal) => return Ok(Outcome::Interrupted(signal)),
                        Asked::Suspend | Asked::Resume => front.job_control(asked),
                        Asked::Resize => {}
                    }
                    // Also after a suspension, in which the size may have changed.
                    if let Some(size) = terminal::own_size().filter(|_| options.tty) {
                        self.send(Request::Resize(size))?;
                    }
                }
            }
            if ready.stdin {
                match front.typed() {
                    Typed::Data(data) if data.is_empty() => {}
                    Typed::Data(data) => {
                        credit -= 1;
                        self.send(Request::Stdin(&data))?;
                    }
                    Typed::Eof => {
                        stdin_open = false;
                        self.send(Request::StdinEof)?;
                    }
                    Typed::Detach => {
                        front.drain().map_err(failed("write the output"))?;
                        return Ok(Outcome::Detached);
                    }
                }
            }
            for (stream, writable) in [
                (Stream::Stdout, ready.stdout),
                (Stream::Stderr, ready.stderr),
            ] {
                if writable && front.flush(stream).map_err(failed("write the output"))? {
                    return Ok(Outcome::OutputClosed);
                }
            }
            if !ready.socket {
                continue;
            }
            let received = match socket::try_receive(&self.socket, &mut packet) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                other => other.map_err(failed("talk to the container's monitor"))?,
            };
            if received.is_empty() {
                front.drain().map_err(failed("write the output"))?;
                return Err(AttachError::MonitorDied);
            }
            match Event::decode(received) {
                Some(Event::Output(stream, data)) => front.show(stream, data),
                Some(Event::StdinTaken) => credit += 1,
                Some(Event::Lost(bytes)) => {
                    let notice = format!(
                        "\r\nrctr: {bytes} bytes of output were left out; see `rctr logs`\r\n"
                    );
                    front.show(Stream::Stderr, notice.as_bytes());
                }
                Some(Event::Exited { code }) => {
                    front.drain().map_err(failed("write the output"))?;
                    return Ok(Outcome::Exited(code));
                }
                _ => {}
            }
        }
    }

    fn wait(&self, front: &Front, stdin_wanted: bool) -> Result<Ready, AttachError> {
        let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
        let wanted = |yes: bool, flags: PollFlags| if yes { flags } else { PollFlags::empty() };
        let out = |stream| wanted(front.pending_of(stream), PollFlags::POLLOUT);
        let mut fds = vec![PollFd::new(front.signals.as_fd(), PollFlags::POLLIN)];
        // Descriptors of no interest are left out: poll(2) would report their hang-up again and again.
        let index = |fds: &mut Vec<_>, fd, flags: PollFlags| {
            (!flags.is_empty()).then(|| {
                fds.push(PollFd::new(fd, flags));
                fds.len() - 1
            })
        };
        let socket = index(
            &mut fds,
            self.socket.as_fd(),
            wanted(!front.pending(), PollFlags::POLLIN),
        );
        let stdin = index(
            &mut fds,
            stdin.as_fd(),
            wanted(stdin_wanted, PollFlags::POLLIN),
        );
        let stdout = index(&mut fds, stdout.as_fd(), out(Stream::Stdout));
        let stderr = index(&mut fds, stderr.as_fd(), out(Stream::Stderr));
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => return Err(failed("wait")(error.into())),
        }
        let hit = |at: Option<usize>| at.is_some_and(|at| fds[at].any().unwrap_or(true));
        Ok(Ready {
            signal: hit(Some(0)),
            socket: hit(socket),
            stdin: hit(stdin),
            stdout: hit(stdout),
            stderr: hit(stderr),
        })
    }
}

/// What poll(2) found.
#[expect(clippy::struct_excessive_bools, reason = "one for each descriptor")]
struct Ready {
    signal: bool,
    socket: bool,
    stdin: bool,
    stdout: bool,
    stderr: bool,
}
