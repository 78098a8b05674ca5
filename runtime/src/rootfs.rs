//! Root file systems from outside of containers: which driver this host allows, and a look into a container's tree.

use std::fs;
use std::io;
use std::os::fd::IntoRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, SFlag, mknod};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use rctr_storage::Store;
use rctr_storage::atomic::Durability;
use rctr_storage::explain::Explain;
use rctr_storage::layer::LayerError;
use rctr_storage::store::StoreError;

use crate::fuse;
use crate::identity::{self, Identity, IdentityError, Mounts};
use crate::init::mount_overlay;
use crate::plan::{Driver, RootfsPlan};
use crate::process::Known;
use crate::sys::{self, Cloned};

/// Why a root file system can't be looked into.
#[derive(Debug, thiserror::Error)]
pub enum RootfsError {
    /// No identity to do it with.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A mount failed.
    #[error("cannot mount the root file system on {}", path.display())]
    Mount {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The copy of the image's files can't be made.
    #[error(transparent)]
    Copy(#[from] LayerError),
    /// The store said no.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The container ended in the meantime.
    #[error("cannot join the container's user namespace")]
    Join {
        /// Why.
        source: io::Error,
    },
}

impl Explain for RootfsError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Identity(error) => error.hint(),
            Self::Copy(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::Mount { .. } => Some("`rctr doctor` tells what this host allows".to_owned()),
            Self::Join { .. } => {
                Some("is the container still running? See `rctr ps -a`".to_owned())
            }
        }
    }
}

/// The best driver for a store at `root`: tried once a boot in a child process, remembered in `memory` (a file) for
/// this store. The caller has one thread.
///
/// # Errors
/// When there is no identity.
pub fn detect(root: &Path, memory: &Path, identity: &Identity) -> Result<Driver, RootfsError> {
    if let Some(driver) = remembered(root, memory) {
        return Ok(driver);
    }
    let (driver, sure) = probe(root, identity)?;
    if let (Some(dir), true) = (memory.parent(), sure) {
        // Not remembered: the next command tries again.
        let _ = fs::create_dir_all(dir)
            .and_then(|()| fs::write(memory, format!("{} {}", driver.as_str(), key(root))));
    }
    Ok(driver)
}

/// What [`detect`] has found for the store at `root` since the machine was started.
#[must_use]
pub fn remembered(root: &Path, memory: &Path) -> Option<Driver> {
    let text = fs::read_to_string(memory).ok()?;
    let (word, then) = text.split_once(' ')?;
    (then == key(root)).then(|| parse(word)).flatten()
}

/// What the answer holds for: this boot, and this store, for another may be on another file system.
fn key(root: &Path) -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    format!("{} {}", id.trim(), root.display())
}

/// The driver of that name.
#[must_use]
pub fn parse(word: &str) -> Option<Driver> {
    Driver::ALL
        .into_iter()
        .find(|driver| driver.as_str() == word)
}

/// Before a container's tree can be used: with the driver [`Driver::Copy`], its copy of the layers is made, once.
/// Needs ids.
///
/// # Errors
/// When the copy can't be made; nothing is left of it then.
pub fn prepare(store: &Path, plan: &RootfsPlan, durability: Durability) -> Result<(), RootfsError> {
    if plan.driver == Driver::Copy {
        // A store of its own: what is unfinished in it goes when this is over, not when the caller ends.
        Store::open(store)?.flatten(&plan.lowers, &plan.merged, durability)?;
    }
    Ok(())
}

/// Tries them out below `root`: the best, and whether that is sure.
fn probe(root: &Path, identity: &Identity) -> Result<(Driver, bool), RootfsError> {
    let overlay = overlay_works(root, identity)?;
    if overlay == Some(true) {
        return Ok((Driver::Overlay, true));
    }
    let fuse_device = fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/fuse")
        .is_ok();
    let fuse_works = fuse::program().is_some() && fuse_device && takes_whiteouts(&root.join("tmp"));
    let driver = match fuse_works {
        true => Driver::FuseOverlayfs,
        false => Driver::Copy,
    };
    Ok((driver, overlay.is_some()))
}

/// Whether a whiteout can be a device in `dir`: an overlay, for one, takes none. Layers have them as attributes then,
/// which fuse-overlayfs (1.10) shows as empty files.
pub(crate) fn takes_whiteouts(dir: &Path) -> bool {
    let path = dir.join(format!("whiteout-{}", std::process::id()));
    let made = mknod(&path, SFlag::S_IFCHR, Mode::empty(), 0);
    // It was only for the answer.
    let _ = fs::remove_file(&path);
    made.is_ok()
}

/// `None`: the process that tried was killed.
fn overlay_works(root: &Path, identity: &Identity) -> Result<Option<bool>, RootfsError> {
    let dir = root
        .join("tmp")
        .join(format!("probe-{}", std::process::id()));
    let fork = |source| RootfsError::Identity(IdentityError::Unshare { source });
    let worked = match sys::clone_process(0).map_err(fork)? {
        Cloned::Parent { pid, .. } => match waitpid(Pid::from_raw(pid), None) {
            Ok(WaitStatus::Exited(_, code)) => Some(code == 0),
            _ => None,
        },
        Cloned::Child => {
            let works =
                identity::enter(identity, Mounts::Private).is_ok() && try_overlay(&dir).is_ok();
            // What the mount made in `work` belongs to the namespace's root: us, also outside.
            // Storage clears what stays.
            let _ = rctr_storage::tree::remove_tree(&dir);
            sys::exit_now(i32::from(!works))
        }
    };
    Ok(worked)
}

/// A mount, a change and a deletion: some file systems take the mount alone.
fn try_overlay(dir: &Path) -> io::Result<()> {
    let plan = RootfsPlan {
        driver: Driver::Overlay,
        lowers: vec![dir.join("lower")],
        upper: dir.join("upper"),
        work: dir.join("work"),
        merged: dir.join("merged"),
        read_only: false,
        volatile: false,
    };
    for part in [&plan.lowers[0], &plan.upper, &plan.work, &plan.merged] {
        fs::create_dir_all(part)?;
    }
    fs::write(plan.lowers[0].join("file"), "x")?;
    fs::create_dir(plan.lowers[0].join("dir"))?;
    mount_overlay(&plan)?;
    fs::write(plan.merged.join("new"), "x")?;
    fs::remove_file(plan.merged.join("file"))?;
    fs::remove_dir(plan.merged.join("dir"))?;
    fs::create_dir(plan.merged.join("dir"))?;
    // Not lazily: overlay would still tidy its work directory while that is deleted.
    nix::mount::umount(&plan.merged)?;
    if fs::symlink_metadata(plan.upper.join("file"))?.rdev() != 0 {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    Ok(())
}

/// Moves this single-threaded process into the user namespace of the running process `target` and tells where its root
/// is, with all its mounts: a path of this process alone.
///
/// # Errors
/// When the process is gone.
pub fn look_into_running(target: Known) -> Result<PathBuf, RootfsError> {
    let join = |source| RootfsError::Join { source };
    identity::join(&PathBuf::from(format!("/proc/{}/ns/user", target.pid))).map_err(join)?;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let path = PathBuf::from(format!("/proc/{}/root/.", target.pid));
    let root = nix::fcntl::open(&path, flags, Mode::empty()).map_err(|errno| join(errno.into()))?;
    // By its descriptor, since the PID may soon be that of a process whose root is the host's.
    target.check().map_err(join)?;
    Ok(PathBuf::from(format!(
        "/proc/self/fd/{}",
        root.into_raw_fd()
    )))
}

/// Puts layers over each other at `plan.merged`, for this process to look at: by overlay, or with the other drivers as a
/// copy. The process is root of its user namespace, has a mount namespace of its own, and may have threads.
///
/// # Errors
/// When a mount or the copying fails.
pub fn look_at_layers(store: &Store, plan: &RootfsPlan) -> Result<(), RootfsError> {
    let failed = |source| RootfsError::Mount {
        path: plan.merged.clone(),
        source,
    };
    if plan.driver != Driver::Overlay || plan.lowers.is_empty() {
        store.flatten(&plan.lowers, &plan.merged, Durability::None)?;
        return Ok(());
    }
    for part in [&plan.upper, &plan.work, &plan.merged] {
        fs::create_dir_all(part).map_err(failed)?;
    }
    mount_overlay(plan).map_err(failed)
}

/// Moves this single-threaded process into a new user and mount namespace, mounts the tree of a container that isn't
/// running, and tells where. `binds` are (host path, path inside) of its volumes. It ends with this process. `store` is
/// the root of the store.
///
/// # Errors
/// When there is no identity, a mount or the copying fails.
pub fn look_into_stopped(
    identity: &Identity,
    store: &Path,
    plan: &RootfsPlan,
    binds: &[(PathBuf, PathBuf)],
) -> Result<PathBuf, RootfsError> {
    identity::enter(identity, Mounts::Private)?;
    let failed = |source| RootfsError::Mount {
        path: plan.merged.clone(),
        source,
    };
    prepare(store, plan, Durability::Fsync)?;
    fs::create_dir_all(&plan.merged).map_err(failed)?;
    match plan.driver {
        _ if plan.lowers.is_empty() && plan.driver != Driver::Copy => {
            mount(
                Some(&plan.upper),
                &plan.merged,
                None::<&str>,
                MsFlags::MS_BIND,
                None::<&str>,
            )
            .map_err(|errno| failed(errno.into()))?;
        }
        Driver::Overlay => mount_overlay(plan).map_err(failed)?,
        Driver::FuseOverlayfs => {
            let device = fuse::mount_unserved(&plan.merged).map_err(failed)?;
            fuse::start(plan, std::os::fd::AsFd::as_fd(&device)).map_err(failed)?;
        }
        Driver::Copy => {}
    }
    let root = fs::File::open(&plan.merged).map_err(failed)?;
    for (source, target) in binds {
        let error = |source| RootfsError::Mount {
            path: target.clone(),
            source,
        };
        crate::init::bind_volume(&root.try_clone().map_err(error)?.into(), source, target)
            .map_err(error)?;
    }
    Ok(plan.merged.clone())
}
