//! From a source into the store.
//!
//! Layers come several at once, and are unpacked while they come. What is here isn't fetched; what a broken pull has left
//! in [`partial`](super::partial) isn't either. Nothing is listed before all of it is here and verified.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::documents::{Documents, Found};
use super::fetch::{self, Context, Fetch};
use super::partial::{Partial, Wait};
use super::retry::Patience;
use super::{Progress, RawManifest, Source, Step, TransferError};
use crate::config::ImageConfig;
use crate::digest::{DiffId, Digest};
use crate::image::Image;
use crate::index::Catalog;
use crate::layer::{Expected, LayerError};
use crate::manifest::{Descriptor, Document, Manifest, Platform};
use crate::reference::Reference;
use crate::session::Pin;
use crate::store::Store;

/// The memo of what was pushed from here: a manifest's digest, and the ID of the image that it is of.
pub(super) const PUSHED: &str = "pushed";

/// What to pull, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct PullOptions {
    /// Which one of an index; `None`: that of this machine, and a single image whatever it is for.
    pub platform: Option<Platform>,
    /// The whole index, with the images of all its platforms.
    pub all_platforms: bool,
    /// Layers that are fetched at once.
    pub jobs: usize,
    /// With a source that breaks.
    pub patience: Patience,
}

impl Default for PullOptions {
    fn default() -> Self {
        Self {
            platform: None,
            all_platforms: false,
            jobs: super::default_jobs(),
            patience: Patience::default(),
        }
    }
}

/// An image that was pulled.
#[derive(Debug, Clone, PartialEq)]
pub struct Pulled {
    /// As it is listed now.
    pub image: Image,
    /// Of what the name stands for in the source: a manifest or an index.
    pub digest: Digest,
    /// `false`: everything was here, under this name.
    pub changed: bool,
}

/// Pulls the image that `source` has, and gives it `name`, unless that has a digest: then it stays without a tag. Needs
/// ids.
///
/// # Errors
/// When the source doesn't give it, gives something wrong, or the store can't be written. What has come is kept for the
/// next time, and the image isn't listed.
pub fn pull(
    store: &Store,
    source: &dyn Source,
    name: &Reference,
    options: &PullOptions,
    progress: &dyn Progress,
) -> Result<Pulled, TransferError> {
    if options.all_platforms {
        return Err(TransferError::AllPlatforms);
    }
    let documents = Documents {
        source,
        patience: options.patience,
    };
    let wanted = options.platform.clone().unwrap_or_else(Platform::host);
    let (digest, raw, manifest) = match documents.find(None)? {
        Found::One(raw, manifest) => (raw.digest, raw, manifest),
        Found::Index(top, index) => {
            let (raw, manifest) = documents.choose(index, &wanted)?;
            (top.digest, raw, manifest)
        }
    };
    if let Some(expected) = name.digest.filter(|expected| *expected != digest) {
        return Err(TransferError::Digest {
            place: source.shown(),
            expected,
            actual: digest,
        });
    }
    documents.check(&manifest)?;
    let pull = Pull {
        store,
        documents,
        names: Names::new(source, name, digest),
        progress,
        jobs: options.jobs.max(1),
    };
    let (image, changed) = pull.image(&raw, &manifest, options.platform.as_ref())?;
    Ok(Pulled {
        image,
        digest,
        changed,
    })
}

/// What the image will be called.
struct Names {
    tags: Vec<Reference>,
    digests: Vec<Reference>,
}

impl Names {
    fn new(source: &dyn Source, name: &Reference, digest: Digest) -> Self {
        let repository = source.repository().map(|repository| Reference {
            tag: None,
            digest: Some(digest),
            ..repository
        });
        Self {
            tags: match name.digest {
                None => vec![name.clone()],
                Some(_) => Vec::new(),
            },
            digests: repository.into_iter().collect(),
        }
    }

    fn are_on(&self, image: &Image) -> bool {
        let tagged = self.tags.iter().all(|tag| image.tags.contains(tag));
        tagged && self.digests.iter().all(|name| image.digests.contains(name))
    }
}

struct Pull<'a> {
    store: &'a Store,
    documents: Documents<'a>,
    names: Names,
    progress: &'a dyn Progress,
    jobs: usize,
}

/// A layer that is wanted.
#[derive(Clone, Copy)]
struct Wanted<'m> {
    descriptor: &'m Descriptor,
    diff_id: DiffId,
}

/// Whether a layer is dealt with.
#[derive(PartialEq, Eq)]
enum Outcome {
    Here,
    /// Another process is fetching it.
    Busy,
}

impl Pull<'_> {
    /// The image, and whether anything has changed.
    fn image(
        &self,
        raw: &RawManifest,
        manifest: &Manifest,
        asked: Option<&Platform>,
    ) -> Result<(Image, bool), TransferError> {
        if let Some(image) = self.find_here(raw, manifest)? {
            self.check_platform(asked, &image.config)?;
            for layer in &image.layers {
                self.progress.blob(&layer.digest, Step::Exists);
            }
            if self.names.are_on(&image) {
                return Ok((image, false));
            }
            let Names { tags, digests } = &self.names;
            let listed = self.store.list_image(&image.manifest, tags, digests, None);
            return Ok((listed?, true));
        }
        let config = self.config(manifest)?;
        self.check_platform(asked, &config)?;
        let wanted = self.wanted(manifest, &config)?;
        self.fetch_all(&wanted)?;
        self.store.put_document(&raw.bytes)?;
        let media_type = Document::parse(&raw.bytes);
        let media_type = media_type.map_or_else(
            |_| raw.media_type.clone(),
            |document| document.media_type().to_owned(),
        );
        let descriptor = Descriptor::new(&media_type, raw.digest, raw.bytes.len() as u64);
        let Names { tags, digests } = &self.names;
        let image = self.store.list_image(&descriptor, tags, digests, None)?;
        let blobs = wanted.iter().map(|layer| &layer.descriptor.digest);
        self.store.forget_partials(blobs);
        Ok((image, true))
    }

    /// The image, if it is here whole: with this manifest, or one that this manifest was pushed for.
    fn find_here(
        &self,
        raw: &RawManifest,
        manifest: &Manifest,
    ) -> Result<Option<Image>, TransferError> {
        let id = manifest.config.digest;
        let catalog = Catalog::read(self.store)?;
        if !catalog.images.contains_key(&id) {
            return Ok(None);
        }
        let summary = catalog.summary(&id);
        if summary.manifest != raw.digest && self.store.memo(PUSHED, &raw.digest) != Some(id) {
            return Ok(None);
        }
        // What is damaged is pulled again, which mends it.
        let Ok(image) = self.store.read_image(&summary) else {
            return Ok(None);
        };
        let mut pins = vec![Pin::Blob(image.manifest.digest), Pin::Blob(id)];
        for layer in &image.layers {
            pins.extend([Pin::Blob(layer.digest), Pin::Layer(layer.diff_id)]);
        }
        self.store.pin(&pins)?;
        for layer in &image.layers {
            if !self.store.has_blob(&layer.digest) || !self.store.settle_layer(&layer.diff_id)? {
                return Ok(None);
            }
        }
        let documents = [image.manifest.digest, id];
        let there = documents.iter().all(|digest| self.store.has_blob(digest));
        Ok(there.then_some(image))
    }

    fn config(&self, manifest: &Manifest) -> Result<ImageConfig, TransferError> {
        let (bytes, config) = self.documents.config(manifest)?;
        self.store.put_document(&bytes)?;
        Ok(config)
    }

    /// An image that isn't in an index says in its config what it is for.
    fn check_platform(
        &self,
        asked: Option<&Platform>,
        config: &ImageConfig,
    ) -> Result<(), TransferError> {
        let offered = Platform::of(config);
        match asked {
            Some(asked) if !asked.matches(&offered) => {
                let available = vec![offered.to_string()];
                Err(self.documents.no_platform(asked, available))
            }
            _ => Ok(()),
        }
    }

    /// Each blob once: images have the same layer several times, an empty one for example.
    fn wanted<'m>(
        &self,
        manifest: &'m Manifest,
        config: &ImageConfig,
    ) -> Result<Vec<Wanted<'m>>, TransferError> {
        let mut known: HashMap<Digest, DiffId> = HashMap::new();
        let mut wanted = Vec::new();
        for (descriptor, diff_id) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
            match known.insert(descriptor.digest, *diff_id) {
                None => wanted.push(Wanted {
                    descriptor,
                    diff_id: *diff_id,
                }),
                Some(first) if first == *diff_id => {}
                Some(first) => {
                    return Err(TransferError::TwoDiffIds {
                        place: self.documents.source.shown(),
                        digest: descriptor.digest,
                        first,
                        second: *diff_id,
                    });
                }
            }
        }
        Ok(wanted)
    }

    fn fetch_all(&self, wanted: &[Wanted<'_>]) -> Result<(), TransferError> {
        for layer in wanted {
            let step = Step::Waiting(layer.descriptor.size);
            self.progress.blob(&layer.descriptor.digest, step);
        }
        let queue: VecDeque<_> = wanted.iter().map(|layer| (*layer, Wait::No)).collect();
        let (queue, failure) = (Mutex::new(queue), Mutex::new(None));
        let stop = AtomicBool::new(false);
        let context = Context {
            source: self.documents.source,
            progress: self.progress,
            patience: self.documents.patience,
            stop: &stop,
        };
        let next = || {
            let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.pop_front().filter(|_| !context.stopped())
        };
        let work = || {
            while let Some((layer, wait)) = next() {
                match self.layer(&context, layer, wait) {
                    Ok(Outcome::Here) => {}
                    Ok(Outcome::Busy) => {
                        let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
                        queue.push_back((layer, Wait::Yes));
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
            for _ in 1..self.jobs.min(wanted.len()) {
                scope.spawn(work);
            }
            work();
        });
        let failure = failure.into_inner();
        match failure.unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn layer(
        &self,
        context: &Context<'_>,
        layer: Wanted<'_>,
        wait: Wait,
    ) -> Result<Outcome, TransferError> {
        let digest = layer.descriptor.digest;
        let expected = Expected {
            digest: Some(digest),
            diff_id: Some(layer.diff_id),
            size: Some(layer.descriptor.size),
        };
        let is_here = || {
            let known = self.store.known_layer(&expected).map_err(failed(digest))?;
            if known.is_some() {
                self.progress.blob(&digest, Step::Exists);
            }
            Ok::<bool, TransferError>(known.is_some())
        };
        if is_here()? {
            return Ok(Outcome::Here);
        }
        let size = layer.descriptor.size;
        let Some(mut partial) = Partial::open(self.store, &digest, size, wait)? else {
            self.progress.blob(&digest, Step::Shared);
            return Ok(Outcome::Busy);
        };
        // Who had the file before us may have fetched it.
        if is_here()? {
            return Ok(Outcome::Here);
        }
        if !self.unpack_here(&expected, digest)? {
            self.download(context, layer.descriptor, &expected, &mut partial)?;
        }
        self.progress.blob(&digest, Step::Pulled);
        Ok(Outcome::Here)
    }

    /// Unpacks a blob that is here without its layer. `false`: it isn't here, or is damaged.
    fn unpack_here(&self, expected: &Expected, digest: Digest) -> Result<bool, TransferError> {
        self.store.pin(&[Pin::Blob(digest)])?;
        let path = self.store.blob_path(&digest);
        let Ok(mut file) = File::open(&path) else {
            return Ok(false);
        };
        let size = file.metadata().map_or(0, |meta| meta.len());
        if Some(size) != expected.size {
            return Ok(false);
        }
        self.progress.blob(&digest, Step::Extracting);
        match self.store.add_kept_layer(&mut file, expected, &path) {
            Ok(_) => Ok(true),
            Err(error) if is_about_content(&error) => Ok(false),
            Err(error) => Err(failed(digest)(error)),
        }
    }

    fn download(
        &self,
        context: &Context<'_>,
        descriptor: &Descriptor,
        expected: &Expected,
        partial: &mut Partial,
    ) -> Result<(), TransferError> {
        let digest = descriptor.digest;
        let mut wrong = digest;
        for _ in 0..2 {
            let mut stream = Fetch::new(context, descriptor, partial)?;
            let path = &partial.path;
            let added = self.store.add_kept_layer(&mut stream, expected, path);
            let error = match added {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            let judged = match stream.take_failure() {
                Some(failure) => Err(failure),
                None if !is_about_content(&error) => Err(failed(digest)(error)),
                // Whose fault is it? Damaged bytes seldom come as far as to a wrong digest.
                None => match fetch::hash(&mut Fetch::new(context, descriptor, partial)?) {
                    Ok(actual) if actual == digest => Err(failed(digest)(error)),
                    other => other,
                },
            };
            let actual = match judged {
                Err(error @ TransferError::TooLong { .. }) => {
                    partial.clear()?;
                    return Err(error);
                }
                other => other?,
            };
            wrong = actual;
            partial.clear()?;
            let step = Step::Retrying("the bytes have the wrong digest".to_owned());
            self.progress.blob(&digest, step);
        }
        Err(TransferError::Digest {
            place: self.documents.source.shown(),
            expected: digest,
            actual: wrong,
        })
    }
}

fn failed(digest: Digest) -> impl FnOnce(LayerError) -> TransferError {
    move |source| TransferError::Layer {
        digest,
        source: Box::new(source),
    }
}

/// Whether the bytes may be at fault, and not the store.
fn is_about_content(error: &LayerError) -> bool {
    use std::error::Error;
    match error {
        LayerError::Unpack { source } => {
            let mut cause: Option<&(dyn Error + 'static)> = Some(source);
            while let Some(error) = cause {
                if let Some(error) = error.downcast_ref::<io::Error>()
                    && matches!(
                        error.kind(),
                        io::ErrorKind::StorageFull
                            | io::ErrorKind::QuotaExceeded
                            | io::ErrorKind::ReadOnlyFilesystem
                    )
                {
                    return false;
                }
                cause = error.source();
            }
            true
        }
        LayerError::Empty
        | LayerError::Decompress { .. }
        | LayerError::Compression { .. }
        | LayerError::NoEnd
        | LayerError::Digest { .. }
        | LayerError::DiffId { .. }
        | LayerError::Size { .. } => true,
        _ => false,
    }
}
