//! Why a URL can't be had.

use std::io;
use std::path::PathBuf;

use rctr_storage::digest::Digest;
use rctr_storage::explain::Explain;
use rctr_storage::web::WebError;

/// Why a URL can't be had. URLs are shown without passwords.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// There is no answer.
    #[error(transparent)]
    Web(#[from] WebError),
    /// The server says no.
    #[error("cannot get {url}: the server answered {status} {reason}")]
    Status {
        /// Which.
        url: String,
        /// 404.
        status: u16,
        /// `Not Found`.
        reason: &'static str,
    },
    /// A circle, most likely.
    #[error("cannot get {url}: more than {limit} redirects")]
    Redirects {
        /// The first.
        url: String,
        /// How many are followed.
        limit: usize,
    },
    /// Larger than allowed.
    #[error("{url} has more than {limit} bytes")]
    TooLarge {
        /// Which.
        url: String,
        /// In bytes.
        limit: u64,
    },
    /// It ended before its end.
    #[error("{url} broke off after {bytes} bytes")]
    Interrupted {
        /// Which.
        url: String,
        /// Bytes until then.
        bytes: u64,
        /// The reason.
        source: io::Error,
    },
    /// Not what it should be.
    #[error("{url} has the wrong digest: want {expected}, have {actual}")]
    Digest {
        /// Which.
        url: String,
        /// What was asked for.
        expected: Digest,
        /// What it is.
        actual: Digest,
    },
    /// It can't be kept.
    #[error("cannot write {}", path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

impl Explain for FetchError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Web(error) => return error.hint(),
            Self::Status {
                status: 404 | 410, ..
            } => "check the URL's spelling".to_owned(),
            Self::Status {
                status: 401 | 403, ..
            } => "it isn't public: fetch it yourself and COPY it, or mount a secret and use RUN"
                .to_owned(),
            Self::Status { status: 500.., .. } | Self::Interrupted { .. } => {
                "the server has trouble: try again later".to_owned()
            }
            Self::Digest { .. } => "if the new content is right, write its digest".to_owned(),
            Self::Write { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                "free space, or run `rctr image prune` and `rctr builder prune`".to_owned()
            }
            Self::Status { .. }
            | Self::Redirects { .. }
            | Self::TooLarge { .. }
            | Self::Write { .. } => return None,
        })
    }
}
