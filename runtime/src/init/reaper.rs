//! `--init`: PID 1 reaps orphans and passes signals on; the program is its child.

use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::{Context, Step};
use crate::sys::{self, Cloned};

/// Forks. The child returns from this and becomes the program; PID 1 never returns.
pub(super) fn become_parent_of_program() -> Step {
    let step = "start the init process";
    let all = SigSet::all();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&all), None).at(step, "block signals")?;
    match sys::clone_process(0).at(step, "fork")? {
        Cloned::Child => {
            // A process group of its own, in front of the terminal if there is one.
            let _ = nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0));
            let _ = nix::unistd::tcsetpgrp(std::io::stdin(), nix::unistd::getpgrp());
            sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
                .at(step, "unblock signals")
        }
        Cloned::Parent { pid, .. } => serve(Pid::from_raw(pid), &all),
    }
}

fn serve(program: Pid, signals: &SigSet) -> ! {
    // The streams are the program's; the handshake ends when it has executed.
    sys::close_from(0);
    // Nothing is left to hide, and tools of the image look at PID 1.
    sys::set_dumpable(true);
    loop {
        match signals.wait() {
            Ok(Signal::SIGCHLD) => reap(program),
            // Those are sent to the whole foreground by the kernel; passing them on would stop us twice.
            Ok(Signal::SIGTTIN | Signal::SIGTTOU) | Err(_) => {}
            Ok(signal) => {
                // Gone already: its end is about to be reaped.
                let _ = kill(program, signal);
            }
        }
    }
}

/// Reaps all that have ended; ends as the program did.
fn reap(program: Pid) {
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        match status {
            WaitStatus::StillAlive => return,
            WaitStatus::Exited(pid, code) if pid == program => sys::exit_now(code),
            WaitStatus::Signaled(pid, signal, _) if pid == program => {
                sys::exit_now(128 + signal as i32)
            }
            _ => {}
        }
    }
}
