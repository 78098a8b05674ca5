//! Whoever is connected to the monitor.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::attach::message::{Event, Streams};
use crate::attach::socket;
use crate::freeze::Frozen;
use crate::log::Stream;

/// A client that took nothing for so long no longer slows the program down.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection.
#[derive(Debug)]
pub(super) struct Client {
    socket: OwnedFd,
    /// What it is attached to.
    pub(super) streams: Streams,
    /// It started the program and waits in the foreground: no output may be left out.
    primary: bool,
    /// It asked to be told of the end.
    pub(super) waits: bool,
    queue: VecDeque<Vec<u8>>,
    /// Since when the first packet of the queue couldn't be sent.
    stalled: Option<Instant>,
    /// Bytes of output that were left out.
    lost: u64,
    /// Processes that stand still for it.
    pub(super) frozen: Option<Rc<Frozen>>,
    /// The connection has ended.
    pub(super) gone: bool,
}

impl Client {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            streams: Streams::default(),
            primary: false,
            waits: false,
            queue: VecDeque::new(),
            stalled: None,
            lost: 0,
            frozen: None,
            gone: false,
        }
    }

    /// It is attached from the start.
    pub(super) fn attach_primary(&mut self, streams: Streams) {
        self.streams = streams;
        self.primary = true;
        self.waits = true;
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Packets wait to be sent.
    pub(super) fn pending(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whether this output is for it.
    pub(super) fn wants(&self, stream: Stream) -> bool {
        match stream {
            Stream::Stdout => self.streams.stdout,
            Stream::Stderr => self.streams.stderr,
        }
    }

    /// Until when the program is to wait for it: `Some(None)` is for ever, `None` not at all.
    pub(super) fn blocks_until(&self, now: Instant) -> Option<Option<Instant>> {
        let since = self.stalled.filter(|_| self.pending())?;
        if self.primary {
            return Some(None);
        }
        let end = since + PATIENCE;
        (now < end).then_some(Some(end))
    }

    /// Sends output, or leaves it out when the client has stalled for too long. `packet` is encoded, `bytes` of data.
    pub(super) fn output(&mut self, packet: &[u8], bytes: usize, now: Instant) {
        if self.pending() && self.blocks_until(now).is_none() {
            self.lost += bytes as u64;
            return;
        }
        self.packet(packet);
    }

    /// Sends anything else; it is never left out.
    pub(super) fn event(&mut self, event: &Event<'_>) {
        self.packet(&event.encode());
    }

    fn packet(&mut self, packet: &[u8]) {
        if !self.pending() {
            match socket::try_send_packet(&self.socket, packet) {
                Ok(()) => return,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => {
                    self.gone = true;
                    return;
                }
            }
            self.stalled = Some(Instant::now());
        }
        self.queue.push_back(packet.to_vec());
    }

    /// Sends what waits, as far as the socket takes it.
    pub(super) fn flush(&mut self) {
        while let Some(packet) = self.queue.front() {
            match socket::try_send_packet(&self.socket, packet) {
                Ok(()) => {
                    self.queue.pop_front();
                    self.stalled = Some(Instant::now());
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.gone = true;
                    self.queue.clear();
                    return;
                }
            }
        }
        // Its memory too: an idle monitor is small.
        self.queue = VecDeque::new();
        self.stalled = None;
        if self.lost > 0 {
            let lost = std::mem::take(&mut self.lost);
            self.event(&Event::Lost(lost));
        }
    }
}
