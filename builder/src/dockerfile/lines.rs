//! Text to lines, and lines to instructions: comments, continuation, what isn't text.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Fault;
use super::directives::{self, Parser};
use super::heredoc::{self, Word};
use crate::source::{Place, SourceError, SourceFile, Span};

/// Bytes of a line. BuildKit takes 65,535; nobody writes more by hand.
const MOST_LINE: usize = 1 << 20;
/// Bytes of a heredoc.
const MOST_HEREDOC: usize = 16 << 20;

/// The lines of a file, and which of them can't be used.
pub(super) struct Lines {
    pub(super) file: Arc<SourceFile>,
    /// Whether the line ended in CR LF, which a heredoc's content keeps.
    carriage_returns: Vec<bool>,
    /// Without an LF behind the last line.
    unended: bool,
    bad: BTreeMap<usize, Bad>,
}

/// Why a line can't be used. Only lines that mean something are refused for it: a comment may be in Latin-1.
enum Bad {
    Utf8 { column: usize, byte: u8 },
    Nul { column: usize },
    Long { bytes: usize },
}

impl Lines {
    /// Any bytes have lines.
    pub(super) fn of(name: &str, text: &[u8]) -> Self {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let mut lines = Vec::new();
        let mut carriage_returns = Vec::new();
        let mut bad = BTreeMap::new();
        for (index, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            let cut = line.len() - line.iter().rev().take_while(|byte| **byte == b'\r').count();
            carriage_returns.push(cut < line.len());
            let line = &line[..cut];
            if let Some(fault) = fault_of(line) {
                bad.insert(index, fault);
            }
            lines.push(String::from_utf8_lossy(line).into_owned());
        }
        Self {
            file: Arc::new(SourceFile {
                name: name.to_owned(),
                lines,
            }),
            carriage_returns,
            unended: !text.ends_with(b"\n"),
            bad,
        }
    }

    /// A line that is used, by its index.
    fn usable(&self, index: usize) -> Result<&str, SourceError> {
        match self.bad.get(&index) {
            None => Ok(&self.file.lines[index]),
            Some(bad) => Err(self.fault_at(bad.fault(index + 1), index + 1, index + 1)),
        }
    }

    fn fault_at(&self, fault: Fault, first: usize, last: usize) -> SourceError {
        fault.at(Place {
            file: self.file.clone(),
            span: Span { first, last },
        })
    }

    fn end_of(&self, index: usize) -> &'static str {
        if self.carriage_returns[index] {
            "\r\n"
        } else if self.unended && index + 1 == self.file.lines.len() {
            ""
        } else {
            "\n"
        }
    }
}

fn fault_of(line: &[u8]) -> Option<Bad> {
    if line.len() > MOST_LINE {
        return Some(Bad::Long { bytes: line.len() });
    }
    if let Some(at) = line.iter().position(|byte| *byte == 0) {
        return Some(Bad::Nul { column: at + 1 });
    }
    let at = std::str::from_utf8(line).err()?.valid_up_to();
    Some(Bad::Utf8 {
        column: at + 1,
        byte: line[at],
    })
}

impl Bad {
    fn fault(&self, line: usize) -> Fault {
        match self {
            Self::Utf8 { column, byte } => Fault::new(format!(
                "line {line} isn't UTF-8 text: byte 0x{byte:02x} in column {column}"
            ))
            .hint("save the Dockerfile as UTF-8, or check that it is a Dockerfile"),
            Self::Nul { column } => Fault::new(format!(
                "line {line} has a NUL byte in column {column}: this is no text"
            ))
            .hint("check that the file is a Dockerfile, and save it as UTF-8"),
            Self::Long { bytes } => Fault::new(format!(
                "line {line} has {bytes} bytes, more than the {MOST_LINE} that a line may have"
            ))
            .hint("put long text into a file and COPY it, or break the line with continuations"),
        }
    }
}

/// A heredoc as it was read.
pub(super) struct Document {
    pub(super) word: Word,
    /// With line ends; tabs still there.
    pub(super) content: String,
}

/// An instruction's text.
pub(super) struct Logical {
    pub(super) span: Span,
    /// Continuation lines joined, comments left out, blanks around it removed.
    pub(super) text: String,
    pub(super) documents: Vec<Document>,
    /// The last comment right before it, without `#`.
    pub(super) comment: Option<String>,
    /// Empty lines between continuation lines.
    pub(super) empty_lines: Vec<usize>,
}

/// Takes instructions off the lines.
pub(super) struct Reader<'l> {
    lines: &'l Lines,
    next: usize,
    directives: Parser,
    comment: Option<String>,
}

impl<'l> Reader<'l> {
    pub(super) fn new(lines: &'l Lines) -> Self {
        Self {
            lines,
            next: 0,
            directives: Parser::default(),
            comment: None,
        }
    }

    /// For a text that stands alone, as an ONBUILD trigger: nothing in it is a directive.
    pub(super) fn with_escape(lines: &'l Lines, escape: char) -> Self {
        let mut reader = Self::new(lines);
        reader.directives = Parser::ended(escape);
        reader
    }

    pub(super) fn directives(self) -> directives::Parser {
        self.directives
    }

    pub(super) fn escape(&self) -> char {
        self.directives.escape()
    }

    /// The next instruction; `None` at the end. `takes_heredocs` tells by an instruction's text whether `<<` in it
    /// means something.
    pub(super) fn next(
        &mut self,
        takes_heredocs: impl Fn(&str) -> bool,
    ) -> Result<Option<Logical>, SourceError> {
        let Some((first, mut text, mut open)) = self.first_line()? else {
            return Ok(None);
        };
        let comment = self.comment.take();
        let mut empty_lines = Vec::new();
        while open && self.next < self.lines.file.lines.len() {
            let index = self.next;
            self.next += 1;
            let seen = self.lines.file.lines[index].trim_start();
            if seen.starts_with('#') {
                continue;
            }
            if seen.is_empty() {
                empty_lines.push(index + 1);
                continue;
            }
            let (line, continued) = continuation(self.lines.usable(index)?, self.escape());
            text.push_str(line);
            open = continued;
        }
        let text = text.trim().to_owned();
        let last = self.next;
        let documents = if text.contains("<<") && takes_heredocs(&text) {
            self.documents(&text, first, last)?
        } else {
            Vec::new()
        };
        Ok(Some(Logical {
            span: Span {
                first,
                last: self.next,
            },
            text,
            documents,
            comment,
            empty_lines,
        }))
    }

    /// The number of the next line that is neither empty nor a comment, what it says, and whether it is continued.
    fn first_line(&mut self) -> Result<Option<(usize, String, bool)>, SourceError> {
        while self.next < self.lines.file.lines.len() {
            let index = self.next;
            self.next += 1;
            let seen = self.lines.file.lines[index].trim_start();
            if let Some(comment) = seen.strip_prefix('#') {
                let directive = self
                    .directives
                    .line(seen)
                    .map_err(|fault| self.lines.fault_at(fault, index + 1, index + 1))?;
                let comment = comment.trim();
                self.comment = (!directive && !comment.is_empty()).then(|| comment.to_owned());
                continue;
            }
            self.directives.end();
            if seen.is_empty() {
                self.comment = None;
                continue;
            }
            let line = self.lines.usable(index)?.trim_start();
            let (line, open) = continuation(line, self.escape());
            return Ok(Some((index + 1, line.to_owned(), open)));
        }
        Ok(None)
    }

    fn documents(
        &mut self,
        text: &str,
        first: usize,
        last: usize,
    ) -> Result<Vec<Document>, SourceError> {
        heredoc::words_of(text)
            .into_iter()
            .map(|word| self.document(word, first, last))
            .collect()
    }

    fn document(&mut self, word: Word, first: usize, last: usize) -> Result<Document, SourceError> {
        let mut content = String::new();
        while self.next < self.lines.file.lines.len() {
            let index = self.next;
            self.next += 1;
            let line = self.lines.usable(index)?;
            let end = if word.chomp {
                line.trim_start_matches('\t')
            } else {
                line
            };
            if end == word.name {
                return Ok(Document { word, content });
            }
            content.push_str(line);
            content.push_str(self.lines.end_of(index));
            if content.len() > MOST_HEREDOC {
                let fault = Fault::new(format!(
                    "heredoc {} is larger than {} MiB",
                    word.name,
                    MOST_HEREDOC >> 20
                ));
                let fault = fault.hint("put the text into a file and COPY it");
                return Err(self.lines.fault_at(fault, first, last));
            }
        }
        let fault = Fault::new("unterminated heredoc".to_owned()).hint(format!(
            "the file ends before a line that is just {}",
            word.name
        ));
        Err(self.lines.fault_at(fault, first, last))
    }
}

/// What a line says without its continuation character, and whether it had one: a single escape character before
/// trailing blanks.
fn continuation(line: &str, escape: char) -> (&str, bool) {
    let Some(before) = line.trim_end_matches([' ', '\t']).strip_suffix(escape) else {
        return (line, false);
    };
    if before.ends_with(escape) {
        return (line, false);
    }
    (before, true)
}
