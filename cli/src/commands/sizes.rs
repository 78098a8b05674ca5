//! What containers have written: `ps -s`, `inspect -s`, `system df`.

use std::collections::BTreeMap;

use rctr_runtime::identity::{self, Mounts};
use rctr_storage::Store;
use rctr_storage::container::Container;
use rctr_storage::digest::DiffId;

use crate::context::Context;
use crate::files;
use crate::report::Failure;
use crate::view::container_row::Sizes;

/// The sizes by container ID. Needs ids, so this process is inside them afterwards: call it once, after all else was
/// read.
///
/// # Errors
/// When this host gives no identity.
pub(super) fn of(
    context: &Context,
    store: &Store,
    containers: &[Container],
) -> Result<BTreeMap<String, Sizes>, Failure> {
    let images: BTreeMap<_, _> = store
        .images()?
        .into_iter()
        .map(|i| (i.id, i.size))
        .collect();
    // Directories of the container's users may be closed to ours.
    identity::enter(&context.identity()?, Mounts::Host)?;
    let sizes = containers.iter().map(|container| {
        let record = &container.record;
        let layers = || {
            record
                .layers
                .iter()
                .map(|l| store.layer_size(&DiffId(*l)))
                .sum()
        };
        let sizes = Sizes {
            own: files::written(store, container),
            image: images.get(&record.image).copied().unwrap_or_else(layers),
        };
        (record.id.clone(), sizes)
    });
    Ok(sizes.collect())
}
