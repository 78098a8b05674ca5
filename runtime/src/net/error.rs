//! What can go wrong with a container's network.

use std::io;
use std::net::SocketAddr;

use rctr_storage::explain::Explain;

use super::{Helper, Protocol};

/// A `-p` word that can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// Nothing after the last colon.
    #[error("no port specified: {0:?}")]
    NoPort(String),
    /// The container's side.
    #[error("invalid container port: {0:?}")]
    Container(String),
    /// The host's side.
    #[error("invalid host port: {0:?}")]
    Host(String),
    /// The address.
    #[error("invalid IP address: {0:?}")]
    Address(String),
    /// After the slash.
    #[error("invalid protocol: {0:?}")]
    Protocol(String),
    /// Ranges of unequal sizes.
    #[error("invalid ranges specified for container and host ports: {container} and {host}")]
    Ranges {
        /// As given.
        container: String,
        /// As given.
        host: String,
    },
    /// The long form.
    #[error("invalid publish option: {0:?}")]
    Option(String),
}

impl Explain for PortError {
    fn hint(&self) -> Option<String> {
        Some(
            "the form is [IP:][HOST_PORT:]CONTAINER_PORT[/tcp|/udp], for example 127.0.0.1:8005:80"
                .to_owned(),
        )
    }
}

/// Why a container has no network.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// Another of our containers has the port.
    #[error("cannot publish {address}/{}: port is already allocated by container {container}", protocol.as_str())]
    Allocated {
        /// Where the host should have listened.
        address: SocketAddr,
        /// tcp or udp.
        protocol: Protocol,
        /// Who has it.
        container: String,
    },
    /// The command asks for the port twice.
    #[error("cannot publish {address}/{} twice: port is already allocated", protocol.as_str())]
    Twice {
        /// Where.
        address: SocketAddr,
        /// tcp or udp.
        protocol: Protocol,
    },
    /// The kernel refuses the port.
    #[error("cannot publish {address}/{}{}", protocol.as_str(), in_words(error))]
    Bind {
        /// Where.
        address: SocketAddr,
        /// tcp or udp.
        protocol: Protocol,
        /// `EADDRINUSE`, `EACCES`, `EADDRNOTAVAIL`: the message says it in words.
        error: io::Error,
    },
    /// No free port in a range.
    #[error("cannot publish container port {container_port}/{}: all host ports from {first} to {last} are already allocated", protocol.as_str())]
    NoneFree {
        /// Inside.
        container_port: u16,
        /// tcp or udp.
        protocol: Protocol,
        /// Of the range.
        first: u16,
        /// Of the range.
        last: u16,
    },
    /// No helper.
    #[error("cannot give the container a network: {} is installed", absent(*wanted))]
    NoHelper {
        /// The one that was demanded.
        wanted: Option<Helper>,
    },
    /// A helper couldn't be started.
    #[error("cannot start {program}")]
    Start {
        /// Its name.
        program: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A helper gave up.
    #[error("cannot give the container a network: {program} failed: {output}")]
    Helper {
        /// Its name.
        program: &'static str,
        /// What it said last.
        output: String,
    },
    /// A call of our own.
    #[error("cannot {operation}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// Why.
        source: io::Error,
    },
}

fn in_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => ": address already in use".to_owned(),
        io::ErrorKind::PermissionDenied => {
            ": permission denied, ports below 1024 are reserved".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => ": the host has no such address".to_owned(),
        _ => format!(": {error}"),
    }
}

fn absent(wanted: Option<Helper>) -> &'static str {
    match wanted {
        None => "neither slirp4netns nor pasta",
        Some(Helper::Slirp4netns) => "no slirp4netns",
        Some(Helper::Pasta) => "no pasta",
    }
}

impl NetError {
    pub(crate) fn io(operation: &'static str, source: impl Into<io::Error>) -> Self {
        Self::Io {
            operation,
            source: source.into(),
        }
    }
}

impl Explain for NetError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Allocated { container, .. } => {
                format!("publish on another port, or stop {container}")
            }
            Self::Bind { error, address, protocol } => match error.kind() {
                io::ErrorKind::AddrInUse => {
                    let option = if *protocol == Protocol::Tcp { 't' } else { 'u' };
                    format!(
                        "publish on another port; `ss -ln{option}p sport = :{}` shows who has this one",
                        address.port()
                    )
                }
                io::ErrorKind::PermissionDenied => format!(
                    "use a port from 1024 on, such as {}; or as root: sysctl net.ipv4.ip_unprivileged_port_start={}",
                    u32::from(address.port()) + 8000,
                    address.port()
                ),
                io::ErrorKind::AddrNotAvailable => "`ip addr` shows the addresses of this host".to_owned(),
                _ => return None,
            },
            Self::NoHelper { .. } => {
                "apt-get install slirp4netns, or run with --network none or --network host".to_owned()
            }
            Self::Helper { output, .. } if output.contains("/dev/net/tun") => {
                "the network needs /dev/net/tun: as root `modprobe tun`, or run with --network none or --network host"
                    .to_owned()
            }
            Self::Helper { .. } | Self::Start { .. } => {
                "`rctr doctor` tells what this host allows; --network none and --network host need no helper".to_owned()
            }
            Self::Twice { .. } | Self::NoneFree { .. } | Self::Io { .. } => return None,
        })
    }
}
