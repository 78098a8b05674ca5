//! Dockerfile text to what was written: instructions with their lines, nothing expanded yet.
//!
//! Reference: BuildKit's Dockerfile reference (docs.docker.com/reference/dockerfile).

mod ast;

pub use ast::{
    Argument, Check, CommandLine, CopyInstruction, CopySource, Directives, Dockerfile,
    FromInstruction, HealthcheckInstruction, Heredoc, Instruction, Located, MountFlag, NetworkFlag,
    RunInstruction, SecurityFlag, Stage,
};
