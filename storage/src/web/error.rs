//! Why the web gives no answer.

use std::error::Error;
use std::io;

use rustls::CertificateError;

use super::Url;
use crate::explain::Explain;

/// Why there is no answer. URLs are shown without passwords.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// Not of http or https, or without a host.
    #[error("{url:?} is no http or https URL")]
    BadUrl {
        /// As given.
        url: String,
    },
    /// No such name.
    #[error("cannot reach {url}: no host of that name is known")]
    UnknownHost {
        /// Which.
        url: String,
    },
    /// The server can't be reached.
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
    #[error("cannot trust {url}{}", fault.said())]
    Tls {
        /// Which.
        url: String,
        /// In short.
        fault: TlsFault,
        /// The reason.
        source: Box<ureq::Error>,
    },
    /// No CA certificates on this machine.
    #[error("cannot trust {url}: no CA certificates are installed")]
    NoCertificates {
        /// Which.
        url: String,
    },
    /// The proxy's URL is none.
    #[error("{proxy:?} is no proxy that can be used")]
    Proxy {
        /// As given.
        proxy: String,
    },
}

/// What is wrong with a server's TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsFault {
    /// Signed by nobody we know.
    UnknownAuthority,
    /// Too old.
    Expired,
    /// Too new.
    NotYetValid,
    /// Of another host.
    WrongName,
    /// It wants a certificate of ours.
    ClientCertificate,
    /// It doesn't speak TLS at all.
    NotTls,
    /// Something else.
    Other,
}

impl TlsFault {
    fn said(self) -> &'static str {
        match self {
            Self::UnknownAuthority => {
                ": its certificate is signed by an authority that isn't known here"
            }
            Self::Expired => ": its certificate has expired",
            Self::NotYetValid => ": its certificate isn't valid yet",
            Self::WrongName => ": its certificate is for another name",
            Self::ClientCertificate => ": it wants a client certificate",
            Self::NotTls => ": it doesn't speak TLS",
            Self::Other => "",
        }
    }

    fn of(error: &rustls::Error) -> Self {
        use rustls::AlertDescription as Alert;
        match error {
            rustls::Error::InvalidCertificate(error) => match error {
                CertificateError::UnknownIssuer => Self::UnknownAuthority,
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    Self::Expired
                }
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    Self::NotYetValid
                }
                CertificateError::NotValidForName
                | CertificateError::NotValidForNameContext { .. } => Self::WrongName,
                _ => Self::Other,
            },
            rustls::Error::AlertReceived(
                Alert::CertificateRequired | Alert::BadCertificate | Alert::UnknownCA,
            ) => Self::ClientCertificate,
            rustls::Error::InvalidMessage(_) => Self::NotTls,
            _ => Self::Other,
        }
    }
}

impl WebError {
    pub(super) fn of(url: &Url, error: ureq::Error) -> Self {
        let url = url.without_query();
        let source = Box::new(error);
        match &*source {
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => Self::BadUrl { url },
            ureq::Error::HostNotFound => Self::UnknownHost { url },
            ureq::Error::Timeout(_) => Self::Timeout { url, source },
            ureq::Error::Io(error) if is_unknown_name(error) => Self::UnknownHost { url },
            error => match tls_fault(error) {
                Some(fault) => Self::Tls { url, fault, source },
                None => Self::Unreachable { url, source },
            },
        }
    }

    /// Whether the same may work a moment later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Timeout { .. })
    }
}

/// What the error, or the one that it wraps, says of TLS.
fn tls_fault(error: &ureq::Error) -> Option<TlsFault> {
    match error {
        ureq::Error::Tls(_) => Some(TlsFault::Other),
        ureq::Error::Rustls(error) => Some(TlsFault::of(error)),
        ureq::Error::Io(error) => {
            let inner = error.get_ref()?;
            let inner = inner.downcast_ref::<rustls::Error>()?;
            Some(TlsFault::of(inner))
        }
        _ => None,
    }
}

/// The standard library has no kind for what getaddrinfo(3) says, only its text.
fn is_unknown_name(error: &io::Error) -> bool {
    let text = error.to_string();
    text.starts_with("failed to lookup address") && !text.contains("Temporary")
}

impl Explain for WebError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::UnknownHost { .. } | Self::Unreachable { .. } | Self::Timeout { .. } => {
                "check the name and the network; behind a proxy, set HTTP_PROXY and HTTPS_PROXY".to_owned()
            }
            Self::Tls { fault: TlsFault::Expired | TlsFault::NotYetValid, .. } => {
                "its owner must renew the certificate; if it is good, set this machine's clock".to_owned()
            }
            Self::Tls { .. } => {
                "its certificate must be signed by an authority in /etc/ssl/certs: add a company's own with update-ca-certificates, or name a file in SSL_CERT_FILE".to_owned()
            }
            Self::NoCertificates { .. } => {
                "install the package ca-certificates, or name a file in SSL_CERT_FILE".to_owned()
            }
            Self::Proxy { .. } => "write it as http://HOST:PORT".to_owned(),
            Self::BadUrl { .. } => return None,
        })
    }
}

/// Whether reading broke off because nothing came in time.
#[must_use]
pub fn is_stalled(error: &io::Error) -> bool {
    let inner = error.get_ref();
    let inner: Option<&(dyn Error + 'static)> = inner.map(|inner| inner as _);
    let timed_out = inner
        .and_then(|inner| inner.downcast_ref::<ureq::Error>())
        .is_some_and(|error| matches!(error, ureq::Error::Timeout(_)));
    timed_out || error.kind() == io::ErrorKind::TimedOut
}
