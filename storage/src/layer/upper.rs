//! A layer of an overlay's upper directory: `commit`, and a build step.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::thread;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::fstatat;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::add::{Lasts, Staging, join, spawn_hash, write_blob};
use super::channel::{Fan, FanWriter};
use super::diff::{Format, Times, is_placeholder, write_upper};
use super::{Expected, LayerBlob, LayerError, MEDIA_TYPE, StoreAs};
use crate::atomic::Durability;
use crate::digest::{DiffId, Digest};
use crate::session::Pin;
use crate::store::Store;
use crate::tree::{self, TreeError};

/// What becomes of an upper directory that is made a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepUpper {
    /// It stays; the layer is a copy.
    Copy,
    /// It becomes the layer, and is gone from its place. Times lose their fractions of seconds, as in the tar.
    Move,
}

impl Store {
    /// Makes a layer of an upper directory that nobody writes to: the tar, stored as a plain blob, and the unpacked
    /// layer. A moved one survives a power cut after [`Store::sync_build`]. `placeholders` are paths (`etc/hosts`) at which an empty file is only there for something to be mounted on:
    /// it is left out. Blob and layer are pinned until the store is dropped. Needs ids.
    ///
    /// # Errors
    /// When something can't be read or written. The upper directory is as it was then, but for times.
    pub fn add_upper(
        &self,
        upper: &Path,
        keep: KeepUpper,
        placeholders: &[&str],
    ) -> Result<LayerBlob, LayerError> {
        match keep {
            KeepUpper::Copy => self.copy_upper(upper, placeholders),
            KeepUpper::Move => {
                for place in placeholders {
                    remove_placeholder(upper, place)?;
                }
                self.move_upper(upper)
            }
        }
    }

    fn copy_upper(&self, upper: &Path, placeholders: &[&str]) -> Result<LayerBlob, LayerError> {
        let mut fan = Fan::default();
        let tar = fan.reader();
        thread::scope(|scope| {
            let packing = scope.spawn(move || pack(upper, fan, Times::Keep, placeholders));
            let added = self.add_layer(tar, &Expected::default(), StoreAs::Verbatim);
            match (join(packing), added) {
                // It stopped because the other did.
                (Err(error), Err(added)) if is_hang_up(&error) => Err(added),
                (Err(error), _) => Err(error),
                (Ok(_), added) => added,
            }
        })
    }

    fn move_upper(&self, upper: &Path) -> Result<LayerBlob, LayerError> {
        let staging = Staging::create(self, Lasts::AfterSync)?;
        let blob = staging.blob();
        let Packed {
            format,
            digest,
            size,
        } = match is_small(upper) {
            true => pack_small(upper, &blob)?,
            false => pack_large(upper, &blob, Times::WholeSeconds)?,
        };
        let diff_id = DiffId(digest);
        self.pin(&[Pin::Layer(diff_id)])?;
        let moved = format == Format::Native
            && !self.settle_layer(&diff_id)?
            && take_place(upper, &staging)?;
        self.publish_blob_as(&blob, &digest, Durability::None)?;
        if moved {
            self.publish_layer(&staging, &diff_id)?;
        } else {
            self.unpack_blob(diff_id)?;
            remove(upper)?;
        }
        Ok(LayerBlob {
            digest,
            size,
            media_type: MEDIA_TYPE.to_owned(),
            diff_id,
        })
    }

    /// Unpacks a blob that is a plain tar, if its layer isn't there.
    fn unpack_blob(&self, diff_id: DiffId) -> Result<(), LayerError> {
        if self.settle_layer(&diff_id)? {
            return Ok(());
        }
        let path = self.blob_path(&diff_id.0);
        let file = File::open(&path).map_err(LayerError::io("read", path))?;
        let expected = Expected {
            digest: Some(diff_id.0),
            diff_id: Some(diff_id),
            size: None,
        };
        self.add_layer(file, &expected, StoreAs::Verbatim).map(drop)
    }
}

/// A mount point of ours is an empty file; what isn't that, or is behind a link, stays.
fn remove_placeholder(upper: &Path, place: &str) -> Result<(), LayerError> {
    let root = tree::open_root(upper).map_err(|source| LayerError::Pack {
        upper: upper.to_owned(),
        source,
    })?;
    let failed = |errno: Errno| LayerError::io("remove", upper.join(place))(errno);
    let (dir, name) = tree::beneath::split(place.as_bytes());
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    let Ok(dir) = openat2(&root, dir, how) else {
        return Ok(());
    };
    match fstatat(&dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) if is_placeholder(&stat) => {
            unlinkat(&dir, name, UnlinkatFlags::NoRemoveDir).map_err(failed)
        }
        Ok(_) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(failed(errno)),
    }
}

/// A tar in a file.
pub(super) struct Packed {
    pub(super) format: Format,
    pub(super) digest: Digest,
    pub(super) size: u64,
}

/// Bytes and files up to which starting threads costs more than they save.
const SMALL_BYTES: u64 = 256 << 10;
const SMALL_FILES: usize = 64;

/// Whether little is in the upper directory. Nothing else than that is asked of the answer: what can't be read is told later.
#[must_use]
pub fn is_small(upper: &Path) -> bool {
    let (mut files, mut bytes) = (0, 0);
    let mut waiting = vec![upper.to_owned()];
    while let Some(dir) = waiting.pop() {
        let Ok(entries) = fs::read_dir(dir) else {
            return false;
        };
        for entry in entries {
            // Neither follows links.
            let Some((path, meta)) = entry
                .ok()
                .and_then(|e| Some((e.path(), e.metadata().ok()?)))
            else {
                return false;
            };
            files += 1;
            bytes += meta.len();
            if files > SMALL_FILES || bytes > SMALL_BYTES {
                return false;
            }
            if meta.is_dir() {
                waiting.push(path);
            }
        }
    }
    true
}

fn pack_small(upper: &Path, blob: &Path) -> Result<Packed, LayerError> {
    let mut tar = Vec::new();
    let format = write_upper(upper, &mut tar, Times::WholeSeconds, &[]);
    let format = format.map_err(|source| LayerError::Pack {
        upper: upper.to_owned(),
        source,
    })?;
    fs::write(blob, &tar).map_err(LayerError::io("write", blob))?;
    Ok(Packed {
        format,
        digest: Digest::of(&tar),
        size: tar.len() as u64,
    })
}

/// Packs, hashes and writes at once.
pub(super) fn pack_large(upper: &Path, blob: &Path, times: Times) -> Result<Packed, LayerError> {
    let mut fan = Fan::default();
    let (tar, hashed) = (fan.reader(), fan.reader());
    let (packed, written, digest) = thread::scope(|scope| {
        let hash = spawn_hash(scope, hashed);
        let write = scope.spawn(|| write_blob(blob, tar));
        let packed = pack(upper, fan, times, &[]);
        (packed, join(write), join(hash))
    });
    let (format, size) = match (packed, written) {
        // It stopped because the other did.
        (Err(error), Err(written)) if is_hang_up(&error) => return Err(written),
        (packed, written) => (packed?, written?),
    };
    Ok(Packed {
        format,
        digest: digest.map_err(|source| LayerError::Read { source })?,
        size,
    })
}

fn pack(upper: &Path, fan: Fan, times: Times, placeholders: &[&str]) -> Result<Format, LayerError> {
    let mut out = FanWriter::new(fan);
    let failed = |source| LayerError::Pack {
        upper: upper.to_owned(),
        source,
    };
    let format = write_upper(upper, &mut out, times, placeholders).map_err(failed)?;
    out.finish()
        .map_err(|source| failed(TreeError::Write { source }))?;
    Ok(format)
}

/// Whether packing failed only because the reader of the tar has hung up.
fn is_hang_up(error: &LayerError) -> bool {
    matches!(error, LayerError::Pack { source: TreeError::Write { source }, .. }
        if source.kind() == io::ErrorKind::BrokenPipe)
}

/// Makes the upper directory the staged layer. `false`: it is on another file system.
pub(super) fn take_place(upper: &Path, staging: &Staging) -> Result<bool, LayerError> {
    // An empty directory is there, which rename(2) replaces.
    match fs::rename(upper, staging.fs()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => Ok(false),
        Err(source) => Err(LayerError::io("move", upper)(source)),
    }
}

fn remove(upper: &Path) -> Result<(), LayerError> {
    tree::remove_tree(upper).map_err(LayerError::io("remove", upper))
}
