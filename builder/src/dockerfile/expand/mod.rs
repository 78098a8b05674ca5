//! Variables, quotes and escapes of words, as a POSIX shell means them: what BuildKit's Dockerfile reference calls
//! "environment replacement".
//!
//! ```text
//! $name  ${name}                 the value, or nothing
//! ${name:-word}  ${name-word}    word if unset or empty / if unset
//! ${name:+word}  ${name+word}    word if set and not empty / if set
//! ${name:?word}  ${name?word}    an error if unset or empty / if unset
//! ${name#p} ${name##p}           without the shortest / longest beginning that matches
//! ${name%p} ${name%%p}           without the shortest / longest end that matches
//! ${name/p/text} ${name//p/text} the first match / all matches replaced
//! ```
//!
//! Words within braces are expanded in turn. Positional and special parameters (`$1`, `$@`) are unset. The values come
//! from strangers (`ENV A=$A$A`, forty times), so depth and size have limits.

mod lexer;
mod pattern;

use std::cell::RefCell;

use lexer::{Lexer, Quotes};

/// Why a word can't be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to process {}: {problem}", shown(.word))]
pub struct ExpandError {
    /// The word.
    pub word: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a word.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A quote without its match.
    #[error("unexpected end of statement while looking for matching {0}-quote")]
    Quote(&'static str),
    /// `${name` without its end.
    #[error("syntax error: missing '}}'")]
    Brace,
    /// `${name/pattern` without a replacement.
    #[error("syntax error: missing '/' in ${{}}")]
    Slash,
    /// `${}`.
    #[error("syntax error: bad substitution")]
    BadSubstitution,
    /// `${name=x}`.
    #[error("unsupported modifier ({0}) in substitution")]
    Modifier(String),
    /// `${name?message}` of an unset variable.
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// What the Dockerfile says about that.
        message: String,
    },
    /// `${name#\}`.
    #[error("invalid pattern ({0}) in substitution: it ends in an escape")]
    Pattern(String),
    /// A long pattern tried on a long value.
    #[error("pattern and value are too long to be compared")]
    Work,
    /// Braces in braces in braces.
    #[error("substitutions are nested more than {0} deep")]
    Depth(usize),
    /// Values that grow into one another.
    #[error("the result is larger than {} MiB", .0 >> 20)]
    Size(usize),
}

/// The beginning of a word, quoted: a word may be a heredoc of megabytes.
fn shown(word: &str) -> String {
    const MOST: usize = 80;
    match word.char_indices().nth(MOST) {
        Some((end, _)) => format!("{:?}…", &word[..end]),
        None => format!("{word:?}"),
    }
}

/// Variables, and a note of those that were asked for in vain.
pub struct Scope<'a> {
    get: &'a dyn Fn(&str) -> Option<String>,
    escape: char,
    missing: RefCell<Vec<String>>,
}

impl<'a> Scope<'a> {
    /// `get` finds a variable's value; `escape` is the Dockerfile's escape character.
    #[must_use]
    pub fn new(get: &'a dyn Fn(&str) -> Option<String>, escape: char) -> Self {
        Self {
            get,
            escape,
            missing: RefCell::default(),
        }
    }

    /// As [`word`].
    pub fn word(&self, text: &str) -> Result<String, ExpandError> {
        Ok(self.run(text, self.escape, Quotes::Removed)?.text)
    }

    /// As [`words`].
    pub fn words(&self, text: &str) -> Result<Vec<String>, ExpandError> {
        Ok(self.run(text, self.escape, Quotes::Removed)?.words)
    }

    /// As [`raw`].
    pub fn raw(&self, text: &str) -> Result<String, ExpandError> {
        Ok(self.run(text, '\\', Quotes::Kept)?.text)
    }

    /// Names of variables that were used and aren't set, in the order of their first use. Those with a modifier that
    /// says what then (`${a:-b}`) aren't among them.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        self.missing.borrow().clone()
    }

    fn run(&self, text: &str, escape: char, quotes: Quotes) -> Result<Expanded, ExpandError> {
        Lexer::new(text, self, escape, quotes)
            .run()
            .map_err(|problem| ExpandError {
                word: text.to_owned(),
                problem,
            })
    }

    fn value(&self, name: &str) -> Option<String> {
        (self.get)(name)
    }

    fn note_missing(&self, name: &str) {
        let mut missing = self.missing.borrow_mut();
        if !missing.iter().any(|known| known == name) {
            missing.push(name.to_owned());
        }
    }
}

/// A text with its variables replaced, and the same split at blanks.
struct Expanded {
    text: String,
    words: Vec<String>,
}

/// One word: quotes removed, variables expanded, escapes resolved. Blanks in it stay.
pub fn word(
    text: &str,
    get: &dyn Fn(&str) -> Option<String>,
    escape: char,
) -> Result<String, ExpandError> {
    Scope::new(get, escape).word(text)
}

/// As [`word`], then split at blanks that aren't quoted, those in variables' values included.
pub fn words(
    text: &str,
    get: &dyn Fn(&str) -> Option<String>,
    escape: char,
) -> Result<Vec<String>, ExpandError> {
    Scope::new(get, escape).words(text)
}

/// A heredoc's content: variables expanded, `\` escapes, quotes stay.
pub fn raw(text: &str, get: &dyn Fn(&str) -> Option<String>) -> Result<String, ExpandError> {
    Scope::new(get, '\\').raw(text)
}

#[cfg(test)]
mod tests;
