//! Dockerfiles and what is planned for them. Base images are made up here; their configs are all that counts.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rctr_storage::config::{ContainerConfig, ImageConfig};
use rctr_storage::digest::Digest;
use rctr_storage::image::{Image, ImageError};
use rctr_storage::manifest::{Descriptor, Platform};

use super::*;
use crate::dockerfile;
use crate::source::Place;

mod checks;
mod golden;
mod instructions;
mod running;
mod stages;
mod variables;

/// Images by name.
#[derive(Default)]
struct Shelf(BTreeMap<String, Image>);

impl Shelf {
    /// `alpine`, an image with `PATH` and `CMD`, and what is added.
    fn new() -> Self {
        let config = ContainerConfig {
            env: vec!["PATH=/bin".to_owned()],
            cmd: Some(vec!["/bin/sh".to_owned()]),
            ..ContainerConfig::default()
        };
        Self::default().with("alpine", config)
    }

    fn with(self, name: &str, config: ContainerConfig) -> Self {
        self.with_platform(name, config, &Platform::host())
    }

    fn with_platform(mut self, name: &str, config: ContainerConfig, platform: &Platform) -> Self {
        let image = Image {
            id: Digest::of(name.as_bytes()),
            manifest: Descriptor::new("", Digest::of(b""), 0),
            config: ImageConfig {
                architecture: platform.architecture.clone(),
                variant: platform.variant.clone(),
                os: platform.os.clone(),
                config,
                ..ImageConfig::default()
            },
            layers: Vec::new(),
            tags: Vec::new(),
            digests: Vec::new(),
            size: 0,
            parent: None,
            tagged: None,
        };
        self.0.insert(name.to_owned(), image);
        self
    }
}

impl Images for Shelf {
    fn find(&self, name: &str, _platform: &Platform) -> Result<Image, ImageFailure> {
        let found = self.0.get(name).cloned();
        let name = name.to_owned();
        found.ok_or_else(|| ImageError::NotFound { name }.into())
    }

    fn layers(&self, image: &Image) -> Vec<PathBuf> {
        vec![PathBuf::from(format!("/layers/{}", &image.id.hex()[..4]))]
    }
}

fn parse(text: &str) -> Dockerfile {
    dockerfile::parse("Dockerfile", text.as_bytes()).expect("the Dockerfile of a test parses")
}

fn planned_with(text: &str, request: &BuildRequest, images: &Shelf) -> Result<Plan, PlanError> {
    let file = dockerfile::parse("Dockerfile", text.as_bytes())?;
    plan(&file, request, images)
}

fn planned(text: &str) -> Plan {
    planned_with(text, &BuildRequest::default(), &Shelf::new()).expect("it can be planned")
}

/// The message, the line and the hint.
fn refused(text: &str) -> (String, Option<usize>, String) {
    refused_with(text, &BuildRequest::default())
}

fn refused_with(text: &str, request: &BuildRequest) -> (String, Option<usize>, String) {
    use rctr_storage::explain::Explain as _;
    let error = planned_with(text, request, &Shelf::new()).expect_err("it can't be planned");
    let line = error.place().map(|place: &Place| place.span.first);
    (error.to_string(), line, error.hint().unwrap_or_default())
}

fn target(plan: &Plan) -> &PlannedStage {
    plan.stages.last().expect("a plan has a target")
}

fn build_args(pairs: &[(&str, &str)]) -> BuildRequest {
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    BuildRequest {
        build_args: pairs.iter().map(pair).collect(),
        ..BuildRequest::default()
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// `created_by` of all entries.
fn history(stage: &PlannedStage) -> Vec<&str> {
    stage
        .history
        .iter()
        .map(|entry| entry.created_by.as_str())
        .collect()
}

fn only_run(plan: &Plan) -> &RunStep {
    let mut runs = target(plan)
        .steps
        .iter()
        .filter_map(|step| match &step.operation {
            Operation::Run(run) => Some(run),
            _ => None,
        });
    let run = runs.next().expect("there is a RUN");
    assert!(runs.next().is_none(), "there is one RUN");
    run
}

fn only_copy(plan: &Plan) -> &CopyStep {
    let mut copies = target(plan)
        .steps
        .iter()
        .filter_map(|step| match &step.operation {
            Operation::Copy(copy) => Some(copy),
            _ => None,
        });
    let copy = copies.next().expect("there is a COPY");
    assert!(copies.next().is_none(), "there is one COPY");
    copy
}
