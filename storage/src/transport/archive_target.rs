//! An archive as a target: an OCI layout in a tar, or that and docker's archive at once, as `save` writes it.
//!
//! Blobs are written as they come, one after the other. A blob that breaks off is written anew in its place; only where the
//! archive goes to a pipe, that is the end.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::TransportError;
use super::blob_file::{self, send};
use super::files::blob_path;
use crate::archive::{CONTAINERD_NAME, DockerEntry, repositories};
use crate::digest::Digest;
use crate::manifest::{Descriptor, Document, Index, REF_NAME};
use crate::random;
use crate::reference::Reference;
use crate::tarfile::{self, Entry, Writer};
use crate::transfer::{BlobContent, PlaceError, Put, RawManifest, Target};

/// What kind of archive, and the image's name in it.
pub(super) enum Kind {
    Oci(Option<String>),
    Docker(Option<Reference>),
}

pub(super) struct ArchiveTarget {
    path: PathBuf,
    kind: Kind,
    shown: String,
    state: Mutex<State>,
}

/// The archive as far as it goes.
struct State {
    file: File,
    /// Where it is written until it is whole; `None`: it goes to a pipe or a device.
    temp: Option<PathBuf>,
    /// Bytes that count: what follows is of a blob that broke off.
    end: u64,
    blobs: HashSet<Digest>,
    broken: bool,
    image: Option<RawManifest>,
}

impl ArchiveTarget {
    pub(super) fn open(path: &Path, kind: Kind, shown: String) -> Result<Self, TransportError> {
        let failed = || TransportError::io("write", path);
        let there = fs::metadata(path).ok();
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o644);
        let (file, temp) = match there {
            // A pipe, a terminal, /dev/null. A directory is an error.
            Some(meta) if !meta.is_file() => {
                let file = OpenOptions::new().write(true).open(path);
                (file.map_err(failed())?, None)
            }
            _ => {
                let mut temp = path.as_os_str().to_owned();
                temp.push(format!(".partial-{}", random::hex::<4>()));
                let temp = PathBuf::from(temp);
                let file = options.create_new(true).open(&temp);
                (file.map_err(failed())?, Some(temp))
            }
        };
        let mut state = State {
            file,
            temp,
            end: 0,
            blobs: HashSet::new(),
            broken: false,
            image: None,
        };
        for dir in ["blobs/", "blobs/sha256/"] {
            let entry = Entry::new(dir, tarfile::Kind::Directory, 0o755);
            state.entry(path, &entry, |_| Ok(()))?;
        }
        Ok(Self {
            path: path.to_owned(),
            kind,
            shown,
            state: Mutex::new(state),
        })
    }

    fn close(&self, state: &mut State) -> Result<(), TransportError> {
        let failed = || TransportError::io("write", &self.path);
        let mut index = Index::default();
        let mut entries = Vec::new();
        if let Some(image) = &state.image {
            let size = image.bytes.len() as u64;
            let mut listed = Descriptor::new(&image.media_type, image.digest, size);
            listed.annotations.extend(self.kind.annotations());
            index.manifests.push(listed);
            if let Kind::Docker(_) = self.kind {
                entries.push(self.docker_entry(image)?);
            }
        }
        state.json(&self.path, "index.json", &index)?;
        if let Kind::Docker(tag) = &self.kind {
            state.json(&self.path, "manifest.json", &entries)?;
            let id = |entry: &DockerEntry| {
                let hex = entry.config.rsplit('/').next().unwrap_or_default();
                Digest::from_hex(hex).ok()
            };
            let ids = entries.iter().filter_map(id);
            let names = ids.map(|id| (id, tag.iter().cloned().collect()));
            state.json(&self.path, "repositories", &repositories(names))?;
        }
        state.bytes(
            &self.path,
            "oci-layout",
            br#"{"imageLayoutVersion":"1.0.0"}"#,
        )?;
        state
            .file
            .write_all(&[0; 2 * tarfile::BLOCK])
            .map_err(failed())?;
        let Some(temp) = &state.temp else {
            return Ok(());
        };
        let whole = state.end + 2 * tarfile::BLOCK as u64;
        state.file.set_len(whole).map_err(failed())?;
        state.file.sync_all().map_err(failed())?;
        fs::rename(temp, &self.path).map_err(failed())?;
        state.temp = None;
        match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => blob_file::sync(parent),
            _ => blob_file::sync(Path::new(".")),
        }
    }

    fn docker_entry(&self, image: &RawManifest) -> Result<DockerEntry, TransportError> {
        let document =
            Document::parse(&image.bytes).map_err(|source| TransportError::Document {
                file: blob_path(&image.digest),
                place: self.path.clone(),
                source,
            })?;
        let Document::Manifest(manifest) = document else {
            return Err(TransportError::Index);
        };
        let Kind::Docker(tag) = &self.kind else {
            return Err(TransportError::Index);
        };
        let layers = manifest.layers.iter().map(|l| blob_path(&l.digest));
        Ok(DockerEntry {
            config: blob_path(&manifest.config.digest),
            repo_tags: Some(tag.iter().map(Reference::full_name).collect()),
            layers: Some(layers.collect()),
        })
    }
}

impl Kind {
    /// What the index says of the image.
    fn annotations(&self) -> Vec<(String, String)> {
        match self {
            Self::Oci(name) => {
                let name = name.iter();
                name.map(|name| (REF_NAME.to_owned(), name.clone()))
                    .collect()
            }
            Self::Docker(None) => Vec::new(),
            Self::Docker(Some(tag)) => vec![
                (CONTAINERD_NAME.to_owned(), tag.full_name()),
                (REF_NAME.to_owned(), tag.to_string()),
            ],
        }
    }
}

impl State {
    /// Writes an entry. If that fails, the next one is written in its place.
    fn entry(
        &mut self,
        path: &Path,
        entry: &Entry,
        content: impl FnOnce(&mut Writer<BufWriter<&mut File>>) -> Result<(), TransportError>,
    ) -> Result<(), TransportError> {
        let failed = || TransportError::io("write", path);
        if self.broken {
            return Err(TransportError::BrokenPipe {
                path: path.to_owned(),
            });
        }
        if self.temp.is_some() {
            self.file
                .seek(SeekFrom::Start(self.end))
                .map_err(failed())?;
        } else {
            // Until it is written.
            self.broken = true;
        }
        let mut writer = Writer::new(BufWriter::with_capacity(1 << 17, &mut self.file));
        writer.begin(entry).map_err(failed())?;
        content(&mut writer)?;
        writer.end_entry().map_err(failed())?;
        writer.into_inner().flush().map_err(failed())?;
        self.broken = false;
        if self.temp.is_some() {
            self.end = self.file.stream_position().map_err(failed())?;
        }
        Ok(())
    }

    fn bytes(&mut self, path: &Path, name: &str, bytes: &[u8]) -> Result<(), TransportError> {
        let mut entry = Entry::new(name, tarfile::Kind::File, 0o644);
        entry.size = bytes.len() as u64;
        self.entry(path, &entry, |writer| {
            let written = writer.write_data(bytes);
            written.map_err(TransportError::io("write", path))
        })
    }

    fn json(
        &mut self,
        path: &Path,
        name: &str,
        value: &impl Serialize,
    ) -> Result<(), TransportError> {
        let bytes = serde_json::to_vec(value).map_err(|source| TransportError::Document {
            file: name.to_owned(),
            place: path.to_owned(),
            source,
        })?;
        self.bytes(path, name, &bytes)
    }
}

impl Target for ArchiveTarget {
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
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.blobs.contains(&descriptor.digest) {
            return Ok(Put::Present);
        }
        let name = blob_path(&descriptor.digest);
        let mut entry = Entry::new(name, tarfile::Kind::File, 0o644);
        entry.size = descriptor.size;
        state.entry(&self.path, &entry, |writer| {
            send(descriptor, content, sent, |bytes| {
                let written = writer.write_data(bytes);
                written.map_err(TransportError::io("write", &self.path))
            })
        })?;
        state.blobs.insert(descriptor.digest);
        Ok(Put::Sent)
    }

    fn put_manifest(&self, manifest: &RawManifest, named: bool) -> Result<(), PlaceError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if named && let Kind::Docker(_) = self.kind {
            self.docker_entry(manifest)?;
        }
        if state.blobs.insert(manifest.digest) {
            state.bytes(&self.path, &blob_path(&manifest.digest), &manifest.bytes)?;
        }
        if named {
            state.image = Some(manifest.clone());
        }
        Ok(())
    }

    fn finish(&self) -> Result<(), PlaceError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(self.close(&mut state)?)
    }
}

impl Drop for State {
    fn drop(&mut self) {
        if let Some(temp) = &self.temp {
            // It was never whole; what can't be removed is seen by its name.
            let _ = fs::remove_file(temp);
        }
    }
}
