//! The copying.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::openat;
use nix::sys::stat::{Mode, SFlag};
use nix::unistd::syncfs;

use crate::atomic::{self, Durability};
use crate::layer::{LayerError, overlay};
use crate::store::Store;
use crate::tree::place::{Owner, Placer, Target};
use crate::tree::walk::{DIRECTORY, Found, Walk};
use crate::tree::{Copier, TreeError, open_root, remove_tree};

impl Store {
    /// Copies the layers `lowers` (top first) over each other to `to`, on the store's file system, unless that is
    /// there: it is only once it is complete. Files share their blocks with the layers where the file system can.
    ///
    /// Needs ids.
    ///
    /// # Errors
    /// When something can't be read or written; `to` isn't there then.
    pub fn flatten(
        &self,
        lowers: &[PathBuf],
        to: &Path,
        durability: Durability,
    ) -> Result<(), LayerError> {
        if fs::symlink_metadata(to).is_ok() {
            return Ok(());
        }
        let temp = self.temp_path("flat")?;
        let filled = fill_and_publish(lowers, &temp, to, durability);
        // Who was slower than another has all of it left. What can't be removed, the next session removes.
        let _ = remove_tree(&temp);
        filled
    }
}

fn fill_and_publish(
    lowers: &[PathBuf],
    temp: &Path,
    to: &Path,
    durability: Durability,
) -> Result<(), LayerError> {
    let (flat, mark) = (temp.join("fs"), temp.join("filled"));
    fs::create_dir(temp).map_err(LayerError::io("create", temp))?;
    fs::create_dir(&flat).map_err(LayerError::io("create", &flat))?;
    fs::set_permissions(&flat, Permissions::from_mode(0o755))
        .map_err(LayerError::io("create", &flat))?;
    fill(lowers, &flat).map_err(|source| LayerError::Flatten {
        dir: to.to_owned(),
        source,
    })?;
    if durability == Durability::Fsync {
        let file = File::open(&flat).map_err(LayerError::io("write", &flat))?;
        syncfs(&file).map_err(LayerError::io("write", &flat))?;
    }
    // Its time must be before anybody can change the copy, so it is made before that has its place.
    File::create(&mark).map_err(LayerError::io("create", &mark))?;
    match fs::rename(&flat, to) {
        Ok(()) => {}
        // Somebody was faster, and may use it by now.
        Err(error) if is_taken(&error) => return Ok(()),
        Err(source) => return Err(LayerError::io("create", to)(source)),
    }
    let place = mark_of(to);
    fs::rename(&mark, &place).map_err(LayerError::io("create", &place))?;
    if let (Durability::Fsync, Some(dir)) = (durability, to.parent()) {
        atomic::sync_dir(dir)?;
    }
    Ok(())
}

fn is_taken(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOTEMPTY | libc::EEXIST))
}

fn mark_of(flat: &Path) -> PathBuf {
    flat.with_extension("filled")
}

/// Seconds and nanoseconds: nothing in `flat` that was changed by others has an earlier time of change. Where the mark
/// is missing, everything may have been.
pub(super) fn filled_at(flat: &Path) -> (i64, i64) {
    fs::symlink_metadata(mark_of(flat))
        .map_or((i64::MIN, 0), |meta| (meta.mtime(), meta.mtime_nsec()))
}

fn fill(lowers: &[PathBuf], flat: &Path) -> Result<(), TreeError> {
    let placer = Placer::new(open_root(flat)?, Target::Layer, Owner::OfEntry);
    let mut copier = Copier::new(placer);
    for layer in lowers.iter().rev() {
        put_over(layer, &mut copier)?;
    }
    copier.placer.finish()
}

/// One layer over those below it.
fn put_over(layer: &Path, copier: &mut Copier) -> Result<(), TreeError> {
    let root = open_root(layer)?;
    copier.top(&root)?;
    let mut walk = Walk::new(root)?;
    while let Some(found) = walk.next()? {
        if is_whiteout(&found)? {
            copier.placer.remove(found.path)?;
            continue;
        }
        if overlay::kind(&found.stat) == SFlag::S_IFDIR && is_opaque(&found)? {
            copier.placer.remove(found.path)?;
        }
        if let Some(fd) = copier.copy(&found)? {
            walk.descend(fd)?;
        }
    }
    Ok(())
}

pub(super) fn is_whiteout(found: &Found<'_>) -> Result<bool, TreeError> {
    Ok(overlay::is_whiteout_device(&found.stat)
        || overlay::is_whiteout_file(found.dir, found.name, &found.stat)
            .map_err(TreeError::io("read", found.path))?)
}

pub(super) fn is_opaque(found: &Found<'_>) -> Result<bool, TreeError> {
    let look = || -> Result<bool, Errno> {
        let fd: OwnedFd = openat(found.dir, found.name, DIRECTORY, Mode::empty())?;
        overlay::is_opaque(&fd)
    };
    look().map_err(TreeError::io("read", found.path))
}
