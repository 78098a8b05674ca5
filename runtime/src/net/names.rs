//! The texts of a container's /etc/resolv.conf and /etc/hosts. Pure.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::{Mode, NetworkPlan, Subnet};

/// resolv.conf(5): more are ignored by the C library.
const MAX_NAME_SERVERS: usize = 3;

/// Addresses of the `nameserver` lines.
pub(super) fn name_servers(resolv_conf: &str) -> Vec<IpAddr> {
    directives(resolv_conf, "nameserver")
        // A zone (fe80::1%eth0) means nothing in another namespace: such an address doesn't parse.
        .filter_map(|value| value.parse().ok())
        .collect()
}

fn directives<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines().filter_map(move |line| {
        let line = line.split(['#', ';']).next().unwrap_or_default();
        let (word, value) = line.trim().split_once(char::is_whitespace)?;
        (word == name).then_some(value.trim())
    })
}

/// /etc/resolv.conf for the container, from the host's (`host_file`).
///
/// A private network asks the helper's name server first, which asks the host's: this works for a resolver on the
/// host's loopback (systemd-resolved, dnsmasq) and follows when the host's file changes (VPN, another Wi-Fi). The
/// host's other reachable servers follow.
#[must_use]
pub fn resolv_conf(plan: &NetworkPlan, subnet: Option<Subnet>, host_file: &str) -> String {
    if plan.mode == Mode::Host
        && plan.dns.is_empty()
        && plan.dns_search.is_empty()
        && plan.dns_options.is_empty()
    {
        return host_file.to_owned();
    }
    let mut text = String::new();
    for server in servers(plan, subnet, host_file) {
        let _ = writeln!(text, "nameserver {server}");
    }
    let inherited = |name: &'static str| directives(host_file, name).last().map(str::to_owned);
    let search = match plan.dns_search.as_slice() {
        [] => inherited("search").or_else(|| inherited("domain")),
        [only] if only == "." => None,
        given => Some(given.join(" ")),
    };
    let options = match plan.dns_options.as_slice() {
        [] => inherited("options"),
        given => Some(given.join(" ")),
    };
    for (name, value) in [("search", search), ("options", options)] {
        if let Some(value) = value {
            let _ = writeln!(text, "{name} {value}");
        }
    }
    text
}

fn servers(plan: &NetworkPlan, subnet: Option<Subnet>, host_file: &str) -> Vec<String> {
    if !plan.dns.is_empty() {
        return plan.dns.clone();
    }
    let host = name_servers(host_file);
    let reachable = |ip: &&IpAddr| match subnet {
        Some(_) => !ip.is_loopback() && !ip.is_unspecified(),
        None => true,
    };
    // slirp4netns asks the host's first IPv4 server and knows no other; with none in the file the C library's
    // default is 127.0.0.1, and so is its.
    let forwarder = subnet.filter(|_| host.is_empty() || host.iter().any(IpAddr::is_ipv4));
    // The one that the helper asks needn't be listed again, and mustn't: pasta takes its answers for those to itself.
    let asked = forwarder.and_then(|_| host.iter().find(|ip| ip.is_ipv4()));
    forwarder
        .map(|subnet| subnet.name_server().to_string())
        .into_iter()
        .chain(
            host.iter()
                .filter(reachable)
                .filter(|ip| Some(*ip) != asked)
                .map(ToString::to_string),
        )
        .take(MAX_NAME_SERVERS)
        .collect()
}

/// /etc/hosts for the container. `address` is its own one, `gateway` stands for `host-gateway`, `host_file` is the
/// host's /etc/hosts (used by `--network host` only).
#[must_use]
pub fn hosts(
    plan: &NetworkPlan,
    address: Option<IpAddr>,
    gateway: Option<IpAddr>,
    host_file: &str,
) -> String {
    let mut text = String::new();
    if plan.mode == Mode::Host {
        text.push_str(host_file);
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
    } else {
        text.push_str(
            "127.0.0.1\tlocalhost\n\
             ::1\tlocalhost ip6-localhost ip6-loopback\n\
             fe00::\tip6-localnet\n\
             ff00::\tip6-mcastprefix\n\
             ff02::1\tip6-allnodes\n\
             ff02::2\tip6-allrouters\n",
        );
    }
    for (name, address) in &plan.extra_hosts {
        match (address.as_str(), gateway) {
            ("host-gateway", None) => {}
            ("host-gateway", Some(gateway)) => {
                let _ = writeln!(text, "{gateway}\t{name}");
            }
            (address, _) => {
                let _ = writeln!(text, "{address}\t{name}");
            }
        }
    }
    if plan.mode != Mode::Host && !plan.hostname.is_empty() {
        // Without a network the name must still lead somewhere: programs look up their own host.
        let address = address.unwrap_or(IpAddr::from([127, 0, 0, 1]));
        if plan.domainname.is_empty() {
            let _ = writeln!(text, "{address}\t{}", plan.hostname);
        } else {
            let _ = writeln!(
                text,
                "{address}\t{0}.{1} {0}",
                plan.hostname, plan.domainname
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet() -> Option<Subnet> {
        Some(Subnet::choose("", &[]))
    }

    #[test]
    fn a_private_network_asks_the_helper_first() {
        let plan = NetworkPlan::default();
        let host = "# x\nnameserver 127.0.0.53\nnameserver 192.0.2.9 # second\nsearch a.example b.example\noptions edns0\n";
        assert_eq!(
            resolv_conf(&plan, subnet(), host),
            "nameserver 10.0.2.3\nnameserver 192.0.2.9\nsearch a.example b.example\noptions edns0\n"
        );
        assert_eq!(
            resolv_conf(&plan, subnet(), "nameserver 2001:db8::1\n"),
            "nameserver 2001:db8::1\n"
        );
        assert_eq!(resolv_conf(&plan, subnet(), ""), "nameserver 10.0.2.3\n");
    }

    #[test]
    fn flags_override_the_host() {
        let plan = NetworkPlan {
            dns: vec!["192.0.2.1".to_owned()],
            dns_search: vec![".".to_owned()],
            dns_options: vec!["ndots:2".to_owned(), "rotate".to_owned()],
            ..NetworkPlan::default()
        };
        assert_eq!(
            resolv_conf(
                &plan,
                subnet(),
                "nameserver 127.0.0.53\nsearch x\noptions edns0\n"
            ),
            "nameserver 192.0.2.1\noptions ndots:2 rotate\n"
        );
    }

    #[test]
    fn the_host_network_has_the_host_file() {
        let plan = NetworkPlan {
            mode: Mode::Host,
            ..NetworkPlan::default()
        };
        assert_eq!(
            resolv_conf(&plan, None, "nameserver 127.0.0.53\n"),
            "nameserver 127.0.0.53\n"
        );
        assert_eq!(hosts(&plan, None, None, "127.0.0.1 me"), "127.0.0.1 me\n");
    }

    #[test]
    fn hosts_has_the_container_and_what_was_added() {
        let plan = NetworkPlan {
            hostname: "web".to_owned(),
            domainname: "example".to_owned(),
            extra_hosts: vec![
                ("db".to_owned(), "192.0.2.7".to_owned()),
                ("host.docker.internal".to_owned(), "host-gateway".to_owned()),
            ],
            ..NetworkPlan::default()
        };
        let text = hosts(
            &plan,
            Some([10, 0, 2, 100].into()),
            Some([192, 0, 2, 2].into()),
            "",
        );
        assert!(text.starts_with("127.0.0.1\tlocalhost\n"));
        assert!(
            text.ends_with(
                "192.0.2.7\tdb\n192.0.2.2\thost.docker.internal\n10.0.2.100\tweb.example web\n"
            ),
            "{text}"
        );
    }
}
