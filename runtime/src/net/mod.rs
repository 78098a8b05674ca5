//! The container's network: a private namespace with a way out through a user-mode helper, and published ports.
//!
//! ```text
//!  host's network namespace                      │ container's network namespace
//!                                                │
//!  slirp4netns (or pasta) ◀── frames ── tap ─────┼─ eth0 10.0.2.100/24, default route 10.0.2.2, DNS 10.0.2.3
//!                                                │
//!  listening sockets ──▶ relay: accept ── splice ┼▶ socket bound to the client's own address ──▶ 10.0.2.100:80
//! ```
//!
//! Outbound traffic goes through the helper. Published ports don't: the listening sockets are ours, bound before the
//! container is made (a taken port is refused before anything else happened, without a race), and a small process, the
//! [`relay`], joins both sides. It connects inside the container's namespace from the *client's* address
//! (`IP_TRANSPARENT`), so the program sees who talks to it, and the data never pass a user-mode TCP stack.
//!
//! Order: [`prepare`] (before launch) → [`Prepared::attach`] as soon as the namespace exists, which only starts
//! processes → [`Attaching::finish`] before the program may run → keep the [`NetworkHandle`] as long as it runs.
//!
//! Measured on the machine of docs/benchmarks.md: slirp4netns is ready about 4 ms after its start and holds 1.3 MB (PSS);
//! pasta needs about 100 ms (most of it memset over its tables). So slirp4netns is
//! taken where it is installed.
//!
//! The host's loopback can't be reached from inside. Helpers end with the handle: slirp4netns and the relay when the
//! other end of their pipe closes (also when the monitor is killed), pasta by the relay's hand.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

mod attach;
mod error;
mod handle;
mod helper;
mod host;
mod listen;
mod names;
mod netlink;
mod publish;
pub mod relay;
mod relay_process;

pub use attach::{Attaching, Prepared, prepare};
pub use error::{NetError, PortError};
pub use handle::NetworkHandle;
pub use helper::{Helper, find_helper};
pub use host::{Subnet, host_gateway};
pub use listen::Published;
pub use names::{hosts, resolv_conf};
pub use publish::{from_bindings, parse_publish, publish_all, to_bindings};

/// Whose network the container sees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Its own, with a way out and published ports.
    #[default]
    Private,
    /// Its own, with a loopback interface only.
    None,
    /// The host's.
    Host,
    /// Another container's: nothing to do here, the namespace is joined at launch.
    Container,
}

/// Transport protocol of a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

impl Protocol {
    /// The word in `80/tcp`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// A port of the host that leads to a port of the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PortMap {
    /// Where the host listens; `None`: every address, IPv4 and IPv6.
    pub host_ip: Option<IpAddr>,
    /// 0: any free port.
    pub host_port: u16,
    /// The last port to choose from; equal to `host_port` unless one of several ports may be taken.
    pub host_port_end: u16,
    /// Inside.
    pub container_port: u16,
    /// tcp or udp.
    pub protocol: Protocol,
}

/// What is asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NetworkPlan {
    /// Whose network.
    pub mode: Mode,
    /// Published ports (mode `private`; without effect in the others).
    pub ports: Vec<PortMap>,
    /// `--dns`: addresses; empty: as the host.
    pub dns: Vec<String>,
    /// `--dns-search`; `.` alone: none; empty: as the host.
    pub dns_search: Vec<String>,
    /// `--dns-option`; empty: as the host.
    pub dns_options: Vec<String>,
    /// `--add-host`: name and address, or `host-gateway`.
    pub extra_hosts: Vec<(String, String)>,
    /// The container's host name.
    pub hostname: String,
    /// May be empty.
    pub domainname: String,
    /// Use this helper and no other.
    pub helper: Option<Helper>,
    /// Bytes; `None`: 65520, the fastest for a helper that ends TCP connections on the host.
    pub mtu: Option<u16>,
}

impl NetworkPlan {
    /// The plan that a container's record asks for. `exposed` are the keys `80/tcp` of the merged config, published
    /// on free ports under `-P`.
    ///
    /// # Errors
    /// When a port of the record can't be read.
    pub fn of<'a>(
        host: &rctr_storage::record::HostConfig,
        exposed: impl IntoIterator<Item = &'a str>,
        hostname: &str,
        domainname: &str,
    ) -> Result<Self, PortError> {
        let mode = match host.network_mode.as_str() {
            "none" => Mode::None,
            "host" => Mode::Host,
            other if other.starts_with("container:") => Mode::Container,
            _ => Mode::Private,
        };
        let mut ports = from_bindings(&host.port_bindings)?;
        if host.publish_all_ports {
            publish_all(&mut ports, exposed)?;
        }
        let extra_hosts = host.extra_hosts.iter().filter_map(|entry| {
            let (name, address) = entry.split_once(':')?;
            Some((name.to_owned(), address.to_owned()))
        });
        Ok(Self {
            mode,
            ports,
            dns: host.dns.clone(),
            dns_search: host.dns_search.clone(),
            dns_options: host.dns_options.clone(),
            extra_hosts: extra_hosts.collect(),
            hostname: hostname.to_owned(),
            domainname: domainname.to_owned(),
            helper: None,
            mtu: None,
        })
    }

    /// What init tries to set in a new network namespace, beneath the user's own `--sysctl`: ping without capabilities,
    /// and ports below 1024 for every user. Where /proc/sys is read-only or the kernel too old, a container without them
    /// is better than none.
    #[must_use]
    pub fn sysctls(&self) -> Vec<(&'static str, &'static str)> {
        match self.mode {
            Mode::Private | Mode::None => vec![
                ("net.ipv4.ping_group_range", "0 65535"),
                ("net.ipv4.ip_unprivileged_port_start", "0"),
            ],
            Mode::Host | Mode::Container => Vec::new(),
        }
    }
}
