//! Files from http and https URLs.
//!
//! What comes is written to a file and hashed on the way. Redirects are followed here and not by the library, so that each
//! of them gets the proxy that is meant for it. The host's CA certificates are trusted, and no others.

mod error;
mod proxy;
#[cfg(test)]
mod tests;
mod url;

pub use error::FetchError;
pub(crate) use url::shown as without_password;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rctr_storage::digest::{Digest, Hasher};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use ureq::http::{Response, header};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};

/// Redirects that are followed one after the other, as many as Go's client follows.
const REDIRECTS: usize = 10;

/// How the web is reached.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `HTTP_PROXY`.
    pub http_proxy: Option<String>,
    /// `HTTPS_PROXY`.
    pub https_proxy: Option<String>,
    /// `NO_PROXY`: names, addresses and networks, separated by commas.
    pub no_proxy: String,
    /// CA certificates (PEM); `None`: the host's, found as OpenSSL finds them (with `SSL_CERT_FILE` and `SSL_CERT_DIR`).
    pub ca_file: Option<PathBuf>,
    /// Bytes that a file may have.
    pub limit: u64,
    /// For looking up a name and connecting.
    pub connect_timeout: Duration,
    /// For the next bytes to come.
    pub read_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            http_proxy: None,
            https_proxy: None,
            no_proxy: String::new(),
            ca_file: None,
            limit: 64 << 30,
            connect_timeout: Duration::from_secs(30),
            read_timeout: Duration::from_secs(60),
        }
    }
}

/// What came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Of the bytes.
    pub digest: Digest,
    /// As the server calls it, else the last name in the URL, else `download`. One name, without slashes.
    pub file_name: String,
    /// `Last-Modified`, in seconds since 1970.
    pub last_modified: Option<i64>,
    /// How many.
    pub bytes: u64,
}

/// Gets files. Threads may share it.
#[derive(Debug, Default)]
pub struct Client {
    settings: Settings,
    /// Reading the certificates takes some milliseconds: once, and only for https.
    roots: OnceLock<RootCerts>,
}

impl Client {
    /// One with these settings.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            roots: OnceLock::new(),
        }
    }

    /// Writes what is at `url` to the new file `into`. `progress` gets the bytes so far, and how many there will be.
    ///
    /// # Errors
    /// When it can't be had, is larger than the limit or isn't `expected`. Nothing is at `into` then.
    pub fn get(
        &self,
        url: &str,
        expected: Option<Digest>,
        into: &Path,
        progress: &mut dyn FnMut(u64, Option<u64>),
    ) -> Result<Fetched, FetchError> {
        let (at, response) = self.request(url)?;
        let fetched = self.receive(&at, response, into, progress);
        let checked = fetched.and_then(|fetched| match expected {
            Some(expected) if expected != fetched.digest => Err(FetchError::Digest {
                url: url::shown(url),
                expected,
                actual: fetched.digest,
            }),
            _ => Ok(fetched),
        });
        if checked.is_err() {
            // Perhaps it was never made.
            let _ = fs::remove_file(into);
        }
        checked
    }

    /// The answer, and the URL that gave it.
    fn request(&self, url: &str) -> Result<(String, Response<Body>), FetchError> {
        let mut at = url.to_owned();
        for _ in 0..=REDIRECTS {
            let agent = self.agent(&at)?;
            let failed = |error| FetchError::of(&at, error);
            let response = agent.get(&at).call().map_err(failed)?;
            let status = response.status();
            let location = response.headers().get(header::LOCATION);
            match location.filter(|_| status.is_redirection()) {
                Some(location) => {
                    at = url::join(&at, &String::from_utf8_lossy(location.as_bytes()))?
                }
                None if status.is_success() => return Ok((at, response)),
                None => {
                    return Err(FetchError::Status {
                        url: url::shown(&at),
                        status: status.as_u16(),
                        reason: status.canonical_reason().unwrap_or("unknown"),
                    });
                }
            }
        }
        Err(FetchError::Redirects {
            url: url::shown(url),
            limit: REDIRECTS,
        })
    }

    fn receive(
        &self,
        url: &str,
        response: Response<Body>,
        into: &Path,
        progress: &mut dyn FnMut(u64, Option<u64>),
    ) -> Result<Fetched, FetchError> {
        let total = response.body().content_length();
        let too_large = |bytes: u64| match bytes > self.settings.limit {
            true => Err(FetchError::TooLarge {
                url: url::shown(url),
                limit: self.settings.limit,
            }),
            false => Ok(()),
        };
        too_large(total.unwrap_or(0))?;
        let file_name = file_name(&response, url);
        let last_modified = response.headers().get(header::LAST_MODIFIED);
        let last_modified = last_modified.and_then(|value| parse_date(value.to_str().ok()?));
        let write = |source| FetchError::Write {
            path: into.to_owned(),
            source,
        };
        let mut file = File::create_new(into).map_err(write)?;
        let mut body = response
            .into_body()
            .into_with_config()
            .limit(u64::MAX)
            .reader();
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; 128 << 10];
        let mut bytes = 0;
        loop {
            let read = body.read(&mut buffer);
            let count = match read {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    return Err(FetchError::Interrupted {
                        url: url::shown(url),
                        bytes,
                        source,
                    });
                }
            };
            bytes += count as u64;
            too_large(bytes)?;
            hasher.update(&buffer[..count]);
            file.write_all(&buffer[..count]).map_err(write)?;
            progress(bytes, total);
        }
        Ok(Fetched {
            digest: hasher.finish(),
            file_name,
            last_modified,
            bytes,
        })
    }

    /// One for this URL: with its proxy, and with certificates when they are needed.
    fn agent(&self, url: &str) -> Result<Agent, FetchError> {
        let tls = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let tls = match url::is_https(url)? {
            true => tls.root_certs(self.roots(url)?),
            false => tls.root_certs(RootCerts::new_with_certs(&[])),
        };
        let config = Agent::config_builder()
            .tls_config(tls.build())
            .proxy(proxy::of(&self.settings, url)?)
            .max_redirects(0)
            .http_status_as_error(false)
            .user_agent(concat!("rctr/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(self.settings.connect_timeout))
            .timeout_connect(Some(self.settings.connect_timeout))
            .timeout_recv_response(Some(self.settings.read_timeout))
            .timeout_per_read(Some(self.settings.read_timeout));
        Ok(config.build().new_agent())
    }

    fn roots(&self, url: &str) -> Result<RootCerts, FetchError> {
        if let Some(roots) = self.roots.get() {
            return Ok(roots.clone());
        }
        let found = match &self.settings.ca_file {
            Some(file) => rustls_native_certs::load_certs_from_paths(Some(file), None),
            None => rustls_native_certs::load_native_certs(),
        };
        if found.certs.is_empty() {
            return Err(FetchError::NoCertificates {
                url: url::shown(url),
            });
        }
        let certificates = found.certs.iter();
        let certificates = certificates.map(|der| Certificate::from_der(der).to_owned());
        let roots = RootCerts::from(certificates);
        Ok(self.roots.get_or_init(|| roots).clone())
    }
}

/// What the file is called.
fn file_name(response: &Response<Body>, url: &str) -> String {
    let disposition = response.headers().get(header::CONTENT_DISPOSITION);
    let disposition = disposition.and_then(|value| value.to_str().ok());
    let named = disposition.and_then(disposition_name);
    let last = || url::last_name(url);
    named.or_else(last).unwrap_or_else(|| "download".to_owned())
}

/// `attachment; filename="a.tar"` (RFC 6266). Only its last name, so that it can't lead anywhere.
fn disposition_name(value: &str) -> Option<String> {
    let parameters = value.split(';').skip(1);
    let named = parameters.filter_map(|part| part.trim().split_once('='));
    let mut named = named.filter(|(key, _)| key.trim().eq_ignore_ascii_case("filename"));
    let name = named.next()?.1.trim().trim_matches('"');
    let name = name.rsplit(['/', '\\']).next()?;
    url::is_name(name).then(|| name.to_owned())
}

/// `Wed, 21 Oct 2015 07:28:00 GMT`.
fn parse_date(text: &str) -> Option<i64> {
    Some(OffsetDateTime::parse(text, &Rfc2822).ok()?.unix_timestamp())
}
