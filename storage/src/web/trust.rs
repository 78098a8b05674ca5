//! Which certificates are trusted, and which we show.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, parse_pem};

use crate::explain::Explain;

/// What a server's certificate must be signed by, and what we show it.
#[derive(Debug, Clone)]
pub struct Trust {
    /// Beside the host's.
    pub(super) authorities: Vec<Certificate<'static>>,
    /// Of ours: the chain and its key.
    pub(super) client: Option<ClientCert>,
    /// Whether the server must show a certificate that is good.
    pub verify: bool,
}

impl Default for Trust {
    fn default() -> Self {
        Self {
            authorities: Vec::new(),
            client: None,
            verify: true,
        }
    }
}

/// A certificate or key that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file can't be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Something else than what it should have.
    #[error("{} has no {wanted} in PEM form", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// `certificate`, `private key`.
        wanted: &'static str,
    },
}

impl Explain for TrustError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Read { .. } => Some("make it readable for you, or remove it".to_owned()),
            Self::Content { wanted, .. } => Some(format!(
                "a {wanted} begins with a line -----BEGIN; DER files are converted by openssl"
            )),
        }
    }
}

impl Trust {
    /// Trusts the authorities in this file, too.
    ///
    /// # Errors
    /// When it has none.
    pub fn add_authorities(&mut self, path: &Path) -> Result<(), TrustError> {
        self.authorities.extend(certificates(path)?);
        Ok(())
    }

    /// Shows this certificate to servers that ask for one.
    ///
    /// # Errors
    /// When the files haven't it or its key.
    pub fn set_client(&mut self, chain: &Path, key: &Path) -> Result<(), TrustError> {
        let bytes = read(key)?;
        let private = PrivateKey::from_pem(&bytes).map_err(|_| TrustError::Content {
            path: key.to_owned(),
            wanted: "private key",
        })?;
        let chain = certificates(chain)?;
        self.client = Some(ClientCert::new_with_certs(&chain, private));
        Ok(())
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TrustError> {
    fs::read(path).map_err(|source| TrustError::Read {
        path: path.to_owned(),
        source,
    })
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, TrustError> {
    let bytes = read(path)?;
    let items = parse_pem(&bytes).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    });
    let found: Vec<_> = items.collect();
    match found.is_empty() {
        true => Err(TrustError::Content {
            path: path.to_owned(),
            wanted: "certificate",
        }),
        false => Ok(found),
    }
}

/// Those in `file`, else the host's; perhaps none.
pub(super) fn roots(file: Option<&Path>) -> RootCerts {
    let found = match file {
        Some(file) => rustls_native_certs::load_certs_from_paths(Some(file), None),
        None => rustls_native_certs::load_native_certs(),
    };
    let certificates = found.certs.iter();
    RootCerts::from(certificates.map(|der| Certificate::from_der(der).to_owned()))
}
