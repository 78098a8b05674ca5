//! Several layers as one.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::stat::SFlag;

use super::fill::{is_opaque, is_whiteout};
use super::take::{make_opaque, make_whiteout};
use crate::layer::stack::lookup;
use crate::layer::{KeepUpper, LayerBlob, LayerError, overlay};
use crate::store::Store;
use crate::tree::place::{Owner, Placer, Target};
use crate::tree::walk::Walk;
use crate::tree::{Copier, TreeError, open_root};

impl Store {
    /// Makes one layer that does to the layers `base` what the layers `new` do, one after the other; both top first. What
    /// `new` adds and takes away again isn't in it. It is pinned as that of [`add_upper`](Self::add_upper) is. Needs ids.
    ///
    /// # Errors
    /// When something can't be read or written.
    pub fn squash(&self, new: &[PathBuf], base: &[PathBuf]) -> Result<LayerBlob, LayerError> {
        let upper = self.temp_path("squash")?;
        fs::create_dir(&upper).map_err(LayerError::io("create", &upper))?;
        merge(new, base, &upper).map_err(|source| LayerError::Pack {
            upper: upper.clone(),
            source,
        })?;
        self.add_upper(&upper, KeepUpper::Move, &[])
    }
}

fn merge(new: &[PathBuf], base: &[PathBuf], upper: &Path) -> Result<(), TreeError> {
    let placer = Placer::new(open_root(upper)?, Target::Layer, Owner::OfEntry);
    let mut copier = Copier::new(placer);
    for layer in new.iter().rev() {
        put_over(layer, base, &mut copier)?;
    }
    copier.placer.finish()
}

fn put_over(layer: &Path, base: &[PathBuf], copier: &mut Copier) -> Result<(), TreeError> {
    let root = open_root(layer)?;
    copier.top(&root)?;
    let mut walk = Walk::new(root)?;
    while let Some(found) = walk.next()? {
        if is_whiteout(&found)? {
            copier.placer.remove(found.path)?;
            if is_there(base, found.path)? {
                make_whiteout(&mut copier.placer, found.path)?;
            }
            continue;
        }
        let hides = overlay::kind(&found.stat) == SFlag::S_IFDIR && is_opaque(&found)?;
        if hides {
            copier.placer.remove(found.path)?;
        }
        if let Some(fd) = copier.copy(&found)? {
            if hides && is_there(base, found.path)? {
                make_opaque(&mut copier.placer, found.path)?;
            }
            walk.descend(fd)?;
        }
    }
    Ok(())
}

/// Whether the layers have something at the path.
fn is_there(layers: &[PathBuf], path: &[u8]) -> Result<bool, TreeError> {
    let mut dirs = layers.to_vec();
    let mut names = path.split(|byte| *byte == b'/').peekable();
    while let Some(name) = names.next() {
        let below = match lookup(&dirs, OsStr::from_bytes(name)) {
            Ok(below) => below,
            // A path this long is in no layer by name: to say that it is there only costs a whiteout.
            Err(TreeError::Io { source, .. })
                if source.raw_os_error() == Some(Errno::ENAMETOOLONG as i32) =>
            {
                return Ok(true);
            }
            Err(error) => return Err(error),
        };
        if names.peek().is_none() {
            return Ok(below.top.is_some());
        }
        dirs = below.dirs;
    }
    Ok(false)
}
