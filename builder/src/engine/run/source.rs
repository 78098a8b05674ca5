//! Where the files of a mount come from: layers, or a context without what its rules exclude.

use std::fs;
use std::path::{Path, PathBuf};

use rctr_storage::layer::mask;

use super::RunError;
use crate::context::{Context, Ignore};

/// Where the files of a mount come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Directories, top first: those of a stage or image, or that of a context, perhaps below a mask. Empty: an empty
    /// directory.
    pub layers: Vec<PathBuf>,
    /// As messages name it: `the build context`, `stage builder`.
    pub shown: String,
}

impl Source {
    /// A context. What its rules exclude is hidden by a layer of whiteouts, made at `place` (on the store's file system,
    /// where nothing is yet) if there is anything to hide: nothing is copied. It serves all steps of a build.
    ///
    /// # Errors
    /// When a directory of the context can't be read.
    pub fn context(context: &Context, shown: &str, place: &Path) -> Result<Self, RunError> {
        let mut hidden = Vec::new();
        if !context.ignore.is_empty() {
            collect(&context.root, Path::new(""), &context.ignore, &mut hidden)?;
        }
        let mut layers = vec![context.root.clone()];
        if !hidden.is_empty() {
            mask::make(place, &context.root, &hidden).map_err(RunError::Layer)?;
            layers.insert(0, place.to_owned());
        }
        Ok(Self {
            layers,
            shown: shown.to_owned(),
        })
    }
}

/// Adds what is excluded in the directory `dir` of the context; tells whether anything else is in it.
fn collect(
    root: &Path,
    dir: &Path,
    ignore: &Ignore,
    hidden: &mut Vec<PathBuf>,
) -> Result<bool, RunError> {
    let full = root.join(dir);
    let mut shows = false;
    for entry in fs::read_dir(&full).map_err(RunError::io("read", &full))? {
        let entry = entry.map_err(RunError::io("read", &full))?;
        let path = dir.join(entry.file_name());
        let kind = entry.file_type();
        let is_dir = kind
            .map_err(RunError::io("read", root.join(&path)))?
            .is_dir();
        let excluded = ignore.excludes(&path, is_dir);
        let known = hidden.len();
        // An excluded directory is there if something below it is.
        let shown = match (excluded, is_dir) {
            (false, true) => {
                collect(root, &path, ignore, hidden)?;
                true
            }
            (true, true) if ignore.may_reinclude_below(&path) => {
                collect(root, &path, ignore, hidden)?
            }
            (excluded, _) => !excluded,
        };
        if !shown {
            hidden.truncate(known);
            hidden.push(path);
        }
        shows |= shown;
    }
    Ok(shows)
}
