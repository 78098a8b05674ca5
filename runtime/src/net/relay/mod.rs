//! The process that joins published ports with the container.
//!
//! It is a fresh image of our own program ([`run`] behind a hidden verb of the cli) with one thread. Descriptor 0 is a
//! socket to the monitor: on it come the [`Order`] and the descriptors (network namespace, user namespace if it is
//! another one, listening sockets); its end is the relay's end. The listening sockets belong to the host's network
//! namespace, everything that is made later to the container's.
//!
//! A client's address is kept: the socket towards the container is bound to it (`IP_TRANSPARENT`, which root of the
//! namespace may). So that the answers come back to that socket and don't leave by the default route, packets from a
//! published port are looked up in a table of our own first, in which the addresses of present clients are local.
//! Other conversations from the same port (a peer-to-peer program that listens and calls from one port) aren't touched.
//!
//! Clients on the host's loopback are shown as the gateway: 127.0.0.1 would pass for the container's own.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sched::{CloneFlags, setns};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, send};
use serde::{Deserialize, Serialize};

use self::clients::Clients;
use self::tcp::Connections;
use self::udp::Flows;
use super::netlink::{Family, Netlink};
use super::{Protocol, Subnet};
use crate::sys;

mod clients;
mod tcp;
mod udp;

/// The relay's answer when the ports are served. Anything else is an error in words.
pub(super) const READY: &[u8] = b"ready";
/// How often silent flows and absent clients are looked for.
const TICK: Duration = Duration::from_secs(15);

/// What the relay serves.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) subnet: Subnet,
    pub(super) join_user: bool,
    /// In the order of the listening sockets.
    pub(super) targets: Vec<Target>,
}

/// Where a listening socket leads.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Target {
    pub(super) protocol: Protocol,
    pub(super) address: SocketAddr,
    /// In the container.
    pub(super) port: u16,
}

/// Kinds of descriptors in epoll's data, above the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Channel,
    Listener(usize),
    Connection(usize),
    Flow(usize),
}

impl Token {
    fn pack(self) -> u64 {
        let (kind, index) = match self {
            Self::Channel => (0, 0),
            Self::Listener(index) => (1, index),
            Self::Connection(index) => (2, index),
            Self::Flow(index) => (3, index),
        };
        kind << 56 | index as u64
    }

    fn unpack(data: u64) -> Self {
        let index = (data & 0x00ff_ffff_ffff_ffff) as usize;
        match data >> 56 {
            0 => Self::Channel,
            1 => Self::Listener(index),
            2 => Self::Connection(index),
            _ => Self::Flow(index),
        }
    }
}

/// A listening socket and where it leads.
struct Listener {
    socket: OwnedFd,
    target: Target,
}

/// Serves until the monitor is gone. Returns the exit status.
#[must_use]
pub fn run() -> i32 {
    sys::set_name(c"rctr-net");
    let Ok(channel) = sys::inherited_fd(0) else {
        return 1;
    };
    // A write to a closed socket reports EPIPE, and the terminal's signals aren't meant for us.
    let ignored = [
        Signal::SIGPIPE,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGHUP,
        Signal::SIGTSTP,
    ];
    let _ = ignored.into_iter().collect::<SigSet>().thread_block();
    match Server::start(&channel) {
        Ok(mut server) => {
            let _ = send(channel.as_raw_fd(), READY, MsgFlags::MSG_NOSIGNAL);
            match server.serve(&channel) {
                Ok(()) => 0,
                Err(_) => 1,
            }
        }
        Err(error) => {
            let _ = send(
                channel.as_raw_fd(),
                error.to_string().as_bytes(),
                MsgFlags::MSG_NOSIGNAL,
            );
            1
        }
    }
}

struct Server {
    epoll: Epoll,
    listeners: Vec<Listener>,
    clients: Clients,
    connections: Connections,
    flows: Flows,
    /// Processes to end with us.
    wards: Vec<OwnedFd>,
}

impl Server {
    fn start(channel: &OwnedFd) -> io::Result<Self> {
        raise_descriptor_limit();
        let (order, mut fds) = receive_order(channel)?;
        // The user namespace first: being root there is what allows the rest.
        if order.join_user {
            setns(fds.remove(1), CloneFlags::CLONE_NEWUSER)?;
        }
        setns(fds.remove(0), CloneFlags::CLONE_NEWNET)?;
        sys::loopback_up()?;
        let netlink = Netlink::open()?;
        add_rules(&netlink, &order.targets)?;
        let clients = Clients::new(netlink, order.subnet);
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(
            channel,
            EpollEvent::new(EpollFlags::EPOLLIN, Token::Channel.pack()),
        )?;
        let mut listeners = Vec::new();
        for (index, (socket, target)) in fds.into_iter().zip(order.targets).enumerate() {
            epoll.add(
                &socket,
                EpollEvent::new(EpollFlags::EPOLLIN, Token::Listener(index).pack()),
            )?;
            listeners.push(Listener { socket, target });
        }
        Ok(Self {
            epoll,
            listeners,
            clients,
            connections: Connections::default(),
            flows: Flows::default(),
            wards: Vec::new(),
        })
    }

    fn serve(&mut self, channel: &OwnedFd) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); 64];
        let mut next_tick = Instant::now() + TICK;
        loop {
            self.rest(next_tick);
            let got = match self.epoll.wait(&mut events, self.timeout(next_tick)) {
                Err(Errno::EINTR) => continue,
                result => result?,
            };
            for event in &events[..got] {
                match Token::unpack(event.data()) {
                    Token::Channel => {
                        if !self.hear(channel) {
                            self.end_wards();
                            return Ok(());
                        }
                    }
                    Token::Listener(index) => self.ready(index),
                    Token::Connection(index) => {
                        self.connections
                            .event(index, &self.epoll, &mut self.clients);
                    }
                    Token::Flow(index) => self.flows.answer(index, &self.listeners),
                }
            }
            self.connections.settle(&mut self.clients);
            self.connections.resume(&self.epoll, &self.listeners);
            if Instant::now() >= next_tick {
                next_tick = Instant::now() + TICK;
                self.flows.expire(&mut self.clients);
                self.clients.expire();
            }
        }
    }

    /// With nobody to serve, sleeps without the memory that only work needs.
    fn rest(&self, next_tick: Instant) {
        if self.connections.is_empty() && self.flows.is_empty() {
            let timeout = (!self.clients.is_empty())
                .then(|| next_tick.saturating_duration_since(Instant::now()));
            sys::rest(
                &mut [PollFd::new(self.epoll.0.as_fd(), PollFlags::POLLIN)],
                timeout,
            );
        }
    }

    fn timeout(&self, next_tick: Instant) -> EpollTimeout {
        if self.connections.has_work() {
            return EpollTimeout::ZERO;
        }
        if self.flows.is_empty() && self.clients.is_empty() {
            return EpollTimeout::NONE; // Nothing to expire: sleep for good.
        }
        let left = next_tick.saturating_duration_since(Instant::now());
        EpollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(EpollTimeout::NONE)
    }

    fn ready(&mut self, index: usize) {
        match self.listeners[index].target.protocol {
            Protocol::Tcp => {
                self.connections
                    .accept(&self.listeners, index, &self.epoll, &mut self.clients)
            }
            Protocol::Udp => self
                .flows
                .ask(&self.listeners, index, &self.epoll, &mut self.clients),
        }
    }

    /// A message of the monitor: processes to end with us. False: it is gone.
    fn hear(&mut self, channel: &OwnedFd) -> bool {
        match receive(channel, &mut [0u8; 16]) {
            Ok((0, _)) | Err(_) => false,
            Ok((_, fds)) => {
                self.wards.extend(fds);
                true
            }
        }
    }

    fn end_wards(&mut self) {
        for ward in self.wards.drain(..) {
            // It may have ended already.
            let _ = sys::pidfd_send_signal(ward.as_fd(), libc::SIGKILL);
        }
    }
}

/// Every connection takes six descriptors. If the limit stays, fewer connections are served at a time.
fn raise_descriptor_limit() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// Sends packets from published ports to our table. Neighbouring ports share a rule.
fn add_rules(netlink: &Netlink, targets: &[Target]) -> io::Result<()> {
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let ports = targets
            .iter()
            .filter(|t| t.protocol == protocol)
            .map(|t| t.port);
        for range in ranges(ports) {
            netlink.add_rule(Family::V4, protocol, &range)?;
            // Without IPv6 in this kernel the clients come by IPv4.
            let _ = netlink.add_rule(Family::V6, protocol, &range);
        }
    }
    Ok(())
}

fn ranges(ports: impl Iterator<Item = u16>) -> Vec<RangeInclusive<u16>> {
    let sorted: BTreeMap<u16, ()> = ports.map(|port| (port, ())).collect();
    let mut ranges: Vec<RangeInclusive<u16>> = Vec::new();
    for port in sorted.into_keys() {
        match ranges.last_mut() {
            Some(range) if range.end().checked_add(1) == Some(port) => {
                *range = *range.start()..=port
            }
            _ => ranges.push(port..=port),
        }
    }
    ranges
}

fn receive_order(channel: &OwnedFd) -> io::Result<(Order, Vec<OwnedFd>)> {
    let mut buffer = vec![0u8; 1 << 18];
    let (got, _) = receive(channel, &mut buffer)?;
    let order: Order = serde_json::from_slice(&buffer[..got])?;
    let wanted = 1 + usize::from(order.join_user) + order.targets.len();
    let mut fds = Vec::with_capacity(wanted);
    while fds.len() < wanted {
        match receive(channel, &mut buffer)? {
            (0, _) => return Err(io::ErrorKind::UnexpectedEof.into()),
            (_, more) => fds.extend(more),
        }
    }
    Ok((order, fds))
}

/// One message and its descriptors. Length 0: the other end is closed.
fn receive(channel: &OwnedFd, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut control = nix::cmsg_space!([i32; 253]);
    let mut slices = [io::IoSliceMut::new(buffer)];
    let message = loop {
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        match recvmsg::<()>(channel.as_raw_fd(), &mut slices, Some(&mut control), flags) {
            Err(Errno::EINTR) => {}
            result => break result?,
        }
    };
    let mut fds = Vec::new();
    for entry in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = entry {
            for fd in raw {
                fds.push(sys::inherited_fd(fd)?);
            }
        }
    }
    Ok((message.bytes, fds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_ports_share_a_rule() {
        assert_eq!(
            ranges([80, 443, 81, 82, 80].into_iter()),
            [80..=82, 443..=443]
        );
    }

    #[test]
    fn tokens_round_trip() {
        for token in [
            Token::Channel,
            Token::Listener(3),
            Token::Connection(1 << 40),
            Token::Flow(0),
        ] {
            assert_eq!(Token::unpack(token.pack()), token);
        }
    }
}
