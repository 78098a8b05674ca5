//! Published ports as `ps` and `port` show them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use rctr_storage::record::PortBinding;

/// One container port, published or only exposed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Port {
    /// In the container.
    pub(crate) container: u16,
    /// `tcp`, `udp`, `sctp`.
    pub(crate) protocol: String,
    /// Address and port on the host.
    pub(crate) host: Option<(IpAddr, u16)>,
}

/// The ports of a `NetworkSettings.Ports` map, sorted. What isn't of its grammar is left out.
pub(crate) fn of(ports: &BTreeMap<String, Option<Vec<PortBinding>>>) -> Vec<Port> {
    let mut all = Vec::new();
    for (key, bindings) in ports {
        let Some((container, protocol)) = split(key) else {
            continue;
        };
        let port = |host| Port {
            container,
            protocol: protocol.to_owned(),
            host,
        };
        let bindings = bindings.as_deref().unwrap_or_default();
        all.extend(bindings.iter().filter_map(|b| {
            let ip = if b.host_ip.is_empty() {
                IpAddr::V4(Ipv4Addr::UNSPECIFIED)
            } else {
                b.host_ip.parse().ok()?
            };
            Some(port(Some((ip, b.host_port.parse().ok()?))))
        }));
        if bindings.is_empty() {
            all.push(port(None));
        }
    }
    all.sort();
    all
}

/// `80/tcp`, or `80`, which means TCP.
pub(crate) fn split(key: &str) -> Option<(u16, &str)> {
    let (port, protocol) = key.split_once('/').unwrap_or((key, "tcp"));
    Some((port.parse().ok()?, protocol))
}

/// `0.0.0.0:8005`, `[::]:8005`.
pub(crate) fn address(ip: IpAddr, port: impl std::fmt::Display) -> String {
    match ip {
        IpAddr::V4(ip) => format!("{ip}:{port}"),
        IpAddr::V6(ip) => format!("[{ip}]:{port}"),
    }
}

/// The PORTS column: `0.0.0.0:8005->80/tcp, 443/tcp`; neighbours with equal numbers on both sides are one range.
pub(crate) fn column(ports: &[Port]) -> String {
    // (first, last of the range)
    let mut ranges: Vec<(&Port, u16)> = Vec::new();
    for port in ports {
        let next = ranges.iter_mut().find(|(first, last)| {
            let equal = |p: &Port| p.host.is_none_or(|(_, host)| host == p.container);
            last.checked_add(1) == Some(port.container)
                && first.protocol == port.protocol
                && first.host.map(|h| h.0) == port.host.map(|h| h.0)
                && equal(first)
                && equal(port)
        });
        match next {
            Some((_, last)) => *last = port.container,
            None => ranges.push((port, port.container)),
        }
    }
    let shown: Vec<_> = ranges
        .into_iter()
        .map(|(first, last)| {
            let range = |from: u16| {
                if last == first.container {
                    from.to_string()
                } else {
                    format!("{from}-{last}")
                }
            };
            let inside = format!("{}/{}", range(first.container), first.protocol);
            match first.host {
                Some((ip, host)) => format!("{}->{inside}", address(ip, range(host))),
                None => inside,
            }
        })
        .collect();
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(ports: &[(&str, &[(&str, &str)])]) -> String {
        let map = ports
            .iter()
            .map(|(key, bindings)| {
                let bindings: Vec<_> = bindings
                    .iter()
                    .map(|(ip, port)| PortBinding {
                        host_ip: (*ip).to_owned(),
                        host_port: (*port).to_owned(),
                    })
                    .collect();
                (
                    (*key).to_owned(),
                    (!bindings.is_empty()).then_some(bindings),
                )
            })
            .collect();
        column(&of(&map))
    }

    #[test]
    fn ports_are_sorted_and_folded() {
        let any = |port| [("0.0.0.0", port)];
        assert_eq!(shown(&[("80/tcp", &any("8005"))]), "0.0.0.0:8005->80/tcp");
        assert_eq!(
            shown(&[("80/tcp", &[("0.0.0.0", "8005"), ("::", "8005")])]),
            "0.0.0.0:8005->80/tcp, [::]:8005->80/tcp"
        );
        assert_eq!(
            shown(&[
                ("81/tcp", &any("81")),
                ("80/tcp", &any("80")),
                ("82/tcp", &any("82"))
            ]),
            "0.0.0.0:80-82->80-82/tcp"
        );
        assert_eq!(
            shown(&[
                ("443/tcp", &[]),
                ("80/tcp", &[]),
                ("53/udp", &[("127.0.0.1", "5353")])
            ]),
            "127.0.0.1:5353->53/udp, 80/tcp, 443/tcp"
        );
        assert_eq!(shown(&[("80/tcp", &[]), ("81/tcp", &[])]), "80-81/tcp");
        assert_eq!(shown(&[]), "");
    }
}
