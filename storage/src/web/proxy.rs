//! Which proxy a URL goes through: `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` as Go's client reads them.

use std::net::IpAddr;

use ureq::Proxy;
use ureq::http::Uri;
use ureq::http::uri::PathAndQuery;

use super::{Settings, Url, WebError, without_password};

/// The way to a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Via {
    /// No proxy.
    Direct,
    /// A proxy that connects us (CONNECT): it sees no more than host and port.
    Tunnel,
    /// A proxy that asks for us: plain http.
    Absolute,
}

/// How `url` is reached.
pub(super) fn of(settings: &Settings, url: &Url) -> Result<Via, WebError> {
    let Some(proxy) = named(settings, url) else {
        return Ok(Via::Direct);
    };
    let (host, port) = url.host();
    if is_direct(&settings.no_proxy, &host, port) {
        return Ok(Via::Direct);
    }
    if url.is_https() {
        return Ok(Via::Tunnel);
    }
    // SOCKS and what else the library may know.
    match parse(proxy)?.scheme_str() {
        Some("http" | "https") => Ok(Via::Absolute),
        _ => Ok(Via::Tunnel),
    }
}

fn named<'s>(settings: &'s Settings, url: &Url) -> Option<&'s str> {
    let proxy = match url.is_https() {
        true => &settings.https_proxy,
        false => &settings.http_proxy,
    };
    proxy.as_deref().filter(|proxy| !proxy.is_empty())
}

/// `host:8080` is one of http.
fn parse(proxy: &str) -> Result<Uri, WebError> {
    let bad = || WebError::Proxy {
        proxy: without_password(proxy),
    };
    let full = match proxy.contains("://") {
        true => proxy.to_owned(),
        false => format!("http://{proxy}"),
    };
    let uri: Uri = full.parse().map_err(|_| bad())?;
    match uri.host() {
        Some(host) if !host.is_empty() && uri.scheme().is_some() => Ok(uri),
        _ => Err(bad()),
    }
}

/// The proxy that makes a tunnel to `url`.
pub(super) fn tunnel(settings: &Settings, url: &Url) -> Result<Proxy, WebError> {
    let proxy = named(settings, url).unwrap_or_default();
    Proxy::new(proxy).map_err(|_| WebError::Proxy {
        proxy: without_password(proxy),
    })
}

/// Whether certificates are needed on the way to `url`: for it, or for the proxy.
pub(super) fn needs_tls(settings: &Settings, url: &Url, via: Via) -> bool {
    let proxy = named(settings, url).unwrap_or_default();
    url.is_https() || via != Via::Direct && proxy.starts_with("https:")
}

/// What ureq is to be asked for so that the proxy gets `url` in [absolute form](super::absolute), and the user and password for the
/// proxy.
pub(super) fn absolute(
    proxy: &str,
    url: &Url,
) -> Result<(Uri, Option<(String, String)>), WebError> {
    let bad = || WebError::Proxy {
        proxy: without_password(proxy),
    };
    let uri = parse(proxy)?;
    let login = super::url::login(&uri);
    let authority = uri.authority().map_or("", |all| all.as_str());
    let authority = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    let target = format!("/http://{}{}", url.authority(), url.path_and_query());
    let target: PathAndQuery = target.parse().map_err(|_| WebError::BadUrl {
        url: url.to_string(),
    })?;
    let built = Uri::builder()
        .scheme(uri.scheme_str().unwrap_or("http"))
        .authority(authority)
        .path_and_query(target)
        .build();
    Ok((built.map_err(|_| bad())?, login))
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
