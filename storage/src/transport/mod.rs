//! Places that are no registry: OCI layouts, archives, skopeo's directories; as sources and as targets.
//!
//! ```text
//! oci:DIR[:NAME]               an OCI image layout
//! oci-archive:FILE[:NAME]      the same in a tar
//! docker-archive:FILE[:NAME]   what `docker save` writes
//! dir:DIR                      manifest.json, version, blobs by their hexadecimal digits (skopeo's)
//! docker://NAME                a registry: not here
//! NAME                         the store: not here
//! ```
//!
//! What is read is not trusted: paths in an archive lead to its own files only, links in a directory not out of it, sizes and
//! counts are bounded, and a document is what its digest says. Blobs are verified by who takes them. What is written is
//! verified on its way, and in place only when it is whole.

mod archive_target;
mod blob_file;
mod dir;
mod docker_archive;
mod error;
mod files;
mod layout;
mod layout_target;
mod tar_files;

pub use error::TransportError;
pub use layout_target::sweep_layout;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::explain::Explain;
use crate::reference::{InvalidReference, Reference};
use crate::transfer::{Source, Target};
use archive_target::{ArchiveTarget, Kind};
use dir::{DirSource, DirTarget};
use files::DirFiles;
use layout_target::LayoutTarget;
use tar_files::TarFiles;

/// Where an image is, or goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// `docker://NAME`.
    Registry(Reference),
    /// `oci:DIR[:NAME]`.
    OciLayout {
        /// The directory.
        dir: PathBuf,
        /// Which of its images, as its index says, or `@` and a number; `None`: the only one.
        name: Option<String>,
    },
    /// `oci-archive:FILE[:NAME]`.
    OciArchive {
        /// The file.
        path: PathBuf,
        /// As in a layout.
        name: Option<String>,
    },
    /// `docker-archive:FILE[:NAME]`.
    DockerArchive {
        /// The file.
        path: PathBuf,
        /// A tag, or `@` and a number; `None`: the only image.
        name: Option<String>,
    },
    /// `dir:DIR`.
    Dir(PathBuf),
    /// `NAME`: an image here.
    Store(Reference),
}

/// Why a text is no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPlace {
    /// Nothing after the transport's name.
    #[error("{text:?} names no {wanted}")]
    NoPath {
        /// What was given.
        text: String,
        /// `file` or `directory`.
        wanted: &'static str,
    },
    /// A colon, and no name after it.
    #[error("{text:?} ends in a colon: a name is missing")]
    NoName {
        /// What was given.
        text: String,
    },
    /// One of skopeo's that rctr doesn't know.
    #[error("rctr has no transport {transport}")]
    Transport {
        /// Its name.
        transport: String,
    },
    /// A name that isn't one.
    #[error("{text:?} names no image")]
    Name {
        /// What was given.
        text: String,
        /// Why it is none.
        source: InvalidReference,
    },
}

impl Explain for InvalidPlace {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoPath { text, .. } => format!("write {text}PATH, or {text}PATH:NAME"),
            Self::NoName { text } => format!("write {text}NAME, or leave the colon out"),
            Self::Transport { .. } => {
                "there are oci:DIR, oci-archive:FILE, docker-archive:FILE, dir:DIR and docker://NAME"
                    .to_owned()
            }
            Self::Name { source, .. } => return source.hint(),
        })
    }
}

/// A place that was opened to read an image from.
pub struct Opened {
    /// The image.
    pub source: Box<dyn Source>,
    /// What it is called there; names that are only a tag are left out.
    pub names: Vec<Reference>,
}

impl Place {
    /// Parses `text`. A transport's name before the first colon means the transport: an image of that name is written
    /// `docker://oci:1.0` or `docker.io/library/oci:1.0`.
    ///
    /// # Errors
    /// When it is neither a place nor an image's name.
    pub fn parse(text: &str) -> Result<Self, InvalidPlace> {
        let reference = |name: &str| {
            Reference::parse(name).map_err(|source| InvalidPlace::Name {
                text: name.to_owned(),
                source,
            })
        };
        if let Some(name) = text.strip_prefix("docker://") {
            return reference(name).map(Self::Registry);
        }
        let Some((transport, rest)) = text.split_once(':') else {
            return reference(text).map(Self::Store);
        };
        let wanted = match transport {
            "oci" | "dir" => "directory",
            "oci-archive" | "docker-archive" => "file",
            "containers-storage" | "docker-daemon" | "ostree" | "sif" => {
                let transport = transport.to_owned();
                return Err(InvalidPlace::Transport { transport });
            }
            _ => return reference(text).map(Self::Store),
        };
        // As skopeo: the first colon ends the path. `dir:` has no names.
        let (path, name) = match rest.split_once(':') {
            Some((path, name)) if transport != "dir" => (path, Some(name)),
            _ => (rest, None),
        };
        let text = || text.to_owned();
        if path.is_empty() {
            return Err(InvalidPlace::NoPath {
                text: text(),
                wanted,
            });
        }
        if name == Some("") {
            return Err(InvalidPlace::NoName { text: text() });
        }
        let (path, name) = (PathBuf::from(path), name.map(str::to_owned));
        Ok(match transport {
            "oci" => Self::OciLayout { dir: path, name },
            "oci-archive" => Self::OciArchive { path, name },
            "dir" => Self::Dir(path),
            _ => {
                if let Some(name) = name.as_deref().filter(|name| !name.starts_with('@')) {
                    reference(name)?;
                }
                Self::DockerArchive { path, name }
            }
        })
    }

    /// Opens the place to read its image. A compressed archive, and one from a pipe, is written to a file without a name in
    /// the directory `scratch` first. `None`: it is a registry or the store.
    ///
    /// # Errors
    /// When it can't be read, is damaged, or hasn't the image.
    pub fn open_source(&self, scratch: &Path) -> Result<Option<Opened>, TransportError> {
        let shown = self.to_string();
        Ok(Some(match self {
            Self::Registry(_) | Self::Store(_) => return Ok(None),
            Self::OciLayout { dir, name } => {
                layout::open(DirFiles::open(dir)?, shown, name.as_deref())?
            }
            Self::OciArchive { path, name } => {
                layout::open(TarFiles::open(path, scratch)?, shown, name.as_deref())?
            }
            Self::DockerArchive { path, name } => {
                docker_archive::open(TarFiles::open(path, scratch)?, shown, name.as_deref())?
            }
            Self::Dir(dir) => Opened {
                source: Box::new(DirSource::new(DirFiles::open(dir)?, shown)),
                names: Vec::new(),
            },
        }))
    }

    /// Opens the place to write an image to. `None`: it is a registry or the store. Archives replace what is at their path
    /// when they are [finished](Target::finish).
    ///
    /// # Errors
    /// When it can't be written to, or is something else already.
    pub fn open_target(&self) -> Result<Option<Box<dyn Target>>, TransportError> {
        let shown = self.to_string();
        Ok(Some(match self {
            Self::Registry(_) | Self::Store(_) => return Ok(None),
            Self::OciLayout { dir, name } => {
                Box::new(LayoutTarget::open(dir, name.clone(), shown)?)
            }
            Self::OciArchive { path, name } => {
                let kind = Kind::Oci(name.clone());
                Box::new(ArchiveTarget::open(path, kind, shown)?)
            }
            Self::DockerArchive { path, name } => {
                let tag = name.as_deref().and_then(|name| Reference::parse(name).ok());
                Box::new(ArchiveTarget::open(path, Kind::Docker(tag), shown)?)
            }
            Self::Dir(dir) => Box::new(DirTarget::open(dir, shown)?),
        }))
    }
}

impl FromStr for Place {
    type Err = InvalidPlace;

    fn from_str(text: &str) -> Result<Self, InvalidPlace> {
        Self::parse(text)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (transport, path, name) = match self {
            Self::Registry(reference) => return write!(f, "docker://{reference}"),
            Self::Store(reference) => return reference.fmt(f),
            Self::OciLayout { dir, name } => ("oci", dir, name.as_deref()),
            Self::OciArchive { path, name } => ("oci-archive", path, name.as_deref()),
            Self::DockerArchive { path, name } => ("docker-archive", path, name.as_deref()),
            Self::Dir(dir) => ("dir", dir, None),
        };
        write!(f, "{transport}:{}", path.display())?;
        name.map_or(Ok(()), |name| write!(f, ":{name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_skopeo_writes_them() {
        let some = |name: &str| Some(name.to_owned());
        let reference = |name: &str| Reference::parse(name).unwrap();
        for (text, want) in [
            (
                "oci:a/b",
                Place::OciLayout {
                    dir: "a/b".into(),
                    name: None,
                },
            ),
            (
                "oci:/a:localhost/x:1",
                Place::OciLayout {
                    dir: "/a".into(),
                    name: some("localhost/x:1"),
                },
            ),
            (
                "oci-archive:a.tar:x",
                Place::OciArchive {
                    path: "a.tar".into(),
                    name: some("x"),
                },
            ),
            (
                "docker-archive:a.tar:x:1",
                Place::DockerArchive {
                    path: "a.tar".into(),
                    name: some("x:1"),
                },
            ),
            (
                "docker-archive:a.tar:@1",
                Place::DockerArchive {
                    path: "a.tar".into(),
                    name: some("@1"),
                },
            ),
            ("dir:a:b", Place::Dir("a:b".into())),
            (
                "docker://oci:1.0",
                Place::Registry(reference("docker.io/library/oci:1.0")),
            ),
            (
                "localhost:5000/x",
                Place::Store(reference("localhost:5000/x:latest")),
            ),
        ] {
            assert_eq!(Place::parse(text).as_ref(), Ok(&want), "{text}");
            assert_eq!(Place::parse(&want.to_string()), Ok(want), "{text}");
        }
    }

    #[test]
    fn texts_that_are_no_places_are_refused() {
        for text in [
            "",
            "oci:",
            "oci::x",
            "oci:a:",
            "dir:",
            "docker://",
            "docker://a//b",
            "docker-archive:a.tar:-",
            "containers-storage:x",
            "docker-daemon:x:1",
        ] {
            let error = Place::parse(text).unwrap_err();
            assert!(error.hint().is_some(), "{text}");
        }
    }
}
