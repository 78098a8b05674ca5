//! Why files can't be copied.

use std::io;
use std::path::{Path, PathBuf};

use rctr_storage::explain::Explain;
use rctr_storage::tree::TreeError;

/// What went wrong with COPY, ADD or WORKDIR. Paths are below the root of the context, or of the image.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// A source that isn't there.
    #[error("\"{path}\": not found")]
    NotFound {
        /// Absolute, in the context.
        path: String,
        /// The pattern of the ignore file hides it.
        ignored: bool,
        /// A name that is there and looks like it.
        near: Option<String>,
        /// What it was looked for in: `the build context`.
        place: String,
    },
    /// A pattern that is none.
    #[error("the pattern \"{pattern}\" can't be read: {problem}")]
    Pattern {
        /// As given.
        pattern: String,
        /// What is wrong.
        problem: String,
    },
    /// A source that is neither file, link, directory, pipe nor device.
    #[error("\"{path}\" is a socket, which can't be copied")]
    Socket {
        /// Absolute, in the context.
        path: String,
    },
    /// Something that must be a directory isn't.
    #[error("cannot copy to non-directory: {path}")]
    NotADirectory {
        /// Absolute, in the image.
        path: String,
    },
    /// A file would take a directory's place.
    #[error("cannot replace the directory {path} with a file")]
    IsADirectory {
        /// Absolute, in the image.
        path: String,
    },
    /// Too many symbolic links.
    #[error("too many symbolic links on the way to {path}")]
    Links {
        /// Absolute.
        path: String,
    },
    /// `--chown` or USER with an unknown name.
    #[error("{source}")]
    Owner {
        /// Which.
        source: rctr_runtime::users::UserError,
    },
    /// `--chmod` that isn't one.
    #[error("invalid chmod parameter: '{text}'")]
    Chmod {
        /// As given.
        text: String,
    },
    /// A URL or repository that nobody has fetched.
    #[error("{url} was not fetched")]
    NotFetched {
        /// Which.
        url: String,
    },
    /// The build was ended.
    #[error("the build was interrupted")]
    Canceled,
    /// A file was changed while it was copied.
    #[error("\"{path}\" was changed while it was copied")]
    Changed {
        /// Absolute, in the context.
        path: String,
    },
    /// An archive that can't be unpacked.
    #[error("cannot unpack \"{path}\"")]
    Unpack {
        /// As given.
        path: String,
        /// Why.
        source: TreeError,
    },
    /// The context can't be read.
    #[error("cannot read the context")]
    Source {
        /// Why.
        source: TreeError,
    },
    /// The layer can't be written.
    #[error("cannot write the layer")]
    Target {
        /// Why.
        source: TreeError,
    },
}

impl CopyError {
    /// What was read was the image.
    pub(super) fn in_target(self) -> Self {
        match self {
            Self::Source { source } => Self::Target { source },
            other => other,
        }
    }

    /// For `map_err`: the image's tree said no.
    pub(super) fn target<E: Into<io::Error>>(
        operation: &'static str,
        path: &[u8],
    ) -> impl FnOnce(E) -> Self + use<E> {
        let path = PathBuf::from(rctr_storage::layer::merged::shown(path));
        move |source| Self::Target {
            source: TreeError::Io {
                operation,
                path,
                source: source.into(),
            },
        }
    }

    /// For `map_err`: the context said no.
    pub(super) fn source<E: Into<io::Error>>(
        operation: &'static str,
        path: &[u8],
    ) -> impl FnOnce(E) -> Self + use<E> {
        let path = PathBuf::from(rctr_storage::layer::merged::shown(path));
        move |source| Self::Source {
            source: TreeError::Io {
                operation,
                path,
                source: source.into(),
            },
        }
    }
}

impl Explain for CopyError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::NotFound {
                path,
                ignored: true,
                ..
            } => Some(format!(
                "{path} is there, but excluded by .dockerignore: add an exception to it, `!{}`",
                path.trim_start_matches('/')
            )),
            Self::NotFound {
                near: Some(near), ..
            } => Some(format!("did you mean \"{near}\"?")),
            Self::NotFound { place, .. } => Some(format!("sources are looked up in {place}")),
            Self::Owner { source } => source.hint(),
            Self::Source { source } => match source {
                TreeError::Io { path, source, .. }
                    if source.kind() == io::ErrorKind::PermissionDenied =>
                {
                    Some(format!(
                        "{} must be readable for you; or exclude it by .dockerignore",
                        path.display()
                    ))
                }
                _ => None,
            },
            Self::Unpack { source, .. } => source.hint().or_else(|| {
                Some("the archive is damaged, cut off or made to do harm: get it again, or COPY it".to_owned())
            }),
            Self::Target { source } => source.hint(),
            Self::NotADirectory { .. } => Some(
                "what is there is a file or a link to one; remove it first, or copy to another place"
                    .to_owned(),
            ),
            Self::IsADirectory { path } => Some(format!(
                "end the destination with a slash to copy into it: {}/",
                Path::new(path).display()
            )),
            Self::Chmod { .. } => Some(
                "it should be octal and between 0 and 07777 (`755`), or symbolic (`u=rwX,go=rX`)"
                    .to_owned(),
            ),
            Self::Changed { .. } => Some("build again when nothing writes to the context".to_owned()),
            Self::Pattern { .. }
            | Self::Socket { .. }
            | Self::Links { .. }
            | Self::NotFetched { .. }
            | Self::Canceled => None,
        }
    }
}
