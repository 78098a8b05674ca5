//! A build for several platforms: one after the other, with the same context and cache, and an index of the images.

use rctr_storage::archive::{self, Format};
use rctr_storage::image::{NewImage, UnlistedIndex};
use rctr_storage::manifest::{Descriptor, Platform};

use super::{Around, Done, Job, Output};
use crate::engine::{BuildError, Destination, Files};
use crate::plan::Plan;
use crate::request::BuildRequest;
use crate::source::Warning;

/// Builds for each platform. Nothing is listed before all are done.
pub(super) fn build(job: &Job<'_>, around: &Around<'_>) -> Result<Done, BuildError> {
    let mut all = Done::default();
    let mut images = Vec::new();
    for platform in &job.request.platforms {
        let request = BuildRequest {
            platform: Some(platform.clone()),
            tags: Vec::new(),
            ..job.request.clone()
        };
        let outputs: Vec<_> = job.outputs.iter().map(|o| part(o, platform)).collect();
        let done = job.build(&request, &outputs, around)?;
        images.extend(done.new);
        // The same Dockerfile mostly has the same to be said of.
        let known = |warning: &Warning| {
            let same = |w: &Warning| (w.rule, &w.message) == (warning.rule, &warning.message);
            all.warnings.iter().any(same)
        };
        let new: Vec<_> = done.warnings.into_iter().filter(|w| !known(w)).collect();
        all.warnings.extend(new);
        let new: Vec<_> = done
            .notes
            .into_iter()
            .filter(|n| !all.notes.contains(n))
            .collect();
        all.notes.extend(new);
    }
    let is_of_all = |output: &Output| matches!(output, Output::Image | Output::Archive(..));
    if !job.outputs.iter().any(is_of_all) {
        return Ok(all);
    }
    let unlisted: Vec<_> = images
        .iter()
        .map(|new| job.store.unlisted_image(new.clone()))
        .collect::<Result<_, _>>()?;
    let index = job.store.unlisted_index(&unlisted)?;
    for output in &job.outputs {
        match output {
            Output::Image => list(job, around, &images)?,
            Output::Archive(Format::Oci, to) => archive(job, around, &index, to)?,
            // The rest was made for each platform, or refused.
            _ => {}
        }
    }
    all.index = Some(index.descriptor);
    Ok(all)
}

/// Makes the images and their index.
fn list(job: &Job<'_>, around: &Around<'_>, images: &[NewImage]) -> Result<(), BuildError> {
    let vertex = around.tracker.start("exporting to image");
    let part = vertex.part("exporting manifest list");
    let mut manifests = Vec::new();
    for new in images {
        let image = job.store.create_image(new.clone())?;
        vertex.note(format!("exporting config {}", image.id));
        manifests.push(Descriptor {
            platform: Some(Platform::of(&image.config)),
            ..image.manifest
        });
    }
    let index = job.store.put_index(&manifests, &job.request.tags)?;
    part.completed(0);
    vertex.note(format!("writing image {}", index.digest));
    for tag in &job.request.tags {
        vertex.note(format!("naming to {tag}"));
    }
    vertex.completed();
    Ok(())
}

/// Writes the index and its images: one archive.
fn archive(
    job: &Job<'_>,
    around: &Around<'_>,
    index: &UnlistedIndex,
    to: &Destination,
) -> Result<(), BuildError> {
    let vertex = around.tracker.start("exporting to oci image format");
    vertex.note(format!(
        "exporting manifest list {}",
        index.descriptor.digest
    ));
    let tags = &job.request.tags;
    let result = to.write(&mut |out| Ok(archive::save_index(job.store, index, tags, out)?));
    match &result {
        Ok(()) => vertex.completed(),
        Err(error) => vertex.failed(error.to_string()),
    }
    result
}

/// What is done for one platform: images and archives wait for the others, and directories hold one a platform.
fn part(output: &Output, platform: &Platform) -> Output {
    match output {
        Output::Image | Output::Archive(..) => Output::Nothing,
        Output::Files(Files::Directory(path)) => {
            let name = platform.to_string().replace('/', "_");
            Output::Files(Files::Directory(path.join(name)))
        }
        other => other.clone(),
    }
}

/// Names the steps by their platform: `[linux/arm64 builder 2/3]`.
pub(super) fn label(plan: &mut Plan, platform: &Platform) {
    for stage in &mut plan.stages {
        stage.label = match stage.label.as_str() {
            "" => platform.to_string(),
            label => format!("{platform} {label}"),
        };
    }
}
