//! Why a URL can't be had.

use std::io;
use std::path::PathBuf;

use rctr_storage::digest::Digest;
use rctr_storage::explain::Explain;

use super::url::shown;

/// Why a URL can't be had. URLs are shown without passwords.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Not of http or https, or without a host.
    #[error("{url:?} is no http or https URL")]
    BadUrl {
        /// As given.
        url: String,
    },
    /// The name or the server can't be reached.
    #[error("cannot reach {url}")]
    Unreachable {
        /// Which.
        url: String,
        /// The reason.
        source: Box<ureq::Error>,
    },
    /// Nobody answers in time.
    #[error("{url} doesn't answer")]
    Timeout {
        /// Which.
        url: String,
        /// What took too long.
        source: Box<ureq::Error>,
    },
    /// The server can't show that it is who it says it is, or can't speak TLS with us.
    #[error("cannot trust {url}")]
    Tls {
        /// Which.
        url: String,
        /// The reason.
        source: Box<ureq::Error>,
    },
    /// No CA certificates on this machine.
    #[error("cannot trust {url}: no CA certificates are installed")]
    NoCertificates {
        /// Which.
        url: String,
    },
    /// The server says no.
    #[error("cannot get {url}: the server answered {status} {reason}")]
    Status {
        /// Which.
        url: String,
        /// 404.
        status: u16,
        /// `Not Found`.
        reason: &'static str,
    },
    /// A circle, most likely.
    #[error("cannot get {url}: more than {limit} redirects")]
    Redirects {
        /// The first.
        url: String,
        /// How many are followed.
        limit: usize,
    },
    /// The proxy's URL is none.
    #[error("{proxy:?} is no proxy that can be used")]
    Proxy {
        /// As given.
        proxy: String,
    },
    /// Larger than allowed.
    #[error("{url} has more than {limit} bytes")]
    TooLarge {
        /// Which.
        url: String,
        /// In bytes.
        limit: u64,
    },
    /// It ended before its end.
    #[error("{url} broke off after {bytes} bytes")]
    Interrupted {
        /// Which.
        url: String,
        /// Bytes until then.
        bytes: u64,
        /// The reason.
        source: io::Error,
    },
    /// Not what it should be.
    #[error("{url} has the wrong digest: want {expected}, have {actual}")]
    Digest {
        /// Which.
        url: String,
        /// What was asked for.
        expected: Digest,
        /// What it is.
        actual: Digest,
    },
    /// It can't be kept.
    #[error("cannot write {}", path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

impl FetchError {
    pub(super) fn of(url: &str, error: ureq::Error) -> Self {
        let url = shown(url);
        let by_tls = |error: &io::Error| {
            let inner = error.get_ref();
            inner.is_some_and(|inner| inner.is::<rustls::Error>())
        };
        let source = Box::new(error);
        match &*source {
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => Self::BadUrl { url },
            ureq::Error::Timeout(_) => Self::Timeout { url, source },
            ureq::Error::Tls(_) | ureq::Error::Rustls(_) => Self::Tls { url, source },
            ureq::Error::Io(error) if by_tls(error) => Self::Tls { url, source },
            _ => Self::Unreachable { url, source },
        }
    }
}

impl Explain for FetchError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unreachable { .. } | Self::Timeout { .. } => {
                "check the name and the network; behind a proxy, set HTTP_PROXY and HTTPS_PROXY".to_owned()
            }
            Self::Tls { .. } => {
                "its certificate must be signed by an authority in /etc/ssl/certs: add a company's own with update-ca-certificates, or name a file in SSL_CERT_FILE".to_owned()
            }
            Self::NoCertificates { .. } => {
                "install the package ca-certificates, or name a file in SSL_CERT_FILE".to_owned()
            }
            Self::Status { status: 404 | 410, .. } => "check the URL's spelling".to_owned(),
            Self::Status { status: 401 | 403, .. } => {
                "it isn't public: fetch it yourself and COPY it, or mount a secret and use RUN".to_owned()
            }
            Self::Status { status: 500.., .. } | Self::Interrupted { .. } => {
                "the server has trouble: try again later".to_owned()
            }
            Self::Proxy { .. } => "write it as http://HOST:PORT".to_owned(),
            Self::Digest { .. } => {
                "if the new content is right, write its digest".to_owned()
            }
            Self::Write { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                "free space, or run `rctr image prune` and `rctr builder prune`".to_owned()
            }
            Self::BadUrl { .. }
            | Self::Status { .. }
            | Self::Redirects { .. }
            | Self::TooLarge { .. }
            | Self::Write { .. } => return None,
        })
    }
}
