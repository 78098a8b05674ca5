//! Which image a name stands for.

use std::collections::BTreeSet;

use crate::image::{Image, ImageError, ImageSummary};
use crate::index::{Catalog, IndexSummary, Named};
use crate::manifest::{Descriptor, Document, Index, Platform};
use crate::reference::Reference;
use crate::store::Store;

impl Store {
    /// The image with this name: a tag (completed by `:latest`), `repository@digest`, an ID with or without `sha256:`, or
    /// the unique beginning of one; in this order. Of an index, that for this machine, else the only one.
    ///
    /// # Errors
    /// When there is none, several, or its documents are missing or damaged.
    pub fn find_image(&self, name: &str) -> Result<Image, ImageError> {
        let catalog = Catalog::read(self)?;
        let id = match catalog.find(name)? {
            Named::Image(id) => id,
            Named::Index(digest) => {
                let index = &catalog.indexes[&digest];
                let chosen = index.choice(&Platform::host());
                chosen.ok_or_else(|| ImageError::NoPlatform {
                    name: name.to_owned(),
                    there: listed(index),
                })?
            }
        };
        self.read_image(&catalog.summary(&id))
    }

    /// The image with this name for `platform`.
    ///
    /// # Errors
    /// As [`Store::find_image`], and when what is here is for other platforms.
    pub fn find_image_for(&self, name: &str, platform: &Platform) -> Result<Image, ImageError> {
        let catalog = Catalog::read(self)?;
        let wrong = |actual| ImageError::WrongPlatform {
            name: name.to_owned(),
            wanted: platform.to_string(),
            actual,
        };
        let id = match catalog.find(name)? {
            Named::Image(id) => {
                let own = &catalog.images[&id].platform;
                if !platform.matches(own) {
                    return Err(wrong(own.to_string()));
                }
                id
            }
            Named::Index(digest) => {
                let index = &catalog.indexes[&digest];
                let fitting = platform.choose(&index.members, |member| Some(&member.platform));
                fitting.ok_or_else(|| wrong(listed(index)))?.id
            }
        };
        self.read_image(&catalog.summary(&id))
    }

    /// The index with this name, `None` if there is none of that name or it is an image's. Its manifests need not be here.
    ///
    /// # Errors
    /// When the store can't be read, or the index is missing or damaged.
    pub fn find_index(&self, name: &str) -> Result<Option<(Descriptor, Index)>, ImageError> {
        let catalog = Catalog::read(self)?;
        let digest = match catalog.find(name) {
            Ok(Named::Index(digest)) => digest,
            Ok(Named::Image(_)) => return Ok(None),
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        let summary = &catalog.indexes[&digest];
        let index = self.read_index(&digest)?;
        let descriptor = Descriptor::new(&summary.media_type, digest, summary.size);
        Ok(Some((descriptor, index)))
    }

    pub(crate) fn read_index(&self, digest: &crate::digest::Digest) -> Result<Index, ImageError> {
        use serde::de::Error;
        let bytes = self.read_document(digest)?;
        let fail = |source| ImageError::Document {
            what: "index",
            digest: *digest,
            source,
        };
        match Document::parse(&bytes).map_err(fail)? {
            Document::Index(index) => Ok(index),
            Document::Manifest(_) => Err(fail(serde_json::Error::custom("it is a manifest"))),
        }
    }
}

/// The platforms of an index that are here.
fn listed(index: &IndexSummary) -> String {
    let platforms = index.members.iter().map(|m| m.platform.to_string());
    let platforms: BTreeSet<String> = platforms.collect();
    match platforms.len() {
        0 => "none that is here".to_owned(),
        _ => Vec::from_iter(platforms).join(", "),
    }
}

impl Catalog {
    /// What a name stands for, as [`Store::find_image`] looks it up.
    pub(crate) fn find(&self, name: &str) -> Result<Named, ImageError> {
        let reference = Reference::parse(name).ok();
        if let Some(reference) = &reference
            && let Some(found) = self.by_reference(reference)
        {
            return Ok(found);
        }
        let hex = name.strip_prefix("sha256:").unwrap_or(name);
        let is_hex = |c: u8| matches!(c, b'0'..=b'9' | b'a'..=b'f');
        if (1..=64).contains(&hex.len()) && hex.bytes().all(is_hex) {
            let fits = |image: &&ImageSummary| image.id.hex().starts_with(hex);
            let found: Vec<&ImageSummary> = self.images.values().filter(fits).collect();
            match found.as_slice() {
                [] => {}
                [one] => return Ok(Named::Image(one.id)),
                many => {
                    return Err(ImageError::Ambiguous {
                        prefix: name.to_owned(),
                        count: many.len(),
                    });
                }
            }
            // `images --digests` shows the digests of manifests and indexes: what is shown can be used.
            let fits = |image: &&ImageSummary| image.manifest.hex() == hex;
            if let Some(found) = self.images.values().find(fits) {
                return Ok(Named::Image(found.id));
            }
            if let Some(found) = self.indexes.keys().find(|digest| digest.hex() == hex) {
                return Ok(Named::Index(*found));
            }
        }
        Err(ImageError::NotFound {
            name: reference.map_or_else(|| name.to_owned(), |reference| reference.to_string()),
        })
    }

    fn by_reference(&self, wanted: &Reference) -> Option<Named> {
        let images = self.images.values().map(|i| {
            let named = Named::Image(i.id);
            (named, i.manifest, &i.tags, &i.digests)
        });
        let indexes = self.indexes.values().map(|i| {
            let named = Named::Index(i.digest);
            (named, i.digest, &i.tags, &i.digests)
        });
        let same_repository =
            |other: &Reference| (&other.domain, &other.path) == (&wanted.domain, &wanted.path);
        let found =
            images
                .chain(indexes)
                .find(|(_, document, tags, digests)| match wanted.digest {
                    None => tags.contains(wanted),
                    Some(digest) => {
                        let pulled = |r: &Reference| same_repository(r) && r.digest == Some(digest);
                        // Pulled through an index it has that one's digest; its own is as good.
                        let mut names = tags.iter().chain(*digests);
                        digests.iter().any(pulled)
                            || *document == digest && names.any(same_repository)
                    }
                });
        found.map(|(named, ..)| named)
    }
}
