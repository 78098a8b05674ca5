//! What `build` tells when it is done: files that name the result, findings of the build checks, why it failed.

use std::path::Path;

use clap::ArgMatches;
use rctr_builder::build::{Outcome, Output};
use rctr_builder::engine::BuildError;
use rctr_builder::plan::PlanError;
use rctr_builder::source::Warning;
use rctr_storage::image::Image;
use rctr_storage::manifest::Descriptor;
use rctr_storage::transfer::Pushed;
use serde_json::json;

use super::create::io_failure;
use super::words;
use crate::output;
use crate::progress::Style;
use crate::report::Failure;
use crate::request::build_output;

/// Sentences about the command line and findings of the build checks.
pub(super) fn notes(outcome: &Outcome, style: Style) {
    if style != Style::Quiet {
        for note in &outcome.notes {
            output::note(note);
        }
        warnings(&outcome.warnings);
    }
}

/// `--iidfile`, `--metadata-file`, and the ID of `--quiet`, unless standard output has the result itself. Of what was pushed, the digest
/// in `--metadata-file` is the registry's: layers go compressed, so it is another one than here.
pub(super) fn result(
    matches: &ArgMatches,
    outcome: &Outcome,
    outputs: &[Output],
    pushed: Option<&Pushed>,
) -> Result<(), Failure> {
    let (id, described) = match (&outcome.index, &outcome.image) {
        (Some(index), _) => (index.digest, of_index(&there(index, pushed), outcome)),
        (None, Some(image)) => {
            let manifest = there(&image.manifest, pushed);
            (image.id, metadata(image, &manifest, &outcome.build_id))
        }
        (None, None) => return Ok(()),
    };
    let write = |path: &str, text: String| {
        std::fs::write(Path::new(path), text)
            .map_err(|error| io_failure(format!("cannot write {path}"), &error))
    };
    if let Some(path) = words::text(matches, "iidfile") {
        write(path, id.to_string())?;
    }
    if let Some(path) = words::text(matches, "metadata-file") {
        write(path, described)?;
    }
    let taken = outputs.iter().any(build_output::to_stdout);
    if words::is_on(matches, "quiet") && !taken {
        output::line(id);
    }
    Ok(())
}

/// What the registry calls it, if it was pushed.
fn there(here: &Descriptor, pushed: Option<&Pushed>) -> Descriptor {
    match pushed {
        Some(pushed) => Descriptor::new(&here.media_type, pushed.digest, pushed.size),
        None => here.clone(),
    }
}

/// As BuildKit names it.
fn metadata(image: &Image, manifest: &Descriptor, build: &str) -> String {
    let names: Vec<String> = image.tags.iter().map(ToString::to_string).collect();
    let mut metadata = json!({
        "buildx.build.ref": build,
        "containerimage.config.digest": image.id,
        "containerimage.digest": manifest.digest,
        "containerimage.descriptor": manifest,
    });
    if !names.is_empty() {
        metadata["image.name"] = json!(names.join(","));
    }
    format!("{metadata:#}\n")
}

/// The same of images for several platforms.
fn of_index(index: &Descriptor, outcome: &Outcome) -> String {
    let mut metadata = json!({
        "buildx.build.ref": outcome.build_id,
        "containerimage.digest": index.digest,
        "containerimage.descriptor": index,
    });
    if !outcome.tags.is_empty() {
        let names: Vec<String> = outcome.tags.iter().map(ToString::to_string).collect();
        metadata["image.name"] = json!(names.join(","));
    }
    format!("{metadata:#}\n")
}

/// After a build: a line each.
fn warnings(found: &[Warning]) {
    if found.is_empty() {
        return;
    }
    output::note(format!(
        "\n {} found (--check shows the lines):",
        counted(found.len())
    ));
    for warning in found {
        output::note(format!(
            " - {}: {} (line {})",
            warning.rule, warning.message, warning.place.span.first
        ));
    }
}

fn counted(number: usize) -> String {
    match number {
        1 => "1 warning".to_owned(),
        number => format!("{number} warnings"),
    }
}

/// `--check`: the findings with their lines, on standard output. The exit code is 1 when there are any.
pub(super) fn checked(found: &[Warning]) -> u8 {
    if found.is_empty() {
        output::line("Check complete, no warnings found.");
        return 0;
    }
    let have = if found.len() == 1 { "has" } else { "have" };
    output::line(format!(
        "Check complete, {} {have} been found!",
        counted(found.len())
    ));
    for warning in found {
        output::line(format!("\n{}", finding(warning)));
    }
    1
}

fn finding(warning: &Warning) -> String {
    let excerpt = warning.place.excerpt();
    format!(
        "WARNING: {}\n{}\n{}",
        warning.rule,
        warning.message,
        excerpt.trim_end()
    )
}

/// The findings behind an error, when it is one of the build checks (`# check=error=true`).
pub(super) fn findings(error: &BuildError) -> Option<&[Warning]> {
    match error {
        BuildError::Plan(PlanError::Checks { warnings }) => Some(warnings),
        _ => None,
    }
}

/// What the failed step printed, and its lines.
pub(super) fn explain(error: &BuildError, style: Style) {
    for warning in findings(error).unwrap_or_default() {
        output::error(format!("{}\n", finding(warning)));
    }
    match error {
        BuildError::Step(step) => {
            let mut text = format!("------\n > {}:\n", step.vertex);
            if style != Style::Plain || step.tail.len() < 10_000 {
                text.push_str(&String::from_utf8_lossy(&step.tail));
            }
            if !text.ends_with('\n') {
                text.push('\n');
            }
            text.push_str("------\n");
            text.push_str(&step.place.excerpt());
            output::error(text);
        }
        BuildError::Source(error) => {
            if let Some(place) = &error.place {
                output::error(place.excerpt());
            }
        }
        BuildError::Plan(error) => {
            if let Some(place) = error.place() {
                output::error(place.excerpt());
            }
        }
        _ => {}
    }
}

/// What is told when it failed.
pub(super) fn failure(error: BuildError) -> Failure {
    let kept = match &error {
        BuildError::Step(step) => step.kept.clone(),
        _ => None,
    };
    let mut failure = Failure::from(error);
    failure.message = format!("failed to solve: {}", failure.message);
    if let Some(kept) = kept {
        let look = format!("look around where it failed: {}", kept.command());
        failure.hint = Some(match failure.hint {
            Some(hint) => format!("{hint}; {look}"),
            None => look,
        });
    }
    failure
}
