//! An OCI image layout, in a directory, as a target.
//!
//! As skopeo does it: blobs that are there are used, an image is added to those that the index lists, and a name moves to the
//! image that got it last.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};

use super::TransportError;
use super::blob_file::{self, is_there, replace};
use super::files::{DirFiles, Files, blob_path, parse};
use crate::digest::Digest;
use crate::manifest::{Descriptor, Document, Index, REF_NAME};
use crate::reference::Reference;
use crate::transfer::{BlobContent, PlaceError, Put, RawManifest, Target};

const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

pub(super) struct LayoutTarget {
    dir: PathBuf,
    name: Option<String>,
    shown: String,
}

impl LayoutTarget {
    /// Opens the layout in `dir`, which is made if it isn't there.
    pub(super) fn open(
        dir: &Path,
        name: Option<String>,
        shown: String,
    ) -> Result<Self, TransportError> {
        make_directory(dir)?;
        let mark = dir.join("oci-layout");
        if !is_there_at_all(&mark) && !is_empty(dir)? {
            return Err(TransportError::OtherDirectory {
                dir: dir.to_owned(),
                wanted: "an OCI image layout",
            });
        }
        for part in ["blobs", "blobs/sha256"] {
            make_plain_directory(&dir.join(part))?;
        }
        if !is_there_at_all(&mark) {
            replace(&mark, LAYOUT.as_bytes())?;
        }
        Ok(Self {
            dir: dir.to_owned(),
            name,
            shown,
        })
    }

    /// Lists the image. Who else lists one waits for us, or we for them.
    fn list(&self, image: Descriptor) -> Result<(), TransportError> {
        let failed = || TransportError::io("lock", &self.dir);
        let dir = File::open(&self.dir).map_err(failed())?;
        let _held = Flock::lock(dir, FlockArg::LockExclusive)
            .map_err(|(_, errno)| io::Error::from(errno))
            .map_err(failed())?;
        let path = "index.json";
        let files = DirFiles::open(&self.dir)?;
        let mut index: Index = match files.document(path) {
            Ok(bytes) => parse(&files, path, &bytes)?,
            Err(TransportError::Missing { .. }) => Index::default(),
            Err(error) => return Err(error),
        };
        add(&mut index, image);
        let bytes = serde_json::to_vec(&index).map_err(|source| TransportError::Document {
            file: path.to_owned(),
            place: self.dir.clone(),
            source,
        })?;
        blob_file::sync(&self.dir.join("blobs/sha256"))?;
        replace(&self.dir.join(path), &bytes)
    }
}

/// Adds an image to an index; one without a name gives way to it if it is the same.
fn add(index: &mut Index, image: Descriptor) {
    let name = image.annotations.get(REF_NAME).cloned();
    if name.is_some() {
        for other in &mut index.manifests {
            if other.annotations.get(REF_NAME) == name.as_ref() {
                other.annotations.remove(REF_NAME);
            }
        }
    }
    let is_same = |d: &Descriptor| d.digest == image.digest;
    let unnamed = |d: &Descriptor| is_same(d) && !d.annotations.contains_key(REF_NAME);
    let manifests = &mut index.manifests;
    if let Some(at) = manifests.iter().position(unnamed) {
        manifests[at] = image;
    } else if name.is_some() || !manifests.iter().any(is_same) {
        manifests.push(image);
    }
}

impl Target for LayoutTarget {
    fn shown(&self) -> String {
        self.shown.clone()
    }

    fn put_blob(
        &self,
        descriptor: &Descriptor,
        content: &dyn BlobContent,
        _mount_from: &[Reference],
        sent: &dyn Fn(u64),
    ) -> Result<Put, PlaceError> {
        let path = self.dir.join(blob_path(&descriptor.digest));
        Ok(blob_file::put(&path, descriptor, content, sent)?)
    }

    fn put_manifest(&self, manifest: &RawManifest, named: bool) -> Result<(), PlaceError> {
        let size = manifest.bytes.len() as u64;
        let path = self.dir.join(blob_path(&manifest.digest));
        if !is_there(&path, size) {
            replace(&path, &manifest.bytes)?;
        }
        if named {
            let mut image = Descriptor::new(&manifest.media_type, manifest.digest, size);
            let name = self.name.clone().map(|name| (REF_NAME.to_owned(), name));
            image.annotations.extend(name);
            self.list(image)?;
        }
        Ok(())
    }

    fn finish(&self) -> Result<(), PlaceError> {
        Ok(blob_file::sync(&self.dir)?)
    }
}

/// Removes from the layout in `dir` the images without a name, and blobs that nothing lists and that are older than `grace`:
/// younger ones may belong to somebody who is writing. Whose manifest can't be read keeps everything.
///
/// # Errors
/// When the layout can't be read or written.
pub fn sweep_layout(dir: &Path, grace: Duration) -> Result<(), TransportError> {
    let lock = File::open(dir).map_err(TransportError::io("lock", dir))?;
    let _held = Flock::lock(lock, FlockArg::LockExclusive)
        .map_err(|(_, errno)| TransportError::io("lock", dir)(errno))?;
    let files = DirFiles::open(dir)?;
    let mut index: Index = parse(&files, "index.json", &files.document("index.json")?)?;
    let all = index.manifests.len();
    index
        .manifests
        .retain(|image| image.annotations.contains_key(REF_NAME));
    if index.manifests.len() < all {
        let json = serde_json::to_vec(&index).map_err(|source| TransportError::Document {
            file: "index.json".to_owned(),
            place: dir.to_owned(),
            source,
        })?;
        replace(&dir.join("index.json"), &json)?;
    }
    let mut listed = HashSet::new();
    let mut manifests: Vec<Descriptor> = index.manifests;
    while let Some(descriptor) = manifests.pop() {
        if !listed.insert(descriptor.digest) {
            continue;
        }
        let path = blob_path(&descriptor.digest);
        let bytes = files.verified(&path, &descriptor.digest)?;
        match Document::parse(&bytes) {
            Ok(Document::Index(inner)) => manifests.extend(inner.manifests),
            Ok(Document::Manifest(manifest)) => {
                listed.insert(manifest.config.digest);
                listed.extend(manifest.layers.iter().map(|layer| layer.digest));
            }
            // It may list anything.
            Err(_) => return Ok(()),
        }
    }
    let blobs = dir.join("blobs/sha256");
    for entry in fs::read_dir(&blobs).map_err(TransportError::io("read", &blobs))? {
        let entry = entry.map_err(TransportError::io("read", &blobs))?;
        let name = entry.file_name();
        let digest = name.to_str().and_then(|name| Digest::from_hex(name).ok());
        let age = || entry.metadata().ok()?.modified().ok()?.elapsed().ok();
        if digest.is_some_and(|digest| !listed.contains(&digest))
            && age().is_some_and(|age| age >= grace)
        {
            // Who else sweeps may have been quicker.
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

/// Makes a directory, with those above it, where none is.
pub(super) fn make_directory(dir: &Path) -> Result<(), TransportError> {
    let mut builder = fs::DirBuilder::new();
    let made = builder.recursive(true).mode(0o755).create(dir);
    made.map_err(TransportError::io("create", dir))
}

/// One that is no link: what is written must not land elsewhere.
fn make_plain_directory(dir: &Path) -> Result<(), TransportError> {
    if !is_there_at_all(dir) {
        make_directory(dir)?;
    }
    match fs::symlink_metadata(dir).is_ok_and(|meta| meta.is_dir()) {
        true => Ok(()),
        false => {
            let source = io::Error::from(io::ErrorKind::NotADirectory);
            Err(TransportError::io("write to", dir)(source))
        }
    }
}

fn is_there_at_all(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

pub(super) fn is_empty(dir: &Path) -> Result<bool, TransportError> {
    let mut entries = fs::read_dir(dir).map_err(TransportError::io("read", dir))?;
    Ok(entries.next().is_none())
}
