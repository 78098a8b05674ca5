//! From a source into the store.
//!
//! Layers come several at once, and are unpacked while they come. What is here isn't fetched; what a broken pull has left
//! in [`partial`](super::partial) isn't either. Nothing is listed before all of it is here and verified.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use super::documents::{Documents, Found, Members};
use super::fetch::{self, Context, Fetch};
use super::partial::{Partial, Wait};
use super::retry::Patience;
use super::{Progress, RawManifest, Source, Step, TransferError, jobs};
use crate::config::ImageConfig;
use crate::digest::{DiffId, Digest};
use crate::image::Image;
use crate::index::Catalog;
use crate::layer::{Expected, LayerError};
use crate::manifest::{Descriptor, Document, Index, Manifest, Platform};
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

/// Pulls the image that `source` has, and gives it `name`, unless that has a digest: then it stays without a tag. With all
/// platforms it is the index that has the name. Needs ids.
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
    let documents = Documents {
        source,
        patience: options.patience,
    };
    let wanted = options.platform.clone().unwrap_or_else(Platform::host);
    let found = documents.find(None)?;
    let (Found::One(top, _) | Found::Index(top, _)) = &found;
    let digest = top.digest;
    if let Some(expected) = name.digest.filter(|expected| *expected != digest) {
        return Err(TransferError::Digest {
            place: source.shown(),
            expected,
            actual: digest,
        });
    }
    let pull = Pull {
        store,
        documents,
        names: Names::new(source, name, digest),
        progress,
        jobs: options.jobs,
        fetched: AtomicBool::new(false),
    };
    let asked = options.platform.as_ref();
    let (image, changed) = match found {
        Found::Index(raw, index) if options.all_platforms => pull.index(&raw, index)?,
        Found::Index(_, index) => {
            let (raw, manifest) = pull.documents.choose(index, &wanted)?;
            pull.image(&raw, &manifest, asked)?
        }
        Found::One(raw, manifest) => pull.image(&raw, &manifest, asked)?,
    };
    Ok(Pulled {
        image,
        digest,
        changed,
    })
}

/// Brings one blob into the store: a layer, unpacked, or without a diffID anything. It is pinned. Needs ids for a layer.
pub(super) fn fetch_blob(
    store: &Store,
    source: &dyn Source,
    descriptor: &Descriptor,
    diff_id: Option<DiffId>,
    progress: &dyn Progress,
) -> Result<(), TransferError> {
    let patience = Patience::default();
    let pull = Pull {
        store,
        documents: Documents { source, patience },
        names: Names {
            tags: Vec::new(),
            digests: Vec::new(),
        },
        progress,
        jobs: 1,
        fetched: AtomicBool::new(false),
    };
    let stop = AtomicBool::new(false);
    let context = Context {
        source,
        progress,
        patience,
        stop: &stop,
    };
    let wanted = Wanted {
        descriptor,
        diff_id,
    };
    store.pin(&[Pin::Blob(descriptor.digest)])?;
    pull.blob(&context, wanted, Wait::Yes)?;
    store.forget_partials(std::iter::once(&descriptor.digest));
    Ok(())
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

    fn are_in(&self, tags: &[Reference], digests: &[Reference]) -> bool {
        let tagged = self.tags.iter().all(|tag| tags.contains(tag));
        tagged && self.digests.iter().all(|name| digests.contains(name))
    }
}

struct Pull<'a> {
    store: &'a Store,
    documents: Documents<'a>,
    names: Names,
    progress: &'a dyn Progress,
    jobs: usize,
    /// Whether something wasn't here.
    fetched: AtomicBool,
}

/// A blob that is wanted.
#[derive(Clone, Copy)]
struct Wanted<'m> {
    descriptor: &'m Descriptor,
    /// `None`: it is no layer, and is only kept.
    diff_id: Option<DiffId>,
}

/// The blobs that are wanted, each once: images have the same layer several times, an empty one for example.
#[derive(Default)]
struct List<'m> {
    wanted: Vec<Wanted<'m>>,
    known: HashMap<Digest, Option<DiffId>>,
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
            self.documents.check_platform(asked, &image.config)?;
            for layer in &image.layers {
                self.progress.blob(&layer.digest, Step::Exists);
            }
            if self.names.are_in(&image.tags, &image.digests) {
                return Ok((image, false));
            }
            let Names { tags, digests } = &self.names;
            let listed = self.store.list_image(&image.manifest, tags, digests, None);
            return Ok((listed?, true));
        }
        self.documents.check(manifest)?;
        let config = self.config(manifest)?;
        self.documents.check_platform(asked, &config)?;
        let mut list = List::default();
        self.add_layers(&mut list, manifest, &config)?;
        self.fetch_all(&list)?;
        let descriptor = self.put_manifest(raw)?;
        let Names { tags, digests } = &self.names;
        let image = self.store.list_image(&descriptor, tags, digests, None)?;
        self.store.forget_partials(list.known.keys());
        Ok((image, true))
    }

    /// The index with all its images. The one for this machine, or the first, and whether anything has changed.
    fn index(&self, raw: &RawManifest, index: Index) -> Result<(Image, bool), TransferError> {
        let Members { indexes, images } = self.documents.members(index)?;
        let mut list = List::default();
        for (_, manifest) in &images {
            match self.documents.check(manifest) {
                Ok(()) => {
                    let config = self.config(manifest)?;
                    self.add_layers(&mut list, manifest, &config)?;
                }
                // An attestation or the like: the index is kept whole.
                Err(TransferError::Artifact { .. } | TransferError::LayerType { .. }) => {
                    let blobs = std::iter::once(&manifest.config).chain(&manifest.layers);
                    for descriptor in blobs {
                        self.add(&mut list, descriptor, None)?;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        self.fetch_all(&list)?;
        for raw in images.iter().map(|(raw, _)| raw).chain(&indexes) {
            self.put_manifest(raw)?;
        }
        let descriptor = self.put_manifest(raw)?;
        let Names { tags, digests } = &self.names;
        let before = Catalog::read(self.store)?;
        let before = before.indexes.get(&raw.digest);
        let named = before.is_some_and(|index| self.names.are_in(&index.tags, &index.digests));
        self.store.list_index(&descriptor, tags, digests)?;
        self.store.forget_partials(list.known.keys());
        let catalog = Catalog::read(self.store)?;
        let listed = catalog.indexes.get(&raw.digest);
        let chosen = listed.and_then(|index| {
            let first = || index.members.first().map(|member| member.id);
            index.choice(&Platform::host()).or_else(first)
        });
        let Some(id) = chosen else {
            return Err(self.documents.no_platform(&Platform::host(), Vec::new()));
        };
        let image = self.store.read_image(&catalog.summary(&id))?;
        let changed = !named || self.fetched.load(Ordering::Relaxed);
        Ok((image, changed))
    }

    fn put_manifest(&self, raw: &RawManifest) -> Result<Descriptor, TransferError> {
        self.store.put_document(&raw.bytes)?;
        let media_type = Document::parse(&raw.bytes);
        let media_type = media_type.map_or_else(
            |_| raw.media_type.clone(),
            |document| document.media_type().to_owned(),
        );
        let size = raw.bytes.len() as u64;
        Ok(Descriptor::new(&media_type, raw.digest, size))
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

    fn add_layers<'m>(
        &self,
        list: &mut List<'m>,
        manifest: &'m Manifest,
        config: &ImageConfig,
    ) -> Result<(), TransferError> {
        for (descriptor, diff_id) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
            self.add(list, descriptor, Some(*diff_id))?;
        }
        Ok(())
    }

    fn add<'m>(
        &self,
        list: &mut List<'m>,
        descriptor: &'m Descriptor,
        diff_id: Option<DiffId>,
    ) -> Result<(), TransferError> {
        match list.known.insert(descriptor.digest, diff_id) {
            None => list.wanted.push(Wanted {
                descriptor,
                diff_id,
            }),
            Some(Some(first)) => {
                if let Some(second) = diff_id.filter(|second| *second != first) {
                    return Err(TransferError::TwoDiffIds {
                        place: self.documents.source.shown(),
                        digest: descriptor.digest,
                        first,
                        second,
                    });
                }
            }
            Some(None) => {
                let mut same = list.wanted.iter_mut();
                if let Some(same) = same.find(|w| w.descriptor.digest == descriptor.digest) {
                    same.diff_id = diff_id;
                }
            }
        }
        Ok(())
    }

    fn fetch_all(&self, list: &List<'_>) -> Result<(), TransferError> {
        for layer in &list.wanted {
            let step = Step::Waiting(layer.descriptor.size);
            self.progress.blob(&layer.descriptor.digest, step);
        }
        let stop = AtomicBool::new(false);
        let context = Context {
            source: self.documents.source,
            progress: self.progress,
            patience: self.documents.patience,
            stop: &stop,
        };
        let all = list.wanted.iter().map(|layer| (*layer, Wait::No));
        jobs::run(all.collect(), self.jobs, &stop, |(wanted, wait)| {
            let outcome = self.blob(&context, wanted, wait)?;
            Ok((outcome == Outcome::Busy).then_some((wanted, Wait::Yes)))
        })
    }

    fn blob(
        &self,
        context: &Context<'_>,
        wanted: Wanted<'_>,
        wait: Wait,
    ) -> Result<Outcome, TransferError> {
        let Descriptor { digest, size, .. } = *wanted.descriptor;
        if self.is_here(wanted)? {
            return Ok(Outcome::Here);
        }
        let Some(mut partial) = Partial::open(self.store, &digest, size, wait)? else {
            self.progress.blob(&digest, Step::Shared);
            return Ok(Outcome::Busy);
        };
        // Who had the file before us may have fetched it.
        if self.is_here(wanted)? {
            return Ok(Outcome::Here);
        }
        self.fetched.store(true, Ordering::Relaxed);
        if let Some(diff_id) = wanted.diff_id {
            let expected = Expected {
                digest: Some(digest),
                diff_id: Some(diff_id),
                size: Some(size),
            };
            if !self.unpack_here(&expected, digest)? {
                self.download(context, wanted.descriptor, Some(&expected), &mut partial)?;
            }
        } else {
            self.download(context, wanted.descriptor, None, &mut partial)?;
        }
        self.progress.blob(&digest, Step::Pulled);
        Ok(Outcome::Here)
    }

    fn is_here(&self, wanted: Wanted<'_>) -> Result<bool, TransferError> {
        let Descriptor { digest, size, .. } = *wanted.descriptor;
        let here = if wanted.diff_id.is_some() {
            let expected = Expected {
                digest: Some(digest),
                diff_id: wanted.diff_id,
                size: Some(size),
            };
            let known = self.store.known_layer(&expected);
            known.map_err(failed(digest))?.is_some()
        } else {
            self.store.pin(&[Pin::Blob(digest)])?;
            let meta = std::fs::metadata(self.store.blob_path(&digest));
            meta.is_ok_and(|meta| meta.len() == size)
        };
        if here {
            self.progress.blob(&digest, Step::Exists);
        }
        Ok(here)
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

    /// Fetches a blob and unpacks it if it is a layer, of which something is expected. One that is wrong is fetched once more.
    fn download(
        &self,
        context: &Context<'_>,
        descriptor: &Descriptor,
        expected: Option<&Expected>,
        partial: &mut Partial,
    ) -> Result<(), TransferError> {
        let digest = descriptor.digest;
        let mut wrong = digest;
        for _ in 0..2 {
            let added = match expected {
                Some(expected) => self.add_layer(context, descriptor, expected, partial),
                None => self.add_blob(context, descriptor, partial),
            };
            wrong = match added {
                Ok(actual) if actual == digest => return Ok(()),
                Ok(actual) => actual,
                Err(error @ TransferError::TooLong { .. }) => {
                    partial.clear()?;
                    return Err(error);
                }
                Err(error) => return Err(error),
            };
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

    /// Returns the digest of what came: if it isn't the right one, nothing was added.
    fn add_layer(
        &self,
        context: &Context<'_>,
        descriptor: &Descriptor,
        expected: &Expected,
        partial: &Partial,
    ) -> Result<Digest, TransferError> {
        let digest = descriptor.digest;
        let mut stream = Fetch::new(context, descriptor, partial)?;
        let added = self
            .store
            .add_kept_layer(&mut stream, expected, &partial.path);
        let error = match added {
            Ok(layer) => return Ok(layer.digest),
            Err(error) => error,
        };
        if let Some(failure) = stream.take_failure() {
            return Err(failure);
        }
        if !is_about_content(&error) {
            return Err(failed(digest)(error));
        }
        // Whose fault is it? Damaged bytes seldom come as far as to a wrong digest.
        let actual = fetch::hash(&mut Fetch::new(context, descriptor, partial)?)?;
        match actual == digest {
            true => Err(failed(digest)(error)),
            false => Ok(actual),
        }
    }

    fn add_blob(
        &self,
        context: &Context<'_>,
        descriptor: &Descriptor,
        partial: &Partial,
    ) -> Result<Digest, TransferError> {
        let actual = fetch::hash(&mut Fetch::new(context, descriptor, partial)?)?;
        if actual == descriptor.digest {
            let temp = self.store.temp_path("blob")?;
            let linked = partial
                .sync_data()
                .and_then(|()| std::fs::hard_link(&partial.path, &temp));
            linked.map_err(TransferError::io("write", &temp))?;
            self.store.publish_blob(&temp, &actual)?;
        }
        Ok(actual)
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
