//! Ports of EXPOSE.

/// The word isn't a port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPort {
    /// Neither a number up to 65535 nor a range of them.
    #[error("invalid containerPort: {text}")]
    Port {
        /// The part of the word that should be.
        text: String,
    },
    /// A range that runs backwards.
    #[error("invalid range specified for port: {text}")]
    Range {
        /// The range.
        text: String,
    },
    /// Neither tcp nor udp nor sctp.
    #[error("invalid proto: {text}")]
    Protocol {
        /// What it is instead.
        text: String,
    },
}

/// The keys of `80`, `8000-8002/udp`, `8080:80`: `80/tcp`. An address and a host's port before the colon are accepted
/// and mean nothing, as in BuildKit.
///
/// # Errors
/// When `text` is nothing of the kind.
pub fn parse(text: &str) -> Result<Vec<String>, InvalidPort> {
    let inner = text.rsplit_once(':').map_or(text, |(_, inner)| inner);
    let (ports, protocol) = match inner.split_once('/') {
        Some((ports, "")) => (ports, "tcp".to_owned()),
        Some((ports, protocol)) => (ports, protocol.to_ascii_lowercase()),
        None => (inner, "tcp".to_owned()),
    };
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(InvalidPort::Protocol { text: protocol });
    }
    let port = |digits: &str| {
        let digits_only = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        let number = digits.parse::<u16>().ok().filter(|_| digits_only);
        number.ok_or_else(|| InvalidPort::Port {
            text: ports.to_owned(),
        })
    };
    let (first, last) = match ports.split_once('-') {
        Some((first, last)) => (port(first)?, port(last)?),
        None => (port(ports)?, port(ports)?),
    };
    if first > last {
        return Err(InvalidPort::Range {
            text: ports.to_owned(),
        });
    }
    Ok((first..=last).map(|n| format!("{n}/{protocol}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_ranges_and_protocols() {
        for (text, want) in [
            ("80", vec!["80/tcp"]),
            ("80/UDP", vec!["80/udp"]),
            ("80/", vec!["80/tcp"]),
            (
                "8000-8002/sctp",
                vec!["8000/sctp", "8001/sctp", "8002/sctp"],
            ),
            ("8080:80", vec!["80/tcp"]),
            ("127.0.0.1:8080:80/udp", vec!["80/udp"]),
        ] {
            assert_eq!(parse(text).unwrap(), want, "{text}");
        }
        for text in [
            "", "x", "80/http", "65536", "-1", "+1", "2-1", "1-", "1-2-3", "/tcp",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
