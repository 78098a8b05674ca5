//! RUN --mount=type=ssh: a socket of the step's own that leads to an agent of the host.
//!
//! A bound socket of the agent itself would do only for root: an agent answers nobody but its own user. So each mount has
//! a listener here, with the owner and mode that were asked for, and threads that pass bytes on.

use std::fs;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Cancel, RunError};

/// An agent that isn't there by then never will be.
const AGENT_TIMEOUT: Duration = Duration::from_secs(5);

/// The socket of an agent of ours, in its directory.
const KEYS: &str = "keys";

/// A socket that leads to an agent, until it is dropped.
#[derive(Debug)]
pub(super) struct Forwarding {
    socket: PathBuf,
    end: std::sync::Arc<Cancel>,
    thread: Option<JoinHandle<()>>,
    agent: Option<Child>,
}

impl Forwarding {
    /// Where it is, on the host.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for Forwarding {
    fn drop(&mut self) {
        self.end.cancel();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked is over as well.
            let _ = thread.join();
        }
        if let Some(mut agent) = self.agent.take() {
            end(&mut agent);
        }
    }
}

fn end(child: &mut Child) {
    // Both fail only when it is gone.
    let _ = child.kill();
    let _ = child.wait();
}

/// Opens a socket in the empty directory `place` that leads to the agent `id`: to a socket, or to an agent that is
/// started for files of keys.
pub(super) fn forward(
    id: &str,
    sources: &[PathBuf],
    place: &Path,
    mode: u32,
    owner: (u32, u32),
) -> Result<Forwarding, RunError> {
    let is_socket = |path: &PathBuf| fs::metadata(path).is_ok_and(|m| m.file_type().is_socket());
    let (agent_socket, agent) = match sources {
        [only] if is_socket(only) => (only.clone(), None),
        keys => {
            let (socket, agent) = start_agent(id, keys, place)?;
            (socket, Some(agent))
        }
    };
    let socket = place.join("agent");
    let open = || -> io::Result<(UnixListener, std::sync::Arc<Cancel>)> {
        let listener = short(&socket, |path| UnixListener::bind(path))?;
        fs::set_permissions(&socket, fs::Permissions::from_mode(mode))?;
        chown(&socket, Some(owner.0), Some(owner.1))?;
        Ok((listener, std::sync::Arc::new(Cancel::new()?)))
    };
    let opened = open().map_err(RunError::io("listen at", &socket));
    let (listener, end_of_it) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            agent.into_iter().for_each(|mut agent| end(&mut agent));
            return Err(error);
        }
    };
    let end = std::sync::Arc::clone(&end_of_it);
    let thread = thread::spawn(move || serve(&listener, &agent_socket, &end));
    Ok(Forwarding {
        socket,
        end: end_of_it,
        thread: Some(thread),
        agent,
    })
}

/// A socket's path has 107 bytes at most: its directory is named by a descriptor.
fn short<T>(path: &Path, act: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return act(path);
    };
    let directory = fs::File::open(parent)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
    act(&path.join(name))
}

/// Passes connections on until `end`.
fn serve(listener: &UnixListener, agent: &Path, end: &Cancel) {
    loop {
        let mut fds = [
            PollFd::new(listener.as_fd(), PollFlags::POLLIN),
            PollFd::new(end.fd(), PollFlags::POLLIN),
        ];
        // An interrupted wait is one without events.
        let _ = poll(&mut fds, PollTimeout::NONE);
        let [client, ended] = fds.map(|fd| fd.any().unwrap_or(false));
        if ended {
            return;
        }
        if !client {
            continue;
        }
        // A client whose agent can't be reached sees its connection end, as one of a locked agent does.
        if let Ok((client, _)) = listener.accept()
            && let Ok(agent) = short(agent, |path| UnixStream::connect(path))
        {
            join(client, agent);
        }
    }
}

/// Copies both ways in threads of their own, which end with the connection: the program's end is the step's end.
fn join(client: UnixStream, agent: UnixStream) {
    let pass = |from: io::Result<UnixStream>, to: io::Result<UnixStream>| {
        let (Ok(mut from), Ok(mut to)) = (from, to) else {
            return;
        };
        thread::spawn(move || {
            // Either side may hang up at any time.
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
    };
    pass(client.try_clone(), agent.try_clone());
    pass(Ok(agent), Ok(client));
}

/// An agent of our own with these keys (absolute paths).
fn start_agent(id: &str, keys: &[PathBuf], place: &Path) -> Result<(PathBuf, Child), RunError> {
    let failed = |message: String, hint: &str| RunError::Mount {
        message: format!("cannot give the step ssh agent {id:?}: {message}"),
        hint: Some(hint.to_owned()),
    };
    let missing = |program: &str, error: &io::Error| {
        failed(
            format!("cannot run {program}: {error}"),
            "apt-get install openssh-client, or give the socket of an agent that runs",
        )
    };
    // Named from its directory, since a socket's path has 107 bytes at most.
    let mut command = Command::new("ssh-agent");
    command.args(["-D", "-a", KEYS]).current_dir(place);
    rctr_runtime::sys::die_with_thread(&mut command);
    let mut agent = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| missing("ssh-agent", &error))?;
    let socket = place.join(KEYS);
    let deadline = Instant::now() + AGENT_TIMEOUT;
    while !socket.exists() {
        if Instant::now() > deadline || !matches!(agent.try_wait(), Ok(None)) {
            end(&mut agent);
            return Err(failed(
                "ssh-agent does not start".to_owned(),
                "does `ssh-agent -D` work?",
            ));
        }
        thread::sleep(Duration::from_millis(2));
    }
    let added = Command::new("ssh-add")
        .args(keys)
        .current_dir(place)
        .env("SSH_AUTH_SOCK", KEYS)
        .env("SSH_ASKPASS_REQUIRE", "never")
        .env_remove("DISPLAY")
        .stdin(Stdio::null())
        .output();
    match added {
        Ok(output) if output.status.success() => Ok((socket, agent)),
        Ok(output) => {
            end(&mut agent);
            let said = String::from_utf8_lossy(&output.stderr);
            Err(failed(
                said.trim().replace('\n', "; "),
                "keys with a passphrase must be in an agent of yours: ssh-add, then --ssh default",
            ))
        }
        Err(error) => {
            end(&mut agent);
            Err(missing("ssh-add", &error))
        }
    }
}
