//! The mount calls that work on descriptors.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use libc::c_uint;

use super::{check, check_fd};

/// open_tree(2) (Linux 5.2).
///
/// # Errors
/// As open_tree(2).
pub fn open_tree(dir: BorrowedFd<'_>, path: &CStr, flags: c_uint) -> io::Result<OwnedFd> {
    // SAFETY: `path` is a C string that outlives the call.
    check_fd(unsafe { libc::syscall(libc::SYS_open_tree, dir.as_raw_fd(), path.as_ptr(), flags) })
}

/// `struct mount_attr` of linux/mount.h.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct MountAttr {
    /// `MOUNT_ATTR_*` to set.
    pub attr_set: u64,
    /// `MOUNT_ATTR_*` to clear.
    pub attr_clr: u64,
    /// `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED` or 0.
    pub propagation: u64,
    /// For `MOUNT_ATTR_IDMAP`.
    pub userns_fd: u64,
}

/// mount_setattr(2) (Linux 5.12) on the mount that `fd` stands for.
///
/// # Errors
/// As mount_setattr(2).
pub fn mount_setattr(fd: BorrowedFd<'_>, recursive: bool, attr: &MountAttr) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: `attr` has the layout of struct mount_attr and its size is told.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            c"".as_ptr(),
            flags,
            attr,
            size_of::<MountAttr>(),
        )
    };
    check(result).map(drop)
}

/// move_mount(2) (Linux 5.2) of a detached mount onto what `target` stands for.
///
/// # Errors
/// As move_mount(2).
pub fn move_mount(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    const F_EMPTY_PATH: c_uint = 0x4;
    const T_EMPTY_PATH: c_uint = 0x40;
    let empty = c"".as_ptr();
    // SAFETY: both paths are the empty C string.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            empty,
            target.as_raw_fd(),
            empty,
            F_EMPTY_PATH | T_EMPTY_PATH,
        )
    };
    check(result).map(drop)
}

/// fsopen(2) (Linux 5.2).
///
/// # Errors
/// As fsopen(2).
pub fn fsopen(kind: &CStr) -> io::Result<OwnedFd> {
    const FSOPEN_CLOEXEC: c_uint = 1;
    // SAFETY: `kind` is a C string that outlives the call.
    check_fd(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) })
}

/// fsconfig(2): a string parameter, or a flag without a value.
///
/// # Errors
/// As fsconfig(2).
pub fn fsconfig_set(fs: BorrowedFd<'_>, key: &CStr, value: Option<&CStr>) -> io::Result<()> {
    const SET_FLAG: c_uint = 0;
    const SET_STRING: c_uint = 1;
    let command = if value.is_some() {
        SET_STRING
    } else {
        SET_FLAG
    };
    let value = value.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: both strings are C strings (or null for a flag) that outlive the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            fs.as_raw_fd(),
            command,
            key.as_ptr(),
            value,
            0,
        )
    })
    .map(drop)
}

/// fsconfig(2) `FSCONFIG_CMD_CREATE`, then fsmount(2): the detached mount.
///
/// # Errors
/// As fsconfig(2) and fsmount(2).
pub fn fsmount(fs: BorrowedFd<'_>, attributes: u64) -> io::Result<OwnedFd> {
    const CMD_CREATE: c_uint = 6;
    const FSMOUNT_CLOEXEC: c_uint = 1;
    let null = std::ptr::null::<u8>();
    // SAFETY: CMD_CREATE takes neither key nor value.
    check(unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            fs.as_raw_fd(),
            CMD_CREATE,
            null,
            null,
            0,
        )
    })?;
    // SAFETY: only integers are passed.
    check_fd(unsafe {
        libc::syscall(
            libc::SYS_fsmount,
            fs.as_raw_fd(),
            FSMOUNT_CLOEXEC,
            attributes as c_uint,
        )
    })
}
