//! What is to be done for a target: every variable expanded, ONBUILD triggers inserted, stages that aren't needed left
//! out.

mod types;

pub use types::{
    Base, CopyFrom, CopyStep, HeredocFile, HistoryEntry, Operation, Plan, PlannedSource,
    PlannedStage, RunMount, RunMountFrom, RunNetwork, RunStep, Sharing, Step, WorkdirStep,
};
