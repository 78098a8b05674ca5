//! Runs a plan.

pub mod run;
