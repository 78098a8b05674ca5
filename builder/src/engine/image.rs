//! The finished stage as an image.

use rctr_storage::config::{History, ImageConfig};
use rctr_storage::timestamp;

use super::Finished;
use crate::plan::{Base, Plan, PlannedStage};

/// What BuildKit notes beside each of its steps.
const COMMENT: &str = "buildkit.dockerfile.v0";

/// The config document of the target, the plan's last stage.
///
/// # Times
/// A step is of the moment when it was run, also when it comes from the cache; an instruction without a layer is of
/// the same time as the step before it. So a build from the cache gives the same image as the one that filled it. With
/// `SOURCE_DATE_EPOCH` everything is of that time.
pub(super) fn config(plan: &Plan, finished: &[Finished]) -> ImageConfig {
    let stage = plan.stages.len() - 1;
    let chain = chain(plan, stage);
    let base = base(plan, &chain);
    let mut history = base.map(|b| b.history.clone()).unwrap_or_default();
    let mut moment = base
        .and_then(|b| b.created.clone())
        .filter(|created| !created.is_empty())
        .or_else(|| first_moment(&chain, finished))
        .unwrap_or_else(|| timestamp::of_epoch(0));
    let epoch = plan.epoch.map(timestamp::of_epoch);
    for &index in &chain {
        for entry in &plan.stages[index].history {
            if let Some(step) = entry.step {
                moment.clone_from(&finished[index].steps[step].created);
            }
            history.push(History {
                created: Some(epoch.clone().unwrap_or_else(|| moment.clone())),
                created_by: Some(entry.created_by.clone()),
                author: None,
                comment: Some(COMMENT.to_owned()),
                empty_layer: entry.step.is_none(),
            });
        }
    }
    ImageConfig {
        created: Some(epoch.unwrap_or(moment)),
        history,
        ..document(&plan.stages[stage])
    }
}

/// The config of a stage that isn't finished: without a history of its own.
pub(super) fn unfinished(plan: &Plan, stage: usize) -> ImageConfig {
    ImageConfig {
        created: Some(timestamp::now()),
        ..document(&plan.stages[stage])
    }
}

/// All but times and history.
fn document(stage: &PlannedStage) -> ImageConfig {
    let mut config = stage.config.clone();
    config.image.clear();
    ImageConfig {
        architecture: stage.platform.architecture.clone(),
        variant: stage.platform.variant.clone(),
        os: stage.platform.os.clone(),
        author: stage.author.clone(),
        config,
        ..ImageConfig::default()
    }
}

fn base<'p>(plan: &'p Plan, chain: &[usize]) -> Option<&'p ImageConfig> {
    match &plan.stages[chain[0]].base {
        Base::Image(image) => Some(&image.config),
        Base::Scratch | Base::Stage(_) => None,
    }
}

/// The stages that make up a stage, base first.
pub(super) fn chain(plan: &Plan, stage: usize) -> Vec<usize> {
    let mut chain = vec![stage];
    while let Base::Stage(below) = plan.stages[chain[chain.len() - 1]].base {
        chain.push(below);
    }
    chain.reverse();
    chain
}

fn first_moment(chain: &[usize], finished: &[Finished]) -> Option<String> {
    let steps = chain.iter().flat_map(|&index| &finished[index].steps);
    steps.map(|step| step.created.clone()).next()
}
