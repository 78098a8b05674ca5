//! `--filter NAME=VALUE`: several values of one name are alternatives, several names must all fit.

use regex_lite::Regex;

use crate::report::{ENGINE, Failure};

/// The filters of one command.
#[derive(Debug, Default)]
pub(crate) struct Filters {
    words: Vec<(String, String)>,
}

impl Filters {
    /// Reads `NAME=VALUE` words; `known` are the names that the command has.
    ///
    /// # Errors
    /// When a word has no `=`, or the name isn't known.
    pub(crate) fn parse<'a>(
        words: impl IntoIterator<Item = &'a String>,
        known: &[&str],
    ) -> Result<Self, Failure> {
        let mut filters = Self::default();
        for word in words {
            let Some((name, value)) = word.split_once('=') else {
                return Err(Failure::new(format!(
                    "invalid argument {word:?} for \"-f, --filter\" flag: \
                     invalid filter '{word}' (want NAME=VALUE)"
                ))
                .code(ENGINE)
                .hint(format!("filters: {}", known.join(", "))));
            };
            let name = name.trim().to_lowercase();
            if !known.contains(&name.as_str()) {
                return Err(Failure::new(format!("invalid filter '{name}'"))
                    .hint(format!("filters: {}", known.join(", "))));
            }
            filters.words.push((name, value.trim().to_owned()));
        }
        Ok(filters)
    }

    /// All values of a filter.
    pub(crate) fn values(&self, name: &str) -> impl Iterator<Item = &str> + Clone {
        self.words
            .iter()
            .filter(move |(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    /// Whether the filter is given.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.values(name).next().is_some()
    }

    /// Whether the filter isn't given, or one of its values is `fits`.
    pub(crate) fn any(&self, name: &str, fits: impl FnMut(&str) -> bool) -> bool {
        !self.has(name) || self.values(name).any(fits)
    }

    /// Whether a truth value is wanted, for example by `dangling=true`.
    ///
    /// # Errors
    /// When it is no truth value.
    pub(crate) fn truth(&self, name: &str) -> Result<Option<bool>, Failure> {
        self.values(name)
            .last()
            .map(|value| {
                crate::request::values::parse_bool(value).map_err(|_| {
                    Failure::new(format!("invalid filter '{name}={value}'"))
                        .hint(format!("write {name}=true or {name}=false"))
                })
            })
            .transpose()
    }

    /// The patterns of a filter whose values are regular expressions.
    ///
    /// # Errors
    /// When one isn't.
    pub(crate) fn patterns(&self, name: &str) -> Result<Patterns, Failure> {
        let patterns = self.values(name).map(|value| {
            // A plain word is not worth a compilation.
            let regex = if value
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_-/".contains(&b))
            {
                None
            } else {
                Some(Regex::new(value).map_err(|_| {
                    Failure::new(format!("invalid filter '{name}={value}'"))
                        .hint("the value is a regular expression")
                })?)
            };
            Ok((value.to_owned(), regex))
        });
        Ok(Patterns(patterns.collect::<Result<_, Failure>>()?))
    }

    /// Whether all `label=KEY` and `label=KEY=VALUE` filters fit, and no `label!=` one does.
    pub(crate) fn labels<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        let fits = |wanted: &str| match wanted.split_once('=') {
            Some((key, value)) => label(key) == Some(value),
            None => label(wanted).is_some(),
        };
        self.values("label").all(fits) && !self.values("label!").any(fits)
    }
}

/// Regular expressions, one of which must be found; none fits all.
pub(crate) struct Patterns(Vec<(String, Option<Regex>)>);

impl Patterns {
    /// Whether a pattern is found in `text`.
    pub(crate) fn fit(&self, text: &str) -> bool {
        self.0.is_empty()
            || self.0.iter().any(|(word, regex)| match regex {
                None => text.contains(word.as_str()),
                Some(regex) => text == word || regex.is_match(text),
            })
    }
}

/// Shell-like patterns as Go's path.Match has them: `*` and `?` stop at `/`, `[a-z]`, `[^a]`, `\` takes the next
/// character as it is.
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    let (mut p, mut t) = (0, 0);
    // Where to go on when what follows a star doesn't fit: one star is remembered, so this is at worst quadratic.
    let mut retry = None;
    while t < text.len() {
        if pattern.get(p) == Some(&'*') {
            retry = Some((p, t));
            p += 1;
            continue;
        }
        if let Some(width) = one(&pattern[p..], text[t]) {
            p += width;
            t += 1;
            continue;
        }
        match retry {
            Some((star, from)) if text[from] != '/' => {
                retry = Some((star, from + 1));
                p = star + 1;
                t = from + 1;
            }
            _ => return false,
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// Whether the first element of `pattern` is `c`, and how long the element is.
fn one(pattern: &[char], c: char) -> Option<usize> {
    match *pattern.first()? {
        '?' => (c != '/').then_some(1),
        '\\' => (pattern.get(1) == Some(&c)).then_some(2),
        '[' => class(pattern, c),
        plain => (plain == c).then_some(1),
    }
}

fn class(pattern: &[char], c: char) -> Option<usize> {
    let negated = pattern.get(1) == Some(&'^');
    let mut at = if negated { 2 } else { 1 };
    let mut found = false;
    while *pattern.get(at)? != ']' {
        let low = *pattern.get(at)?;
        let high = if pattern.get(at + 1) == Some(&'-') {
            at += 2;
            *pattern.get(at)?
        } else {
            low
        };
        found |= (low..=high).contains(&c);
        at += 1;
    }
    (found != negated && c != '/').then_some(at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(words: &[&str]) -> Result<Filters, Failure> {
        let words: Vec<_> = words.iter().map(|w| (*w).to_owned()).collect();
        Filters::parse(&words, &["name", "label", "label!", "dangling"])
    }

    #[test]
    fn globs() {
        for (pattern, text, want) in [
            ("*", "ubuntu", true),
            ("*", "me/app", false),
            ("*/*", "me/app", true),
            ("ub*", "ubuntu", true),
            ("u*n*u", "ubuntu", true),
            ("u?untu", "ubuntu", true),
            ("[a-z]bunt[^x]", "ubuntu", true),
            ("[b-c]*", "ubuntu", false),
            ("ubuntu", "ubuntu", true),
            ("ubuntu", "ubuntu2", false),
            ("app:1.*", "app:1.0", true),
            ("a\\*b", "a*b", true),
            ("[a", "a", false),
            ("", "", true),
            ("a*", "", false),
        ] {
            assert_eq!(glob(pattern, text), want, "{pattern} {text}");
        }
    }

    #[test]
    fn names_are_patterns() {
        let fit = |filter: &str, text: &str| {
            let filters = filters(&[filter]).unwrap();
            filters.patterns("name").unwrap().fit(text)
        };
        assert!(fit("name=web", "myweb2"));
        assert!(fit("name=^/?web$", "web"));
        assert!(!fit("name=^web$", "myweb"));
        assert!(fit("name=a|web", "web"));
        assert!(filters(&["name=["]).unwrap().patterns("name").is_err());
    }

    #[test]
    fn labels_must_all_fit() {
        let labels = |words: &[&str]| {
            let label = |key: &str| match key {
                "a" => Some("1"),
                "b" => Some(""),
                _ => None,
            };
            filters(words).unwrap().labels(label)
        };
        assert!(labels(&["label=a", "label=b"]));
        assert!(labels(&["label=a=1"]));
        assert!(!labels(&["label=a=2"]));
        assert!(!labels(&["label=a", "label=c"]));
        assert!(!labels(&["label!=b"]));
        assert!(labels(&["label!=c"]));
    }

    #[test]
    fn unknown_filters_are_refused() {
        let refused = |word: &str| filters(&[word]).unwrap_err();
        assert_eq!(refused("color=red").message, "invalid filter 'color'");
        assert_eq!((refused("x").code, refused("color=x").code), (125, 1));
        assert!(
            filters(&["dangling=maybe"])
                .unwrap()
                .truth("dangling")
                .is_err()
        );
    }
}
