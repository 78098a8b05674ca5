//! A build step: a program in a sandbox like a container's, but with neither record nor monitor.
//!
//! ```text
//! builder's thread ── start(): spawns `rctr build-step`: control (a socket) as fd 0, pipes for the program as 1 and 2
//!  │               ── the order, one line of JSON ──▶ step: network, init, release, wait, end helpers
//!  └─ follow(): the program's output, and the step's reports, one line of JSON each
//! ```
//!
//! The builder has threads, a process that clones must not: hence the process of its own. It lives in a session of its
//! own, so that a terminal's ^C reaches the builder alone. When the other end of the control socket closes, be it that
//! the step is canceled or that the builder was killed, it ends the program and all of its processes. Should the step's
//! own process be killed, the kernel ends the program (PR_SET_PDEATHSIG), after a moment also the [`crate::guard`].

use std::io::{self, BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command};

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{pipe2, read};
use serde::{Deserialize, Serialize};

use crate::log::Stream;
use crate::monitor::StartFailure;
use crate::net::NetworkPlan;
use crate::plan::LaunchPlan;

mod process;

pub use process::main;

/// The hidden verb.
pub const VERB: &str = "build-step";

/// All that a step's process needs to know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepOrder {
    /// What runs. `/etc/hosts`, `/etc/resolv.conf` and the network's sysctls are added by the step's process.
    pub plan: LaunchPlan,
    /// How it is networked.
    pub network: NetworkPlan,
    /// What happens when a private network can't be had.
    pub without_helper: WithoutHelper,
    /// An empty directory, for [`crate::plan::MountOp::File`].
    pub place: PathBuf,
}

/// What happens when a private network can't be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WithoutHelper {
    /// The step fails.
    Fail,
    /// It uses the host's, which is reported.
    UseHost,
}

/// What a step's process reports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Report {
    /// The host's network is used; why.
    HostNetwork(String),
    /// The program runs: its root file system is mounted.
    Running,
    /// The program has ended, and all of its processes with it.
    Ended(Ended),
    /// It could not be started.
    Failed(StartFailure),
}

/// A step that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// How.
    pub end: End,
    /// Mount points that weren't there before, in the order in which they were made: absolute, inside.
    pub made: Vec<PathBuf>,
    /// Why the host's network was used in place of a private one; filled in by [`Running::follow`].
    #[serde(default)]
    pub host_network: Option<String>,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// With an exit code.
    Code(i32),
    /// By a signal.
    Signal(i32),
}

/// Why a step did not run to its end.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// Its process can't be started or talked to.
    #[error("cannot {operation}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The program could not be started.
    #[error(transparent)]
    Start(StartFailure),
    /// Its process has gone without a report.
    #[error("the process of the build step died")]
    Died,
    /// As the caller wanted.
    #[error("canceled")]
    Canceled,
}

fn failed(operation: &'static str) -> impl Fn(io::Error) -> StepError {
    move |source| StepError::Io { operation, source }
}

/// A step under way. Dropped, it is ended.
#[derive(Debug)]
pub struct Running {
    child: Child,
    control: BufReader<UnixStream>,
    /// The program's standard output and standard error, while they are open.
    outputs: [(Stream, Option<OwnedFd>); 2],
}

/// Starts a step. The caller is root of its user namespace and may have threads.
///
/// # Errors
/// When there are no more processes or descriptors.
pub fn start(order: &StepOrder) -> Result<Running, StepError> {
    let spawning = failed("start the process of a build step");
    let (ours, theirs) = UnixStream::pair().map_err(&spawning)?;
    let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(|errno| spawning(errno.into()));
    let ((out, their_out), (err, their_err)) = (pipe()?, pipe()?);
    let child = Command::new("/proc/self/exe")
        .arg0("rctr")
        .arg(VERB)
        .env_clear()
        .stdin(OwnedFd::from(theirs))
        .stdout(their_out)
        .stderr(their_err)
        .spawn()
        .map_err(&spawning)?;
    let mut running = Running {
        child,
        control: BufReader::new(ours),
        outputs: [(Stream::Stdout, Some(out)), (Stream::Stderr, Some(err))],
    };
    let mut line = serde_json::to_vec(order).map_err(|e| spawning(e.into()))?;
    line.push(b'\n');
    match running.control.get_mut().write_all(&line) {
        // It has gone: that it said nothing is seen below.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(running),
        Err(error) => Err(failed("give a build step its order")(error)),
        Ok(()) => Ok(running),
    }
}

/// Bytes of one piece of output: as much as a pipe holds.
const PIECE: usize = 65536;

impl Running {
    /// Hands on what the program writes, at once and unclipped, until all of its processes have ended. Once `cancel` is
    /// readable, it is killed. `mounted` is called when its root file system is: the paths of its layers aren't needed then.
    ///
    /// # Errors
    /// When it did not run to its end by itself.
    pub fn follow(
        mut self,
        output: &dyn Fn(Stream, &[u8]),
        mounted: &dyn Fn(),
        cancel: BorrowedFd<'_>,
    ) -> Result<Ended, StepError> {
        let (mut report, mut host_network, mut canceled) = (None, None, false);
        let mut buffer = vec![0; PIECE];
        let mut control_open = true;
        while control_open || self.outputs.iter().any(|(_, fd)| fd.is_some()) {
            let [told, cancel_now, first, second] = self
                .wait(control_open, (!canceled).then_some(cancel))
                .map_err(failed("wait for a build step"))?;
            for (ready, slot) in [first, second].into_iter().zip(&mut self.outputs) {
                if ready {
                    take(slot, &mut buffer, output);
                }
            }
            if cancel_now {
                canceled = true;
                self.end();
            }
            if told {
                match self.report()? {
                    Some(Report::HostNetwork(why)) => host_network = Some(why),
                    Some(Report::Running) => mounted(),
                    Some(other) => report = Some(other),
                    None => control_open = false,
                }
            }
        }
        match report {
            _ if canceled => Err(StepError::Canceled),
            Some(Report::Ended(ended)) => Ok(Ended {
                host_network,
                ..ended
            }),
            Some(Report::Failed(failure)) => Err(StepError::Start(failure)),
            _ => Err(StepError::Died),
        }
    }

    /// Sleeps; tells what is readable: control, cancel, standard output, standard error.
    fn wait(&self, control: bool, cancel: Option<BorrowedFd<'_>>) -> io::Result<[bool; 4]> {
        let [(_, out), (_, err)] = &self.outputs;
        let control = control.then(|| self.control.get_ref().as_fd());
        // A report that is in the buffer already wakes nobody.
        if control.is_some() && !self.control.buffer().is_empty() {
            return Ok([true, false, false, false]);
        }
        let wanted = [
            control,
            cancel,
            out.as_ref().map(AsFd::as_fd),
            err.as_ref().map(AsFd::as_fd),
        ];
        let mut fds: Vec<_> = wanted
            .iter()
            .flatten()
            .map(|fd| PollFd::new(*fd, PollFlags::POLLIN))
            .collect();
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut polled = fds.iter();
        Ok(wanted.map(|fd| fd.is_some() && polled.next().and_then(PollFd::any).unwrap_or(false)))
    }

    fn report(&mut self) -> Result<Option<Report>, StepError> {
        let operation = failed("read the report of a build step");
        let mut line = Vec::new();
        match self.control.read_until(b'\n', &mut line) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            other => other.map_err(&operation)?,
        };
        // What has no end was cut by the death of its writer.
        if line.pop() != Some(b'\n') {
            return Ok(None);
        }
        let report = serde_json::from_slice(&line).map_err(|e| operation(e.into()))?;
        Ok(Some(report))
    }

    /// Tells the step's process to end the program.
    fn end(&self) {
        // It fails when the process is gone.
        let _ = self.control.get_ref().shutdown(Shutdown::Write);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
        // It ends by itself: it has reported, or sees the end of the control socket.
        let _ = self.child.wait();
    }
}

/// Reads once and hands it on; at the end, closes.
fn take(
    (stream, slot): &mut (Stream, Option<OwnedFd>),
    buffer: &mut [u8],
    output: &dyn Fn(Stream, &[u8]),
) {
    let Some(fd) = slot else { return };
    match read(&*fd, buffer) {
        Err(nix::Error::EINTR) => {}
        Ok(0) | Err(_) => *slot = None,
        Ok(length) => output(*stream, &buffer[..length]),
    }
}
