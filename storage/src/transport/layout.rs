//! An OCI image layout as a source: a directory, or a tar of one.

use super::files::{Files, blob_path, parse};
use super::{Opened, TransportError};
use crate::archive::CONTAINERD_NAME;
use crate::digest::Digest;
use crate::manifest::{Descriptor, Document, Index, REF_NAME};
use crate::reference::Reference;
use crate::transfer::{BlobStream, PlaceError, RawManifest, Source};

/// One image of a layout.
pub(super) struct LayoutSource {
    files: Box<dyn Files>,
    shown: String,
    image: Descriptor,
}

/// Opens the layout's image `name`.
pub(super) fn open(
    files: impl Files + 'static,
    shown: String,
    name: Option<&str>,
) -> Result<Opened, TransportError> {
    let index: Index = parse(&files, "index.json", &files.document("index.json")?)?;
    let image = choose(&files, &index, name)?;
    let mut names = Vec::new();
    for same in index.manifests.iter().filter(|d| d.digest == image.digest) {
        names.extend(full_name(same).filter(|full| !names.contains(full)));
    }
    let source = LayoutSource {
        files: Box::new(files),
        shown,
        image,
    };
    Ok(Opened {
        source: Box::new(source),
        names,
    })
}

fn choose(
    files: &dyn Files,
    index: &Index,
    name: Option<&str>,
) -> Result<Descriptor, TransportError> {
    let manifests = &index.manifests;
    let place = || files.place().to_owned();
    let names = || {
        let names = manifests.iter().filter_map(|d| d.annotations.get(REF_NAME));
        names.cloned().collect()
    };
    let Some(name) = name else {
        let first = manifests.first();
        // An image with several names is listed with each.
        let only = first.filter(|first| manifests.iter().all(|d| d.digest == first.digest));
        return only.cloned().ok_or_else(|| TransportError::WhichImage {
            place: place(),
            count: manifests.len(),
            names: names(),
        });
    };
    let number = name.strip_prefix('@').and_then(|n| n.parse::<usize>().ok());
    let found = match number {
        Some(number) => manifests.get(number),
        None => named(manifests, name),
    };
    found.cloned().ok_or_else(|| TransportError::NoImage {
        place: place(),
        name: name.to_owned(),
        names: names(),
    })
}

fn named<'d>(manifests: &'d [Descriptor], name: &str) -> Option<&'d Descriptor> {
    let exact = |d: &&Descriptor| d.annotations.get(REF_NAME).is_some_and(|n| n == name);
    let reference = Reference::parse(name).ok();
    let same = |d: &&Descriptor| reference.is_some() && full_name(d) == reference;
    let mut all = manifests.iter();
    all.find(exact).or_else(|| manifests.iter().find(same))
}

/// An image's name, unless it is only a tag.
fn full_name(descriptor: &Descriptor) -> Option<Reference> {
    let annotation = |key| descriptor.annotations.get(key);
    let by_spec = || annotation(REF_NAME).filter(|name| name.contains(['/', ':']));
    let text = annotation(CONTAINERD_NAME).or_else(by_spec)?;
    let name = Reference::parse(text).ok();
    name.filter(|name| name.digest.is_none())
}

/// The layout's manifest of the image whose config is `config`, if it has one.
pub(super) fn manifest_of(files: &dyn Files, config: &Digest) -> Option<Descriptor> {
    let bytes = files.document("index.json").ok()?;
    let index: Index = serde_json::from_slice(&bytes).ok()?;
    let of_config = |descriptor: &&Descriptor| {
        let bytes = files.verified(&blob_path(&descriptor.digest), &descriptor.digest);
        let document = bytes.ok().and_then(|bytes| Document::parse(&bytes).ok());
        matches!(document, Some(Document::Manifest(manifest)) if manifest.config.digest == *config)
    };
    index.manifests.iter().find(of_config).cloned()
}

/// A manifest or index of a layout.
pub(super) fn manifest(
    files: &dyn Files,
    digest: &Digest,
    said: &str,
) -> Result<RawManifest, TransportError> {
    let path = blob_path(digest);
    let bytes = files.verified(&path, digest)?;
    raw_manifest(files, &path, bytes, said)
}

/// A document with its media type: as `said`, else as it says itself.
pub(super) fn raw_manifest(
    files: &dyn Files,
    path: &str,
    bytes: Vec<u8>,
    said: &str,
) -> Result<RawManifest, TransportError> {
    let document = Document::parse(&bytes).map_err(|source| TransportError::Document {
        file: path.to_owned(),
        place: files.place().to_owned(),
        source,
    })?;
    let media_type = if said.is_empty() {
        document.media_type()
    } else {
        said
    };
    Ok(RawManifest {
        media_type: media_type.to_owned(),
        digest: Digest::of(&bytes),
        bytes,
    })
}

impl Source for LayoutSource {
    fn shown(&self) -> String {
        self.shown.clone()
    }

    fn manifest(&self, digest: Option<&Digest>) -> Result<RawManifest, PlaceError> {
        let (digest, said) = match digest {
            Some(digest) => (digest, ""),
            None => (&self.image.digest, self.image.media_type.as_str()),
        };
        Ok(manifest(&*self.files, digest, said)?)
    }

    fn blob(&self, descriptor: &Descriptor, offset: u64) -> Result<BlobStream, PlaceError> {
        let path = blob_path(&descriptor.digest);
        let content = self.files.blob(&path, descriptor.size, offset)?;
        Ok(BlobStream {
            offset: offset.min(descriptor.size),
            bytes: content.bytes,
        })
    }
}
