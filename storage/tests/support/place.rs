//! A place in memory that images come from and go to, which breaks in the ways that are asked for.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "each test uses a part"
)]

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rctr_storage::digest::Digest;
use rctr_storage::explain::Explain;
use rctr_storage::manifest::Descriptor;
use rctr_storage::reference::Reference;
use rctr_storage::transfer::{
    BlobContent, BlobStream, PlaceError, PlaceFailure, Progress, Put, RawManifest, Source, Step,
    Target,
};

#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    pub text: String,
    pub not_found: bool,
    pub transient: bool,
}

impl Explain for Refusal {}

impl PlaceFailure for Refusal {
    fn is_not_found(&self) -> bool {
        self.not_found
    }

    fn is_transient(&self) -> bool {
        self.transient
    }
}

fn refusal(text: &str, transient: bool) -> PlaceError {
    Box::new(Refusal {
        text: text.to_owned(),
        not_found: text.contains("unknown"),
        transient,
    })
}

/// What happens to one opening of a blob.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The connection breaks after so many bytes.
    Cut(u64),
    /// It just ends.
    End(u64),
    /// It hangs for a while, then times out.
    Stall(u64),
    /// A byte is another.
    Wrong(u64),
    /// There are more bytes than there should be.
    TooLong,
    /// The server is overloaded.
    Overloaded,
    /// The server says no.
    Refused,
    /// The server knows no ranges, and all is well else.
    FromStart,
    /// As that, and breaks after so many bytes.
    FromStartCut(u64),
}

#[derive(Default)]
pub struct Place {
    pub blobs: Mutex<BTreeMap<Digest, Arc<Vec<u8>>>>,
    pub manifests: Mutex<BTreeMap<Digest, RawManifest>>,
    pub named: Mutex<Option<Digest>>,
    pub name: Option<Reference>,
    /// Each is used once, in order.
    pub faults: Mutex<HashMap<Digest, Vec<Fault>>>,
    /// Before every read of a blob.
    pub slowness: Duration,
    /// Bytes of blobs that were asked for and given.
    pub given: Arc<AtomicU64>,
    pub opened: AtomicU64,
    /// Bytes that were received.
    pub received: AtomicU64,
    /// What blobs may be mounted from.
    pub others: HashMap<Reference, Vec<Digest>>,
    pub mount_asked: Mutex<Vec<Reference>>,
}

impl Place {
    pub fn put(&self, bytes: Vec<u8>) -> Digest {
        let digest = Digest::of(&bytes);
        self.blobs.lock().unwrap().insert(digest, Arc::new(bytes));
        digest
    }

    pub fn put_named(&self, bytes: Vec<u8>) -> Digest {
        let digest = self.put_manifest_bytes(bytes);
        *self.named.lock().unwrap() = Some(digest);
        digest
    }

    pub fn put_manifest_bytes(&self, bytes: Vec<u8>) -> Digest {
        let raw = RawManifest {
            digest: Digest::of(&bytes),
            media_type: String::new(),
            bytes,
        };
        let digest = raw.digest;
        self.manifests.lock().unwrap().insert(digest, raw);
        digest
    }

    pub fn fault(&self, digest: Digest, faults: &[Fault]) {
        self.faults.lock().unwrap().insert(digest, faults.to_vec());
    }

    pub fn given(&self) -> u64 {
        self.given.load(Ordering::SeqCst)
    }

    pub fn forget_given(&self) {
        self.given.store(0, Ordering::SeqCst);
    }
}

impl Source for Place {
    fn shown(&self) -> String {
        "memory".to_owned()
    }

    fn manifest(&self, digest: Option<&Digest>) -> Result<RawManifest, PlaceError> {
        let named = *self.named.lock().unwrap();
        let digest = digest.copied().or(named);
        let digest = digest.ok_or_else(|| refusal("manifest unknown", false))?;
        let manifests = self.manifests.lock().unwrap();
        manifests
            .get(&digest)
            .cloned()
            .ok_or_else(|| refusal("manifest unknown", false))
    }

    fn blob(&self, descriptor: &Descriptor, offset: u64) -> Result<BlobStream, PlaceError> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        let fault = {
            let mut faults = self.faults.lock().unwrap();
            let faults = faults.get_mut(&descriptor.digest);
            faults
                .filter(|faults| !faults.is_empty())
                .map(|faults| faults.remove(0))
        };
        let blobs = self.blobs.lock().unwrap();
        let blob = blobs.get(&descriptor.digest).cloned();
        let mut blob = blob.ok_or_else(|| refusal("blob unknown", false))?;
        let mut offset = offset;
        let mut end = End::Whole;
        let mut limit = u64::MAX;
        match fault {
            None => {}
            Some(Fault::Overloaded) => return Err(refusal("too many requests", true)),
            Some(Fault::Refused) => return Err(refusal("denied", false)),
            Some(Fault::Cut(at)) => (limit, end) = (at, End::Reset),
            Some(Fault::End(at)) => limit = at,
            Some(Fault::Stall(at)) => (limit, end) = (at, End::Stall),
            Some(Fault::FromStart) => offset = 0,
            Some(Fault::FromStartCut(at)) => (offset, limit, end) = (0, at, End::Reset),
            Some(Fault::Wrong(at)) => {
                let mut bytes = blob.to_vec();
                bytes[usize::try_from(at).unwrap()] ^= 0x40;
                blob = Arc::new(bytes);
            }
            Some(Fault::TooLong) => {
                let mut bytes = blob.to_vec();
                bytes.extend([0; 1000]);
                blob = Arc::new(bytes);
            }
        }
        Ok(BlobStream {
            offset,
            bytes: Box::new(Stream {
                blob,
                at: offset,
                limit,
                end,
                slowness: self.slowness,
                given: Arc::clone(&self.given),
            }),
        })
    }

    fn repository(&self) -> Option<Reference> {
        self.name.clone()
    }
}

#[derive(Clone, Copy)]
enum End {
    Whole,
    Reset,
    Stall,
}

struct Stream {
    blob: Arc<Vec<u8>>,
    at: u64,
    /// Where in the blob it ends.
    limit: u64,
    end: End,
    slowness: Duration,
    given: Arc<AtomicU64>,
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        std::thread::sleep(self.slowness);
        let to = self.limit.min(self.blob.len() as u64);
        let left = to.saturating_sub(self.at);
        let count = buffer
            .len()
            .min(16 << 10)
            .min(usize::try_from(left).unwrap());
        if count == 0 && self.limit <= self.blob.len() as u64 {
            match self.end {
                End::Whole => {}
                End::Reset => return Err(io::ErrorKind::ConnectionReset.into()),
                End::Stall => {
                    std::thread::sleep(Duration::from_millis(20));
                    return Err(io::ErrorKind::TimedOut.into());
                }
            }
        }
        let from = usize::try_from(self.at).unwrap();
        buffer[..count].copy_from_slice(&self.blob[from..from + count]);
        self.at += count as u64;
        self.given.fetch_add(count as u64, Ordering::SeqCst);
        Ok(count)
    }
}

impl Target for Place {
    fn shown(&self) -> String {
        "memory".to_owned()
    }

    fn put_blob(
        &self,
        descriptor: &Descriptor,
        content: &dyn BlobContent,
        mount_from: &[Reference],
        sent: &dyn Fn(u64),
    ) -> Result<Put, PlaceError> {
        if self.blobs.lock().unwrap().contains_key(&descriptor.digest) {
            return Ok(Put::Present);
        }
        for from in mount_from {
            self.mount_asked.lock().unwrap().push(from.clone());
            let has = |blobs: &Vec<Digest>| blobs.contains(&descriptor.digest);
            if self.others.get(from).is_some_and(has) {
                self.blobs
                    .lock()
                    .unwrap()
                    .insert(descriptor.digest, Arc::default());
                return Ok(Put::Mounted(from.clone()));
            }
        }
        let fault = {
            let mut faults = self.faults.lock().unwrap();
            let faults = faults.get_mut(&descriptor.digest);
            faults
                .filter(|faults| !faults.is_empty())
                .map(|faults| faults.remove(0))
        };
        let mut bytes = Vec::new();
        let mut stream = content
            .open(0)
            .map_err(|error| refusal(&error.to_string(), false))?;
        match fault {
            Some(Fault::Overloaded) => return Err(refusal("too many requests", true)),
            Some(Fault::Refused) => return Err(refusal("denied", false)),
            // An upload that breaks and goes on.
            Some(Fault::Cut(at)) => {
                (&mut stream).take(at).read_to_end(&mut bytes).unwrap();
                let at = bytes.len() as u64;
                drop(stream);
                stream = content
                    .open(at)
                    .map_err(|error| refusal(&error.to_string(), false))?;
            }
            _ => {}
        }
        stream
            .read_to_end(&mut bytes)
            .map_err(|error| refusal(&error.to_string(), false))?;
        self.received
            .fetch_add(bytes.len() as u64, Ordering::SeqCst);
        sent(bytes.len() as u64);
        assert_eq!(content.size(), bytes.len() as u64);
        if Digest::of(&bytes) != descriptor.digest || bytes.len() as u64 != descriptor.size {
            return Err(refusal("digest invalid", false));
        }
        self.put(bytes);
        Ok(Put::Sent)
    }

    fn put_manifest(&self, manifest: &RawManifest, named: bool) -> Result<(), PlaceError> {
        assert_eq!(manifest.digest, Digest::of(&manifest.bytes));
        match named {
            true => self.put_named(manifest.bytes.clone()),
            false => self.put_manifest_bytes(manifest.bytes.clone()),
        };
        Ok(())
    }

    fn repository(&self) -> Option<Reference> {
        self.name.clone()
    }
}

/// Remembers all that happened.
#[derive(Default)]
pub struct Log(pub Mutex<Vec<(Digest, Step)>>);

impl Progress for Log {
    fn blob(&self, digest: &Digest, step: Step) {
        self.0.lock().unwrap().push((*digest, step));
    }
}

impl Log {
    /// Whether such a thing happened to the blob.
    pub fn has(&self, digest: &Digest, wanted: impl Fn(&Step) -> bool) -> bool {
        let log = self.0.lock().unwrap();
        log.iter().any(|(d, step)| d == digest && wanted(step))
    }

    /// How often it was tried again.
    pub fn retries(&self) -> usize {
        let log = self.0.lock().unwrap();
        let retried = |(_, step): &&(Digest, Step)| matches!(step, Step::Retrying(_));
        log.iter().filter(retried).count()
    }
}
