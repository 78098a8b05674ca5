//! Addresses, routes and rules of a network namespace: the few rtnetlink(7) messages that the relay needs.

use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

use super::Protocol;

/// The loopback interface has the first index in every namespace.
const LOOPBACK: u32 = 1;
/// Our routing table.
const TABLE: u8 = 114;
/// Priority of our rules: after `local` (0), before `main` (32766).
const PRIORITY: u32 = 114;

// linux/rtnetlink.h, linux/fib_rules.h, linux/if_addr.h.
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_NEWRULE: u16 = 32;
const NLM_F_REQUEST_ACK: u16 = 0x5;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_REPLACE: u16 = 0x100;
const RTN_LOCAL: u8 = 2;
const RT_SCOPE_HOST: u8 = 254;
const RTPROT_STATIC: u8 = 4;
const FR_ACT_TO_TBL: u8 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_F_NODAD: u8 = 2;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_PREFSRC: u16 = 7;
const FRA_PRIORITY: u16 = 6;
const FRA_IP_PROTO: u16 = 22;
const FRA_SPORT_RANGE: u16 = 23;

/// A conversation with the kernel about the network namespace in which it was opened.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: OwnedFd,
}

impl Netlink {
    pub(super) fn open() -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        Ok(Self { socket })
    }

    /// Gives the loopback interface another address.
    pub(super) fn add_loopback_address(&self, ip: Ipv6Addr) -> io::Result<()> {
        let mut body = vec![libc::AF_INET6 as u8, 128, IFA_F_NODAD, RT_SCOPE_HOST];
        body.extend(LOOPBACK.to_ne_bytes());
        attribute(&mut body, IFA_LOCAL, &ip.octets());
        attribute(&mut body, IFA_ADDRESS, &ip.octets());
        self.request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &body)
    }

    /// Packets that leave from one of `ports` are looked up in our table first (`ipproto` and `sport`: Linux 4.17).
    pub(super) fn add_rule(
        &self,
        family: Family,
        protocol: Protocol,
        ports: &RangeInclusive<u16>,
    ) -> io::Result<()> {
        let mut body = vec![
            family.number(),
            0,
            0,
            0,
            TABLE,
            0,
            0,
            FR_ACT_TO_TBL,
            0,
            0,
            0,
            0,
        ];
        attribute(&mut body, FRA_PRIORITY, &PRIORITY.to_ne_bytes());
        let number = match protocol {
            Protocol::Tcp => libc::IPPROTO_TCP as u8,
            Protocol::Udp => libc::IPPROTO_UDP as u8,
        };
        attribute(&mut body, FRA_IP_PROTO, &[number]);
        let mut range = ports.start().to_ne_bytes().to_vec();
        range.extend(ports.end().to_ne_bytes());
        attribute(&mut body, FRA_SPORT_RANGE, &range);
        self.request(RTM_NEWRULE, NLM_F_CREATE, &body)
    }

    /// Makes `client` an address of this namespace for the packets of our table; unbound sockets answer it from
    /// `source`.
    pub(super) fn add_local(&self, client: IpAddr, source: IpAddr) -> io::Result<()> {
        self.request(
            RTM_NEWROUTE,
            NLM_F_CREATE | NLM_F_REPLACE,
            &local_route(client, Some(source)),
        )
    }

    /// The reverse of [`Self::add_local`].
    pub(super) fn remove_local(&self, client: IpAddr) -> io::Result<()> {
        self.request(RTM_DELROUTE, 0, &local_route(client, None))
    }

    fn request(&self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        let length = 16 + body.len();
        let mut message = u32::try_from(length)
            .map_err(io::Error::other)?
            .to_ne_bytes()
            .to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend((NLM_F_REQUEST_ACK | flags).to_ne_bytes());
        message.extend([0; 8]); // Sequence and port: one request at a time, the kernel fills in the port.
        message.extend(body);
        send(self.socket.as_raw_fd(), &message, MsgFlags::empty())?;
        let mut answer = [0u8; 1024];
        let got = recv(self.socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        // struct nlmsghdr (16 bytes), then struct nlmsgerr, which starts with a negative errno.
        let errno = answer[..got]
            .get(16..20)
            .and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
        match errno.map(i32::from_ne_bytes) {
            Some(0) => Ok(()),
            Some(errno) => Err(Errno::from_raw(-errno).into()),
            None => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    fn number(self) -> u8 {
        match self {
            Self::V4 => libc::AF_INET as u8,
            Self::V6 => libc::AF_INET6 as u8,
        }
    }
}

fn local_route(client: IpAddr, source: Option<IpAddr>) -> Vec<u8> {
    let (family, bits) = if client.is_ipv4() {
        (Family::V4, 32)
    } else {
        (Family::V6, 128)
    };
    let mut body = vec![
        family.number(),
        bits,
        0,
        0,
        TABLE,
        RTPROT_STATIC,
        RT_SCOPE_HOST,
        RTN_LOCAL,
        0,
        0,
        0,
        0,
    ];
    attribute(&mut body, RTA_DST, &octets(client));
    attribute(&mut body, RTA_OIF, &LOOPBACK.to_ne_bytes());
    if let Some(source) = source {
        attribute(&mut body, RTA_PREFSRC, &octets(source));
    }
    body
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// struct rtattr: length, kind, value, padded to four bytes.
fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = 4 + value.len() as u16;
    body.extend(length.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}
