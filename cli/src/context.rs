//! What a command gets from its surroundings: the only reader of the environment.

use std::env;
use std::path::PathBuf;

use rctr_runtime::identity::{self, Identity};
use rctr_runtime::plan::Driver;
use rctr_runtime::rootfs;

use crate::report::Failure;

/// Paths and settings, found once.
pub(crate) struct Context {
    /// `$RCTR_ROOT`, `$XDG_DATA_HOME/rctr` or `~/.local/share/rctr`.
    pub(crate) root: PathBuf,
    /// `$RCTR_RUN`, `$XDG_RUNTIME_DIR/rctr` or, without one, `run` in the root.
    pub(crate) run: PathBuf,
    /// `$PATH`: where programs are looked up.
    pub(crate) path: String,
    /// `$RCTR_DRIVER`: who puts the root file systems of new containers together.
    pub(crate) driver: Option<String>,
}

impl Context {
    /// From the environment.
    ///
    /// # Errors
    /// When no directory for the store can be told.
    pub(crate) fn from_env() -> Result<Self, Failure> {
        let dir = |name| {
            env::var_os(name)
                .filter(|v| !v.is_empty())
                .map(PathBuf::from)
                .filter(|p| p.is_absolute())
        };
        let root = dir("RCTR_ROOT")
            .or_else(|| dir("XDG_DATA_HOME").map(|d| d.join("rctr")))
            .or_else(|| dir("HOME").map(|d| d.join(".local/share/rctr")))
            .ok_or_else(|| {
                Failure::new("cannot tell where the store is: HOME is not set")
                    .hint("set HOME, XDG_DATA_HOME or RCTR_ROOT to an absolute path")
            })?;
        let run = dir("RCTR_RUN")
            .or_else(|| dir("XDG_RUNTIME_DIR").map(|d| d.join("rctr")))
            .unwrap_or_else(|| root.join("run"));
        let path = env::var("PATH").unwrap_or_default();
        let driver = env::var_os("RCTR_DRIVER")
            .filter(|v| !v.is_empty())
            .map(|v| v.to_string_lossy().into_owned());
        Ok(Self {
            root,
            run,
            path,
            driver,
        })
    }

    /// Who we can be: the mapping of container IDs to the host's.
    ///
    /// # Errors
    /// When this host gives none.
    pub(crate) fn identity(&self) -> Result<Identity, Failure> {
        Ok(identity::detect(&self.path)?)
    }

    /// Who puts the root file systems of new containers together: as `$RCTR_DRIVER` says, else the best that works for
    /// the store. Before this process has threads.
    ///
    /// # Errors
    /// When there is no such driver, or this host gives no identity to try one with.
    pub(crate) fn driver(&self) -> Result<Driver, Failure> {
        if let Some(word) = &self.driver {
            let driver = rootfs::parse(word).ok_or_else(|| {
                let names = Driver::ALL.map(Driver::as_str);
                Failure::new(format!("RCTR_DRIVER={word}: there is no such driver")).hint(format!(
                    "unset it, or set it to one of {}",
                    names.join(", ")
                ))
            })?;
            // Without one no driver works: better told before a container is made.
            self.identity()?;
            return Ok(driver);
        }
        let memory = self.run.join("driver");
        match rootfs::remembered(&self.root, &memory) {
            Some(driver) => Ok(driver),
            None => Ok(rootfs::detect(&self.root, &memory, &self.identity()?)?),
        }
    }
}
