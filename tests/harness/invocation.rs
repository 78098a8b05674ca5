//! One command line: run it, see how it ended and what it said.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::wait::wait_for;

/// A command that was not started yet.
pub(crate) struct Invocation {
    command: Command,
    shown: String,
    input: Input,
    limit: Duration,
}

enum Input {
    Nothing,
    Bytes(Vec<u8>),
    /// Stays open until the command is waited for.
    Open,
}

impl Invocation {
    pub(super) fn new(command: Command) -> Self {
        let program = command
            .get_program()
            .to_string_lossy()
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .to_owned();
        let args = command
            .get_args()
            .map(|a| format!(" {}", a.to_string_lossy()))
            .collect::<String>();
        let shown = program + &args;
        Self {
            command,
            shown,
            input: Input::Nothing,
            limit: Duration::from_secs(60),
        }
    }

    /// Feeds its standard input.
    pub(crate) fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = Input::Bytes(bytes.into());
        self
    }

    /// Leaves its standard input open until it is waited for.
    pub(crate) fn stdin_open(mut self) -> Self {
        self.input = Input::Open;
        self
    }

    /// Sets a variable.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Removes a variable.
    pub(crate) fn without_env(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// It must end within this time (default: a minute).
    pub(crate) fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Its command line and the command itself, for a terminal.
    pub(super) fn into_parts(self) -> (String, Command) {
        (self.shown, self.command)
    }

    /// Runs it; it must end with 0.
    pub(crate) fn ok(self) -> Output {
        self.fails(0)
    }

    /// Runs it; it must end with this exit code.
    pub(crate) fn fails(self, code: i32) -> Output {
        let output = self.output();
        assert_eq!(output.code, code, "unexpected exit code of: {output}");
        output
    }

    /// Runs it to its end.
    pub(crate) fn output(self) -> Output {
        self.spawn().wait()
    }

    /// Starts it.
    pub(crate) fn spawn(mut self) -> Running {
        let (stdin, bytes) = match self.input {
            Input::Nothing => (Stdio::null(), None),
            Input::Bytes(bytes) => (Stdio::piped(), Some(bytes)),
            Input::Open => (Stdio::piped(), None),
        };
        self.command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = self
            .command
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {}: {e}", self.shown));
        if let Some(bytes) = bytes {
            let mut stdin = child.stdin.take().expect("was piped");
            // A command that ends early closes the pipe: no error of ours.
            thread::spawn(move || drop(stdin.write_all(&bytes)));
        }
        let stdout = Collector::start(child.stdout.take().expect("was piped"));
        let stderr = Collector::start(child.stderr.take().expect("was piped"));
        let end = Instant::now() + self.limit;
        Running {
            child,
            shown: self.shown,
            stdout,
            stderr,
            end,
        }
    }
}

/// A command that was started.
pub(crate) struct Running {
    child: Child,
    shown: String,
    stdout: Collector,
    stderr: Collector,
    end: Instant,
}

impl Running {
    /// Its process.
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid is an i32")
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// Whether it has ended.
    pub(crate) fn ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits until `text` is in what it has printed so far (either stream).
    pub(crate) fn expect(&self, text: &str) {
        wait_for(&format!("'{text}' from {}", self.shown), || {
            self.stdout.text().contains(text) || self.stderr.text().contains(text)
        });
    }

    /// What it has written to stdout so far.
    pub(crate) fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// Kills it, unless it has ended.
    pub(crate) fn signal_if_alive(&mut self) {
        drop(self.child.kill());
    }

    /// Doesn't care how it ends, nor who else holds its output open.
    pub(crate) fn abandon(mut self) {
        drop(self.child.wait());
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> Output {
        drop(self.child.stdin.take());
        let mut pause = Duration::from_millis(1);
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > self.end {
                drop(self.child.kill());
                drop(self.child.wait());
                panic!(
                    "took too long: {}\n{}\n{}",
                    self.shown,
                    self.stdout.text(),
                    self.stderr.text()
                );
            }
            sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        };
        let closed = self.stdout.finish() && self.stderr.finish();
        assert!(
            closed,
            "ended, but some process still holds its output open: {}",
            self.shown
        );
        let bytes = self.stdout.bytes();
        Output {
            shown: self.shown,
            code: code_of(status),
            stdout: String::from_utf8_lossy(&bytes).into_owned(),
            stderr: self.stderr.text(),
            bytes,
        }
    }
}

/// The exit code as a shell shows it.
fn code_of(status: ExitStatus) -> i32 {
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// How a command ended and what it said.
#[derive(Debug)]
pub(crate) struct Output {
    shown: String,
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// stdout as it came.
    pub(crate) bytes: Vec<u8>,
}

impl Output {
    /// stdout without the last line break.
    pub(crate) fn line(&self) -> String {
        self.stdout.trim_end_matches(['\n', '\r']).to_owned()
    }

    /// stdout's lines.
    pub(crate) fn lines(&self) -> Vec<&str> {
        self.stdout.lines().collect()
    }

    /// stderr must have this text.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        assert!(
            self.stderr.contains(text),
            "'{text}' is not in the errors of: {self}"
        );
        self
    }

    /// stdout must have this text.
    #[track_caller]
    pub(crate) fn prints(self, text: &str) -> Self {
        assert!(
            self.stdout.contains(text),
            "'{text}' is not in the output of: {self}"
        );
        self
    }

    /// stderr must be an error as a user should get it: one sentence by `rctr`, then a hint, and no panic.
    #[track_caller]
    pub(crate) fn explains(self) -> Self {
        let lines: Vec<_> = self.stderr.lines().filter(|l| !l.is_empty()).collect();
        let sentence = lines.iter().filter(|l| l.starts_with("rctr: ")).count();
        let hint = lines.iter().any(|l| l.starts_with("hint: "));
        assert!(
            sentence == 1 && hint && !self.stderr.contains("panicked"),
            "not one sentence and a hint: {self}"
        );
        self
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            shown,
            code,
            stdout,
            stderr,
            ..
        } = self;
        write!(
            f,
            "{shown}\n--- exit code {code}\n--- stdout\n{stdout}\n--- stderr\n{stderr}\n---"
        )
    }
}

/// Reads a pipe to its end in a thread.
struct Collector {
    bytes: Arc<Mutex<Vec<u8>>>,
    thread: JoinHandle<()>,
}

impl Collector {
    fn start(mut pipe: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&bytes);
        let thread = thread::spawn(move || {
            let mut buffer = [0; 16 * 1024];
            while let Ok(n @ 1..) = pipe.read(&mut buffer) {
                shared.lock().unwrap().extend_from_slice(&buffer[..n]);
            }
        });
        Self { bytes, thread }
    }

    fn bytes(&self) -> Vec<u8> {
        self.bytes.lock().unwrap().clone()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }

    /// Whether the pipe was closed by all its writers, within five seconds.
    fn finish(&self) -> bool {
        let end = Instant::now() + Duration::from_secs(5);
        while !self.thread.is_finished() && Instant::now() < end {
            sleep(Duration::from_millis(1));
        }
        self.thread.is_finished()
    }
}
