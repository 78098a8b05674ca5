//! Starts a container's first process: the parent's part.
//!
//! The caller has one thread and is root of the container's user namespace ([`crate::identity::enter`]); it stays in
//! the host's other namespaces. [`spawn`] clones a child into the new namespaces, which becomes a fresh, single-threaded
//! image of our own executable ([`crate::init`]) and puts up the file tree, while the caller attaches the network.
//! [`Launching::release`] lets the program start.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::unistd::Pid;
use rctr_storage::explain::Explain;
use serde::Serialize;

use crate::handshake::{Channel, Failure, FailureKind, FromInit, FromParent};
use crate::plan::{Driver, LaunchPlan, Namespace};
use crate::sys::{self, Cloned};
use crate::unrunnable::Shape;
use crate::{fuse, sealed};

/// Descriptor of the conversation with the parent in the new process image.
pub(crate) const CHANNEL_FD: i32 = 3;
/// Descriptor of the work order.
pub(crate) const ORDER_FD: i32 = 4;

/// The standard streams of a process without a terminal; `None` is /dev/null.
#[derive(Debug, Default)]
pub struct Stdio {
    /// Descriptor 0.
    pub stdin: Option<OwnedFd>,
    /// Descriptor 1.
    pub stdout: Option<OwnedFd>,
    /// Descriptor 2.
    pub stderr: Option<OwnedFd>,
    /// Rows and columns that the terminal has from the start, when there is one instead of the three.
    pub terminal_size: Option<(u16, u16)>,
}

/// Why a process could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// Before init was at work.
    #[error("cannot start the container: {operation}")]
    Spawn {
        /// What was tried.
        operation: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Init could not set the container up.
    #[error("cannot {step}{}", object_text(object))]
    SetUp {
        /// As words.
        step: String,
        /// Path or name.
        object: String,
        /// Why.
        source: io::Error,
    },
    /// The user or group isn't in the image.
    #[error("{message}")]
    User {
        /// Whole sentence.
        message: String,
    },
    /// The working directory can't be entered.
    #[error("cannot enter the working directory {path:?}")]
    WorkingDirectory {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The program isn't there.
    #[error("exec: {program:?}: {}", not_found(program, lacks))]
    NotFound {
        /// As given.
        program: String,
        /// It is there, but its interpreter or dynamic linker isn't; else empty.
        lacks: String,
    },
    /// The program can't be run.
    #[error("exec: {program:?}: {}{}", reason(*errno), told(shape.as_deref()))]
    NotExecutable {
        /// As given.
        program: String,
        /// Of execve(2); the message says it in words.
        errno: i32,
        /// What the kernel doesn't know how to run.
        shape: Option<Box<Shape>>,
    },
    /// Init died without a word.
    #[error("the container's init process died while it was set up")]
    Died,
}

fn object_text(object: &str) -> String {
    if object.is_empty() {
        String::new()
    } else {
        format!(" ({object})")
    }
}

/// What was found out about the file.
fn told(shape: Option<&Shape>) -> String {
    shape.map_or_else(String::new, |shape| format!(": it is {shape}"))
}

fn not_found(program: &str, lacks: &str) -> String {
    if !lacks.is_empty() {
        format!("it needs {lacks}: no such file or directory")
    } else if program.contains('/') {
        "no such file or directory".to_owned()
    } else {
        "executable file not found in $PATH".to_owned()
    }
}

fn reason(errno: i32) -> String {
    match errno {
        libc::EACCES => "permission denied".to_owned(),
        libc::EISDIR => "is a directory".to_owned(),
        libc::ENOEXEC => "exec format error".to_owned(),
        errno => io::Error::from_raw_os_error(errno).to_string(),
    }
}

impl LaunchError {
    /// Docker's exit code for this failure: 125, 126 or 127.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotFound { .. } | Self::WorkingDirectory { .. } => 127,
            Self::NotExecutable { .. } => 126,
            _ => 125,
        }
    }
}

impl Explain for LaunchError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::NotExecutable {
                errno: libc::ENOEXEC,
                shape,
                program,
            } => match shape {
                Some(shape) => shape.hint(program),
                None => Some(
                    "the program is for another architecture, or a script without a #! line"
                        .to_owned(),
                ),
            },
            Self::NotExecutable {
                errno: libc::EISDIR,
                ..
            } => Some("give a program, not a directory".to_owned()),
            Self::NotExecutable {
                errno: libc::E2BIG, ..
            } => Some(
                "an argument has 128 KiB at most; put long text into a file, and COPY or mount it"
                    .to_owned(),
            ),
            Self::NotExecutable { .. } => {
                Some("chmod +x it in the image, or name its interpreter".to_owned())
            }
            Self::NotFound { lacks, .. } if !lacks.is_empty() => {
                Some(format!("install what brings {lacks} into the image"))
            }
            Self::NotFound { .. } => Some(
                "is the program in the image? A script also needs the interpreter of its #! line"
                    .to_owned(),
            ),
            Self::User { .. } => Some(
                "name a user of the image's /etc/passwd, or give numbers, as in -u 1000:1000"
                    .to_owned(),
            ),
            Self::SetUp { step, source, .. }
                if step == crate::init::EMULATE && source.raw_os_error().is_some() =>
            {
                Some(
                    "without root that needs Linux 6.7; or as root, for the whole host: \
                     apt-get install qemu-user-static binfmt-support"
                        .to_owned(),
                )
            }
            Self::SetUp { source, .. } | Self::Spawn { source, .. } => {
                match source.raw_os_error() {
                    Some(libc::ENOSPC) => {
                        Some("free space in the store, or raise the limit that was met".to_owned())
                    }
                    Some(libc::EPERM | libc::EINVAL) => {
                        Some("`rctr doctor` tells what this host allows".to_owned())
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

impl From<Failure> for LaunchError {
    fn from(failure: Failure) -> Self {
        let source = match failure.errno {
            0 => io::Error::other(failure.detail.clone()),
            errno => io::Error::from_raw_os_error(errno),
        };
        match failure.kind {
            FailureKind::SetUp => Self::SetUp {
                step: failure.step,
                object: failure.object,
                source,
            },
            FailureKind::User => Self::User {
                message: failure.object,
            },
            FailureKind::WorkingDirectory => Self::WorkingDirectory {
                path: failure.object,
                source,
            },
            FailureKind::NotFound => Self::NotFound {
                program: failure.object,
                lacks: failure.detail,
            },
            FailureKind::NotExecutable => Self::NotExecutable {
                program: failure.object,
                errno: failure.errno,
                shape: failure.shape,
            },
        }
    }
}

/// A container whose init is at work. Dropping it kills init.
#[derive(Debug)]
pub struct Launching {
    /// Init's PID as seen from the host.
    pub pid: Pid,
    pidfd: OwnedFd,
    channel: Channel,
    helpers: Vec<Pid>,
    released: bool,
    /// (rows, columns)
    terminal_size: Option<(u16, u16)>,
}

/// A process that runs.
#[derive(Debug)]
pub struct Launched {
    /// As seen from the host.
    pub pid: Pid,
    /// A descriptor of it.
    pub pidfd: OwnedFd,
    /// The pty's master, if a terminal was asked for.
    pub console: Option<OwnedFd>,
    /// Children of the caller that serve this process (fuse-overlayfs): to be killed and reaped when it has ended.
    pub helpers: Vec<Pid>,
    /// What keeps the handler for programs of other processors: to be held as long as any of the container's processes lives.
    pub emulation: Option<OwnedFd>,
    /// Mount points that weren't there, in the order in which they were made: absolute, inside. Empty unless the plan
    /// wants to know.
    pub made: Vec<PathBuf>,
}

/// Clones init into its namespaces. When this returns, they exist.
///
/// # Errors
/// When the kernel refuses, or a joined namespace is gone.
pub fn spawn(plan: &LaunchPlan, stdio: Stdio) -> Result<Launching, LaunchError> {
    let terminal_size = stdio.terminal_size;
    let failed = |operation| move |source: io::Error| LaunchError::Spawn { operation, source };
    let order = order_file(plan).map_err(failed("cannot write the work order"))?;
    let (channel, theirs) = Channel::pair().map_err(failed("cannot make a socket pair"))?;
    let streams = streams(stdio).map_err(failed("cannot open /dev/null"))?;
    let exe = sealed::own_path().map_err(failed("cannot find our own executable"))?;
    let joins = joined(plan).map_err(failed("cannot open the namespaces to join"))?;
    let cloned = {
        let _guard = join_pid_namespace(&plan.namespaces.pid)
            .map_err(failed("cannot join the PID namespace"))?;
        sys::clone_process(new_namespaces(plan)).map_err(failed("cannot create namespaces"))?
    };
    match cloned {
        Cloned::Parent { pid, pidfd } => {
            let pid = Pid::from_raw(pid);
            let mut launching = Launching {
                pid,
                pidfd,
                channel,
                helpers: Vec::new(),
                released: false,
                terminal_size,
            };
            if plan.rootfs.driver == Driver::FuseOverlayfs {
                launching.serve_fuse(plan)?;
            }
            Ok(launching)
        }
        Cloned::Child => {
            let executable = || {
                for (namespace, kind) in &joins {
                    setns(namespace, *kind)?;
                }
                sealed::executable(&exe)
            };
            let error = become_init(c"init", executable, &streams, &theirs, &order);
            tell_failure(&theirs, "start init", &error);
            sys::exit_now(125)
        }
    }
}

/// The child's last words before it has become init.
pub(crate) fn tell_failure(channel: &Channel, step: &str, error: &io::Error) {
    let errno = error.raw_os_error().unwrap_or(libc::EIO);
    let (object, detail) = (String::new(), String::new());
    let failure = Failure {
        step: step.to_owned(),
        object,
        errno,
        detail,
        kind: FailureKind::SetUp,
        shape: None,
    };
    // Without a listener there is nobody to tell.
    let _ = channel.send(&FromInit::Failed(failure), None);
}

/// Between clone and exec, in the child: becomes our own executable again, as `executable` opens it, with `verb`.
/// Returns only on failure.
pub(crate) fn become_init(
    verb: &std::ffi::CStr,
    executable: impl FnOnce() -> io::Result<OwnedFd>,
    streams: &[OwnedFd; 3],
    channel: &Channel,
    order: &File,
) -> io::Error {
    let run = || -> io::Result<OwnedFd> {
        // The caller may have blocked signals for its own loop; masks survive exec.
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
        let exe = executable()?;
        place_fds(streams, channel, order)?;
        Ok(exe)
    };
    match run() {
        Ok(exe) => sys::exec_fd(exe.as_fd(), &[c"rctr", verb], &[]),
        Err(error) => error,
    }
}

/// 0, 1, 2 are the streams, 3 the channel, 4 the order; all else closes at exec.
fn place_fds(streams: &[OwnedFd; 3], channel: &Channel, order: &File) -> io::Result<()> {
    // First out of the way of the numbers that are about to be overwritten.
    let above = |fd: BorrowedFd<'_>| sys::dup_above(fd, 10);
    let sources = [
        above(streams[0].as_fd())?,
        above(streams[1].as_fd())?,
        above(streams[2].as_fd())?,
        above(channel.as_fd())?,
        above(order.as_fd())?,
    ];
    sys::cloexec_from(3)?;
    for (number, source) in (0..).zip(&sources) {
        sys::dup_to(source.as_fd(), number)?;
    }
    Ok(())
}

impl Launching {
    /// A descriptor of init.
    #[must_use]
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Lets init go on to what is bound in from the host: until now the caller may have made the files for it.
    pub fn files_are_there(&self) {
        // If init is gone, `release` tells why.
        let _ = self.channel.send(&FromParent::Files, None);
    }

    /// Whether init is dead already.
    pub(crate) fn has_ended(&self) -> bool {
        let mut fds = [PollFd::new(self.pidfd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// Init's first word is the FUSE device that it mounted.
    fn serve_fuse(&mut self, plan: &LaunchPlan) -> Result<(), LaunchError> {
        let failed = |source| LaunchError::Spawn {
            operation: "cannot start fuse-overlayfs",
            source,
        };
        match self.channel.receive::<FromInit>().map_err(failed)? {
            Some((FromInit::Fuse, Some(device))) => {
                self.helpers
                    .push(fuse::start(&plan.rootfs, device.as_fd()).map_err(failed)?);
                Ok(())
            }
            Some((FromInit::Failed(failure), _)) => Err(failure.into()),
            _ => Err(LaunchError::Died),
        }
    }

    /// Lets the program start, once init has put everything up; returns when it runs.
    ///
    /// # Errors
    /// What init could not do; then it is gone and reaped.
    pub fn release(mut self) -> Result<Launched, LaunchError> {
        let (mut console, mut emulation, mut made) = (None, None, Vec::new());
        loop {
            let failed = |source| LaunchError::Spawn {
                operation: "cannot talk to init",
                source,
            };
            match self.channel.receive::<FromInit>().map_err(failed)? {
                Some((FromInit::Ready, _)) => {
                    if let (Some(console), Some((rows, columns))) = (&console, self.terminal_size) {
                        // The program only finds no size then, as on a serial line.
                        let _ = sys::set_terminal_size(OwnedFd::as_fd(console), rows, columns);
                    }
                    self.channel
                        .send(&FromParent::Release, None)
                        .map_err(|_| LaunchError::Died)?;
                    self.released = true;
                }
                Some((FromInit::Console, fd)) => console = fd,
                Some((FromInit::Emulation, fd)) => emulation = fd,
                Some((FromInit::Made(path), _)) => made.push(path),
                Some((FromInit::Failed(failure), _)) => return Err(failure.into()),
                Some((FromInit::Pid(_) | FromInit::Fuse, _)) => {}
                None if self.released => break,
                None => return Err(LaunchError::Died),
            }
        }
        let pidfd = self
            .pidfd
            .try_clone()
            .map_err(|source| LaunchError::Spawn {
                operation: "cannot copy a descriptor",
                source,
            })?;
        let launched = Launched {
            pid: self.pid,
            pidfd,
            console,
            helpers: std::mem::take(&mut self.helpers),
            emulation,
            made,
        };
        // Not dropped: its drop kills.
        self.disarm();
        Ok(launched)
    }

    /// Ends it before the program runs, once init has put everything up: the mount points that it made, as
    /// [`Launched::made`] has them.
    pub(crate) fn abandon(self) -> Vec<PathBuf> {
        let mut made = Vec::new();
        // Whatever else comes, it is about to be killed.
        while let Ok(Some((word, _))) = self.channel.receive::<FromInit>() {
            match word {
                FromInit::Made(path) => made.push(path),
                FromInit::Ready | FromInit::Failed(_) => break,
                FromInit::Console | FromInit::Emulation | FromInit::Pid(_) | FromInit::Fuse => {}
            }
        }
        made
    }

    fn disarm(mut self) {
        self.pid = Pid::from_raw(0);
    }
}

impl Drop for Launching {
    fn drop(&mut self) {
        if self.pid.as_raw() <= 0 {
            return;
        }
        for pid in std::iter::once(self.pid).chain(self.helpers.drain(..)) {
            // Both fail only when the process is gone, which is what is wanted.
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            let _ = nix::sys::wait::waitpid(pid, None);
        }
    }
}

/// The plan in a memory file, read from its start.
pub(crate) fn order_file(plan: &impl Serialize) -> io::Result<File> {
    let mut file = File::from(memfd_create(c"rctr-order", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(&serde_json::to_vec(plan)?)?;
    io::Seek::rewind(&mut file)?;
    Ok(file)
}

pub(crate) fn streams(stdio: Stdio) -> io::Result<[OwnedFd; 3]> {
    let null = || -> io::Result<OwnedFd> {
        Ok(File::options()
            .read(true)
            .write(true)
            .open("/dev/null")?
            .into())
    };
    let or_null = |fd: Option<OwnedFd>| fd.map_or_else(null, Ok);
    Ok([
        or_null(stdio.stdin)?,
        or_null(stdio.stdout)?,
        or_null(stdio.stderr)?,
    ])
}

fn new_namespaces(plan: &LaunchPlan) -> i32 {
    let names = &plan.namespaces;
    let mut flags = libc::CLONE_NEWNS;
    for (namespace, flag) in [
        (&names.pid, libc::CLONE_NEWPID),
        (&names.net, libc::CLONE_NEWNET),
        (&names.ipc, libc::CLONE_NEWIPC),
        (&names.uts, libc::CLONE_NEWUTS),
        (&names.cgroup, libc::CLONE_NEWCGROUP),
    ] {
        if *namespace == Namespace::Private {
            flags |= flag;
        }
    }
    flags
}

fn joined(plan: &LaunchPlan) -> io::Result<Vec<(OwnedFd, CloneFlags)>> {
    let names = &plan.namespaces;
    [
        (&names.net, CloneFlags::CLONE_NEWNET),
        (&names.ipc, CloneFlags::CLONE_NEWIPC),
        (&names.uts, CloneFlags::CLONE_NEWUTS),
        (&names.cgroup, CloneFlags::CLONE_NEWCGROUP),
    ]
    .into_iter()
    .filter_map(|(namespace, flag)| match namespace {
        Namespace::Of(path) => Some(open_namespace(path).map(|fd| (fd, flag))),
        Namespace::Private | Namespace::Host => None,
    })
    .collect()
}

fn open_namespace(path: &PathBuf) -> io::Result<OwnedFd> {
    Ok(File::open(path)?.into())
}

/// While it lives, children are born into another PID namespace (pid_namespaces(7): setns moves children only).
struct PidNamespaceGuard(Option<OwnedFd>);

fn join_pid_namespace(namespace: &Namespace) -> io::Result<PidNamespaceGuard> {
    let Namespace::Of(path) = namespace else {
        return Ok(PidNamespaceGuard(None));
    };
    let own = File::open("/proc/self/ns/pid")?;
    setns(open_namespace(path)?, CloneFlags::CLONE_NEWPID)?;
    Ok(PidNamespaceGuard(Some(own.into())))
}

impl Drop for PidNamespaceGuard {
    fn drop(&mut self) {
        if let Some(own) = self.0.take() {
            // Back to our own namespace, which can't be refused: we are in it.
            let _ = setns(own, CloneFlags::CLONE_NEWPID);
        }
    }
}

/// A C string of a path.
pub(crate) fn c_path(path: &std::path::Path) -> io::Result<CString> {
    use std::os::unix::ffi::OsStrExt;
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}
