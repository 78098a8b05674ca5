//! A person at a terminal: a command on a pty of its own, what it shows and what is typed.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{Winsize, openpty};
use nix::unistd::{Gid, Uid, fchown};

use super::account::Account;
use super::invocation::Invocation;
use super::wait::wait_for;

/// A command on a terminal.
pub(crate) struct Terminal {
    child: Child,
    master: File,
    /// `/dev/pts/N`.
    device: PathBuf,
    shown: String,
    seen: String,
    /// How much of `seen` earlier calls of `expect` have used up.
    used: usize,
}

impl Terminal {
    /// Starts a command on a new terminal of 24 lines and 80 columns.
    pub(crate) fn start(invocation: Invocation) -> Self {
        let (shown, command) = invocation.into_parts();
        let size = Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = openpty(Some(&size), None).unwrap();
        let device = fs::read_link(format!("/proc/self/fd/{}", pty.slave.as_raw_fd())).unwrap();
        let Account { uid, gid, .. } = Account::current();
        fchown(
            pty.slave.as_fd(),
            Some(Uid::from_raw(*uid)),
            Some(Gid::from_raw(*gid)),
        )
        .unwrap();
        // setsid makes the terminal the controlling one of a new session.
        let mut wrapped =
            Account::current().command(&super::account::find_program("setsid").unwrap());
        wrapped
            .args(["--ctty", "--wait"])
            .arg(command.get_program())
            .args(command.get_args());
        for (name, value) in command.get_envs() {
            wrapped.env(name, value.unwrap_or_default());
        }
        wrapped.current_dir(command.get_current_dir().unwrap());
        wrapped
            .stdin(pty.slave.try_clone().unwrap())
            .stdout(pty.slave.try_clone().unwrap())
            .stderr(pty.slave);
        let child = wrapped.spawn().unwrap();
        Self {
            child,
            master: pty.master.into(),
            device,
            shown,
            seen: String::new(),
            used: 0,
        }
    }

    /// Types.
    pub(crate) fn send(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    /// Waits (20 seconds at most) until `text` is shown, after what earlier calls have waited for.
    #[track_caller]
    pub(crate) fn expect(&mut self, text: &str) {
        self.expect_within(text, Duration::from_secs(20));
    }

    /// Waits until `text` is shown.
    #[track_caller]
    pub(crate) fn expect_within(&mut self, text: &str, limit: Duration) {
        assert!(
            self.shows_within(text, limit),
            "'{text}' was not shown by {}, only:\n{}",
            self.shown,
            self.seen
        );
    }

    /// Whether `text` is shown before the time is over.
    pub(crate) fn shows_within(&mut self, text: &str, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        loop {
            if let Some(at) = self.seen[self.used..].find(text) {
                self.used += at + text.len();
                return true;
            }
            if !self.read_more(end) {
                return false;
            }
        }
    }

    /// All that was shown so far.
    pub(crate) fn screen(&self) -> &str {
        &self.seen
    }

    /// Changes the terminal's size.
    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        let size = [rows.to_string(), columns.to_string()];
        let device = File::open(&self.device).unwrap();
        let status = Command::new("stty")
            .args(["rows", &size[0], "cols", &size[1]])
            .stdin(device)
            .status();
        assert!(status.unwrap().success());
    }

    /// The terminal's settings, as `stty -g` prints them: to see that raw mode was left again.
    pub(crate) fn settings(&self) -> String {
        let device = File::open(&self.device).unwrap();
        let output = Command::new("stty")
            .arg("-g")
            .stdin(device)
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Waits for the command's end; its exit code.
    pub(crate) fn wait(&mut self) -> i32 {
        let mut status = None;
        wait_for(&format!("the end of {}", self.shown), || {
            self.read_more(Instant::now() + Duration::from_millis(10));
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        while self.read_more(Instant::now() + Duration::from_millis(10)) {}
        status.and_then(|s| s.code()).unwrap_or(-1)
    }

    /// Reads what is there, waiting until `end` for the first byte; false: nothing came.
    fn read_more(&mut self, end: Instant) -> bool {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, timeout).unwrap_or(0) == 0 {
            return false;
        }
        let mut buffer = [0; 4096];
        // EIO: no process has the terminal open any more.
        let n = self.master.read(&mut buffer).unwrap_or(0);
        self.seen.push_str(&String::from_utf8_lossy(&buffer[..n]));
        n > 0
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
