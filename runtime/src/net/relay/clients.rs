//! The addresses under which clients appear in the container.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{SockaddrStorage, bind, connect, setsockopt, sockopt};

use super::super::listen::unbound;
use super::super::netlink::Netlink;
use super::super::{Protocol, Subnet};

/// The container's address for IPv6 clients, on its loopback interface (RFC 4193: a random prefix, ours).
const CONTAINER6: Ipv6Addr = Ipv6Addr::new(0xfd8e, 0x7263, 0x7472, 0, 0, 0, 0, 0x64);
/// Stands for clients on the host's ::1.
const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfd8e, 0x7263, 0x7472, 0, 0, 0, 0, 2);
/// A client's route stays while closed connections may still send (TIME_WAIT lasts 60 s).
const LINGER: Duration = Duration::from_secs(75);

/// How to call the container on behalf of a client: in this order, until one answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guise {
    /// From the client's own address and port.
    Client,
    /// From the gateway's address, over IPv4.
    Gateway,
}

impl Guise {
    /// The next one to try.
    pub(super) fn next(self) -> Option<Self> {
        match self {
            Self::Client => Some(Self::Gateway),
            Self::Gateway => None,
        }
    }
}

struct Route {
    users: usize,
    since: Instant,
}

/// Present clients.
pub(super) struct Clients {
    netlink: Netlink,
    subnet: Subnet,
    has_ipv6: bool,
    routes: HashMap<IpAddr, Route>,
}

impl Clients {
    pub(super) fn new(netlink: Netlink, subnet: Subnet) -> Self {
        let has_ipv6 = netlink.add_loopback_address(CONTAINER6).is_ok();
        Self {
            netlink,
            subnet,
            has_ipv6,
            routes: HashMap::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// A non-blocking socket that is connected, or connecting, to the container's `port`, and the client's address
    /// there: to be given back with [`Self::leave`].
    pub(super) fn call(
        &mut self,
        client: SocketAddr,
        port: u16,
        protocol: Protocol,
        guise: Guise,
    ) -> io::Result<(OwnedFd, IpAddr)> {
        let over_ipv6 = client.is_ipv6() && guise == Guise::Client;
        if over_ipv6 && !self.has_ipv6 {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        let (container, gateway): (IpAddr, IpAddr) = match over_ipv6 {
            true => (CONTAINER6.into(), GATEWAY6.into()),
            false => (self.subnet.container().into(), self.subnet.gateway().into()),
        };
        let source = match guise {
            Guise::Client if client.ip().is_loopback() => SocketAddr::new(gateway, client.port()),
            Guise::Client => SocketAddr::new(client.ip(), client.port()),
            Guise::Gateway => SocketAddr::new(gateway, 0),
        };
        self.enter(source.ip(), container)?;
        match open(source, SocketAddr::new(container, port), protocol) {
            Ok(socket) => Ok((socket, source.ip())),
            Err(errno) => {
                self.leave(source.ip());
                Err(errno.into())
            }
        }
    }

    fn enter(&mut self, client: IpAddr, container: IpAddr) -> io::Result<()> {
        if let Some(route) = self.routes.get_mut(&client) {
            route.users += 1;
            return Ok(());
        }
        self.netlink.add_local(client, container)?;
        self.routes.insert(
            client,
            Route {
                users: 1,
                since: Instant::now(),
            },
        );
        Ok(())
    }

    /// One conversation of this client has ended.
    pub(super) fn leave(&mut self, client: IpAddr) {
        if let Some(route) = self.routes.get_mut(&client) {
            route.users -= 1;
            route.since = Instant::now();
        }
    }

    /// Forgets clients that left a while ago.
    pub(super) fn expire(&mut self) {
        let netlink = &self.netlink;
        self.routes.retain(|client, route| {
            let stays = route.users > 0 || route.since.elapsed() < LINGER;
            if !stays {
                // The container's administrator may have removed it.
                let _ = netlink.remove_local(*client);
            }
            stays
        });
    }
}

fn open(source: SocketAddr, target: SocketAddr, protocol: Protocol) -> Result<OwnedFd, Errno> {
    let socket = unbound(target, protocol)?;
    setsockopt(&socket, sockopt::IpTransparent, &true)?;
    // The client may call another published port from the same port of its own.
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(source))?;
    match connect(socket.as_raw_fd(), &SockaddrStorage::from(target)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(socket),
        Err(errno) => Err(errno),
    }
}
