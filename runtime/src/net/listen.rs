//! The host's side of published ports: listening sockets, bound before the container exists.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, getsockname, listen,
    setsockopt, socket, sockopt,
};
use rctr_storage::record::PortBinding;

use super::publish::key;
use super::{NetError, PortMap, Protocol};

/// Free ports for both address families are found by trying.
const ATTEMPTS: usize = 64;

/// A socket that waits for clients.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) socket: OwnedFd,
    pub(super) address: SocketAddr,
    pub(super) container_port: u16,
    pub(super) protocol: Protocol,
}

/// Ports as bound now, as a container's state has them: keys are `80/tcp`.
pub(super) type Bound = BTreeMap<String, Option<Vec<PortBinding>>>;

/// What another container has published, to name it when a port is taken.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    /// Its name.
    pub container: String,
    /// `ContainerState::ports` of a running container.
    pub ports: Bound,
}

impl Published {
    fn has(&self, address: SocketAddr, protocol: Protocol) -> bool {
        let suffix = format!("/{}", protocol.as_str());
        let overlaps = |binding: &PortBinding| {
            let ip: Option<IpAddr> = binding.host_ip.parse().ok();
            let any = |ip: IpAddr| ip.is_unspecified();
            binding.host_port.parse() == Ok(address.port())
                && ip.is_none_or(|ip| ip == address.ip() || any(ip) || any(address.ip()))
        };
        self.ports
            .iter()
            .filter(|(key, _)| key.ends_with(&suffix))
            .flat_map(|(_, list)| list.iter().flatten())
            .any(overlaps)
    }
}

/// Binds all of `ports`. `others` is asked for only when one is taken.
pub(super) fn bind_all(
    ports: &[PortMap],
    others: &dyn Fn() -> Vec<Published>,
) -> Result<Vec<Listener>, NetError> {
    let mut listeners: Vec<Listener> = Vec::new();
    for (at, port) in ports.iter().enumerate() {
        if ports[..at].contains(port) {
            continue; // The same word twice.
        }
        match bind_one(port) {
            Ok(bound) => listeners.extend(bound),
            Err(error) => return Err(explain_taken(error, &listeners, others)),
        }
    }
    Ok(listeners)
}

/// Says who has the port, where we know.
fn explain_taken(
    error: NetError,
    ours: &[Listener],
    others: &dyn Fn() -> Vec<Published>,
) -> NetError {
    let NetError::Bind {
        address,
        protocol,
        error,
    } = error
    else {
        return error;
    };
    if error.kind() != io::ErrorKind::AddrInUse {
        return NetError::Bind {
            address,
            protocol,
            error,
        };
    }
    if ours
        .iter()
        .any(|l| l.address.port() == address.port() && l.protocol == protocol)
    {
        return NetError::Twice { address, protocol };
    }
    match others()
        .into_iter()
        .find(|other| other.has(address, protocol))
    {
        Some(other) => NetError::Allocated {
            address,
            protocol,
            container: other.container,
        },
        None => NetError::Bind {
            address,
            protocol,
            error,
        },
    }
}

fn bind_one(port: &PortMap) -> Result<Vec<Listener>, NetError> {
    if port.host_port == 0 {
        return bind_any(port);
    }
    let mut last = None;
    for host_port in port.host_port..=port.host_port_end {
        match bind_addresses(port, host_port) {
            Ok(bound) => return Ok(bound),
            Err(error) if !is_taken(&error) || port.host_port == port.host_port_end => {
                return Err(error);
            }
            Err(error) => last = Some(error),
        }
    }
    drop(last); // That the last one of a range is taken says nothing.
    Err(none_free(port))
}

/// The kernel picks a port for the first address; the other family must have it too.
fn bind_any(port: &PortMap) -> Result<Vec<Listener>, NetError> {
    for _ in 0..ATTEMPTS {
        match bind_addresses(port, 0) {
            Err(error) if is_taken(&error) => {}
            result => return result,
        }
    }
    Err(none_free(port))
}

fn none_free(port: &PortMap) -> NetError {
    let (first, last) = if port.host_port == 0 {
        (1024, u16::MAX)
    } else {
        (port.host_port, port.host_port_end)
    };
    NetError::NoneFree {
        container_port: port.container_port,
        protocol: port.protocol,
        first,
        last,
    }
}

fn is_taken(error: &NetError) -> bool {
    matches!(error, NetError::Bind { error, .. } if error.kind() == io::ErrorKind::AddrInUse)
}

/// One socket for a given address, two for "every address".
fn bind_addresses(port: &PortMap, host_port: u16) -> Result<Vec<Listener>, NetError> {
    let Some(ip) = port.host_ip else {
        let first = bind_socket(port, (Ipv4Addr::UNSPECIFIED, host_port).into())?;
        let same = (Ipv6Addr::UNSPECIFIED, first.address.port()).into();
        return match bind_socket(port, same) {
            Ok(second) => Ok(vec![first, second]),
            // No IPv6 on this host.
            Err(NetError::Bind { error, .. })
                if matches!(
                    error.raw_os_error(),
                    Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)
                ) =>
            {
                Ok(vec![first])
            }
            Err(error) => Err(error),
        };
    };
    Ok(vec![bind_socket(port, (ip, host_port).into())?])
}

fn bind_socket(port: &PortMap, address: SocketAddr) -> Result<Listener, NetError> {
    let protocol = port.protocol;
    let bound = open(address, protocol).map_err(|errno| NetError::Bind {
        address,
        protocol,
        error: io::Error::from(errno),
    })?;
    Ok(Listener {
        socket: bound.0,
        address: bound.1,
        container_port: port.container_port,
        protocol,
    })
}

/// A socket for addresses like this one, which doesn't block and closes on exec.
pub(super) fn unbound(like: SocketAddr, protocol: Protocol) -> Result<OwnedFd, Errno> {
    let family = if like.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let kind = match protocol {
        Protocol::Tcp => SockType::Stream,
        Protocol::Udp => SockType::Datagram,
    };
    socket(
        family,
        kind,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        None,
    )
}

fn open(address: SocketAddr, protocol: Protocol) -> Result<(OwnedFd, SocketAddr), Errno> {
    let socket = unbound(address, protocol)?;
    if address.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    if protocol == Protocol::Tcp {
        // Connections of the container's last run may be in TIME_WAIT. Not for datagrams: there it shares the port.
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    match protocol {
        Protocol::Tcp => listen(&socket, Backlog::MAXCONN)?,
        // The relay answers from the address that the client asked.
        Protocol::Udp if address.is_ipv4() => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
        Protocol::Udp => setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?,
    }
    let name: SockaddrStorage = getsockname(socket.as_fd().as_raw_fd())?;
    Ok((socket, to_std(&name).unwrap_or(address)))
}

/// nix's address as the standard library's.
pub(super) fn to_std(address: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(SocketAddr::from((v4.ip(), v4.port())));
    }
    let v6 = address.as_sockaddr_in6()?;
    // The scope tells link-local clients apart.
    Some(std::net::SocketAddrV6::new(v6.ip(), v6.port(), 0, v6.scope_id()).into())
}

/// As `ContainerState::ports` has them.
pub(super) fn bound(listeners: &[Listener]) -> Bound {
    let mut ports = Bound::new();
    for listener in listeners {
        let list = ports
            .entry(key(listener.container_port, listener.protocol))
            .or_default();
        list.get_or_insert_default().push(PortBinding {
            host_ip: listener.address.ip().to_string(),
            host_port: listener.address.port().to_string(),
        });
    }
    ports
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::parse_publish;
    use rctr_storage::explain::Explain;

    fn nobody() -> Vec<Published> {
        Vec::new()
    }

    #[test]
    fn any_free_port_is_bound_for_both_families() {
        let ports = parse_publish("80").unwrap();
        let listeners = bind_all(&ports, &nobody).unwrap();
        let port = listeners[0].address.port();
        assert!(port >= 1024 && listeners.iter().all(|l| l.address.port() == port));
        let list = bound(&listeners)["80/tcp"].clone().unwrap();
        assert_eq!(
            list[0],
            PortBinding {
                host_ip: "0.0.0.0".to_owned(),
                host_port: port.to_string()
            }
        );
    }

    #[test]
    fn a_taken_port_is_named_with_its_owner() {
        for proto in ["tcp", "udp"] {
            let word = format!("127.0.0.1::80/{proto}");
            let first = bind_all(&parse_publish(&word).unwrap(), &nobody).unwrap();
            let taken = first[0].address.port();
            let word = format!("127.0.0.1:{taken}:80/{proto}");
            let error = bind_all(&parse_publish(&word).unwrap(), &nobody).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("cannot publish 127.0.0.1:{taken}/{proto}: address already in use")
            );
            assert!(error.hint().unwrap().contains("another port"));
            let ports = bound(&first);
            let owner = || {
                vec![Published {
                    container: "web".to_owned(),
                    ports: ports.clone(),
                }]
            };
            let error = bind_all(&parse_publish(&word).unwrap(), &owner).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!(
                    "cannot publish 127.0.0.1:{taken}/{proto}: port is already allocated by container web"
                )
            );
        }
    }

    #[test]
    fn a_range_of_host_ports_yields_a_free_one() {
        let first = bind_all(&parse_publish("127.0.0.1::80").unwrap(), &nobody).unwrap();
        let taken = first[0].address.port();
        let word = format!("127.0.0.1:{taken}-{}:80", taken.saturating_add(20));
        let second = bind_all(&parse_publish(&word).unwrap(), &nobody).unwrap();
        assert!(second[0].address.port() > taken);
    }

    #[test]
    fn the_same_port_twice_is_refused() {
        let mut ports = parse_publish("127.0.0.1:18099:80").unwrap();
        ports.extend(parse_publish("127.0.0.1:18099:80").unwrap());
        assert_eq!(bind_all(&ports, &nobody).unwrap().len(), 1);
        ports.extend(parse_publish("127.0.0.1:18099:81").unwrap());
        assert!(matches!(
            bind_all(&ports, &nobody),
            Err(NetError::Twice { .. })
        ));
    }
}
