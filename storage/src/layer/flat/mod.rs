//! Flat copies of a stack of layers: the root file system of a container where nothing can be mounted.
//!
//! ```text
//! containers/<id>/merged          the layers copied one over the other; there once it is complete
//! containers/<id>/merged.filled   made when the copying was done, before the container could change anything
//! tmp/<session>/flat-N/           both, under way
//! ```
//!
//! Nobody notes what the container changes: [`compare`] finds it by holding the copy against the layers. Owner, mode,
//! size and time of modification tell nearly always; what is the same in these and was touched after `merged.filled`
//! (the time of change, which nobody can set back) is looked into. [`take`] then makes an upper directory of it, in
//! overlay's own format, so that from there on all drivers go the same way.

mod compare;
mod fill;
mod squash;
mod take;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use super::LayerError;
use super::diff::Change;
use crate::tree::TreeError;

/// What the container has changed in `flat`, its copy of the layers `lowers` (top first): as
/// [`diff::changes`](super::diff::changes). Nothing, when the copy was never made.
///
/// Needs ids.
///
/// # Errors
/// When something can't be read.
pub fn changes(flat: &Path, lowers: &[PathBuf]) -> Result<Vec<Change>, LayerError> {
    let comparison = compare::compare(flat, lowers).map_err(failed(flat))?;
    Ok(comparison.changes.sorted())
}

/// Bytes of what the container has written in `flat`, as [`tree::size`](crate::tree::size) counts them. Needs ids.
///
/// # Errors
/// When something can't be read.
pub fn size(flat: &Path, lowers: &[PathBuf]) -> Result<u64, LayerError> {
    let comparison = compare::compare(flat, lowers).map_err(failed(flat))?;
    Ok(comparison.bytes)
}

fn failed(flat: &Path) -> impl FnOnce(TreeError) -> LayerError {
    let upper = flat.to_owned();
    move |source| LayerError::Compare { upper, source }
}
