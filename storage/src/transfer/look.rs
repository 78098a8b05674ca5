//! What a source has, looked at without fetching a layer.

use super::documents::{Documents, Found};
use super::retry::Patience;
use super::{RawManifest, Source, TransferError};
use crate::digest::Digest;
use crate::image::Image;
use crate::layer::LayerBlob;
use crate::manifest::{Descriptor, Document, OCI_MANIFEST, Platform};
use crate::reference::Reference;

/// The manifest or index that the source's name stands for, or one that an index names; its bytes are what its digest says.
///
/// # Errors
/// When it can't be had, or is no manifest.
pub fn look(
    source: &dyn Source,
    wanted: Option<&Descriptor>,
) -> Result<(RawManifest, Document), TransferError> {
    Ok(match documents(source).find(wanted)? {
        Found::One(raw, manifest) => (raw, Document::Manifest(manifest)),
        Found::Index(raw, index) => (raw, Document::Index(index)),
    })
}

/// The image that a pull would bring, as it would be listed; its size is that of the layers as they travel.
///
/// # Errors
/// When it can't be had, or is no image of `platform` (`None`: this machine's, or the only one).
pub fn look_at_image(
    source: &dyn Source,
    platform: Option<&Platform>,
) -> Result<Image, TransferError> {
    let documents = documents(source);
    let (top, raw, manifest) = match documents.find(None)? {
        Found::One(raw, manifest) => (raw.digest, raw, manifest),
        Found::Index(top, index) => {
            let wanted = platform.cloned().unwrap_or_else(Platform::host);
            let (raw, manifest) = documents.choose(index, &wanted)?;
            (top.digest, raw, manifest)
        }
    };
    documents.check(&manifest)?;
    let (_, config) = documents.config(&manifest)?;
    documents.check_platform(platform, &config)?;
    let layers = manifest.layers.iter().zip(&config.rootfs.diff_ids);
    let layers = layers.map(|(layer, diff_id)| LayerBlob {
        digest: layer.digest,
        size: layer.size,
        media_type: layer.media_type.clone(),
        diff_id: *diff_id,
    });
    let name = source.repository();
    let media_type = match raw.media_type.as_str() {
        "" => OCI_MANIFEST,
        media_type => media_type,
    };
    Ok(Image {
        id: manifest.config.digest,
        manifest: Descriptor::new(media_type, raw.digest, raw.bytes.len() as u64),
        layers: layers.collect(),
        config,
        tags: Vec::new(),
        digests: name.into_iter().map(|name| by_digest(name, top)).collect(),
        size: manifest.layers.iter().map(|layer| layer.size).sum(),
        parent: None,
        tagged: None,
    })
}

fn by_digest(repository: Reference, digest: Digest) -> Reference {
    Reference {
        tag: None,
        digest: Some(digest),
        ..repository
    }
}

fn documents(source: &dyn Source) -> Documents<'_> {
    Documents {
        source,
        patience: Patience::default(),
    }
}
