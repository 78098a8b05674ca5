//! The container's program while it runs, with our ends of its streams.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, write};
use rctr_storage::record::Health;

use super::network::relay_command;
use super::state::{Book, Started};
use super::{MonitorOrder, StartFailure};
use crate::attach::message::Streams;
use crate::attach::{Local, non_blocking, pipes, reap};
use crate::guard;
use crate::launch::{self, Launching};
use crate::net::{NetError, NetworkHandle, Prepared};
use crate::sys;

/// A program that runs.
#[derive(Debug)]
pub(super) struct Program {
    /// As seen from the host.
    pub(super) pid: Pid,
    pidfd: OwnedFd,
    /// Our ends.
    pub(super) ends: Local,
    /// The console's other end: while it is open, the console doesn't hang up, whatever the program closes.
    peer: Option<OwnedFd>,
    /// Standard input that the program hasn't read yet: client's number and bytes.
    pub(super) typed: VecDeque<(u64, Vec<u8>)>,
    /// Children of ours that serve it.
    helpers: Vec<Pid>,
    guarded: bool,
    /// As [`launch::Launched::emulation`].
    _emulation: Option<OwnedFd>,
    /// Its network's helpers; they end when this is dropped.
    pub(super) network: NetworkHandle,
    /// When it started.
    pub(super) since: Instant,
}

impl Program {
    /// Starts it. While init is at work, `files` makes what will be bound into the container, prepares its network, and
    /// whatever else the caller wants to have then. The book says "running" before the program does.
    pub(super) fn start<T>(
        order: &MonitorOrder,
        book: &mut Book,
        health: Option<Health>,
        files: impl FnOnce(&Book) -> Result<(Prepared, T), StartFailure>,
    ) -> Result<(Self, T), StartFailure> {
        let engine = |error: &dyn rctr_storage::explain::Explain| StartFailure::new(error, 125);
        let launch_failed = |e: launch::LaunchError| StartFailure::new(&e, e.exit_code());
        let tty = order.plan.process.tty;
        let streams = Streams {
            stdin: order.open_stdin && !tty,
            stdout: !tty,
            stderr: !tty,
        };
        let no_pipes = |source| launch::LaunchError::Spawn {
            operation: "cannot make pipes",
            source,
        };
        let (mut stdio, ends) = pipes(streams).map_err(no_pipes).map_err(launch_failed)?;
        stdio.terminal_size = order.size.map(|size| (size.rows, size.columns));
        let launching = launch::spawn(&order.plan, stdio).map_err(launch_failed)?;
        let since = Instant::now();
        let (network, made) = files(book)?;
        launching.files_are_there();
        let started = Started {
            pid: launching.pid.as_raw(),
            ports: network.ports(),
            endpoint: network.endpoint(),
        };
        // A helper that doesn't find its namespaces says so; why init has died is the better answer.
        let no_network = |error: &NetError, launching: Launching| match launching.has_ended() {
            true => launching
                .release()
                .map_or_else(launch_failed, |_| engine(error)),
            false => engine(error),
        };
        let attached = network.attach(launching.pid.as_raw(), &relay_command());
        let attaching = match attached {
            Ok(attaching) => attaching,
            Err(error) => return Err(no_network(&error, launching)),
        };
        // Written while init is at work. If the program can't be run after all, another state replaces this one.
        book.started(started, health).map_err(|e| engine(&e))?;
        let network = match attaching.finish() {
            Ok(network) => network,
            Err(error) => return Err(no_network(&error, launching)),
        };
        let launched = launching.release().map_err(launch_failed)?;
        let mut program = Self {
            pid: launched.pid,
            pidfd: launched.pidfd,
            ends,
            peer: None,
            typed: VecDeque::new(),
            helpers: launched.helpers,
            guarded: false,
            _emulation: launched.emulation,
            network,
            since,
        };
        if let Some(console) = launched.console {
            // Without it (Linux before 4.13), the console ends when the program closes it.
            program.peer = sys::pty_peer(console.as_fd()).ok();
            if let Err(source) = non_blocking(&console) {
                program.kill_now();
                let operation = "cannot use the console";
                return Err(launch_failed(launch::LaunchError::Spawn {
                    operation,
                    source,
                }));
            }
            program.ends.console = Some(console);
        }
        Ok((program, made))
    }

    pub(super) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Sends a signal; errno on failure.
    pub(super) fn signal(&self, signal: i32) -> Result<(), i32> {
        sys::pidfd_send_signal(self.pidfd.as_fd(), signal)
            .map_err(|e| e.raw_os_error().unwrap_or(libc::EIO))
    }

    /// Its exit code, once it has ended; it is reaped then.
    pub(super) fn ended(&self) -> Option<i32> {
        reap(self.pidfd.as_fd())
    }

    /// Nothing can come from it any more: mostly, it is ending.
    pub(super) fn is_silent(&self) -> bool {
        let ends = &self.ends;
        [&ends.console, &ends.stdout, &ends.stderr]
            .iter()
            .all(|end| end.is_none())
    }

    /// Gives it a guard (see [`crate::guard`]), once.
    pub(super) fn guard(&mut self) {
        if !self.guarded {
            self.guarded = true;
            // Without one, the kernel's signal at the monitor's death is all there is; it nearly always suffices.
            self.helpers.extend(guard::start(self.pidfd.as_fd()));
        }
    }

    fn kill_now(self) {
        // It may have ended by itself.
        let _ = self.signal(libc::SIGKILL);
        let _ = waitpid(self.pid, None);
        self.end_helpers();
    }

    /// Ends what only served it.
    pub(super) fn end_helpers(&self) {
        for pid in &self.helpers {
            // Both fail only for a helper that is gone.
            let _ = kill(*pid, Signal::SIGKILL);
            let _ = waitpid(*pid, None);
        }
    }

    /// Where its standard input goes.
    pub(super) fn input(&self) -> Option<BorrowedFd<'_>> {
        let fd = self.ends.stdin.as_ref().or(self.ends.console.as_ref())?;
        Some(fd.as_fd())
    }

    /// Closes its standard input once all that was typed is written; a terminal's stays.
    pub(super) fn close_input_when_done(&mut self) {
        self.typed.push_back((0, Vec::new()));
        self.write_input();
    }

    /// Writes what was typed, as far as it is taken; gives the clients whose packets are done.
    pub(super) fn write_input(&mut self) -> Vec<u64> {
        let mut done = Vec::new();
        while let Some((client, data)) = self.typed.front_mut() {
            if data.is_empty() {
                // The end of the input.
                self.ends.stdin = None;
                self.typed.pop_front();
                continue;
            }
            let Some(to) = self.ends.stdin.as_ref().or(self.ends.console.as_ref()) else {
                // Nobody reads: it is taken, as by a program that ignores it.
                done.push(*client);
                self.typed.pop_front();
                continue;
            };
            match write(to, data) {
                Ok(count) if count < data.len() => drop(data.drain(..count)),
                Ok(_) => {
                    done.push(*client);
                    self.typed.pop_front();
                }
                Err(nix::Error::EAGAIN | nix::Error::EINTR) => break,
                // It has closed its standard input.
                Err(_) => {
                    self.ends.stdin = None;
                    done.push(*client);
                    self.typed.pop_front();
                }
            }
        }
        if self.typed.is_empty() {
            self.typed = VecDeque::new();
        }
        done
    }
}
