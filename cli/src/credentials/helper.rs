//! Programs that keep credentials: `docker-credential-NAME get|store|erase`, a server's name or JSON on standard input, JSON on
//! standard output (docker/docker-credential-helpers, README).

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{KeysError, Login};

/// The user's name in the answer when the secret is an identity token.
pub(super) const TOKEN: &str = "<token>";
/// A person may have to unlock a key store meanwhile.
const LIMIT: Duration = Duration::from_secs(20);
/// Bytes of an answer that are read.
const ANSWER: u64 = 1 << 20;
/// What they say when they have nothing; not all give an exit code of its own.
const NOTHING: [&str; 2] = ["credentials not found", "no credentials server URL"];

const INSTALL: &str = "install it, or take its name out of \"credsStore\" and \"credHelpers\" of the file of credentials";
const TRY: &str = "run it by hand: echo REGISTRY | docker-credential-NAME get";

/// One of them.
pub(super) struct Helper<'a> {
    program: String,
    path: &'a str,
    limit: Duration,
}

impl<'a> Helper<'a> {
    /// `docker-credential-NAME`, found in `path`.
    pub(super) fn new(name: &str, path: &'a str) -> Self {
        let program = format!("docker-credential-{name}");
        let limit = LIMIT;
        Self {
            program,
            path,
            limit,
        }
    }

    #[cfg(test)]
    pub(super) fn limit(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// What it has for a server.
    pub(super) fn get(&self, server: &str) -> Result<Option<Login>, KeysError> {
        let Some(answer) = self.run("get", server)? else {
            return Ok(None);
        };
        let answer: Value = serde_json::from_slice(&answer)
            .map_err(|_| self.failed("gave an answer that is no JSON", TRY))?;
        let text = |name: &str| answer.get(name).and_then(Value::as_str).map(str::to_owned);
        match (text("Username"), text("Secret")) {
            (Some(user), Some(secret)) if !(user.is_empty() && secret.is_empty()) => {
                Ok(Some(Login { user, secret }))
            }
            (Some(_), Some(_)) => Ok(None),
            _ => Err(self.failed("gave an answer without Username and Secret", TRY)),
        }
    }

    /// Keeps.
    pub(super) fn store(&self, server: &str, login: &Login) -> Result<(), KeysError> {
        let user = if login.is_token() { TOKEN } else { &login.user };
        let order = json!({ "ServerURL": server, "Username": user, "Secret": login.secret });
        self.run("store", &order.to_string()).map(drop)
    }

    /// Forgets.
    pub(super) fn erase(&self, server: &str) -> Result<(), KeysError> {
        self.run("erase", server).map(drop)
    }

    /// Its standard output; `None`: it has no such thing.
    fn run(&self, verb: &str, input: &str) -> Result<Option<Vec<u8>>, KeysError> {
        let program = self
            .find()
            .ok_or_else(|| self.failed("is not installed", INSTALL))?;
        let child = Command::new(program)
            .arg(verb)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // So that one that hangs goes with all that it started.
            .process_group(0)
            .spawn();
        let mut child =
            child.map_err(|error| self.failed(format!("cannot be started: {error}"), INSTALL))?;
        let spoken = self.talk(&mut child, input);
        let Some((out, err)) = spoken else {
            end(&mut child);
            let what = format!("did not answer within {} seconds", self.limit.as_secs());
            return Err(self.failed(what, TRY));
        };
        let status = child
            .wait()
            .map_err(|error| self.failed(format!("cannot be waited for: {error}"), TRY))?;
        if status.success() {
            return Ok(Some(out));
        }
        // They tell why on standard output; what may be secret isn't in a failure.
        let told = [out, err].concat();
        let told = String::from_utf8_lossy(&told);
        if NOTHING.iter().any(|nothing| told.contains(nothing)) {
            return Ok(None);
        }
        let why = told.lines().find(|line| !line.trim().is_empty());
        let what = match why {
            Some(why) => format!("failed ({status}): {}", why.trim()),
            None => format!("failed ({status})"),
        };
        Err(self.failed(what, TRY))
    }

    /// Both outputs to their ends; `None`: they did not come in time.
    fn talk(&self, child: &mut Child, input: &str) -> Option<(Vec<u8>, Vec<u8>)> {
        let end = Instant::now() + self.limit;
        let (done, wait) = mpsc::channel();
        let pipes: [Option<Box<dyn Read + Send>>; 2] = [
            child.stdout.take().map(|pipe| Box::new(pipe) as _),
            child.stderr.take().map(|pipe| Box::new(pipe) as _),
        ];
        let mut readers = Vec::new();
        for (number, pipe) in pipes.into_iter().enumerate() {
            let done = done.clone();
            readers.push(std::thread::spawn(move || {
                let mut bytes = Vec::new();
                if let Some(pipe) = pipe {
                    // Half an answer is none: it will not be JSON.
                    let _ = pipe.take(ANSWER).read_to_end(&mut bytes);
                }
                // Nobody waits any more after the limit.
                let _ = done.send((number, bytes));
            }));
        }
        if let Some(mut stdin) = child.stdin.take() {
            // One that doesn't read has its reasons. Pipes take this much at once.
            let _ = stdin.write_all(input.as_bytes());
        }
        let mut outputs = [Vec::new(), Vec::new()];
        for _ in 0..2 {
            let left = end.saturating_duration_since(Instant::now());
            let (number, bytes) = wait.recv_timeout(left).ok()?;
            outputs[number] = bytes;
        }
        for reader in readers {
            // It has sent its last; afterwards this process may need to have one thread only.
            let _ = reader.join();
        }
        let [out, err] = outputs;
        Some((out, err))
    }

    fn find(&self) -> Option<PathBuf> {
        let dirs = self.path.split(':').filter(|dir| dir.starts_with('/'));
        dirs.map(|dir| Path::new(dir).join(&self.program))
            .find(|path| path.is_file())
    }

    fn failed(&self, what: impl Into<String>, hint: &'static str) -> KeysError {
        KeysError::Helper {
            program: self.program.clone(),
            what: what.into(),
            hint,
        }
    }
}

/// Ends it and what it started.
fn end(child: &mut Child) {
    if let Ok(pid) = i32::try_from(child.id()) {
        // It may have ended just now.
        let _ = nix::sys::signal::killpg(
            nix::unistd::Pid::from_raw(pid),
            nix::sys::signal::Signal::SIGKILL,
        );
    }
    let _ = child.wait();
}
