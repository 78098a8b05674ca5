//! Why a build fails.

use std::io::ErrorKind;

use rctr_storage::explain::Explain;
use rctr_storage::image::ImageError;
use rctr_storage::layer::LayerError;
use rctr_storage::store::StoreError;

use crate::context::ContextError;
use crate::copy::CopyError;
use crate::plan::PlanError;
use crate::source::{Place, SourceError};

/// Why a build fails.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The Dockerfile is wrong.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The context can't be read.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// The Dockerfile can't be planned.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A COPY's files, before it has its place.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// An ADD's source, before it has its place.
    #[error(transparent)]
    Remote(#[from] super::RemoteError),
    /// The result can't be written.
    #[error("cannot write {}", path.display())]
    Export {
        /// Which file or directory.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The archive can't be written.
    #[error(transparent)]
    Archive(#[from] rctr_storage::archive::ArchiveError),
    /// The target's files can't be read.
    #[error(transparent)]
    Tree(#[from] rctr_storage::tree::TreeError),
    /// A cache can't be written elsewhere.
    #[error(transparent)]
    Cache(#[from] super::TravelError),
    /// A step failed.
    #[error(transparent)]
    Step(Box<StepFailure>),
    /// The host allows no containers.
    #[error("{0}")]
    Host(Cause),
    /// Something isn't in the cache, and that was to be an error.
    #[error("not everything is in the build cache, and --fail-on-miss was given")]
    Missed,
    /// Something else failed, or the user ended it.
    #[error("the build was interrupted")]
    Canceled,
    /// The image can't be made.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A layer can't be made.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The store said no.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Explain for BuildError {
    fn hint(&self) -> Option<String> {
        if disk_is_full(self) {
            return Some(ROOM.to_owned());
        }
        match self {
            Self::Source(error) => error.hint.clone(),
            Self::Step(failure) => failure.hint(),
            Self::Host(error) => error.hint(),
            Self::Missed => Some("--explain tells why a step is not in the cache".to_owned()),
            Self::Canceled => None,
            Self::Context(error) => error.hint(),
            Self::Plan(error) => error.hint(),
            Self::Copy(error) => error.hint(),
            Self::Remote(error) => error.hint(),
            Self::Cache(error) => error.hint(),
            Self::Archive(error) => error.hint(),
            Self::Export { .. } | Self::Tree(_) => None,
            Self::Image(error) => error.hint(),
            Self::Layer(error) => error.hint(),
            Self::Store(error) => error.hint(),
        }
    }
}

const ROOM: &str = "free space in the store (`rctr system df`, `rctr builder prune`), then build again: what is \
    finished is in the cache";

/// Whether a full disk is at the bottom of it.
fn disk_is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    let is_full = |kind| matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
    std::iter::successors(Some(error), |error| error.source()).any(|error| {
        let io = error.downcast_ref::<std::io::Error>();
        io.is_some_and(|error| is_full(error.kind()))
    })
}

/// An error of any kind, with all that is beneath it.
pub type Cause = Box<dyn Explain + Send + Sync>;

/// A step that failed, and all that helps to see why.
#[derive(Debug, thiserror::Error)]
#[error("{}", super::step::causes(&**cause))]
pub struct StepFailure {
    /// Its lines.
    pub place: Place,
    /// As progress shows it: `[2/3] RUN apt-get install python`.
    pub vertex: String,
    /// What went wrong.
    pub cause: Cause,
    /// The last of what it printed.
    pub tail: Vec<u8>,
    /// The state that it left, as an image: `rctr run -it ID` looks at it.
    pub kept: Option<Kept>,
}

/// The files as a failed step left them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Of the image, 64 hexadecimal digits.
    pub image: String,
    /// What is run to look around in it.
    pub shell: String,
}

impl Kept {
    /// What the user types to look around.
    #[must_use]
    pub fn command(&self) -> String {
        format!("rctr run -it --rm {} {}", self.image, self.shell)
    }
}

impl StepFailure {
    /// Whether the program has said that it had no room.
    fn lacked_room(&self) -> bool {
        const SAID: &[u8] = b"No space left on device";
        self.tail.windows(SAID.len()).any(|window| window == SAID)
    }
}

impl Explain for StepFailure {
    fn hint(&self) -> Option<String> {
        if self.lacked_room() || disk_is_full(&*self.cause) {
            return Some(ROOM.to_owned());
        }
        self.cause.hint()
    }
}
