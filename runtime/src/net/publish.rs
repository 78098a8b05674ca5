//! `-p` and `-P`: words to [`PortMap`]s, and those to the bindings that a record keeps. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use rctr_storage::record::PortBinding;

use super::{PortError, PortMap, Protocol};

/// One `-p` word: `[ip:][host[-end]:]container[-end][/proto]`, or `published=8080,target=80,protocol=tcp`.
///
/// Ranges must be of the same size, but a range of host ports may lead to one container port: any free one is taken.
///
/// # Errors
/// Says which part is wrong.
pub fn parse_publish(word: &str) -> Result<Vec<PortMap>, PortError> {
    if word.contains('=') {
        return parse_publish(&short_form(word)?);
    }
    let (ports, protocol) = split_protocol(word)?;
    // From the right: an IPv6 address holds colons itself.
    let (rest, container) = match ports.rsplit_once(':') {
        Some((rest, container)) => (Some(rest), container),
        None => (None, ports),
    };
    if container.is_empty() {
        return Err(PortError::NoPort(word.to_owned()));
    }
    let inside =
        parse_range(container).ok_or_else(|| PortError::Container(container.to_owned()))?;
    let (ip, host) = match rest {
        None => (None, ""),
        Some(rest) => match rest.rsplit_once(':') {
            Some((ip, host)) => (parse_ip(ip)?, host),
            None => (None, rest),
        },
    };
    if host.is_empty() {
        return Ok(inside.map(|port| one(ip, 0, 0, port, protocol)).collect());
    }
    let outside = match host {
        "0" => 0..=0,
        _ => parse_range(host).ok_or_else(|| PortError::Host(host.to_owned()))?,
    };
    if inside.len() == outside.len() {
        return Ok(outside
            .zip(inside)
            .map(|(h, c)| one(ip, h, h, c, protocol))
            .collect());
    }
    if inside.len() == 1 {
        return Ok(vec![one(
            ip,
            *outside.start(),
            *outside.end(),
            *inside.start(),
            protocol,
        )]);
    }
    Err(PortError::Ranges {
        container: container.to_owned(),
        host: host.to_owned(),
    })
}

fn one(
    host_ip: Option<IpAddr>,
    first: u16,
    last: u16,
    container_port: u16,
    protocol: Protocol,
) -> PortMap {
    PortMap {
        host_ip,
        host_port: first,
        host_port_end: last,
        container_port,
        protocol,
    }
}

fn split_protocol(word: &str) -> Result<(&str, Protocol), PortError> {
    match word.rsplit_once('/') {
        None => Ok((word, Protocol::Tcp)),
        Some((ports, proto)) => match proto.to_ascii_lowercase().as_str() {
            "tcp" => Ok((ports, Protocol::Tcp)),
            "udp" => Ok((ports, Protocol::Udp)),
            _ => Err(PortError::Protocol(proto.to_owned())),
        },
    }
}

fn parse_ip(text: &str) -> Result<Option<IpAddr>, PortError> {
    if text.is_empty() {
        return Ok(None);
    }
    let bare = match text.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']'),
        // Without brackets its end can't be told from a port.
        None if text.contains(':') => None,
        None => Some(text),
    };
    match bare.and_then(|bare| bare.parse().ok()) {
        Some(ip) => Ok(Some(ip)),
        None => Err(PortError::Address(text.to_owned())),
    }
}

fn parse_port(text: &str) -> Option<u16> {
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return None; // `parse` takes a sign.
    }
    text.parse().ok().filter(|port| *port != 0)
}

fn parse_range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (parse_port(first)?, parse_port(last)?),
        None => (parse_port(text)?, parse_port(text)?),
    };
    (first <= last).then_some(first..=last)
}

/// `published=8080,target=80,protocol=udp,mode=host` as a short word.
fn short_form(word: &str) -> Result<String, PortError> {
    let (mut published, mut target, mut protocol) = (String::new(), None, "tcp");
    for field in word.split(',') {
        match field.split_once('=') {
            Some(("published", value)) => published = format!("{value}:"),
            Some(("target", value)) => target = Some(value),
            Some(("protocol", value)) => protocol = value,
            Some(("mode", "host" | "ingress")) => {}
            _ => return Err(PortError::Option(field.to_owned())),
        }
    }
    match target {
        Some(target) if !target.contains('=') => Ok(format!("{published}{target}/{protocol}")),
        _ => Err(PortError::NoPort(word.to_owned())),
    }
}

/// As `HostConfig.PortBindings` has them: keys are `80/tcp`.
#[must_use]
pub fn to_bindings(ports: &[PortMap]) -> BTreeMap<String, Vec<PortBinding>> {
    let mut bindings: BTreeMap<String, Vec<PortBinding>> = BTreeMap::new();
    for port in ports {
        let list = bindings
            .entry(key(port.container_port, port.protocol))
            .or_default();
        let binding = PortBinding {
            host_ip: port.host_ip.map(|ip| ip.to_string()).unwrap_or_default(),
            host_port: match (port.host_port, port.host_port_end) {
                (0, _) => String::new(),
                (first, last) if first == last => first.to_string(),
                (first, last) => format!("{first}-{last}"),
            },
        };
        if !list.contains(&binding) {
            list.push(binding);
        }
    }
    bindings
}

/// `80/tcp`.
pub(super) fn key(port: u16, protocol: Protocol) -> String {
    format!("{port}/{}", protocol.as_str())
}

/// The reverse of [`to_bindings`].
///
/// # Errors
/// As [`parse_publish`].
pub fn from_bindings(
    bindings: &BTreeMap<String, Vec<PortBinding>>,
) -> Result<Vec<PortMap>, PortError> {
    let mut ports = Vec::new();
    for (key, list) in bindings {
        for binding in list {
            let ip = match binding.host_ip.as_str() {
                ip if ip.contains(':') => format!("[{ip}]"),
                ip => ip.to_owned(),
            };
            ports.extend(parse_publish(&format!("{ip}:{}:{key}", binding.host_port))?);
        }
    }
    Ok(ports)
}

/// `-P`: adds a mapping from any free port for each of `exposed` (`80/tcp`) that has none.
///
/// # Errors
/// As [`parse_publish`].
pub fn publish_all<'a>(
    ports: &mut Vec<PortMap>,
    exposed: impl IntoIterator<Item = &'a str>,
) -> Result<(), PortError> {
    for word in exposed {
        for map in parse_publish(word)? {
            let same =
                |p: &PortMap| p.container_port == map.container_port && p.protocol == map.protocol;
            if !ports.iter().any(same) {
                ports.push(map);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(word: &str) -> Vec<String> {
        match parse_publish(word) {
            Ok(maps) => maps
                .iter()
                .map(|m| {
                    let ip = m.host_ip.map(|i| i.to_string()).unwrap_or("*".to_owned());
                    let end = if m.host_port_end == m.host_port {
                        String::new()
                    } else {
                        format!("-{}", m.host_port_end)
                    };
                    format!(
                        "{ip} {}{end} {}/{}",
                        m.host_port,
                        m.container_port,
                        m.protocol.as_str()
                    )
                })
                .collect(),
            Err(error) => vec![error.to_string()],
        }
    }

    #[test]
    fn every_form_of_publish_is_read() {
        for (word, expected) in [
            ("80", vec!["* 0 80/tcp"]),
            ("8005:80", vec!["* 8005 80/tcp"]),
            ("0:80", vec!["* 0 80/tcp"]),
            ("8005:80/udp", vec!["* 8005 80/udp"]),
            ("8005:80/TCP", vec!["* 8005 80/tcp"]),
            ("127.0.0.1:8005:80", vec!["127.0.0.1 8005 80/tcp"]),
            ("127.0.0.1::80", vec!["127.0.0.1 0 80/tcp"]),
            ("[::1]:8005:80", vec!["::1 8005 80/tcp"]),
            ("[::1]::80/udp", vec!["::1 0 80/udp"]),
            (":80", vec!["* 0 80/tcp"]),
            ("8000-8001:80-81", vec!["* 8000 80/tcp", "* 8001 81/tcp"]),
            ("80-81", vec!["* 0 80/tcp", "* 0 81/tcp"]),
            ("8000-8010:80", vec!["* 8000-8010 80/tcp"]),
            (
                "target=80,published=8005,protocol=udp",
                vec!["* 8005 80/udp"],
            ),
        ] {
            assert_eq!(show(word), expected, "{word}");
        }
    }

    #[test]
    fn wrong_words_name_the_wrong_part() {
        for (word, expected) in [
            ("", "no port specified: \"\""),
            ("8005:", "no port specified: \"8005:\""),
            ("x", "invalid container port: \"x\""),
            ("+80", "invalid container port: \"+80\""),
            ("80:0", "invalid container port: \"0\""),
            ("80:70000", "invalid container port: \"70000\""),
            ("81-80", "invalid container port: \"81-80\""),
            ("x:80", "invalid host port: \"x\""),
            ("65536:80", "invalid host port: \"65536\""),
            ("1.2.3:80:80", "invalid IP address: \"1.2.3\""),
            ("::1:80:80", "invalid IP address: \"::1\""),
            ("[::1:80:80", "invalid IP address: \"[::1\""),
            ("80:80/icmp", "invalid protocol: \"icmp\""),
            (
                "8000-8002:80-81",
                "invalid ranges specified for container and host ports: 80-81 and 8000-8002",
            ),
            ("a=b", "invalid publish option: \"a=b\""),
        ] {
            assert_eq!(show(word), [expected], "{word}");
        }
    }

    #[test]
    fn bindings_round_trip() {
        for word in [
            "80",
            "8005:80",
            "[::1]:8005:80/udp",
            "127.0.0.1::80",
            "8000-8010:80",
            "0:9",
        ] {
            let maps = parse_publish(word).unwrap();
            assert_eq!(from_bindings(&to_bindings(&maps)).unwrap(), maps, "{word}");
        }
    }

    #[test]
    fn publish_all_adds_what_is_not_published() {
        let mut ports = parse_publish("8005:80").unwrap();
        publish_all(&mut ports, ["80/tcp", "443/tcp", "53/udp"]).unwrap();
        let inside: Vec<_> = ports
            .iter()
            .map(|p| (p.host_port, p.container_port))
            .collect();
        assert_eq!(inside, [(8005, 80), (0, 443), (0, 53)]);
    }
}
