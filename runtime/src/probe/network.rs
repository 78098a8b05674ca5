//! The private network, and what the host's network lets an ordinary user do.

use std::fs::{self, OpenOptions};
use std::net::{Ipv4Addr, TcpListener};

use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use super::{Outcome, Probe, World, find_program, trouble};
use crate::sys;

pub(super) fn all(world: &World<'_>) -> Vec<Probe> {
    vec![private(world), low_ports(), ping()]
}

fn private(world: &World<'_>) -> Probe {
    const NAME: &str = "private network";
    const MEANS: &str = "containers need --network host or --network none";
    let namespace = world.inside(|| {
        unshare(CloneFlags::CLONE_NEWNET).map_err(trouble("unshare(CLONE_NEWNET)"))?;
        sys::loopback_up().map_err(trouble("bring up loopback"))?;
        Ok(String::new())
    });
    let Some(namespace) = namespace else {
        return Probe::not_tried(NAME);
    };
    if let Err(trouble) = namespace {
        return Probe::new(NAME, Outcome::Limited, trouble.to_string())
            .means("containers need --network host")
            .fix("as root: sysctl user.max_net_namespaces=15000; in a container: a seccomp profile that allows unshare");
    }
    let program = |name| find_program(name, world.surroundings.path);
    // In the order in which `net` takes them.
    let Some(program) = program("slirp4netns").or_else(|| program("pasta")) else {
        return Probe::new(
            NAME,
            Outcome::Limited,
            "neither slirp4netns nor pasta is installed",
        )
        .means(MEANS)
        .fix("apt-get install slirp4netns (or passt)");
    };
    let tun = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun");
    match tun {
        Ok(_) => Probe::works(NAME, format!("uses {}", program.display())),
        Err(error) => Probe::new(
            NAME,
            Outcome::Limited,
            format!("cannot open /dev/net/tun: {error}"),
        )
        .means(MEANS)
        .fix("as root: modprobe tun; in a container: --device /dev/net/tun"),
    }
}

fn low_ports() -> Probe {
    const NAME: &str = "ports below 1024";
    let first = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")
        .ok()
        .and_then(|text| text.trim().parse::<u16>().ok())
        .unwrap_or(1024);
    // Any free one tells.
    let listening =
        (1..1024u16).rev().find_map(
            |port| match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
                Err(error) if error.raw_os_error() == Some(libc::EADDRINUSE) => None,
                result => Some(result.map(|_| port)),
            },
        );
    match listening {
        Some(Ok(_)) if first <= 80 || nix::unistd::geteuid().is_root() => {
            Probe::works(NAME, "can be published")
        }
        _ => Probe::note(NAME, format!("ports from {first} on can be published"))
            .means("-p 80:80 is refused, -p 8080:80 works")
            .fix("as root: sysctl net.ipv4.ip_unprivileged_port_start=80"),
    }
}

fn ping() -> Probe {
    const NAME: &str = "ping";
    let icmp = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::Icmp,
    );
    match icmp {
        Ok(_) => Probe::works(NAME, "works"),
        Err(errno) => Probe::note(NAME, super::describe(errno as i32))
            .means("ping to the outside gets no answer in a private network")
            .fix("as root: sysctl net.ipv4.ping_group_range='0 2147483647'"),
    }
}
