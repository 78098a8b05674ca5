//! Where base images come from.

use std::error::Error;
use std::path::PathBuf;

use rctr_storage::explain::Explain;
use rctr_storage::image::{Image, ImageError};
use rctr_storage::manifest::Platform;
use rctr_storage::store::Store;

/// Finds images by name.
pub trait Images {
    /// The image of that name, of `platform` if there are several.
    ///
    /// # Errors
    /// When it can't be had.
    fn find(&self, name: &str, platform: &Platform) -> Result<Image, ImageFailure>;

    /// Where the image's layers are, top first.
    fn layers(&self, image: &Image) -> Vec<PathBuf>;
}

/// Why an image can't be had.
#[derive(Debug)]
pub struct ImageFailure {
    /// What went wrong.
    pub source: Box<dyn Error + Send + Sync>,
    /// What to do.
    pub hint: Option<String>,
    /// There is none of that name, so that it may be misspelt.
    pub not_found: bool,
}

impl ImageFailure {
    /// Of an error that has a hint.
    pub fn new(source: impl Explain + Send + Sync + 'static) -> Self {
        Self {
            hint: source.hint(),
            source: Box::new(source),
            not_found: false,
        }
    }
}

impl From<ImageError> for ImageFailure {
    fn from(error: ImageError) -> Self {
        Self {
            not_found: error.is_not_found(),
            ..Self::new(error)
        }
    }
}

/// The image for `platform`; one that is for another only, and not through an index, will do as well: the build warns.
///
/// # Errors
/// When there is none.
pub(crate) fn base_image(
    store: &Store,
    name: &str,
    platform: &Platform,
) -> Result<Image, ImageError> {
    match store.find_image_for(name, platform) {
        Err(error) if error.is_wrong_platform() && store.find_index(name)?.is_none() => {
            store.find_image(name)
        }
        found => found,
    }
}

/// Images that are here already.
impl Images for Store {
    fn find(&self, name: &str, platform: &Platform) -> Result<Image, ImageFailure> {
        Ok(base_image(self, name, platform)?)
    }

    fn layers(&self, image: &Image) -> Vec<PathBuf> {
        self.snapshot(image)
    }
}
