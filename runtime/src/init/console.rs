//! The terminal of a container: a pty of its own devpts, whose master goes to the monitor.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::fcntl::OFlag;

use super::target;
use super::{Context, Step};
use crate::handshake::{Channel, FromInit};
use crate::sys;

const STEP: &str = "open a terminal";

/// The slave side.
pub(super) struct Console(OwnedFd);

/// Opens a pty below `root` and hands the master to the parent. Its slave is also shown as /dev/console.
pub(super) fn open(root: &OwnedFd, channel: &Channel) -> Step<Console> {
    let slave = open_pty(root, channel)?;
    let point = target::ensure(root.as_fd(), Path::new("/dev/console"), target::Kind::File)
        .at(STEP, "/dev/console")?;
    nix::mount::mount(
        Some(&target::proc_path(&slave.0)),
        &target::proc_path(&point),
        None::<&str>,
        nix::mount::MsFlags::MS_BIND,
        None::<&str>,
    )
    .at(STEP, "/dev/console")?;
    Ok(slave)
}

/// Opens a pty below `root` and hands the master to the parent.
pub(super) fn open_pty(root: &OwnedFd, channel: &Channel) -> Step<Console> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY;
    let master =
        target::open(root.as_fd(), Path::new("/dev/pts/ptmx"), flags).at(STEP, "/dev/pts/ptmx")?;
    let kind = nix::sys::statfs::fstatfs(&master)
        .at(STEP, "/dev/pts/ptmx")?
        .filesystem_type();
    if kind.0 != libc::DEVPTS_SUPER_MAGIC {
        // The container put something else there.
        return Err(std::io::Error::from_raw_os_error(libc::ENOTTY)).at(STEP, "/dev/pts/ptmx");
    }
    sys::pty_unlock(master.as_fd()).at(STEP, "unlock")?;
    let slave = sys::pty_peer(master.as_fd()).at(STEP, "slave")?;
    channel
        .send(&FromInit::Console, Some(master.as_fd()))
        .at("tell the monitor", "")?;
    Ok(Console(slave))
}

impl Console {
    /// Makes it the controlling terminal and the standard streams of this process.
    pub(super) fn attach(self) -> Step {
        nix::unistd::setsid().at(STEP, "setsid")?;
        sys::set_controlling_terminal(self.0.as_fd()).at(STEP, "controlling terminal")?;
        for number in 0..3 {
            sys::dup_to(self.0.as_fd(), number).at(STEP, "dup")?;
        }
        drop(File::from(self.0));
        Ok(())
    }
}
