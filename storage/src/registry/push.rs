//! Blobs and manifests to a registry.
//!
//! A small blob is sent in one piece, which every registry takes. A large one is sent in chunks: when one breaks off the
//! registry is asked how far it got, and the next begins there.

use std::io::{self, Read};

use super::host::{Answer, Ask, Content};
use super::pull::word;
use super::{Access, Place, RegistryError, Repository};
use crate::digest::Digest;
use crate::manifest::Descriptor;
use crate::reference::Reference;
use crate::transfer::{BlobContent, PlaceError, Put, RawManifest, Target};
use crate::web::{Method, StatusCode, Url, header};

/// The largest chunk that a registry may ask for, in bytes.
const CHUNK_LIMIT: u64 = 1 << 30;
/// Repositories of which it is tried whether the registry takes a blob from them.
const MOUNTS: usize = 3;

impl Target for Repository {
    fn shown(&self) -> String {
        self.name.to_string()
    }

    fn put_blob(
        &self,
        descriptor: &Descriptor,
        content: &dyn BlobContent,
        mount_from: &[Reference],
        sent: &dyn Fn(u64),
    ) -> Result<Put, PlaceError> {
        let place = self.registry();
        let digest = &descriptor.digest;
        if self.has_blob(digest)? {
            return Ok(Put::Present);
        }
        let mut session = None;
        for from in self.mountable(mount_from) {
            match self.mount(digest, from) {
                Ok(Mount::Done) => return Ok(Put::Mounted(from.clone())),
                Ok(Mount::Refused(location)) => {
                    if let Some(unused) = session.replace(location) {
                        place.cancel(unused);
                    }
                }
                // Not ours to read, or not there. What else is wrong will show when it is sent.
                Err(_) => {}
            }
        }
        let upload = Upload {
            repository: self,
            place,
            digest,
            content,
            sent,
        };
        upload.run(session)?;
        Ok(Put::Sent)
    }

    fn put_manifest(&self, manifest: &RawManifest, named: bool) -> Result<(), PlaceError> {
        let place = self.registry();
        let digest = (!named).then_some(&manifest.digest);
        let ask = place
            .get(&format!("manifests/{}", word(&self.name, digest)))?
            .method(Method::PUT)
            .header(header::CONTENT_TYPE, manifest.media_type.clone())
            .content(Content::Bytes(&manifest.bytes));
        let answer = place.host.send(&ask)?;
        match answer.status() {
            StatusCode::CREATED | StatusCode::OK | StatusCode::ACCEPTED => {}
            _ => return Err(self.refusal(&ask, answer).into()),
        }
        let said = answer.text("docker-content-digest");
        match said.and_then(|said| said.parse::<Digest>().ok()) {
            Some(said) if said != manifest.digest => Err(RegistryError::Digest {
                name: self.name.to_string(),
                expected: manifest.digest,
                actual: said,
            })?,
            _ => Ok(()),
        }
    }

    fn repository(&self) -> Option<Reference> {
        Some(self.bare_name())
    }
}

/// What became of a mount.
enum Mount {
    Done,
    /// It is an upload now, at this location.
    Refused(Url),
}

impl Repository {
    /// Whether the registry has the blob.
    ///
    /// # Errors
    /// When it can't be asked.
    pub fn has_blob(&self, digest: &Digest) -> Result<bool, RegistryError> {
        let place = self.registry();
        let ask = place.get(&format!("blobs/{digest}"))?.method(Method::HEAD);
        let answer = place.host.send(&ask)?;
        match answer.status() {
            StatusCode::OK => Ok(true),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
                if answer.url.same_server(&ask.url) =>
            {
                Err(self.refusal(&ask, answer))
            }
            // Whatever else it says, or the storage that it sent us to: sending will show.
            _ => Ok(false),
        }
    }

    /// Deletes what the name stands for: by its digest, which registries want.
    ///
    /// # Errors
    /// When there is none, or the registry doesn't delete.
    pub fn delete_manifest(&self) -> Result<(), RegistryError> {
        let place = self.registry();
        let digest = match self.name.digest {
            Some(digest) => Some(digest),
            None => self.digest()?,
        };
        let ask = place
            .get(&format!("manifests/{}", word(&self.name, digest.as_ref())))?
            .method(Method::DELETE);
        let answer = place.host.send(&ask)?;
        match answer.status() {
            StatusCode::ACCEPTED | StatusCode::OK | StatusCode::NO_CONTENT => Ok(()),
            _ => Err(self.refusal(&ask, answer)),
        }
    }

    fn refusal(&self, ask: &Ask<'_>, answer: Answer) -> RegistryError {
        let missing = || match ask.method {
            Method::DELETE => RegistryError::NoManifest {
                name: self.name.to_string(),
            },
            _ => RegistryError::NoRepository {
                name: self.name.familiar_name(),
            },
        };
        let access = self.access;
        self.registry()
            .refused(&self.name, access, ask, answer, missing)
    }

    /// Those of the same registry that are others than this one.
    fn mountable<'r>(&self, from: &'r [Reference]) -> impl Iterator<Item = &'r Reference> {
        let (domain, path) = (self.name.domain.clone(), self.name.path.clone());
        let others = from
            .iter()
            .filter(move |from| from.domain == domain && from.path != path);
        others.take(MOUNTS)
    }

    fn mount(&self, digest: &Digest, from: &Reference) -> Result<Mount, RegistryError> {
        let place = self.registry();
        let mut scopes = place.scopes.clone();
        scopes.push(Access::Pull.scope(&from.path));
        let url = place.url("blobs/uploads/")?;
        let url = url.with_parameter("mount", &digest.to_string())?;
        let url = url.with_parameter("from", &from.path)?;
        let ask = Ask::get(url, &place.path, &scopes).method(Method::POST);
        let answer = place.host.send(&ask.content(Content::Bytes(b"")))?;
        match answer.status() {
            StatusCode::CREATED => Ok(Mount::Done),
            StatusCode::ACCEPTED => Ok(Mount::Refused(place.location(&answer)?)),
            _ => Err(RegistryError::NoBlob {
                digest: *digest,
                repository: from.familiar_name(),
            }),
        }
    }
}

impl Place {
    /// Where an upload goes on.
    fn location(&self, answer: &Answer) -> Result<Url, RegistryError> {
        let location = answer
            .text(header::LOCATION)
            .ok_or_else(|| RegistryError::Protocol {
                registry: self.host.name.clone(),
                what: "an upload's answer has no Location".to_owned(),
            })?;
        let to = answer.url.join(location)?;
        match answer.url.is_https() && !to.is_https() {
            true => Err(RegistryError::Downgrade {
                url: answer.url.without_query(),
                to: to.without_query(),
            }),
            false => Ok(to),
        }
    }

    /// Tells the registry that an upload won't go on. It would find out itself after some days.
    fn cancel(&self, location: Url) {
        let ask = Ask::get(location, &self.path, &self.scopes).method(Method::DELETE);
        // Nothing depends on it.
        let _ = self.host.send(&ask.once());
    }
}

/// A blob on its way.
struct Upload<'a> {
    repository: &'a Repository,
    place: &'a Place,
    digest: &'a Digest,
    content: &'a dyn BlobContent,
    sent: &'a dyn Fn(u64),
}

/// Where an upload is.
struct Position {
    location: Url,
    /// Bytes that the registry has.
    offset: u64,
    /// The length of a chunk in bytes; the last may have less.
    chunk: u64,
}

impl Upload<'_> {
    /// Sends it, in a session that is there already or in a new one.
    fn run(&self, session: Option<Url>) -> Result<(), RegistryError> {
        let host = &self.place.host;
        let mut session = session.map(|location| Position {
            location,
            offset: 0,
            chunk: self.repository.chunk,
        });
        let mut attempt = 1;
        let mut farthest = 0;
        loop {
            let mut position = match session.take() {
                Some(position) => position,
                None => self.begin()?,
            };
            let failure = match self.send(&mut position) {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            if position.offset > farthest {
                // It gets on.
                (farthest, attempt) = (position.offset, 1);
            }
            let again = failure.is_passing() || is_lost(&failure);
            let wait = host
                .retry_wait(attempt, failure.asked_wait())
                .filter(|_| again);
            let Some(wait) = wait else {
                return Err(failure);
            };
            std::thread::sleep(wait);
            attempt += 1;
            // One that the registry knows nothing of any more begins anew.
            session = self.status(position).ok();
        }
    }

    fn begin(&self) -> Result<Position, RegistryError> {
        let ask = self.place.get("blobs/uploads/")?.method(Method::POST);
        let ask = ask.content(Content::Bytes(b""));
        let answer = self.place.host.send(&ask)?;
        if answer.status() != StatusCode::ACCEPTED {
            return Err(self.repository.refusal(&ask, answer));
        }
        Ok(Position {
            location: self.place.location(&answer)?,
            offset: 0,
            chunk: chunk_length(self.repository.chunk, &answer),
        })
    }

    /// Sends what is missing, from `position` on, and ends the upload.
    fn send(&self, position: &mut Position) -> Result<(), RegistryError> {
        let size = self.content.size();
        if position.offset == 0 && size <= position.chunk {
            return self.end(position, 0);
        }
        while position.offset < size {
            let length = position.chunk.min(size - position.offset);
            self.send_chunk(position, length)?;
        }
        self.end(position, size)
    }

    fn send_chunk(&self, position: &mut Position, length: u64) -> Result<(), RegistryError> {
        let begin = position.offset;
        let open = || self.open(begin, length);
        let ask = self
            .ask(Method::PATCH, position.location.clone())
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .header(
                header::CONTENT_RANGE,
                format!("{begin}-{}", begin + length - 1),
            )
            .content(Content::Stream(&open, length));
        let answer = self.place.host.send(&ask)?;
        match answer.status() {
            StatusCode::ACCEPTED | StatusCode::CREATED | StatusCode::NO_CONTENT => {}
            _ => return Err(self.repository.refusal(&ask, answer)),
        }
        position.location = self.place.location(&answer)?;
        position.offset = range_end(&answer).unwrap_or(begin + length);
        if position.offset <= begin || position.offset > self.content.size() {
            return Err(RegistryError::Protocol {
                registry: self.place.host.name.clone(),
                what: format!(
                    "it has {} bytes of an upload after byte {begin} was sent",
                    position.offset
                ),
            });
        }
        (self.sent)(position.offset);
        Ok(())
    }

    /// Ends the upload with the bytes from `from` on: all of them, or none.
    fn end(&self, position: &Position, from: u64) -> Result<(), RegistryError> {
        let url = position.location.clone();
        let url = url.with_parameter("digest", &self.digest.to_string())?;
        let length = self.content.size() - from;
        let open = || self.open(from, length);
        let ask = self.ask(Method::PUT, url);
        let ask = match length {
            0 => ask.content(Content::Bytes(b"")),
            length => ask
                .header(header::CONTENT_TYPE, "application/octet-stream")
                .content(Content::Stream(&open, length)),
        };
        let answer = self.place.host.send(&ask)?;
        match answer.status() {
            StatusCode::CREATED | StatusCode::NO_CONTENT | StatusCode::OK => {
                (self.sent)(self.content.size());
                Ok(())
            }
            _ => Err(self.repository.refusal(&ask, answer)),
        }
    }

    /// How far an upload got.
    fn status(&self, position: Position) -> Result<Position, RegistryError> {
        let ask = self.ask(Method::GET, position.location.clone());
        let answer = self.place.host.send(&ask)?;
        match answer.status() {
            StatusCode::NO_CONTENT | StatusCode::ACCEPTED | StatusCode::OK => Ok(Position {
                location: self.place.location(&answer).unwrap_or(position.location),
                // Without a range it has nothing.
                offset: range_end(&answer).unwrap_or(0).min(self.content.size()),
                chunk: position.chunk,
            }),
            _ => Err(self.repository.refusal(&ask, answer)),
        }
    }

    /// A request that isn't retried as it is: what it has sent may be there.
    fn ask(&self, method: Method, url: Url) -> Ask<'_> {
        let place = self.place;
        Ask::get(url, &place.path, &place.scopes)
            .method(method)
            .once()
    }

    fn open<'s>(&'s self, from: u64, length: u64) -> io::Result<Box<dyn Read + 's>> {
        Ok(Box::new(Counted {
            stream: self.content.open(from)?.take(length),
            sent: self.sent,
            at: from,
        }))
    }
}

/// Whether the registry has lost an upload, or knows of another position in it.
fn is_lost(failure: &RegistryError) -> bool {
    let status = matches!(failure, RegistryError::Status { status: 416, .. });
    status || matches!(failure, RegistryError::NoRepository { .. })
}

/// The end of `Range: 0-99` (without a unit: distribution-spec, "Pushing a blob in chunks"), in bytes.
fn range_end(answer: &Answer) -> Option<u64> {
    let range = answer.text(header::RANGE)?;
    let (begin, end) = range
        .strip_prefix("bytes=")
        .unwrap_or(range)
        .split_once('-')?;
    match (begin.trim(), end.trim().parse::<u64>().ok()?) {
        // docker-registry says so of nothing; of one byte, too, which is then sent again.
        (_, 0) => Some(0),
        (_, end) => end.checked_add(1),
    }
}

/// Ours, or more when the registry wants that.
fn chunk_length(ours: u64, answer: &Answer) -> u64 {
    let least = answer.text("oci-chunk-min-length");
    let least = least.and_then(|least| least.trim().parse().ok());
    ours.max(least.unwrap_or(0)).min(CHUNK_LIMIT)
}

/// Tells how far it is read.
struct Counted<'a, R> {
    stream: R,
    sent: &'a dyn Fn(u64),
    at: u64,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        self.at += count as u64;
        (self.sent)(self.at);
        Ok(count)
    }
}
