//! What init and its parent say to each other while a container starts: JSON messages over a pair of
//! `SOCK_SEQPACKET` sockets. The end closes on exec, so end-of-file means that the program runs.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg,
    sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};

use crate::sys;
use crate::unrunnable::Shape;

/// Longest message, bytes.
const LONGEST: usize = 8192;

/// From init to its parent.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromInit {
    /// The process that was forked on our behalf has this PID in our PID namespace.
    Pid(i32),
    /// The pty's master comes with this message.
    Console,
    /// The FUSE device of the root file system comes with this message: it wants to be served.
    Fuse,
    /// What keeps the handler for programs of other processors comes with this message.
    Emulation,
    /// A mount point that wasn't there and was made, inside; for plans that want to know ([`LaunchPlan::tells_made`]).
    ///
    /// [`LaunchPlan::tells_made`]: crate::plan::LaunchPlan::tells_made
    Made(PathBuf),
    /// Everything stands; init waits for [`FromParent::Release`].
    Ready,
    /// It can't be done.
    Failed(Failure),
}

/// From the parent to init.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromParent {
    /// What is bound in from the host is there.
    Files,
    /// Start the program.
    Release,
}

/// Why init gave up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// What it was at, as words: "mount the root file system".
    pub(crate) step: String,
    /// On which path or name; empty: none.
    pub(crate) object: String,
    /// errno; 0: `detail` says why.
    pub(crate) errno: i32,
    /// Why, when it was no system call.
    pub(crate) detail: String,
    /// What kind of failure.
    pub(crate) kind: FailureKind,
    /// What the file is that can't be run.
    #[serde(default)]
    pub(crate) shape: Option<Box<Shape>>,
}

/// What kind of failure: it decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum FailureKind {
    /// The container could not be set up: 125.
    SetUp,
    /// The user or group is unknown: 125.
    User,
    /// The working directory can't be entered: 127.
    WorkingDirectory,
    /// The program isn't there: 127.
    NotFound,
    /// The program can't be run: 126.
    NotExecutable,
}

/// One end of the conversation.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

impl Channel {
    /// Two ends, both close-on-exec.
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )?;
        Ok((Self(a), Self(b)))
    }

    /// The end that this process was started with as descriptor `number`.
    pub(crate) fn inherited(number: i32) -> io::Result<Self> {
        let fd = sys::inherited_fd(number)?;
        nix::fcntl::fcntl(
            &fd,
            nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC),
        )?;
        Ok(Self(fd))
    }

    /// Sends `message`, with a descriptor if one is given.
    pub(crate) fn send(
        &self,
        message: &impl Serialize,
        fd: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        let raw = fd.map(|fd| [fd.as_raw_fd()]);
        let rights: Vec<_> = raw
            .iter()
            .map(|fds| ControlMessage::ScmRights(fds))
            .collect();
        sendmsg::<()>(
            self.0.as_raw_fd(),
            &[IoSlice::new(&bytes)],
            &rights,
            MsgFlags::MSG_NOSIGNAL,
            None,
        )?;
        Ok(())
    }

    /// The next message and the descriptor that came with it; `None` at the end.
    pub(crate) fn receive<T: for<'de> Deserialize<'de>>(
        &self,
    ) -> io::Result<Option<(T, Option<OwnedFd>)>> {
        let mut buffer = vec![0; LONGEST];
        let mut space = nix::cmsg_space!([i32; 1]);
        let (length, fd) = {
            let mut slices = [IoSliceMut::new(&mut buffer)];
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            let message = loop {
                match recvmsg::<()>(self.0.as_raw_fd(), &mut slices, Some(&mut space), flags) {
                    // The other end has gone without having read all (told once): its own last words come next.
                    Err(nix::errno::Errno::EINTR | nix::errno::Errno::ECONNRESET) => {}
                    other => break other?,
                }
            };
            let fd = message.cmsgs()?.find_map(|control| match control {
                ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
                _ => None,
            });
            (message.bytes, fd.map(sys::inherited_fd).transpose()?)
        };
        if length == 0 {
            return Ok(None);
        }
        Ok(Some((serde_json::from_slice(&buffer[..length])?, fd)))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_heard_of_who_did_not_listen() {
        let (ours, theirs) = Channel::pair().unwrap();
        ours.send(&FromParent::Files, None).unwrap();
        theirs.send(&FromInit::Ready, None).unwrap();
        drop(theirs);
        let heard = ours.receive::<FromInit>().unwrap();
        assert!(matches!(heard, Some((FromInit::Ready, None))));
        assert!(ours.receive::<FromInit>().unwrap().is_none());
    }
}
