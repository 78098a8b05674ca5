//! Blobs of the store on their way to a target, which verifies what it gets.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::BlobContent;
use super::compress::{Codec, Compressed};
use crate::digest::{DiffId, Digest};
use crate::layer::LayerBlob;
use crate::store::Store;

/// A document, which was verified when it was read.
pub(super) struct Bytes(pub(super) Vec<u8>);

impl BlobContent for Bytes {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn open(&self, offset: u64) -> io::Result<Box<dyn Read + Send + '_>> {
        let from = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(self.0.len());
        Ok(Box::new(io::Cursor::new(self.0[from..].to_vec())))
    }
}

/// A blob of the store as it is.
pub(super) struct Stored<'s> {
    pub(super) store: &'s Store,
    pub(super) digest: Digest,
    pub(super) size: u64,
}

impl BlobContent for Stored<'_> {
    fn size(&self) -> u64 {
        self.size
    }

    fn open(&self, offset: u64) -> io::Result<Box<dyn Read + Send + '_>> {
        let mut file = File::open(self.store.blob_path(&self.digest))?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Box::new(file))
    }
}

/// A layer of the store in another compression, which is made when somebody asks for its bytes, once.
pub(super) struct Repacked<'s> {
    pub(super) store: &'s Store,
    pub(super) layer: &'s LayerBlob,
    pub(super) codec: Codec,
    /// Only one layer is compressed at a time, on all cores.
    pub(super) turn: &'s Mutex<()>,
    /// What it was when it was made before.
    pub(super) known: Option<(Digest, u64)>,
    made: Mutex<Option<(PathBuf, Compressed)>>,
    /// It has become something else than what was known.
    changed: AtomicBool,
}

impl<'s> Repacked<'s> {
    pub(super) fn new(
        store: &'s Store,
        layer: &'s LayerBlob,
        codec: Codec,
        turn: &'s Mutex<()>,
    ) -> Self {
        let known = store.text_memo(&codec.name(), &layer.diff_id.0);
        let known = known.and_then(|text| {
            let (hex, size) = text.split_once('-')?;
            Some((Digest::from_hex(hex).ok()?, size.parse().ok()?))
        });
        Self {
            store,
            layer,
            codec,
            turn,
            known,
            made: Mutex::default(),
            changed: AtomicBool::new(false),
        }
    }

    /// Digest and size; the bytes are made now, if they are not known.
    pub(super) fn identity(&self) -> io::Result<(Digest, u64)> {
        if let Some(known) = self.known {
            return Ok(known);
        }
        let (_, made) = self.make()?;
        Ok((made.digest, made.size))
    }

    /// Whether the bytes aren't those that were known: forget them and begin anew.
    pub(super) fn has_changed(&self) -> bool {
        self.changed.load(Ordering::Relaxed)
    }

    fn make(&self) -> io::Result<(PathBuf, Compressed)> {
        let mut slot = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((path, made)) = &*slot {
            return Ok((path.clone(), *made));
        }
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.store.temp_path("packed").map_err(io::Error::other)?;
        let mut output = BufWriter::with_capacity(1 << 20, File::create(&path)?);
        let mut input = self.tar()?;
        let made = self.codec.compress(&mut *input, &mut output)?;
        if DiffId(made.content) != self.layer.diff_id {
            let text = format!(
                "wrong digest of the tar: want {}, have {}",
                self.layer.diff_id, made.content
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let text = format!("{}-{}", made.digest.hex(), made.size);
        // Else it is made again the next time.
        let name = self.codec.name();
        let _ = self
            .store
            .set_text_memo(&name, &self.layer.diff_id.0, &text);
        *slot = Some((path.clone(), made));
        Ok((path, made))
    }

    fn tar(&self) -> io::Result<Box<dyn Read + Send>> {
        let file = File::open(self.store.blob_path(&self.layer.digest))?;
        self.layer.decompressed(file)
    }
}

impl BlobContent for Repacked<'_> {
    fn size(&self) -> u64 {
        match (
            &self.known,
            &*self.made.lock().unwrap_or_else(PoisonError::into_inner),
        ) {
            (Some((_, size)), _) => *size,
            (None, Some((_, made))) => made.size,
            (None, None) => 0,
        }
    }

    fn open(&self, offset: u64) -> io::Result<Box<dyn Read + Send + '_>> {
        let (path, made) = self.make()?;
        if self
            .known
            .is_some_and(|known| known != (made.digest, made.size))
        {
            self.changed.store(true, Ordering::Relaxed);
            return Err(io::Error::other(
                "the layer is compressed to other bytes than before",
            ));
        }
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Box::new(file))
    }
}

impl Drop for Repacked<'_> {
    fn drop(&mut self) {
        let made = self.made.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some((path, _)) = made {
            // Else the session's end does it.
            let _ = std::fs::remove_file(path);
        }
    }
}
