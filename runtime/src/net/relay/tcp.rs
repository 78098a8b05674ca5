//! Connections: bytes go from socket to socket through a pipe (splice(2)), never through this process.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, SpliceFFlags, splice};
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::sys::socket::{
    Shutdown, SockFlag, SockaddrStorage, accept4, getpeername, getsockopt, setsockopt, shutdown,
    sockopt,
};
use nix::unistd::pipe2;

use super::clients::{Clients, Guise};
use super::{Listener, Token};
use crate::net::Protocol;
use crate::net::listen::to_std;
use crate::sys;

/// Bytes asked for at a time: a pipe's size.
const CHUNK: usize = 65536;
/// Rounds that one connection may take before the others get their turn.
const ROUNDS: usize = 16;

/// One direction.
struct Stream {
    reader: OwnedFd,
    writer: OwnedFd,
    /// Bytes in the pipe.
    held: usize,
    /// The source has said all.
    ended: bool,
    /// The sink knows.
    told: bool,
}

/// What came of moving bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// Waits for an event.
    Blocked,
    /// There may be more.
    More,
    /// Everything has been passed on.
    Finished,
}

impl Stream {
    fn new() -> nix::Result<Self> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        Ok(Self {
            reader,
            writer,
            held: 0,
            ended: false,
            told: false,
        })
    }

    fn pump(&mut self, from: &OwnedFd, to: &OwnedFd) -> nix::Result<Progress> {
        let flags = SpliceFFlags::SPLICE_F_NONBLOCK | SpliceFFlags::SPLICE_F_MOVE;
        for _ in 0..ROUNDS {
            let mut moved = false;
            if !self.ended {
                match splice(from, None, &self.writer, None, CHUNK, flags) {
                    Ok(0) => self.ended = true,
                    Ok(count) => {
                        self.held += count;
                        moved = true;
                    }
                    Err(Errno::EAGAIN | Errno::EINTR) => {}
                    Err(errno) => return Err(errno),
                }
            }
            if self.held > 0 {
                match splice(&self.reader, None, to, None, self.held, flags) {
                    Ok(count) => {
                        self.held -= count;
                        moved = true;
                    }
                    Err(Errno::EAGAIN | Errno::EINTR) => {}
                    Err(errno) => return Err(errno),
                }
            }
            if self.ended && self.held == 0 {
                if !self.told {
                    self.told = true;
                    // The other side may have gone already.
                    let _ = shutdown(to.as_raw_fd(), Shutdown::Write);
                }
                return Ok(Progress::Finished);
            }
            if !moved {
                return Ok(Progress::Blocked);
            }
        }
        Ok(Progress::More)
    }
}

struct Connection {
    client: OwnedFd,
    address: SocketAddr,
    /// In the container.
    port: u16,
    guise: Guise,
    server: OwnedFd,
    /// Under which the client is known inside.
    known_as: IpAddr,
    connected: bool,
    up: Stream,
    down: Stream,
}

impl Connection {
    fn pump(&mut self) -> nix::Result<Progress> {
        let up = self.up.pump(&self.client, &self.server)?;
        let down = self.down.pump(&self.server, &self.client)?;
        Ok(match (up, down) {
            (Progress::Finished, Progress::Finished) => Progress::Finished,
            (Progress::More, _) | (_, Progress::More) => Progress::More,
            _ => Progress::Blocked,
        })
    }

    /// Ends it with a reset on both sides.
    fn reset(self) {
        let linger = libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        for socket in [&self.client, &self.server] {
            // It is closed in any case.
            let _ = setsockopt(socket, sockopt::Linger, &linger);
        }
    }
}

/// All connections, by index.
#[derive(Default)]
pub(super) struct Connections {
    slots: Vec<Option<Connection>>,
    free: Vec<usize>,
    /// Have more to move.
    busy: Vec<usize>,
    /// Ended while events of theirs may still be in the current batch: free after it.
    ended: Vec<usize>,
    /// Out of descriptors: the listening sockets are not watched.
    paused: bool,
    resumable: bool,
}

impl Connections {
    pub(super) fn is_empty(&self) -> bool {
        self.free.len() == self.slots.len()
    }

    pub(super) fn has_work(&self) -> bool {
        !self.busy.is_empty()
    }

    /// Takes a waiting client of listening socket `index`.
    pub(super) fn accept(
        &mut self,
        listeners: &[Listener],
        index: usize,
        epoll: &Epoll,
        clients: &mut Clients,
    ) {
        let listener = &listeners[index];
        let client = match accept(&listener.socket) {
            Ok(client) => client,
            Err(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::ENOBUFS) => {
                self.pause(epoll, listeners);
                return;
            }
            // Gone again, or taken.
            Err(_) => return,
        };
        match self.begin(client, listener.target.port, epoll, clients) {
            Ok(()) => {}
            Err(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::ENOBUFS) => {
                self.pause(epoll, listeners)
            }
            Err(_) => {} // The client is closed: nobody listens there.
        }
    }

    fn begin(
        &mut self,
        client: OwnedFd,
        port: u16,
        epoll: &Epoll,
        clients: &mut Clients,
    ) -> nix::Result<()> {
        let name = getpeername(client.as_raw_fd())?;
        let address = to_std(&name).ok_or(Errno::EAFNOSUPPORT)?;
        let _ = setsockopt(&client, sockopt::TcpNoDelay, &true);
        let _ = setsockopt(&client, sockopt::KeepAlive, &true);
        let (up, down) = (Stream::new()?, Stream::new()?);
        let (server, known_as, guise) = call(clients, address, port, Guise::Client)?;
        let connection = Connection {
            client,
            address,
            port,
            guise,
            server,
            known_as,
            connected: false,
            up,
            down,
        };
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        let watched = watch(epoll, &connection.client, index)
            .and_then(|()| watch(epoll, &connection.server, index));
        if let Err(errno) = watched {
            self.free.push(index);
            clients.leave(connection.known_as);
            connection.reset();
            return Err(errno);
        }
        self.slots[index] = Some(connection);
        Ok(())
    }

    /// Something happened to a socket of connection `index`.
    pub(super) fn event(&mut self, index: usize, epoll: &Epoll, clients: &mut Clients) {
        let Some(connection) = self.slots.get_mut(index).and_then(Option::as_mut) else {
            return;
        };
        if !connection.connected {
            // Of either socket; the error tells. An unconnected socket reports HUP from the start.
            let error =
                getsockopt(&connection.server, sockopt::SocketError).unwrap_or(libc::ECONNRESET);
            if error != 0 {
                self.retry(index, epoll, clients);
                return;
            }
            if getpeername::<SockaddrStorage>(connection.server.as_raw_fd()).is_err() {
                return; // Still connecting; this was the client's socket.
            }
            connection.connected = true;
            let _ = setsockopt(&connection.server, sockopt::TcpNoDelay, &true);
        }
        self.run(index, clients);
    }

    /// The container refused: once more under another guise.
    fn retry(&mut self, index: usize, epoll: &Epoll, clients: &mut Clients) {
        let Some(mut connection) = self.slots[index].take() else {
            return;
        };
        clients.leave(connection.known_as);
        // An IPv4 client was refused by the very socket that the gateway would find.
        let next = connection
            .guise
            .next()
            .filter(|_| connection.address.is_ipv6());
        let again =
            next.and_then(|guise| call(clients, connection.address, connection.port, guise).ok());
        if let Some((server, known_as, guise)) = again {
            connection.server = server;
            connection.known_as = known_as;
            connection.guise = guise;
            if watch(epoll, &connection.server, index).is_ok() {
                self.slots[index] = Some(connection);
                return;
            }
            clients.leave(known_as);
        }
        connection.reset();
        self.ended.push(index);
    }

    fn run(&mut self, index: usize, clients: &mut Clients) {
        let Some(connection) = self.slots.get_mut(index).and_then(Option::as_mut) else {
            return;
        };
        match connection.pump() {
            Ok(Progress::Blocked) => {}
            Ok(Progress::More) => {
                if !self.busy.contains(&index) {
                    self.busy.push(index);
                }
            }
            result => {
                let Some(connection) = self.slots[index].take() else {
                    return;
                };
                clients.leave(connection.known_as);
                if result.is_err() {
                    connection.reset();
                }
                self.ended.push(index);
            }
        }
    }

    /// After a batch of events: goes on with busy connections, frees the places of ended ones.
    pub(super) fn settle(&mut self, clients: &mut Clients) {
        for index in std::mem::take(&mut self.busy) {
            self.run(index, clients);
        }
        if !self.ended.is_empty() {
            self.free.append(&mut self.ended);
            self.resumable = true;
        }
    }

    fn pause(&mut self, epoll: &Epoll, listeners: &[Listener]) {
        self.paused = true;
        self.resumable = false;
        for listener in tcp(listeners) {
            let _ = epoll.delete(&listener.1.socket);
        }
    }

    /// Watches the listening sockets again once a connection has ended.
    pub(super) fn resume(&mut self, epoll: &Epoll, listeners: &[Listener]) {
        if !(self.paused && self.resumable) {
            return;
        }
        self.paused = false;
        for (index, listener) in tcp(listeners) {
            let event = EpollEvent::new(EpollFlags::EPOLLIN, Token::Listener(index).pack());
            let _ = epoll.add(&listener.socket, event);
        }
    }
}

fn tcp(listeners: &[Listener]) -> impl Iterator<Item = (usize, &Listener)> {
    listeners
        .iter()
        .enumerate()
        .filter(|(_, l)| l.target.protocol == Protocol::Tcp)
}

fn accept(listener: &OwnedFd) -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let raw = accept4(listener.as_raw_fd(), flags)?;
    sys::inherited_fd(raw).map_err(|_| Errno::EBADF)
}

/// Calls the container under `guise` or, if that can't even begin, under the next one.
fn call(
    clients: &mut Clients,
    address: SocketAddr,
    port: u16,
    guise: Guise,
) -> nix::Result<(OwnedFd, IpAddr, Guise)> {
    let errno =
        |error: &io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::ECONNREFUSED));
    match clients.call(address, port, Protocol::Tcp, guise) {
        Ok((server, known_as)) => Ok((server, known_as, guise)),
        Err(error) => match guise.next() {
            Some(next) => call(clients, address, port, next),
            None => Err(errno(&error)),
        },
    }
}

/// Edge-triggered, both ways: after each event everything is moved that can be.
fn watch(epoll: &Epoll, socket: &OwnedFd, index: usize) -> nix::Result<()> {
    let flags =
        EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
    epoll.add(
        socket,
        EpollEvent::new(flags, Token::Connection(index).pack()),
    )
}
