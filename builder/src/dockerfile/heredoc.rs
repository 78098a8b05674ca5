//! `<<NAME` words.

use super::ast::Heredoc;
use super::lines::Document;
use super::words;

/// A `<<NAME` in an instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    /// Without quotes.
    pub(super) name: String,
    /// `<<-`: tabs that begin lines don't count.
    pub(super) chomp: bool,
    /// Nothing of the name was quoted.
    pub(super) expand: bool,
    pub(super) fd: u32,
}

/// The heredocs that a line announces. None if its quotes don't match.
pub(super) fn words_of(line: &str) -> Vec<Word> {
    words::shell_words(line)
        .unwrap_or_default()
        .into_iter()
        .filter_map(parse)
        .collect()
}

/// `[FD]<<[-]NAME` and nothing else: `<<<` and `cat<<EOF` are the shell's.
pub(super) fn parse(word: &str) -> Option<Word> {
    let digits = word.len() - word.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (fd, rest) = word.split_at(digits);
    let rest = rest.strip_prefix("<<")?;
    let (chomp, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    if rest.is_empty() || rest.contains('<') {
        return None;
    }
    let name = words::without_quotes(rest, '\\')?;
    Some(Word {
        expand: name == rest,
        name,
        chomp,
        fd: fd.parse().unwrap_or(0),
    })
}

impl Document {
    pub(super) fn into_heredoc(self) -> Heredoc {
        let content = if self.word.chomp {
            self.content
                .split_inclusive('\n')
                .map(|line| line.trim_start_matches('\t'))
                .collect()
        } else {
            self.content
        };
        Heredoc {
            name: self.word.name,
            content,
            expand: self.word.expand,
            fd: self.word.fd,
        }
    }
}
