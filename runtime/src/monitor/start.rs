//! The cli's part: a monitor is spawned first, then gets its order.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use super::{MonitorError, MonitorOrder, OWN_USER_NAMESPACE, VERB};
use crate::attach::message::{Event, MAX_PACKET};
use crate::attach::{Client, RelayOptions, Signals, socket, terminal};

/// A monitor that waits for its order. Without one it goes away.
#[derive(Debug)]
pub struct Prepared {
    order: io::PipeWriter,
    socket: OwnedFd,
}

/// A container whose program runs.
#[derive(Debug)]
pub struct Started {
    /// Host PID of the container's first process.
    pub pid: i32,
    /// Attached since before the program ran, if that was asked for.
    pub client: Option<Client>,
}

/// Spawns a monitor, which gets ready while the caller still prepares the order. `own_user_namespace`: the plan will not
/// join another container's. `path` is `$PATH`, for the programs that map IDs.
///
/// # Errors
/// When there are no more processes or descriptors.
pub fn prepare(own_user_namespace: bool, path: &OsStr) -> Result<Prepared, MonitorError> {
    let failed = |source| MonitorError::Spawn { source };
    let (theirs_order, order) = io::pipe().map_err(failed)?;
    let (socket, theirs) = socket::pair().map_err(failed)?;
    // Only its path names an executable that was replaced meanwhile; /proc/self/exe is what runs now.
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("rctr")
        .arg(VERB)
        .env_clear()
        .env("PATH", path)
        .stdin(theirs_order)
        .stdout(theirs)
        .stderr(Stdio::null());
    if own_user_namespace {
        command.arg(OWN_USER_NAMESPACE);
    }
    // Not waited for: it outlives the caller.
    command.spawn().map_err(failed)?;
    Ok(Prepared { order, socket })
}

impl Prepared {
    /// Gives the order and waits until the program runs. With `attach`, the caller is attached from the start, and
    /// signals to it are kept for [`Client::relay`], which must then be called with the same options.
    ///
    /// # Errors
    /// When the program could not be started; then nothing of it is left but the container's record (with
    /// `auto_remove` not even that).
    pub fn start(
        mut self,
        mut order: MonitorOrder,
        attach: Option<&RelayOptions>,
    ) -> Result<Started, MonitorError> {
        let failed = |source| MonitorError::Spawn { source };
        let signals = match attach {
            Some(options) => Some(Signals::take(options.sig_proxy, options.tty).map_err(failed)?),
            None => None,
        };
        order.attach = attach.map(|options| options.streams);
        order.size = terminal::own_size().filter(|_| order.plan.process.tty);
        let bytes = serde_json::to_vec(&order).map_err(|e| failed(e.into()))?;
        match self.order.write_all(&bytes) {
            // It has gone: what it said is read below.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            other => other.map_err(failed)?,
        }
        drop(self.order);
        let mut packet = vec![0; MAX_PACKET];
        loop {
            let received = socket::receive(&self.socket, &mut packet).map_err(failed)?;
            if received.is_empty() {
                return Err(MonitorError::Died);
            }
            match Event::decode(received) {
                Some(Event::Started { pid }) => {
                    let socket = self.socket;
                    let client = attach.map(|_| Client::started(socket, signals));
                    return Ok(Started { pid, client });
                }
                Some(Event::Failed(json)) => {
                    let failure = serde_json::from_slice(json).map_err(|e| failed(e.into()))?;
                    return Err(MonitorError::Start(failure));
                }
                _ => {}
            }
        }
    }
}
