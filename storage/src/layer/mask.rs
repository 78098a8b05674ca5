//! A mask: a layer of nothing but whiteouts, which hides parts of a directory below it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;

use super::{LayerError, overlay};
use crate::tree;

/// Makes the directory `mask`, which hides the paths `hidden` (relative) when it is a layer over the directory `below`.
/// Directories above them look as they do in `below`. Needs ids.
///
/// # Errors
/// When something can't be read or made.
pub fn make(mask: &Path, below: &Path, hidden: &[PathBuf]) -> Result<(), LayerError> {
    let mut dirs = BTreeSet::from([PathBuf::new()]);
    for path in hidden {
        dirs.extend(path.ancestors().skip(1).map(Path::to_owned));
    }
    // Sorted, so parents come first.
    for dir in &dirs {
        let dir = mask.join(dir);
        fs::create_dir(&dir).map_err(LayerError::io("create", dir))?;
    }
    for path in hidden {
        hide(&mask.join(path)).map_err(LayerError::io("create", mask.join(path)))?;
    }
    for dir in dirs.iter().rev() {
        dress(&mask.join(dir), &below.join(dir))
            .map_err(LayerError::io("create", mask.join(dir)))?;
    }
    Ok(())
}

fn hide(path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let dir = tree::open_root(parent).map_err(io::Error::other)?;
    Ok(overlay::make_whiteout(
        std::os::fd::AsFd::as_fd(&dir),
        name,
    )?)
}

/// Gives the directory owner, mode and times of another.
fn dress(dir: &Path, like: &Path) -> io::Result<()> {
    let meta = fs::symlink_metadata(like)?;
    chown(dir, Some(meta.uid()), Some(meta.gid()))?;
    fs::set_permissions(dir, meta.permissions())?;
    let (accessed, modified) = (
        TimeSpec::new(meta.atime(), meta.atime_nsec()),
        TimeSpec::new(meta.mtime(), meta.mtime_nsec()),
    );
    let flag = UtimensatFlags::NoFollowSymlink;
    Ok(utimensat(AT_FDCWD, dir, &accessed, &modified, flag)?)
}
