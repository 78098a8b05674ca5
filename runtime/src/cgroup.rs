//! Whether a cgroup was delegated to us, in which a container's limits could be enforced (cgroups(7), "Delegation").

use std::fs;
use std::path::{Path, PathBuf};

/// A cgroup (version 2) in which we may make groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delegated {
    /// Ours.
    pub directory: PathBuf,
    /// What it may limit: `cpu`, `memory`, `pids`, …
    pub controllers: Vec<String>,
}

/// Why there is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotDelegated {
    /// Only version 1, or nothing at all.
    #[error("no cgroup v2")]
    NoV2,
    /// It isn't mounted where it is looked for.
    #[error("no cgroup v2 at /sys/fs/cgroup")]
    NotMounted,
    /// It belongs to others.
    #[error("cannot make a group in {}: {reason}", directory.display())]
    NotOurs {
        /// Our cgroup.
        directory: PathBuf,
        /// The kernel's words.
        reason: String,
    },
}

/// Looks for our own cgroup, by trying to make a group in it.
///
/// # Errors
/// When there is none, or it isn't ours.
pub fn delegated() -> Result<Delegated, NotDelegated> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = own
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .ok_or(NotDelegated::NoV2)?;
    let mount = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
        .into_iter()
        .find(|dir| Path::new(dir).join("cgroup.procs").exists())
        .ok_or(NotDelegated::NotMounted)?;
    let directory = Path::new(mount).join(own.trim_start_matches('/'));
    let probe = directory.join(format!("rctr-probe-{}", std::process::id()));
    if let Err(error) = fs::create_dir(&probe) {
        return Err(NotDelegated::NotOurs {
            directory,
            reason: error.to_string(),
        });
    }
    // An empty group; were it to stay, it would be empty still.
    let _ = fs::remove_dir(&probe);
    let controllers = fs::read_to_string(directory.join("cgroup.controllers")).unwrap_or_default();
    Ok(Delegated {
        directory,
        controllers: controllers.split_whitespace().map(str::to_owned).collect(),
    })
}
