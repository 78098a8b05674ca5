//! URLs, as much of them as fetching needs.

use ureq::http::Uri;

use super::FetchError;

/// Without a password: for messages.
pub(crate) fn shown(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}://{}", &rest[at + 1..]),
        None => url.to_owned(),
    }
}

fn parse(url: &str) -> Result<Uri, FetchError> {
    let bad = || FetchError::BadUrl { url: shown(url) };
    let uri: Uri = url
        .split('#')
        .next()
        .unwrap_or(url)
        .parse()
        .map_err(|_| bad())?;
    let known = matches!(uri.scheme_str(), Some("http" | "https"));
    let host = uri.host().is_some_and(|host| !host.is_empty());
    if known && host { Ok(uri) } else { Err(bad()) }
}

/// Whether it is one of https and not one of http.
pub(super) fn is_https(url: &str) -> Result<bool, FetchError> {
    Ok(parse(url)?.scheme_str() == Some("https"))
}

/// Host, without brackets, and port.
pub(super) fn host(url: &str) -> Result<(String, u16), FetchError> {
    let uri = parse(url)?;
    let default = if uri.scheme_str() == Some("https") {
        443
    } else {
        80
    };
    let host = uri.host().unwrap_or_default();
    let host = host.trim_matches(['[', ']']).to_lowercase();
    Ok((host, uri.port_u16().unwrap_or(default)))
}

/// Where `location`, from the answer of `base`, is.
pub(super) fn join(base: &str, location: &str) -> Result<String, FetchError> {
    let location = location.split('#').next().unwrap_or(location);
    let uri = parse(base)?;
    let scheme = uri.scheme_str().unwrap_or("http");
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let joined = if location.contains("://") {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else {
        let dir = uri.path().rsplit_once('/').map_or("", |(dir, _)| dir);
        format!("{scheme}://{authority}{dir}/{location}")
    };
    parse(&joined).map(|_| joined)
}

/// The last name in the path, `%20` and the like decoded.
pub(super) fn last_name(url: &str) -> Option<String> {
    let uri = parse(url).ok()?;
    let name = uri.path().trim_end_matches('/').rsplit('/').next()?;
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let [first, behind @ ..] = rest {
        let hex = behind.first_chunk::<2>().filter(|_| *first == b'%');
        let hex = hex.and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    let name = String::from_utf8(bytes).ok()?;
    is_name(&name).then_some(name)
}

/// Whether it can be a file's name.
pub(super) fn is_name(name: &str) -> bool {
    let special = ["", ".", ".."].contains(&name);
    !special && name.len() <= 255 && !name.contains(['/', '\0'])
}
