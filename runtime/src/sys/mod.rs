//! System calls that nix doesn't have: one thin safe function each, with its man page.
#![expect(
    unsafe_code,
    reason = "the only place of this crate that calls the kernel directly"
)]

mod descriptor;
mod memory;
mod mount;
mod network;
mod process;
mod seccomp;
mod terminal;

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use libc::{c_long, c_ulong};

pub use descriptor::{
    cloexec_from, close_from, dup_above, dup_to, give_fd, has_xattr, inherited_fd, set_xattr,
};
pub use memory::rest;
pub use mount::{MountAttr, fsconfig_set, fsmount, fsopen, mount_setattr, move_mount, open_tree};
pub use network::{accept, loopback_up};
pub use process::{
    Cloned, clone_process, default_signals, die_with_thread, exec_fd, exit_now, pidfd_open,
    pidfd_send_signal, prctl, resource, runs_32_bit_programs, set_dumpable, set_ids, set_name,
};
pub use seccomp::{seccomp_filter, seccomp_listener};
pub use terminal::{
    pty_peer, pty_unlock, set_controlling_terminal, set_terminal_size, terminal_size,
};

fn check(result: c_long) -> io::Result<c_long> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn check_fd(result: c_long) -> io::Result<OwnedFd> {
    let fd = check(result)?;
    let fd = RawFd::try_from(fd).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
    // SAFETY: the kernel just made this descriptor for us, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Calls that [`reach`] can try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// clone3(2), Linux 5.3.
    Clone3,
    /// openat2(2), Linux 5.6.
    Openat2,
    /// fsopen(2), Linux 5.2; needs CAP_SYS_ADMIN in the user namespace.
    Fsopen,
    /// mount_setattr(2), Linux 5.12.
    MountSetattr,
}

/// Tries whether the kernel has a system call and lets us reach it, with arguments that it refuses at once.
///
/// # Errors
/// Always: `ENOSYS` when it isn't there, a filter's `EPERM`, else what the bad arguments deserve.
pub fn reach(call: Reach) -> io::Result<()> {
    let number = match call {
        Reach::Clone3 => libc::SYS_clone3,
        Reach::Openat2 => libc::SYS_openat2,
        Reach::Fsopen => libc::SYS_fsopen,
        Reach::MountSetattr => libc::SYS_mount_setattr,
    };
    let zero: c_ulong = 0;
    // SAFETY: null pointers, and sizes of 0, which each of these calls refuses (EINVAL, EFAULT).
    check(unsafe { libc::syscall(number, zero, zero, zero, zero, zero) }).map(drop)
}

/// A system call by its number, with integers that are no addresses: for tests of filters.
///
/// # Errors
/// As the call.
#[cfg(test)]
pub(crate) fn raw_call(number: c_long, args: [c_ulong; 4]) -> io::Result<c_long> {
    // SAFETY: the tests pass integers, and null where a call expects an address.
    check(unsafe { libc::syscall(number, args[0], args[1], args[2], args[3]) })
}
