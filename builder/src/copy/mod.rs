//! COPY, ADD and WORKDIR: what they select, the content key of it, and the layer that they make.
//!
//! ```text
//! sources ─ select, walk ─▶ picks ─┬─ digest ─▶ content key (no user namespace needed for a context)
//!                                  └─ files, archive ─▶ target: the upper directory, over the layers below
//! ```
//!
//! Nothing is mounted: copying only adds, so the layers below are read as they are ([`Merged`]) and what is new is written
//! into the upper directory ([`target`]). That is the same for all drivers, and as fast as copying can be.

mod archive;
mod chmod;
mod digest;
mod error;
mod files;
mod near;
mod owner;
mod plain;
mod remote;
mod resolve;
mod select;
mod target;
mod walk;
mod workdir;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use nix::sys::stat::SFlag;
use nix::sys::time::TimeSpec;
use rctr_storage::cache::StepInput;
use rctr_storage::digest::{Digest, Hasher};
use rctr_storage::layer::merged::{Merged, MergedDir};

use crate::context::{Context, Ignore};
use crate::engine::run::Cancel;
use crate::plan::{CopyStep, PlannedSource};
use chmod::Chmod;
pub use error::CopyError;
use files::Copier;
pub use remote::{Remote, RemoteFile};
use resolve::Resolved;
use select::{Pick, Picked, Source, select};
use target::Target;
pub use workdir::{WorkdirOrder, workdir};

/// Where COPY and ADD look their paths up.
#[derive(Clone, Copy)]
pub enum SourceTree<'a> {
    /// The build context.
    Context(&'a Context),
    /// `--from` of a stage or image: its layers, top first. Needs ids.
    Layers(&'a [PathBuf]),
    /// `--from` of a named context.
    Directory(&'a Context),
}

/// What a step reads.
#[derive(Debug, Clone)]
pub struct Selection {
    /// Of names, kinds, modes, content and attributes of all that is selected.
    pub digest: Digest,
    /// The same file by file.
    pub inputs: Vec<StepInput>,
}

/// What is to be copied where.
pub struct CopyOrder<'a> {
    /// The step.
    pub step: &'a CopyStep,
    /// Where its paths are looked up.
    pub from: SourceTree<'a>,
    /// Its URLs and repositories, fetched, in the order of its sources.
    pub remotes: &'a [Remote],
    /// The layers below, top first.
    pub lowers: &'a [PathBuf],
    /// An empty directory, which becomes the layer.
    pub upper: PathBuf,
    /// `SOURCE_DATE_EPOCH`: no time is later.
    pub epoch: Option<i64>,
    /// Ends it at once.
    pub cancel: Option<&'a Cancel>,
}

/// The content key of what `step` selects in `from` and of its `remotes`, and whether it is there at all.
///
/// # Errors
/// When a source is missing, ignored or unreadable, or `cancel` was said.
pub fn digest(
    step: &CopyStep,
    from: &SourceTree<'_>,
    remotes: &[Remote],
    cancel: Option<&Cancel>,
) -> Result<Selection, CopyError> {
    let nothing = Ignore::none();
    let source = open(from, &nothing, cancel)?;
    let mut remotes = remotes.iter();
    let mut hasher = Hasher::new();
    let mut inputs = Vec::new();
    for given in &step.sources {
        match given {
            PlannedSource::Path(path) => {
                let mut picks = select(path, step, &source)?;
                digest::find_digests(&mut picks, &source)?;
                digest::fold(&picks, &source, &mut hasher, &mut inputs)?;
            }
            PlannedSource::Inline { name, content } => {
                let digest = Digest::of(content.as_bytes());
                hasher.update(Digest::of(name.as_bytes()).hex().as_bytes());
                hasher.update(digest.hex().as_bytes());
                inputs.push(StepInput {
                    what: format!("inline {name}"),
                    value: digest.hex(),
                });
            }
            PlannedSource::Url(url) | PlannedSource::Git(url) => {
                let remote = remotes.next().ok_or_else(|| not_fetched(url))?;
                let digest = match remote {
                    Remote::File(file) => file.digest,
                    Remote::Tree(path) => digest_of_tree(path, step)?,
                };
                hasher.update(digest.hex().as_bytes());
                inputs.push(StepInput {
                    what: format!("remote {url}"),
                    value: digest.hex(),
                });
            }
        }
    }
    Ok(Selection {
        digest: hasher.finish(),
        inputs,
    })
}

fn not_fetched(url: &str) -> CopyError {
    CopyError::NotFetched {
        url: url.to_owned(),
    }
}

fn digest_of_tree(path: &Path, step: &CopyStep) -> Result<Digest, CopyError> {
    let nothing = Ignore::none();
    let source = checked_out(path, &nothing)?;
    let mut picks = select("/", step, &source)?;
    digest::find_digests(&mut picks, &source)?;
    let mut hasher = Hasher::new();
    digest::fold(&picks, &source, &mut hasher, &mut Vec::new())?;
    Ok(hasher.finish())
}

fn checked_out<'a>(path: &Path, nothing: &'a Ignore) -> Result<Source<'a>, CopyError> {
    Ok(Source {
        tree: Merged::plain(path).map_err(|source| CopyError::Source { source })?,
        ignore: nothing,
        hashes: None,
        cancel: None,
        keeps_owners: false,
        name: "the repository".to_owned(),
    })
}

fn open<'a>(
    from: &SourceTree<'a>,
    nothing: &'a Ignore,
    cancel: Option<&'a Cancel>,
) -> Result<Source<'a>, CopyError> {
    let failed = |source| CopyError::Source { source };
    Ok(match from {
        SourceTree::Context(context) | SourceTree::Directory(context) => Source {
            tree: Merged::plain(&context.root).map_err(failed)?,
            ignore: &context.ignore,
            hashes: Some(&context.hashes),
            cancel,
            keeps_owners: false,
            name: match from {
                SourceTree::Context(_) => "the build context".to_owned(),
                _ => format!("the context {}", context.name),
            },
        },
        SourceTree::Layers(layers) => Source {
            tree: Merged::of_layers(layers).map_err(failed)?,
            ignore: nothing,
            hashes: None,
            cancel,
            keeps_owners: true,
            name: "the stage or image that --from names".to_owned(),
        },
    })
}

/// Copies what the step selects into the upper directory. Needs ids.
///
/// # Errors
/// When a source is missing, something is in the way, or can't be read or written: the upper directory is to be thrown
/// away then.
pub fn copy(order: &CopyOrder<'_>) -> Result<(), CopyError> {
    let step = order.step;
    let nothing = Ignore::none();
    let source = open(&order.from, &nothing, order.cancel)?;
    let chmod = step.chmod.as_deref().map(Chmod::parse).transpose()?;
    let chown = match &step.chown {
        Some(spec) => {
            let image =
                Merged::of_layers(order.lowers).map_err(|source| CopyError::Target { source })?;
            Some(owner::find(spec, &image)?)
        }
        None => None,
    };
    // A linked layer is the same on whatever base.
    let lowers = if step.link { &[] } else { order.lowers };
    let target = Target::new(&order.upper, lowers, chown.unwrap_or((0, 0)), order.epoch)?;
    let copying = Copying {
        step,
        copier: Copier {
            source: &source,
            target: &target,
            chown,
            chmod: chmod.as_ref(),
            without_range: AtomicBool::new(false),
        },
    };
    let mut remotes = order.remotes.iter();
    for given in &step.sources {
        copying.source(given, &mut remotes)?;
    }
    target.finish()
}

/// A step under way.
struct Copying<'a> {
    step: &'a CopyStep,
    copier: Copier<'a>,
}

/// Where a file goes.
struct Slot {
    dir: MergedDir,
    name: std::ffi::CString,
}

impl Copying<'_> {
    fn source<'r>(
        &self,
        given: &PlannedSource,
        remotes: &mut impl Iterator<Item = &'r Remote>,
    ) -> Result<(), CopyError> {
        match given {
            PlannedSource::Path(path) => {
                let picks = select(path, self.step, self.copier.source)?;
                let several = picks.len() > 1 || self.step.sources.len() > 1;
                picks.iter().try_for_each(|pick| self.pick(pick, several))
            }
            PlannedSource::Inline { name, content } => self.inline(name, content),
            PlannedSource::Url(url) | PlannedSource::Git(url) => {
                match remotes.next().ok_or_else(|| not_fetched(url))? {
                    Remote::File(file) => self.remote_file(url, file),
                    Remote::Tree(path) => self.remote_tree(path),
                }
            }
        }
    }

    fn pick(&self, pick: &Pick, several: bool) -> Result<(), CopyError> {
        let failed = |source| CopyError::Source { source };
        match &pick.what {
            Picked::Tree(dirs) => {
                let to = self.directory()?;
                self.copier.tree(dirs, &to)
            }
            Picked::One { dir, entry } => {
                let from = self.copier.source.tree.open(dir).map_err(failed)?;
                if self.step.unpack_local && entry.kind() == SFlag::S_IFREG {
                    let file = from.open_file(&entry.name, entry.layer).map_err(failed)?;
                    let is_archive = archive::is_archive(&file)
                        .map_err(CopyError::source("read", pick.shown.as_bytes()))?;
                    if is_archive {
                        let to = self.directory()?;
                        return archive::unpack(&self.copier, &file, &pick.shown, &to);
                    }
                }
                let slot = self.slot(&pick.name, several)?;
                let to = self.copier.target.open(&slot.dir)?;
                self.copier
                    .entry(&from, dir, entry, &to, &slot.dir, &slot.name)
            }
        }
    }

    /// The destination as a directory, made if it is missing.
    fn directory(&self) -> Result<MergedDir, CopyError> {
        self.copier
            .target
            .directory(self.step.destination.as_bytes())
    }

    /// Where a file named `name` goes: into the destination if that is a directory, else in its place.
    fn slot(&self, name: &[u8], several: bool) -> Result<Slot, CopyError> {
        let target = self.copier.target;
        let destination = self.step.destination.as_bytes();
        let named = |dir| {
            let name = std::ffi::CString::new(name).expect("a name that was found has no NUL");
            Slot { dir, name }
        };
        if several || destination.ends_with(b"/") || destination.ends_with(b"/.") {
            return self.directory().map(named);
        }
        match target.find(destination)? {
            Resolved::Directory(dir) => target.bring_up(&dir).map(named),
            Resolved::Other(place) => Ok(Slot {
                dir: target.bring_up(&place.dir)?,
                name: place.name,
            }),
            Resolved::Missing { dir, mut rest, .. } => {
                let name = rest.pop().expect("something is missing");
                let dir = target.make_below(&dir, &rest)?;
                Ok(Slot { dir, name })
            }
        }
    }

    /// A heredoc: 0644, its time is now.
    fn inline(&self, name: &str, content: &str) -> Result<(), CopyError> {
        let slot = self.slot(name.as_bytes(), self.step.sources.len() > 1)?;
        self.copier
            .write(&slot.dir, &slot.name, content.as_bytes(), 0o644)
    }

    /// What a URL gave: 0600, as old as the server said.
    fn remote_file(&self, url: &str, remote: &RemoteFile) -> Result<(), CopyError> {
        let name = remote.name.as_bytes();
        let failed = || CopyError::source("read", name);
        let file = remote.open().map_err(failed())?;
        if self.step.unpack_remote && archive::is_archive(&file).map_err(failed())? {
            let to = self.directory()?;
            return archive::unpack(&self.copier, &file, url, &to);
        }
        let slot = self.slot(name, self.step.sources.len() > 1)?;
        let time = remote
            .last_modified
            .map(|seconds| TimeSpec::new(seconds, 0));
        self.copier.put(&slot.dir, &slot.name, &file, time)
    }

    /// A repository's files, root's.
    fn remote_tree(&self, path: &Path) -> Result<(), CopyError> {
        let nothing = Ignore::none();
        let source = checked_out(path, &nothing)?;
        let copying = Copying {
            step: self.step,
            copier: Copier {
                source: &source,
                without_range: AtomicBool::new(false),
                ..self.copier
            },
        };
        let picks = select("/", self.step, &source)?;
        picks.iter().try_for_each(|pick| copying.pick(pick, true))
    }
}
