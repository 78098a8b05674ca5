//! The files of an archive, gathered in one pass before it is known what they are.
//!
//! What looks like a layer goes into the store at once. Small files stay in memory until manifests say what they are;
//! large ones that look like nothing wait in `tmp/`.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use super::{ArchiveError, as_layer};
use crate::blob::DOCUMENT_LIMIT;
use crate::digest::{DiffId, Digest};
use crate::layer::{Expected, LayerBlob, LayerError, StoreAs};
use crate::session::Pin;
use crate::store::{Store, StoreError};
use crate::tarfile::{BLOCK, Entry, Kind, Reader, TarError};

/// Files in an archive. Docker writes three a layer, and an image has 127 layers at most.
pub(crate) const MAX_FILES: usize = 100_000;
/// Files that no archive of images has many of: a root file system's.
const MAX_STRANGERS: usize = 1000;
/// Bytes of small files that are kept in memory.
const MAX_MEMORY: usize = 64 << 20;
/// Links that are followed.
pub(crate) const MAX_LINKS: usize = 8;

/// A file of the archive.
enum Part {
    /// Small, in memory.
    Small(Vec<u8>),
    /// Large, in `tmp/`.
    Large(PathBuf, u64),
    /// In the store already.
    Layer(LayerBlob),
    /// Looked like a layer and wasn't.
    Broken(LayerError),
    /// Another name of the file with this path.
    Link(String),
}

/// All files of an archive, by path.
pub(super) struct Parts<'s> {
    store: &'s Store,
    parts: HashMap<String, Part>,
    memory: usize,
    strangers: usize,
    /// Layers that are in the store: they needn't be unpacked again.
    known: HashMap<Digest, LayerBlob>,
}

impl<'s> Parts<'s> {
    /// Reads the archive to its end.
    pub(super) fn gather(store: &'s Store, input: impl Read + Send) -> Result<Self, ArchiveError> {
        let mut parts = Self {
            store,
            parts: HashMap::new(),
            memory: 0,
            strangers: 0,
            known: known_layers(store),
        };
        let mut reader = Reader::new(super::decompressed(input)?);
        while let Some(entry) = reader.next_entry()? {
            parts.add(&entry, &mut reader)?;
        }
        // Else whoever writes into our pipe would be killed by SIGPIPE, and gzip's checksum would go unread.
        reader.drain()?;
        Ok(parts)
    }

    fn add<R: io::BufRead + Send>(
        &mut self,
        entry: &Entry,
        reader: &mut Reader<R>,
    ) -> Result<(), ArchiveError> {
        if self.parts.len() >= MAX_FILES {
            return Err(ArchiveError::TooManyFiles { limit: MAX_FILES });
        }
        let Some(path) = normal(&entry.path, "") else {
            return Ok(()); // Nothing may refer to it.
        };
        let part = match entry.kind {
            Kind::File if entry.sparse.is_none() => {
                self.count_strangers(&path)?;
                self.read_file(&path, entry.size, reader)?
            }
            Kind::Symlink => {
                let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
                match normal(&entry.link, parent) {
                    Some(target) => Part::Link(target),
                    None => return Ok(()),
                }
            }
            Kind::HardLink => match normal(&entry.link, "") {
                Some(target) => Part::Link(target),
                None => return Ok(()),
            },
            _ => return Ok(()),
        };
        self.parts.insert(path, part);
        Ok(())
    }

    /// Gives up early when the archive is of a root file system.
    fn count_strangers(&mut self, path: &str) -> Result<(), ArchiveError> {
        let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
        let likely = path.starts_with("blobs/")
            || matches!(name, "json" | "VERSION" | "repositories" | "oci-layout")
            || name.contains(".tar")
            || name.ends_with(".json")
            || name.starts_with("sha256:");
        if !likely {
            self.strangers += 1;
        }
        if self.strangers > MAX_STRANGERS {
            return Err(ArchiveError::NoImage);
        }
        Ok(())
    }

    fn read_file<R: io::BufRead + Send>(
        &mut self,
        path: &str,
        size: u64,
        reader: &mut Reader<R>,
    ) -> Result<Part, ArchiveError> {
        let digest = path
            .strip_prefix("blobs/sha256/")
            .and_then(|hex| Digest::from_hex(hex).ok());
        // podman names an uncompressed layer by its digest, which is its diffID.
        let named = path
            .strip_suffix(".tar")
            .and_then(|hex| Digest::from_hex(hex).ok());
        if let Some(known) = digest.or(named).and_then(|digest| self.known.get(&digest)) {
            return Ok(Part::Layer(known.clone()));
        }
        let mut content = Content { reader };
        let mut head = Vec::new();
        (&mut content)
            .take(BLOCK as u64)
            .read_to_end(&mut head)
            .map_err(tar_error)?;
        if looks_like_layer(&head) {
            let expected = Expected {
                digest,
                size: Some(size),
                diff_id: None,
            };
            let source = head.as_slice().chain(content);
            return Ok(
                match self.store.add_layer(source, &expected, StoreAs::Verbatim) {
                    Ok(layer) => Part::Layer(layer),
                    Err(error) => Part::Broken(error),
                },
            );
        }
        let small = usize::try_from(size)
            .ok()
            .filter(|_| size <= DOCUMENT_LIMIT)
            .filter(|size| self.memory + size <= MAX_MEMORY);
        let mut source = head.as_slice().chain(content);
        if let Some(size) = small {
            let mut bytes = Vec::with_capacity(size);
            source.read_to_end(&mut bytes).map_err(tar_error)?;
            self.memory += size;
            return Ok(Part::Small(bytes));
        }
        let temp = self.store.temp_path("part")?;
        let mut file = File::create(&temp).map_err(StoreError::io("create", &temp))?;
        copy(&mut source, &mut file, &temp)?;
        Ok(Part::Large(temp, size))
    }

    fn find(&self, path: &str) -> Result<Option<&Part>, ArchiveError> {
        let mut next = path;
        for _ in 0..MAX_LINKS {
            match self.parts.get(next) {
                Some(Part::Link(target)) => next = target,
                other => return Ok(other),
            }
        }
        Err(ArchiveError::Link {
            path: path.to_owned(),
        })
    }

    /// Whether there is a file with this path.
    pub(super) fn has(&self, path: &str) -> bool {
        self.parts.contains_key(path)
    }

    /// The content of a manifest, index or config.
    pub(super) fn document(&self, path: &str) -> Result<&[u8], ArchiveError> {
        let path = clean(path);
        let large = |size| ArchiveError::TooLarge {
            path: path.clone(),
            size,
        };
        match self.find(&path)? {
            Some(Part::Small(bytes)) => Ok(bytes),
            Some(Part::Large(_, size)) => Err(large(*size)),
            Some(Part::Layer(layer)) => Err(large(layer.size)),
            _ => Err(ArchiveError::Missing { path }),
        }
    }

    /// The content of a blob of the OCI layout, verified.
    pub(super) fn blob(&self, digest: &Digest) -> Result<&[u8], ArchiveError> {
        let path = format!("blobs/sha256/{}", digest.hex());
        let bytes = self.document(&path)?;
        let actual = Digest::of(bytes);
        if actual != *digest {
            return Err(ArchiveError::Digest { path, actual });
        }
        Ok(bytes)
    }

    /// The layer with this path; it is in the store afterwards, and its diffID is `expected`.
    pub(super) fn layer(
        &mut self,
        path: &str,
        expected: &DiffId,
    ) -> Result<LayerBlob, ArchiveError> {
        let path = clean(path);
        let store = self.store;
        let wanted = Expected {
            diff_id: Some(*expected),
            ..Expected::default()
        };
        let add = |source: &mut (dyn Read + Send)| {
            let source = as_layer(source).map_err(|source| ArchiveError::Decompress { source })?;
            let added = store.add_layer(source, &wanted, StoreAs::Verbatim);
            added.map_err(|source| ArchiveError::Layer {
                path: path.clone(),
                source: Box::new(source),
            })
        };
        let layer = match self.find(&path)? {
            Some(Part::Layer(layer)) => layer.clone(),
            Some(Part::Small(bytes)) => add(&mut bytes.as_slice())?,
            Some(Part::Large(temp, _)) => {
                let mut file = File::open(temp).map_err(StoreError::io("read", temp))?;
                add(&mut file)?
            }
            Some(Part::Broken(_)) => return Err(self.take_broken(path)),
            Some(Part::Link(_)) | None => return Err(ArchiveError::Missing { path }),
        };
        if layer.diff_id != *expected {
            return Err(ArchiveError::DiffId {
                path,
                expected: *expected,
                actual: layer.diff_id,
            });
        }
        self.store
            .pin(&[Pin::Blob(layer.digest), Pin::Layer(layer.diff_id)])?;
        Ok(layer)
    }

    /// The error of a file that looked like a layer; it can be had only once.
    fn take_broken(&mut self, path: String) -> ArchiveError {
        let mut next = path.clone();
        while let Some(part) = self.parts.remove(&next) {
            match part {
                Part::Link(target) => next = target,
                Part::Broken(source) => {
                    let source = Box::new(source);
                    return ArchiveError::Layer { path, source };
                }
                _ => break,
            }
        }
        ArchiveError::Missing { path }
    }
}

/// Layers of the images here, by the digest of their blob and, if that is uncompressed, so by their diffID.
fn known_layers(store: &Store) -> HashMap<Digest, LayerBlob> {
    let images = store.images().unwrap_or_default();
    images
        .iter()
        .filter_map(|summary| store.read_image(summary).ok())
        .flat_map(|image| image.layers)
        .filter(|layer| store.has_blob(&layer.digest) && store.has_layer(&layer.diff_id))
        .map(|layer| (layer.digest, layer))
        .collect()
}

/// A tar header, or the magic number of gzip or zstd.
fn looks_like_layer(head: &[u8]) -> bool {
    head.starts_with(&[0x1f, 0x8b])
        || head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])
        || head.get(257..262) == Some(b"ustar")
}

/// The path as others may refer to it, `None` if it leads out of the archive. `parent` is where a link stands.
pub(crate) fn normal(path: &[u8], parent: &str) -> Option<String> {
    let path = std::str::from_utf8(path).ok()?;
    let (path, parent) = match path.strip_prefix('/') {
        Some(path) => (path, ""),
        None => (path, parent),
    };
    let mut words: Vec<&str> = parent.split('/').filter(|word| !word.is_empty()).collect();
    for word in path.split('/') {
        match word {
            "" | "." => {}
            ".." => _ = words.pop()?,
            word => words.push(word),
        }
    }
    if words.is_empty() {
        return None;
    }
    Some(words.join("/"))
}

/// [`normal`] of a path that a document of the archive names.
pub(crate) fn clean(path: &str) -> String {
    normal(path.as_bytes(), "").unwrap_or_else(|| path.to_owned())
}

/// The rest of an entry's content.
struct Content<'r, R> {
    reader: &'r mut Reader<R>,
}

impl<R: io::BufRead> Read for Content<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let bytes = self.reader.data().map_err(io::Error::other)?;
        let count = bytes.len().min(buf.len());
        buf[..count].copy_from_slice(&bytes[..count]);
        self.reader.consume(count);
        Ok(count)
    }
}

/// The [`TarError`] that [`Content`] has wrapped.
fn tar_error(error: io::Error) -> ArchiveError {
    match error.downcast::<TarError>() {
        Ok(error) => ArchiveError::Tar(error),
        Err(source) => ArchiveError::Decompress { source },
    }
}

/// Like `io::copy`, but tells who failed.
fn copy(
    source: &mut impl Read,
    file: &mut File,
    path: &std::path::Path,
) -> Result<(), ArchiveError> {
    let mut buffer = vec![0; 1 << 17];
    loop {
        let count = source.read(&mut buffer).map_err(tar_error)?;
        if count == 0 {
            return Ok(());
        }
        file.write_all(&buffer[..count])
            .map_err(StoreError::io("write", path))?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_in_the_archive() {
        let normal = |path: &str, parent| normal(path.as_bytes(), parent);
        assert_eq!(normal("./a//b/", ""), Some("a/b".to_owned()));
        assert_eq!(
            normal("../x/layer.tar", "y"),
            Some("x/layer.tar".to_owned())
        );
        assert_eq!(normal("/etc/passwd", "y"), Some("etc/passwd".to_owned()));
        assert_eq!(normal("../../etc/passwd", "y"), None);
        assert_eq!(normal(".", ""), None);
    }
}
