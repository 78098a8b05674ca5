//! The monitor's life: one loop around poll(2).

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::read;

use super::clients::Client;
use super::health::Checks;
use super::process::kept_order;
use super::program::Program;
use super::restart::Restarts;
use super::state::Book;
use super::{MonitorOrder, StartFailure, network};
use crate::attach::message::{Event, MAX_DATA, Size};
use crate::attach::{run_directory, socket};
use crate::log::{self, Stream};
use crate::sys;

/// Without any event for so long, memory is given back.
const IDLE: Duration = Duration::from_millis(200);
/// Clients at once; more wait in the socket's queue.
const MOST_CLIENTS: usize = 256;

/// What poll(2) waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Signals,
    Listener,
    Exit,
    Console,
    Stdout,
    Stderr,
    Input,
    Client(u64),
    Check,
    Network,
}

/// What the monitor watches over.
pub(super) struct Supervisor {
    pub(super) run_directory: PathBuf,
    pub(super) auto_remove: bool,
    pub(super) tty: bool,
    pub(super) stdin_once: bool,
    pub(super) stop_signal: i32,
    pub(super) stop_timeout: Duration,
    pub(super) size: Option<Size>,
    pub(super) book: Book,
    pub(super) program: Option<Program>,
    pub(super) listener: OwnedFd,
    pub(super) log: Option<log::Writer>,
    pub(super) clients: Vec<(u64, Client)>,
    pub(super) last_client: u64,
    pub(super) signals: Option<SignalFd>,
    pub(super) restarts: Restarts,
    pub(super) restart_at: Option<Instant>,
    pub(super) upkeep: network::Upkeep,
    pub(super) kill_at: Option<Instant>,
    /// No policy starts it again.
    pub(super) stopping: bool,
    pub(super) stopped_by_user: bool,
    pub(super) checks: Option<Checks>,
    pub(super) kept: Option<File>,
    pub(super) buffer: Vec<u8>,
    pub(super) active_at: Instant,
    /// Memory was given back since.
    pub(super) settled: bool,
    /// It has ended for good, with this code.
    pub(super) finished: Option<i32>,
}

impl Supervisor {
    #[expect(
        clippy::too_many_arguments,
        reason = "made once, from parts that only meet here"
    )]
    pub(super) fn new(
        order: &MonitorOrder,
        book: Book,
        program: Program,
        listener: OwnedFd,
        log: Option<log::Writer>,
        restarts: Restarts,
        checks: Option<Checks>,
        kept: Option<File>,
    ) -> Self {
        Self {
            run_directory: run_directory(&order.run, &order.plan.container_id),
            auto_remove: order.auto_remove,
            tty: order.plan.process.tty,
            stdin_once: order.stdin_once,
            stop_signal: order.stop_signal,
            stop_timeout: Duration::from_secs(order.stop_timeout),
            size: order.size,
            book,
            program: Some(program),
            listener,
            log,
            clients: Vec::new(),
            last_client: 0,
            signals: take_signals(),
            restarts,
            restart_at: None,
            upkeep: network::Upkeep::default(),
            kill_at: None,
            stopping: false,
            stopped_by_user: false,
            checks,
            kept,
            buffer: Vec::new(),
            active_at: Instant::now(),
            settled: false,
            finished: None,
        }
    }

    /// Until the container has ended for good and everybody knows. `client` is who asked for the start.
    pub(super) fn run(mut self, client: Client) {
        if client.waits {
            self.add(client);
        }
        while self.finished.is_none() {
            for source in self.wait() {
                self.handle(source);
            }
            self.tick();
        }
        self.finish();
    }

    fn add(&mut self, client: Client) {
        self.last_client += 1;
        self.clients.push((self.last_client, client));
    }

    /// Sleeps until something has happened.
    fn wait(&mut self) -> Vec<Source> {
        let now = Instant::now();
        let deadline = self.deadline(now);
        let rest = self.active_at + IDLE;
        if now >= rest && !self.settled {
            self.settled = true;
            self.buffer = Vec::new();
            if let Some(program) = &mut self.program {
                program.guard();
            }
            let timeout = deadline.map(|at| at.saturating_duration_since(now));
            return self.woken(|fds| sys::rest(fds, timeout));
        }
        let until = match deadline {
            // Once for each time of activity; afterwards only real deadlines wake us.
            _ if !self.settled => Some(deadline.map_or(rest, |d| d.min(rest))),
            deadline => deadline,
        };
        let timeout = until.map_or(PollTimeout::NONE, |at| time_until(at, now));
        self.woken(|fds| {
            // An interrupted wait is one without events; there is no other error to expect.
            let _ = poll(fds, timeout);
        })
    }

    /// What `sleep` found.
    fn woken(&mut self, sleep: impl FnOnce(&mut [PollFd<'_>])) -> Vec<Source> {
        let (sources, mut fds): (Vec<_>, Vec<_>) = self
            .interests(Instant::now())
            .into_iter()
            .map(|(source, fd, flags)| (source, PollFd::new(fd, flags)))
            .unzip();
        sleep(&mut fds);
        let hits: Vec<_> = fds
            .iter()
            .zip(sources)
            .filter(|(fd, _)| fd.any().unwrap_or(true))
            .map(|(_, source)| source)
            .collect();
        if !hits.is_empty() {
            self.busy();
        }
        hits
    }

    /// There is work, after which memory can be given back again.
    fn busy(&mut self) {
        self.settled = false;
        self.active_at = Instant::now();
    }

    fn interests(&self, now: Instant) -> Vec<(Source, BorrowedFd<'_>, PollFlags)> {
        let mut all = Vec::with_capacity(8 + self.clients.len());
        if self.clients.len() < MOST_CLIENTS {
            all.push((Source::Listener, self.listener.as_fd(), PollFlags::POLLIN));
        }
        if let Some(signals) = &self.signals {
            all.push((Source::Signals, signals.as_fd(), PollFlags::POLLIN));
        }
        if let Some(program) = &self.program {
            all.push((Source::Exit, program.pidfd(), PollFlags::POLLIN));
            let held_up = self
                .clients
                .iter()
                .any(|(_, c)| c.blocks_until(now).is_some());
            for (source, fd) in [
                (Source::Console, &program.ends.console),
                (Source::Stdout, &program.ends.stdout),
                (Source::Stderr, &program.ends.stderr),
            ] {
                if let Some(fd) = fd.as_ref().filter(|_| !held_up) {
                    all.push((source, fd.as_fd(), PollFlags::POLLIN));
                }
            }
            let helpers = program.network.fds();
            all.extend(helpers.map(|fd| (Source::Network, fd, PollFlags::POLLIN)));
            if let Some(fd) = program.input().filter(|_| !program.typed.is_empty()) {
                all.push((Source::Input, fd, PollFlags::POLLOUT));
            }
        }
        for (number, client) in &self.clients {
            let mut flags = PollFlags::POLLIN;
            flags.set(PollFlags::POLLOUT, client.pending());
            all.push((Source::Client(*number), client.as_fd(), flags));
        }
        if let Some(checks) = &self.checks {
            all.extend(
                checks
                    .fds()
                    .map(|fd| (Source::Check, fd, PollFlags::POLLIN)),
            );
        }
        all
    }

    fn deadline(&self, now: Instant) -> Option<Instant> {
        let clients = self
            .clients
            .iter()
            .filter_map(|(_, c)| c.blocks_until(now).flatten());
        let checks = self
            .checks
            .iter()
            .filter(|_| self.program.is_some())
            .map(Checks::deadline);
        clients
            .chain(checks)
            .chain(self.kill_at)
            .chain(self.restart_at)
            .chain(self.upkeep.due)
            .min()
    }

    fn handle(&mut self, source: Source) {
        match source {
            Source::Signals => self.told_to_end(),
            Source::Listener => {
                // The client may have gone already.
                if let Ok(socket) = sys::accept(self.listener.as_fd()) {
                    self.add(Client::new(socket));
                }
            }
            Source::Exit => {
                if let Some(code) = self.program.as_ref().and_then(Program::ended) {
                    self.ended(code);
                }
            }
            Source::Console | Source::Stdout | Source::Stderr => {
                self.take_output(source);
                if self.auto_remove && self.program.as_ref().is_some_and(Program::is_silent) {
                    // It is about to end.
                    self.book.prepare_removal();
                }
            }
            Source::Input => self.write_input(),
            Source::Client(number) => self.serve(number),
            Source::Check => self.check_advanced(),
            Source::Network => self.network_died(),
        }
    }

    /// Reads once; false: there is nothing now.
    fn take_output(&mut self, source: Source) -> bool {
        let Some(program) = &mut self.program else {
            return false;
        };
        let (fd, stream) = match source {
            Source::Console => (&mut program.ends.console, Stream::Stdout),
            Source::Stdout => (&mut program.ends.stdout, Stream::Stdout),
            _ => (&mut program.ends.stderr, Stream::Stderr),
        };
        let Some(open) = fd else { return false };
        self.buffer.resize(MAX_DATA, 0);
        let length = match read(&*open, &mut self.buffer) {
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => return false,
            // EIO: a console without its other end.
            Ok(0) | Err(_) => {
                *fd = None;
                return false;
            }
            Ok(length) => length,
        };
        let data = &self.buffer[..length];
        if let Some(log) = &mut self.log {
            // A full disk takes these lines from the log; the container goes on.
            let _ = log.write(stream, data);
        }
        if self.clients.iter().any(|(_, c)| c.wants(stream)) {
            let packet = Event::Output(stream, data).encode();
            let now = Instant::now();
            for (_, client) in self.clients.iter_mut().filter(|(_, c)| c.wants(stream)) {
                client.output(&packet, length, now);
            }
        }
        true
    }

    /// SIGTERM or SIGINT to the monitor itself: the session or the machine ends.
    fn told_to_end(&mut self) {
        if self
            .signals
            .as_ref()
            .is_some_and(|s| matches!(s.read_signal(), Ok(Some(_))))
        {
            self.stop(self.stop_signal, Some(self.stop_timeout));
        }
    }

    fn tick(&mut self) {
        let now = Instant::now();
        if self.kill_at.is_some_and(|at| now >= at) {
            self.kill_at = None;
            if let Some(program) = &self.program {
                // It may be ending at this moment.
                let _ = program.signal(libc::SIGKILL);
            }
        }
        if self.restart_at.is_some_and(|at| now >= at) {
            self.restart_at = None;
            self.restart();
            self.busy();
        }
        if self.upkeep.is_due(now) {
            self.mend_network();
            self.busy();
        }
        if let (Some(checks), Some(program)) = (&mut self.checks, &self.program)
            && checks.due(now)
            && let Some(Ok(order)) = self.kept.as_mut().map(kept_order)
            && checks.start(program.pid, &order.plan.process)
        {
            self.health_changed();
        }
    }

    fn network_died(&mut self) {
        let Some(program) = &mut self.program else {
            return;
        };
        let dead = program.network.take_dead();
        if let Some(name) = dead
            && !self.upkeep.plan(Instant::now())
        {
            self.note(&format!("{name} dies too often: it starts again later"));
        }
    }

    fn mend_network(&mut self) {
        let Some(program) = &mut self.program else {
            return;
        };
        if let Err(error) = program.network.mend() {
            let again = self.upkeep.plan(Instant::now());
            if !again {
                self.note(&error.to_string());
            }
        }
    }

    /// A word of ours in the container's log: nobody else listens.
    fn note(&mut self, text: &str) {
        if let Some(log) = &mut self.log {
            // As for the program's own lines.
            let _ = log.write(Stream::Stderr, format!("rctr: {text}\n").as_bytes());
        }
    }

    fn check_advanced(&mut self) {
        if self.checks.as_mut().is_some_and(Checks::advance) {
            self.health_changed();
        }
    }

    fn health_changed(&mut self) {
        if let Some(checks) = &self.checks {
            // The next check tries again to write it.
            let _ = self.book.health(&checks.state);
        }
    }

    /// The program has ended: what it wrote is taken, then its policy decides.
    fn ended(&mut self, code: i32) {
        for source in [Source::Console, Source::Stdout, Source::Stderr] {
            while self.take_output(source) {}
        }
        if let Some(log) = &mut self.log {
            // As above.
            let _ = log.finish();
        }
        let Some(program) = self.program.take() else {
            return;
        };
        program.end_helpers();
        self.upkeep.due = None;
        self.kill_at = None;
        let wait = match self.stopping {
            true => None,
            false => self.restarts.after(code, program.since.elapsed()),
        };
        let Some(wait) = wait.filter(|_| self.kept.is_some()) else {
            self.finished = Some(code);
            return;
        };
        self.restart_at = Some(Instant::now() + wait);
        // A disk that is full now may not be so at the next change of state.
        let _ = self.book.restarting(code, self.restarts.count);
        self.tell(code);
    }

    fn tell(&mut self, code: i32) {
        for (_, client) in self.clients.iter_mut().filter(|(_, c)| c.waits) {
            client.event(&Event::Exited { code });
        }
    }

    fn restart(&mut self) {
        match self.launch_again() {
            Ok(program) => {
                self.program = Some(program);
                if let Some(checks) = &mut self.checks {
                    checks.begin();
                }
            }
            Err(failure) => {
                self.book.not_restarted(failure.line());
                self.finished = Some(i32::from(failure.code));
            }
        }
    }

    fn launch_again(&mut self) -> Result<Program, StartFailure> {
        let mut order = match &mut self.kept {
            Some(kept) => kept_order(kept)?,
            // Checked when the restart was decided.
            None => unreachable!("a restart without an order"),
        };
        order.size = self.size;
        let health = self
            .checks
            .is_some()
            .then(|| Checks::first_state(order.health.as_ref()))
            .flatten();
        let files = |book: &Book| {
            let network = network::prepare(&order.network, book.store(), &book.directory())?;
            Ok((network, ()))
        };
        Program::start(&order, &mut self.book, health, files).map(|(program, ())| program)
    }

    /// Writes the end, frees the container's name or lock, tells everybody, cleans up.
    fn finish(mut self) {
        let code = self.finished.unwrap_or_default();
        // Before the lock is free: the next monitor listens at the same place.
        socket::unbind(&self.run_directory);
        let mut clients = std::mem::take(&mut self.clients);
        let tell = |clients: &mut Vec<(u64, Client)>| {
            for (_, client) in clients.iter_mut().filter(|(_, c)| c.waits) {
                client.event(&Event::Exited { code });
            }
        };
        if self.auto_remove {
            self.book.remove(|| tell(&mut clients));
        } else {
            let stopped = self.stopped_by_user;
            // A state that says "running" without a monitor is read as an end by SIGKILL.
            let _ = self.book.exited(code, stopped);
            self.book.close(|| tell(&mut clients));
        }
        drop(self.log);
        last_words(clients);
    }
}

/// Rounded up: waking too early would only mean to sleep again.
fn time_until(at: Instant, now: Instant) -> PollTimeout {
    let millis = at.saturating_duration_since(now).as_millis() + 1;
    PollTimeout::try_from(i32::try_from(millis).unwrap_or(i32::MAX)).unwrap_or(PollTimeout::MAX)
}

/// Stays until every client has got what is meant for it, or has stalled for too long.
fn last_words(mut clients: Vec<(u64, Client)>) {
    loop {
        let now = Instant::now();
        clients.retain(|(_, c)| !c.gone && c.blocks_until(now).is_some());
        if clients.is_empty() {
            return;
        }
        let deadline = clients
            .iter()
            .filter_map(|(_, c)| c.blocks_until(now).flatten())
            .min();
        let timeout = deadline.map_or(PollTimeout::NONE, |at| time_until(at, now));
        let mut fds: Vec<_> = clients
            .iter()
            .map(|(_, c)| PollFd::new(c.as_fd(), PollFlags::POLLOUT))
            .collect();
        // Interrupted: the loop looks again.
        let _ = poll(&mut fds, timeout);
        for (_, client) in &mut clients {
            client.flush();
        }
    }
}

/// SIGTERM and SIGINT as data; SIGHUP is blocked for good: a session's end isn't the container's.
fn take_signals() -> Option<SignalFd> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    set.add(Signal::SIGINT);
    let mut blocked = set;
    blocked.add(Signal::SIGHUP);
    blocked.add(Signal::SIGQUIT);
    // Without it, such a signal kills the monitor, and the container with it.
    blocked.thread_block().ok()?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).ok()
}
