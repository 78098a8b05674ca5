//! From place to place, past the store: nothing is unpacked, and every digest stays.

use std::collections::HashSet;
use std::io::{self, Read};
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};

use super::documents::{Documents, Found};
use super::error::Cause;
use super::fetch::{Broken, connect};
use super::push::Pushed;
use super::retry::{Attempts, Patience};
use super::{BlobContent, Progress, Put, RawManifest, Source, Step, Target, TransferError, jobs};
use crate::digest::{Digest, Hasher};
use crate::manifest::{Descriptor, Index, Manifest, Platform};

/// Indexes nest, but nobody nests them deeply.
const DEPTH: u32 = 4;

/// What to copy, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct CopyOptions {
    /// Which one of an index; `None`: that of this machine, and a single image whatever it is for.
    pub platform: Option<Platform>,
    /// The whole index, with the images of all its platforms.
    pub all_platforms: bool,
    /// Blobs that go at once.
    pub jobs: usize,
    /// With places that break.
    pub patience: Patience,
}

impl Default for CopyOptions {
    fn default() -> Self {
        Self {
            platform: None,
            all_platforms: false,
            jobs: super::default_jobs(),
            patience: Patience::default(),
        }
    }
}

/// Copies what `source` has to `target`.
///
/// # Errors
/// When the source doesn't give it, gives something wrong, or the target doesn't take it.
pub fn copy(
    source: &dyn Source,
    target: &dyn Target,
    options: &CopyOptions,
    progress: &dyn Progress,
) -> Result<Pushed, TransferError> {
    let documents = Documents {
        source,
        patience: options.patience,
    };
    let copy = Copy {
        source,
        target,
        options,
        progress,
        documents,
        done: Mutex::default(),
    };
    let documents = &copy.documents;
    let raw = match documents.find(None)? {
        Found::Index(raw, index) if options.all_platforms => {
            copy.index(&raw, &index, true, 0)?;
            raw
        }
        Found::Index(_, index) => {
            let wanted = options.platform.clone().unwrap_or_else(Platform::host);
            let (raw, manifest) = documents.choose(index, &wanted)?;
            copy.image(&raw, &manifest, true)?;
            raw
        }
        Found::One(raw, manifest) => {
            if let Some(wanted) = &options.platform {
                let (_, config) = documents.config(&manifest)?;
                documents.check_platform(Some(wanted), &config)?;
            }
            copy.image(&raw, &manifest, true)?;
            raw
        }
    };
    target
        .finish()
        .map_err(|source| TransferError::PutManifest {
            place: target.shown(),
            source: Cause(source),
        })?;
    Ok(Pushed {
        digest: raw.digest,
        size: raw.bytes.len() as u64,
    })
}

struct Copy<'a> {
    source: &'a dyn Source,
    target: &'a dyn Target,
    options: &'a CopyOptions,
    progress: &'a dyn Progress,
    documents: Documents<'a>,
    /// Blobs that are there: the images of an index share some.
    done: Mutex<HashSet<Digest>>,
}

impl Copy<'_> {
    fn index(
        &self,
        raw: &RawManifest,
        index: &Index,
        named: bool,
        depth: u32,
    ) -> Result<(), TransferError> {
        if depth >= DEPTH {
            return Err(TransferError::Nested {
                place: self.source.shown(),
            });
        }
        self.documents.check_index(index)?;
        for descriptor in &index.manifests {
            match self.documents.find(Some(descriptor))? {
                Found::One(raw, manifest) => self.image(&raw, &manifest, false)?,
                Found::Index(raw, index) => self.index(&raw, &index, false, depth + 1)?,
            }
        }
        self.put_manifest(raw, named)
    }

    /// An image or another artifact: whatever its layers are, they are blobs.
    fn image(
        &self,
        raw: &RawManifest,
        manifest: &Manifest,
        named: bool,
    ) -> Result<(), TransferError> {
        self.documents.check_layers(manifest)?;
        let blobs = std::iter::once(&manifest.config).chain(&manifest.layers);
        let mut wanted = Vec::new();
        for blob in blobs {
            let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
            if done.insert(blob.digest) {
                wanted.push(blob);
            }
        }
        for blob in &wanted {
            self.progress.blob(&blob.digest, Step::Waiting(blob.size));
        }
        let stop = AtomicBool::new(false);
        jobs::run(wanted, self.options.jobs, &stop, |blob| {
            self.blob(blob).map(|()| None)
        })?;
        self.put_manifest(raw, named)
    }

    fn put_manifest(&self, raw: &RawManifest, named: bool) -> Result<(), TransferError> {
        let put = Attempts::ask(self.options.patience, None, || {
            self.target.put_manifest(raw, named)
        });
        put.map_err(|source| TransferError::PutManifest {
            place: self.target.shown(),
            source: Cause(source),
        })
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<(), TransferError> {
        let digest = descriptor.digest;
        let content = Passing {
            source: self.source,
            descriptor,
            patience: self.options.patience,
            progress: self.progress,
            running: Mutex::default(),
            failure: Mutex::default(),
        };
        // Of the same registry: it may take the blob from there itself.
        let from = self.source.repository();
        let there = self.target.repository();
        let mounts: Vec<_> = from
            .filter(|from| there.is_some_and(|there| there.domain == from.domain))
            .into_iter()
            .collect();
        let sent = |bytes| self.progress.blob(&digest, Step::Pushing(bytes));
        let retried = Some((self.progress, &digest));
        let put = Attempts::ask(self.options.patience, retried, || {
            self.target.put_blob(descriptor, &content, &mounts, &sent)
        });
        let put = put.map_err(|source| {
            let failure = content.failure.lock();
            let failure = failure.unwrap_or_else(PoisonError::into_inner).take();
            failure.unwrap_or_else(|| TransferError::PutBlob {
                digest,
                place: self.target.shown(),
                source: Cause(source),
            })
        })?;
        let step = match put {
            Put::Present => Step::Exists,
            Put::Mounted(from) => Step::Mounted(from),
            Put::Sent => Step::Pushed,
        };
        self.progress.blob(&digest, step);
        Ok(())
    }
}

/// A blob of a source as content for a target. A target that asks for it in pieces gets all of them of one connection.
struct Passing<'a> {
    source: &'a dyn Source,
    descriptor: &'a Descriptor,
    patience: Patience,
    progress: &'a dyn Progress,
    /// Where the last reader has stopped.
    running: Mutex<Option<Running>>,
    /// Why the source has failed.
    failure: Mutex<Option<TransferError>>,
}

struct Running {
    at: u64,
    connection: Option<Box<dyn Read + Send>>,
    attempts: Attempts,
    /// Of all bytes before; `None`: it began in the middle, to send something again, and the target alone verifies.
    hasher: Option<Hasher>,
}

impl BlobContent for Passing<'_> {
    fn size(&self) -> u64 {
        self.descriptor.size
    }

    fn open(&self, offset: u64) -> io::Result<Box<dyn Read + Send + '_>> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let running = running.take().filter(|running| running.at == offset);
        let running = running.unwrap_or_else(|| Running {
            at: offset,
            connection: None,
            attempts: Attempts::new(self.patience),
            hasher: (offset == 0).then(Hasher::new),
        });
        Ok(Box::new(Passed {
            content: self,
            running: Some(running),
        }))
    }
}

/// Fails instead of giving the last bytes of a blob that isn't what its digest says.
struct Passed<'p> {
    content: &'p Passing<'p>,
    running: Option<Running>,
}

impl Drop for Passed<'_> {
    fn drop(&mut self) {
        let place = self.content.running.lock();
        *place.unwrap_or_else(PoisonError::into_inner) = self.running.take();
    }
}

impl Passing<'_> {
    fn read(&self, running: &mut Running, buffer: &mut [u8]) -> Result<usize, TransferError> {
        let digest = self.descriptor.digest;
        loop {
            let error = match self.receive(running, buffer) {
                Ok(count) => return Ok(count),
                Err(Broken::ForGood(error)) => return Err(error),
                Err(Broken::ForNow(error)) => error,
            };
            running.connection = None;
            let again = running.attempts.wait(running.at, || {
                let step = Step::Retrying(error.to_string());
                self.progress.blob(&digest, step);
            });
            if !again {
                return Err(TransferError::Broken {
                    digest,
                    place: self.source.shown(),
                    have: running.at,
                    size: self.descriptor.size,
                    source: error,
                });
            }
        }
    }

    fn receive(&self, running: &mut Running, buffer: &mut [u8]) -> Result<usize, Broken> {
        let left = self.descriptor.size.saturating_sub(running.at);
        let wanted = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        let mut connection = match running.connection.take() {
            Some(connection) => connection,
            None => connect(self.source, self.descriptor, running.at)?,
        };
        let count = connection.read(&mut buffer[..wanted]);
        let count = count.map_err(Broken::ForNow)?;
        if count == 0 {
            return Err(Broken::ForNow(io::ErrorKind::UnexpectedEof.into()));
        }
        running.connection = Some(connection);
        running.at += count as u64;
        if let Some(hasher) = &mut running.hasher {
            hasher.update(&buffer[..count]);
        }
        if running.at == self.descriptor.size {
            self.verify(running).map_err(Broken::ForGood)?;
        }
        Ok(count)
    }

    fn verify(&self, running: &mut Running) -> Result<(), TransferError> {
        let (expected, place) = (self.descriptor.digest, self.source.shown());
        if let Some(connection) = &mut running.connection
            && connection.read(&mut [0]).is_ok_and(|count| count > 0)
        {
            return Err(TransferError::TooLong {
                digest: expected,
                place,
                size: self.descriptor.size,
            });
        }
        let actual = running.hasher.take().map(Hasher::finish);
        match actual.filter(|actual| *actual != expected) {
            None => Ok(()),
            Some(actual) => Err(TransferError::Digest {
                place,
                expected,
                actual,
            }),
        }
    }
}

impl Read for Passed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let content = self.content;
        let running = self.running.as_mut();
        let running = running.expect("it is taken away when this is dropped");
        content.read(running, buffer).map_err(|error| {
            let text = error.to_string();
            let failure = content.failure.lock();
            *failure.unwrap_or_else(PoisonError::into_inner) = Some(error);
            io::Error::other(text)
        })
    }
}
