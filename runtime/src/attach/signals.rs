//! The caller's signals while it relays: taken as data, so that none of them kills it with the terminal in raw mode.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// The terminal's size has changed.
    Resize,
    /// Goes to the container's process.
    Forward(i32),
    /// The caller is to end.
    End(i32),
    /// The caller is to stop (job control).
    Suspend,
    /// It goes on.
    Resume,
}

/// Not forwarded although catchable: those of job control and of the terminal, those that the kernel sends about the caller
/// itself, and SIGCHLD, SIGPIPE, SIGURG.
const FORWARDED: [Signal; 13] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGVTALRM,
    Signal::SIGPROF,
    Signal::SIGIO,
    Signal::SIGPWR,
    Signal::SIGSTKFLT,
    Signal::SIGSYS,
];

/// Without forwarding, these end the caller, as they would anyhow.
const ENDING: [Signal; 4] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
];

/// The signals of this process, from now on until its end: it relays and then exits.
pub(crate) struct Signals {
    fd: SignalFd,
    forward: bool,
}

impl Signals {
    /// `job_control`: stopping and going on are ours too, since the terminal's mode must follow.
    pub(crate) fn take(forward: bool, job_control: bool) -> io::Result<Self> {
        let ignored = ignored();
        let mut set = SigSet::empty();
        set.add(Signal::SIGWINCH);
        let more: &[Signal] = if forward { &FORWARDED } else { &ENDING };
        // What the caller's caller had ignored (nohup, `&` in a script) stays so.
        for signal in more
            .iter()
            .filter(|s| ignored & (1 << (**s as i32 - 1)) == 0)
        {
            set.add(*signal);
        }
        if job_control {
            set.add(Signal::SIGTSTP);
            set.add(Signal::SIGCONT);
        }
        set.thread_block()?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Self { fd, forward })
    }

    /// For poll(2).
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The next one, if any.
    pub(crate) fn next(&self) -> Option<Asked> {
        let info = self.fd.read_signal().ok().flatten()?;
        let number = i32::try_from(info.ssi_signo).ok()?;
        Some(match Signal::try_from(number).ok()? {
            Signal::SIGWINCH => Asked::Resize,
            Signal::SIGTSTP => Asked::Suspend,
            Signal::SIGCONT => Asked::Resume,
            _ if self.forward => Asked::Forward(number),
            _ => Asked::End(number),
        })
    }
}

/// Bit n-1: signal n is ignored by this process.
fn ignored() -> u64 {
    fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| {
            let line = status.lines().find_map(|l| l.strip_prefix("SigIgn:"))?;
            u64::from_str_radix(line.trim(), 16).ok()
        })
        .unwrap_or(0)
}
