//! Files from http and https URLs.
//!
//! What comes is written to a file and hashed on the way. Redirects are followed here and not by the library, so that each
//! of them gets the proxy that is meant for it. The host's CA certificates are trusted, and no others.

mod error;
#[cfg(test)]
mod tests;

pub use error::FetchError;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use rctr_storage::digest::{Digest, Hasher};
use rctr_storage::web::{
    self, Body, Method, Payload, Response, Url, Web, header, parse_date, without_password,
};

/// Redirects that are followed one after the other, as many as Go's client follows.
const REDIRECTS: usize = 10;

/// How files are fetched.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How the web is reached.
    pub web: web::Settings,
    /// Bytes that a file may have.
    pub limit: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            web: web::Settings::default(),
            limit: 64 << 30,
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
#[derive(Debug)]
pub struct Client {
    web: Web,
    limit: u64,
}

impl Default for Client {
    fn default() -> Self {
        Self::new(Settings::default())
    }
}

impl Client {
    /// One with these settings.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            web: Web::new(settings.web),
            limit: settings.limit,
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
                url: without_password(url),
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

    /// The bytes of what is at `url`, as they come.
    ///
    /// # Errors
    /// When it can't be had.
    pub fn open(&self, url: &str) -> Result<Box<dyn Read + Send>, FetchError> {
        let (_, response) = self.request(url)?;
        let body = response.into_body().into_with_config();
        Ok(Box::new(body.limit(self.limit).reader()))
    }

    /// The answer, and the URL that gave it.
    fn request(&self, url: &str) -> Result<(Url, Response<Body>), FetchError> {
        let mut at = Url::parse(url)?;
        for _ in 0..=REDIRECTS {
            let response = self.web.send(Method::GET, &at, &[], Payload::None)?;
            let status = response.status();
            let location = response.headers().get(header::LOCATION);
            match location.filter(|_| status.is_redirection()) {
                Some(location) => at = at.join(&String::from_utf8_lossy(location.as_bytes()))?,
                None if status.is_success() => return Ok((at, response)),
                None => {
                    return Err(FetchError::Status {
                        url: at.to_string(),
                        status: status.as_u16(),
                        reason: status.canonical_reason().unwrap_or("unknown"),
                    });
                }
            }
        }
        Err(FetchError::Redirects {
            url: without_password(url),
            limit: REDIRECTS,
        })
    }

    fn receive(
        &self,
        url: &Url,
        response: Response<Body>,
        into: &Path,
        progress: &mut dyn FnMut(u64, Option<u64>),
    ) -> Result<Fetched, FetchError> {
        let total = response.body().content_length();
        let too_large = |bytes: u64| match bytes > self.limit {
            true => Err(FetchError::TooLarge {
                url: url.to_string(),
                limit: self.limit,
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
                        url: url.to_string(),
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
}

/// What the file is called.
fn file_name(response: &Response<Body>, url: &Url) -> String {
    let disposition = response.headers().get(header::CONTENT_DISPOSITION);
    let disposition = disposition.and_then(|value| value.to_str().ok());
    let named = disposition.and_then(disposition_name);
    let last = || web::last_name(url);
    named.or_else(last).unwrap_or_else(|| "download".to_owned())
}

/// `attachment; filename="a.tar"` (RFC 6266). Only its last name, so that it can't lead anywhere.
fn disposition_name(value: &str) -> Option<String> {
    let parameters = value.split(';').skip(1);
    let named = parameters.filter_map(|part| part.trim().split_once('='));
    let mut named = named.filter(|(key, _)| key.trim().eq_ignore_ascii_case("filename"));
    let name = named.next()?.1.trim().trim_matches('"');
    let name = name.rsplit(['/', '\\']).next()?;
    web::is_file_name(name).then(|| name.to_owned())
}
