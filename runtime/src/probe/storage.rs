//! The directory of the store, and who can put root file systems together there.

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{FsType, statfs};
use nix::sys::statvfs::{FsFlags, statvfs};

use super::{Outcome, Probe, Trouble, World, find_program, trouble};
use crate::rootfs::takes_whiteouts;
use crate::sys;

/// Where the store can be put instead.
const MOVE: &str = "put the store on another file system: RCTR_ROOT=/path/on/a/local/disk";

pub(super) fn all(world: &World<'_>) -> Vec<Probe> {
    let root = world.surroundings.storage;
    let place = existing(root);
    let mut probes = vec![
        directory(root, &place),
        run_directory(world.surroundings.run),
    ];
    if probes[0].outcome == Outcome::Broken {
        return probes;
    }
    probes.extend([file_system(&place), space(&place)]);
    let fuse = fuse(world, &place);
    probes.extend([overlay(world, &place, fuse.outcome), fuse]);
    probes
}

/// The directory itself or the nearest one above it that is there.
fn existing(path: &Path) -> PathBuf {
    let mut place = path;
    while !place.is_dir() {
        match place.parent() {
            Some(parent) => place = parent,
            None => break,
        }
    }
    place.to_owned()
}

/// A file without a name: nothing is left behind whatever happens.
fn nameless_file(place: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .write(true)
        .mode(0o600)
        .custom_flags(libc::O_TMPFILE)
        .open(place)
}

fn directory(root: &Path, place: &Path) -> Probe {
    const NAME: &str = "store";
    let shown = root.display().to_string();
    let found = if root == place {
        shown
    } else {
        format!("{shown}, to be made in {}", place.display())
    };
    let writable = Scratch::new(place).map(drop);
    match writable {
        Ok(()) => Probe::works(NAME, found),
        Err(error) => Probe::new(NAME, Outcome::Broken, format!("{found}: {error}"))
            .means("images and containers can't be kept")
            .fix("RCTR_ROOT=/path/to/a/writable/directory"),
    }
}

fn run_directory(run: &Path) -> Probe {
    const NAME: &str = "run directory";
    // sun_path is 108 bytes; the socket's name below it has at most 90.
    let place = existing(run);
    match Scratch::new(&place).map(drop) {
        Ok(()) => Probe::works(NAME, run.display().to_string()),
        Err(error) => Probe::new(NAME, Outcome::Broken, format!("{}: {error}", run.display()))
            .means("there is no place for the sockets of containers")
            .fix("XDG_RUNTIME_DIR or RCTR_RUN=/path/to/a/writable/directory"),
    }
}

/// Magic numbers of linux/magic.h that nix hasn't, and what we know of them.
fn kind(fs: FsType) -> (&'static str, bool) {
    match fs.0 as u64 & 0xffff_ffff {
        0xef53 => ("ext4", true),
        0x9123_683e => ("btrfs", true),
        0x5846_5342 => ("xfs", true),
        0x0102_1994 => ("tmpfs", true),
        0x2fc1_2fc1 => ("zfs", true),
        0xf2f5_2010 => ("f2fs", true),
        0x794c_7630 => ("overlay", false),
        0x6969 => ("nfs", false),
        0xff53_4d42 | 0xfe53_4d42 | 0x517b => ("cifs", false),
        0x6573_5546 => ("fuse", false),
        0x0102_1997 => ("9p", false),
        0xca45_1a4e => ("bcachefs", true),
        _ => ("other", true),
    }
}

fn file_system(place: &Path) -> Probe {
    const NAME: &str = "store's file system";
    let (kind, good) = statfs(place).map_or(("unknown", false), |s| kind(s.filesystem_type()));
    let flags = statvfs(place).map_or(FsFlags::empty(), |s| s.flags());
    if flags.contains(FsFlags::ST_NOEXEC) {
        return Probe::new(NAME, Outcome::Broken, format!("{kind}, mounted noexec"))
            .means("no program of a container can be started")
            .fix(format!("mount it with exec, or {MOVE}"));
    }
    let xattrs = nameless_file(place)
        .and_then(|file| sys::set_xattr(file.as_fd(), c"user.rctr.probe", b"1"));
    if let Err(error) = xattrs {
        return Probe::new(
            NAME,
            Outcome::Limited,
            format!("{kind}, user.* attributes: {error}"),
        )
        .means("neither overlay driver works; each container is a full copy of its image")
        .fix(MOVE);
    }
    let mut found = format!("{kind}, with user.* attributes");
    if flags.contains(FsFlags::ST_NODEV) {
        found.push_str(", nodev");
    }
    if good {
        Probe::works(NAME, found)
    } else {
        Probe::new(NAME, Outcome::Limited, found)
            .means(
                "network and stacked file systems are slower and refuse some owners or attributes",
            )
            .fix(MOVE)
    }
}

fn space(place: &Path) -> Probe {
    const NAME: &str = "space for the store";
    const ENOUGH: u64 = 1 << 30;
    let Ok(stat) = statvfs(place) else {
        return Probe::note(NAME, "unknown");
    };
    let bytes = stat.blocks_available() * stat.fragment_size();
    let inodes = stat.files_available();
    let found = format!("{:.1} GB free", bytes as f64 / 1e9);
    // Some file systems have no fixed number of inodes and say 0 of 0.
    if bytes >= ENOUGH && (inodes > 50_000 || stat.files() == 0) {
        return Probe::works(NAME, found);
    }
    Probe::new(NAME, Outcome::Limited, format!("{found}, {inodes} inodes"))
        .means("larger images won't fit")
        .fix(format!("rctr image prune; or {MOVE}"))
}

fn overlay(world: &World<'_>, place: &Path, fuse: Outcome) -> Probe {
    const NAME: &str = "overlay in the store";
    // Made before the IDs change: the store belongs to the user outside.
    let scratch = Scratch::new(place);
    let dir = |name: &str| {
        scratch
            .as_ref()
            .map_or_else(|_| place.join(name), |s| s.0.join(name))
    };
    let made = ["lower", "upper", "work", "merged"].map(|name| fs::create_dir(dir(name)));
    if made.iter().any(Result::is_err) {
        return Probe::note(NAME, "not tried: the store can't be written");
    }
    let attempt = world.inside(|| {
        let options = format!(
            "userxattr,lowerdir={},upperdir={},workdir={}",
            dir("lower").display(),
            dir("upper").display(),
            dir("work").display()
        );
        let merged = dir("merged");
        let mounted = mount(
            Some("overlay"),
            &merged,
            Some("overlay"),
            MsFlags::empty(),
            Some(options.as_str()),
        )
        .map_err(trouble("mount overlay"))
        .and_then(|()| fs::write(merged.join("file"), "").map_err(trouble("write to overlay")));
        // In `work` overlay keeps a directory without any permission, which is ours to remove from here only; the mount
        // ends with this process if it can't be taken down.
        let _ = nix::mount::umount(&merged).map(|()| fs::remove_dir_all(dir("work")));
        mounted.map(|()| "native, unprivileged (userxattr)".to_owned())
    });
    let trouble = match attempt {
        None => return Probe::not_tried(NAME),
        Some(Ok(found)) => return Probe::works(NAME, found),
        Some(Err(trouble)) => trouble,
    };
    let means = match fuse {
        Outcome::Works => "fuse-overlayfs is used: file operations in containers are slower",
        _ => "each container is a full copy of its image: slow to start, and large",
    };
    Probe::new(NAME, Outcome::Limited, trouble.to_string())
        .means(means)
        .fix(overlay_fix(&trouble))
}

fn overlay_fix(trouble: &Trouble) -> String {
    match trouble.errno {
        libc::EINVAL => format!(
            "Linux 5.11, and a store that isn't on an overlay itself (a volume, emptyDir or tmpfs in a container); {MOVE}"
        ),
        libc::ENODEV => "as root: modprobe overlay".to_owned(),
        _ => MOVE.to_owned(),
    }
}

fn fuse(world: &World<'_>, place: &Path) -> Probe {
    const NAME: &str = "fuse-overlayfs";
    let program = find_program("fuse-overlayfs", world.surroundings.path);
    let device = OpenOptions::new().read(true).write(true).open("/dev/fuse");
    match (program, device) {
        (Some(_), Ok(_)) if !takes_whiteouts(place) => Probe::note(
            NAME,
            "not with this store: its file system takes no whiteouts",
        )
        .fix(MOVE),
        (Some(program), Ok(_)) => Probe::works(NAME, program.display().to_string()),
        (None, _) => Probe::note(NAME, "not installed")
            .means("needed only where native overlay doesn't work")
            .fix("apt-get install fuse-overlayfs"),
        (Some(_), Err(error)) => Probe::note(NAME, format!("cannot open /dev/fuse: {error}"))
            .means("needed only where native overlay doesn't work")
            .fix("as root: modprobe fuse; in a container: --device /dev/fuse"),
    }
}

/// A directory for a moment; removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(place: &Path) -> std::io::Result<Self> {
        let path = place.join(format!(".rctr-probe-{}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays is an empty directory with a telling name.
        let _ = fs::remove_dir_all(&self.0);
    }
}
