//! What is to be done for a target: every variable expanded, ONBUILD triggers inserted, stages that aren't needed left
//! out. Nothing runs and no file is read: the base images' configs are all that is looked up.
//!
//! ```text
//! planner ─ FROM lines, the target, what it needs ─▶ stage ─ instructions in order ─┬▶ config (image config, history)
//!    references: contexts, stages, images             scope: ENV and ARG            ├▶ run, mount
//!    check: the findings of the build checks          words: what is expanded where └▶ copy
//! ```

mod base;
pub mod change;
mod check;
pub mod config;
mod copy;
mod error;
mod images;
mod mount;
mod planner;
pub mod ports;
mod references;
mod run;
mod scope;
pub mod secret;
mod stage;
mod text;
mod types;
mod words;

pub use check::looks_secret;
pub use error::PlanError;
pub(crate) use images::base_image;
pub use images::{ImageFailure, Images};
pub use types::{
    Base, CopyFrom, CopyStep, HeredocFile, HistoryEntry, Operation, Plan, PlannedSource,
    PlannedStage, RunMount, RunMountFrom, RunNetwork, RunStep, Sharing, Step, WorkdirStep,
};

use crate::dockerfile::Dockerfile;
use crate::request::BuildRequest;
use crate::source::Warning;
use planner::{Lookup, Planner};

/// Plans a build.
///
/// # Errors
/// With its place in the Dockerfile, where there is one.
pub fn plan(
    file: &Dockerfile,
    request: &BuildRequest,
    images: &dyn Images,
) -> Result<Plan, PlanError> {
    let mut planner = Planner::new(file, request, images)?;
    let target = planner.target()?;
    planner.stage(target)?;
    planner.scout(Lookup::No);
    planner.finish()
}

/// The findings of all build checks in all stages, in the order of their lines. A stage whose base image isn't to be had
/// is checked for what can be said without it.
pub fn check(file: &Dockerfile, request: &BuildRequest, images: &dyn Images) -> Vec<Warning> {
    match Planner::new(file, request, images) {
        Ok(mut planner) => {
            planner.scout(Lookup::Yes);
            planner.into_findings()
        }
        // The build itself says what is wrong.
        Err(_) => file.warnings.clone(),
    }
}

#[cfg(test)]
mod tests;
