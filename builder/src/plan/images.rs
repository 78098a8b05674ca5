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

/// Images that are here already.
impl Images for Store {
    fn find(&self, name: &str, _platform: &Platform) -> Result<Image, ImageFailure> {
        Ok(self.find_image(name)?)
    }

    fn layers(&self, image: &Image) -> Vec<PathBuf> {
        self.snapshot(image)
    }
}
