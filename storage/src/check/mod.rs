//! `system check`: whether everything in the store is as it should be, and how it is mended.
//!
//! What a killed process leaves is cleared by the next command that writes; this finds what that doesn't, and what a
//! failing disk, a careless hand or another program has done. Repairs lose nothing that can be kept: a container or volume
//! that can't be mended is put aside into `lost/`, and an image goes only when it could neither be run nor saved.

mod cache;
mod containers;
mod images;
mod layout;
mod volumes;

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::image::ImageError;
use crate::random;
use crate::store::{Store, StoreError};

/// Whether what is found is mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// Only told.
    No,
    /// Mended. Needs ids.
    Yes,
}

/// How closely blobs are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Layer blobs by their size, documents by their digest.
    Quick,
    /// All by their digest: reads every byte.
    Deep,
}

/// What became of a problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It can be mended by [`Repair::Yes`].
    Found,
    /// It was mended; how.
    Repaired(String),
    /// It can't be mended; what the user can do.
    Unrepaired(String),
}

/// Something that isn't as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What it is about: `image app:1`, `container web`, `tmp/12-ab`.
    pub subject: String,
    /// What is wrong with it, as a sentence's end: `layer sha256:… is missing`.
    pub problem: String,
    /// What became of it.
    pub outcome: Outcome,
}

/// What was looked at and found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// In the order in which they were found.
    pub problems: Vec<Problem>,
    /// Images looked at.
    pub images: usize,
    /// Layers.
    pub layers: usize,
    /// Blobs.
    pub blobs: usize,
    /// Containers.
    pub containers: usize,
    /// Volumes.
    pub volumes: usize,
    /// Steps in the build cache.
    pub steps: usize,
}

impl Report {
    /// Whether everything is as it should be now.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let mended = |problem: &Problem| matches!(problem.outcome, Outcome::Repaired(_));
        self.problems.iter().all(mended)
    }
}

impl Store {
    /// Opens a store whose marker may be damaged: for a check only.
    ///
    /// # Errors
    /// When it was made by a newer rctr, or can't be made.
    pub fn open_damaged(root: &Path) -> Result<Self, StoreError> {
        match Self::open(root) {
            Err(StoreError::Damaged { path, .. }) => {
                fs::remove_file(&path).map_err(StoreError::io("remove", path))?;
                Self::open(root)
            }
            other => other,
        }
    }

    /// Looks at everything in the store.
    ///
    /// # Errors
    /// When the store can't be read at all, or a repair fails.
    pub fn check(&self, repair: Repair, depth: Depth) -> Result<Report, ImageError> {
        let mut check = Check {
            store: self,
            repair,
            depth,
            report: Report::default(),
        };
        if !check.layout()? {
            return Ok(check.report);
        }
        check.leftovers()?;
        check.containers()?;
        check.volumes()?;
        check.lost_layers()?;
        let mut hashed = HashSet::new();
        check.images(&mut hashed)?;
        check.steps(&mut hashed)?;
        check.garbage()?;
        Ok(check.report)
    }
}

/// A check under way.
struct Check<'s> {
    store: &'s Store,
    repair: Repair,
    depth: Depth,
    report: Report,
}

impl Check<'_> {
    fn push(&mut self, subject: impl Into<String>, problem: impl Into<String>, outcome: Outcome) {
        self.report.problems.push(Problem {
            subject: subject.into(),
            problem: problem.into(),
            outcome,
        });
    }

    /// Tells a problem; `mend` says how it has mended it.
    fn mend<E>(
        &mut self,
        subject: impl Into<String>,
        problem: impl Into<String>,
        mend: impl FnOnce(&Store) -> Result<String, E>,
    ) -> Result<(), E> {
        let outcome = match self.repair {
            Repair::No => Outcome::Found,
            Repair::Yes => Outcome::Repaired(mend(self.store)?),
        };
        self.push(subject, problem, outcome);
        Ok(())
    }

    /// Tells a problem that nobody can mend.
    fn tell(
        &mut self,
        subject: impl Into<String>,
        problem: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.push(subject, problem, Outcome::Unrepaired(advice.into()));
    }
}

impl Store {
    /// Moves something that can't be mended out of the way, and tells where it is.
    fn put_aside(&self, path: &Path) -> Result<String, StoreError> {
        let lost = self.path("lost");
        fs::create_dir_all(&lost).map_err(StoreError::io("create", &lost))?;
        let name = path.strip_prefix(self.root()).unwrap_or(path);
        let name = name.display().to_string().replace('/', "-");
        let mut to: PathBuf = lost.join(&name);
        if to.symlink_metadata().is_ok() {
            to = lost.join(format!("{name}-{}", random::hex::<4>()));
        }
        fs::rename(path, &to).map_err(StoreError::io("move", path))?;
        Ok(format!("put aside as {}", to.display()))
    }
}
