//! URLs, as much of them as is needed.

use std::fmt;

use ureq::http::Uri;

use super::WebError;

/// An http or https URL. It is shown without its password.
#[derive(Clone, PartialEq, Eq)]
pub struct Url(Uri);

/// Without a password: for messages.
#[must_use]
pub fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}://{}", &rest[at + 1..]),
        None => url.to_owned(),
    }
}

impl Url {
    /// Reads it.
    ///
    /// # Errors
    /// When it is something else.
    pub fn parse(url: &str) -> Result<Self, WebError> {
        let bad = || WebError::BadUrl {
            url: without_password(url),
        };
        let uri = url.split('#').next().unwrap_or(url);
        let uri: Uri = uri.parse().map_err(|_| bad())?;
        let known = matches!(uri.scheme_str(), Some("http" | "https"));
        let host = uri.host().is_some_and(|host| !host.is_empty());
        match known && host {
            true => Ok(Self(uri)),
            false => Err(bad()),
        }
    }

    pub(super) fn uri(&self) -> &Uri {
        &self.0
    }

    /// Whether it is one of https and not one of http.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }

    /// Host, without brackets and in lower case, and port.
    #[must_use]
    pub fn host(&self) -> (String, u16) {
        let default = if self.is_https() { 443 } else { 80 };
        let host = self.0.host().unwrap_or_default();
        let host = host.trim_matches(['[', ']']).to_lowercase();
        (host, self.0.port_u16().unwrap_or(default))
    }

    /// Scheme, host and port are the same.
    #[must_use]
    pub fn same_server(&self, other: &Self) -> bool {
        self.is_https() == other.is_https() && self.host() == other.host()
    }

    /// Host and port as written, without user and password.
    #[must_use]
    pub fn authority(&self) -> &str {
        let all = self.0.authority().map_or("", |all| all.as_str());
        all.rsplit_once('@').map_or(all, |(_, behind)| behind)
    }

    /// Path and query, from the slash.
    #[must_use]
    pub fn path_and_query(&self) -> &str {
        match self.0.path_and_query() {
            Some(path) => path.as_str(),
            None => "/",
        }
    }

    /// The path, from the slash.
    #[must_use]
    pub fn path(&self) -> &str {
        self.0.path()
    }

    /// For messages where a query is of no use: signed URLs have their signature in it.
    #[must_use]
    pub fn without_query(&self) -> String {
        let text = self.to_string();
        text.split('?').next().unwrap_or(&text).to_owned()
    }

    /// User and password that are written into it.
    pub(super) fn login(&self) -> Option<(String, String)> {
        login(&self.0)
    }

    /// Where `location`, from the answer of this one, is.
    ///
    /// # Errors
    /// When that is no http or https URL.
    pub fn join(&self, location: &str) -> Result<Self, WebError> {
        let location = location.split('#').next().unwrap_or(location);
        let scheme = self.0.scheme_str().unwrap_or("http");
        let authority = self.0.authority().map_or("", |all| all.as_str());
        let is_absolute = location
            .split(['/', '?'])
            .next()
            .is_some_and(|first| first.ends_with(':') && location[first.len()..].starts_with("//"));
        Self::parse(&if is_absolute {
            location.to_owned()
        } else if location.starts_with("//") {
            format!("{scheme}:{location}")
        } else if location.starts_with('/') {
            format!("{scheme}://{authority}{location}")
        } else if location.starts_with('?') {
            format!("{scheme}://{authority}{}{location}", self.0.path())
        } else {
            let dir = self.0.path().rsplit_once('/').map_or("", |(dir, _)| dir);
            format!("{scheme}://{authority}{dir}/{location}")
        })
    }

    /// With another parameter in the query; its value is encoded here.
    ///
    /// # Errors
    /// When that makes it longer than a URL may be.
    pub fn with_parameter(&self, name: &str, value: &str) -> Result<Self, WebError> {
        let joint = if self.0.query().is_some() { '&' } else { '?' };
        let value = encode(value);
        Self::parse(&format!("{}{joint}{name}={value}", self.0))
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&without_password(&self.0.to_string()))
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The last name in the path, `%20` and the like decoded, if it can be a file's.
#[must_use]
pub fn last_name(url: &Url) -> Option<String> {
    let path = url.0.path().trim_end_matches('/');
    let name = decode(path.rsplit('/').next()?)?;
    is_file_name(&name).then_some(name)
}

/// Whether it can be a file's name.
#[must_use]
pub fn is_file_name(name: &str) -> bool {
    let special = ["", ".", ".."].contains(&name);
    !special && name.len() <= 255 && !name.contains(['/', '\0'])
}

/// User and password, decoded.
pub(super) fn login(uri: &Uri) -> Option<(String, String)> {
    let (login, _) = uri.authority()?.as_str().rsplit_once('@')?;
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    Some((decode(user)?, decode(password)?))
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
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
    String::from_utf8(bytes).ok()
}

/// As a form in a browser is sent.
#[must_use]
pub fn form(fields: &[(&str, &str)]) -> String {
    let fields = fields.iter();
    let encoded = fields.map(|(name, value)| format!("{}={}", encode(name), encode(value)));
    encoded.collect::<Vec<_>>().join("&")
}

/// What isn't unreserved (RFC 3986, 2.3) as `%20` and the like.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}
