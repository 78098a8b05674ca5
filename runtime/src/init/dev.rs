//! /dev: a small tmpfs with the host's harmless nodes bound in (a user namespace can't make device nodes).

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::mount::MsFlags;

use super::mounts::{ReadOnly, Tree, bind, filesystem};
use super::target;
use super::{Context, Step};
use crate::plan::LaunchPlan;

const NODES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// (name, where it points).
const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
    ("core", "/proc/kcore"),
];
/// The group `tty`, which owns terminals on Debian and most others.
const TTY_GID: u32 = 5;

pub(super) fn populate(root: &OwnedFd, plan: &LaunchPlan) -> Step {
    let step = "mount";
    let none = String::new;
    let strict = MsFlags::MS_NOSUID | MsFlags::MS_STRICTATIME;
    filesystem(
        root,
        &("tmpfs", "/dev", strict, "mode=755,size=65536k".to_owned()),
    )
    .at(step, "/dev")?;
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    let pts = format!("newinstance,ptmxmode=0666,mode=0620,gid={TTY_GID}");
    filesystem(root, &("devpts", "/dev/pts", quiet, pts))
        // Group 5 isn't mapped when few subordinate IDs are there.
        .or_else(|_| {
            let pts = "newinstance,ptmxmode=0666,mode=0620".to_owned();
            filesystem(root, &("devpts", "/dev/pts", quiet, pts))
        })
        .at(step, "/dev/pts")?;
    let locked = quiet | MsFlags::MS_NODEV;
    let shm = format!("mode=1777,size={}", plan.shm_size);
    filesystem(root, &("tmpfs", "/dev/shm", locked, shm)).at(step, "/dev/shm")?;
    // A kernel without POSIX queues has nothing to mount there, and with a joined IPC namespace it may be refused.
    let _ = filesystem(root, &("mqueue", "/dev/mqueue", locked, none()));
    let dev = target::open(root.as_fd(), Path::new("/dev"), OFlag::O_PATH).at(step, "/dev")?;
    if plan.privileged {
        bind_all(root)?;
    } else {
        for node in NODES {
            node_from_host(
                root,
                &Path::new("/dev").join(node),
                &Path::new("/dev").join(node),
            )?;
        }
    }
    for (name, target) in LINKS {
        match nix::unistd::symlinkat(target, &dev, name) {
            Err(nix::errno::Errno::EEXIST) => {}
            other => other.at("make the link", format!("/dev/{name}"))?,
        }
    }
    for device in &plan.devices {
        node_from_host(root, &device.source, &device.target)?;
    }
    Ok(())
}

fn node_from_host(root: &OwnedFd, source: &Path, target: &Path) -> Step {
    bind(
        root,
        source,
        target,
        ReadOnly::No,
        Tree::Recursive,
        "rprivate",
    )
    .at(
        "give the device",
        format!("{} as {}", source.display(), target.display()),
    )
}

/// `--privileged`: all of the host's nodes that we may see.
fn bind_all(root: &OwnedFd) -> Step {
    let entries = std::fs::read_dir("/dev").at("read", "/dev")?;
    for entry in entries.flatten() {
        let path: PathBuf = entry.path();
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        let device = {
            use std::os::unix::fs::FileTypeExt;
            kind.is_char_device() || kind.is_block_device()
        };
        let ours = ["console", "ptmx"]
            .iter()
            .any(|name| entry.file_name() == *name);
        if (device && !ours) || entry.file_name() == "net" {
            // What can't be bound, we may not use either.
            let _: io::Result<()> = bind(
                root,
                &path,
                &path,
                ReadOnly::No,
                Tree::Recursive,
                "rprivate",
            );
        }
    }
    Ok(())
}
