//! Base images that aren't in the store: brought by whoever knows registries, shown as a vertex with a part per layer.

use std::collections::HashMap;

use rctr_storage::digest::Digest;
use rctr_storage::manifest::Platform;

use crate::plan::ImageFailure;
use crate::tracker::{Part, Tracker};

/// How far a blob is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// Which.
    pub digest: Digest,
    /// In bytes.
    pub current: u64,
    /// In bytes; 0: not known.
    pub total: u64,
    /// It is here.
    pub done: bool,
}

/// Brings images into the store.
pub trait Puller {
    /// Brings the image that `name` stands for now, of `platform`.
    ///
    /// # Errors
    /// When it can't be had.
    fn pull(
        &self,
        name: &str,
        platform: &Platform,
        moved: &mut dyn FnMut(Moved),
    ) -> Result<(), ImageFailure>;
}

/// Pulls, and tells how it goes.
pub(crate) fn pull(
    puller: &dyn Puller,
    name: &str,
    platform: &Platform,
    tracker: &Tracker,
) -> Result<(), ImageFailure> {
    let vertex = tracker.start(format!("[internal] pull {name}"));
    let mut parts: HashMap<Digest, Option<Part>> = HashMap::new();
    let pulled = puller.pull(name, platform, &mut |moved| {
        let part = parts
            .entry(moved.digest)
            .or_insert_with(|| Some(vertex.part(moved.digest.to_string())));
        match part {
            Some(_) if moved.done => part
                .take()
                .into_iter()
                .for_each(|p| p.completed(moved.total)),
            Some(part) => part.progress(moved.current, moved.total),
            None => {}
        }
    });
    match &pulled {
        Ok(()) => vertex.completed(),
        Err(failure) => vertex.failed(failure.source.to_string()),
    }
    pulled
}
