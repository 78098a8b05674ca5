//! `import`: a root file system's tar becomes an image of one layer.

use std::io::Read;

use super::{ArchiveError, as_layer};
use crate::config::{ContainerConfig, History, ImageConfig};
use crate::image::{Image, NewImage};
use crate::layer::{Expected, StoreAs};
use crate::manifest::Platform;
use crate::reference::Reference;
use crate::store::Store;
use crate::timestamp;

/// What `import` was asked for.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// The image's name; `None`: it stays without one.
    pub reference: Option<Reference>,
    /// `-m`, or where it came from.
    pub message: String,
    /// What `--change` made of an empty one.
    pub config: ContainerConfig,
    /// `None`: this machine's.
    pub platform: Option<Platform>,
    /// RFC 3339, for images that are made twice alike; `None`: now.
    pub created: Option<String>,
}

/// Imports a tar, plain or compressed by gzip, bzip2, xz or zstd. Needs ids.
///
/// # Errors
/// When it is no tar, damaged, or can't be unpacked; nothing is kept then.
pub fn import(
    store: &Store,
    input: impl Read + Send,
    options: ImportOptions,
) -> Result<Image, ArchiveError> {
    let imported = import_layer(store, input, options);
    if imported.is_err() {
        // The error is the news; what can't be deleted now is found by the next sweep.
        let _ = store.abandon();
    }
    imported
}

fn import_layer(
    store: &Store,
    input: impl Read + Send,
    options: ImportOptions,
) -> Result<Image, ArchiveError> {
    let input = as_layer(input).map_err(|source| ArchiveError::Decompress { source })?;
    let layer = store
        .add_layer(input, &Expected::default(), StoreAs::Verbatim)
        .map_err(|source| ArchiveError::Import {
            source: Box::new(source),
        })?;
    let created = options.created.unwrap_or_else(timestamp::now);
    let platform = options.platform.unwrap_or_else(Platform::host);
    let config = ImageConfig {
        architecture: platform.architecture,
        variant: platform.variant,
        os: platform.os,
        created: Some(created.clone()),
        comment: Some(options.message.clone()).filter(|message| !message.is_empty()),
        config: options.config,
        history: vec![History {
            created: Some(created),
            comment: Some(options.message).filter(|message| !message.is_empty()),
            ..History::default()
        }],
        ..ImageConfig::default()
    };
    Ok(store.create_image(NewImage {
        config,
        layers: vec![layer],
        tags: options.reference.into_iter().collect(),
        parent: None,
    })?)
}
