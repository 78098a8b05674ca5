//! Dockerfile text to what was written: instructions with their lines, nothing expanded yet.
//!
//! ```text
//! bytes ─ lines ─▶ logical lines with their heredocs ─ instructions ─▶ Instruction ─ file ─▶ stages
//!                  (directives, comments, continuation)  (flags, words)              └ checks ─▶ warnings
//! ```
//!
//! Reference: BuildKit's Dockerfile reference (docs.docker.com/reference/dockerfile). Where that is silent the rule is
//! what BuildKit does; its words are kept in errors and warnings, since people search for them.

mod ast;
mod checks;
mod directives;
mod duration;
pub mod expand;
mod fault;
mod file;
mod flags;
mod heredoc;
mod instructions;
mod lines;
mod near;
mod words;

pub use ast::{
    Argument, Check, CommandLine, CopyInstruction, CopySource, Directives, Dockerfile,
    FromInstruction, HealthcheckInstruction, Heredoc, Instruction, Located, MountFlag, NetworkFlag,
    RunInstruction, SecurityFlag, Stage,
};
pub use fault::Fault;
pub use file::{parse, parse_onbuild, parse_with};
pub use near::near;

#[cfg(test)]
mod tests;
