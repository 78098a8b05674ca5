//! The main of the hidden verb `build-step`: one thread, from the order to the report.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::stat::{Mode as FileMode, umask};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{chdir, dup2_stderr, dup2_stdin, dup2_stdout, setsid};
use rctr_storage::explain::Explain;

use super::{End, Ended, Report, StepOrder, WithoutHelper};
use crate::launch::{self, Launched, Stdio};
use crate::monitor::{StartFailure, relay_command};
use crate::net::{self, Mode, NetError, NetworkHandle, NetworkPlan};
use crate::plan::{Content, LaunchPlan, MountOp, Namespace};
use crate::{guard, sandbox, sys};

/// When a program has run for so long, in milliseconds, it gets a guard: see [`guard`].
const GUARDED_AFTER: u16 = 200;

/// Runs a build step: control on descriptor 0, the program's output on 1 and 2. The exit code is of no interest.
#[must_use]
pub fn main() -> u8 {
    // Descriptors that aren't what a step gets: somebody called the hidden verb by hand.
    let Ok((control, out, err)) = detach() else {
        return 125;
    };
    let mut control = Control(BufReader::new(control));
    let report = match control.order() {
        Ok(Some(order)) => match run(&order, &mut control, &out, &err) {
            Ok(ended) => Report::Ended(ended),
            Err(failure) => Report::Failed(failure),
        },
        // The builder has changed its mind.
        Ok(None) => return 0,
        Err(source) => Report::Failed(StartFailure::new(&OrderError { source }, 125)),
    };
    control.tell(&report);
    0
}

#[derive(Debug, thiserror::Error)]
#[error("cannot read the order of a build step")]
struct OrderError {
    source: io::Error,
}

impl Explain for OrderError {}

/// The builder's side of the conversation.
struct Control(BufReader<UnixStream>);

impl Control {
    fn order(&mut self) -> io::Result<Option<StepOrder>> {
        let mut line = Vec::new();
        self.0.read_until(b'\n', &mut line)?;
        match line.pop() {
            Some(b'\n') => Ok(Some(serde_json::from_slice(&line)?)),
            _ => Ok(None),
        }
    }

    fn tell(&mut self, report: &Report) {
        let mut line = serde_json::to_vec(report).unwrap_or_default();
        line.push(b'\n');
        // Nobody listens: the builder was killed.
        let _ = self.0.get_mut().write_all(&line);
    }
}

/// Leaves the builder's session; the three descriptors move to others, so that no helper gets them.
fn detach() -> io::Result<(UnixStream, OwnedFd, OwnedFd)> {
    sys::close_from(3);
    let control = io::stdin().as_fd().try_clone_to_owned()?;
    let out = io::stdout().as_fd().try_clone_to_owned()?;
    let err = io::stderr().as_fd().try_clone_to_owned()?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    // It fails only for the leader of a process group, which a spawned process isn't.
    let _ = setsid();
    chdir("/")?;
    umask(FileMode::from_bits_truncate(0o022));
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    sys::set_name(c"rctr-step");
    Ok((control.into(), out, err))
}

/// A program that runs, in its network.
struct Program {
    launched: Launched,
    network: NetworkHandle,
}

/// A step that can be started once more.
struct NoNetwork {
    why: String,
    /// If there must be a private one.
    failure: StartFailure,
    /// Mount points that were made in vain.
    made: Vec<PathBuf>,
}

/// Why it doesn't.
enum Refused {
    /// There is no private network here.
    Network(NoNetwork),
    Else(StartFailure),
}

fn run(
    order: &StepOrder,
    control: &mut Control,
    out: &OwnedFd,
    err: &OwnedFd,
) -> Result<Ended, StartFailure> {
    let attempt = |network: &NetworkPlan| attempt(order, network, out, err);
    let program = match attempt(&order.network) {
        Err(Refused::Network(refused)) if order.without_helper == WithoutHelper::UseHost => {
            control.tell(&Report::HostNetwork(refused.why));
            let network = NetworkPlan {
                mode: Mode::Host,
                ..order.network.clone()
            };
            attempt(&network).map(|mut program| {
                program.launched.made.splice(0..0, refused.made);
                program
            })
        }
        other => other,
    };
    let program = program.map_err(|refused| match refused {
        Refused::Network(NoNetwork { failure, .. }) | Refused::Else(failure) => failure,
    })?;
    control.tell(&Report::Running);
    Ok(program.wait(control))
}

/// Starts the program with `network`. The network is attached while init mounts.
fn attempt(
    order: &StepOrder,
    network: &NetworkPlan,
    out: &OwnedFd,
    err: &OwnedFd,
) -> Result<Program, Refused> {
    let prepared = net::prepare(network, &Vec::new).map_err(|e| no_network(&e, Vec::new()))?;
    let files = [
        ("/etc/hosts", prepared.hosts()),
        ("/etc/resolv.conf", prepared.resolv_conf()),
    ];
    let plan = complete(order, network, files);
    let stdio = || -> io::Result<Stdio> {
        Ok(Stdio {
            stdin: None,
            stdout: Some(out.try_clone()?),
            stderr: Some(err.try_clone()?),
            terminal_size: None,
        })
    };
    let not_launched = |e: launch::LaunchError| Refused::Else(StartFailure::new(&e, e.exit_code()));
    let no_copies = |source| launch::LaunchError::Spawn {
        operation: "cannot copy a descriptor",
        source,
    };
    let stdio = stdio().map_err(no_copies).map_err(not_launched)?;
    let launching = launch::spawn(&plan, stdio).map_err(not_launched)?;
    // They all were before.
    launching.files_are_there();
    let attached = prepared
        .attach(launching.pid.as_raw(), &relay_command())
        .and_then(net::Attaching::finish);
    match attached {
        Ok(network) => {
            let launched = launching.release().map_err(not_launched)?;
            Ok(Program { launched, network })
        }
        // A helper that doesn't find its namespaces says so; why init has died is the better answer.
        Err(_) if launching.has_ended() => Err(match launching.release() {
            Err(error) => not_launched(error),
            Ok(_) => not_launched(launch::LaunchError::Died),
        }),
        Err(error) => Err(no_network(&error, launching.abandon())),
    }
}

fn no_network(error: &NetError, made: Vec<PathBuf>) -> Refused {
    let failure = StartFailure::new(error, 125);
    match error {
        NetError::NoHelper { .. } | NetError::Helper { .. } | NetError::Start { .. } => {
            let why = error.to_string();
            Refused::Network(NoNetwork { why, failure, made })
        }
        _ => Refused::Else(failure),
    }
}

/// The plan with what the network adds to it. Mounts of the step's own at the same places win.
fn complete(order: &StepOrder, network: &NetworkPlan, files: [(&str, String); 2]) -> LaunchPlan {
    let mut plan = order.plan.clone();
    plan.namespaces.net = match network.mode {
        Mode::Host => Namespace::Host,
        _ => Namespace::Private,
    };
    let sysctls = network.sysctls().into_iter();
    plan.default_sysctls = sysctls
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect::<BTreeMap<_, _>>();
    let files = files.map(|(target, text)| MountOp::File {
        target: PathBuf::from(target),
        content: Content(text.into_bytes()),
        mode: 0o644,
        uid: 0,
        gid: 0,
        place: order.place.clone(),
    });
    plan.mounts.splice(0..0, files);
    sandbox::parents_first(&mut plan.mounts);
    plan
}

impl Program {
    /// Until all of its processes have ended; ends them when the builder wants it or is gone.
    fn wait(self, control: &Control) -> Ended {
        let Launched {
            pidfd,
            mut helpers,
            made,
            emulation,
            ..
        } = self.launched;
        let (mut wanted, mut guarded) = (true, false);
        let end = loop {
            let mut fds = vec![PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
            if wanted {
                fds.push(PollFd::new(control.0.get_ref().as_fd(), PollFlags::POLLIN));
            }
            let timeout = match guarded {
                true => PollTimeout::NONE,
                false => PollTimeout::from(GUARDED_AFTER),
            };
            // An interrupted wait is one without events; there is no other error to expect.
            let ready = poll(&mut fds, timeout);
            let hits: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
            if ready == Ok(0) {
                guarded = true;
                // Without one, the kernel's signal at our death is all there is; it nearly always suffices.
                helpers.extend(guard::start(pidfd.as_fd()));
            }
            if hits.get(1) == Some(&true) {
                // The builder says nothing after the order: it is the end.
                wanted = false;
                // It may have ended by itself.
                let _ = sys::pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL);
            }
            if hits[0]
                && let Some(end) = reap(&pidfd)
            {
                break end;
            }
        };
        drop(emulation);
        drop(self.network);
        for pid in helpers {
            // Both fail only for a helper that is gone.
            let _ = kill(pid, Signal::SIGKILL);
            let _ = waitpid(pid, None);
        }
        Ended {
            end,
            made,
            host_network: None,
        }
    }
}

/// How the program ended; `None`: not yet. The kernel has ended all others of its PID namespace by then.
fn reap(pidfd: &OwnedFd) -> Option<End> {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG;
    match waitid(Id::PIDFd(pidfd.as_fd()), flags) {
        Ok(WaitStatus::Exited(_, code)) => Some(End::Code(code)),
        Ok(WaitStatus::Signaled(_, signal, _)) => Some(End::Signal(signal as i32)),
        Ok(_) | Err(nix::Error::EINTR) => None,
        // Nobody else reaps it: it can't be.
        Err(_) => Some(End::Code(255)),
    }
}
