//! Wildcards in the sources of COPY and ADD: Go's `filepath.Match`, with its peculiarities.
//!
//! A class may match a slash, `*` and `?` don't. And what a `*` has taken isn't given back for what comes behind the
//! next `*`: that only matters for classes that match a slash (`*[^x]*b` doesn't match `cc/b`).

pub use super::glob::BadPattern;
use super::glob::{self, Atom, first};

/// A pattern, read once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// What stands before the first `*`.
    head: Vec<Atom>,
    /// What stands behind each `*`; several `*` side by side are one.
    chunks: Vec<Vec<Atom>>,
}

/// Whether all of `name` is matched by `pattern`.
///
/// # Errors
/// When the pattern is none, whether it would match or not.
pub fn matches(pattern: &str, name: &str) -> Result<bool, BadPattern> {
    Ok(Pattern::parse(pattern)?.matches(name.as_bytes()))
}

/// Whether there is anything in `text` that makes it more than a plain path.
#[must_use]
pub fn has_meta(text: &str) -> bool {
    text.contains(['*', '?', '[', '\\'])
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(pattern: &str) -> Result<Self, BadPattern> {
        let atoms = glob::parse(pattern.as_bytes())?;
        let mut parts = atoms.split(|atom| *atom == Atom::Star);
        let head = parts.next().unwrap_or_default().to_vec();
        let mut chunks: Vec<Vec<Atom>> = parts.map(<[Atom]>::to_vec).collect();
        let last = chunks.pop();
        chunks.retain(|chunk| !chunk.is_empty());
        chunks.extend(last);
        Ok(Self { head, chunks })
    }

    /// Whether all of `name` is matched; any bytes.
    #[must_use]
    pub fn matches(&self, name: &[u8]) -> bool {
        let Some(mut rest) = after(&self.head, name) else {
            return false;
        };
        let Some((last, chunks)) = self.chunks.split_last() else {
            return rest.is_empty();
        };
        for chunk in chunks {
            let Some(next) = starts(rest).find_map(|start| after(chunk, start)) else {
                return false;
            };
            rest = next;
        }
        match last.is_empty() {
            true => !rest.contains(&b'/'),
            false => starts(rest).any(|start| after(last, start) == Some(&[])),
        }
    }
}

/// What is left of `name` behind `chunk` at its start.
fn after<'a>(chunk: &[Atom], mut name: &'a [u8]) -> Option<&'a [u8]> {
    for atom in chunk {
        let (c, len) = first(name)?;
        if !atom.fits(c) {
            return None;
        }
        name = &name[len..];
    }
    Some(name)
}

/// Where what follows a `*` may start, nearest first.
fn starts(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    let end = name.iter().position(|&byte| byte == b'/');
    (0..=end.unwrap_or(name.len())).map(|at| &name[at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_as_documented() {
        for (pattern, name, want) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "abc", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", false),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^b-d]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a[^a]b", "a☺b", true),
            ("a???b", "a☺b", false),
            ("a[^a][^a][^a]b", "a☺b", false),
            ("[a-ζ]*", "α", true),
            ("*[a-ζ]", "A", false),
            ("a?b", "a/b", false),
            ("a*b", "a/b", false),
            ("a[^x]b", "a/b", true),
            ("[\\]a]", "]", true),
            ("[\\-]", "-", true),
            ("[x\\-]", "x", true),
            ("[x\\-]", "-", true),
            ("[x\\-]", "z", false),
            ("[\\-x]", "-", true),
            ("[!a]", "!", true),
            ("[z-a]", "m", false),
            ("[*]", "*", true),
            ("[*]", "a", false),
            ("]", "]", true),
            ("*x", "xxx", true),
            ("**", "ab", true),
            ("a**b", "a/b", false),
            ("**/b", "a/b", true),
            ("**/b", "a/c/b", false),
            ("\\a", "a", true),
            ("*[^x]*b", "cc/b", false),
        ] {
            assert_eq!(matches(pattern, name), Ok(want), "{pattern:?} on {name:?}");
        }
    }

    #[test]
    fn bad_patterns_are_refused_whatever_the_name() {
        for pattern in [
            "[", "[^", "[]a]", "[-]", "[x-]", "[-x]", "[^bc", "a[", "[a-b-c]", "[^]", "\\", "a\\",
            "[a\\", "x*[", "[a-]",
        ] {
            for name in ["", "a", "x/y"] {
                let error = matches(pattern, name).unwrap_err();
                assert_eq!(error.pattern, pattern);
            }
        }
    }

    #[test]
    fn meta_characters_are_found() {
        assert!(["a*", "?", "[a]", "a\\b"].iter().all(|text| has_meta(text)));
        assert!(!has_meta("src/main.c]!"));
    }
}
