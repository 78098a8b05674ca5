//! Dockerfile to image, as BuildKit's Dockerfile reference means it.
//!
//! ```text
//! source text ─ dockerfile::parse ─▶ Dockerfile (what was written, with its lines)
//! Dockerfile + request + base images ─ plan::plan ─▶ Plan (every variable expanded, only what the target needs)
//! Plan + context ─ engine ─▶ layers from the cache or from running steps ─▶ image
//! ```
//!
//! The builder knows no terminal: what happens is told as [`event::Event`]s, what goes wrong as errors that carry the
//! Dockerfile's lines.

pub mod build;
pub mod context;
pub mod copy;
pub mod dockerfile;
pub mod engine;
pub mod event;
pub mod fetch;
pub mod git;
pub mod plan;
pub mod pull;
pub mod request;
pub mod source;
#[cfg(test)]
mod testing;
pub mod tracker;
