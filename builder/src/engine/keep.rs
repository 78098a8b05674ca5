//! What a failed RUN leaves: its files as an image, so that `rctr run -it` looks at them.

use std::path::Path;

use rctr_runtime::plan::Driver;
use rctr_storage::image::{ImageError, NewImage};
use rctr_storage::layer::KeepUpper;

use super::perform::Work;
use super::{Engine, Kept, image};
use crate::plan::RunStep;

/// The state of the step, as an image without a name. `None`: it can't be kept, which is no further failure.
pub(super) fn keep(
    engine: &Engine<'_>,
    step: &RunStep,
    work: &Work<'_>,
    upper: &Path,
) -> Option<Kept> {
    // With the copy driver there is no upper directory.
    if work.driver == Driver::Copy {
        return None;
    }
    let made = || -> Result<String, ImageError> {
        let mut config = image::unfinished(engine.plan, work.at.stage);
        config.config.env = step.env.clone();
        config.config.user = step.user.clone();
        config.config.working_dir = step.cwd.display().to_string();
        config.config.entrypoint = None;
        config.config.cmd = Some(vec!["/bin/sh".to_owned()]);
        let mut layers = work.finished.layers.clone();
        let layer = engine
            .store
            .add_upper(upper, KeepUpper::Move, &[])
            .map_err(|error| ImageError::Incomplete {
                part: error.to_string(),
            })?;
        layers.push(layer);
        let image = engine.store.create_image(NewImage {
            config,
            layers,
            tags: Vec::new(),
            parent: None,
        })?;
        Ok(image.id.hex()[..12].to_owned())
    };
    let shell = step
        .argv
        .first()
        .filter(|program| program.ends_with("sh"))
        .cloned()
        .unwrap_or_else(|| "sh".to_owned());
    Some(Kept {
        image: made().ok()?,
        shell,
    })
}
