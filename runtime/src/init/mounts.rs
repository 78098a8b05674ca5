//! The mounts beyond the root: the kernel's file systems, volumes, binds, tmpfs, and what is hidden or write-protected.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};
use nix::sys::stat::fstat;
use nix::sys::statfs::{PROC_SUPER_MAGIC, Statfs, fstatfs, statfs};

use super::layered::{self, Files};
use super::target::{self, Kind};
use super::{Context, Step};
use crate::plan::{LaunchPlan, MountOp, Namespace};
use crate::sys::{self, MountAttr};

const OPEN_TREE_CLONE: u32 = 1;
const AT_RECURSIVE: u32 = 0x8000;

/// A file system of the kernel: (type, mount point, flags, options).
type Standard = (&'static str, &'static str, MsFlags, String);

/// /proc, /sys and their like. /dev is in [`super::dev`].
pub(super) fn standard(root: &OwnedFd, plan: &LaunchPlan) -> Step {
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount_proc(root, quiet)?;
    let sys_flags = if plan.privileged {
        quiet
    } else {
        quiet | MsFlags::MS_RDONLY
    };
    let sysfs = filesystem(root, &("sysfs", "/sys", sys_flags, String::new()));
    if matches!(&sysfs, Err(error) if error.raw_os_error().is_none()) {
        return sysfs.at("mount", "/sys");
    }
    if sysfs.is_err() {
        // sysfs belongs to the network namespace: with the host's, only the host's mount can be shown.
        bind(
            root,
            Path::new("/sys"),
            Path::new("/sys"),
            ReadOnly::Yes,
            Tree::Recursive,
            "rslave",
        )
        .at("mount", "/sys")?;
        return Ok(());
    }
    mount_cgroup(root, plan, sys_flags)
}

fn mount_proc(root: &OwnedFd, flags: MsFlags) -> Step {
    match filesystem(root, &("proc", "/proc", flags, String::new())) {
        // Parts of our own /proc are covered, so the kernel gives no bare one: show the one that we have.
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => bind(
            root,
            Path::new("/proc"),
            Path::new("/proc"),
            ReadOnly::No,
            Tree::Recursive,
            "rslave",
        )
        .map_err(|_| error),
        other => other,
    }
    .at("mount", "/proc")
}

/// The container's own part of the cgroup tree, where there is just one tree (v2).
fn mount_cgroup(root: &OwnedFd, plan: &LaunchPlan, flags: MsFlags) -> Step {
    let place = Path::new("/sys/fs/cgroup");
    let unified = nix::sys::statfs::statfs(place)
        .is_ok_and(|fs| fs.filesystem_type() == nix::sys::statfs::CGROUP2_SUPER_MAGIC);
    if !unified || target::open(root.as_fd(), place, OFlag::O_PATH).is_err() {
        return Ok(());
    }
    let own = plan.namespaces.cgroup == Namespace::Private
        && filesystem(root, &("cgroup2", "/sys/fs/cgroup", flags, String::new())).is_ok();
    if !own {
        bind(root, place, place, ReadOnly::Yes, Tree::Recursive, "rslave")
            .at("mount", "/sys/fs/cgroup")?;
    }
    Ok(())
}

pub(super) fn filesystem(
    root: &OwnedFd,
    (kind, path, flags, options): &Standard,
) -> io::Result<()> {
    let point = target::ensure_plain(root.as_fd(), Path::new(path))?;
    let options = (!options.is_empty()).then_some(options.as_str());
    mount(
        Some(*kind),
        &target::proc_path(&point),
        Some(*kind),
        *flags,
        options,
    )?;
    Ok(())
}

/// Whether a mount can be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadOnly {
    Yes,
    No,
}

/// Whether the mounts below come along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tree {
    Recursive,
    Single,
}

/// Mounts the host's `source` at `point` inside.
pub(super) fn bind(
    root: &OwnedFd,
    source: &Path,
    point: &Path,
    read_only: ReadOnly,
    tree: Tree,
    propagation: &str,
) -> io::Result<()> {
    let here = File::open("/")?;
    let recursive = tree == Tree::Recursive;
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC as u32 | if recursive { AT_RECURSIVE } else { 0 };
    let mount = sys::open_tree(here.as_fd(), &crate::launch::c_path(source)?, flags)?;
    let kind = if File::from(mount.try_clone()?).metadata()?.is_dir() {
        Kind::Directory
    } else {
        Kind::File
    };
    let point = target::ensure(root.as_fd(), point, kind)?;
    attach(
        mount.as_fd(),
        point.as_fd(),
        read_only,
        recursive,
        propagation,
    )
}

/// Mounts what `source` stands for at `point` inside, with the mounts below it.
pub(super) fn bind_opened(
    root: &OwnedFd,
    source: BorrowedFd<'_>,
    point: &Path,
    read_only: ReadOnly,
) -> io::Result<()> {
    let flags =
        OPEN_TREE_CLONE | libc::O_CLOEXEC as u32 | AT_RECURSIVE | libc::AT_EMPTY_PATH as u32;
    let mount = sys::open_tree(source, c"", flags)?;
    let kind = if File::from(mount.try_clone()?).metadata()?.is_dir() {
        Kind::Directory
    } else {
        Kind::File
    };
    let point = target::ensure(root.as_fd(), point, kind)?;
    attach(mount.as_fd(), point.as_fd(), read_only, true, "rprivate")
}

fn attach(
    mount: BorrowedFd<'_>,
    point: BorrowedFd<'_>,
    read_only: ReadOnly,
    recursive: bool,
    propagation: &str,
) -> io::Result<()> {
    if read_only == ReadOnly::Yes {
        let attr = MountAttr {
            attr_set: libc::MOUNT_ATTR_RDONLY,
            ..MountAttr::default()
        };
        sys::mount_setattr(mount, recursive, &attr)?;
    }
    sys::move_mount(mount, point)?;
    let (kind, deep) = match propagation {
        "shared" => (MsFlags::MS_SHARED, false),
        "rshared" => (MsFlags::MS_SHARED, true),
        "slave" => (MsFlags::MS_SLAVE, false),
        "rslave" => (MsFlags::MS_SLAVE, true),
        "private" => (MsFlags::MS_PRIVATE, false),
        _ => (MsFlags::MS_PRIVATE, true),
    };
    let attr = MountAttr {
        propagation: kind.bits(),
        ..MountAttr::default()
    };
    sys::mount_setattr(mount, deep, &attr)
}

/// Empty volumes get what the image has at their place.
pub(super) fn fill_volumes(root: &OwnedFd, mounts: &[MountOp]) -> Step {
    for op in mounts {
        let MountOp::Volume {
            source,
            target,
            copy_up: true,
            ..
        } = op
        else {
            continue;
        };
        let shown = source.display().to_string();
        let empty = std::fs::read_dir(source)
            .at("read the volume", &shown)?
            .next()
            .is_none();
        // Nothing at that place in the image: the volume stays empty.
        let Ok(inside) = target::open(root.as_fd(), target, OFlag::O_PATH | OFlag::O_DIRECTORY)
        else {
            continue;
        };
        if empty {
            let from = target::proc_path(&inside).join(".");
            rctr_storage::tree::copy_up(&from, source)
                .map_err(io::Error::other)
                .at("fill the volume from the image", &shown)?;
        }
    }
    Ok(())
}

/// `-v …:U`: what is mounted belongs to the container's user, who is looked up in the image.
pub(super) fn give_to_user(root: &OwnedFd, plan: &LaunchPlan) -> Step {
    let given = plan.mounts.iter().filter_map(|op| match op {
        MountOp::Bind {
            source,
            chown: true,
            ..
        }
        | MountOp::Volume {
            source,
            chown: true,
            ..
        } => Some(source),
        _ => None,
    });
    let mut user = None;
    for source in given {
        let user = match &user {
            Some(user) => user,
            None => user.insert(super::process::account_in(root, &plan.process)?),
        };
        rctr_storage::tree::give(source, user.uid, user.gid)
            .map_err(io::Error::other)
            .at("give to the container's user", source.display().to_string())?;
    }
    Ok(())
}

/// Files of /proc that may be covered, as with docker: what tells a container its limits, and nobody's safety hangs on.
const COVERABLE: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/net/dev",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
];

/// Refuses to cover the root or a part of /proc, be it by a link in the image: what is hidden there would show again
/// elsewhere, and programs, ours among them, believe /proc (CVE-2019-16884).
fn check_place(root: &OwnedFd, op: &MountOp) -> Step {
    let path = op.target();
    let source = match op {
        MountOp::Bind { source, .. } => Some(source),
        _ => None,
    };
    // Nothing is there yet: then it is neither.
    let Ok(place) = target::open(root.as_fd(), path, OFlag::O_PATH) else {
        return Ok(());
    };
    let refused = |why: &str| Err(io::Error::other(why)).at("mount", path.to_string_lossy());
    let (here, top) = (
        fstat(&place).at("look at", path.to_string_lossy())?,
        fstat(root).at("look at", "/")?,
    );
    if (here.st_dev, here.st_ino) == (top.st_dev, top.st_ino) {
        return refused("it is the root of the container");
    }
    let is_proc =
        |fs: nix::Result<Statfs>| fs.is_ok_and(|fs| fs.filesystem_type() == PROC_SUPER_MAGIC);
    if !is_proc(fstatfs(&place)) {
        return Ok(());
    }
    let plain = target::plain(path);
    let as_itself = plain == Path::new("/proc") && source.is_some_and(|s| is_proc(statfs(s)));
    if as_itself || COVERABLE.iter().any(|known| plain == Path::new(known)) {
        return Ok(());
    }
    refused("it is inside /proc")
}

/// What the user asked for.
pub(super) fn requested(root: &OwnedFd, mounts: &[MountOp]) -> Step {
    let mut files = Files::default();
    for op in mounts {
        check_place(root, op)?;
        match op {
            MountOp::Bind {
                source,
                target,
                read_only,
                recursive,
                propagation,
                ..
            } => {
                let read_only = if *read_only {
                    ReadOnly::Yes
                } else {
                    ReadOnly::No
                };
                let tree = if *recursive {
                    Tree::Recursive
                } else {
                    Tree::Single
                };
                bind(root, source, target, read_only, tree, propagation).at(
                    "mount",
                    format!("{} on {}", source.display(), target.display()),
                )?;
            }
            MountOp::Volume {
                source,
                target,
                read_only,
                ..
            } => {
                let read_only = if *read_only {
                    ReadOnly::Yes
                } else {
                    ReadOnly::No
                };
                bind(root, source, target, read_only, Tree::Recursive, "rprivate").at(
                    "mount the volume",
                    format!("{} on {}", source.display(), target.display()),
                )?;
            }
            MountOp::Tmpfs { target, options } => tmpfs(root, target, options)?,
            MountOp::Tree { .. } | MountOp::Seeded { .. } => layered::mount(root, op)?,
            MountOp::File { .. } => files.mount(root, op)?,
        }
    }
    Ok(())
}

fn tmpfs(root: &OwnedFd, path: &Path, options: &str) -> Step {
    let shown = path.display().to_string();
    let point = target::ensure(root.as_fd(), path, Kind::Directory).at("mount a tmpfs", &shown)?;
    let (flags, data) = tmpfs_options(options);
    mount(
        Some("tmpfs"),
        &target::proc_path(&point),
        Some("tmpfs"),
        flags,
        Some(data.as_str()),
    )
    .at("mount a tmpfs", format!("{shown}, options {data:?}"))
}

/// mount(8) words as flags, the others as data for the file system.
fn tmpfs_options(options: &str) -> (MsFlags, String) {
    let mut flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let mut data = Vec::new();
    for word in options.split(',').filter(|w| !w.is_empty()) {
        match word {
            "ro" => flags |= MsFlags::MS_RDONLY,
            "rw" => flags -= MsFlags::MS_RDONLY,
            "exec" => flags -= MsFlags::MS_NOEXEC,
            "noexec" => flags |= MsFlags::MS_NOEXEC,
            "suid" => flags -= MsFlags::MS_NOSUID,
            "nosuid" => flags |= MsFlags::MS_NOSUID,
            "dev" => flags -= MsFlags::MS_NODEV,
            "nodev" => flags |= MsFlags::MS_NODEV,
            "noatime" => flags |= MsFlags::MS_NOATIME,
            "async" | "atime" | "defaults" => {}
            other => data.push(other),
        }
    }
    (flags, data.join(","))
}

/// Hides and write-protects what tells too much about the host or would change it.
pub(super) fn protect(root: &OwnedFd, plan: &LaunchPlan) -> Step {
    for path in &plan.readonly_paths {
        let Ok(point) = target::open(root.as_fd(), Path::new(path), OFlag::O_PATH) else {
            continue;
        };
        let flags =
            OPEN_TREE_CLONE | libc::O_CLOEXEC as u32 | AT_RECURSIVE | libc::AT_EMPTY_PATH as u32;
        sys::open_tree(point.as_fd(), c"", flags)
            .and_then(|mount| {
                attach(
                    mount.as_fd(),
                    point.as_fd(),
                    ReadOnly::Yes,
                    true,
                    "rprivate",
                )
            })
            .at("write-protect", path)?;
    }
    for path in &plan.masked_paths {
        let Ok(point) = target::open(root.as_fd(), Path::new(path), OFlag::O_PATH) else {
            continue;
        };
        let place = target::proc_path(&point);
        let is_dir = File::from(point.try_clone().at("hide", path)?)
            .metadata()
            .at("hide", path)?
            .is_dir();
        if is_dir {
            mount(
                Some("tmpfs"),
                &place,
                Some("tmpfs"),
                MsFlags::MS_RDONLY,
                Some("size=0k,nr_inodes=2"),
            )
        } else {
            mount(
                Some("/dev/null"),
                &place,
                None::<&str>,
                MsFlags::MS_BIND,
                None::<&str>,
            )
        }
        .at("hide", path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tmpfs_words_become_flags_or_data() {
        let (flags, data) = tmpfs_options("rw,size=16m,exec,mode=1777");
        assert_eq!(flags, MsFlags::MS_NOSUID | MsFlags::MS_NODEV);
        assert_eq!(data, "size=16m,mode=1777");
    }
}
