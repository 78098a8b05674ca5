//! From the store to a target.
//!
//! An image that came from elsewhere goes as it came, byte for byte. The layers of one that was made here are plain tars
//! in the store and go compressed, as docker does it: with gzip, if nothing else is asked for. What comes of a layer is
//! always the same and is remembered, so that the second push compresses nothing and sends nothing.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};

use super::compress::Codec;
use super::content::{Bytes, Repacked, Stored};
use super::error::Cause;
use super::mounts::Mounts;
use super::pull::PUSHED;
use super::retry::{Attempts, Patience};
use super::{
    BlobContent, PlaceError, Progress, Put, RawManifest, Step, Target, TransferError, jobs,
};
use crate::atomic;
use crate::digest::Digest;
use crate::image::{Image, ImageError};
use crate::index::Catalog;
use crate::layer::LayerBlob;
use crate::manifest::{
    DOCKER_MANIFEST, Descriptor, Document, Manifest, OCI_CONFIG, OCI_LAYER, OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD, OCI_MANIFEST, oci_layer_type,
};
use crate::reference::Reference;
use crate::session::Pin;
use crate::store::Store;

const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
/// Indexes nest, but nobody nests them deeply.
const DEPTH: u32 = 4;

/// How layers are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Levels 1 to 9; 3 when nothing is said.
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

    /// The media type of a layer that is compressed so.
    pub(super) fn layer_type(self) -> &'static str {
        match self {
            Self::Gzip => OCI_LAYER_GZIP,
            Self::Zstd => OCI_LAYER_ZSTD,
        }
    }

    pub(super) fn codec(self, level: Option<i32>) -> Codec {
        let usual = match self {
            // A Debian image becomes 3 % larger than with 6, in 7 tenths of the time.
            Self::Gzip => 3,
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

impl Pushed {
    fn of(raw: &RawManifest) -> Self {
        Self {
            digest: raw.digest,
            size: raw.bytes.len() as u64,
        }
    }
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
        let descriptor = index_of(store, image, target)?;
        return push_index(store, &descriptor, target, options, progress);
    }
    let push = Push::new(store, target, options, progress)?;
    let raw = push.image(image)?;
    push.end(&raw)?;
    push.remember(image, raw.digest)?;
    Ok(Pushed::of(&raw))
}

/// Pushes an index of the store, with all that it lists.
///
/// # Errors
/// As [`push`], and when an image of the index isn't here.
pub fn push_index(
    store: &Store,
    descriptor: &Descriptor,
    target: &dyn Target,
    options: &PushOptions,
    progress: &dyn Progress,
) -> Result<Pushed, TransferError> {
    let push = Push::new(store, target, options, progress)?;
    let raw = push.index(descriptor, 0)?;
    push.end(&raw)?;
    if let Some(name) = push.name(raw.digest) {
        let held = store.lock()?;
        let mut catalog = Catalog::read(store)?;
        if let Some(index) = catalog.indexes.get_mut(&descriptor.digest) {
            index.digests.push(name);
            catalog.write(&held)?;
        }
    }
    Ok(Pushed::of(&raw))
}

/// The index that has the image, if there are several then the one with the target's name.
fn index_of(
    store: &Store,
    image: &Image,
    target: &dyn Target,
) -> Result<Descriptor, TransferError> {
    let catalog = Catalog::read(store)?;
    let there = target.repository();
    let is_there = |tag: &Reference| {
        let there = there.as_ref();
        there.is_some_and(|there| (&there.domain, &there.path) == (&tag.domain, &tag.path))
    };
    let having = catalog
        .indexes
        .values()
        .filter(|index| index.has(&image.id));
    let best = having.max_by_key(|index| index.tags.iter().any(is_there));
    let index = best.ok_or_else(|| TransferError::NoIndex {
        name: image
            .tags
            .first()
            .map_or_else(|| image.id.to_string(), Reference::to_string),
    })?;
    Ok(Descriptor::new(&index.media_type, index.digest, index.size))
}

struct Push<'a> {
    store: &'a Store,
    target: &'a dyn Target,
    options: &'a PushOptions,
    progress: &'a dyn Progress,
    mounts: Mounts,
    turn: Mutex<()>,
}

impl<'a> Push<'a> {
    fn new(
        store: &'a Store,
        target: &'a dyn Target,
        options: &'a PushOptions,
        progress: &'a dyn Progress,
    ) -> Result<Self, TransferError> {
        Ok(Self {
            store,
            target,
            options,
            progress,
            mounts: Mounts::new(store, target, options)?,
            turn: Mutex::new(()),
        })
    }

    /// Sends an image's blobs. Its manifest, which isn't sent.
    fn image(&self, image: &Image) -> Result<RawManifest, TransferError> {
        let bytes = self.store.read_document(&image.manifest.digest)?;
        let manifest: Manifest =
            serde_json::from_slice(&bytes).map_err(invalid(&image.manifest.digest))?;
        let sent = self.layers(image, &manifest)?;
        let config = Bytes(self.store.read_document(&image.id)?);
        self.blob(&manifest.config, &config, &[], None)?;
        self.document(image, manifest, bytes, &sent)
    }

    /// Sends all that an index lists. The index, with what has become of it, isn't sent.
    fn index(&self, descriptor: &Descriptor, depth: u32) -> Result<RawManifest, TransferError> {
        let bytes = self.store.read_document(&descriptor.digest)?;
        let document = Document::parse(&bytes).map_err(invalid(&descriptor.digest))?;
        let media_type = document.media_type().to_owned();
        let mut index = match document {
            Document::Index(index) if depth < DEPTH => index,
            Document::Index(_) => {
                let place = descriptor.digest.to_string();
                return Err(TransferError::Nested { place });
            }
            Document::Manifest(manifest) => {
                return self.member(descriptor, &manifest, media_type, bytes);
            }
        };
        let mut changed = false;
        for listed in &mut index.manifests {
            let raw = self.index(listed, depth + 1)?;
            self.put_manifest(&raw, false)?;
            if raw.digest != listed.digest {
                changed = true;
                listed.media_type.clone_from(&raw.media_type);
                listed.size = raw.bytes.len() as u64;
                listed.digest = raw.digest;
            }
        }
        let bytes = match changed {
            true => atomic::to_json(&self.store.path("blobs"), &index)?,
            false => bytes,
        };
        Ok(RawManifest {
            media_type,
            digest: Digest::of(&bytes),
            bytes,
        })
    }

    /// An image of an index, or something else that it lists, such as an attestation.
    fn member(
        &self,
        descriptor: &Descriptor,
        manifest: &Manifest,
        media_type: String,
        bytes: Vec<u8>,
    ) -> Result<RawManifest, TransferError> {
        if let Ok(image) = self.store.image_at(descriptor, manifest) {
            return self.image(&image);
        }
        let blobs = std::iter::once(&manifest.config).chain(&manifest.layers);
        for blob in blobs {
            if !self.store.has_blob(&blob.digest) {
                let part = format!("blob {}", blob.digest);
                return Err(ImageError::Incomplete { part }.into());
            }
            let content = Stored {
                store: self.store,
                digest: blob.digest,
                size: blob.size,
            };
            self.blob(blob, &content, &[], Some(&blob.digest))?;
        }
        Ok(RawManifest {
            media_type,
            digest: descriptor.digest,
            bytes,
        })
    }

    fn end(&self, raw: &RawManifest) -> Result<(), TransferError> {
        self.put_manifest(raw, true)?;
        self.target
            .finish()
            .map_err(|source| self.manifest_failed(source))
    }

    fn put_manifest(&self, raw: &RawManifest, named: bool) -> Result<(), TransferError> {
        let put = || self.target.put_manifest(raw, named);
        let put = Attempts::ask(self.options.patience, None, put);
        put.map_err(|source| self.manifest_failed(source))
    }

    fn manifest_failed(&self, source: PlaceError) -> TransferError {
        TransferError::PutManifest {
            place: self.target.shown(),
            source: Cause(source),
        }
    }

    /// What a layer is to be compressed with; `None`: it goes as it is.
    fn codec(&self, layer: &LayerBlob, made_here: bool) -> Option<Codec> {
        let oci = oci_layer_type(&layer.media_type);
        if !oci.starts_with(OCI_LAYER) {
            // Not a tar: a part of an attestation.
            return None;
        }
        let plain = oci == OCI_LAYER;
        match self.options.compression {
            None if plain && made_here => Some(Compression::Gzip.codec(None)),
            None => None,
            Some((wanted, None)) if wanted.is_of(&layer.media_type) => None,
            Some((wanted, level)) => Some(wanted.codec(level)),
        }
    }

    /// Sends the layers. What they have become, by their digests in the store.
    fn layers(
        &self,
        image: &Image,
        manifest: &Manifest,
    ) -> Result<HashMap<Digest, Descriptor>, TransferError> {
        let made_here = self.is_made_here(image, manifest)?;
        let (mut all, mut pins) = (Vec::new(), Vec::new());
        for (layer, descriptor) in image.layers.iter().zip(&manifest.layers) {
            pins.push(Pin::Blob(layer.digest));
            let job = (layer, descriptor, self.codec(layer, made_here));
            if !all.contains(&job) {
                all.push(job);
            }
        }
        self.store.pin(&pins)?;
        for (layer, ..) in &all {
            self.progress.blob(&layer.digest, Step::Waiting(layer.size));
        }
        let (done, stop) = (Mutex::new(HashMap::new()), AtomicBool::new(false));
        jobs::run(
            all,
            self.options.jobs,
            &stop,
            |(layer, descriptor, codec)| {
                let sent = self.layer(layer, descriptor, codec)?;
                let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                done.insert(layer.digest, sent);
                Ok(None)
            },
        )?;
        Ok(done.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the manifest is what we write: then its layers are plain because that is how we keep them.
    fn is_made_here(&self, image: &Image, manifest: &Manifest) -> Result<bool, TransferError> {
        let size = manifest.config.size;
        let (ours, _) = self.store.manifest_of(image.id, size, &image.layers)?;
        Ok(ours.digest == image.manifest.digest)
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
            let media_type = codec.compression.layer_type();
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
        image: &Image,
        mut manifest: Manifest,
        mut bytes: Vec<u8>,
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
        if changed {
            settle_types(&mut manifest);
            bytes = atomic::to_json(&self.store.path("blobs"), &manifest)?;
        }
        let media_type = match manifest.media_type.as_str() {
            "" => image.manifest.media_type.clone(),
            said => said.to_owned(),
        };
        Ok(RawManifest {
            media_type,
            digest: Digest::of(&bytes),
            bytes,
        })
    }

    /// The image is known under its name there, and who pulls it from there has it here.
    fn remember(&self, image: &Image, digest: Digest) -> Result<(), TransferError> {
        if digest != image.manifest.digest {
            self.store.set_memo(PUSHED, &digest, &image.id)?;
        }
        let Some(name) = self.name(digest) else {
            return Ok(());
        };
        let held = self.store.lock()?;
        let mut catalog = Catalog::read(self.store)?;
        // Removed meanwhile: then there is nothing to be known.
        if let Some(image) = catalog.images.get_mut(&image.id) {
            image.digests.push(name);
            catalog.write(&held)?;
        }
        Ok(())
    }

    /// `repository@digest` of the target.
    fn name(&self, digest: Digest) -> Option<Reference> {
        self.target.repository().map(|repository| Reference {
            tag: None,
            digest: Some(digest),
            ..repository
        })
    }
}

fn invalid(digest: &Digest) -> impl FnOnce(serde_json::Error) -> TransferError {
    let digest = *digest;
    move |source| {
        let what = "manifest";
        ImageError::Document {
            what,
            digest,
            source,
        }
        .into()
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
