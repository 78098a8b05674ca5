//! Shows how layers travel, as `docker pull` and `docker push` do it: bars that move on a terminal, a line per layer elsewhere,
//! JSON for a build that has us pull.
//!
//! ```text
//! 2e6e20c8e2e6: Downloading [=====>             ]   12.3MB/45.6MB
//! 0551a797c01d: Pull complete
//! ```

use std::io::{IsTerminal, Write};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rctr_runtime::attach::terminal;
use rctr_storage::digest::Digest;
use rctr_storage::transfer::{Progress, Step};
use serde_json::json;

use super::model::printable;
use crate::format::size::long;
use crate::output;

/// Between two drawings, and between two objects of JSON about one blob.
const FRAME: Duration = Duration::from_millis(100);
/// Characters of docker's bar.
const BAR: usize = 50;

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Pull,
    Push,
}

/// How it is shown, on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    Bars,
    Lines,
    Json,
    Quiet,
}

impl Look {
    /// Bars on a terminal, else lines.
    pub(crate) fn auto() -> Self {
        match std::io::stdout().is_terminal() {
            true => Self::Bars,
            false => Self::Lines,
        }
    }
}

/// Shows one transfer. [`finish`](Self::finish) must be called before anything else is printed.
pub(crate) struct Display {
    shared: Arc<Shared>,
    painter: Option<JoinHandle<()>>,
}

struct Shared {
    look: Look,
    way: Way,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    rows: Vec<Row>,
    over: bool,
    /// Lines on the screen, to be drawn over.
    drawn: usize,
}

struct Row {
    digest: Digest,
    step: Step,
    /// In bytes.
    total: u64,
    told: Option<Instant>,
}

impl Display {
    /// Begins; bars have a thread of their own.
    pub(crate) fn start(look: Look, way: Way) -> Self {
        let shared = Arc::new(Shared {
            look,
            way,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let painted = Arc::clone(&shared);
        let painter = (look == Look::Bars).then(|| thread::spawn(move || painted.paint()));
        Self { shared, painter }
    }

    /// Draws for the last time.
    pub(crate) fn finish(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.shared.lock().over = true;
        self.shared.changed.notify_all();
        if let Some(painter) = self.painter.take() {
            // It had nothing to do but to end.
            let _ = painter.join();
        }
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        self.end();
    }
}

impl Progress for Display {
    fn blob(&self, digest: &Digest, step: Step) {
        self.shared.blob(digest, step);
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn blob(&self, digest: &Digest, step: Step) {
        let mut state = self.lock();
        let at = match state.rows.iter().position(|row| row.digest == *digest) {
            Some(at) => at,
            None => {
                state.rows.push(Row {
                    digest: *digest,
                    step: Step::Waiting(0),
                    total: 0,
                    told: None,
                });
                state.rows.len() - 1
            }
        };
        let row = &mut state.rows[at];
        if let Step::Waiting(size) = step {
            row.total = size;
        }
        row.step = step;
        match self.look {
            // Under the lock, so that lines stay in order.
            Look::Lines => {
                if let Some(text) = row.last_words(self.way) {
                    output::line(format!("{}: {text}", short(digest)));
                }
            }
            Look::Json => row.tell(),
            Look::Bars | Look::Quiet => {}
        }
    }

    fn paint(&self) {
        let mut state = self.lock();
        loop {
            self.draw(&mut state);
            if state.over {
                return;
            }
            state = self
                .changed
                .wait_timeout(state, FRAME)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    fn draw(&self, state: &mut State) {
        let (rows, columns) = terminal::own_size().map_or((24, 80), |size| {
            (usize::from(size.rows), usize::from(size.columns))
        });
        let room = if state.over {
            usize::MAX
        } else {
            rows.max(5) - 1
        };
        let lines = frame(&state.rows, self.way, columns.max(20), room);
        let mut out = String::new();
        if state.drawn > 0 {
            out.push_str(&format!("\u{1b}[{}A\r", state.drawn));
        }
        for line in &lines {
            out.push_str(&format!("\u{1b}[2K{line}\n"));
        }
        // What the last drawing had more of.
        out.push_str("\u{1b}[J");
        state.drawn = lines.len();
        let mut stdout = std::io::stdout().lock();
        // Nobody watches any more.
        let _ = stdout
            .write_all(out.as_bytes())
            .and_then(|()| stdout.flush());
    }
}

/// The lines, `room` at most: what is done goes first.
fn frame(rows: &[Row], way: Way, columns: usize, room: usize) -> Vec<String> {
    let mut surplus = rows.len().saturating_sub(room);
    let shown = rows.iter().filter(|row| {
        let goes = surplus > 0 && row.last_words(way).is_some();
        surplus -= usize::from(goes);
        !goes
    });
    let cut = |text: String| text.chars().take(columns - 1).collect();
    shown
        .take(room)
        .map(|row| cut(row.text(way, columns)))
        .collect()
}

impl Row {
    /// What is said in the end, if this is one.
    fn last_words(&self, way: Way) -> Option<String> {
        Some(match (&self.step, way) {
            (Step::Pulled, _) => "Pull complete".to_owned(),
            (Step::Pushed, _) => "Pushed".to_owned(),
            (Step::Exists, Way::Pull) => "Already exists".to_owned(),
            (Step::Exists, Way::Push) => "Layer already exists".to_owned(),
            (Step::Mounted(from), _) => format!("Mounted from {}", from.path),
            _ => return None,
        })
    }

    fn text(&self, way: Way, columns: usize) -> String {
        let id = short(&self.digest);
        let text = match &self.step {
            Step::Waiting(_) if way == Way::Push => "Preparing".to_owned(),
            Step::Waiting(_) => "Pulling fs layer".to_owned(),
            Step::Downloading(bytes) => bar("Downloading", *bytes, self.total, columns),
            Step::Pushing(bytes) => bar("Pushing", *bytes, self.total, columns),
            Step::Shared => "Waiting for another pull".to_owned(),
            Step::Extracting => "Extracting".to_owned(),
            Step::Retrying(why) => format!("Retrying: {}", printable(why.as_bytes())),
            _ => self.last_words(way).unwrap_or_default(),
        };
        format!("{id}: {text}")
    }

    /// One object a line: what a build shows of it.
    fn tell(&mut self) {
        let (name, bytes) = match &self.step {
            Step::Downloading(bytes) => ("downloading", *bytes),
            Step::Extracting => ("extracting", self.total),
            Step::Pulled => ("pulled", self.total),
            Step::Exists => ("exists", self.total),
            _ => return,
        };
        if name == "downloading" && self.told.is_some_and(|told| told.elapsed() < FRAME) {
            return;
        }
        self.told = Some(Instant::now());
        output::line(
            json!({ "digest": self.digest, "step": name, "current": bytes, "total": self.total }),
        );
    }
}

/// Twelve digits.
fn short(digest: &Digest) -> String {
    digest.hex().chars().take(12).collect()
}

/// `Downloading [=====>    ]  12.3MB/45.6MB`, or less where there is little room.
fn bar(word: &str, bytes: u64, total: u64, columns: usize) -> String {
    if total == 0 {
        return format!("{word} {:>8}", long(bytes));
    }
    let numbers = format!("{:>8}/{}", long(bytes), long(total));
    // "2e6e20c8e2e6: ", blanks and brackets; numbers change their lengths.
    let width = columns.saturating_sub(14 + word.len() + 5 + 18).min(BAR);
    if width < 10 {
        return format!("{word} {numbers}");
    }
    let done = usize::try_from(bytes.min(total).saturating_mul(width as u64) / total).unwrap_or(0);
    let head = if done < width { ">" } else { "" };
    let rest = " ".repeat(width.saturating_sub(done + 1));
    format!("{word} [{}{head}{rest}]  {numbers}", "=".repeat(done))
}

#[cfg(test)]
mod tests {
    use rctr_storage::reference::Reference;

    use super::*;

    fn row(number: u8, step: Step, total: u64) -> Row {
        Row {
            digest: Digest::of(&[number]),
            step,
            total,
            told: None,
        }
    }

    #[test]
    fn bars_look_like_docker_s() {
        let columns = 120;
        assert_eq!(
            bar("Downloading", 12_340_000, 45_000_000, columns),
            format!(
                "Downloading [{}>{}]   12.34MB/45MB",
                "=".repeat(13),
                " ".repeat(36)
            )
        );
        assert_eq!(
            bar("Downloading", 45, 45, 70),
            format!("Downloading [{}]       45B/45B", "=".repeat(22))
        );
        assert_eq!(bar("Pushing", 1, 45, 40), "Pushing       1B/45B");
        assert_eq!(bar("Pushing", 1, 0, 80), "Pushing       1B");
        // A server may send more than it said.
        assert!(bar("Downloading", 99, 45, 80).contains("==]"));
    }

    #[test]
    fn finished_rows_make_room() {
        let from = Reference::parse("h:1/team/x").unwrap();
        let rows = [
            row(1, Step::Exists, 5),
            row(2, Step::Mounted(from), 5),
            row(3, Step::Retrying("\u{1b}[31mbroken".to_owned()), 5),
            row(4, Step::Waiting(5), 5),
        ];
        let text = |room| -> Vec<String> {
            let lines = frame(&rows, Way::Push, 60, room);
            lines.iter().map(|line| line[12..].to_owned()).collect()
        };
        let all = [
            ": Layer already exists",
            ": Mounted from team/x",
            ": Retrying: broken",
            ": Preparing",
        ];
        assert_eq!(text(9), all);
        assert_eq!(text(3), all[1..]);
        assert_eq!(text(1), all[2..3]);
    }
}
