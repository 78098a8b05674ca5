//! Shows what a build does (and, in `transfer`, how images travel), as `docker build` does it: lines that move on a terminal, plain lines elsewhere, JSON for
//! programs.

mod model;
mod plain;
mod raw;
pub(crate) mod trace;
pub(crate) mod transfer;
mod tty;

use std::io::IsTerminal;
use std::sync::Arc;

use rctr_builder::event::{Event, Progress, Silent};

use crate::report::Failure;

/// `--progress`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// A terminal's lines that are drawn again and again.
    Tty,
    /// Lines.
    Plain,
    /// JSON, one object a line.
    RawJson,
    /// Nothing.
    Quiet,
}

impl Style {
    /// `auto`, `tty`, `plain`, `rawjson`, `quiet`.
    ///
    /// # Errors
    /// Another word.
    pub(crate) fn parse(word: &str) -> Result<Self, Failure> {
        Ok(match word {
            "auto" | "" if std::io::stderr().is_terminal() => Self::Tty,
            // Without a terminal nothing can be drawn over.
            "auto" | "" | "plain" => Self::Plain,
            "tty" => Self::Tty,
            "rawjson" => Self::RawJson,
            "quiet" | "none" => Self::Quiet,
            other => {
                return Err(Failure::new(format!("invalid --progress {other:?}"))
                    .code(crate::report::ENGINE)
                    .hint("it is auto, tty, plain, rawjson or quiet"));
            }
        })
    }
}

/// Who shows a build. [`finish`](Self::finish) must be called before anything else is printed.
pub(crate) enum Display {
    Tty(Arc<tty::Terminal>),
    Plain(Arc<plain::Lines>),
    RawJson(Arc<raw::Objects>),
    Quiet,
}

impl Display {
    pub(crate) fn new(style: Style) -> Self {
        match style {
            Style::Tty => Self::Tty(tty::Terminal::start()),
            Style::Plain => Self::Plain(Arc::new(plain::Lines::default())),
            Style::RawJson => Self::RawJson(Arc::new(raw::Objects::default())),
            Style::Quiet => Self::Quiet,
        }
    }

    /// Where events go.
    pub(crate) fn progress(&self) -> Arc<dyn Progress> {
        match self {
            Self::Tty(tty) => tty.clone(),
            Self::Plain(lines) => lines.clone(),
            Self::RawJson(objects) => objects.clone(),
            Self::Quiet => Arc::new(Silent),
        }
    }

    /// From now on this process may have threads.
    pub(crate) fn entered(&self) {
        if let Self::Tty(tty) = self {
            tty.paint();
        }
    }

    /// Draws for the last time.
    pub(crate) fn finish(&self) {
        match self {
            Self::Tty(tty) => tty.finish(),
            Self::Plain(lines) => lines.finish(),
            Self::RawJson(_) | Self::Quiet => {}
        }
    }
}

/// `1.2s`.
fn seconds(duration: std::time::Duration) -> String {
    let tenths = duration
        .as_millis()
        .div_ceil(100)
        .max(u128::from(!duration.is_zero()));
    // As docker: a tenth is the least that is shown, but 0.0s for what took no time that counts.
    match duration.as_millis() {
        0..=49 => "0.0s".to_owned(),
        _ => format!("{}.{}s", tenths / 10, tenths % 10),
    }
}

/// The event's vertex, if it is about one.
fn vertex_of(event: &Event) -> Option<usize> {
    Some(match event {
        Event::Vertex { id, .. }
        | Event::Started { id, .. }
        | Event::Cached { id, .. }
        | Event::Missed { id, .. }
        | Event::Completed { id, .. }
        | Event::Canceled { id }
        | Event::Log { id, .. }
        | Event::Status { id, .. } => id.0,
        Event::Warning(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn seconds_have_a_tenth() {
        let text = |ms| seconds(Duration::from_millis(ms));
        assert_eq!(
            [text(0), text(49), text(50), text(1000), text(61_250)],
            ["0.0s", "0.0s", "0.1s", "1.0s", "61.3s"]
        );
    }
}
