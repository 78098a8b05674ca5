//! Our own executable, in a form that a container can't write to.
//!
//! A process of ours that has joined a container can be made to show its /proc/PID/exe there (CVE-2019-5736), and
//! rootless the file belongs to the container's root. So what is executed inside is the file through a detached,
//! read-only mount that no mount namespace holds; where that is impossible, a sealed copy in memory.

use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::launch::c_path;
use crate::sys::{self, MountAttr};

const MOUNT_ATTR_RDONLY: u64 = 1;
const OPEN_TREE_CLONE: u32 = 1;
const OPEN_TREE_CLOEXEC: u32 = libc::O_CLOEXEC as u32;

/// Where our executable is, for [`executable`]. To be asked before namespaces change.
pub(crate) fn own_path() -> io::Result<CString> {
    c_path(&fs::read_link("/proc/self/exe")?)
}

/// Opens the executable at `path` (ours, as [`own_path`] told) for exec. The caller is root of its user namespace and
/// owns its mount namespace.
pub(crate) fn executable(path: &CStr) -> io::Result<OwnedFd> {
    read_only_mount(path).or_else(|_| sealed_copy())
}

fn read_only_mount(path: &CStr) -> io::Result<OwnedFd> {
    let here = File::open("/")?;
    let tree = sys::open_tree(here.as_fd(), path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)?;
    // The path may lead to another file by now, for example after an upgrade.
    let (ours, found) = (
        fs::metadata("/proc/self/exe")?,
        File::from(tree.try_clone()?).metadata()?,
    );
    if (ours.dev(), ours.ino()) != (found.dev(), found.ino()) {
        return Err(io::Error::from_raw_os_error(libc::ESTALE));
    }
    let attr = MountAttr {
        attr_set: MOUNT_ATTR_RDONLY,
        ..MountAttr::default()
    };
    sys::mount_setattr(tree.as_fd(), false, &attr)?;
    Ok(tree)
}

fn sealed_copy() -> io::Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let mut copy = File::from(memfd_create(c"rctr", flags)?);
    io::copy(&mut File::open("/proc/self/exe")?, &mut copy)?;
    let seals = SealFlag::F_SEAL_WRITE
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_SEAL;
    fcntl(&copy, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(copy.into())
}
