//! The driver for hosts whose kernel refuses overlay to users: the program fuse-overlayfs.
//!
//! Init mounts an empty FUSE file system and sends its descriptor out; the program serves that descriptor from the
//! host's mount and PID namespaces, where the container doesn't see it and where it finds the host's /proc, which it
//! needs (in the container's mount namespace init's pivot would move its root, too).

use std::ffi::{CStr, CString, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::unistd::Pid;

use crate::plan::RootfsPlan;
use crate::sys::{self, Cloned};

const PLACES: [&str; 3] = [
    "/usr/bin/fuse-overlayfs",
    "/usr/local/bin/fuse-overlayfs",
    "/bin/fuse-overlayfs",
];

/// The number of the device in the program.
const DEVICE_FD: i32 = 3;

/// The program, if it is installed.
pub(crate) fn program() -> Option<&'static Path> {
    PLACES.map(Path::new).into_iter().find(|path| path.exists())
}

/// Starts fuse-overlayfs for `rootfs`, serving `device` (an open /dev/fuse that is mounted already); it dies with the
/// caller.
pub(crate) fn start(rootfs: &RootfsPlan, device: BorrowedFd<'_>) -> io::Result<Pid> {
    let missing = || io::Error::new(io::ErrorKind::NotFound, "fuse-overlayfs is not installed");
    let file = File::open(program().ok_or_else(missing)?)?;
    let words = [
        c"fuse-overlayfs".to_owned(),
        c"-f".to_owned(),
        c"-o".to_owned(),
        CString::new(options(rootfs).into_encoded_bytes())?,
        // libfuse takes this for a descriptor that is mounted already.
        CString::new(format!("/dev/fd/{DEVICE_FD}"))?,
    ];
    let argv: Vec<&CStr> = words.iter().map(CString::as_c_str).collect();
    match sys::clone_process(0)? {
        Cloned::Parent { pid, .. } => Ok(Pid::from_raw(pid)),
        Cloned::Child => {
            let run = || -> io::Result<()> {
                sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64, 0)?;
                let (device, file) = (
                    sys::dup_above(device, 10)?,
                    sys::dup_above(file.as_fd(), 10)?,
                );
                let null = File::options().read(true).write(true).open("/dev/null")?;
                sys::cloexec_from(3)?;
                for stream in 0..3 {
                    // It comments options that libfuse added itself.
                    sys::dup_to(null.as_fd(), stream)?;
                }
                sys::dup_to(device.as_fd(), DEVICE_FD)?;
                Err(sys::exec_fd(file.as_fd(), &argv, &[c"PATH=/usr/bin:/bin"]))
            };
            let _never = run();
            sys::exit_now(127)
        }
    }
}

/// Mounts a FUSE file system that nobody serves yet at `merged`: the descriptor for [`start`].
pub(crate) fn mount_unserved(merged: &Path) -> io::Result<OwnedFd> {
    let device = File::options().read(true).write(true).open("/dev/fuse")?;
    let fd = device.as_raw_fd();
    let options =
        format!("fd={fd},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other");
    let flags = MsFlags::MS_NODEV;
    mount(
        Some("fuse-overlayfs"),
        merged,
        Some("fuse.fuse-overlayfs"),
        flags,
        Some(options.as_str()),
    )?;
    Ok(device.into())
}

fn options(rootfs: &RootfsPlan) -> OsString {
    let mut out = OsString::from("lowerdir=");
    for (i, lower) in rootfs.lowers.iter().enumerate() {
        if i > 0 {
            out.push(":");
        }
        out.push(lower);
    }
    out.push(",upperdir=");
    out.push(&rootfs.upper);
    out.push(",workdir=");
    out.push(&rootfs.work);
    debug_assert!(!out.as_bytes().contains(&0));
    out
}
