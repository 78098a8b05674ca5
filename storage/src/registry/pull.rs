//! Manifests and blobs from a registry.

use std::io::Read;
use std::sync::atomic::Ordering;

use serde::Deserialize;
use serde_json::Value;

use super::host::{Answer, Ask};
use super::{Access, Place, RegistryError, Repository};
use crate::blob::DOCUMENT_LIMIT;
use crate::digest::Digest;
use crate::manifest::{DOCKER_LIST, DOCKER_MANIFEST, Descriptor, OCI_INDEX, OCI_MANIFEST};
use crate::reference::Reference;
use crate::transfer::{BlobStream, PlaceError, RawManifest, Source};
use crate::web::{Method, StatusCode, Url, header};

/// A manifest's formats that we read, the best first.
const ACCEPT: [&str; 4] = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST];

impl Source for Repository {
    fn shown(&self) -> String {
        self.name.to_string()
    }

    fn manifest(&self, digest: Option<&Digest>) -> Result<RawManifest, PlaceError> {
        Ok(self.first_good(|place| place.manifest(&self.name, self.access, digest))?)
    }

    fn blob(&self, descriptor: &Descriptor, offset: u64) -> Result<BlobStream, PlaceError> {
        let opened =
            self.first_good(|place| place.blob(&self.name, self.access, descriptor, offset));
        match opened {
            Err(RegistryError::NoBlob { .. }) if !urls(descriptor).is_empty() => {
                Ok(self.registry().foreign_blob(descriptor, offset)?)
            }
            opened => Ok(opened?),
        }
    }

    fn repository(&self) -> Option<Reference> {
        Some(self.bare_name())
    }
}

impl Repository {
    /// The digest that the name stands for, without its manifest; `None`: the registry doesn't say.
    ///
    /// # Errors
    /// When there is none, or the registry can't be asked.
    pub fn digest(&self) -> Result<Option<Digest>, RegistryError> {
        self.first_good(|place| place.digest(&self.name, self.access))
    }

    /// The first answer: of the place that was good before, then of the mirrors, then of the registry. When none is good,
    /// it is the registry's that counts.
    fn first_good<T>(
        &self,
        ask: impl Fn(&Place) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let good = self.good.load(Ordering::Relaxed);
        let last = self.places.len() - 1;
        let first = Some(good).filter(|good| *good <= last);
        let others = (0..=last).filter(|number| *number != good);
        let mut failure = None;
        for number in first.into_iter().chain(others) {
            match ask(&self.places[number]) {
                Ok(answer) => {
                    self.good.store(number, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(error) if number == last => failure = Some(error),
                // A mirror may be down or have less.
                Err(_) => {}
            }
        }
        Err(failure.expect("the registry itself was asked, too"))
    }

    /// The registry itself.
    pub(super) fn registry(&self) -> &Place {
        self.places.last().expect("an image has one place at least")
    }

    /// Registry and repository alone.
    pub(super) fn bare_name(&self) -> Reference {
        Reference {
            tag: None,
            digest: None,
            ..self.name.clone()
        }
    }
}

impl Place {
    pub(super) fn url(&self, rest: &str) -> Result<Url, RegistryError> {
        self.host.url(&format!("/v2/{}/{rest}", self.path))
    }

    pub(super) fn get(&self, rest: &str) -> Result<Ask<'_>, RegistryError> {
        let ask = Ask::get(self.url(rest)?, &self.path, &self.scopes);
        // Instead of waiting for a mirror the next one is asked.
        Ok(if self.is_mirror { ask.once() } else { ask })
    }

    fn ask_manifest(
        &self,
        name: &Reference,
        digest: Option<&Digest>,
    ) -> Result<Ask<'_>, RegistryError> {
        let ask = self.get(&format!("manifests/{}", word(name, digest)))?;
        Ok(ask.header(header::ACCEPT, ACCEPT.join(", ")))
    }

    fn manifest(
        &self,
        name: &Reference,
        access: Access,
        digest: Option<&Digest>,
    ) -> Result<RawManifest, RegistryError> {
        let shown = shown(name, digest);
        let ask = self.ask_manifest(name, digest)?;
        let answer = self.host.send(&ask)?;
        if answer.status() != StatusCode::OK {
            return Err(
                self.refused(name, access, &ask, answer, || RegistryError::NoManifest {
                    name: shown.clone(),
                }),
            );
        }
        let content_type = media_type(&answer);
        let said = digest_header(&answer);
        let read = self.host.read(answer, DOCUMENT_LIMIT);
        let bytes = read.map_err(|error| match error {
            RegistryError::LongAnswer { .. } => RegistryError::TooLarge {
                name: shown.clone(),
            },
            error => error,
        })?;
        let actual = Digest::of(&bytes);
        let wanted = digest.or(name.digest.as_ref()).copied();
        for expected in [wanted, said].into_iter().flatten() {
            if expected != actual {
                return Err(RegistryError::Digest {
                    name: shown,
                    expected,
                    actual,
                });
            }
        }
        let media_type = check_format(&bytes, content_type, &shown)?;
        Ok(RawManifest {
            bytes,
            media_type,
            digest: actual,
        })
    }

    fn digest(&self, name: &Reference, access: Access) -> Result<Option<Digest>, RegistryError> {
        let ask = self.ask_manifest(name, None)?.method(Method::HEAD);
        let answer = self.host.send(&ask)?;
        match answer.status() {
            StatusCode::OK => Ok(digest_header(&answer)),
            _ => Err(
                self.refused(name, access, &ask, answer, || RegistryError::NoManifest {
                    name: shown(name, None),
                }),
            ),
        }
    }

    fn blob(
        &self,
        name: &Reference,
        access: Access,
        descriptor: &Descriptor,
        offset: u64,
    ) -> Result<BlobStream, RegistryError> {
        let whole = self
            .get(&format!("blobs/{}", descriptor.digest))?
            // What a proxy packs on the way would have other bytes.
            .header(header::ACCEPT_ENCODING, "identity");
        let ask = from_offset(whole.clone(), offset);
        let mut answer = self.host.send(&ask)?;
        if answer.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            // What we have is longer than what is there, or the server doesn't know better: from the beginning.
            answer = self
                .host
                .send(&self.get(&format!("blobs/{}", descriptor.digest))?)?;
        }
        if !has_content(&answer) {
            return Err(
                self.refused(name, access, &ask, answer, || RegistryError::NoBlob {
                    digest: descriptor.digest,
                    repository: name.familiar_name(),
                }),
            );
        }
        self.stream(answer, offset)
    }

    /// A blob that may not be given to registries (Windows' base layers): from where its manifest says.
    fn foreign_blob(
        &self,
        descriptor: &Descriptor,
        offset: u64,
    ) -> Result<BlobStream, RegistryError> {
        let mut failure = None;
        for url in urls(descriptor) {
            // Nobody is told who we are: the URL is of another server, and a stranger chose it.
            let opened = Url::parse(url)
                .map_err(RegistryError::from)
                .and_then(|url| {
                    let ask = from_offset(Ask::get(url, "", &[]), offset);
                    let answer = self.host.send_anonymously(&ask)?;
                    match has_content(&answer) {
                        true => self.stream(answer, offset),
                        false => Err(self.host.unexpected(&ask, answer)),
                    }
                });
            match opened {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.expect("there is one URL at least"))
    }

    /// The bytes of a blob.
    fn stream(&self, answer: Answer, offset: u64) -> Result<BlobStream, RegistryError> {
        let begins = match answer.status() {
            StatusCode::PARTIAL_CONTENT => range_start(&answer).filter(|start| *start <= offset),
            _ => Some(0),
        };
        let begins = begins.ok_or_else(|| RegistryError::Protocol {
            registry: self.host.name.clone(),
            what: format!("asked for a blob from byte {offset}, it sends another part"),
        })?;
        let body = answer.response.into_body().into_with_config();
        Ok(BlobStream {
            offset: begins,
            bytes: Box::new(body.limit(u64::MAX).reader()) as Box<dyn Read + Send>,
        })
    }

    /// What an answer means that says no; `missing` when it means that there is no such thing.
    pub(super) fn refused(
        &self,
        name: &Reference,
        access: Access,
        ask: &Ask<'_>,
        answer: Answer,
        missing: impl Fn() -> RegistryError,
    ) -> RegistryError {
        let status = answer.status();
        let is_ours = answer.url.same_server(&ask.url);
        match status {
            _ if is_ours && self.host.is_wrong_password(&self.path, status) => {
                RegistryError::WrongPassword {
                    registry: self.host.name.clone(),
                }
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if is_ours => {
                let logged_in = self.host.is_logged_in(&self.path);
                let said = self.host.refusal(answer).said;
                RegistryError::Denied {
                    action: access.word(),
                    repository: name.familiar_name(),
                    said,
                    logged_in,
                    registry: self.host.name.clone(),
                }
            }
            StatusCode::NOT_FOUND if is_ours => {
                let refusal = self.host.refusal(answer);
                match refusal.code.as_str() {
                    "NAME_UNKNOWN" => RegistryError::NoRepository {
                        name: name.familiar_name(),
                    },
                    _ => missing(),
                }
            }
            StatusCode::NOT_FOUND => missing(),
            _ => self.host.unexpected(ask, answer),
        }
    }
}

fn has_content(answer: &Answer) -> bool {
    matches!(
        answer.status(),
        StatusCode::OK | StatusCode::PARTIAL_CONTENT
    )
}

/// What a manifest is asked for by.
pub(super) fn word(name: &Reference, digest: Option<&Digest>) -> String {
    match (digest.or(name.digest.as_ref()), &name.tag) {
        (Some(digest), _) => digest.to_string(),
        (None, Some(tag)) => tag.clone(),
        (None, None) => "latest".to_owned(),
    }
}

/// `ubuntu:14.04`, `ubuntu@sha256:…`.
fn shown(name: &Reference, digest: Option<&Digest>) -> String {
    match digest {
        Some(digest) => format!("{}@{digest}", name.familiar_name()),
        None => name.to_string(),
    }
}

fn from_offset(ask: Ask<'_>, offset: u64) -> Ask<'_> {
    match offset {
        0 => ask,
        offset => ask.header(header::RANGE, format!("bytes={offset}-")),
    }
}

/// `bytes 5-9/10`.
fn range_start(answer: &Answer) -> Option<u64> {
    let range = answer.text(header::CONTENT_RANGE)?.strip_prefix("bytes ")?;
    range.split('-').next()?.trim().parse().ok()
}

/// Those of algorithms that we don't know say nothing.
fn digest_header(answer: &Answer) -> Option<Digest> {
    answer.text("docker-content-digest")?.trim().parse().ok()
}

/// Without parameters.
fn media_type(answer: &Answer) -> String {
    let value = answer.text(header::CONTENT_TYPE).unwrap_or_default();
    value.split(';').next().unwrap_or(value).trim().to_owned()
}

/// Where else a blob may be (OCI image-spec, descriptor.md, `urls`).
fn urls(descriptor: &Descriptor) -> Vec<&str> {
    let urls = descriptor.extra.get("urls").and_then(Value::as_array);
    urls.into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

/// The manifest's media type: its own word, else the server's. Schema 1 is refused.
fn check_format(bytes: &[u8], said: String, name: &str) -> Result<String, RegistryError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Head {
        schema_version: Option<Value>,
        media_type: Option<Value>,
    }
    let head: Option<Head> = serde_json::from_slice(bytes).ok();
    let version = head
        .as_ref()
        .and_then(|head| head.schema_version.as_ref()?.as_u64());
    if version == Some(1) || said.starts_with("application/vnd.docker.distribution.manifest.v1+") {
        return Err(RegistryError::Schema1 {
            name: name.to_owned(),
        });
    }
    let own = head.and_then(|head| Some(head.media_type?.as_str()?.to_owned()));
    Ok(own.filter(|own| !own.is_empty()).unwrap_or(said))
}
