//! Why a RUN did not succeed.

use std::io;
use std::path::{Path, PathBuf};

use rctr_runtime::monitor::StartFailure;
use rctr_runtime::step::StepError;
use rctr_storage::explain::Explain;
use rctr_storage::layer::LayerError;

/// Why a RUN did not succeed. The Dockerfile's place is added by the engine.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It ended with another code than 0.
    #[error("process {process:?} did not complete successfully: exit code: {code}")]
    Exit {
        /// Its words.
        process: String,
        /// 1..255.
        code: i32,
    },
    /// A signal ended it.
    #[error("process {process:?} was ended by signal {signal}{}", signal_name(*signal))]
    Signal {
        /// Its words.
        process: String,
        /// Number.
        signal: i32,
    },
    /// It could not be started.
    #[error(transparent)]
    Launch(StartFailure),
    /// Our own process for it failed.
    #[error(transparent)]
    Process(StepError),
    /// The build was interrupted, or another step failed.
    #[error("canceled")]
    Canceled,
    /// RUN --security=insecure.
    #[error("RUN --security=insecure is not allowed")]
    InsecureNotAllowed,
    /// A mount can't be made.
    #[error("{message}")]
    Mount {
        /// One sentence.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
    /// A file of ours, or one that the command line names.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// With what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What it changed can't be collected.
    #[error(transparent)]
    Layer(LayerError),
}

/// What a missing file of `--secret` stops.
pub(super) const READ_SECRET: &str = "read the secret's file";

impl RunError {
    /// For `map_err`.
    pub(super) fn io(
        operation: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Io {
            operation,
            path,
            source,
        }
    }

    /// Docker's exit code of the program or of why it could not be started, if it is one.
    #[must_use]
    pub fn exit_code(&self) -> Option<i32> {
        match self {
            Self::Exit { code, .. } => Some(*code),
            Self::Signal { signal, .. } => Some(128 + signal),
            Self::Launch(failure) => Some(failure.code.into()),
            _ => None,
        }
    }
}

fn signal_name(number: i32) -> String {
    nix::sys::signal::Signal::try_from(number).map_or_else(
        |_| String::new(),
        |signal| format!(" ({})", signal.as_str()),
    )
}

impl Explain for RunError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Signal {
                signal: nix::libc::SIGKILL,
                ..
            } => Some("was memory short? `dmesg` may tell".to_owned()),
            Self::Launch(failure) => failure.hint(),
            Self::InsecureNotAllowed => Some(
                "allow it with --allow security.insecure, if you trust the Dockerfile".to_owned(),
            ),
            Self::Mount { hint, .. } => hint.clone(),
            Self::Layer(error) => error.hint(),
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Some("free space in the store, or run `rctr builder prune`".to_owned())
            }
            Self::Io {
                operation: READ_SECRET,
                ..
            } => Some("--secret id=NAME,src=FILE names a file that you can read".to_owned()),
            Self::Process(StepError::Io { source, .. })
                if source.raw_os_error() == Some(nix::libc::EAGAIN) =>
            {
                Some("too many processes: see `ulimit -u`".to_owned())
            }
            _ => None,
        }
    }
}
