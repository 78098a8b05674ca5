//! A layer that others stand on before its digest is known: packing and hashing happen beside what comes next.
//!
//! ```text
//! settle_upper     upper ─▶ tmp/…/unpacked/fs    what it is will not change any more: it may be mounted as a layer
//! pack_settled     ─▶ tar, digest                 in another thread
//! publish_settled  tmp/…/unpacked ─▶ layers/<hex> by rename: what is mounted stays mounted, paths don't stay
//! ```

use std::path::{Path, PathBuf};

use nix::fcntl::openat;
use nix::sys::stat::{Mode, SFlag};

use super::add::{Lasts, Staging};
use super::diff::{self, Format, Times};
use super::upper::{Packed, pack_large, take_place};
use super::{LayerBlob, LayerError, MEDIA_TYPE, overlay};
use crate::atomic::Durability;
use crate::digest::DiffId;
use crate::session::Pin;
use crate::store::Store;
use crate::tree::walk::{DIRECTORY, Walk};
use crate::tree::{TreeError, open_root};

/// A directory that is a layer, but for its name. Dropped, it is deleted, unless it has become the layer: not before all
/// that have it mounted are done, for it may be that the same layer was there already.
pub struct SettledUpper {
    staging: Staging,
}

/// Its tar.
pub struct PackedUpper(Packed);

impl SettledUpper {
    /// Where it is until it is published.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.staging.fs()
    }
}

impl Store {
    /// Takes an upper directory that nobody writes to, and makes it what the layer will be: times lose their fractions of
    /// seconds. `None`: it has to be made a layer by [`Store::add_upper`], for it isn't in the kernel's own format, or on
    /// another file system. Needs ids.
    ///
    /// # Errors
    /// When something can't be read or written.
    pub fn settle_upper(&self, upper: &Path) -> Result<Option<SettledUpper>, LayerError> {
        let native = settle(upper).map_err(|source| LayerError::Pack {
            upper: upper.to_owned(),
            source,
        })?;
        if !native {
            return Ok(None);
        }
        let staging = Staging::create(self, Lasts::AfterSync)?;
        Ok(take_place(upper, &staging)?.then_some(SettledUpper { staging }))
    }

    /// Packs and hashes it.
    ///
    /// # Errors
    /// When something can't be read or written.
    pub fn pack_settled(&self, upper: &SettledUpper) -> Result<PackedUpper, LayerError> {
        let packed = pack_large(&upper.path(), &upper.staging.blob(), Times::Keep)?;
        match packed.format {
            Format::Native => Ok(PackedUpper(packed)),
            // Whoever has written to it since it was settled breaks more than this.
            Format::Named => Err(LayerError::Pack {
                upper: upper.path(),
                source: TreeError::io("pack", b"")(nix::errno::Errno::ESTALE),
            }),
        }
    }

    /// Makes it the layer, which survives a power cut after [`Store::sync_build`]. Blob and layer are pinned until the store
    /// is dropped. From here on the layer's own path is to be used.
    ///
    /// # Errors
    /// When it can't be moved.
    pub fn publish_settled(
        &self,
        upper: &SettledUpper,
        packed: &PackedUpper,
    ) -> Result<LayerBlob, LayerError> {
        let Packed { digest, size, .. } = packed.0;
        let diff_id = DiffId(digest);
        self.pin(&[Pin::Layer(diff_id)])?;
        self.publish_blob_as(&upper.staging.blob(), &digest, Durability::None)?;
        self.publish_layer(&upper.staging, &diff_id)?;
        Ok(LayerBlob {
            digest,
            size,
            media_type: MEDIA_TYPE.to_owned(),
            diff_id,
        })
    }
}

/// Cuts the times of everything. `false`: some whiteouts are names, which the kernel doesn't understand.
fn settle(upper: &Path) -> Result<bool, TreeError> {
    let mut walk = Walk::new(open_root(upper)?)?;
    while let Some(found) = walk.next()? {
        if diff::is_mark(found.name) {
            return Ok(false);
        }
        diff::cut_time(&found, Times::WholeSeconds)?;
        if overlay::kind(&found.stat) == SFlag::S_IFDIR {
            let fd = openat(found.dir, found.name, DIRECTORY, Mode::empty())
                .map_err(TreeError::io("read", found.path))?;
            walk.descend(fd)?;
        }
    }
    Ok(true)
}
