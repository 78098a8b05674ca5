//! From the store to a target.
//!
//! An image that came from elsewhere goes as it came, byte for byte. The layers of one that was made here are plain tars
//! in the store and go compressed, as docker does it: with gzip, if nothing else is asked for. What comes of a layer is
//! always the same and is remembered, so that the second push compresses nothing and sends nothing.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::compress::Codec;
use super::content::{Bytes, Repacked, Stored};
use super::error::Cause;
use super::pull::PUSHED;
use super::retry::{Attempts, Patience};
use super::{BlobContent, Progress, Put, RawManifest, Step, Target, TransferError};
use crate::atomic;
use crate::digest::{DiffId, Digest};
use crate::image::{Image, ImageError};
use crate::index::Catalog;
use crate::layer::LayerBlob;
use crate::manifest::{
    DOCKER_MANIFEST, Descriptor, Manifest, OCI_CONFIG, OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD,
    OCI_MANIFEST, oci_layer_type,
};
use crate::reference::Reference;
use crate::session::Pin;
use crate::store::Store;

const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
/// More repositories than this aren't asked for a blob.
const MOUNTS: usize = 3;

/// How layers are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Levels 1 to 9; 6 when nothing is said.
    Gzip,
    /// Levels 1 to 22; 3 when nothing is said.
    Zstd,
}

impl Compression {
    /// Smallest and largest level.
    #[must_use]
    pub fn levels(self) -> (i32, i32) {
        match self {
            Self::Gzip => (1, 9),
            Self::Zstd => (1, 22),
        }
    }

    fn codec(self, level: Option<i32>) -> Codec {
        let usual = match self {
            Self::Gzip => 6,
            Self::Zstd => 3,
        };
        let (least, most) = self.levels();
        Codec {
            compression: self,
            level: level.unwrap_or(usual).clamp(least, most),
        }
    }

    fn is_of(self, media_type: &str) -> bool {
        let oci = oci_layer_type(media_type);
        match self {
            Self::Gzip => oci.ends_with("+gzip"),
            Self::Zstd => oci.ends_with("+zstd"),
        }
    }
}

/// What to push, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct PushOptions {
    /// All layers are compressed so, at that level; those that are so already only if a level is given. `None`: plain
    /// layers of images that were made here with gzip, all others go as they are.
    pub compression: Option<(Compression, Option<i32>)>,
    /// Repositories of the same registry that may have the layers, beside those that are known here.
    pub mount_from: Vec<Reference>,
    /// The whole index, if the image was pulled with it.
    pub all_platforms: bool,
    /// Layers that are sent at once.
    pub jobs: usize,
    /// With a target that breaks, beyond what it does by itself.
    pub patience: Patience,
}

impl Default for PushOptions {
    fn default() -> Self {
        Self {
            compression: None,
            mount_from: Vec::new(),
            all_platforms: false,
            jobs: super::default_jobs(),
            patience: Patience {
                retries: 2,
                ..Patience::default()
            },
        }
    }
}

/// What was pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// Of the manifest, or of the index.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// Pushes an image of the store. Progress is told under the digests that the layers have in the store.
///
/// # Errors
/// When the target doesn't take it, or something of the image is missing or damaged.
pub fn push(
    store: &Store,
    image: &Image,
    target: &dyn Target,
    options: &PushOptions,
    progress: &dyn Progress,
) -> Result<Pushed, TransferError> {
    if options.all_platforms {
        return Err(TransferError::AllPlatforms);
    }
    let push = Push {
        store,
        image,
        target,
        options,
        progress,
        mounts: Mounts::new(store, target, options)?,
        turn: Mutex::new(()),
    };
    let manifest = push.manifest()?;
    let sent = push.layers(&manifest)?;
    push.blob(
        &manifest.config,
        &Bytes(store.read_document(&image.id)?),
        &[],
        None,
    )?;
    let raw = push.document(manifest, &sent)?;
    let failed = |source| TransferError::PutManifest {
        place: target.shown(),
        source: Cause(source),
    };
    Attempts::ask(options.patience, None, || target.put_manifest(&raw, true)).map_err(failed)?;
    target.finish().map_err(failed)?;
    push.remember(raw.digest)?;
    Ok(Pushed {
        digest: raw.digest,
        size: raw.bytes.len() as u64,
    })
}

struct Push<'a> {
    store: &'a Store,
    image: &'a Image,
    target: &'a dyn Target,
    options: &'a PushOptions,
    progress: &'a dyn Progress,
    mounts: Mounts,
    turn: Mutex<()>,
}

impl Push<'_> {
    /// The manifest as it is in the store.
    fn manifest(&self) -> Result<Manifest, TransferError> {
        let bytes = self.store.read_document(&self.image.manifest.digest)?;
        let document = |source| ImageError::Document {
            what: "manifest",
            digest: self.image.manifest.digest,
            source,
        };
        serde_json::from_slice(&bytes).map_err(|source| document(source).into())
    }

    /// What a layer is to be compressed with; `None`: it goes as it is.
    fn codec(&self, layer: &LayerBlob, made_here: bool) -> Option<Codec> {
        let plain = oci_layer_type(&layer.media_type) == OCI_LAYER;
        match self.options.compression {
            None if plain && made_here => Some(Compression::Gzip.codec(None)),
            None => None,
            Some((wanted, None)) if wanted.is_of(&layer.media_type) => None,
            Some((wanted, level)) => Some(wanted.codec(level)),
        }
    }

    /// Sends the layers. What they have become, by their digests in the store.
    fn layers(&self, manifest: &Manifest) -> Result<HashMap<Digest, Descriptor>, TransferError> {
        let made_here = self.is_made_here(manifest)?;
        let mut jobs = VecDeque::new();
        let mut pins = Vec::new();
        for (layer, descriptor) in self.image.layers.iter().zip(&manifest.layers) {
            pins.push(Pin::Blob(layer.digest));
            let job = (layer, descriptor, self.codec(layer, made_here));
            if !jobs.contains(&job) {
                jobs.push_back(job);
            }
        }
        self.store.pin(&pins)?;
        for (layer, ..) in &jobs {
            self.progress.blob(&layer.digest, Step::Waiting(layer.size));
        }
        let workers = self.options.jobs.clamp(1, jobs.len().max(1));
        let (jobs, done) = (Mutex::new(jobs), Mutex::new(HashMap::new()));
        let (failure, stop) = (Mutex::new(None), AtomicBool::new(false));
        let next = || {
            let mut jobs = jobs.lock().unwrap_or_else(PoisonError::into_inner);
            jobs.pop_front().filter(|_| !stop.load(Ordering::Relaxed))
        };
        let work = || {
            while let Some((layer, descriptor, codec)) = next() {
                match self.layer(layer, descriptor, codec) {
                    Ok(sent) => {
                        let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                        done.insert(layer.digest, sent);
                    }
                    Err(error) => {
                        stop.store(true, Ordering::Relaxed);
                        let mut first = failure.lock().unwrap_or_else(PoisonError::into_inner);
                        first.get_or_insert(error);
                    }
                }
            }
        };
        thread::scope(|scope| {
            for _ in 1..workers {
                scope.spawn(work);
            }
            work();
        });
        match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(done.into_inner().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    /// Whether the manifest is what we write: then its layers are plain because that is how we keep them.
    fn is_made_here(&self, manifest: &Manifest) -> Result<bool, TransferError> {
        let size = manifest.config.size;
        let ours = self
            .store
            .manifest_of(self.image.id, size, &self.image.layers)?;
        Ok(ours.0.digest == self.image.manifest.digest)
    }

    fn layer(
        &self,
        layer: &LayerBlob,
        descriptor: &Descriptor,
        codec: Option<Codec>,
    ) -> Result<Descriptor, TransferError> {
        let is_foreign = descriptor.extra.contains_key("urls");
        let told = Some(&layer.digest);
        let mounts = self.mounts.of(&layer.diff_id);
        let Some(codec) = codec.filter(|_| !is_foreign) else {
            if is_foreign && !self.store.has_blob(&layer.digest) {
                // Whoever pulls it gets it where we got it from.
                self.progress.blob(&layer.digest, Step::Exists);
                return Ok(descriptor.clone());
            }
            let content = Stored {
                store: self.store,
                digest: layer.digest,
                size: layer.size,
            };
            self.blob(descriptor, &content, mounts, told)?;
            return Ok(descriptor.clone());
        };
        let mut content = Repacked::new(self.store, layer, codec, &self.turn);
        loop {
            let identity = content.identity();
            let (digest, size) = identity.map_err(|source| TransferError::Compress {
                diff_id: layer.diff_id,
                source,
            })?;
            let media_type = match codec.compression {
                Compression::Gzip => OCI_LAYER_GZIP,
                Compression::Zstd => OCI_LAYER_ZSTD,
            };
            let descriptor = Descriptor::new(media_type, digest, size);
            match self.blob(&descriptor, &content, mounts, told) {
                Err(_) if content.has_changed() => content.known = None,
                other => return other.map(|()| descriptor),
            }
        }
    }

    /// Makes sure that the target has the blob.
    fn blob(
        &self,
        descriptor: &Descriptor,
        content: &dyn BlobContent,
        mounts: &[Reference],
        told: Option<&Digest>,
    ) -> Result<(), TransferError> {
        let tell = |step| {
            if let Some(digest) = told {
                self.progress.blob(digest, step);
            }
        };
        let sent = |bytes| tell(Step::Pushing(bytes));
        let retried = told.map(|digest| (self.progress, digest));
        let put = Attempts::ask(self.options.patience, retried, || {
            self.target.put_blob(descriptor, content, mounts, &sent)
        });
        let put = put.map_err(|source| TransferError::PutBlob {
            digest: descriptor.digest,
            place: self.target.shown(),
            source: Cause(source),
        })?;
        tell(match put {
            Put::Present => Step::Exists,
            Put::Mounted(from) => Step::Mounted(from),
            Put::Sent => Step::Pushed,
        });
        Ok(())
    }

    /// The manifest with what the layers have become: as it is in the store, if they are what they were.
    fn document(
        &self,
        mut manifest: Manifest,
        sent: &HashMap<Digest, Descriptor>,
    ) -> Result<RawManifest, TransferError> {
        let mut changed = false;
        for layer in &mut manifest.layers {
            if let Some(now) = sent.get(&layer.digest)
                && now.digest != layer.digest
            {
                *layer = now.clone();
                changed = true;
            }
        }
        let bytes = if changed {
            settle_types(&mut manifest);
            atomic::to_json(&self.store.path("blobs"), &manifest)?
        } else {
            self.store.read_document(&self.image.manifest.digest)?
        };
        let media_type = match manifest.media_type.as_str() {
            "" => self.image.manifest.media_type.clone(),
            said => said.to_owned(),
        };
        Ok(RawManifest {
            media_type,
            digest: Digest::of(&bytes),
            bytes,
        })
    }

    /// The image is known under its name there, and who pulls it from there has it here.
    fn remember(&self, digest: Digest) -> Result<(), TransferError> {
        if digest != self.image.manifest.digest {
            self.store.set_memo(PUSHED, &digest, &self.image.id)?;
        }
        let Some(repository) = self.target.repository() else {
            return Ok(());
        };
        let name = Reference {
            tag: None,
            digest: Some(digest),
            ..repository
        };
        let held = self.store.lock()?;
        let mut catalog = Catalog::read(self.store)?;
        // Removed meanwhile: then there is nothing to be known.
        if let Some(image) = catalog.images.get_mut(&self.image.id) {
            image.digests.push(name);
            catalog.write(&held)?;
        }
        Ok(())
    }
}

/// Docker's manifests know no zstd: such a one becomes OCI's; with gzip it keeps docker's words.
fn settle_types(manifest: &mut Manifest) {
    let is_docker = manifest.media_type == DOCKER_MANIFEST;
    let zstd = manifest
        .layers
        .iter()
        .any(|layer| Compression::Zstd.is_of(&layer.media_type));
    if is_docker && !zstd {
        for layer in &mut manifest.layers {
            if layer.media_type == OCI_LAYER_GZIP {
                DOCKER_LAYER_GZIP.clone_into(&mut layer.media_type);
            }
        }
    } else if is_docker {
        OCI_MANIFEST.clone_into(&mut manifest.media_type);
        OCI_CONFIG.clone_into(&mut manifest.config.media_type);
        for layer in &mut manifest.layers {
            layer.media_type = oci_layer_type(&layer.media_type).to_owned();
        }
    }
}

/// Which repositories of the target's registry may have a layer: those of the images here that have it.
struct Mounts {
    given: Vec<Reference>,
    known: HashMap<DiffId, Vec<Reference>>,
}

impl Mounts {
    fn new(
        store: &Store,
        target: &dyn Target,
        options: &PushOptions,
    ) -> Result<Self, TransferError> {
        let mut mounts = Self {
            given: options.mount_from.clone(),
            known: HashMap::new(),
        };
        let Some(there) = target.repository() else {
            return Ok(mounts);
        };
        for summary in store.images()? {
            let names = summary
                .digests
                .iter()
                .filter(|name| name.domain == there.domain && name.path != there.path);
            let names: Vec<Reference> = names
                .map(|name| Reference {
                    tag: None,
                    digest: None,
                    ..name.clone()
                })
                .collect();
            if names.is_empty() {
                continue;
            }
            // One that is damaged is of no help.
            let Ok(image) = store.read_image(&summary) else {
                continue;
            };
            for layer in image.layers {
                let known = mounts.known.entry(layer.diff_id).or_default();
                for name in &names {
                    if known.len() < MOUNTS && !known.contains(name) {
                        known.push(name.clone());
                    }
                }
            }
        }
        for known in mounts.known.values_mut() {
            known.splice(0..0, mounts.given.iter().cloned());
        }
        Ok(mounts)
    }

    fn of(&self, layer: &DiffId) -> &[Reference] {
        self.known.get(layer).unwrap_or(&self.given)
    }
}
