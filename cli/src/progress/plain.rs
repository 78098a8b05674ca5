//! `--progress=plain`: numbered lines, as docker writes them to a log.
//!
//! ```text
//! #5 [2/3] RUN apt-get update
//! #5 0.312 Hit:1 ...
//! #5 DONE 1.2s
//! ```
//!
//! Nothing that a step prints is left out. When another vertex has something to say in between, its name comes again.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rctr_builder::event::{Event, Progress};

use super::model::{Model, Part, amount, printable};
use super::{seconds, vertex_of};
use crate::output;

/// Writes at once.
#[derive(Default)]
pub(crate) struct Lines {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    model: Model,
    /// Whose lines come now.
    current: usize,
    /// Output without a line's end, and when it came.
    rests: BTreeMap<usize, (Vec<u8>, Duration)>,
    out: String,
}

impl Progress for Lines {
    fn event(&self, event: Event) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.model.apply(&event);
        state.event(&event);
        let text = std::mem::take(&mut state.out);
        // Under the lock, so that lines stay in order.
        if !text.is_empty() {
            output::error(text);
        }
    }
}

impl Lines {
    /// What has no line's end is written, too.
    pub(crate) fn finish(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for id in state.rests.keys().copied().collect::<Vec<_>>() {
            state.flush(id);
        }
        output::error(std::mem::take(&mut state.out));
    }
}

impl State {
    fn event(&mut self, event: &Event) {
        let id = vertex_of(event).unwrap_or(0);
        match event {
            Event::Vertex { .. } => {}
            Event::Started { .. } => self.turn_to(id),
            Event::Cached { .. } => self.say(id, "CACHED"),
            Event::Missed { why, .. } => self.say(id, &format!("not cached: {why}")),
            Event::Completed { error, .. } => {
                self.flush(id);
                match error {
                    None => {
                        let lasted = self.model.vertices[&id].lasted(Duration::ZERO);
                        self.say(id, &format!("DONE {}", seconds(lasted)));
                    }
                    Some(error) => self.say(id, &format!("ERROR: {error}")),
                }
            }
            Event::Canceled { .. } => {
                if self.model.vertices[&id].started.is_some() {
                    self.flush(id);
                    self.say(id, "CANCELED");
                }
            }
            Event::Log { bytes, at, .. } => self.log(id, bytes, *at),
            Event::Status {
                name, completed, ..
            } => {
                let part = self.model.vertices[&id]
                    .parts
                    .iter()
                    .find(|p| p.name == *name);
                if let (Some(part), true) = (part, completed.is_some()) {
                    let text = part_line(part);
                    self.say(id, &text);
                }
            }
            Event::Warning(_) => {}
        }
    }

    fn turn_to(&mut self, id: usize) {
        if self.current == id {
            return;
        }
        if self.current != 0 {
            let running = self.model.vertices[&self.current].ended.is_none();
            self.out.push_str(if running { "...\n\n" } else { "\n" });
        }
        self.current = id;
        let name = &self.model.vertices[&id].name;
        self.out.push_str(&format!("#{id} {name}\n"));
    }

    fn say(&mut self, id: usize, text: &str) {
        self.turn_to(id);
        self.out.push_str(&format!("#{id} {text}\n"));
    }

    fn log(&mut self, id: usize, bytes: &[u8], at: Duration) {
        let started = self.model.vertices[&id].started.unwrap_or_default();
        let (mut rest, since) = self.rests.remove(&id).unwrap_or((Vec::new(), at));
        rest.extend_from_slice(bytes);
        let mut lines: Vec<&[u8]> = rest.split(|b| *b == b'\n').collect();
        let last = lines.pop().unwrap_or_default().to_vec();
        let time = since.saturating_sub(started).as_secs_f64();
        for line in lines {
            self.say(id, &format!("{time:.3} {}", printable(line)));
        }
        if !last.is_empty() {
            self.rests.insert(id, (last, at));
        }
    }

    fn flush(&mut self, id: usize) {
        if let Some((rest, at)) = self.rests.remove(&id) {
            let started = self.model.vertices[&id].started.unwrap_or_default();
            let time = at.saturating_sub(started).as_secs_f64();
            self.say(id, &format!("{time:.3} {}", printable(&rest)));
        }
    }
}

/// `transferring context: 2.1MB 0.1s done`.
fn part_line(part: &Part) -> String {
    let mut text = part.name.clone();
    let amount = amount(part);
    if !amount.is_empty() {
        text.push_str(&format!(": {amount}"));
    }
    let lasted = part
        .completed
        .unwrap_or_default()
        .saturating_sub(part.started);
    if lasted >= Duration::from_millis(50) {
        text.push_str(&format!(" {}", seconds(lasted)));
    }
    text.push_str(" done");
    text
}
