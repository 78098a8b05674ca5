//! What is known of a build's vertices.

use std::collections::BTreeMap;
use std::time::Duration;

use rctr_builder::event::{Event, Stream};

use super::vertex_of;

/// How far a vertex is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// Declared.
    #[default]
    Waiting,
    /// At work.
    Running,
    /// Served from the cache.
    Cached,
    /// Ended well.
    Done,
    /// Ended badly.
    Failed,
    /// Never begun, or interrupted.
    Canceled,
}

/// A part of a vertex.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) name: String,
    pub(super) current: u64,
    pub(super) total: u64,
    pub(super) started: Duration,
    pub(super) completed: Option<Duration>,
}

/// A vertex.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Vertex {
    pub(super) id: usize,
    pub(super) name: String,
    pub(super) phase: Phase,
    pub(super) started: Option<Duration>,
    pub(super) ended: Option<Duration>,
    pub(super) why: Option<String>,
    pub(super) parts: Vec<Part>,
    /// The newest lines of its output.
    pub(super) lines: Vec<String>,
    /// A line without an end yet.
    pub(super) rest: Vec<u8>,
}

/// Lines of output that are kept for the terminal.
const KEPT: usize = 12;

impl Vertex {
    /// How long it takes, or took.
    pub(super) fn lasted(&self, now: Duration) -> Duration {
        match self.started {
            Some(started) => self.ended.unwrap_or(now).saturating_sub(started),
            None => Duration::ZERO,
        }
    }

    fn log(&mut self, bytes: &[u8]) {
        let Some(end) = bytes.iter().rposition(|b| *b == b'\n') else {
            self.rest.extend_from_slice(bytes);
            return;
        };
        self.rest.extend_from_slice(&bytes[..end]);
        // A step may print a hundred thousand lines: only the last ones are looked at.
        let lines: Vec<&[u8]> = self.rest.rsplit(|b| *b == b'\n').take(KEPT).collect();
        self.lines.extend(lines.into_iter().rev().map(printable));
        self.rest = bytes[end + 1..].to_vec();
        let surplus = self.lines.len().saturating_sub(KEPT);
        self.lines.drain(..surplus);
    }

    fn part(&mut self, part: Part) {
        match self.parts.iter_mut().find(|p| p.name == part.name) {
            Some(known) => *known = part,
            None => self.parts.push(part),
        }
    }
}

/// All vertices.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) vertices: BTreeMap<usize, Vertex>,
    /// Those that began, in that order: how they are shown.
    pub(super) order: Vec<usize>,
}

impl Model {
    /// Takes an event in.
    pub(super) fn apply(&mut self, event: &Event) {
        let Some(id) = vertex_of(event) else {
            return;
        };
        let vertex = self.vertices.entry(id).or_insert_with(|| Vertex {
            id,
            ..Vertex::default()
        });
        match event {
            Event::Vertex { name, .. } => vertex.name.clone_from(name),
            Event::Started { at, .. } => {
                vertex.phase = Phase::Running;
                vertex.started = Some(*at);
                self.show(id);
            }
            Event::Cached { at, .. } => {
                vertex.phase = Phase::Cached;
                (vertex.started, vertex.ended) = (Some(*at), Some(*at));
                self.show(id);
            }
            Event::Missed { why, .. } => vertex.why = Some(why.clone()),
            Event::Completed { at, error, .. } => {
                vertex.phase = match error {
                    None => Phase::Done,
                    Some(_) => Phase::Failed,
                };
                vertex.ended = Some(*at);
            }
            Event::Canceled { .. } => vertex.phase = Phase::Canceled,
            Event::Log { bytes, .. } => vertex.log(bytes),
            Event::Status {
                name,
                current,
                total,
                started,
                completed,
                ..
            } => vertex.part(Part {
                name: name.clone(),
                current: *current,
                total: *total,
                started: *started,
                completed: *completed,
            }),
            Event::Warning(_) => {}
        }
    }

    /// One that has waited for another build begins twice.
    fn show(&mut self, id: usize) {
        if !self.order.contains(&id) {
            self.order.push(id);
        }
    }

    /// How many have ended, and how many are known to matter: all that were declared but those that were given up.
    pub(super) fn count(&self) -> (usize, usize) {
        let ended = |v: &&Vertex| matches!(v.phase, Phase::Cached | Phase::Done | Phase::Failed);
        let counted = |v: &&Vertex| v.phase != Phase::Canceled;
        (
            self.vertices.values().filter(ended).count(),
            self.vertices.values().filter(counted).count(),
        )
    }
}

/// `2.1MB / 4MB`, `2.1MB`, or nothing.
pub(super) fn amount(part: &Part) -> String {
    use crate::format::size::long;
    match (part.current, part.total) {
        (0, 0) => String::new(),
        (current, total) if part.completed.is_some() || total == 0 => long(current.max(total)),
        (current, total) => format!("{} / {}", long(current), long(total)),
    }
}

/// A line as it may be shown: without its end, tabs as blanks, of escape sequences nothing; after a carriage return, what
/// overwrites the line.
pub(super) fn printable(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end_matches(['\n', '\r']);
    let text = text.rsplit('\r').next().unwrap_or_default();
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => skip_sequence(&mut chars),
            '\t' => out.push_str("        "),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

/// The rest of an escape sequence: `[` up to a letter, `]` up to its end, or one character.
fn skip_sequence(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match chars.next() {
        Some('[') => {
            for c in chars.by_ref() {
                if ('@'..='~').contains(&c) {
                    break;
                }
            }
        }
        Some(']') => {
            while let Some(c) = chars.next() {
                if c == '\u{7}' {
                    break;
                }
                if c == '\u{1b}' {
                    // ESC \ ends it.
                    chars.next();
                    break;
                }
            }
        }
        _ => {}
    }
}

/// Whether a stream is worth telling from the other one: no.
pub(super) fn stream_number(stream: Stream) -> u8 {
    match stream {
        Stream::Out => 1,
        Stream::Err => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_commands_no_terminal() {
        let text = |bytes: &[u8]| printable(bytes);
        assert_eq!(text(b"\x1b[31mred\x1b[0m\n"), "red");
        assert_eq!(text(b"10%\r20%\r\n"), "20%");
        assert_eq!(text(b"\x1b]0;title\x07x\x1b]8;;u\x1b\\y"), "xy");
        assert_eq!(text(b"a\tb\x07"), "a        b");
    }
}
