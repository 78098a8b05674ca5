//! `--network`, `--dns`, `--add-host`, `-p` and their conflicts.

use std::net::IpAddr;

use rctr_runtime::net;

use super::{Given, RunRequest, values};
use crate::report::Failure;

/// The network that is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Network {
    /// Its own network namespace, with a way out.
    #[default]
    Private,
    /// Only a loopback device.
    None,
    /// The host's.
    Host,
    /// That of another container (as named by the user).
    Container(String),
    /// A network made with `network create`.
    Named(String),
}

impl Network {
    /// The word in `HostConfig.NetworkMode`, before a container is looked up.
    pub(crate) fn mode(&self) -> String {
        match self {
            Self::Private => "private".to_owned(),
            Self::None => "none".to_owned(),
            Self::Host => "host".to_owned(),
            Self::Container(name) => format!("container:{name}"),
            Self::Named(name) => name.clone(),
        }
    }
}

/// What the long form of `--network` says beyond the name, as the flags of their own would.
#[derive(Debug, Default)]
struct Details {
    aliases: Vec<String>,
    addresses: Vec<String>,
    mac: Option<String>,
    /// Keys that have no meaning without a named network.
    others: Vec<&'static str>,
}

/// `host`, `container:x`, `mynet`, or the long form `name=mynet,alias=web`.
fn parse_network(text: &str) -> Result<(Network, Details), String> {
    let mut details = Details::default();
    let name = if text.contains('=') {
        let mut name = None;
        for field in values::parse_csv(text)? {
            let invalid = || format!("invalid field {field}");
            let (key, value) = field.split_once('=').ok_or_else(invalid)?;
            match key {
                "name" => name = Some(value.to_owned()),
                "alias" => details.aliases.push(value.to_owned()),
                "ip" | "ip6" | "link-local-ip" => details.addresses.push(value.to_owned()),
                "mac-address" => details.mac = Some(value.to_owned()),
                "driver-opt" => details.others.push("driver-opt"),
                "gw-priority" => details.others.push("gw-priority"),
                _ => return Err(invalid()),
            }
        }
        name.ok_or("network name cannot be empty")?
    } else {
        text.to_owned()
    };
    Ok((network_of(&name)?, details))
}

fn network_of(name: &str) -> Result<Network, String> {
    Ok(match name {
        "" => return Err("network name cannot be empty".to_owned()),
        "private" | "default" | "bridge" | "pasta" | "slirp4netns" => Network::Private,
        "none" => Network::None,
        "host" => Network::Host,
        name => match name.strip_prefix("container:") {
            Some("") => return Err("invalid container format container:<name|id>".to_owned()),
            Some(container) => Network::Container(container.to_owned()),
            None => Network::Named(name.to_owned()),
        },
    })
}

/// `name:ip`, `name=ip`, `name:[ip6]`, `name:host-gateway` to `name:ip`.
pub(super) fn parse_host(text: &str) -> Result<String, String> {
    let invalid = || format!("bad format for add-host: {text:?}");
    let (name, address) = text
        .split_once('=')
        .or_else(|| text.split_once(':'))
        .ok_or_else(invalid)?;
    if name.is_empty() || name.contains(char::is_whitespace) {
        return Err(invalid());
    }
    let bare = address
        .strip_prefix('[')
        .and_then(|a| a.strip_suffix(']'))
        .unwrap_or(address);
    if bare != "host-gateway" && bare.parse::<IpAddr>().is_err() {
        return Err(format!("invalid IP address in add-host: {address:?}"));
    }
    Ok(format!("{name}:{bare}"))
}

pub(super) fn parse(given: &Given<'_>, request: &mut RunRequest) -> Result<(), Failure> {
    let refuse = |why: &str| given.refuse(why);
    let both = |flag: &str, hidden: &str| {
        let mut words = given.many(flag);
        words.extend(given.many(hidden));
        words
    };
    let words = both("network", "net");
    if words.len() > 1 {
        return Err(refuse("a container can join one network only so far"));
    }
    let mut details = Details::default();
    if let Some(word) = words.first() {
        (request.network, details) =
            parse_network(word).map_err(|why| given.bad("network", word, why))?;
    }
    let host = &mut request.host;
    host.network_mode = request.network.mode();
    host.dns = given.many("dns");
    if let Some(bad) = host.dns.iter().find(|d| d.parse::<IpAddr>().is_err()) {
        return Err(given.bad("dns", bad, format!("{bad} is not an ip address")));
    }
    host.dns_options = both("dns-option", "dns-opt");
    host.dns_search = given.many("dns-search");
    for word in given.many("add-host") {
        host.extra_hosts
            .push(parse_host(&word).map_err(|why| given.bad("add-host", &word, why))?);
    }
    host.publish_all_ports = given.on("publish-all");
    let mut ports = Vec::new();
    for word in given.many("publish") {
        ports.extend(net::parse_publish(&word).map_err(|why| given.bad("publish", &word, why))?);
    }
    host.port_bindings = net::to_bindings(&ports);
    if !given.many("link").is_empty() {
        return Err(refuse(
            "--link is not supported: share a network, or use --network container:NAME",
        ));
    }
    names_and_addresses(given, request, &details)?;
    conflicts(given, request)
}

/// What only a named network gives: other names and fixed addresses.
fn names_and_addresses(
    given: &Given<'_>,
    request: &mut RunRequest,
    details: &Details,
) -> Result<(), Failure> {
    let refuse = |why: &str| given.refuse(why);
    let aliases = ["network-alias", "net-alias"].map(|flag| given.many(flag));
    let aliases = aliases.iter().flatten().chain(&details.aliases);
    let named = matches!(request.network, Network::Named(_));
    if !named && aliases.count() > 0 {
        return Err(refuse(
            "network-scoped aliases are only supported for containers in user defined networks",
        ));
    }
    let flags = ["ip", "ip6", "link-local-ip"].into_iter();
    let addresses = flags
        .flat_map(|flag| given.many(flag).into_iter().map(move |a| (flag, a)))
        .chain(details.addresses.iter().map(|a| ("network", a.clone())));
    for (flag, address) in addresses {
        if address.parse::<IpAddr>().is_err() {
            return Err(given.bad(flag, &address, "not an IP address"));
        }
        if !named {
            return Err(refuse(
                "user specified IP address is supported on user defined networks only",
            ));
        }
    }
    for key in &details.others {
        request
            .warnings
            .push(format!("{key} has no effect in this network"));
    }
    if let Some(mac) = given.one("mac-address").or(details.mac.as_deref()) {
        let parts: Vec<&str> = mac.split([':', '-']).collect();
        if parts.len() != 6
            || parts
                .iter()
                .any(|p| p.len() != 2 || u8::from_str_radix(p, 16).is_err())
        {
            return Err(refuse(&format!("{mac} is not a valid mac address")));
        }
        request
            .warnings
            .push("--mac-address has no effect in this network".to_owned());
    }
    Ok(())
}

fn conflicts(given: &Given<'_>, request: &mut RunRequest) -> Result<(), Failure> {
    let host = &request.host;
    let publishes = !host.port_bindings.is_empty() || host.publish_all_ports;
    match &request.network {
        Network::Container(_) => {
            let table = [
                (
                    "hostname and the network mode",
                    !request.config.hostname.is_empty(),
                ),
                (
                    "dns and the network mode",
                    !host.dns.is_empty()
                        || !host.dns_options.is_empty()
                        || !host.dns_search.is_empty(),
                ),
                (
                    "custom host-to-IP mapping and the network mode",
                    !host.extra_hosts.is_empty(),
                ),
                (
                    "mac-address and the network mode",
                    given.one("mac-address").is_some(),
                ),
                (
                    "port publishing and the container type network mode",
                    publishes,
                ),
                (
                    "port exposing and the container type network mode",
                    !request.config.exposed_ports.is_empty(),
                ),
            ];
            match table.iter().find(|(_, conflict)| *conflict) {
                Some((what, _)) => Err(given.refuse(format!("conflicting options: {what}"))),
                None => Ok(()),
            }
        }
        Network::Host if publishes => {
            request.host.port_bindings.clear();
            request.host.publish_all_ports = false;
            request
                .warnings
                .push("Published ports are discarded when using host network mode".to_owned());
            Ok(())
        }
        _ => Ok(()),
    }
}
