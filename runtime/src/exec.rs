//! Starts a further process in a running container: the parent's part.
//!
//! The caller has one thread and is in the host's namespaces. A child of it joins the container's user namespace, makes
//! our executable untouchable ([`crate::sealed`]), joins the others, and its own child (PID namespaces take in children
//! only) becomes `exec-init`. That child is made the caller's (`CLONE_PARENT`), so that the caller can wait for it.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::sched::{CloneFlags, setns};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use crate::handshake::{Channel, FromInit};
use crate::launch::{LaunchError, Launched, Stdio, become_init, order_file, streams, tell_failure};
use crate::plan::ProcessPlan;
use crate::process::Known;
use crate::sealed;
use crate::sys::{self, Cloned};

/// (file in /proc/PID/ns, its flag), the user namespace apart.
const NAMESPACES: [(&str, CloneFlags); 6] = [
    ("cgroup", CloneFlags::CLONE_NEWCGROUP),
    ("ipc", CloneFlags::CLONE_NEWIPC),
    ("uts", CloneFlags::CLONE_NEWUTS),
    ("net", CloneFlags::CLONE_NEWNET),
    ("pid", CloneFlags::CLONE_NEWPID),
    // Last: /proc is the container's from then on.
    ("mnt", CloneFlags::CLONE_NEWNS),
];

/// Runs `plan` beside the container's process `target`. The result is a child of the caller.
///
/// # Errors
/// When the container is gone, or as for [`crate::launch::Launching::release`].
pub fn spawn(target: Known, plan: &ProcessPlan, stdio: Stdio) -> Result<Launched, LaunchError> {
    let terminal_size = stdio.terminal_size;
    let failed = |operation| move |source: io::Error| LaunchError::Spawn { operation, source };
    let order = order_file(plan).map_err(failed("cannot write the work order"))?;
    let (channel, theirs) = Channel::pair().map_err(failed("cannot make a socket pair"))?;
    let streams = streams(stdio).map_err(failed("cannot open /dev/null"))?;
    let exe = sealed::own_path().map_err(failed("cannot find our own executable"))?;
    let gone = "cannot join the container: it is gone";
    let user = differing(target.pid, "user").map_err(failed(gone))?;
    let others = others(target.pid).map_err(failed(gone))?;
    // Another process with that PID, perhaps of the host, isn't joined.
    target.check().map_err(failed(gone))?;
    match sys::clone_process(0).map_err(failed("cannot fork"))? {
        Cloned::Parent { pid, .. } => {
            drop(theirs);
            let launched = await_exec(&channel, terminal_size);
            // The go-between has ended: all that it had to do was to fork.
            let _ = waitpid(Pid::from_raw(pid), None);
            launched
        }
        Cloned::Child => {
            let error = go_between(user, &others, &exe, &streams, &theirs, &order);
            tell_failure(&theirs, "join the container", &error);
            sys::exit_now(125)
        }
    }
}

/// In the child: joins, forks, ends.
fn go_between(
    user: Option<OwnedFd>,
    others: &[(OwnedFd, CloneFlags)],
    exe: &std::ffi::CStr,
    streams: &[OwnedFd; 3],
    channel: &Channel,
    order: &File,
) -> io::Error {
    let run = || -> io::Result<OwnedFd> {
        if let Some(user) = user {
            setns(user, CloneFlags::CLONE_NEWUSER)?;
        }
        sys::set_ids(0, 0, &[])?;
        // A mount namespace that we own, for the detached mount of our executable.
        nix::sched::unshare(CloneFlags::CLONE_NEWNS)?;
        let exe = sealed::executable(exe)?;
        for (namespace, flag) in others {
            setns(namespace, *flag)?;
        }
        Ok(exe)
    };
    let exe = match run() {
        Ok(exe) => exe,
        Err(error) => return error,
    };
    match sys::clone_process(libc::CLONE_PARENT) {
        Err(error) => error,
        Ok(Cloned::Parent { pid, .. }) => {
            // The PID as we see it, from the host's PID namespace: we haven't moved there ourselves.
            let told = channel.send(&FromInit::Pid(pid), None);
            sys::exit_now(i32::from(told.is_err()))
        }
        Ok(Cloned::Child) => become_init(c"exec-init", || Ok(exe), streams, channel, order),
    }
}

fn await_exec(
    channel: &Channel,
    terminal_size: Option<(u16, u16)>,
) -> Result<Launched, LaunchError> {
    let failed = |operation| move |source: io::Error| LaunchError::Spawn { operation, source };
    let (mut child, mut console) = (None, None);
    while let Some((message, fd)) = channel
        .receive::<FromInit>()
        .map_err(failed("cannot talk to exec-init"))?
    {
        match message {
            // Once: exec-init, which is inside, has no say in which process it is.
            FromInit::Pid(pid) if child.is_none() => {
                let pidfd = sys::pidfd_open(pid).map_err(failed("cannot open the new process"))?;
                child = Some((Pid::from_raw(pid), pidfd));
            }
            FromInit::Console => {
                if let (Some(fd), Some((rows, columns))) = (&fd, terminal_size) {
                    // The program only finds no size then, as on a serial line.
                    let _ = sys::set_terminal_size(fd.as_fd(), rows, columns);
                }
                console = fd;
            }
            FromInit::Failed(failure) => {
                if let Some((pid, _)) = child {
                    let _ = waitpid(pid, None);
                }
                return Err(failure.into());
            }
            FromInit::Pid(_)
            | FromInit::Ready
            | FromInit::Made(_)
            | FromInit::Fuse
            | FromInit::Emulation => {}
        }
    }
    let (pid, pidfd) = child.ok_or(LaunchError::Died)?;
    Ok(Launched {
        pid,
        pidfd,
        console,
        helpers: Vec::new(),
        emulation: None,
        made: Vec::new(),
    })
}

/// The namespace `name` of `target`, unless it is our own (joining that may need rights that we lack).
fn differing(target: i32, name: &str) -> io::Result<Option<OwnedFd>> {
    let path = format!("/proc/{target}/ns/{name}");
    if fs::read_link(&path)? == fs::read_link(format!("/proc/self/ns/{name}"))? {
        return Ok(None);
    }
    Ok(Some(File::open(path)?.into()))
}

fn others(target: i32) -> io::Result<Vec<(OwnedFd, CloneFlags)>> {
    let open = |(name, flag): (&str, CloneFlags)| {
        differing(target, name)
            .map(|found| found.map(|fd| (fd, flag)))
            .transpose()
    };
    NAMESPACES.into_iter().filter_map(open).collect()
}
