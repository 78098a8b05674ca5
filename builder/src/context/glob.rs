//! The words that both kinds of patterns are made of, as Go's `filepath.Match` reads them.
//!
//! ```text
//! *      any characters but /          [a-z]  one of these, / among them     \c  the character c
//! ?      one character but /           [^a]   one that isn't one of these    c   itself
//! ```

/// A pattern that isn't one: an open `[`, an empty class, a range without an end, `\` at the end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{pattern:?} is no valid pattern: {problem}")]
pub struct BadPattern {
    /// As it was given.
    pub pattern: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

/// A character; a byte that isn't UTF-8 is a character of its own, beyond Unicode.
pub(super) type Char = u32;

/// The slash.
pub(super) const SLASH: Char = b'/' as Char;

/// What a byte that isn't UTF-8 is added to.
const NOT_UTF8: Char = 0x11_0000;

/// A part of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Atom {
    /// Itself.
    Char(Char),
    /// `?`.
    Any,
    /// `[…]`.
    Class(Class),
    /// `*`; several side by side are as many atoms.
    Star,
}

/// `[…]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Class {
    negated: bool,
    /// From and to, both included.
    ranges: Vec<(Char, Char)>,
}

impl Class {
    /// Whether `c` is meant.
    pub(super) fn holds(&self, c: Char) -> bool {
        let among = |&(from, to): &(Char, Char)| from <= c && c <= to;
        self.ranges.iter().any(among) != self.negated
    }

    /// Whether a range ends before it begins: `[z-a]`.
    pub(super) fn is_backwards(&self) -> bool {
        self.ranges.iter().any(|(from, to)| from > to)
    }
}

impl Atom {
    /// Whether a single character fits. Not for [`Atom::Star`].
    pub(super) fn fits(&self, c: Char) -> bool {
        match self {
            Self::Char(own) => *own == c,
            Self::Any => c != SLASH,
            Self::Class(class) => class.holds(c),
            Self::Star => false,
        }
    }
}

/// The first character of `bytes` and its length; `None` at the end.
pub(super) fn first(bytes: &[u8]) -> Option<(Char, usize)> {
    let byte = *bytes.first()?;
    if byte < 0x80 {
        return Some((Char::from(byte), 1));
    }
    let head = &bytes[..bytes.len().min(4)];
    let valid = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default(),
    };
    Some(match valid.chars().next() {
        Some(c) => (Char::from(c), c.len_utf8()),
        None => (NOT_UTF8 + Char::from(byte), 1),
    })
}

/// The bytes that `c` was.
pub(super) fn push(out: &mut Vec<u8>, c: Char) {
    match char::from_u32(c) {
        Some(c) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        None => out.extend(u8::try_from(c.wrapping_sub(NOT_UTF8))),
    }
}

/// The characters of `bytes`.
pub(super) fn chars(mut bytes: &[u8]) -> impl Iterator<Item = Char> {
    std::iter::from_fn(move || {
        let (c, len) = first(bytes)?;
        bytes = &bytes[len..];
        Some(c)
    })
}

/// Reads a pattern.
pub(super) fn parse(pattern: &[u8]) -> Result<Vec<Atom>, BadPattern> {
    let bad = |problem| BadPattern {
        pattern: String::from_utf8_lossy(pattern).into_owned(),
        problem,
    };
    let mut rest = chars(pattern).peekable();
    let mut atoms = Vec::with_capacity(pattern.len());
    while let Some(c) = rest.next() {
        atoms.push(match u8::try_from(c) {
            Ok(b'*') => Atom::Star,
            Ok(b'?') => Atom::Any,
            Ok(b'[') => Atom::Class(class(&mut rest).map_err(bad)?),
            Ok(b'\\') => {
                let next = rest.next();
                Atom::Char(next.ok_or_else(|| bad("nothing follows the last \\"))?)
            }
            _ => Atom::Char(c),
        });
    }
    Ok(atoms)
}

/// What follows a `[`.
fn class(
    rest: &mut std::iter::Peekable<impl Iterator<Item = Char>>,
) -> Result<Class, &'static str> {
    const CARET: Char = b'^' as Char;
    const DASH: Char = b'-' as Char;
    const CLOSE: Char = b']' as Char;
    let negated = rest.next_if_eq(&CARET).is_some();
    let mut ranges = Vec::new();
    loop {
        if !ranges.is_empty() && rest.next_if_eq(&CLOSE).is_some() {
            return Ok(Class { negated, ranges });
        }
        let from = member(rest)?;
        let to = match rest.next_if_eq(&DASH) {
            Some(_) => member(rest)?,
            None => from,
        };
        ranges.push((from, to));
    }
}

/// One character in a class.
fn member(rest: &mut impl Iterator<Item = Char>) -> Result<Char, &'static str> {
    const OPEN: &str = "a [ isn't closed";
    let c = rest.next().ok_or(OPEN)?;
    match u8::try_from(c) {
        Ok(b'\\') => rest.next().ok_or(OPEN),
        Ok(b']') => {
            Err("a class has nothing in it, or a range has no end: write \\] for the character")
        }
        Ok(b'-') => Err("a range has no beginning or no end: write \\- for the character"),
        _ if c >= NOT_UTF8 => Err("a class has a byte that isn't UTF-8"),
        _ => Ok(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_not_utf8_are_characters() {
        let got: Vec<Char> = chars(b"a\xff\xc3\xa9\xe2\x82").collect();
        let (ff, e2, x82) = (NOT_UTF8 + 0xff, NOT_UTF8 + 0xe2, NOT_UTF8 + 0x82);
        assert_eq!(got, [0x61, ff, 0xe9, e2, x82]);
    }
}
