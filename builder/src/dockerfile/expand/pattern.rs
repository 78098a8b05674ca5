//! Patterns of `${name#pattern}` and its like: `*` any characters, `?` one, `\` escapes.
//!
//! A pattern is run as a set of places in it that can be reached, so the time is at worst the product of the two
//! lengths, whatever the stars.

use super::Problem;
use super::lexer::limit;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Char(char),
    One,
    Any,
}

impl Token {
    fn takes(self, char: char) -> bool {
        match self {
            Self::Char(own) => own == char,
            Self::One | Self::Any => true,
        }
    }
}

/// Product of the lengths of pattern and value: a second's work.
const MOST_WORK: usize = 1 << 26;

pub(super) struct Pattern(Vec<Token>);

/// Places before tokens (the last: behind all) that can be reached with what was read, in rising order.
struct Reached<'p> {
    tokens: &'p [Token],
    places: Vec<usize>,
}

impl<'p> Reached<'p> {
    fn nothing(tokens: &'p [Token]) -> Self {
        Self {
            tokens,
            places: Vec::new(),
        }
    }

    /// Adds a place, and those behind it that need no character. Places are added in rising order.
    fn add(&mut self, place: usize) {
        let mut place = place;
        loop {
            if self.places.last().is_none_or(|last| *last < place) {
                self.places.push(place);
            }
            if self.tokens.get(place) != Some(&Token::Any) {
                return;
            }
            place += 1;
        }
    }

    fn read(&mut self, char: char) {
        let before = std::mem::take(&mut self.places);
        for place in before {
            match self.tokens.get(place) {
                Some(Token::Any) => self.add(place),
                Some(token) if token.takes(char) => self.add(place + 1),
                _ => {}
            }
        }
    }

    fn matched(&self) -> bool {
        self.places.last() == Some(&self.tokens.len())
    }
}

impl Pattern {
    /// A pattern to be tried on `value`.
    pub(super) fn parse(text: &str, value: &str) -> Result<Self, Problem> {
        if text.len().saturating_mul(value.len()) > MOST_WORK {
            return Err(Problem::Work);
        }
        let mut tokens = Vec::new();
        let mut chars = text.chars();
        while let Some(char) = chars.next() {
            tokens.push(match char {
                '*' if tokens.last() == Some(&Token::Any) => continue,
                '*' => Token::Any,
                '?' => Token::One,
                '\\' => match chars.next() {
                    Some(escaped) => Token::Char(escaped),
                    None => return Err(Problem::Pattern(text.to_owned())),
                },
                char => Token::Char(char),
            });
        }
        Ok(Self(tokens))
    }

    fn reversed(&self) -> Self {
        Self(self.0.iter().rev().copied().collect())
    }

    pub(super) fn without_shortest_prefix<'v>(&self, value: &'v str) -> &'v str {
        let length = self.matches(value.chars(), Wanted::Shortest);
        &value[length.unwrap_or(0)..]
    }

    pub(super) fn without_longest_prefix<'v>(&self, value: &'v str) -> &'v str {
        let length = self.matches(value.chars(), Wanted::Longest);
        &value[length.unwrap_or(0)..]
    }

    pub(super) fn without_shortest_suffix<'v>(&self, value: &'v str) -> &'v str {
        let length = self
            .reversed()
            .matches(value.chars().rev(), Wanted::Shortest);
        &value[..value.len() - length.unwrap_or(0)]
    }

    pub(super) fn without_longest_suffix<'v>(&self, value: &'v str) -> &'v str {
        let length = self
            .reversed()
            .matches(value.chars().rev(), Wanted::Longest);
        &value[..value.len() - length.unwrap_or(0)]
    }

    pub(super) fn replace_first(
        &self,
        value: &str,
        with: &str,
        most: usize,
    ) -> Result<String, Problem> {
        let starts = self.starts(value);
        let Some(start) = starts.iter().position(|start| *start) else {
            return Ok(value.to_owned());
        };
        let end = start + self.longest(&value[start..]);
        let out = [&value[..start], with, &value[end..]].concat();
        limit(out.len(), most)?;
        Ok(out)
    }

    /// Matches don't overlap; an empty one right behind another doesn't count.
    pub(super) fn replace_all(
        &self,
        value: &str,
        with: &str,
        most: usize,
    ) -> Result<String, Problem> {
        let starts = self.starts(value);
        let mut out = String::new();
        let mut copied = 0;
        let mut at = 0;
        let mut last_end = None;
        while at <= value.len() {
            let length = if starts[at] {
                self.longest(&value[at..])
            } else {
                0
            };
            if starts[at] && (length > 0 || last_end != Some(at)) {
                out.push_str(&value[copied..at]);
                out.push_str(with);
                limit(out.len(), most)?;
                copied = at + length;
                last_end = Some(copied);
            }
            at += if length > 0 {
                length
            } else {
                value[at..].chars().next().map_or(1, char::len_utf8)
            };
        }
        out.push_str(&value[copied..]);
        limit(out.len(), most)?;
        Ok(out)
    }

    /// For each byte of `value`, and its end, whether a match begins there: the pattern run backwards from everywhere.
    fn starts(&self, value: &str) -> Vec<bool> {
        let reversed = self.reversed();
        let mut starts = vec![false; value.len() + 1];
        let mut reached = Reached::nothing(&reversed.0);
        reached.add(0);
        starts[value.len()] = reached.matched();
        for (at, char) in value.char_indices().rev() {
            reached.read(char);
            let behind = std::mem::take(&mut reached.places);
            reached.add(0);
            for place in behind {
                reached.add(place);
            }
            starts[at] = reached.matched();
        }
        starts
    }

    fn longest(&self, value: &str) -> usize {
        self.matches(value.chars(), Wanted::Longest).unwrap_or(0)
    }

    /// The length in bytes of a match at the beginning of `chars`.
    fn matches(&self, chars: impl Iterator<Item = char>, wanted: Wanted) -> Option<usize> {
        let mut reached = Reached::nothing(&self.0);
        reached.add(0);
        let mut found = reached.matched().then_some(0);
        let mut length = 0;
        for char in chars {
            if reached.places.is_empty() || (found.is_some() && wanted == Wanted::Shortest) {
                break;
            }
            reached.read(char);
            length += char.len_utf8();
            if reached.matched() {
                found = Some(length);
            }
        }
        found
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Shortest,
    Longest,
}
