//! What a failed RUN leaves: its files as an image, so that `rctr run -it` looks at them. Of each stage of a Dockerfile the
//! newest one is kept: a memo names it, and it goes when the stage fails anew or is built.

use std::path::Path;

use nix::sys::statvfs::statvfs;
use rctr_runtime::plan::Driver;
use rctr_storage::digest::Digest;
use rctr_storage::image::{Image, ImageError, NewImage};
use rctr_storage::layer::KeepUpper;
use rctr_storage::removal::RemoveImage;

use super::perform::Work;
use super::run::Lowers;
use super::{Engine, Finished, Kept, image};
use crate::plan::RunStep;

/// The memo's kind: a stage of a Dockerfile, and the ID of its image.
const MEMO: &str = "kept";
/// With less than a hundredth of the disk free nothing is kept: the next build needs the room.
const FREE: u64 = 100;

/// The state of the step, as an image without a name. `None`: it can't be kept, which is no further failure.
pub(super) fn keep(
    engine: &Engine<'_>,
    step: &RunStep,
    work: &Work<'_, '_, '_>,
    directory: &Path,
) -> Option<Kept> {
    engine.forget_kept(work.at.stage);
    if is_full(directory) {
        return None;
    }
    let upper = match work.driver {
        Driver::Copy => {
            let below = work.growing.hold();
            let merged = directory.join("merged");
            engine.store.upper_of_flat(&merged, &below.paths).ok()?
        }
        _ => directory.join("upper"),
    };
    let finished = work.growing.finished().ok()?;
    let image = image_of(engine, step, work.at.stage, finished, &upper).ok()?;
    let memo = engine.kept_key(work.at.stage);
    // Without a memo it stays until `image prune`.
    let _ = engine.store.set_memo(MEMO, &memo, &image.id);
    let shell = step
        .argv
        .first()
        .filter(|program| program.ends_with("sh"))
        .cloned()
        .unwrap_or_else(|| "sh".to_owned());
    Some(Kept {
        image: image.id.hex()[..12].to_owned(),
        shell,
    })
}

fn is_full(path: &Path) -> bool {
    statvfs(path).is_ok_and(|disk| disk.blocks_available() < disk.blocks() / FREE)
}

fn image_of(
    engine: &Engine<'_>,
    step: &RunStep,
    stage: usize,
    finished: Finished,
    upper: &Path,
) -> Result<Image, ImageError> {
    let mut config = image::unfinished(engine.plan, stage);
    config.config.env = step.env.clone();
    config.config.user = step.user.clone();
    config.config.working_dir = step.cwd.display().to_string();
    config.config.entrypoint = None;
    config.config.cmd = Some(vec!["/bin/sh".to_owned()]);
    let mut layers = finished.layers;
    let layer = engine
        .store
        .add_upper(upper, KeepUpper::Move, &[])
        .map_err(|error| ImageError::Incomplete {
            part: error.to_string(),
        })?;
    layers.push(layer);
    engine.store.create_image(NewImage {
        config,
        layers,
        tags: Vec::new(),
        parent: None,
    })
}

impl Engine<'_> {
    fn kept_key(&self, stage: usize) -> Digest {
        let label = &self.plan.stages[stage].label;
        Digest::of(format!("{}#{label}", self.place).as_bytes())
    }

    /// What a failed step of this stage has left in an earlier build, unless somebody has named it.
    pub(super) fn kept(&self, stage: usize) -> Option<Digest> {
        let id = self.store.memo(MEMO, &self.kept_key(stage))?;
        let unnamed = |image: &Image| image.tags.is_empty() && image.digests.is_empty();
        let found = self.store.find_image(&id.hex());
        found.is_ok_and(|image| unnamed(&image)).then_some(id)
    }

    /// Removes that, unless somebody uses it. Needs ids.
    pub(super) fn forget_kept(&self, stage: usize) {
        if let Some(id) = self.kept(stage) {
            // A container of it is the user's: then it stays.
            let _ = self.store.remove_image(&id.hex(), RemoveImage::default());
        }
    }
}
