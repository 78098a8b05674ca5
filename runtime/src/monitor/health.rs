//! Health checks: a command in the container, again and again, as Docker's HEALTHCHECK.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::unistd::{Pid, pipe2, read};
use rctr_storage::config::Healthcheck;
use rctr_storage::record::{Health, HealthResult};
use rctr_storage::timestamp;

use crate::attach::{non_blocking, reap};
use crate::exec;
use crate::launch::Stdio;
use crate::plan::ProcessPlan;
use crate::process::{Known, start_time};
use crate::sys;

/// The results that are kept.
const KEPT: usize = 5;
/// Bytes of output that are kept.
const OUTPUT: usize = 4096;

/// The checks of one container.
#[derive(Debug)]
pub(super) struct Checks {
    argv: Vec<String>,
    interval: Duration,
    timeout: Duration,
    start_period: Duration,
    start_interval: Duration,
    retries: u32,
    /// As in `inspect`.
    pub(super) state: Health,
    /// When the program started.
    since: Instant,
    next: Instant,
    probe: Option<Probe>,
}

/// A check that runs.
#[derive(Debug)]
struct Probe {
    pidfd: OwnedFd,
    output: Option<OwnedFd>,
    text: Vec<u8>,
    start: String,
    deadline: Instant,
    timed_out: bool,
}

/// Docker's least interval: an image that asks for less would have its checks run without a pause.
const SHORTEST: Duration = Duration::from_millis(1);

impl Checks {
    /// `None`: nothing is checked.
    pub(super) fn new(health: Option<&Healthcheck>) -> Option<Self> {
        let health = health?;
        let argv = match health.test.split_first() {
            Some((kind, words)) if kind == "CMD" && !words.is_empty() => words.to_vec(),
            Some((kind, [line])) if kind == "CMD-SHELL" => {
                ["/bin/sh", "-c", line].map(str::to_owned).to_vec()
            }
            _ => return None,
        };
        let or = |nanoseconds: i64, seconds| match u64::try_from(nanoseconds) {
            Ok(0) | Err(_) => Duration::from_secs(seconds),
            Ok(nanoseconds) => Duration::from_nanos(nanoseconds).max(SHORTEST),
        };
        let mut checks = Self {
            argv,
            interval: or(health.interval, 30),
            timeout: or(health.timeout, 30),
            start_period: or(health.start_period, 0),
            start_interval: or(health.start_interval, 5),
            retries: u32::try_from(health.retries)
                .ok()
                .filter(|n| *n > 0)
                .unwrap_or(3),
            state: Health::default(),
            since: Instant::now(),
            next: Instant::now(),
            probe: None,
        };
        checks.begin();
        Some(checks)
    }

    /// The first state of a container that is checked.
    pub(super) fn first_state(health: Option<&Healthcheck>) -> Option<Health> {
        Self::new(health).map(|checks| checks.state)
    }

    /// The program has (again) started.
    pub(super) fn begin(&mut self) {
        self.state = Health {
            status: "starting".to_owned(),
            ..Health::default()
        };
        self.since = Instant::now();
        self.probe = None;
        self.next = self.since + self.pause();
    }

    fn starting(&self) -> bool {
        self.state.status == "starting" && self.since.elapsed() < self.start_period
    }

    fn pause(&self) -> Duration {
        if self.starting() {
            self.start_interval
        } else {
            self.interval
        }
    }

    /// When [`Checks::due`] has something to do.
    pub(super) fn deadline(&self) -> Instant {
        self.probe
            .as_ref()
            .map_or(self.next, |probe| probe.deadline)
    }

    /// Descriptors to wait for: the check's process and its output.
    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let probe = self.probe.iter();
        probe.flat_map(|p| std::iter::once(p.pidfd.as_fd()).chain(p.output.iter().map(AsFd::as_fd)))
    }

    /// Whether a check should start now; a check that runs for too long is killed here.
    pub(super) fn due(&mut self, now: Instant) -> bool {
        match &mut self.probe {
            None => now >= self.next,
            Some(probe) => {
                if now >= probe.deadline && !probe.timed_out {
                    probe.timed_out = true;
                    // It may have ended by itself.
                    let _ = sys::pidfd_send_signal(probe.pidfd.as_fd(), libc::SIGKILL);
                    probe.deadline = now + Duration::from_secs(3600);
                }
                false
            }
        }
    }

    /// Starts a check beside `target`, as the user and with the environment of `process`. True: the state has changed.
    pub(super) fn start(&mut self, target: Pid, process: &ProcessPlan) -> bool {
        let start = timestamp::now();
        let process = ProcessPlan {
            argv: self.argv.clone(),
            tty: false,
            create_cwd: false,
            ..process.clone()
        };
        match spawn(target, &process) {
            Ok((pidfd, output)) => {
                self.probe = Some(Probe {
                    pidfd,
                    output: Some(output),
                    text: Vec::new(),
                    start,
                    deadline: Instant::now() + self.timeout,
                    timed_out: false,
                });
                false
            }
            Err(text) => {
                self.record(HealthResult {
                    start,
                    end: timestamp::now(),
                    exit_code: -1,
                    output: text,
                });
                true
            }
        }
    }

    /// Takes output and end of the running check. True: the state has changed.
    pub(super) fn advance(&mut self) -> bool {
        let Some(probe) = &mut self.probe else {
            return false;
        };
        let code = reap(probe.pidfd.as_fd());
        let mut buffer = [0; 1024];
        while let Some(output) = &probe.output {
            match read(output, &mut buffer) {
                Ok(length) if length > 0 => {
                    let room = OUTPUT - probe.text.len().min(OUTPUT);
                    probe.text.extend_from_slice(&buffer[..length.min(room)]);
                }
                Err(nix::Error::EINTR) => {}
                Err(nix::Error::EAGAIN) => break,
                _ => probe.output = None,
            }
        }
        let Some(exit_code) = code else {
            return false;
        };
        let Some(probe) = self.probe.take() else {
            return false;
        };
        let mut result = HealthResult {
            start: probe.start,
            end: timestamp::now(),
            exit_code,
            output: String::from_utf8_lossy(&probe.text).into_owned(),
        };
        if probe.timed_out {
            result.exit_code = -1;
            result.output = format!("Health check exceeded timeout ({})", words(self.timeout));
        }
        self.record(result);
        true
    }

    fn record(&mut self, result: HealthResult) {
        if result.exit_code == 0 {
            self.state.failing_streak = 0;
            "healthy".clone_into(&mut self.state.status);
        } else if !self.starting() {
            self.state.failing_streak += 1;
            if self.state.failing_streak >= self.retries {
                "unhealthy".clone_into(&mut self.state.status);
            }
        }
        self.state.log.push(result);
        let surplus = self.state.log.len().saturating_sub(KEPT);
        self.state.log.drain(..surplus);
        self.next = Instant::now() + self.pause();
    }
}

/// The check's process and its output; or why it can't be run, in words.
fn spawn(target: Pid, process: &ProcessPlan) -> Result<(OwnedFd, OwnedFd), String> {
    let words = |error: &dyn std::fmt::Display| error.to_string();
    let (ours, theirs) = pipe2(OFlag::O_CLOEXEC).map_err(|e| words(&e))?;
    non_blocking(&ours).map_err(|e| words(&e))?;
    let stdio = Stdio {
        stdin: None,
        stdout: Some(theirs.try_clone().map_err(|e| words(&e))?),
        stderr: Some(theirs),
        terminal_size: None,
    };
    // Our own child, not reaped yet: its PID is no other's.
    let target = Known {
        pid: target.as_raw(),
        start: start_time(target.as_raw()).unwrap_or_default(),
    };
    let launched = exec::spawn(target, process, stdio).map_err(|e| words(&e))?;
    Ok((launched.pidfd, ours))
}

/// As Go writes a duration: `30s`, `1m30s`, `500ms`.
fn words(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds == 0 {
        return format!("{}ms", time.as_millis());
    }
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks(start_period: i64) -> Checks {
        let health = Healthcheck {
            test: vec!["CMD-SHELL".to_owned(), "true".to_owned()],
            start_period,
            retries: 2,
            ..Healthcheck::default()
        };
        Checks::new(Some(&health)).unwrap()
    }

    fn result(exit_code: i32) -> HealthResult {
        HealthResult {
            exit_code,
            ..HealthResult::default()
        }
    }

    #[test]
    fn times_of_an_image_below_a_millisecond_are_raised_to_that() {
        let health = Healthcheck {
            test: vec!["CMD".to_owned(), "true".to_owned()],
            interval: 1,
            timeout: 999_999,
            start_interval: 1_000_001,
            ..Healthcheck::default()
        };
        let checks = Checks::new(Some(&health)).unwrap();
        assert_eq!((checks.interval, checks.timeout), (SHORTEST, SHORTEST));
        assert_eq!(checks.start_interval, Duration::from_nanos(1_000_001));
        assert_eq!(checks.start_period, Duration::ZERO);
    }

    #[test]
    fn two_failures_in_a_row_are_unhealthy_and_one_success_heals() {
        let mut checks = checks(0);
        let mut after = |code| {
            checks.record(result(code));
            checks.state.status.clone()
        };
        assert_eq!(after(1), "starting");
        assert_eq!(after(1), "unhealthy");
        assert_eq!(after(0), "healthy");
        assert_eq!(after(1), "healthy");
        assert_eq!(after(0), "healthy");
        assert_eq!(after(7), "healthy");
        assert_eq!(checks.state.log.len(), KEPT);
    }

    #[test]
    fn failures_in_the_start_period_do_not_count() {
        let mut checks = checks(3_600_000_000_000);
        for _ in 0..9 {
            checks.record(result(1));
        }
        assert_eq!(
            (checks.state.status.as_str(), checks.state.failing_streak),
            ("starting", 0)
        );
        checks.record(result(0));
        checks.record(result(1));
        assert_eq!(checks.state.failing_streak, 1);
    }

    #[test]
    fn none_is_no_check() {
        let none = Healthcheck {
            test: vec!["NONE".to_owned()],
            ..Healthcheck::default()
        };
        assert!(Checks::new(Some(&none)).is_none());
        assert_eq!(words(Duration::from_secs(90)), "1m30s");
    }
}
