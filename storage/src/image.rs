//! Images: finding, listing, making and tagging them.
//!
//! An image's ID is the digest of its config. The same ID with several tags is one image.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use crate::atomic::{self, Durability};
use crate::blob::BlobError;
use crate::config::ImageConfig;
use crate::container::ContainerError;
use crate::digest::{DiffId, Digest};
use crate::explain::Explain;
use crate::index::{Catalog, Named};
use crate::layer::LayerBlob;
use crate::manifest::{Descriptor, Manifest, OCI_CONFIG, OCI_MANIFEST, Platform, oci_layer_type};
use crate::reference::Reference;
use crate::session::Pin;
use crate::store::{Store, StoreError};
use crate::timestamp;
use crate::tree;

/// Why something about an image fails.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Neither name nor ID nor the beginning of one.
    #[error("No such image: {name}")]
    NotFound {
        /// What was given, completed by `:latest`.
        name: String,
    },
    /// The beginning of several IDs.
    #[error("{prefix} is the beginning of {count} image IDs")]
    Ambiguous {
        /// What was given.
        prefix: String,
        /// How many images it fits.
        count: usize,
    },
    /// A name that can't be a tag.
    #[error("{reference} has a digest: a tag is wanted")]
    NotATag {
        /// What was given.
        reference: Reference,
    },
    /// A document of the image isn't what it should be.
    #[error("{what} {digest} is no valid document")]
    Document {
        /// `manifest` or `config`.
        what: &'static str,
        /// Which.
        digest: Digest,
        /// Where and why.
        source: serde_json::Error,
    },
    /// Manifest and config disagree.
    #[error("image {id} has {layers} layers in its manifest and {diff_ids} in its config")]
    Layers {
        /// The image.
        id: Digest,
        /// In the manifest.
        layers: usize,
        /// In the config.
        diff_ids: usize,
    },
    /// None of an index is for this machine, and there is more than one.
    #[error(
        "image {name} is for {there}, not for this machine's {}",
        Platform::host()
    )]
    NoPlatform {
        /// What was given, or the index's digest.
        name: String,
        /// The platforms, as a list.
        there: String,
    },
    /// Docker's words.
    #[error(
        "image with reference {name} was found but does not match the specified platform: wanted {wanted}, actual: {actual}"
    )]
    WrongPlatform {
        /// What was given.
        name: String,
        /// What was asked for.
        wanted: String,
        /// The platforms that are here, as a list.
        actual: String,
    },
    /// A blob or layer of the image isn't in the store.
    #[error("{part} is missing from the store")]
    Incomplete {
        /// `blob sha256:…` or `layer sha256:…`.
        part: String,
    },
    /// Removal is refused, docker's words.
    #[error("conflict: unable to delete {id} ({}) - {reason}", if *forcible { "must be forced" } else { "cannot be forced" })]
    InUse {
        /// The first 12 digits of the ID.
        id: String,
        /// Whether force would do it.
        forcible: bool,
        /// Why.
        reason: String,
    },
    /// Untagging is refused, docker's words.
    #[error(
        "conflict: unable to remove repository reference \"{name}\" (must force) - container {container} is using its referenced image {id}"
    )]
    ReferenceInUse {
        /// What was given.
        name: String,
        /// The first 12 digits of the container's ID.
        container: String,
        /// The first 12 digits of the image's ID.
        id: String,
    },
    /// Reading the containers failed.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// A blob failed.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The store said no.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Explain for ImageError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NotFound { .. } => "`rctr images` lists the images here".to_owned(),
            Self::Ambiguous { .. } => "give more digits of the ID, or the name".to_owned(),
            Self::NotATag { .. } => "write NAME[:TAG]".to_owned(),
            Self::Document { .. } | Self::Layers { .. } | Self::Incomplete { .. } => {
                "run `rctr system check --repair`, then load or pull the image again".to_owned()
            }
            Self::NoPlatform { .. } => "choose one of them by --platform".to_owned(),
            Self::WrongPlatform { .. } => {
                "pull or load it for that platform, or ask for one that is here".to_owned()
            }
            Self::InUse { forcible: true, .. } | Self::ReferenceInUse { .. } => {
                "remove what uses it first, or use --force".to_owned()
            }
            Self::InUse { .. } => "stop and remove what uses it first".to_owned(),
            Self::Container(error) => return error.hint(),
            Self::Blob(error) => return error.hint(),
            Self::Store(error) => return error.hint(),
        })
    }
}

/// An image with its documents.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// Digest of the config.
    pub id: Digest,
    /// The manifest.
    pub manifest: Descriptor,
    /// The config.
    pub config: ImageConfig,
    /// Base first.
    pub layers: Vec<LayerBlob>,
    /// All its tags.
    pub tags: Vec<Reference>,
    /// Where it was pulled from or pushed to: `repository@digest`.
    pub digests: Vec<Reference>,
    /// Bytes of the unpacked layers.
    pub size: u64,
    /// The image that it was made from, here.
    pub parent: Option<Digest>,
    /// RFC 3339; `None`: never tagged here.
    pub tagged: Option<String>,
}

/// What `images` shows.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageSummary {
    /// Digest of the config.
    pub id: Digest,
    /// Digest of the manifest.
    pub manifest: Digest,
    /// In bytes.
    pub manifest_size: u64,
    /// Media type of the manifest.
    pub manifest_type: String,
    /// All its tags; none: it is dangling.
    pub tags: Vec<Reference>,
    /// `repository@digest`.
    pub digests: Vec<Reference>,
    /// RFC 3339; empty: not known.
    pub created: String,
    /// Bytes of the unpacked layers.
    pub size: u64,
    /// How many.
    pub layers: usize,
    /// The image that it was made from, here.
    pub parent: Option<Digest>,
    /// Operating system and architecture.
    pub platform: Platform,
    /// RFC 3339; `None`: never tagged here.
    pub tagged: Option<String>,
    /// The index through which alone it has names, which stand with its image for this machine.
    pub part_of: Option<Digest>,
}

/// An image to be made.
#[derive(Debug, Clone)]
pub struct NewImage {
    /// `rootfs.diff_ids` is filled in from `layers`.
    pub config: ImageConfig,
    /// Base first; all of them in the store.
    pub layers: Vec<LayerBlob>,
    /// Taken from other images that have them.
    pub tags: Vec<Reference>,
    /// The image that it is made from.
    pub parent: Option<Digest>,
}

/// An image whose documents are nowhere yet.
#[derive(Debug, Clone)]
pub struct UnlistedImage {
    /// As it would be listed, without its size.
    pub image: Image,
    /// Config and manifest.
    pub documents: BTreeMap<Digest, Vec<u8>>,
}

/// An index whose document and images are nowhere yet, but for the layers.
#[derive(Debug, Clone)]
pub struct UnlistedIndex {
    /// The index.
    pub descriptor: Descriptor,
    /// The index itself, and configs and manifests of its images.
    pub documents: BTreeMap<Digest, Vec<u8>>,
    /// Layers in the store, and their size in bytes.
    pub layers: BTreeMap<Digest, u64>,
}

impl Store {
    /// All images, newest first. Reads `index.json` and nothing else. Of the images of an index, the one that a container would be
    /// made of without `--platform` has the index's names; the others are a [part of](ImageSummary::part_of) it.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn images(&self) -> Result<Vec<ImageSummary>, ImageError> {
        let mut images = Catalog::read(self)?.summaries();
        images.sort_by_cached_key(|image| {
            (
                std::cmp::Reverse(timestamp::nanoseconds(&image.created)),
                image.id,
            )
        });
        Ok(images)
    }

    /// All tags, each with the IDs of the images it can stand for: several if it is that of an index.
    ///
    /// # Errors
    /// When `index.json` can't be read.
    pub fn tags(&self) -> Result<BTreeSet<(Reference, Digest)>, ImageError> {
        let catalog = Catalog::read(self)?;
        let names = catalog.images.keys().flat_map(|id| {
            let tags = catalog.summary(id).tags.into_iter();
            tags.map(|tag| (tag, *id))
        });
        Ok(names.collect())
    }

    /// The documents of an image from [`Store::images`].
    ///
    /// # Errors
    /// When they are missing or damaged.
    pub fn read_image(&self, summary: &ImageSummary) -> Result<Image, ImageError> {
        let descriptor = Descriptor::new(
            &summary.manifest_type,
            summary.manifest,
            summary.manifest_size,
        );
        let (manifest_descriptor, manifest) = self.resolve_manifest(&descriptor)?;
        let config = self.read_config(&manifest.config.digest)?;
        Ok(Image {
            id: manifest.config.digest,
            layers: layer_blobs(&manifest, &config)?,
            manifest: manifest_descriptor,
            config,
            tags: summary.tags.clone(),
            digests: summary.digests.clone(),
            size: summary.size,
            parent: summary.parent,
            tagged: summary.tagged.clone(),
        })
    }

    /// An image by its manifest, whether it is listed or not: without names.
    ///
    /// # Errors
    /// When its config is missing or is no image's.
    pub(crate) fn image_at(
        &self,
        descriptor: &Descriptor,
        manifest: &Manifest,
    ) -> Result<Image, ImageError> {
        let config = self.read_config(&manifest.config.digest)?;
        Ok(Image {
            id: manifest.config.digest,
            layers: layer_blobs(manifest, &config)?,
            manifest: descriptor.clone(),
            config,
            tags: Vec::new(),
            digests: Vec::new(),
            size: 0,
            parent: None,
            tagged: None,
        })
    }

    /// Makes an image: writes its config and an OCI manifest, and lists it. The same input gives the same bytes.
    ///
    /// # Errors
    /// When a layer isn't in the store, or something can't be written; the image isn't listed then.
    pub fn create_image(&self, mut new: NewImage) -> Result<Image, ImageError> {
        new.config.rootfs.diff_ids = new.layers.iter().map(|layer| layer.diff_id).collect();
        let config_bytes = atomic::to_json(&self.path("blobs"), &new.config)?;
        let config = self.put_document(&config_bytes)?;
        let descriptor = self.put_manifest(config, config_bytes.len() as u64, &new.layers)?;
        self.list_image(&descriptor, &new.tags, &[], new.parent)
    }

    /// An image as [`create_image`](Self::create_image) would make it, without writing anything.
    ///
    /// # Errors
    /// When a document can't be made.
    pub fn unlisted_image(&self, mut new: NewImage) -> Result<UnlistedImage, ImageError> {
        new.config.rootfs.diff_ids = new.layers.iter().map(|layer| layer.diff_id).collect();
        let config = atomic::to_json(&self.path("blobs"), &new.config)?;
        let id = Digest::of(&config);
        let (manifest, bytes) = self.manifest_of(id, config.len() as u64, &new.layers)?;
        let documents = BTreeMap::from([(id, config), (manifest.digest, bytes)]);
        let image = Image {
            id,
            manifest,
            config: new.config,
            layers: new.layers,
            tags: new.tags,
            digests: Vec::new(),
            size: 0,
            parent: new.parent,
            tagged: None,
        };
        Ok(UnlistedImage { image, documents })
    }

    /// Writes the OCI manifest of an image whose config, of `size` bytes, is in the store.
    pub(crate) fn put_manifest(
        &self,
        config: Digest,
        size: u64,
        layers: &[LayerBlob],
    ) -> Result<Descriptor, ImageError> {
        let (descriptor, bytes) = self.manifest_of(config, size, layers)?;
        self.put_document(&bytes)?;
        Ok(descriptor)
    }

    /// The OCI manifest that we write for a config of `size` bytes and these layers.
    pub(crate) fn manifest_of(
        &self,
        config: Digest,
        size: u64,
        layers: &[LayerBlob],
    ) -> Result<(Descriptor, Vec<u8>), ImageError> {
        let layer = |layer: &LayerBlob| {
            Descriptor::new(oci_layer_type(&layer.media_type), layer.digest, layer.size)
        };
        let layers = layers.iter().map(layer).collect();
        let manifest = Manifest::new(Descriptor::new(OCI_CONFIG, config, size), layers);
        let bytes = atomic::to_json(&self.path("blobs"), &manifest)?;
        let descriptor = Descriptor::new(OCI_MANIFEST, Digest::of(&bytes), bytes.len() as u64);
        Ok((descriptor, bytes))
    }

    /// Lists an image whose manifest, config and layers are in the store: loaded or pulled ones, whose bytes are kept.
    ///
    /// # Errors
    /// When a part of it isn't in the store, or `index.json` can't be written.
    pub fn list_image(
        &self,
        descriptor: &Descriptor,
        tags: &[Reference],
        digests: &[Reference],
        parent: Option<Digest>,
    ) -> Result<Image, ImageError> {
        only_tags(tags)?;
        let new = self.complete_image(descriptor)?;
        let held = self.lock()?;
        let mut catalog = Catalog::read(self)?;
        let image = catalog.add(&new);
        image.manifest = new.manifest;
        image.manifest_size = new.manifest_size;
        image.manifest_type.clone_from(&new.manifest_type);
        image.size = new.size;
        image.parent = image.parent.or(parent.filter(|parent| *parent != new.id));
        image.digests.extend(digests.iter().cloned());
        for tag in tags {
            // A build from the cache names the same image again: no reason to write the list, and to wait for the disk.
            if !catalog.is_tagged(Named::Image(new.id), tag) {
                catalog.tag(Named::Image(new.id), tag);
            }
        }
        catalog.write(&held)?;
        drop(held);
        self.read_image(&catalog.summary(&new.id))
    }

    /// Pins all of an image and makes sure that it is there and on the disk.
    pub(crate) fn complete_image(
        &self,
        descriptor: &Descriptor,
    ) -> Result<ImageSummary, ImageError> {
        let (descriptor, manifest) = self.resolve_manifest(descriptor)?;
        let config = self.read_config(&manifest.config.digest)?;
        let layers = layer_blobs(&manifest, &config)?;
        let mut pins = vec![
            Pin::Blob(descriptor.digest),
            Pin::Blob(manifest.config.digest),
        ];
        for layer in &layers {
            pins.push(Pin::Blob(layer.digest));
            pins.push(Pin::Layer(layer.diff_id));
        }
        self.pin(&pins)?;
        self.sync_layers_of(layers.iter().map(|layer| layer.diff_id))?;
        // From here on nobody deletes a part of it: all that matters is whether it is there now.
        let mut size = 0;
        for layer in &layers {
            if !self.has_blob(&layer.digest) {
                let part = format!("blob {}", layer.digest);
                return Err(ImageError::Incomplete { part });
            }
            if !self.has_layer(&layer.diff_id) {
                let part = format!("layer {}", layer.diff_id);
                return Err(ImageError::Incomplete { part });
            }
            size += self.layer_size(&layer.diff_id);
        }
        Ok(ImageSummary::from_documents(
            &descriptor,
            &manifest,
            &config,
            size,
        ))
    }

    /// Gives the image one more tag; another image that has it loses it.
    ///
    /// # Errors
    /// When the image was removed meanwhile, or `index.json` can't be written.
    pub fn tag(&self, image: &Image, tag: &Reference) -> Result<(), ImageError> {
        self.tag_named(&image.id.to_string(), tag)
    }

    /// Gives what `name` stands for, an image or an index, one more tag; another that has it loses it.
    ///
    /// # Errors
    /// When there is none of that name, or `index.json` can't be written.
    pub fn tag_named(&self, name: &str, tag: &Reference) -> Result<(), ImageError> {
        only_tags(std::slice::from_ref(tag))?;
        let held = self.lock()?;
        let mut catalog = Catalog::read(self)?;
        let named = catalog.find(name)?;
        catalog.tag(named, tag);
        Ok(catalog.write(&held)?)
    }

    /// Bytes of an unpacked layer; 0 when it isn't there. Counting them is a walk: the result is kept beside the layer.
    #[must_use]
    pub fn layer_size(&self, diff_id: &DiffId) -> u64 {
        let path = self.path("layers").join(diff_id.0.hex()).join("size");
        let kept = fs::read_to_string(&path);
        if let Some(size) = kept.ok().and_then(|text| text.trim_end().parse().ok()) {
            return size;
        }
        let size = tree::size(&self.layer_dir(diff_id)).unwrap_or(0);
        // In a read-only store it is counted each time.
        let _ = atomic::write(&path, size.to_string().as_bytes(), Durability::None);
        size
    }

    /// The directories that a container of this image stands on, top first.
    #[must_use]
    pub fn snapshot(&self, image: &Image) -> Vec<PathBuf> {
        self.lowers(image.layers.iter().map(|layer| layer.diff_id))
    }

    /// The directories of a stack of layers, given base first, top first. What lies below a layer whose root is opaque is
    /// left out: overlay itself would show it.
    #[must_use]
    pub fn lowers(&self, layers: impl DoubleEndedIterator<Item = DiffId>) -> Vec<PathBuf> {
        self.stack(layers.map(StackLayer::Named))
    }

    /// The same with layers that aren't published.
    #[must_use]
    pub fn stack(&self, layers: impl DoubleEndedIterator<Item = StackLayer>) -> Vec<PathBuf> {
        let mut lowers = Vec::new();
        for layer in layers.rev() {
            let (directory, hides) = match layer {
                StackLayer::Named(diff_id) => {
                    (self.layer_dir(&diff_id), self.hides_lower(&diff_id))
                }
                // A step can't make the root of its own mount opaque.
                StackLayer::At(directory) => (directory, false),
            };
            // The same layer again (two empty ones, say) adds nothing below itself, and overlay refuses it.
            if !lowers.contains(&directory) {
                lowers.push(directory);
            }
            if hides {
                break;
            }
        }
        lowers
    }
}

/// A layer of [`Store::stack`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StackLayer {
    /// It is in the store.
    Named(DiffId),
    /// It is to be a layer: a [`SettledUpper`](crate::layer::SettledUpper).
    At(PathBuf),
}

pub(crate) fn only_tags(tags: &[Reference]) -> Result<(), ImageError> {
    match tags.iter().find(|tag| tag.digest.is_some()) {
        None => Ok(()),
        Some(reference) => Err(ImageError::NotATag {
            reference: reference.clone(),
        }),
    }
}

/// The layers as manifest and config describe them together.
fn layer_blobs(manifest: &Manifest, config: &ImageConfig) -> Result<Vec<LayerBlob>, ImageError> {
    let diff_ids: &[DiffId] = &config.rootfs.diff_ids;
    if manifest.layers.len() != diff_ids.len() {
        return Err(ImageError::Layers {
            id: manifest.config.digest,
            layers: manifest.layers.len(),
            diff_ids: diff_ids.len(),
        });
    }
    let pairs = manifest.layers.iter().zip(diff_ids);
    Ok(pairs
        .map(|(descriptor, diff_id)| LayerBlob {
            digest: descriptor.digest,
            size: descriptor.size,
            media_type: descriptor.media_type.clone(),
            diff_id: *diff_id,
        })
        .collect())
}

impl ImageError {
    /// Whether the thing named isn't there, which `--force` and `inspect` treat apart.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// Whether it is there, but not for the wanted platform.
    #[must_use]
    pub fn is_wrong_platform(&self) -> bool {
        matches!(self, Self::NoPlatform { .. } | Self::WrongPlatform { .. })
    }
}
