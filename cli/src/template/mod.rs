//! Go's text/template as docker's `--format` knows it: actions, pipelines, variables, `if`, `with`, `range`, trim
//! markers, comments, and the functions of docker's command line.
//!
//! ```text
//! text ── lexer ──▶ tokens ── parser ──▶ nodes ── eval(data) ──▶ text
//! ```
//!
//! Data is [`Data`]: JSON values that know whether they are a Go struct or a Go map, because the two print differently
//! and answer differently when a name is missing. `define`, `template` and `block` are left out: nobody can name a
//! second template on a command line. Messages are those that Go gives, since scripts look for them.

use std::fmt;

mod data;
mod eval;
mod fmt_verbs;
mod functions;
mod lexer;
mod number;
mod parser;
mod print;
#[cfg(test)]
mod tests;

pub(crate) use data::{Data, Kind, Schema};
pub(crate) use fmt_verbs::quoted;

/// A template that parsed.
pub(crate) struct Template {
    source: String,
    nodes: Vec<parser::Node>,
    functions: functions::Set,
}

impl Template {
    /// Parses `source`.
    ///
    /// # Errors
    /// When it isn't a template, or names a function or variable that isn't there.
    pub(crate) fn parse(source: &str) -> Result<Self, TemplateError> {
        Self::parse_with(source, functions::Set::Values)
    }

    /// The same template for the header of a table: functions leave the column's name alone.
    ///
    /// # Errors
    /// As [`Template::parse`].
    pub(crate) fn parse_header(source: &str) -> Result<Self, TemplateError> {
        Self::parse_with(source, functions::Set::Headers)
    }

    fn parse_with(source: &str, functions: functions::Set) -> Result<Self, TemplateError> {
        Ok(Self {
            nodes: parser::parse(source)?,
            source: source.to_owned(),
            functions,
        })
    }

    /// What the template makes of `data`.
    ///
    /// # Errors
    /// When a name is missing in a struct, or a function refuses its arguments.
    pub(crate) fn render(&self, data: &Data) -> Result<String, TemplateError> {
        eval::render(&self.source, &self.nodes, self.functions, data)
    }

    /// Whether the template asks for field `name` anywhere: lets a list skip what is dear to find out.
    pub(crate) fn mentions(&self, name: &str) -> bool {
        parser::mentions(&self.nodes, name)
    }
}

/// Why a template can't be used: what is wrong and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("template: :{place}: {message}")]
pub(crate) struct TemplateError {
    place: Place,
    message: String,
    /// The line with a mark below the column.
    excerpt: String,
}

/// Go tells the line for what doesn't parse, line, column and node for what doesn't run.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Parse {
        line: usize,
    },
    Run {
        line: usize,
        column: usize,
        node: String,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parse { line } => write!(f, "{line}"),
            Self::Run { line, column, node } => {
                write!(f, "{line}:{column}: executing \"\" at <{node}>")
            }
        }
    }
}

impl TemplateError {
    fn parse(source: &str, at: usize, message: impl Into<String>) -> Self {
        let (line, _) = position(source, at);
        Self {
            place: Place::Parse { line },
            message: message.into(),
            excerpt: excerpt(source, at),
        }
    }

    fn run(source: &str, at: usize, node: &str, message: impl Into<String>) -> Self {
        let (line, column) = position(source, at);
        Self {
            place: Place::Run {
                line,
                column,
                node: node.to_owned(),
            },
            message: message.into(),
            excerpt: excerpt(source, at),
        }
    }

    /// Where it is, shown: the template's line and a mark below the column.
    pub(crate) fn excerpt(&self) -> &str {
        &self.excerpt
    }
}

/// Line from 1 and column from 0, in bytes, as Go counts them.
fn position(source: &str, at: usize) -> (usize, usize) {
    let before = &source.as_bytes()[..at.min(source.len())];
    let line = 1 + before.iter().filter(|&&b| b == b'\n').count();
    let start = before
        .iter()
        .rposition(|&b| b == b'\n')
        .map_or(0, |i| i + 1);
    (line, before.len() - start)
}

fn excerpt(source: &str, at: usize) -> String {
    let (line, column) = position(source, at);
    let text = source.lines().nth(line - 1).unwrap_or_default();
    let before = text.get(..column).unwrap_or(text).chars().count();
    format!("{text}\n{}^", " ".repeat(before))
}
