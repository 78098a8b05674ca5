//! Cache mounts that travel: the directory of each as a tar.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek, SeekFrom};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::thread;

use super::{BuildCache, PortableMount};
use crate::cache::{CacheMountOrder, Sharing};
use crate::digest::DiffId;
use crate::layer::LayerBlob;
use crate::store::{Store, StoreError};
use crate::transfer::{BlobContent, Compression, TransferError};
use crate::tree::{self, PackOptions, UnpackOptions};

/// A file in `tmp/`, which goes when this is dropped.
pub(super) struct Packed {
    path: PathBuf,
    size: u64,
}

impl BlobContent for Packed {
    fn size(&self) -> u64 {
        self.size
    }

    fn open(&self, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Box::new(file))
    }
}

impl Drop for Packed {
    fn drop(&mut self) {
        // Else the session's end does it.
        let _ = fs::remove_file(&self.path);
    }
}

/// Packs what is in a cache mount, while nobody else writes to it. `None`: there is none of that id, or it is in use.
pub(super) fn pack(
    store: &Store,
    id: &str,
) -> Result<Option<(PortableMount, Packed)>, TransferError> {
    if !store.has_cache_mount(id) {
        return Ok(None);
    }
    let order = CacheMountOrder {
        id,
        sharing: Sharing::Locked,
        uid: 0,
        gid: 0,
        mode: 0o755,
        fill: None,
    };
    let Some(mount) = store.cache_mount(&order, &mut |_| ControlFlow::Break(()))? else {
        return Ok(None);
    };
    let path = store.temp_path("mount")?;
    let codec = Compression::Zstd.codec(None);
    let failed = |source| TransferError::Store(StoreError::io("pack", &mount.path)(source));
    let mut output = BufWriter::new(File::create(&path).map_err(failed)?);
    let (mut reader, mut writer) = io::pipe().map_err(failed)?;
    let (packed, made) = thread::scope(|scope| {
        let pack = scope.spawn(|| {
            let options = PackOptions::default();
            let packed = tree::pack(&mount.path, "/", &options, &mut writer);
            // The reader's end of file.
            drop(writer);
            packed
        });
        let made = codec.compress(&mut reader, &mut output);
        (pack.join(), made)
    });
    let packed = packed.map_err(|_| failed(io::Error::other("the packing thread died")))?;
    packed.map_err(|error| failed(io::Error::other(error)))?;
    let made = made.map_err(failed)?;
    output
        .into_inner()
        .map_err(|error| failed(error.into_error()))?;
    let mount = PortableMount {
        id: id.to_owned(),
        layer: LayerBlob {
            digest: made.digest,
            size: made.size,
            media_type: Compression::Zstd.layer_type().to_owned(),
            diff_id: DiffId(made.content),
        },
    };
    let size = made.size;
    Ok(Some((mount, Packed { path, size })))
}

impl BuildCache {
    /// Puts what the cache has for the cache mount `id` into the directory `into`. `false`: it has nothing. Needs ids.
    ///
    /// # Errors
    /// When it is damaged or missing, or can't be written.
    pub fn fill_mount(&self, store: &Store, id: &str, into: &Path) -> Result<bool, TransferError> {
        let Some(mount) = self.mounts.iter().find(|mount| mount.id == id) else {
            return Ok(false);
        };
        // It is no layer of an image, so it isn't unpacked as one.
        self.fetch_blob(store, &mount.layer, None)?;
        let failed = |source| TransferError::Store(StoreError::io("fill", into)(source));
        let blob = store.open_blob(&mount.layer.digest)?;
        let mut tar = mount.layer.decompressed(blob).map_err(failed)?;
        let unpacked = tree::unpack(into, "/", &mut tar, &UnpackOptions::default());
        unpacked.map_err(|error| failed(io::Error::other(error)))?;
        Ok(true)
    }
}
