//! Relaying to a process that the caller itself has started: `exec`.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{chdir, pipe2, read, setsid, write};

use super::front::{Front, Outcome, RelayOptions, Typed};
use super::message::{MAX_DATA, Streams};
use super::signals::{Asked, Signals};
use super::{AttachError, failed, terminal};
use crate::launch::Stdio;
use crate::log::Stream;
use crate::sys::{self, Cloned};

/// Our ends of a process's streams. With a terminal, only `console`.
#[derive(Debug, Default)]
pub struct Local {
    /// Where its standard input is written to; non-blocking.
    pub stdin: Option<OwnedFd>,
    /// Where its standard output is read from; non-blocking.
    pub stdout: Option<OwnedFd>,
    /// Where its standard error is read from; non-blocking.
    pub stderr: Option<OwnedFd>,
    /// The pty's master.
    pub console: Option<OwnedFd>,
}

/// Pipes for the wanted streams: the process's ends and ours. A terminal gets the caller's size.
///
/// # Errors
/// As pipe2(2).
pub fn pipes(streams: Streams) -> io::Result<(Stdio, Local)> {
    let pipe = |wanted: bool| wanted.then(|| pipe2(OFlag::O_CLOEXEC)).transpose();
    let split =
        |pair: Option<(OwnedFd, OwnedFd)>| pair.map_or((None, None), |(r, w)| (Some(r), Some(w)));
    let (stdin, our_stdin) = split(pipe(streams.stdin)?);
    let (our_stdout, stdout) = split(pipe(streams.stdout)?);
    let (our_stderr, stderr) = split(pipe(streams.stderr)?);
    for fd in [&our_stdin, &our_stdout, &our_stderr].into_iter().flatten() {
        non_blocking(fd)?;
    }
    let ours = Local {
        stdin: our_stdin,
        stdout: our_stdout,
        stderr: our_stderr,
        console: None,
    };
    Ok((
        Stdio {
            stdin,
            stdout,
            stderr,
            terminal_size: terminal::own_size().map(|size| (size.rows, size.columns)),
        },
        ours,
    ))
}

/// Sets O_NONBLOCK.
pub(crate) fn non_blocking(fd: impl AsFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd.as_fd(), FcntlArg::F_GETFL)?);
    fcntl(fd.as_fd(), FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// The exit code of a child that has ended, reaping it; `None`: it runs.
pub(crate) fn reap(pidfd: BorrowedFd<'_>) -> Option<i32> {
    match waitid(
        Id::PIDFd(pidfd),
        WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG,
    ) {
        Ok(WaitStatus::Exited(_, code)) => Some(code),
        Ok(WaitStatus::Signaled(_, signal, _)) => Some(128 + signal as i32),
        Ok(_) | Err(nix::Error::EINTR) => None,
        // ECHILD: somebody else reaped it.
        Err(_) => Some(255),
    }
}

/// Relays between the caller and a child of it, until that has ended and what it wrote is written, or the caller leaves.
/// What the child's own children write later is not waited for. `pidfd` is of the child.
///
/// # Errors
/// When one of the caller's streams fails.
pub fn relay_local(
    mut local: Local,
    pidfd: BorrowedFd<'_>,
    options: &RelayOptions,
) -> Result<Outcome, AttachError> {
    let signals = Signals::take(options.sig_proxy, options.tty).map_err(failed("take signals"))?;
    let mut front = Front::enter(options, signals);
    let hung_up = prepare(&local, options).map_err(failed("prepare the terminal"))?;
    let mut typed: Vec<u8> = Vec::new();
    let mut stdin_open =
        options.streams.stdin && (local.stdin.is_some() || local.console.is_some());
    let mut code = None;
    let mut buffer = vec![0; MAX_DATA];
    loop {
        if code.is_none() {
            let ready = wait(
                &local,
                &front,
                pidfd,
                stdin_open && typed.is_empty(),
                !typed.is_empty(),
            )?;
            if ready {
                code = reap(pidfd);
            }
        }
        while let Some(asked) = front.signals.next() {
            match asked {
                // Gone already: its exit is about to be seen.
                Asked::Forward(signal) => drop(sys::pidfd_send_signal(pidfd, signal)),
                Asked::End(signal) => return Ok(Outcome::Interrupted(signal)),
                Asked::Suspend | Asked::Resume => front.job_control(asked),
                Asked::Resize => {}
            }
            resize(&local, options);
        }
        if stdin_open && typed.is_empty() && code.is_none() && readable(io::stdin().as_fd()) {
            match front.typed() {
                Typed::Data(data) => typed = data,
                Typed::Eof => {
                    stdin_open = false;
                    local.stdin = None;
                }
                Typed::Detach => {
                    front.drain().map_err(failed("write the output"))?;
                    leave_a_keeper(&local, pidfd).map_err(failed("leave the process alone"))?;
                    return Ok(Outcome::Detached);
                }
            }
        }
        if let Some(to) = local
            .stdin
            .as_ref()
            .or(local.console.as_ref())
            .filter(|_| !typed.is_empty())
        {
            match write(to, &typed) {
                Ok(count) => drop(typed.drain(..count)),
                Err(nix::Error::EAGAIN | nix::Error::EINTR) => {}
                // It doesn't read any more.
                Err(_) => {
                    typed.clear();
                    stdin_open = false;
                    local.stdin = None;
                }
            }
        }
        for stream in [Stream::Stdout, Stream::Stderr] {
            if front.pending_of(stream)
                && writable(stream)
                && front.flush(stream).map_err(failed("write the output"))?
            {
                return Ok(Outcome::OutputClosed);
            }
        }
        if front.pending() {
            if code.is_some() && front.drain().map_err(failed("write the output"))? {
                return Ok(Outcome::OutputClosed);
            }
            continue;
        }
        let got = pull(&mut local, &mut front, &mut buffer);
        if let (Some(code), false) = (code, got) {
            front.drain().map_err(failed("write the output"))?;
            drop(hung_up);
            return Ok(Outcome::Exited(code));
        }
    }
}

/// Forks a process that holds our ends of the streams and throws away what is written, until the relayed process has
/// ended: without it, a hang-up or a broken pipe would kill what the caller has just detached from.
fn leave_a_keeper(local: &Local, pidfd: BorrowedFd<'_>) -> io::Result<()> {
    if let Cloned::Parent { .. } = sys::clone_process(0)? {
        return Ok(());
    }
    // The keeper is nobody's foreground job, and holds none of the caller's files. Failing here only makes it less tidy.
    let _ = setsid();
    // SIGHUP stays blocked: if the caller led its session, its end has sent one before we could leave that.
    let _ = SigSet::from(Signal::SIGTERM).thread_unblock();
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        for number in 0..=2 {
            let _ = sys::dup_to(null.as_fd(), number);
        }
    }
    let _ = chdir("/");
    let mut buffer = vec![0; MAX_DATA];
    let mut sources: Vec<BorrowedFd<'_>> = [&local.console, &local.stdout, &local.stderr]
        .into_iter()
        .flatten()
        .map(AsFd::as_fd)
        .collect();
    loop {
        let mut fds = vec![PollFd::new(pidfd, PollFlags::POLLIN)];
        fds.extend(sources.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)));
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(_) => sys::exit_now(1),
        }
        if fds[0].any().unwrap_or(true) {
            sys::exit_now(0);
        }
        sources.retain(|fd| match read(fd, &mut buffer) {
            Ok(length) => length > 0,
            Err(error) => matches!(error, nix::Error::EAGAIN | nix::Error::EINTR),
        });
    }
}

/// The console's other end, kept open so that it never hangs up while the process lives; and its first size.
fn prepare(local: &Local, options: &RelayOptions) -> io::Result<Option<OwnedFd>> {
    let Some(console) = &local.console else {
        return Ok(None);
    };
    non_blocking(console)?;
    resize(local, options);
    sys::pty_peer(console.as_fd()).map(Some)
}

fn resize(local: &Local, options: &RelayOptions) {
    if let (Some(console), true, Some(size)) = (&local.console, options.tty, terminal::own_size()) {
        // A console that has hung up needs no size.
        let _ = sys::set_terminal_size(console.as_fd(), size.rows, size.columns);
    }
}

/// Reads what the process wrote; false: there is nothing now.
fn pull(local: &mut Local, front: &mut Front, buffer: &mut [u8]) -> bool {
    let mut got = false;
    let mut take = |source: &mut Option<OwnedFd>, stream| {
        let Some(fd) = source else { return };
        match read(&*fd, buffer) {
            Ok(0) => *source = None,
            Ok(length) => {
                front.show(stream, &buffer[..length]);
                got = true;
            }
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => {}
            Err(_) => *source = None,
        }
    };
    take(&mut local.console, Stream::Stdout);
    take(&mut local.stdout, Stream::Stdout);
    take(&mut local.stderr, Stream::Stderr);
    got
}

fn now(fd: BorrowedFd<'_>, flags: PollFlags) -> bool {
    let mut fds = [PollFd::new(fd, flags)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|n| n > 0)
}

fn readable(fd: BorrowedFd<'_>) -> bool {
    now(fd, PollFlags::POLLIN)
}

fn writable(stream: Stream) -> bool {
    match stream {
        Stream::Stdout => now(io::stdout().as_fd(), PollFlags::POLLOUT),
        Stream::Stderr => now(io::stderr().as_fd(), PollFlags::POLLOUT),
    }
}

/// Sleeps until something can be done; true: the process has ended.
fn wait(
    local: &Local,
    front: &Front,
    pidfd: BorrowedFd<'_>,
    stdin_wanted: bool,
    typed: bool,
) -> Result<bool, AttachError> {
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let mut fds = vec![
        PollFd::new(pidfd, PollFlags::POLLIN),
        PollFd::new(front.signals.as_fd(), PollFlags::POLLIN),
    ];
    if stdin_wanted {
        fds.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
    }
    if let Some(to) = local
        .stdin
        .as_ref()
        .or(local.console.as_ref())
        .filter(|_| typed)
    {
        fds.push(PollFd::new(to.as_fd(), PollFlags::POLLOUT));
    }
    if front.pending_of(Stream::Stdout) {
        fds.push(PollFd::new(stdout.as_fd(), PollFlags::POLLOUT));
    }
    if front.pending_of(Stream::Stderr) {
        fds.push(PollFd::new(stderr.as_fd(), PollFlags::POLLOUT));
    }
    if !front.pending() {
        for fd in [&local.console, &local.stdout, &local.stderr]
            .into_iter()
            .flatten()
        {
            fds.push(PollFd::new(fd.as_fd(), PollFlags::POLLIN));
        }
    }
    match poll(&mut fds, PollTimeout::NONE) {
        Ok(_) | Err(nix::Error::EINTR) => {}
        Err(error) => return Err(failed("wait")(error.into())),
    }
    Ok(fds[0].any().unwrap_or(false))
}
