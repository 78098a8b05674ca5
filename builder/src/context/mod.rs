//! Build contexts: the files that COPY and ADD see.

mod compiled;
mod glob;
mod hashes;
mod ignore;
pub mod pattern;

pub use hashes::FileHashes;
pub use ignore::{Ignore, IgnoreError, Verdict};
