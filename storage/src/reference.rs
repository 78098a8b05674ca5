//! Names of images, as Docker reads them: `[host[:port]/]path[:tag][@digest]`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::Digest;

/// Docker's default registry and its name space for single words.
const DEFAULT_DOMAIN: &str = "docker.io";
const OFFICIAL: &str = "library/";

/// Why a string is no reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReference {
    /// Not of the grammar.
    #[error("invalid reference format: {text:?}")]
    Format {
        /// What was given.
        text: String,
    },
    /// Upper case in a path.
    #[error("invalid reference format: repository name ({text}) must be lowercase")]
    UpperCase {
        /// What was given.
        text: String,
    },
}

impl InvalidReference {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Format { .. } => "write NAME[:TAG], for example myapp:1.0".to_owned(),
            Self::UpperCase { text } => format!("use {}", text.to_lowercase()),
        })
    }
}

/// An image's full name: domain and path, with tag, digest or both.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// `docker.io`, `localhost:5000`.
    pub domain: String,
    /// `library/ubuntu`.
    pub path: String,
    /// `14.04`.
    pub tag: Option<String>,
    /// Pins the manifest.
    pub digest: Option<Digest>,
}

impl Reference {
    /// Parses `text`; without tag and digest the tag is `latest`.
    ///
    /// # Errors
    /// When `text` isn't of the grammar.
    pub fn parse(text: &str) -> Result<Self, InvalidReference> {
        let mut reference = Self::parse_bare(text)?;
        if reference.tag.is_none() && reference.digest.is_none() {
            reference.tag = Some("latest".to_owned());
        }
        Ok(reference)
    }

    /// Parses `text` and adds no tag: for commands that mean "all tags of".
    ///
    /// # Errors
    /// When `text` isn't of the grammar.
    pub fn parse_bare(text: &str) -> Result<Self, InvalidReference> {
        let format = || InvalidReference::Format {
            text: text.to_owned(),
        };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse().map_err(|_| format())?)),
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(format());
        }
        let (domain, path) = split_domain(name);
        if path.chars().any(|c| c.is_ascii_uppercase()) && is_path(&path.to_lowercase()) {
            return Err(InvalidReference::UpperCase {
                text: name.to_owned(),
            });
        }
        // A reference that looks like an ID would be ambiguous with one (Docker refuses it too).
        let is_id = name.len() == 64 && name.bytes().all(|c| c.is_ascii_hexdigit());
        if is_id || !is_path(&path) || !is_domain(&domain) || name.len() > 255 {
            return Err(format());
        }
        Ok(Self {
            domain,
            path,
            tag: tag.map(str::to_owned),
            digest,
        })
    }

    /// The repository as Docker shows it: `ubuntu`, `localhost:5000/app`.
    #[must_use]
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return format!("{}/{}", self.domain, self.path);
        }
        match self.path.strip_prefix(OFFICIAL) {
            Some(word) if !word.contains('/') => word.to_owned(),
            _ => self.path.clone(),
        }
    }

    /// The full form, with a tag: `docker.io/library/ubuntu:14.04`.
    #[must_use]
    pub fn full_name(&self) -> String {
        let tag = self.tag.as_deref().unwrap_or("latest");
        format!("{}/{}:{tag}", self.domain, self.path)
    }
}

/// The familiar form: `ubuntu:14.04`.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.familiar_name())?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        Self::parse(text)
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

fn split_domain(name: &str) -> (String, String) {
    let (domain, path) = match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.chars().any(|c| c.is_ascii_uppercase()) =>
        {
            (first, rest.to_owned())
        }
        _ => (DEFAULT_DOMAIN, name.to_owned()),
    };
    let domain = if domain == "index.docker.io" {
        DEFAULT_DOMAIN
    } else {
        domain
    };
    if domain == DEFAULT_DOMAIN && !path.contains('/') {
        return (domain.to_owned(), format!("{OFFICIAL}{path}"));
    }
    (domain.to_owned(), path)
}

fn is_tag(tag: &str) -> bool {
    let mut bytes = tag.bytes();
    tag.len() <= 128
        && bytes
            .next()
            .is_some_and(|c| c.is_ascii_alphanumeric() || c == b'_')
        && bytes.all(|c| c.is_ascii_alphanumeric() || b"_.-".contains(&c))
}

/// Lower-case words, joined within a component by one of `.`, `_`, `__` or any number of `-`.
fn is_path(path: &str) -> bool {
    path.split('/').all(|component| {
        let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        component.starts_with(word)
            && component.ends_with(word)
            && component.split(word).all(|joint| {
                matches!(joint, "" | "." | "_" | "__") || joint.bytes().all(|c| c == b'-')
            })
    })
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (domain, None),
    };
    let labels = |host: &str| {
        host.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|c| c.is_ascii_alphanumeric() || c == b'-')
        })
    };
    let v6 = |host: &str| {
        host.strip_prefix('[')
            .and_then(|h| h.strip_suffix(']'))
            .is_some_and(|h| h.bytes().all(|c| c.is_ascii_hexdigit() || c == b':'))
    };
    (labels(host) || v6(host))
        && port.is_none_or(|p| !p.is_empty() && p.bytes().all(|c| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed_as_docker_does() {
        for (text, domain, path, shown) in [
            ("ubuntu", "docker.io", "library/ubuntu", "ubuntu:latest"),
            (
                "ubuntu:14.04",
                "docker.io",
                "library/ubuntu",
                "ubuntu:14.04",
            ),
            ("me/app:1", "docker.io", "me/app", "me/app:1"),
            (
                "localhost/debian:bookworm",
                "localhost",
                "debian",
                "localhost/debian:bookworm",
            ),
            (
                "127.0.0.1:5000/a/b:c",
                "127.0.0.1:5000",
                "a/b",
                "127.0.0.1:5000/a/b:c",
            ),
            ("docker.io/library/x", "docker.io", "library/x", "x:latest"),
            (
                "a__b/c-d--e.f",
                "docker.io",
                "a__b/c-d--e.f",
                "a__b/c-d--e.f:latest",
            ),
        ] {
            let got = Reference::parse(text).unwrap();
            assert_eq!(
                (
                    got.domain.as_str(),
                    got.path.as_str(),
                    got.to_string().as_str()
                ),
                (domain, path, shown)
            );
            assert_eq!(Reference::parse(&got.to_string()), Ok(got));
        }
    }

    #[test]
    fn bad_names_are_refused() {
        for text in [
            "",
            "Bad Tag:1",
            ":1",
            "a:",
            "a//b",
            "a/",
            "-a",
            "a..b",
            "a:b c",
            "a@sha256:12",
            "a:-x",
            &"a".repeat(64),
        ] {
            assert!(Reference::parse(text).is_err(), "{text}");
        }
        assert!(matches!(
            Reference::parse("Ubuntu:1"),
            Err(InvalidReference::UpperCase { .. })
        ));
    }
}
