//! Why there is no plan.

use rctr_storage::explain::Explain;

use super::images::ImageFailure;
use crate::source::{Place, SourceError, Warning};

/// Why a Dockerfile can't be built.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The Dockerfile, or what the command line says about it, is wrong.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// An image that it names can't be had.
    #[error("cannot get the image {name}")]
    Image {
        /// As the Dockerfile has it, expanded.
        name: String,
        /// Where.
        place: Box<Place>,
        /// What to do.
        hint: Option<String>,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Findings of build checks, which are errors in this Dockerfile (`# check=error=true`).
    #[error("lint violation found for rules: {}", rules(.warnings))]
    Checks {
        /// At least one.
        warnings: Vec<Warning>,
    },
}

fn rules(warnings: &[Warning]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for warning in warnings {
        if !names.contains(&warning.rule) {
            names.push(warning.rule);
        }
    }
    names.join(", ")
}

impl PlanError {
    /// An image's failure, at its place.
    pub(super) fn image(name: &str, place: Place, failure: ImageFailure) -> Self {
        Self::Image {
            name: name.to_owned(),
            place: Box::new(place),
            hint: failure.hint,
            source: failure.source,
        }
    }

    /// Where it is.
    #[must_use]
    pub fn place(&self) -> Option<&Place> {
        match self {
            Self::Source(error) => error.place.as_ref(),
            Self::Image { place, .. } => Some(place),
            Self::Checks { warnings } => warnings.first().map(|warning| &warning.place),
        }
    }
}

impl Explain for PlanError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Source(error) => error.hint.clone(),
            Self::Image { hint, .. } => hint.clone(),
            Self::Checks { .. } => Some(
                "mend what the checks found, or leave out `error=true` in the `# check=` line"
                    .to_owned(),
            ),
        }
    }
}
