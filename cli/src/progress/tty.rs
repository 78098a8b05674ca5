//! `--progress=tty`: the build as a list that is drawn again and again.
//!
//! ```text
//! [+] Building 1.0s (5/7)
//!  => CACHED [2/3] RUN apt-get update                       0.0s
//!  => [3/3] RUN make                                        0.8s
//!  => => # cc -c a.c
//! ```

use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rctr_builder::event::{Event, Progress};
use rctr_runtime::attach::terminal;

use super::model::{Model, Phase, Vertex, amount};
use super::seconds;

/// Between two drawings.
const FRAME: Duration = Duration::from_millis(100);
/// Lines of a running step's output.
const TAIL: usize = 6;

/// Draws in a thread of its own.
pub(crate) struct Terminal {
    state: Mutex<State>,
    changed: Condvar,
    painter: Mutex<Option<JoinHandle<()>>>,
    began: Instant,
    colours: bool,
}

#[derive(Default)]
struct State {
    model: Model,
    over: bool,
    /// Lines on the screen, to be drawn over.
    drawn: usize,
    /// The last drawing.
    last: Option<Instant>,
}

impl Progress for Terminal {
    fn event(&self, event: Event) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.model.apply(&event);
        let painted = self.painter.lock().unwrap_or_else(PoisonError::into_inner);
        // Before there may be threads, events are the only clock.
        if painted.is_none() && state.last.is_none_or(|last| last.elapsed() >= FRAME) {
            self.draw(&mut state);
        }
    }
}

impl Terminal {
    pub(crate) fn start() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            painter: Mutex::new(None),
            began: Instant::now(),
            colours: std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
        })
    }

    /// From now on it is drawn: before, this process had to have one thread.
    pub(crate) fn paint(self: &Arc<Self>) {
        let painted = Arc::clone(self);
        let handle = thread::spawn(move || {
            let mut state = painted.state.lock().unwrap_or_else(PoisonError::into_inner);
            while !state.over {
                painted.draw(&mut state);
                state = painted
                    .changed
                    .wait_timeout(state, FRAME)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
            }
        });
        *self.painter.lock().unwrap_or_else(PoisonError::into_inner) = Some(handle);
    }

    /// The last drawing stays.
    pub(crate) fn finish(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut state.over, true) {
            return;
        }
        self.draw(&mut state);
        drop(state);
        self.changed.notify_all();
        let painter = self
            .painter
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(painter) = painter {
            // It had nothing to do but to end.
            let _ = painter.join();
        }
    }

    fn draw(&self, state: &mut State) {
        let (rows, columns) = terminal::own_size().map_or((24, 80), |size| {
            (usize::from(size.rows), usize::from(size.columns))
        });
        let columns = columns.max(40);
        let mut lines = frame(&state.model, self.began.elapsed(), columns, state.over);
        if !state.over {
            fit(&mut lines, rows.max(5) - 1);
        }
        let mut out = String::new();
        if state.drawn > 0 {
            out.push_str(&format!("\u{1b}[{}A", state.drawn));
        }
        out.push_str("\r\u{1b}[?25l");
        for line in &lines {
            out.push_str("\u{1b}[2K");
            match (self.colours, line.colour) {
                (true, Some(colour)) => {
                    out.push_str(&format!("\u{1b}[{colour}m{}\u{1b}[0m", line.text));
                }
                _ => out.push_str(&line.text),
            }
            out.push('\n');
        }
        // What the last drawing had more of.
        out.push_str("\u{1b}[J\u{1b}[?25h");
        state.drawn = lines.len();
        state.last = Some(Instant::now());
        let mut stderr = std::io::stderr().lock();
        // Nobody watches any more.
        let _ = stderr
            .write_all(out.as_bytes())
            .and_then(|()| stderr.flush());
    }
}

struct Line {
    text: String,
    /// SGR parameter.
    colour: Option<u8>,
    /// May be left out when there is no room.
    old: bool,
}

const BLUE: u8 = 34;
const RED: u8 = 31;
const FAINT: u8 = 2;

/// The whole list.
fn frame(model: &Model, now: Duration, columns: usize, over: bool) -> Vec<Line> {
    let (done, all) = model.count();
    let failed = model.vertices.values().any(|v| v.phase == Phase::Failed);
    let canceled = model.vertices.values().any(|v| v.phase == Phase::Canceled);
    let end = match (over, failed, canceled) {
        (true, false, false) => " FINISHED",
        (true, true, _) => " ERROR",
        (true, false, true) => " CANCELED",
        (false, ..) => "",
    };
    let mut lines = vec![Line {
        text: format!("[+] Building {} ({done}/{all}){end}", seconds(now)),
        colour: over.then_some(if failed { RED } else { BLUE }),
        old: false,
    }];
    for id in &model.order {
        vertex_lines(&model.vertices[id], now, columns, over, &mut lines);
    }
    lines
}

fn vertex_lines(vertex: &Vertex, now: Duration, columns: usize, over: bool, lines: &mut Vec<Line>) {
    let (word, colour) = match vertex.phase {
        Phase::Cached => ("CACHED ", Some(BLUE)),
        Phase::Done => ("", Some(BLUE)),
        Phase::Failed => ("ERROR ", Some(RED)),
        Phase::Canceled => ("CANCELED ", Some(FAINT)),
        Phase::Waiting | Phase::Running => ("", None),
    };
    let running = vertex.phase == Phase::Running;
    lines.push(Line {
        text: aligned(
            &format!(" => {word}{}", vertex.name),
            &seconds(vertex.lasted(now)),
            columns,
        ),
        colour,
        old: !running,
    });
    if let Some(why) = &vertex.why {
        lines.push(Line {
            text: aligned(&format!(" => => not cached: {why}"), "", columns),
            colour: Some(FAINT),
            old: !running,
        });
    }
    for part in &vertex.parts {
        let amount = amount(part);
        let name = match amount.as_str() {
            "" => part.name.clone(),
            amount => format!("{}: {amount}", part.name),
        };
        let lasted = part.completed.unwrap_or(now).saturating_sub(part.started);
        lines.push(Line {
            text: aligned(&format!(" => => {name}"), &seconds(lasted), columns),
            colour,
            old: !running,
        });
    }
    if running && !over {
        let first = vertex.lines.len().saturating_sub(TAIL);
        for line in &vertex.lines[first..] {
            lines.push(Line {
                text: aligned(&format!(" => => # {line}"), "", columns),
                colour: Some(FAINT),
                old: false,
            });
        }
    }
}

/// `left` cut to what `right`, at the end of the line, leaves.
fn aligned(left: &str, right: &str, columns: usize) -> String {
    let room = columns.saturating_sub(right.len() + 2);
    let mut text: String = left.chars().take(room).collect();
    if right.is_empty() {
        return text;
    }
    let length = text.chars().count();
    text.push_str(&" ".repeat(room - length + 1));
    text.push_str(right);
    text
}

/// Leaves out old lines from the top, then whatever is too much.
fn fit(lines: &mut Vec<Line>, rows: usize) {
    let mut surplus = lines.len().saturating_sub(rows);
    lines.retain(|line| {
        let goes = surplus > 0 && line.old;
        surplus -= usize::from(goes);
        !goes
    });
    lines.truncate(rows);
}

#[cfg(test)]
mod tests {
    use rctr_builder::event::VertexId;

    use super::*;

    fn model(events: Vec<Event>) -> Model {
        let mut model = Model::default();
        events.iter().for_each(|event| model.apply(event));
        model
    }

    fn texts(lines: &[Line]) -> Vec<&str> {
        lines.iter().map(|line| line.text.as_str()).collect()
    }

    #[test]
    fn looks_like_docker_s() {
        let (one, two) = (VertexId(1), VertexId(2));
        let at = Duration::from_millis(100);
        let model = model(vec![
            Event::Vertex {
                id: one,
                name: "[1/2] FROM debian".to_owned(),
            },
            Event::Vertex {
                id: two,
                name: "[2/2] RUN make".to_owned(),
            },
            Event::Cached {
                id: one,
                at,
                log: None,
            },
            Event::Started { id: two, at },
            Event::Log {
                id: two,
                stream: rctr_builder::event::Stream::Out,
                bytes: b"cc a.c\n".to_vec(),
                at,
            },
        ]);
        let now = Duration::from_secs(1);
        let lines = frame(&model, now, 40, false);
        assert_eq!(
            texts(&lines),
            [
                "[+] Building 1.0s (1/2)",
                " => CACHED [1/2] FROM debian       0.0s",
                " => [2/2] RUN make                 0.9s",
                " => => # cc a.c",
            ]
        );
        let lines = frame(&model, now, 40, true);
        assert_eq!(lines[0].text, "[+] Building 1.0s (1/2) FINISHED");
    }

    #[test]
    fn old_lines_make_room() {
        let line = |text: &str, old| Line {
            text: text.to_owned(),
            colour: None,
            old,
        };
        let mut lines = vec![
            line("head", false),
            line("a", true),
            line("b", true),
            line("c", false),
        ];
        fit(&mut lines, 3);
        assert_eq!(texts(&lines), ["head", "b", "c"]);
    }
}
