//! WORKDIR: the directory is made when it is missing.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rctr_storage::layer::merged::Merged;

use super::CopyError;
use super::owner;
use super::resolve::Resolved;
use super::target::Target;
use crate::plan::WorkdirStep;

/// Which directory where.
pub struct WorkdirOrder<'a> {
    /// The step.
    pub step: &'a WorkdirStep,
    /// The layers below, top first.
    pub lowers: &'a [PathBuf],
    /// An empty directory, which becomes the layer.
    pub upper: PathBuf,
    /// `SOURCE_DATE_EPOCH`: no time is later.
    pub epoch: Option<i64>,
}

/// Makes the directory and its parents, 0755 and USER's as BuildKit does; one that is there stays as it is, and the upper
/// directory empty. Needs ids.
///
/// # Errors
/// When something else is there, USER has no entry, or it can't be made.
pub fn workdir(order: &WorkdirOrder<'_>) -> Result<(), CopyError> {
    let path = order.step.path.as_os_str().as_bytes();
    let image = Merged::of_layers(order.lowers).map_err(|source| CopyError::Target { source })?;
    let ids = match order.step.user.as_str() {
        "" => (0, 0),
        user => owner::find(user, &image)?,
    };
    let target = Target::new(&order.upper, order.lowers, ids, order.epoch)?;
    if matches!(target.find(path)?, Resolved::Directory(_)) {
        return Ok(());
    }
    target.directory(path)?;
    target.finish()
}
