//! The only place that writes to stdout and stderr. A closed pipe is not an error: the reader has what it wanted.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, IsTerminal, Write};

/// Images and containers choose names, labels and paths: control characters in them would command the reader's terminal.
/// They are shown as `\u{1b}`; line breaks and tabs are ours.
fn harmless(text: &str) -> Cow<'_, str> {
    let harmful = |c: char| c.is_control() && c != '\n' && c != '\t';
    if !text.contains(harmful) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match harmful(c) {
            true => out.extend(c.escape_unicode()),
            false => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// For stdout: a program that reads it gets every byte, as ls(1) does it.
fn for_stdout(text: impl fmt::Display) -> String {
    let text = text.to_string();
    if io::stdout().is_terminal() {
        harmless(&text).into_owned()
    } else {
        text
    }
}

/// Writes `text` and a line break to stdout.
pub(crate) fn line(text: impl fmt::Display) {
    drop(writeln!(io::stdout().lock(), "{}", for_stdout(text)));
}

/// Writes `text` to stdout.
pub(crate) fn text(text: impl fmt::Display) {
    let mut out = io::stdout().lock();
    drop(write!(out, "{}", for_stdout(text)).and_then(|()| out.flush()));
}

/// Writes `text` and a line break to stderr.
pub(crate) fn note(text: impl fmt::Display) {
    drop(writeln!(
        io::stderr().lock(),
        "{}",
        harmless(&text.to_string())
    ));
}

/// Writes `text` to stderr.
pub(crate) fn error(text: impl fmt::Display) {
    drop(write!(
        io::stderr().lock(),
        "{}",
        harmless(&text.to_string())
    ));
}

/// Both streams, buffered: for much output at once.
pub(crate) struct Streams {
    /// Standard output.
    pub(crate) stdout: io::BufWriter<io::StdoutLock<'static>>,
    /// Standard error.
    pub(crate) stderr: io::BufWriter<io::StderrLock<'static>>,
}

impl Streams {
    /// Locks both.
    pub(crate) fn new() -> Self {
        Self {
            stdout: io::BufWriter::new(io::stdout().lock()),
            stderr: io::BufWriter::new(io::stderr().lock()),
        }
    }

    /// Writes `text` and a line break to stdout.
    pub(crate) fn line(&mut self, text: impl fmt::Display) {
        drop(writeln!(self.stdout, "{}", for_stdout(text)));
    }

    /// Writes what is buffered.
    pub(crate) fn flush(&mut self) {
        drop(self.stdout.flush().and_then(|()| self.stderr.flush()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_not_sent() {
        assert_eq!(
            harmless("a\tb\n\x1b]0;x\x07\r\u{9b}2Jü"),
            "a\tb\n\\u{1b}]0;x\\u{7}\\u{d}\\u{9b}2Jü"
        );
    }
}
