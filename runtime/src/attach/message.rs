//! What clients and the monitor say to each other: one message a packet, its kind in the first byte.
//!
//! Numbers are little-endian. A kind that the receiver doesn't know is ignored, so that a client and a monitor of
//! different versions understand each other.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::log::Stream;

/// The most data of one packet.
pub const MAX_DATA: usize = 32 * 1024;
/// A packet that is as large as one can be.
pub(crate) const MAX_PACKET: usize = MAX_DATA + 64;
/// How many packets of standard input a client may send before the monitor says that it took one.
pub(crate) const STDIN_WINDOW: u32 = 4;

/// Rows and columns of a terminal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Lines.
    pub rows: u16,
    /// Characters.
    pub columns: u16,
}

/// What a client wants to be attached to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Streams {
    /// It sends standard input.
    pub stdin: bool,
    /// It gets standard output (a terminal's output is all standard output).
    pub stdout: bool,
    /// It gets standard error.
    pub stderr: bool,
}

/// From a client to the monitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request<'a> {
    /// Give me these streams from now on.
    Attach(Streams),
    /// Standard input. Each is answered by [`Event::StdinTaken`].
    Stdin(&'a [u8]),
    /// There is no more of it.
    StdinEof,
    /// The client's terminal has this size.
    Resize(Size),
    /// Send this signal to the container's process; answered by [`Event::Done`] or [`Event::Refused`].
    Signal(i32),
    /// Stop the container for good: signal, then SIGKILL after `timeout` (`None`: never). Answered by
    /// [`Event::Exited`].
    Stop {
        /// The first signal.
        signal: i32,
        /// Until SIGKILL.
        timeout: Option<Duration>,
    },
    /// Tell me when it ends: [`Event::Exited`].
    Wait,
    /// Stop all processes until this connection ends; answered by [`Event::Done`] or [`Event::Refused`].
    Freeze,
}

/// From the monitor to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// The container's process runs (to the client that asked for the start).
    Started {
        /// Host PID.
        pid: i32,
    },
    /// It could not be started; JSON of [`crate::monitor::StartFailure`].
    Failed(&'a [u8]),
    /// Output.
    Output(Stream, &'a [u8]),
    /// One packet of standard input was taken.
    StdinTaken,
    /// So many bytes of output were left out, since this client read nothing for long.
    Lost(u64),
    /// The container's process has ended.
    Exited {
        /// 128+n when a signal ended it.
        code: i32,
    },
    /// The request was done.
    Done,
    /// The request was not done; errno.
    Refused(i32),
}

mod kind {
    pub(super) const ATTACH: u8 = 1;
    pub(super) const STDIN: u8 = 2;
    pub(super) const STDIN_EOF: u8 = 3;
    pub(super) const RESIZE: u8 = 4;
    pub(super) const SIGNAL: u8 = 5;
    pub(super) const STOP: u8 = 6;
    pub(super) const WAIT: u8 = 7;
    pub(super) const FREEZE: u8 = 8;
    pub(super) const STARTED: u8 = 32;
    pub(super) const FAILED: u8 = 33;
    pub(super) const STDOUT: u8 = 34;
    pub(super) const STDERR: u8 = 35;
    pub(super) const STDIN_TAKEN: u8 = 36;
    pub(super) const LOST: u8 = 37;
    pub(super) const EXITED: u8 = 38;
    pub(super) const DONE: u8 = 39;
    pub(super) const REFUSED: u8 = 40;
}

fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = Vec::with_capacity(1 + body.len());
    packet.push(kind);
    packet.extend_from_slice(body);
    packet
}

fn i32_of(body: &[u8]) -> Option<i32> {
    Some(i32::from_le_bytes(body.get(..4)?.try_into().ok()?))
}

fn u64_of(body: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(body.get(..8)?.try_into().ok()?))
}

impl<'a> Request<'a> {
    /// As a packet.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Attach(s) => {
                let bits = u8::from(s.stdin) | u8::from(s.stdout) << 1 | u8::from(s.stderr) << 2;
                packet(kind::ATTACH, &[bits])
            }
            Self::Stdin(data) => packet(kind::STDIN, data),
            Self::StdinEof => packet(kind::STDIN_EOF, &[]),
            Self::Resize(size) => {
                let [a, b] = size.rows.to_le_bytes();
                let [c, d] = size.columns.to_le_bytes();
                packet(kind::RESIZE, &[a, b, c, d])
            }
            Self::Signal(n) => packet(kind::SIGNAL, &n.to_le_bytes()),
            Self::Stop { signal, timeout } => {
                let millis = timeout.map_or(u64::MAX, |t| {
                    u64::try_from(t.as_millis()).unwrap_or(u64::MAX)
                });
                let mut body = signal.to_le_bytes().to_vec();
                body.extend_from_slice(&millis.to_le_bytes());
                packet(kind::STOP, &body)
            }
            Self::Wait => packet(kind::WAIT, &[]),
            Self::Freeze => packet(kind::FREEZE, &[]),
        }
    }

    /// `None` for what this version doesn't know.
    #[must_use]
    pub fn decode(packet: &'a [u8]) -> Option<Self> {
        let (kind, body) = packet.split_first()?;
        Some(match *kind {
            kind::ATTACH => {
                let bits = *body.first()?;
                Self::Attach(Streams {
                    stdin: bits & 1 != 0,
                    stdout: bits & 2 != 0,
                    stderr: bits & 4 != 0,
                })
            }
            kind::STDIN => Self::Stdin(body),
            kind::STDIN_EOF => Self::StdinEof,
            kind::RESIZE => {
                let &[a, b, c, d] = body else { return None };
                Self::Resize(Size {
                    rows: u16::from_le_bytes([a, b]),
                    columns: u16::from_le_bytes([c, d]),
                })
            }
            kind::SIGNAL => Self::Signal(i32_of(body)?),
            kind::STOP => {
                let millis = u64_of(body.get(4..)?)?;
                Self::Stop {
                    signal: i32_of(body)?,
                    timeout: (millis != u64::MAX).then(|| Duration::from_millis(millis)),
                }
            }
            kind::WAIT => Self::Wait,
            kind::FREEZE => Self::Freeze,
            _ => return None,
        })
    }
}

impl<'a> Event<'a> {
    /// As a packet.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Started { pid } => packet(kind::STARTED, &pid.to_le_bytes()),
            Self::Failed(json) => packet(kind::FAILED, json),
            Self::Output(Stream::Stdout, data) => packet(kind::STDOUT, data),
            Self::Output(Stream::Stderr, data) => packet(kind::STDERR, data),
            Self::StdinTaken => packet(kind::STDIN_TAKEN, &[]),
            Self::Lost(bytes) => packet(kind::LOST, &bytes.to_le_bytes()),
            Self::Exited { code } => packet(kind::EXITED, &code.to_le_bytes()),
            Self::Done => packet(kind::DONE, &[]),
            Self::Refused(errno) => packet(kind::REFUSED, &errno.to_le_bytes()),
        }
    }

    /// `None` for what this version doesn't know.
    #[must_use]
    pub fn decode(packet: &'a [u8]) -> Option<Self> {
        let (kind, body) = packet.split_first()?;
        Some(match *kind {
            kind::STARTED => Self::Started { pid: i32_of(body)? },
            kind::FAILED => Self::Failed(body),
            kind::STDOUT => Self::Output(Stream::Stdout, body),
            kind::STDERR => Self::Output(Stream::Stderr, body),
            kind::STDIN_TAKEN => Self::StdinTaken,
            kind::LOST => Self::Lost(u64_of(body)?),
            kind::EXITED => Self::Exited {
                code: i32_of(body)?,
            },
            kind::DONE => Self::Done,
            kind::REFUSED => Self::Refused(i32_of(body)?),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_survive_the_way() {
        let streams = Streams {
            stdin: true,
            stdout: false,
            stderr: true,
        };
        let timeout = Some(Duration::from_millis(10_500));
        let all = [
            Request::Attach(streams),
            Request::Stdin(b"x"),
            Request::StdinEof,
            Request::Resize(Size {
                rows: 24,
                columns: 300,
            }),
            Request::Signal(15),
            Request::Stop { signal: 2, timeout },
            Request::Stop {
                signal: 2,
                timeout: None,
            },
            Request::Wait,
            Request::Freeze,
        ];
        for request in all {
            assert_eq!(Request::decode(&request.encode()), Some(request));
        }
    }

    #[test]
    fn events_survive_the_way() {
        let all = [
            Event::Started { pid: 77 },
            Event::Failed(b"{}"),
            Event::Output(Stream::Stdout, b"out"),
            Event::Output(Stream::Stderr, b""),
            Event::StdinTaken,
            Event::Lost(1 << 40),
            Event::Exited { code: 137 },
            Event::Done,
            Event::Refused(3),
        ];
        for event in all {
            assert_eq!(Event::decode(&event.encode()), Some(event));
        }
    }

    #[test]
    fn garbage_is_nothing() {
        for bad in [
            &[][..],
            &[200, 1],
            &[4, 1],
            &[5],
            &[6, 1, 0, 0, 0],
            &[38, 1],
        ] {
            assert_eq!(Request::decode(bad), None);
            assert_eq!(Event::decode(bad), None);
        }
    }
}
