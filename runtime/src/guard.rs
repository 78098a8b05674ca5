//! The guard: a forked copy of the monitor (or of a build step) that only waits for its death, to end the container then.
//!
//! The kernel does that by itself (PR_SET_PDEATHSIG), unless the container's first process has changed its user since,
//! as `gosu postgres` does: that clears the signal (prctl(2)). A guard is started when a container has been running for a
//! moment, so it costs short runs nothing.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::poll::{PollFd, PollFlags};
use nix::unistd::Pid;

use crate::sys::{self, Cloned};

/// Starts a guard of the process behind `program`. It ends with it; the caller reaps it.
pub(crate) fn start(program: BorrowedFd<'_>) -> Option<Pid> {
    let monitor = sys::pidfd_open(Pid::this().as_raw()).ok()?;
    match sys::clone_process(0).ok()? {
        Cloned::Parent { pid, .. } => Some(Pid::from_raw(pid)),
        Cloned::Child => {
            let watched = watch(monitor.as_fd(), program);
            sys::exit_now(watched.is_err().into())
        }
    }
}

/// In the child: nothing of the monitor's may stay open here, above all not its lock.
fn watch(monitor: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    sys::dup_to(program, 0)?;
    sys::dup_to(monitor, 1)?;
    sys::close_from(3);
    sys::set_name(c"rctr-guard");
    let (program, monitor) = (io::stdin(), io::stdout());
    loop {
        let mut fds = [
            PollFd::new(program.as_fd(), PollFlags::POLLIN),
            PollFd::new(monitor.as_fd(), PollFlags::POLLIN),
        ];
        sys::rest(&mut fds, None);
        let [program_ended, monitor_ended] = fds.map(|fd| fd.any().unwrap_or(false));
        if program_ended {
            return Ok(());
        }
        if monitor_ended {
            return sys::pidfd_send_signal(program.as_fd(), libc::SIGKILL);
        }
    }
}
