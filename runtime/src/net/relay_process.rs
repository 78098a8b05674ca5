//! The monitor's side of the [`relay`](super::relay): its process, and what it is told.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, recv, sendmsg, socketpair,
};

use super::host::Namespaces;
use super::listen::Listener;
use super::relay::{self, Order, Target};
use super::{NetError, Subnet};

/// Our process that serves the published ports. It ends when `channel` closes.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) child: Child,
    channel: OwnedFd,
}

/// Descriptors in one message (the kernel's limit is 253).
const BATCH: usize = 200;

/// Starts it for the network namespace of process `pid` and returns at once.
pub(super) fn start(
    program: &[OsString],
    pid: i32,
    subnet: Subnet,
    listeners: &[Listener],
) -> Result<Relay, NetError> {
    let failed = |source: io::Error| NetError::Start {
        program: "the port relay",
        source,
    };
    let (channel, theirs) = socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )
    .map_err(|e| failed(e.into()))?;
    let (path, args) = program
        .split_first()
        .ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
    let mut command = Command::new(path);
    command.arg0("rctr").args(args).env_clear().current_dir("/");
    command
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let child = command.spawn().map_err(failed)?;
    drop(command); // Its copy of the other end.
    let relay = Relay { child, channel };
    relay.instruct(pid, subnet, listeners)?;
    Ok(relay)
}

impl Drop for Relay {
    fn drop(&mut self) {
        // It may have ended by itself. Waited for, so that its ports are free.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Relay {
    fn instruct(&self, pid: i32, subnet: Subnet, listeners: &[Listener]) -> Result<(), NetError> {
        let Namespaces { net, user } =
            Namespaces::of(pid).map_err(|e| NetError::io("open the container's namespaces", e))?;
        let mut fds = vec![net.as_raw_fd()];
        fds.extend(user.as_ref().map(File::as_raw_fd));
        fds.extend(listeners.iter().map(|l| l.socket.as_raw_fd()));
        let targets = listeners
            .iter()
            .map(|l| Target {
                protocol: l.protocol,
                address: l.address,
                port: l.container_port,
            })
            .collect();
        let order = Order {
            subnet,
            join_user: user.is_some(),
            targets,
        };
        let order =
            serde_json::to_vec(&order).map_err(|e| NetError::io("write the relay's order", e))?;
        self.send(&order, &[])?;
        fds.chunks(BATCH)
            .try_for_each(|batch| self.send(b"fds", batch))
    }

    /// Readable when it has ended: it says nothing more after its first word.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }

    /// Has it end a process when it ends with the monitor.
    pub(super) fn entrust(&self, pidfd: &OwnedFd) -> Result<(), NetError> {
        self.send(b"end", &[pidfd.as_raw_fd()])
    }

    fn send(&self, message: &[u8], fds: &[RawFd]) -> Result<(), NetError> {
        let rights = [ControlMessage::ScmRights(fds)];
        let control: &[ControlMessage<'_>] = if fds.is_empty() { &[] } else { &rights };
        let sent = sendmsg::<()>(
            self.channel.as_raw_fd(),
            &[IoSlice::new(message)],
            control,
            MsgFlags::MSG_NOSIGNAL,
            None,
        );
        sent.map(drop)
            .map_err(|e| NetError::io("instruct the port relay", e))
    }

    /// Until it serves the ports.
    pub(super) fn wait(&self) -> Result<(), NetError> {
        let mut answer = [0u8; 512];
        let got = loop {
            match recv(self.channel.as_raw_fd(), &mut answer, MsgFlags::empty()) {
                Err(Errno::EINTR) => {}
                result => break result.map_err(|e| NetError::io("hear from the port relay", e))?,
            }
        };
        match &answer[..got] {
            relay::READY => Ok(()),
            [] => Err(NetError::Helper {
                program: "the port relay",
                output: "it ended without a word".to_owned(),
            }),
            said => Err(NetError::Helper {
                program: "the port relay",
                output: String::from_utf8_lossy(said).into_owned(),
            }),
        }
    }
}
