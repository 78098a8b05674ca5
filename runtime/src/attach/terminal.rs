//! The caller's own terminal: raw mode that is always taken back, and its size.

use std::io::{self, Stdin};
use std::os::fd::AsFd;

use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use super::message::Size;
use crate::sys;

/// The terminal on standard input in raw mode; dropping it restores it.
pub(crate) struct RawMode {
    stdin: Stdin,
    before: Termios,
}

impl RawMode {
    /// `None`: standard input is no terminal.
    pub(crate) fn enter() -> Option<Self> {
        let stdin = io::stdin();
        let before = tcgetattr(&stdin).ok()?;
        let raw = Self { stdin, before };
        raw.resume();
        Some(raw)
    }

    /// Raw (again).
    pub(crate) fn resume(&self) {
        let mut raw = self.before.clone();
        cfmakeraw(&mut raw);
        // TCSADRAIN: what was typed ahead isn't thrown away. A terminal that has hung up needs no mode.
        let _ = tcsetattr(&self.stdin, SetArg::TCSADRAIN, &raw);
    }

    /// As it was before.
    pub(crate) fn suspend(&self) {
        // As above: it may have hung up.
        let _ = tcsetattr(&self.stdin, SetArg::TCSADRAIN, &self.before);
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        self.suspend();
    }
}

/// The size of the caller's terminal: of standard output, else input, else error. `None`: none of them is one.
#[must_use]
pub fn own_size() -> Option<Size> {
    let (stdout, stdin, stderr) = (io::stdout(), io::stdin(), io::stderr());
    [stdout.as_fd(), stdin.as_fd(), stderr.as_fd()]
        .into_iter()
        .find_map(|fd| sys::terminal_size(fd).ok())
        .map(|(rows, columns)| Size { rows, columns })
        .filter(|size| size.rows > 0 && size.columns > 0)
}
