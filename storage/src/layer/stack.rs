//! What a name is in a stack of layers: the directories of the layers that make up one directory, top first.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::overlay;
use crate::tree::TreeError;

/// What [`lookup`] has found.
#[derive(Default)]
pub(super) struct Below {
    /// Where it is, and what.
    pub(super) top: Option<(PathBuf, fs::Metadata)>,
    /// When it is a directory: all that are merged.
    pub(super) dirs: Vec<PathBuf>,
}

/// What `name` is in the directories `dirs` of the layers, top first.
pub(super) fn lookup(dirs: &[PathBuf], name: &OsStr) -> Result<Below, TreeError> {
    let mut below = Below::default();
    for dir in dirs {
        let path = dir.join(name);
        let meta = match fs::symlink_metadata(&path) {
            Ok(meta) => meta,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(host_error(&path)(error)),
        };
        if is_whiteout_at(&path, &meta)? || below.top.is_some() && !meta.is_dir() {
            break;
        }
        let is_dir = meta.is_dir();
        below.top.get_or_insert_with(|| (path.clone(), meta));
        if !is_dir {
            break;
        }
        let opaque = File::open(&path)
            .and_then(|dir| Ok(overlay::is_opaque(&dir)?))
            .map_err(host_error(&path))?;
        below.dirs.push(path);
        if opaque {
            break;
        }
    }
    Ok(below)
}

/// All names in the directories, those that are hidden by whiteouts too: ask [`lookup`].
pub(super) fn names(dirs: &[PathBuf]) -> Result<BTreeSet<OsString>, TreeError> {
    let mut names = BTreeSet::new();
    for dir in dirs {
        for entry in fs::read_dir(dir).map_err(host_error(dir))? {
            names.insert(entry.map_err(host_error(dir))?.file_name());
        }
    }
    Ok(names)
}

fn is_whiteout_at(path: &Path, meta: &fs::Metadata) -> Result<bool, TreeError> {
    if meta.file_type().is_char_device() && meta.rdev() == 0 {
        return Ok(true);
    }
    if !meta.is_file() || meta.len() > 0 {
        return Ok(false);
    }
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(false);
    };
    File::open(dir)
        .and_then(|dir| Ok(overlay::is_whiteout(dir.as_fd(), name)?))
        .map_err(host_error(path))
}

/// For `map_err`: a path of the host couldn't be read.
pub(super) fn host_error(path: &Path) -> impl FnOnce(io::Error) -> TreeError {
    let path = path.to_owned();
    move |source| TreeError::Io {
        operation: "read",
        path,
        source,
    }
}
