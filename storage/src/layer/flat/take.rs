//! An upper directory of what a container has changed in its copy of the layers.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::compare::{Comparison, compare};
use super::failed;
use crate::layer::diff::ChangeKind;
use crate::layer::unpack::readable;
use crate::layer::{LayerError, overlay};
use crate::store::Store;
use crate::tree::beneath::{Missing, split};
use crate::tree::place::{Owner, Placer, Target};
use crate::tree::walk::Walk;
use crate::tree::{Copier, TreeError, open_root};

impl Store {
    /// Makes an upper directory, in overlay's format, of what the container has changed in `flat`, its copy of the
    /// layers `lowers` (top first): for [`add_upper`](Self::add_upper) with `KeepUpper::Move`. It is in `tmp/`.
    ///
    /// Needs ids.
    ///
    /// # Errors
    /// When something can't be read or written.
    pub fn upper_of_flat(&self, flat: &Path, lowers: &[PathBuf]) -> Result<PathBuf, LayerError> {
        let upper = self.temp_path("upper")?;
        fs::create_dir(&upper).map_err(LayerError::io("create", &upper))?;
        let comparison = compare(flat, lowers).map_err(failed(flat))?;
        if comparison.changes.iter().next().is_some() {
            take(flat, &upper, &comparison).map_err(|source| LayerError::Pack {
                upper: flat.to_owned(),
                source,
            })?;
        }
        Ok(upper)
    }
}

fn take(flat: &Path, upper: &Path, comparison: &Comparison) -> Result<(), TreeError> {
    let placer = Placer::new(open_root(upper)?, Target::Layer, Owner::OfEntry);
    let mut copier = Copier::new(placer);
    let root = open_root(flat)?;
    copier.top(&root)?;
    let mut walk = Walk::new(root)?;
    while let Some(found) = walk.next()? {
        // Directories with changes below are changed themselves.
        if comparison.changes.get(found.path).is_none() {
            continue;
        }
        if let Some(fd) = copier.copy(&found)? {
            if comparison.replacing.contains(found.path) {
                make_opaque(&mut copier.placer, found.path)?;
            }
            walk.descend(fd)?;
        }
    }
    for (path, kind) in comparison.changes.iter() {
        if kind == ChangeKind::Deleted {
            make_whiteout(&mut copier.placer, path)?;
        }
    }
    copier.placer.finish()
}

pub(super) fn make_opaque(placer: &mut Placer, path: &[u8]) -> Result<(), TreeError> {
    let failed = || TreeError::io("make opaque", path);
    let dir = placer.tree.directory(path, Missing::Fail)?;
    let fd = readable(dir, OsStr::new(".")).map_err(failed())?;
    overlay::set_opaque(&fd).map_err(failed())
}

pub(super) fn make_whiteout(placer: &mut Placer, path: &[u8]) -> Result<(), TreeError> {
    let (dir, name) = split(path);
    let parent = placer.tree.directory(dir, Missing::Create)?;
    match overlay::make_whiteout(parent, name) {
        // Made anew by the running container between our two looks.
        Err(Errno::EEXIST) => Ok(()),
        other => other.map_err(TreeError::io("make the whiteout of", path)),
    }
}
