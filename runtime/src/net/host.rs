//! What the host's network is like: addresses that the container's must not hide.

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::MetadataExt;

use rctr_storage::record::Endpoint;
use serde::{Deserialize, Serialize};

/// The container's IPv4 network: a /24 in which .100 is the container, .2 the way out and .3 the name server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// Its first address.
    pub base: Ipv4Addr,
}

/// In order of preference. The first is what slirp users know.
const CANDIDATES: [Ipv4Addr; 5] = [
    Ipv4Addr::new(10, 0, 2, 0),
    Ipv4Addr::new(10, 231, 17, 0),
    Ipv4Addr::new(172, 30, 231, 0),
    Ipv4Addr::new(192, 168, 231, 0),
    Ipv4Addr::new(100, 127, 231, 0),
];

impl Subnet {
    /// The first candidate that none of the host's routes (text of /proc/net/route) nor name servers lies in.
    #[must_use]
    pub fn choose(routes: &str, name_servers: &[IpAddr]) -> Self {
        let routes: Vec<(u32, u32)> = routes.lines().skip(1).filter_map(parse_route).collect();
        let free = |candidate: &&Ipv4Addr| {
            let base = candidate.to_bits();
            let overlaps = |(net, mask): &(u32, u32)| {
                let narrower = mask & 0xffff_ff00;
                *mask != 0 && net & narrower == base & narrower
            };
            let holds =
                |ip: &IpAddr| matches!(ip, IpAddr::V4(ip) if ip.to_bits() & 0xffff_ff00 == base);
            !routes.iter().any(overlaps) && !name_servers.iter().any(holds)
        };
        Self {
            base: *CANDIDATES.iter().find(free).unwrap_or(&CANDIDATES[0]),
        }
    }

    fn at(self, last: u8) -> Ipv4Addr {
        let [a, b, c, _] = self.base.octets();
        Ipv4Addr::new(a, b, c, last)
    }

    /// The container's own address.
    #[must_use]
    pub fn container(self) -> Ipv4Addr {
        self.at(100)
    }

    /// Bits of the network part.
    pub const PREFIX: u8 = 24;

    /// The MAC address of the container's interface: made of its address, as docker does, and unique in its network,
    /// where nobody else is.
    #[must_use]
    pub fn mac(self) -> String {
        let [a, b, c, d] = self.container().octets();
        format!("02:42:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
    }

    /// As a container's state has it. `sets_mac`: the helper takes a MAC address.
    pub(super) fn endpoint(self, sets_mac: bool) -> Endpoint {
        Endpoint {
            ip_address: self.container().to_string(),
            ip_prefix_len: Self::PREFIX,
            gateway: self.gateway().to_string(),
            mac_address: if sets_mac { self.mac() } else { String::new() },
        }
    }

    /// The way out.
    #[must_use]
    pub fn gateway(self) -> Ipv4Addr {
        self.at(2)
    }

    /// The name server: the helper asks the host's.
    #[must_use]
    pub fn name_server(self) -> Ipv4Addr {
        self.at(3)
    }
}

/// Destination and mask of a line of /proc/net/route (hexadecimal, the host's byte order).
fn parse_route(line: &str) -> Option<(u32, u32)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let number = |at: usize| Some(u32::from_be(u32::from_str_radix(fields.get(at)?, 16).ok()?));
    Some((number(1)?, number(7)?))
}

/// The host's address that containers may use for the host itself (`host-gateway`): the source address of its
/// default route. Nothing is sent.
#[must_use]
pub fn host_gateway() -> Option<IpAddr> {
    outbound(SocketAddr::from(([192, 0, 2, 1], 9)), "0.0.0.0:0").or_else(|| {
        outbound(
            SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 9)),
            "[::]:0",
        )
    })
}

/// Whether the host can reach IPv6 addresses beyond its own links.
pub(super) fn has_ipv6() -> bool {
    outbound(
        SocketAddr::from(([0x2001, 0x4860, 0, 0, 0, 0, 0, 1], 9)),
        "[::]:0",
    )
    .is_some()
}

/// The source address that connect(2) chooses; for a datagram socket it sends nothing.
fn outbound(to: SocketAddr, from: &str) -> Option<IpAddr> {
    let socket = UdpSocket::bind(from).ok()?;
    socket.connect(to).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_loopback())
}

/// The namespaces of a process, held open.
pub(super) struct Namespaces {
    pub(super) net: File,
    /// Only when it isn't ours: joining one's own is an error (setns(2)).
    pub(super) user: Option<File>,
}

impl Namespaces {
    pub(super) fn of(pid: i32) -> io::Result<Self> {
        let open = |kind: &str| File::open(format!("/proc/{pid}/ns/{kind}"));
        let (net, user) = (open("net")?, open("user")?);
        let (theirs, ours) = (user.metadata()?, fs::metadata("/proc/self/ns/user")?);
        let same = (theirs.dev(), theirs.ino()) == (ours.dev(), ours.ino());
        Ok(Self {
            net,
            user: (!same).then_some(user),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n";

    #[test]
    fn a_subnet_in_use_is_avoided() {
        let default = format!("{HEAD}eth0 00000000 010200C0 0003 0 0 0 00000000 0 0 0\n");
        assert_eq!(
            Subnet::choose(&default, &[]).container(),
            Ipv4Addr::new(10, 0, 2, 100)
        );
        // 10.0.0.0/8: a VPN.
        let vpn = format!("{default}tun0 0000000A 00000000 0001 0 0 0 000000FF 0 0 0\n");
        assert_eq!(
            Subnet::choose(&vpn, &[]).base,
            Ipv4Addr::new(172, 30, 231, 0)
        );
        // 10.0.2.15/32
        let host = format!("{default}eth0 0F02000A 00000000 0001 0 0 0 FFFFFFFF 0 0 0\n");
        assert_eq!(
            Subnet::choose(&host, &[]).base,
            Ipv4Addr::new(10, 231, 17, 0)
        );
        let dns = [IpAddr::from([10, 0, 2, 3])];
        assert_eq!(
            Subnet::choose(&default, &dns).base,
            Ipv4Addr::new(10, 231, 17, 0)
        );
    }
}
