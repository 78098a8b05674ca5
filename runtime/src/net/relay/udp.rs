//! Datagrams: each client of each port has a socket of its own towards the container, until it is silent for long.

use std::collections::HashMap;
use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recv, recvmsg, send, sendmsg,
};

use super::clients::{Clients, Guise};
use super::{Listener, Token};
use crate::net::Protocol;
use crate::net::listen::to_std;

/// Docker's and the kernel's conntrack forget a conversation after 180 s at most.
const SILENCE: Duration = Duration::from_secs(180);
/// Above this the one that was silent longest makes place.
const MAX_FLOWS: usize = 4096;
/// Datagrams taken from one socket before the others get their turn.
const BURST: usize = 64;

/// Who talks to which port at which of the host's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    listener: usize,
    client: SocketAddr,
    /// Where the client sent to, and so where answers must come from.
    host: Option<IpAddr>,
}

struct Flow {
    key: Key,
    socket: OwnedFd,
    known_as: IpAddr,
    active: Instant,
}

/// All conversations.
#[derive(Default)]
pub(super) struct Flows {
    slots: Vec<Option<Flow>>,
    free: Vec<usize>,
    by_key: HashMap<Key, usize>,
    /// Of one datagram. Allocated with the first.
    buffer: Vec<u8>,
}

impl Flows {
    pub(super) fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// Passes on what clients sent to listening socket `index`.
    pub(super) fn ask(
        &mut self,
        listeners: &[Listener],
        index: usize,
        epoll: &Epoll,
        clients: &mut Clients,
    ) {
        self.buffer.resize(65536, 0);
        for _ in 0..BURST {
            let Some((length, client, host)) = receive(&listeners[index].socket, &mut self.buffer)
            else {
                return;
            };
            let key = Key {
                listener: index,
                client,
                host,
            };
            let port = listeners[index].target.port;
            let Some(slot) = self.find(key, port, epoll, clients) else {
                continue;
            };
            if let Some(flow) = &mut self.slots[slot] {
                flow.active = Instant::now();
                // Datagrams may get lost. The first send after a refusal reports that one: once more.
                if send(
                    flow.socket.as_raw_fd(),
                    &self.buffer[..length],
                    MsgFlags::empty(),
                ) == Err(Errno::ECONNREFUSED)
                {
                    let _ = send(
                        flow.socket.as_raw_fd(),
                        &self.buffer[..length],
                        MsgFlags::empty(),
                    );
                }
            }
        }
    }

    fn find(&mut self, key: Key, port: u16, epoll: &Epoll, clients: &mut Clients) -> Option<usize> {
        if let Some(slot) = self.by_key.get(&key) {
            return Some(*slot);
        }
        if self.by_key.len() >= MAX_FLOWS {
            self.evict(clients);
        }
        let (socket, known_as) = clients
            .call(key.client, port, Protocol::Udp, Guise::Client)
            .or_else(|_| clients.call(key.client, port, Protocol::Udp, Guise::Gateway))
            .ok()?;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        if epoll
            .add(
                &socket,
                EpollEvent::new(EpollFlags::EPOLLIN, Token::Flow(slot).pack()),
            )
            .is_err()
        {
            self.free.push(slot);
            clients.leave(known_as);
            return None;
        }
        self.slots[slot] = Some(Flow {
            key,
            socket,
            known_as,
            active: Instant::now(),
        });
        self.by_key.insert(key, slot);
        Some(slot)
    }

    /// Passes on what the container answered in conversation `index`.
    pub(super) fn answer(&mut self, index: usize, listeners: &[Listener]) {
        self.buffer.resize(65536, 0);
        let Some(flow) = self.slots.get_mut(index).and_then(Option::as_mut) else {
            return;
        };
        for _ in 0..BURST {
            let length = match recv(flow.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
                Ok(length) => length,
                // Nobody listens in the container. The client finds out by silence.
                Err(Errno::ECONNREFUSED) => continue,
                Err(_) => return,
            };
            flow.active = Instant::now();
            reply(
                &listeners[flow.key.listener].socket,
                flow.key,
                &self.buffer[..length],
            );
        }
    }

    /// Forgets silent conversations.
    pub(super) fn expire(&mut self, clients: &mut Clients) {
        for slot in 0..self.slots.len() {
            if self.slots[slot]
                .as_ref()
                .is_some_and(|flow| flow.active.elapsed() > SILENCE)
            {
                self.end(slot, clients);
            }
        }
    }

    fn evict(&mut self, clients: &mut Clients) {
        let active = |slot: &usize| self.slots[*slot].as_ref().map(|flow| flow.active);
        if let Some(oldest) = self.by_key.values().copied().min_by_key(active) {
            self.end(oldest, clients);
        }
    }

    fn end(&mut self, slot: usize, clients: &mut Clients) {
        if let Some(flow) = self.slots[slot].take() {
            clients.leave(flow.known_as);
            self.by_key.remove(&flow.key);
            self.free.push(slot);
            if self.by_key.is_empty() {
                self.buffer = Vec::new();
            }
        }
    }
}

/// A datagram's length, sender, and the host's address that it was sent to.
fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> Option<(usize, SocketAddr, Option<IpAddr>)> {
    let mut control = nix::cmsg_space!(libc::in6_pktinfo);
    let mut slices = [IoSliceMut::new(buffer)];
    let message = recvmsg::<SockaddrStorage>(
        socket.as_raw_fd(),
        &mut slices,
        Some(&mut control),
        MsgFlags::empty(),
    )
    .ok()?;
    let mut host = None;
    for entry in message.cmsgs().ok()? {
        match entry {
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                host = Some(IpAddr::from(info.ipi_spec_dst.s_addr.to_ne_bytes()));
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                host = Some(IpAddr::from(info.ipi6_addr.s6_addr))
            }
            _ => {}
        }
    }
    let client = message.address.as_ref().and_then(to_std)?;
    Some((message.bytes, client, host))
}

fn reply(socket: &OwnedFd, key: Key, data: &[u8]) {
    let to = SockaddrStorage::from(key.client);
    let slices = [IoSlice::new(data)];
    let info4;
    let info6;
    let control = match key.host {
        Some(IpAddr::V4(ip)) => {
            info4 = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr {
                    s_addr: u32::from_ne_bytes(ip.octets()),
                },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            vec![ControlMessage::Ipv4PacketInfo(&info4)]
        }
        Some(IpAddr::V6(ip)) => {
            info6 = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr {
                    s6_addr: ip.octets(),
                },
                ipi6_ifindex: 0,
            };
            vec![ControlMessage::Ipv6PacketInfo(&info6)]
        }
        None => Vec::new(),
    };
    // A datagram may get lost.
    let _ = sendmsg(
        socket.as_raw_fd(),
        &slices,
        &control,
        MsgFlags::empty(),
        Some(&to),
    );
}
