//! The root file system: mounts it, and makes it the root.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;

use super::{Context, Step};
use crate::fuse;
use crate::handshake::{Channel, FromInit};
use crate::launch::c_path;
use crate::plan::{Driver, RootfsPlan};
use crate::sys;

/// Mounts the root at `plan.merged`; the result stands for it.
pub(super) fn mount_root(plan: &RootfsPlan, channel: &Channel) -> Step<OwnedFd> {
    let shown = plan.merged.display().to_string();
    if plan.lowers.is_empty() && plan.driver != Driver::Copy {
        bind(&plan.upper, &plan.merged).at("mount the empty root file system", &shown)?;
    } else {
        match plan.driver {
            Driver::Overlay => {
                mount_overlay(plan).at("mount the root file system with overlay", &shown)?
            }
            Driver::FuseOverlayfs => {
                let device = fuse::mount_unserved(&plan.merged)
                    .at("mount the root file system with FUSE", &shown)?;
                channel
                    .send(&FromInit::Fuse, Some(device.as_fd()))
                    .at("tell the monitor", "")?;
            }
            // pivot_root(2) wants a mount point.
            Driver::Copy => {
                bind(&plan.merged, &plan.merged).at("mount the root file system", &shown)?
            }
        }
    }
    open_dir(&plan.merged).at("open the root file system", &shown)
}

/// Mounts `plan` with the kernel's overlay. Also used outside of containers, to look into a stopped one.
pub(crate) fn mount_overlay(plan: &RootfsPlan) -> io::Result<()> {
    let writable = Writable {
        upper: &plan.upper,
        work: &plan.work,
        volatile: plan.volatile,
    };
    match mount_layers(&plan.lowers, Some(&writable), &plan.merged) {
        // It was volatile, and its monitor was killed before it could be removed.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) && forget_volatile(plan) => {
            mount_layers(&plan.lowers, Some(&writable), &plan.merged)
        }
        other => other,
    }
}

/// Removes the mark that overlay leaves in a work directory that was mounted `volatile`, and refuses ever after. It means
/// that a power cut may have taken some of the changes, of a container that nobody wants then. Says if there was one.
fn forget_volatile(plan: &RootfsPlan) -> bool {
    let mark = plan.work.join("work/incompat");
    mark.join("volatile").exists() && rctr_storage::tree::remove_tree(&mark).is_ok()
}

/// Where the writes to an overlay go.
#[derive(Debug)]
pub(super) struct Writable<'a> {
    pub(super) upper: &'a Path,
    pub(super) work: &'a Path,
    /// As [`RootfsPlan::volatile`].
    pub(super) volatile: bool,
}

/// Mounts `lowers` (top first; at least two, unless it is writable) over each other at `at`.
pub(super) fn mount_layers(
    lowers: &[PathBuf],
    writable: Option<&Writable<'_>>,
    at: &Path,
) -> io::Result<()> {
    match new_api(lowers, writable, at) {
        // Linux before 6.5 knows no `lowerdir+`, before 5.2 no fsopen.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)) => {
            let old = match writable.is_some_and(|to| to.volatile) {
                // Linux before 5.10 doesn't know the word.
                true => old_api(lowers, writable, ",volatile", at)
                    .or_else(|_| old_api(lowers, writable, "", at)),
                false => old_api(lowers, writable, "", at),
            };
            old.map_err(|_| error)
        }
        other => other,
    }
}

/// One parameter a layer: no limit by the page size of mount(2)'s options.
fn new_api(lowers: &[PathBuf], writable: Option<&Writable<'_>>, at: &Path) -> io::Result<()> {
    let fs = sys::fsopen(c"overlay")?;
    let set = |key, path: &Path| sys::fsconfig_set(fs.as_fd(), key, Some(&c_path(path)?));
    for lower in lowers {
        set(c"lowerdir+", lower)?;
    }
    if let Some(to) = writable {
        set(c"upperdir", to.upper)?;
        set(c"workdir", to.work)?;
    }
    sys::fsconfig_set(fs.as_fd(), c"userxattr", None)?;
    if writable.is_some_and(|to| to.volatile) {
        sys::fsconfig_set(fs.as_fd(), c"volatile", None)?;
    }
    let mount = sys::fsmount(fs.as_fd(), 0)?;
    sys::move_mount(mount.as_fd(), open_dir(at)?.as_fd())
}

/// Descriptors keep the options short: some 240 layers fit a page.
fn old_api(
    lowers: &[PathBuf],
    writable: Option<&Writable<'_>>,
    volatile: &str,
    at: &Path,
) -> io::Result<()> {
    let mut held = Vec::new();
    let mut short = |path: &Path| -> io::Result<String> {
        let fd = open_dir(path)?;
        let text = super::target::proc_path(&fd).display().to_string();
        held.push(fd);
        Ok(text)
    };
    let lowers = lowers
        .iter()
        .map(|l| short(l))
        .collect::<io::Result<Vec<_>>>()?
        .join(":");
    let mut options = format!("lowerdir={lowers},userxattr{volatile}");
    if let Some(to) = writable {
        let (upper, work) = (short(to.upper)?, short(to.work)?);
        options += &format!(",upperdir={upper},workdir={work}");
    }
    let options = CString::new(options)?;
    mount(
        Some("overlay"),
        at,
        Some("overlay"),
        MsFlags::empty(),
        Some(options.as_c_str()),
    )?;
    Ok(())
}

fn bind(source: &Path, target: &Path) -> io::Result<()> {
    mount(
        Some(source),
        target,
        None::<&str>,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        None::<&str>,
    )?;
    Ok(())
}

pub(super) fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    Ok(nix::fcntl::open(path, flags, Mode::empty())?)
}

/// Makes the root file system the root, and lets go of the host's.
pub(super) fn pivot(root: &OwnedFd, plan: &RootfsPlan) -> Step {
    let step = "change to the root file system";
    nix::unistd::fchdir(root).at(step, "chdir")?;
    // The old root lands on top of the new one, from where it is taken away (pivot_root(2), "pivot_root(".", ".")").
    nix::unistd::pivot_root(".", ".").at(step, "pivot_root")?;
    mount(
        None::<&str>,
        ".",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_SLAVE,
        None::<&str>,
    )
    .at(step, "old root")?;
    umount2(".", MntFlags::MNT_DETACH).at(step, "unmount the old root")?;
    nix::unistd::chdir("/").at(step, "/")?;
    if plan.read_only {
        let here = File::open("/").at(step, "/")?;
        let attr = sys::MountAttr {
            attr_set: libc::MOUNT_ATTR_RDONLY,
            ..sys::MountAttr::default()
        };
        sys::mount_setattr(here.as_fd(), false, &attr)
            .at("make the root file system read-only", "/")?;
    }
    Ok(())
}
