//! `--progress=rawjson`: one JSON object a line, in the shape of BuildKit's SolveStatus.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rctr_builder::event::{Event, Progress};
use rctr_storage::timestamp;
use serde_json::{Value, json};

use super::model::stream_number;
use super::vertex_of;
use crate::output;

/// Writes at once.
pub(crate) struct Objects {
    began: SystemTime,
    /// Vertices as they were told last.
    vertices: Mutex<BTreeMap<usize, Value>>,
}

impl Default for Objects {
    fn default() -> Self {
        Self {
            began: SystemTime::now(),
            vertices: Mutex::default(),
        }
    }
}

impl Progress for Objects {
    fn event(&self, event: Event) {
        let mut vertices = self.vertices.lock().unwrap_or_else(PoisonError::into_inner);
        let object = self.object(&mut vertices, &event);
        // Under the lock, so that lines stay whole and in order.
        output::error(format!("{object}\n"));
    }
}

impl Objects {
    fn moment(&self, at: Duration) -> Value {
        Value::String(timestamp::of(self.began + at))
    }

    fn object(&self, vertices: &mut BTreeMap<usize, Value>, event: &Event) -> Value {
        let id = vertex_of(event).unwrap_or(0);
        match event {
            Event::Log {
                stream, bytes, at, ..
            } => {
                let log = json!({
                    "vertex": name_of(id),
                    "stream": stream_number(*stream),
                    "data": BASE64_STANDARD.encode(bytes),
                    "timestamp": self.moment(*at),
                });
                return json!({ "logs": [log] });
            }
            Event::Status {
                name,
                current,
                total,
                started,
                completed,
                ..
            } => {
                let mut status = json!({
                    "id": name,
                    "vertex": name_of(id),
                    "name": name,
                    "current": current,
                    "total": total,
                    "started": self.moment(*started),
                });
                if let Some(completed) = completed {
                    status["completed"] = self.moment(*completed);
                }
                return json!({ "statuses": [status] });
            }
            Event::Warning(warning) => {
                let span = warning.place.span;
                let warning = json!({
                    "rule": warning.rule,
                    "short": warning.message,
                    "file": warning.place.file.name,
                    "range": { "start": span.first, "end": span.last },
                });
                return json!({ "warnings": [warning] });
            }
            _ => {}
        }
        let vertex = vertices
            .entry(id)
            .or_insert_with(|| json!({ "digest": name_of(id) }));
        match event {
            Event::Vertex { name, .. } => vertex["name"] = json!(name),
            Event::Started { at, .. } => vertex["started"] = self.moment(*at),
            Event::Cached { at, .. } => {
                vertex["cached"] = json!(true);
                vertex["started"] = self.moment(*at);
                vertex["completed"] = self.moment(*at);
            }
            Event::Missed { why, .. } => vertex["missed"] = json!(why),
            Event::Completed { at, error, .. } => {
                vertex["completed"] = self.moment(*at);
                if let Some(error) = error {
                    vertex["error"] = json!(error);
                }
            }
            Event::Canceled { .. } => vertex["error"] = json!("canceled"),
            Event::Log { .. } | Event::Status { .. } | Event::Warning(_) => {}
        }
        json!({ "vertexes": [vertex.clone()] })
    }
}

/// What a vertex is referred to by.
fn name_of(id: usize) -> Value {
    json!(rctr_storage::digest::Digest::of(&id.to_le_bytes()))
}
