//! skopeo's directories: an image's files side by side.
//!
//! ```text
//! version              "Directory Transport Version: 1.1"
//! manifest.json        the manifest, or the index
//! <hex>.manifest.json  a manifest of the index
//! <hex>                a config or a layer
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::TransportError;
use super::blob_file::{self, replace};
use super::files::{DirFiles, Files};
use super::layout::raw_manifest;
use super::layout_target::{is_empty, make_directory};
use crate::digest::Digest;
use crate::manifest::Descriptor;
use crate::reference::Reference;
use crate::transfer::{BlobContent, BlobStream, PlaceError, Put, RawManifest, Source, Target};

const VERSION: &str = "Directory Transport Version: 1.1\n";
const MANIFEST: &str = "manifest.json";

pub(super) struct DirSource {
    files: DirFiles,
    shown: String,
}

impl DirSource {
    pub(super) fn new(files: DirFiles, shown: String) -> Self {
        Self { files, shown }
    }
}

impl Source for DirSource {
    fn shown(&self) -> String {
        self.shown.clone()
    }

    fn manifest(&self, digest: Option<&Digest>) -> Result<RawManifest, PlaceError> {
        let Some(digest) = digest else {
            let bytes = self.files.document(MANIFEST)?;
            return Ok(raw_manifest(&self.files, MANIFEST, bytes, "")?);
        };
        let path = manifest_name(digest);
        // The image itself may be asked for by its digest, too.
        let bytes = match self.files.verified(&path, digest) {
            Err(TransportError::Missing { .. }) => self.files.verified(MANIFEST, digest)?,
            other => other?,
        };
        Ok(raw_manifest(&self.files, &path, bytes, "")?)
    }

    fn blob(&self, descriptor: &Descriptor, offset: u64) -> Result<BlobStream, PlaceError> {
        let path = descriptor.digest.hex();
        let content = self.files.blob(&path, descriptor.size, offset)?;
        Ok(BlobStream {
            offset: offset.min(descriptor.size),
            bytes: content.bytes,
        })
    }
}

fn manifest_name(digest: &Digest) -> String {
    format!("{}.{MANIFEST}", digest.hex())
}

pub(super) struct DirTarget {
    dir: PathBuf,
    shown: String,
    /// The files of the image.
    written: Mutex<BTreeSet<String>>,
}

impl DirTarget {
    /// Opens `dir`, which is made if it isn't there. The image that it has is replaced when the new one is complete.
    pub(super) fn open(dir: &Path, shown: String) -> Result<Self, TransportError> {
        make_directory(dir)?;
        let version = dir.join("version");
        let is_ours = fs::read_to_string(&version)
            .is_ok_and(|text| text.starts_with("Directory Transport Version: "));
        if !is_ours && !is_empty(dir)? {
            return Err(TransportError::OtherDirectory {
                dir: dir.to_owned(),
                wanted: "an image written by dir:",
            });
        }
        replace(&version, VERSION.as_bytes())?;
        Ok(Self {
            dir: dir.to_owned(),
            shown,
            written: Mutex::default(),
        })
    }

    fn note(&self, name: String) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.insert(name);
    }
}

impl Target for DirTarget {
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
        let name = descriptor.digest.hex();
        let put = blob_file::put(&self.dir.join(&name), descriptor, content, sent)?;
        self.note(name);
        Ok(put)
    }

    fn put_manifest(&self, manifest: &RawManifest, named: bool) -> Result<(), PlaceError> {
        let name = match named {
            true => MANIFEST.to_owned(),
            false => manifest_name(&manifest.digest),
        };
        replace(&self.dir.join(&name), &manifest.bytes)?;
        self.note(name);
        Ok(())
    }

    /// Removes what is the former image's alone.
    fn finish(&self) -> Result<(), PlaceError> {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = fs::read_dir(&self.dir).map_err(TransportError::io("read", &self.dir))?;
        for entry in entries {
            let entry = entry.map_err(TransportError::io("read", &self.dir))?;
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else {
                continue;
            };
            let hex = name.strip_suffix(".manifest.json").unwrap_or(&name);
            let of_image = Digest::from_hex(hex).is_ok() || name.starts_with("signature-");
            if of_image && !written.contains(&name) {
                let removed = fs::remove_file(entry.path());
                removed.map_err(TransportError::io("remove", entry.path()))?;
            }
        }
        Ok(blob_file::sync(&self.dir)?)
    }
}
