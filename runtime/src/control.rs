//! Signals to containers, stopping them and waiting for them, from any process.
//!
//! The monitor does it, asked through `attach.sock`: it must know that an end was wanted, or a restart policy would start
//! the container again. A monitor that doesn't answer is passed by: the signal then goes to the recorded process, by a
//! descriptor whose start time was compared, so a reused PID is never hit.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rctr_storage::container::ContainerError;
use rctr_storage::explain::Explain;
use rctr_storage::record::{ContainerState, Status};
use rctr_storage::store::Store;

use crate::attach::message::{Event, MAX_PACKET, Request};
use crate::attach::{run_directory, socket};
use crate::{process, sys};

/// How long a monitor may take to pass a signal on.
const ANSWER: Duration = Duration::from_secs(2);
/// Beyond the time that a stop may take by itself.
const GRACE: Duration = Duration::from_secs(5);

/// Why a container could not be controlled.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// It doesn't run.
    #[error("container {id} is not running")]
    NotRunning {
        /// Short ID.
        id: String,
    },
    /// The kernel refused the signal.
    #[error("cannot send signal {signal} to container {id}")]
    Signal {
        /// Short ID.
        id: String,
        /// Number.
        signal: i32,
        /// Why.
        source: io::Error,
    },
    /// Its processes don't stand still.
    #[error("cannot pause container {id}")]
    Freeze {
        /// Short ID.
        id: String,
        /// Why.
        source: io::Error,
    },
    /// It didn't end, not even by SIGKILL.
    #[error("container {id} does not end")]
    Stuck {
        /// Short ID.
        id: String,
    },
    /// Its state can't be read.
    #[error(transparent)]
    Container(#[from] ContainerError),
}

impl Explain for ControlError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::NotRunning { .. } => Some("`rctr ps -a` shows what became of it".to_owned()),
            Self::Signal { .. } => None,
            Self::Freeze { .. } => Some("commit it as it runs: `rctr commit --pause=false`".to_owned()),
            Self::Stuck { .. } => {
                Some("its process may be waiting for a device or a network file system: see `ps -o stat`".to_owned())
            }
            Self::Container(error) => error.hint(),
        }
    }
}

fn short(id: &str) -> String {
    id.chars().take(12).collect()
}

/// A container's monitor and process, as last recorded. Made from a fresh look, used at once.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The store that it is in.
    pub store: &'a Store,
    /// The directory of run state.
    pub run: &'a Path,
    /// Full ID.
    pub id: &'a str,
    /// What its record says.
    pub state: &'a ContainerState,
}

impl Target<'_> {
    fn not_running(&self) -> ControlError {
        ControlError::NotRunning { id: short(self.id) }
    }

    fn is_live(&self) -> bool {
        matches!(
            self.state.status,
            Status::Running | Status::Paused | Status::Restarting
        )
    }

    /// Connects to the monitor and sends a request; `None`: nobody is there.
    fn ask(&self, request: Request<'_>) -> Option<OwnedFd> {
        let socket = socket::connect_in(&run_directory(self.run, self.id)).ok()?;
        socket::try_send_packet(&socket, &request.encode()).ok()?;
        Some(socket)
    }

    /// The recorded process gets a signal, past the monitor.
    fn signal_directly(&self, signal: i32) -> Result<(), ControlError> {
        let result = process::pidfd(self.state.pid, self.state.pid_start)
            .and_then(|fd| sys::pidfd_send_signal(fd.as_fd(), signal));
        match result {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Err(self.not_running()),
            other => other.map_err(|source| ControlError::Signal {
                id: short(self.id),
                signal,
                source,
            }),
        }
    }
}

/// Sends a signal to the container's process.
///
/// # Errors
/// When it isn't running, or the signal is refused.
pub fn signal(target: &Target<'_>, signal: i32) -> Result<(), ControlError> {
    if !target.is_live() {
        return Err(target.not_running());
    }
    let Some(socket) = target.ask(Request::Signal(signal)) else {
        return target.signal_directly(signal);
    };
    match answer(&socket, Some(Instant::now() + ANSWER)) {
        Some(Answer::Done) => Ok(()),
        Some(Answer::Refused(libc::ESRCH) | Answer::Exited(_)) => Err(target.not_running()),
        Some(Answer::Refused(errno)) => Err(ControlError::Signal {
            id: short(target.id),
            signal,
            source: io::Error::from_raw_os_error(errno),
        }),
        None => target.signal_directly(signal),
    }
}

/// A container that stands still as long as this exists. A killed holder lets it go on, too.
#[derive(Debug)]
pub struct Stillness {
    _connection: OwnedFd,
}

/// Stops all processes of the container for a moment.
///
/// # Errors
/// When it isn't running, or a process can't be stopped.
pub fn freeze(target: &Target<'_>) -> Result<Stillness, ControlError> {
    let socket = target
        .ask(Request::Freeze)
        .ok_or_else(|| target.not_running())?;
    match answer(&socket, Some(Instant::now() + GRACE)) {
        Some(Answer::Done) => Ok(Stillness {
            _connection: socket,
        }),
        Some(Answer::Refused(errno)) if errno != libc::ESRCH => Err(ControlError::Freeze {
            id: short(target.id),
            source: io::Error::from_raw_os_error(errno),
        }),
        None if target.store.monitor_alive(target.id) => Err(ControlError::Freeze {
            id: short(target.id),
            source: io::Error::from_raw_os_error(libc::ETIMEDOUT),
        }),
        _ => Err(target.not_running()),
    }
}

/// Stops the container for good: `signal`, then SIGKILL after `timeout` (`None`: never). Returns the exit code when it
/// has ended; one that isn't running has ended already.
///
/// # Errors
/// When it doesn't end, or its state can't be read.
pub fn stop(
    target: &Target<'_>,
    signal: i32,
    timeout: Option<Duration>,
) -> Result<i32, ControlError> {
    if !target.is_live() {
        return Ok(target.state.exit_code);
    }
    let Some(socket) = target.ask(Request::Stop { signal, timeout }) else {
        return stop_directly(target);
    };
    let deadline = timeout.and_then(|t| Instant::now().checked_add(t + GRACE));
    loop {
        match answer(&socket, deadline) {
            Some(Answer::Exited(code)) => return Ok(code),
            Some(_) => {}
            None => return stop_directly(target),
        }
    }
}

/// Without a monitor that answers: the process is killed and the monitor with it.
fn stop_directly(target: &Target<'_>) -> Result<i32, ControlError> {
    if target.store.monitor_alive(target.id) {
        let state = target.state;
        // Both fail only when they are gone, which is what is wanted.
        for (pid, start) in [
            (state.pid, state.pid_start),
            (state.monitor_pid, state.monitor_start),
        ] {
            let _ = process::pidfd(pid, start)
                .and_then(|fd| sys::pidfd_send_signal(fd.as_fd(), libc::SIGKILL));
        }
    }
    reap_orphan(target)?;
    let deadline = Instant::now() + GRACE;
    while target.store.monitor_alive(target.id) {
        if Instant::now() >= deadline {
            return Err(ControlError::Stuck {
                id: short(target.id),
            });
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    last_code(target)
}

/// Ends a process that outlived its monitor (one that has changed its credentials loses the kernel's signal at the death
/// of its parent). Does nothing while a monitor lives.
///
/// # Errors
/// When it doesn't end.
pub fn reap_orphan(target: &Target<'_>) -> Result<(), ControlError> {
    if target.store.monitor_alive(target.id) {
        return Ok(());
    }
    let Ok(pidfd) = process::pidfd(target.state.pid, target.state.pid_start) else {
        return Ok(());
    };
    // It may be ending at this moment.
    let _ = sys::pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL);
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    match poll(&mut fds, PollTimeout::from(5000_u16)) {
        Ok(0) => Err(ControlError::Stuck {
            id: short(target.id),
        }),
        _ => Ok(()),
    }
}

/// Waits until the container's process has ended, and gives its exit code. A container that isn't running has ended
/// already; one that `--rm` removes meanwhile still gives its code.
///
/// # Errors
/// When its state can't be read.
pub fn wait(target: &Target<'_>) -> Result<i32, ControlError> {
    if !target.is_live() {
        return Ok(target.state.exit_code);
    }
    if let Some(socket) = target.ask(Request::Wait) {
        loop {
            match answer(&socket, None) {
                Some(Answer::Exited(code)) => return Ok(code),
                Some(_) => {}
                None => break,
            }
        }
    }
    // The monitor ended or was killed between the look at the state and now.
    last_code(target)
}

fn last_code(target: &Target<'_>) -> Result<i32, ControlError> {
    match target.store.read_container(target.id) {
        Ok(container) => Ok(container.state.exit_code),
        Err(ContainerError::NotFound { .. }) => Ok(137),
        Err(error) => Err(error.into()),
    }
}

enum Answer {
    Done,
    Refused(i32),
    Exited(i32),
}

/// The next answer; `None`: the monitor has gone, or the time is over.
fn answer(socket: &OwnedFd, deadline: Option<Instant>) -> Option<Answer> {
    let mut packet = vec![0; MAX_PACKET];
    loop {
        let timeout = match deadline {
            None => PollTimeout::NONE,
            Some(at) => {
                let millis = at.saturating_duration_since(Instant::now()).as_millis();
                PollTimeout::try_from(i32::try_from(millis).unwrap_or(i32::MAX)).ok()?
            }
        };
        match poll(
            &mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)],
            timeout,
        ) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(nix::Error::EINTR) => continue,
            Err(_) => return None,
        }
        let received = socket::receive(socket, &mut packet).ok()?;
        if received.is_empty() {
            return None;
        }
        match Event::decode(received) {
            Some(Event::Done) => return Some(Answer::Done),
            Some(Event::Refused(errno)) => return Some(Answer::Refused(errno)),
            Some(Event::Exited { code }) => return Some(Answer::Exited(code)),
            _ => {}
        }
    }
}
