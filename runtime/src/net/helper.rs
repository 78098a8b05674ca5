//! The user-mode network helpers: which is there, and how it is started.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, pipe2};
use serde::{Deserialize, Serialize};

use super::host::{self, Namespaces};
use super::{NetError, Subnet};
use crate::sys;

/// The default of both helpers' documentation for speed: TCP ends on the host, whose own interface has the real MTU.
const MTU: u16 = 65520;
/// For one that isn't wanted any more.
const DROP_TIMEOUT: Duration = Duration::from_secs(20);
/// The interface in the container.
const INTERFACE: &str = "eth0";

/// A program that connects a network namespace to the host's network without privileges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Helper {
    /// slirp4netns(1).
    Slirp4netns,
    /// pasta(1).
    Pasta,
}

impl Helper {
    /// Its program.
    #[must_use]
    pub fn program(self) -> &'static str {
        match self {
            Self::Slirp4netns => "slirp4netns",
            Self::Pasta => "pasta",
        }
    }
}

/// A helper that is installed, and why it was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) helper: Helper,
    pub(super) path: PathBuf,
    pub(super) reason: &'static str,
    /// It can be told the container's MAC address.
    pub(super) sets_mac: bool,
}

/// Whether the program knows an option, by the option's name in its bytes. To ask it for its version would take as long
/// as the start of the network (and versions of distributions have patches).
fn knows_option(path: &Path, name: &str) -> bool {
    fs::read(path).is_ok_and(|bytes| bytes.windows(name.len()).any(|w| w == name.as_bytes()))
}

/// The helper to use: the one that is `wanted`, else the faster one that is installed. Its path, and why.
///
/// # Errors
/// [`NetError::NoHelper`].
pub fn find_helper(wanted: Option<Helper>) -> Result<(Helper, PathBuf, &'static str), NetError> {
    find(wanted).map(|found| (found.helper, found.path, found.reason))
}

pub(super) fn find(wanted: Option<Helper>) -> Result<Found, NetError> {
    let candidates: &[(Helper, &'static str)] = match wanted {
        Some(Helper::Slirp4netns) => &[(Helper::Slirp4netns, "asked for")],
        Some(Helper::Pasta) => &[(Helper::Pasta, "asked for")],
        None => &[
            (Helper::Slirp4netns, "starts fastest"),
            (Helper::Pasta, "slirp4netns is not installed"),
        ],
    };
    candidates
        .iter()
        .find_map(|(helper, reason)| {
            let path = installed(helper.program())?;
            Some(Found {
                helper: *helper,
                sets_mac: match helper {
                    // Since 1.1.9.
                    Helper::Slirp4netns => knows_option(&path, "macaddress"),
                    Helper::Pasta => true,
                },
                path,
                reason,
            })
        })
        .ok_or(NetError::NoHelper { wanted })
}

fn installed(program: &str) -> Option<PathBuf> {
    const DIRECTORIES: [&str; 6] = [
        "/usr/bin",
        "/usr/local/bin",
        "/bin",
        "/usr/sbin",
        "/usr/local/sbin",
        "/sbin",
    ];
    DIRECTORIES
        .iter()
        .map(|dir| PathBuf::from(dir).join(program))
        .find(|path| path.is_file())
}

/// A helper on its way up.
#[derive(Debug)]
pub(super) struct Starting {
    helper: Helper,
    /// Taken when it is up.
    child: Option<Child>,
    /// slirp4netns writes a byte when it is ready, pasta the PID of its daemon.
    ready: File,
    errors: File,
    /// slirp4netns ends when this closes. Close-on-exec: no other process may hold it.
    lifeline: Option<OwnedFd>,
}

/// A helper that is up.
#[derive(Debug)]
pub(super) struct Running {
    /// slirp4netns: our child. pasta: gone into the background, ended by its descriptor.
    pub(super) child: Option<Child>,
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
    pub(super) lifeline: Option<OwnedFd>,
}

/// Starts the helper for the network namespace of process `pid` and returns at once.
pub(super) fn start(
    found: &Found,
    mtu: Option<u16>,
    subnet: Subnet,
    pid: i32,
) -> Result<Starting, NetError> {
    let program = found.helper.program();
    let failed = |source: io::Error| NetError::Start { program, source };
    let (ready, ready_writer) = pipe2(OFlag::O_CLOEXEC).map_err(|e| failed(e.into()))?;
    let (errors, errors_writer) = pipe2(OFlag::O_CLOEXEC).map_err(|e| failed(e.into()))?;
    let mut command = Command::new(&found.path);
    command
        .env_clear()
        .current_dir("/")
        .stderr(Stdio::from(errors_writer));
    let mtu = mtu.unwrap_or(MTU).to_string();
    let lifeline = match found.helper {
        Helper::Slirp4netns => {
            let (end, lifeline) = pipe2(OFlag::O_CLOEXEC).map_err(|e| failed(e.into()))?;
            command.args([
                "--configure",
                "--disable-host-loopback",
                "--enable-sandbox",
                "--enable-seccomp",
            ]);
            command.args(["--exit-fd=0", "--mtu", &mtu]);
            let number = sys::give_fd(&mut command, ready_writer);
            command
                .arg(format!("--ready-fd={number}"))
                .arg(format!("--cidr={}/24", subnet.base));
            if host::has_ipv6() {
                command.arg("--enable-ipv6");
            }
            if found.sets_mac {
                command.arg("--macaddress").arg(subnet.mac());
            }
            command.arg(pid.to_string()).arg(INTERFACE);
            command.stdin(Stdio::from(end)).stdout(Stdio::null());

            Some(lifeline)
        }
        Helper::Pasta => {
            command.args([
                "--quiet",
                "--config-net",
                "--no-map-gw",
                "--ns-ifname",
                INTERFACE,
                "--mtu",
                &mtu,
            ]);
            // Ports are the relay's, and nothing of the host's loopback leads inside or back.
            command.args(["-t", "none", "-u", "none", "-T", "none", "-U", "none"]);
            command.args([
                "-a",
                &subnet.container().to_string(),
                "-n",
                "24",
                "-g",
                &subnet.gateway().to_string(),
            ]);
            command.args(["--ns-mac-addr", &subnet.mac()]);
            command.args(["--dns-forward", &subnet.name_server().to_string()]);
            if nix::unistd::geteuid().is_root() {
                command.args(["--runas", "0:0"]); // Else it becomes nobody, who can't enter the namespace.
            }
            if !host::has_ipv6() {
                command.arg("--ipv4-only");
            }
            command.args(["--pid", "/proc/self/fd/1"]);
            let namespaces = Namespaces::of(pid).map_err(failed)?;
            if namespaces.user.is_some() {
                command.arg(pid.to_string());
            } else {
                // It gives up the right to open another process's namespaces before it does so.
                let number = sys::give_fd(&mut command, namespaces.net.into());
                let path = format!("/proc/self/fd/{number}");
                command.args(["--netns-only", "--no-netns-quit", "--netns", &path]);
            }
            command
                .stdin(Stdio::null())
                .stdout(Stdio::from(ready_writer));
            None
        }
    };
    let child = command.spawn().map_err(failed)?;
    drop(command); // Its copies of the pipes' other ends.
    Ok(Starting {
        helper: found.helper,
        child: Some(child),
        ready: ready.into(),
        errors: errors.into(),
        lifeline,
    })
}

impl Starting {
    /// Waits until the interface, its address and the default route are there.
    pub(super) fn finish(mut self, timeout: Duration) -> Result<Running, NetError> {
        let pid = self.wait(timeout)?;
        let pidfd =
            sys::pidfd_open(pid).map_err(|e| NetError::io("watch the network helper", e))?;
        // pasta's first process has ended.
        let child = self
            .child
            .take()
            .filter(|_| self.helper == Helper::Slirp4netns);
        Ok(Running {
            child,
            pid,
            pidfd,
            lifeline: self.lifeline.take(),
        })
    }

    /// The PID of the process to end with the container.
    fn wait(&mut self, timeout: Duration) -> Result<i32, NetError> {
        let program = self.helper.program();
        let failed = |source| NetError::Start { program, source };
        let deadline = Instant::now() + timeout;
        let mut said = Vec::new();
        let mut chunk = [0u8; 64];
        while readable(&self.ready, deadline).map_err(failed)? {
            let got = self.ready.read(&mut chunk).map_err(failed)?;
            said.extend_from_slice(&chunk[..got]);
            let complete = self.helper == Helper::Slirp4netns || said.contains(&b'\n');
            if got == 0 || complete {
                break;
            }
        }
        let Some(child) = &mut self.child else {
            return Err(failed(io::ErrorKind::NotFound.into()));
        };
        let ready = match self.helper {
            Helper::Slirp4netns => (!said.is_empty()).then(|| child.id().try_into().unwrap_or(0)),
            // The parent's exit status tells; it leaves when the daemon is at work.
            Helper::Pasta => {
                let pid = String::from_utf8_lossy(&said).trim().parse().ok();
                let ended = child.wait().map_err(failed)?;
                pid.filter(|_| ended.success())
            }
        };
        ready.ok_or_else(|| NetError::Helper {
            program,
            output: self.last_words(),
        })
    }

    fn last_words(&mut self) -> String {
        // It writes no more; what it wrote is small enough to be in the pipe.
        if let Some(child) = &mut self.child {
            let _ = child.kill();
        }
        let mut text = Vec::new();
        let mut chunk = [0u8; 4096];
        while readable(&self.errors, Instant::now()).unwrap_or(false) {
            match self.errors.read(&mut chunk) {
                Ok(got) if got > 0 && text.len() < 65536 => text.extend_from_slice(&chunk[..got]),
                _ => break,
            }
        }
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text
            .lines()
            .map(str::trim)
            .filter(|l| !l.is_empty() && !l.contains("syslog"))
            .collect();
        match lines.as_slice() {
            [] => "it ended without a word".to_owned(),
            lines => lines[lines.len().saturating_sub(3)..].join("; "),
        }
    }
}

impl Drop for Starting {
    /// One that isn't wanted any more: the container failed otherwise.
    fn drop(&mut self) {
        // pasta can be ended for sure only when it is up.
        let pasta = self.helper == Helper::Pasta && self.child.is_some();
        if let Some(pid) = pasta.then(|| self.wait(DROP_TIMEOUT).ok()).flatten() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself; either way nothing is left.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Whether there is something to read before the deadline.
fn readable(file: &File, deadline: Instant) -> io::Result<bool> {
    let left = deadline.saturating_duration_since(Instant::now());
    let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
    let fd = file.as_fd();
    loop {
        match poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], timeout) {
            Err(nix::errno::Errno::EINTR) => {}
            result => return Ok(result? > 0),
        }
    }
}
