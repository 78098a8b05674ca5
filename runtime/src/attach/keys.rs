//! Detach keys: what the user types to leave a container running, `ctrl-p,ctrl-q` by default.

use rctr_storage::explain::Explain;

/// The default sequence.
pub const DEFAULT: &str = "ctrl-p,ctrl-q";

/// `--detach-keys` can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid detach keys ({text}): unknown key '{key}'")]
pub struct InvalidKeys {
    /// All of it.
    pub text: String,
    /// The part.
    pub key: String,
}

impl Explain for InvalidKeys {
    fn hint(&self) -> Option<String> {
        let words = "give single characters or ctrl- and one of a to z @ [ \\ ] ^ _, separated by commas: ctrl-p,ctrl-q";
        Some(words.to_owned())
    }
}

/// Docker's syntax to bytes; empty text is no sequence.
///
/// # Errors
/// A part that is neither one ASCII character nor `ctrl-` and one.
pub fn parse(text: &str) -> Result<Vec<u8>, InvalidKeys> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let byte_of = |key: &str| match key.as_bytes() {
        [byte] if byte.is_ascii() => Some(*byte),
        _ => match key.strip_prefix("ctrl-")?.as_bytes() {
            [byte @ (b'a'..=b'z' | b'@' | b'[' | b'\\' | b']' | b'^' | b'_')] => {
                Some(byte.to_ascii_uppercase() & 0x1f)
            }
            _ => None,
        },
    };
    let invalid = |key: &str| InvalidKeys {
        text: text.to_owned(),
        key: key.to_owned(),
    };
    text.split(',')
        .map(|key| byte_of(key).ok_or_else(|| invalid(key)))
        .collect()
}

/// Finds the sequence in what is typed. A beginning of it is held back until it is clear that it isn't one.
#[derive(Debug, Clone, Default)]
pub struct Matcher {
    keys: Vec<u8>,
    matched: usize,
}

impl Matcher {
    /// For the bytes of [`parse`]; none: nothing matches.
    #[must_use]
    pub fn new(keys: Vec<u8>) -> Self {
        Self { keys, matched: 0 }
    }

    /// Appends what goes to the container to `out`; true: the sequence is complete, the rest of `input` is dropped.
    pub fn filter(&mut self, input: &[u8], out: &mut Vec<u8>) -> bool {
        if self.keys.is_empty() {
            out.extend_from_slice(input);
            return false;
        }
        for byte in input {
            if *byte != self.keys[self.matched] && self.matched > 0 {
                // What was held back is only typed text; `byte` may begin the sequence anew.
                out.extend_from_slice(&self.keys[..self.matched]);
                self.matched = 0;
            }
            if *byte != self.keys[self.matched] {
                out.push(*byte);
                continue;
            }
            self.matched += 1;
            if self.matched == self.keys.len() {
                self.matched = 0;
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_parsed() {
        assert_eq!(parse(DEFAULT).unwrap(), [16, 17]);
        assert_eq!(parse("a,ctrl-@,ctrl-[").unwrap(), [b'a', 0, 27]);
        assert!(parse("").unwrap().is_empty());
        assert!(parse("ctrl-").is_err());
        assert!(parse("shift-a").is_err());
        assert!(parse("ctrl-p,").is_err());
    }

    #[test]
    fn a_half_sequence_is_typed_text() {
        let mut matcher = Matcher::new(parse(DEFAULT).unwrap());
        let mut out = Vec::new();
        assert!(!matcher.filter(b"ls\x10", &mut out));
        assert_eq!(out, b"ls");
        assert!(!matcher.filter(b"x", &mut out));
        assert_eq!(out, b"ls\x10x");
        assert!(!matcher.filter(b"\x10\x10", &mut out));
        assert!(matcher.filter(b"\x11rest", &mut out));
        assert_eq!(out, b"ls\x10x\x10");
    }
}
