//! Places that images come from and go to, opened: registries, layouts, archives, directories.

use rctr_storage::Store;
use rctr_storage::reference::Reference;
use rctr_storage::registry::Access;
use rctr_storage::transfer::{Source, Target};
use rctr_storage::transport::Place;

use crate::registries::Registries;
use crate::report::Failure;

/// A place to read from, and what its image is called there.
pub(crate) struct From {
    pub(crate) source: Box<dyn Source>,
    pub(crate) names: Vec<Reference>,
}

/// What a word means where an image's name alone is one in a registry: for `pull`, and as the target of `push`.
///
/// # Errors
/// When it is neither a place nor a name.
pub(crate) fn parse(word: &str) -> Result<Place, Failure> {
    Ok(match Place::parse(word)? {
        Place::Store(reference) => Place::Registry(reference),
        place => place,
    })
}

/// Whether a word says by a transport's name that the image is elsewhere.
pub(crate) fn is_elsewhere(word: &str) -> bool {
    !matches!(Place::parse(word), Ok(Place::Store(_)) | Err(_))
}

/// Opens a place that isn't the store.
///
/// # Errors
/// When it can't be read.
pub(crate) fn source(
    registries: &Registries,
    store: &Store,
    place: &Place,
) -> Result<From, Failure> {
    if let Place::Registry(name) | Place::Store(name) = place {
        registries.prefetch(name)?;
        let repository = registries.client.repository(name, Access::Pull)?;
        return Ok(From {
            source: Box::new(repository),
            names: vec![name.clone()],
        });
    }
    let opened = place.open_source(&store.path("tmp"))?;
    let opened = opened.ok_or_else(|| Failure::new(format!("{place} can't be read")))?;
    Ok(From {
        source: opened.source,
        names: opened.names,
    })
}

/// Opens a place that isn't the store, to write to.
///
/// # Errors
/// When it can't be written to.
pub(crate) fn target(registries: &Registries, place: &Place) -> Result<Box<dyn Target>, Failure> {
    if let Place::Registry(name) | Place::Store(name) = place {
        registries.prefetch(name)?;
        return Ok(Box::new(registries.client.repository(name, Access::Push)?));
    }
    let opened = place.open_target()?;
    opened.ok_or_else(|| Failure::new(format!("{place} can't be written to")))
}
