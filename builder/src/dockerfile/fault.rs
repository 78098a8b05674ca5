//! What is wrong, before it is known where.

use crate::source::{Place, SourceError};

/// What is wrong with a piece of a Dockerfile, without its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// One sentence.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Fault {
    pub(super) fn new(message: String) -> Self {
        Self {
            message,
            hint: None,
        }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Suggests the nearest known word, if there is one.
    pub(super) fn near(self, word: &str, among: &[&str]) -> Self {
        match super::near(word, among) {
            Some(known) => self.hint(format!("did you mean {known}?")),
            None => self,
        }
    }

    pub(super) fn at(self, place: Place) -> SourceError {
        SourceError {
            message: self.message,
            place: Some(place),
            hint: self.hint,
        }
    }

    /// Of the file as a whole.
    pub(super) fn nowhere(self) -> SourceError {
        SourceError {
            message: self.message,
            place: None,
            hint: self.hint,
        }
    }
}
