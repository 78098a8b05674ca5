//! Layers that don't last yet: those of build steps.
//!
//! Waiting for the disk after each step would take longer than many a step. So their layers, blobs and records are
//! published at once and made to last together, by one syncfs(2): at the end of the build, and before an image that has
//! such a layer is listed. Until then the layer's directory `layers/<hex>` has the sticky bit, from before it was moved to its
//! place (an inode has no life without its mode, whatever a power cut lets survive), and a file `boot` with the ID of the
//! running kernel.
//!
//! A mark of another boot tells of a power cut: nobody knows what the layer lacks, so it goes. Only when an image or a
//! container has the layer it is whole: it was synced before it was listed, and just the removal of the mark was lost.

use std::collections::HashSet;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{OnceLock, PoisonError};

use nix::unistd::syncfs;

use crate::atomic::{self, Durability};
use crate::digest::DiffId;
use crate::gc::Roots;
use crate::image::ImageError;
use crate::store::{Store, StoreError};
use crate::tree::remove_tree;

/// Of the directory of a layer that doesn't last yet: rwxr-xr-t.
const MARKED: u32 = 0o1755;
const STICKY: u32 = 0o1000;
const BOOT: &str = "boot";

/// What is known of a layer's directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lasting {
    /// There is no such layer.
    Absent,
    /// It survives a power cut.
    Yes,
    /// It will, after [`Store::sync_build`].
    NotYet,
    /// There was a power cut before it did.
    Lost,
}

/// Makes the directory of a layer that doesn't last yet.
pub(super) fn make_marked(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().mode(MARKED).create(dir)?;
    // The umask may have taken something.
    fs::set_permissions(dir, Permissions::from_mode(MARKED))?;
    atomic::fill(&dir.join(BOOT), boot_id().as_bytes(), Durability::None)
}

/// The kernel's name for the time since it was started.
fn boot_id() -> &'static str {
    static ID: OnceLock<String> = OnceLock::new();
    ID.get_or_init(|| {
        let id = fs::read_to_string("/proc/sys/kernel/random/boot_id");
        // Without /proc nothing runs; were it so, a mark would count as one of another boot, which loses only time.
        id.unwrap_or_default().trim_end().to_owned()
    })
}

impl Store {
    fn layer_top(&self, diff_id: &DiffId) -> PathBuf {
        self.path("layers").join(diff_id.0.hex())
    }

    pub(crate) fn lasting(&self, diff_id: &DiffId) -> Lasting {
        let dir = self.layer_top(diff_id);
        let Ok(meta) = fs::metadata(&dir) else {
            return Lasting::Absent;
        };
        if meta.permissions().mode() & STICKY == 0 {
            return Lasting::Yes;
        }
        match fs::read_to_string(dir.join(BOOT)) {
            Ok(id) if id == boot_id() && !id.is_empty() => Lasting::NotYet,
            // The mark was taken away in this moment.
            _ if fs::metadata(&dir).is_ok_and(|meta| meta.permissions().mode() & STICKY == 0) => {
                Lasting::Yes
            }
            _ => Lasting::Lost,
        }
    }

    /// Whether the layer is there and may be relied on, now that it is pinned. What a power cut has left of a layer is
    /// taken away.
    pub(crate) fn settle_layer(&self, diff_id: &DiffId) -> Result<bool, StoreError> {
        match self.lasting(diff_id) {
            Lasting::Absent => Ok(false),
            Lasting::Yes => Ok(self.has_layer(diff_id)),
            Lasting::NotYet => {
                self.note_unsynced(*diff_id);
                Ok(self.has_layer(diff_id))
            }
            Lasting::Lost => self.settle_lost(diff_id),
        }
    }

    fn settle_lost(&self, diff_id: &DiffId) -> Result<bool, StoreError> {
        let held = self.lock()?;
        // Somebody else may have done this while we waited.
        if self.lasting(diff_id) != Lasting::Lost {
            drop(held);
            return self.settle_layer(diff_id);
        }
        let dir = self.layer_top(diff_id);
        if Roots::listed(self).is_ok_and(|roots| roots.layers.contains(diff_id)) {
            clear_mark(&dir)?;
            return Ok(self.has_layer(diff_id));
        }
        let gone = self.temp_path("lost-layer")?;
        fs::rename(&dir, &gone).map_err(StoreError::io("remove", &dir))?;
        drop(held);
        // What can't be deleted now stays in the session's directory and is tried again by later ones.
        let _ = remove_tree(&gone);
        Ok(false)
    }

    pub(super) fn note_unsynced(&self, diff_id: DiffId) {
        let mut unsynced = self.unsynced.lock().unwrap_or_else(PoisonError::into_inner);
        unsynced.insert(diff_id);
    }

    /// Makes all that build steps have made last, with one wait for the disk; nothing is done when they have made nothing.
    /// Before a build is reported done, whether it has failed or not. [`Store::list_image`] does it for the layers of the image.
    ///
    /// # Errors
    /// When the disk fails: the layers stay marked.
    pub fn sync_build(&self) -> Result<(), StoreError> {
        let unsynced: HashSet<DiffId> = {
            let mut slot = self.unsynced.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *slot)
        };
        if unsynced.is_empty() {
            return Ok(());
        }
        let result = self.sync_layers(&unsynced);
        if result.is_err() {
            let mut slot = self.unsynced.lock().unwrap_or_else(PoisonError::into_inner);
            slot.extend(unsynced);
        }
        result
    }

    fn sync_layers(&self, unsynced: &HashSet<DiffId>) -> Result<(), StoreError> {
        let path = self.path("layers");
        let dir = File::open(&path).map_err(StoreError::io("open", &path))?;
        syncfs(&dir).map_err(|errno| StoreError::io("sync", &path)(errno.into()))?;
        for diff_id in unsynced {
            clear_mark(&self.layer_top(diff_id))?;
        }
        Ok(())
    }

    /// Makes the layers of an image last, before it is listed.
    pub(crate) fn sync_layers_of(
        &self,
        diff_ids: impl Iterator<Item = DiffId>,
    ) -> Result<(), ImageError> {
        let mut wanted = false;
        for diff_id in diff_ids {
            // Who calls has it pinned: one that was lost is missing now, which is told there.
            self.settle_layer(&diff_id)?;
            wanted |= self.lasting(&diff_id) == Lasting::NotYet;
        }
        if wanted {
            self.sync_build()?;
        }
        Ok(())
    }
}

/// That this is lost by a power cut does no harm.
fn clear_mark(dir: &Path) -> Result<(), StoreError> {
    match fs::set_permissions(dir, Permissions::from_mode(0o755)) {
        Ok(()) => {
            // It tells nothing without the mark.
            let _ = fs::remove_file(dir.join(BOOT));
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(StoreError::io("mark", dir)(source)),
    }
}
