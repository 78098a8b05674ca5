//! One pass over a word.

use std::iter::Peekable;
use std::str::Chars;

use super::pattern::Pattern;
use super::{Expanded, Problem, Scope};

/// Braces within braces.
const MOST_DEPTH: usize = 100;
/// Bytes of a word: more than execve(2) takes.
const MOST_WORD: usize = 1 << 20;
/// Bytes of a heredoc's content.
const MOST_CONTENT: usize = 64 << 20;

/// Whether quotes mean something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quotes {
    /// They quote, and aren't in the result.
    Removed,
    /// They are characters like others.
    Kept,
}

impl Quotes {
    /// Bytes that a result may have.
    fn most(self) -> usize {
        match self {
            Self::Removed => MOST_WORD,
            Self::Kept => MOST_CONTENT,
        }
    }
}

/// Whether an escape character that escaped something is in the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escapes {
    Removed,
    /// In patterns, which have escapes of their own.
    Kept,
}

/// What ends a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    End,
    Char(char),
}

pub(super) struct Lexer<'a> {
    chars: Peekable<Chars<'a>>,
    scope: &'a Scope<'a>,
    escape: char,
    quotes: Quotes,
    escapes: Escapes,
    depth: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str, scope: &'a Scope<'a>, escape: char, quotes: Quotes) -> Self {
        Self {
            chars: text.chars().peekable(),
            scope,
            escape,
            quotes,
            escapes: Escapes::Removed,
            depth: 0,
        }
    }

    pub(super) fn run(mut self) -> Result<Expanded, Problem> {
        self.part(Until::End)
    }

    /// Up to `until`, which is taken and isn't in the result.
    fn part(&mut self, until: Until) -> Result<Expanded, Problem> {
        let mut out = Collector::new(self.quotes.most());
        while let Some(&next) = self.chars.peek() {
            if until == Until::Char(next) {
                self.chars.next();
                return Ok(out.finish());
            }
            let quotes = self.quotes == Quotes::Removed;
            match next {
                '$' => out.push_split(&self.dollar()?)?,
                '\'' if quotes => out.push_quoted(&self.single_quoted()?)?,
                '"' if quotes => out.push_quoted(&self.double_quoted()?)?,
                _ => self.plain(&mut out),
            }
        }
        match until {
            Until::End => Ok(out.finish()),
            Until::Char('/') => Err(Problem::Slash),
            Until::Char(_) => Err(Problem::Brace),
        }
    }

    /// As [`Self::part`], escapes kept.
    fn raw_part(&mut self, until: char) -> Result<String, Problem> {
        let before = std::mem::replace(&mut self.escapes, Escapes::Kept);
        let part = self.part(Until::Char(until));
        self.escapes = before;
        Ok(part?.text)
    }

    fn plain(&mut self, out: &mut Collector) {
        let Some(char) = self.chars.next() else {
            return;
        };
        if char != self.escape {
            return out.push(char);
        }
        if self.escapes == Escapes::Kept {
            out.push_escaped(char);
        }
        // An escape character at the very end escapes nothing, and is left out.
        if let Some(escaped) = self.chars.next() {
            out.push_escaped(escaped);
        }
    }

    /// Nothing is special but the quote that ends it.
    fn single_quoted(&mut self) -> Result<String, Problem> {
        self.chars.next();
        let mut text = String::new();
        loop {
            match self.chars.next() {
                None => return Err(Problem::Quote("single")),
                Some('\'') => return Ok(text),
                Some(char) => text.push(char),
            }
        }
    }

    /// Variables are replaced; only `"`, `$` and the escape character can be escaped.
    fn double_quoted(&mut self) -> Result<String, Problem> {
        self.chars.next();
        let mut text = String::new();
        loop {
            match self.chars.peek() {
                None => return Err(Problem::Quote("double")),
                Some('"') => {
                    self.chars.next();
                    return Ok(text);
                }
                Some('$') => {
                    text.push_str(&self.dollar()?);
                    limit(text.len(), self.quotes.most())?;
                }
                Some(_) => self.plain_in_quotes(&mut text),
            }
        }
    }

    fn plain_in_quotes(&mut self, text: &mut String) {
        let Some(char) = self.chars.next() else {
            return;
        };
        if char != self.escape {
            return text.push(char);
        }
        if self.escapes == Escapes::Kept {
            text.push(char);
        }
        match self.chars.peek().copied() {
            None => {}
            Some(next) if next == '"' || next == '$' || next == self.escape => {
                self.chars.next();
                text.push(next);
            }
            Some(_) => text.push(char),
        }
    }

    fn dollar(&mut self) -> Result<String, Problem> {
        self.chars.next();
        if self.chars.peek() != Some(&'{') {
            let name = self.name();
            return Ok(if name.is_empty() {
                "$".to_owned()
            } else {
                self.plain_value(&name)
            });
        }
        self.chars.next();
        match self.chars.peek() {
            None => return Err(Problem::Brace),
            Some('{' | '}' | ':') => return Err(Problem::BadSubstitution),
            Some(_) => {}
        }
        if self.depth == MOST_DEPTH {
            return Err(Problem::Depth(MOST_DEPTH));
        }
        self.depth += 1;
        let name = self.name();
        let value = self.braced(&name);
        self.depth -= 1;
        value
    }

    /// What follows the name in braces.
    fn braced(&mut self, name: &str) -> Result<String, Problem> {
        match self.chars.next() {
            None => Err(Problem::Brace),
            Some('}') => Ok(self.plain_value(name)),
            Some(':') => match self.chars.next() {
                None => Err(Problem::Brace),
                Some(modifier @ ('-' | '+' | '?')) => self.or_word(name, modifier, true),
                Some(other) => Err(Problem::Modifier(format!(":{other}"))),
            },
            Some(modifier @ ('-' | '+' | '?')) => self.or_word(name, modifier, false),
            Some(side @ ('#' | '%')) => self.trimmed(name, side),
            Some('/') => self.replaced(name),
            Some(_) if name.is_empty() => Err(Problem::BadSubstitution),
            Some(other) => Err(Problem::Modifier(other.to_string())),
        }
    }

    /// `-`, `+` and `?`; with a colon before them an empty value is as good as none.
    fn or_word(
        &mut self,
        name: &str,
        modifier: char,
        empty_is_unset: bool,
    ) -> Result<String, Problem> {
        let before = std::mem::replace(&mut self.escapes, Escapes::Removed);
        let word = self.part(Until::Char('}'));
        self.escapes = before;
        let word = word?.text;
        let found = self.scope.value(name);
        let missing = if found.is_none() { "unset" } else { "empty" };
        let value = found.filter(|value| !(empty_is_unset && value.is_empty()));
        match (modifier, value) {
            ('+', Some(_)) | ('-', None) => Ok(word),
            ('+', None) => Ok(String::new()),
            (_, Some(value)) => Ok(value),
            (_, None) => Err(Problem::Required {
                name: name.to_owned(),
                message: if word.is_empty() {
                    format!("is not allowed to be {missing}")
                } else {
                    word
                },
            }),
        }
    }

    /// `#`, `##`, `%` and `%%`.
    fn trimmed(&mut self, name: &str, side: char) -> Result<String, Problem> {
        let word = self.raw_part('}')?;
        let value = self.plain_value(name);
        let longest = word.strip_prefix(side);
        let pattern = Pattern::parse(longest.unwrap_or(&word), &value)?;
        Ok(match (side, longest) {
            ('#', None) => pattern.without_shortest_prefix(&value),
            ('#', Some(_)) => pattern.without_longest_prefix(&value),
            (_, None) => pattern.without_shortest_suffix(&value),
            (_, Some(_)) => pattern.without_longest_suffix(&value),
        }
        .to_owned())
    }

    /// `/` and `//`.
    fn replaced(&mut self, name: &str) -> Result<String, Problem> {
        let all = self.chars.next_if_eq(&'/').is_some();
        let pattern = self.raw_part('/')?;
        let replacement = self.raw_part('}')?;
        let value = self.plain_value(name);
        let pattern = Pattern::parse(&pattern, &value)?;
        let most = self.quotes.most();
        if all {
            pattern.replace_all(&value, &replacement, most)
        } else {
            pattern.replace_first(&value, &replacement, most)
        }
    }

    /// The value, or nothing, which is noted.
    fn plain_value(&self, name: &str) -> String {
        self.scope.value(name).unwrap_or_else(|| {
            if !is_special(name) {
                self.scope.note_missing(name);
            }
            String::new()
        })
    }

    /// A name, a number, or one special character; empty if there is none of them.
    fn name(&mut self) -> String {
        let mut name = String::new();
        match self.chars.peek() {
            Some(first) if first.is_ascii_digit() => {
                while let Some(digit) = self.chars.next_if(char::is_ascii_digit) {
                    name.push(digit);
                }
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => name.extend(self.chars.next()),
            _ => {
                while let Some(char) = self.chars.next_if(|c| c.is_alphanumeric() || *c == '_') {
                    name.push(char);
                }
            }
        }
        name
    }
}

/// Positional and special parameters are never set in a Dockerfile: no check need say so.
fn is_special(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

pub(super) fn limit(size: usize, most: usize) -> Result<(), Problem> {
    if size > most {
        return Err(Problem::Size(most));
    }
    Ok(())
}

/// The result as one text and as words.
struct Collector {
    text: String,
    words: Vec<String>,
    word: String,
    most: usize,
}

impl Collector {
    fn new(most: usize) -> Self {
        Self {
            text: String::new(),
            words: Vec::new(),
            word: String::new(),
            most,
        }
    }

    /// Blanks separate words.
    fn push(&mut self, char: char) {
        self.text.push(char);
        if !char.is_whitespace() {
            self.word.push(char);
        } else if !self.word.is_empty() {
            self.words.push(std::mem::take(&mut self.word));
        }
    }

    fn push_escaped(&mut self, char: char) {
        self.text.push(char);
        self.word.push(char);
    }

    fn push_split(&mut self, text: &str) -> Result<(), Problem> {
        text.chars().for_each(|char| self.push(char));
        limit(self.text.len(), self.most)
    }

    fn push_quoted(&mut self, text: &str) -> Result<(), Problem> {
        self.text.push_str(text);
        self.word.push_str(text);
        limit(self.text.len(), self.most)
    }

    fn finish(mut self) -> Expanded {
        if !self.word.is_empty() {
            self.words.push(self.word);
        }
        Expanded {
            text: self.text,
            words: self.words,
        }
    }
}
