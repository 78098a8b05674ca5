//! Which proxy a URL goes through: `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` as Go's client reads them.

use std::net::IpAddr;

use ureq::Proxy;

use super::{FetchError, Settings, url};

/// `None`: none.
pub(super) fn of(settings: &Settings, target: &str) -> Result<Option<Proxy>, FetchError> {
    let proxy = match url::is_https(target)? {
        true => &settings.https_proxy,
        false => &settings.http_proxy,
    };
    let Some(proxy) = proxy.as_deref().filter(|proxy| !proxy.is_empty()) else {
        return Ok(None);
    };
    let (host, port) = url::host(target)?;
    if is_direct(&settings.no_proxy, &host, port) {
        return Ok(None);
    }
    let built = Proxy::new(proxy).map_err(|_| FetchError::Proxy {
        proxy: url::shown(proxy),
    });
    built.map(Some)
}

/// Whether `no_proxy` names the host. This machine never needs a proxy.
pub(super) fn is_direct(no_proxy: &str, host: &str, port: u16) -> bool {
    let address: Option<IpAddr> = host.parse().ok();
    if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
        return true;
    }
    let entries = no_proxy.split(',').map(str::trim);
    entries.filter(|entry| !entry.is_empty()).any(|entry| {
        let entry = entry.to_lowercase();
        if entry == "*" {
            return true;
        }
        if let Some(address) = address {
            return names_address(&entry, address, port);
        }
        let (name, wanted) = split_port(&entry);
        if wanted.is_some_and(|wanted| wanted != port) {
            return false;
        }
        let name = name.strip_prefix('*').unwrap_or(name);
        match name.strip_prefix('.') {
            Some(_) => host.ends_with(name),
            None => {
                let above = host.strip_suffix(name);
                above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
            }
        }
    })
}

/// An address, with a port or without, or a network.
fn names_address(entry: &str, address: IpAddr, port: u16) -> bool {
    if let Some((network, bits)) = entry.split_once('/') {
        let (Ok(network), Ok(bits)) = (network.parse::<IpAddr>(), bits.parse::<u32>()) else {
            return false;
        };
        return in_network(address, network, bits);
    }
    if let Ok(own) = entry.trim_matches(['[', ']']).parse::<IpAddr>() {
        return own == address;
    }
    let (name, wanted) = split_port(entry);
    let own = name.trim_matches(['[', ']']).parse::<IpAddr>();
    own == Ok(address) && wanted == Some(port)
}

fn in_network(address: IpAddr, network: IpAddr, bits: u32) -> bool {
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) if bits <= 32 => {
            let differ = address.to_bits() ^ network.to_bits();
            differ.checked_shr(32 - bits).unwrap_or(0) == 0
        }
        (IpAddr::V6(address), IpAddr::V6(network)) if bits <= 128 => {
            let differ = address.to_bits() ^ network.to_bits();
            differ.checked_shr(128 - bits).unwrap_or(0) == 0
        }
        _ => false,
    }
}

fn split_port(entry: &str) -> (&str, Option<u16>) {
    match entry.rsplit_once(':') {
        Some((name, port)) => match port.parse() {
            Ok(port) => (name, Some(port)),
            Err(_) => (entry, None),
        },
        None => (entry, None),
    }
}
