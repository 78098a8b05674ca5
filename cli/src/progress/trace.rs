//! `--trace`: the build's time line as one page of HTML, without scripts and without anything from elsewhere.

use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rctr_builder::event::{Event, Progress};

use super::model::{Model, Phase, Vertex};
use super::seconds;

/// Listens beside whoever shows the build.
pub(crate) struct Trace {
    shown: Arc<dyn Progress>,
    model: Mutex<Model>,
    began: Instant,
}

/// Pixels: of a row, of the names' column, of the time line.
const ROW: usize = 24;
const NAMES: usize = 520;
const WIDTH: f64 = 860.0;

impl Progress for Trace {
    fn event(&self, event: Event) {
        let mut model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        model.apply(&event);
        drop(model);
        self.shown.event(event);
    }
}

impl Trace {
    pub(crate) fn new(shown: Arc<dyn Progress>) -> Arc<Self> {
        Arc::new(Self {
            shown,
            model: Mutex::default(),
            began: Instant::now(),
        })
    }

    /// The page, of what has happened so far.
    pub(crate) fn page(&self, title: &str) -> String {
        let model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        page(title, &model, self.began.elapsed())
    }
}

fn page(title: &str, model: &Model, total: Duration) -> String {
    let total = total.max(Duration::from_millis(1));
    let rows: Vec<&Vertex> = model.order.iter().map(|id| &model.vertices[id]).collect();
    let (done, all) = model.count();
    let cached = rows.iter().filter(|v| v.phase == Phase::Cached).count();
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title><style>\
         body{{font:14px system-ui,sans-serif;margin:2em;color:#222;background:#fff}}\
         text{{font:12px ui-monospace,monospace;fill:#222}}.run{{fill:#2b6cb0}}.cached{{fill:#38a169}}.failed{{fill:#c53030}}\
         .other{{fill:#a0aec0}}line{{stroke:#e2e8f0}}\
         @media(prefers-color-scheme:dark){{body{{color:#eee;background:#181a1b}}text{{fill:#eee}}line{{stroke:#444}}}}\
         </style></head><body><h1>{title}</h1>\n<p>{} · {done} of {all} done · {cached} from the cache</p>\n",
        seconds(total),
        title = escaped(title),
    );
    let height = ROW * (rows.len() + 1);
    let width = NAMES as f64 + WIDTH + 80.0;
    // Writing to a string can't fail.
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" role=\"img\">"
    );
    for tenth in 0..=10 {
        let x = NAMES as f64 + WIDTH * f64::from(tenth) / 10.0;
        let at = seconds(total * tenth / 10);
        let _ = writeln!(
            out,
            "<line x1=\"{x}\" x2=\"{x}\" y1=\"16\" y2=\"{height}\"/><text x=\"{x}\" y=\"12\">{at}</text>"
        );
    }
    for (row, vertex) in rows.iter().enumerate() {
        let _ = writeln!(out, "{}", bar(vertex, row, total));
    }
    out.push_str("</svg></body></html>\n");
    out
}

fn bar(vertex: &Vertex, row: usize, total: Duration) -> String {
    let y = ROW * (row + 1);
    let share = |at: Duration| WIDTH * at.as_secs_f64() / total.as_secs_f64();
    let x = NAMES as f64 + share(vertex.started.unwrap_or_default());
    let width = share(vertex.lasted(total)).max(2.0);
    let class = match vertex.phase {
        Phase::Cached => "cached",
        Phase::Failed => "failed",
        Phase::Done | Phase::Running => "run",
        Phase::Waiting | Phase::Canceled => "other",
    };
    let name = escaped(&vertex.name);
    let short: String = vertex.name.chars().take(68).collect();
    let time = seconds(vertex.lasted(total));
    format!(
        "<g><title>{name} {time}</title><text x=\"0\" y=\"{}\">{}</text>\
         <rect class=\"{class}\" x=\"{x:.1}\" y=\"{}\" width=\"{width:.1}\" height=\"{}\" rx=\"2\"/>\
         <text x=\"{:.1}\" y=\"{}\">{time}</text></g>",
        y + 16,
        escaped(&short),
        y + 4,
        ROW - 8,
        x + width + 4.0,
        y + 16,
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use rctr_builder::event::{Silent, VertexId};

    use super::*;

    #[test]
    fn every_vertex_has_a_bar_and_names_are_escaped() {
        let trace = Trace::new(Arc::new(Silent));
        let id = VertexId(1);
        let name = "[2/2] RUN a <b> && c".to_owned();
        trace.event(Event::Vertex { id, name });
        trace.event(Event::Started {
            id,
            at: Duration::ZERO,
        });
        let page = trace.page("build of <x>");
        assert!(page.contains("RUN a &lt;b&gt; &amp;&amp; c") && page.contains("<rect"));
        assert!(page.contains("build of &lt;x&gt;") && !page.contains("<b>"));
    }
}
