//! `.dockerignore`: what of a context isn't there for the build.
//!
//! The rules are those of docker's own matcher, as BuildKit walks with it:
//! - A pattern is matched against whole paths, `/` between names, none at the start.
//! - What matches a directory matches all below. The last pattern that matches decides; `!` re-includes.
//! - `**` is any number of directories: `a/**/b`, `**/b`. At the end it is anything: `a/**` is all below `a`, not `a`.
//! - Of a directory's own results, children see those that were needed to decide it: a pattern that couldn't change the
//!   verdict on the directory (it excludes, and the directory was excluded already) isn't inherited. So `x`, `!x/y`,
//!   `x*` leaves `x/y` in, though `x*` matches `x`.
//!
//! Where that matcher turns a pattern into a regular expression that means something else than what is documented
//! (`[*]`, `\d`, `^`), the documented meaning holds here.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::compiled::Compiled;
use super::glob::BadPattern;

/// Bytes in a line, as docker bounds it.
const LONGEST_LINE: usize = 64 * 1024 - 1;

/// What is wrong with an ignore file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct IgnoreError {
    /// Counted from 1.
    pub line: usize,
    /// One phrase.
    pub problem: String,
}

/// Patterns, read once.
#[derive(Debug, Default)]
pub struct Ignore {
    rules: Vec<Rule>,
    /// The directory asked about last: walks ask for all names of a directory, one after the other.
    last: Mutex<Option<(Vec<u8>, Verdict)>>,
}

#[derive(Debug, Clone)]
struct Rule {
    /// `!`.
    reinclude: bool,
    pattern: Compiled,
}

/// What the rules say about a path; the paths below need it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the path is excluded.
    pub excluded: bool,
    /// The rules that matched, one bit each.
    matched: Vec<u64>,
}

impl Clone for Ignore {
    fn clone(&self) -> Self {
        Self {
            rules: self.rules.clone(),
            last: Mutex::default(),
        }
    }
}

impl Ignore {
    /// Excludes nothing.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Reads an ignore file.
    ///
    /// # Errors
    /// When a line is no pattern, or longer than 64 KiB.
    pub fn parse(text: &[u8]) -> Result<Self, IgnoreError> {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let mut rules = Vec::new();
        for (index, line) in text.split(|&byte| byte == b'\n').enumerate() {
            let fail = |problem| IgnoreError {
                line: index + 1,
                problem,
            };
            if line.len() > LONGEST_LINE {
                return Err(fail(format!(
                    "{} bytes, more than a line may have",
                    line.len()
                )));
            }
            let pattern = trim(line);
            if line.starts_with(b"#") || pattern.is_empty() {
                continue;
            }
            let (reinclude, pattern) = match pattern.strip_prefix(b"!") {
                Some(rest) => (true, trim(rest)),
                None => (false, pattern),
            };
            let cleaned = clean(pattern);
            let relative = cleaned.strip_prefix(b"/").unwrap_or(&cleaned);
            if reinclude && (pattern.is_empty() || relative.is_empty()) {
                return Err(fail("nothing follows the !".to_owned()));
            }
            // A mere slash matches nothing.
            if !relative.is_empty() {
                let pattern = Compiled::new(relative).map_err(|error| fail(error.to_string()))?;
                rules.push(Rule { reinclude, pattern });
            }
        }
        Ok(Self {
            rules,
            last: Mutex::default(),
        })
    }

    /// Patterns given one by one, as `COPY --exclude` has them: no comments, and a leading slash stays.
    ///
    /// # Errors
    /// When one is no pattern.
    pub fn from_patterns<S: AsRef<str>>(patterns: &[S]) -> Result<Self, BadPattern> {
        let mut rules = Vec::new();
        for given in patterns {
            let pattern = trim(given.as_ref().as_bytes());
            if pattern.is_empty() {
                continue;
            }
            let pattern = clean(pattern);
            let (reinclude, rest) = match pattern.strip_prefix(b"!") {
                Some(rest) => (true, rest),
                None => (false, &*pattern),
            };
            if rest.is_empty() {
                return Err(BadPattern {
                    pattern: given.as_ref().to_owned(),
                    problem: "nothing follows the !",
                });
            }
            let pattern = Compiled::new(rest)?;
            rules.push(Rule { reinclude, pattern });
        }
        Ok(Self {
            rules,
            last: Mutex::default(),
        })
    }

    /// Whether nothing is excluded at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.iter().all(|rule| rule.reinclude)
    }

    /// Whether `path` (relative to the context's root, no leading slash) isn't there for the build. Patterns don't tell
    /// directories from files.
    #[must_use]
    pub fn excludes(&self, path: &Path, _is_dir: bool) -> bool {
        let path = path.as_os_str().as_bytes();
        if self.is_empty() || path.is_empty() || path == b"." {
            return false;
        }
        let parent = match path.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => &path[..slash],
            None => &[],
        };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(&*last, Some((directory, _)) if directory == parent) {
            *last = Some((parent.to_vec(), self.judge_directory(parent)));
        }
        let above = last.as_ref().map(|(_, verdict)| verdict);
        self.decide(path, above.unwrap_or(&Verdict::default()), None)
    }

    /// The verdict on `path`, whose directory has the verdict `above` (the root's is the default). For walks that keep the
    /// verdicts themselves.
    #[must_use]
    pub fn judge(&self, path: &Path, above: &Verdict) -> Verdict {
        let mut verdict = Verdict {
            excluded: false,
            matched: vec![0; self.rules.len().div_ceil(64)],
        };
        let path = path.as_os_str().as_bytes();
        verdict.excluded = self.decide(path, above, Some(&mut verdict.matched));
        verdict
    }

    /// Whether something below the excluded directory `dir` may be re-included. When not, nobody needs to look.
    #[must_use]
    pub fn may_reinclude_below(&self, dir: &Path) -> bool {
        let mut prefix = dir.as_os_str().as_bytes().to_vec();
        if prefix.is_empty() || prefix == b"." {
            return self.rules.iter().any(|rule| rule.reinclude);
        }
        prefix.push(b'/');
        let may = |rule: &Rule| rule.reinclude && rule.pattern.may_match_below(&prefix);
        self.rules.iter().any(may)
    }

    fn judge_directory(&self, path: &[u8]) -> Verdict {
        let mut verdict = Verdict::default();
        if path.is_empty() {
            return verdict;
        }
        let ends = path.iter().enumerate().filter(|&(_, &byte)| byte == b'/');
        for end in ends.map(|(at, _)| at).chain([path.len()]) {
            verdict = self.judge(Path::new(OsStr::from_bytes(&path[..end])), &verdict);
        }
        verdict
    }

    fn decide(&self, path: &[u8], above: &Verdict, mut note: Option<&mut Vec<u64>>) -> bool {
        let mut excluded = false;
        let slashes = path.iter().filter(|&&byte| byte == b'/').count();
        for (index, rule) in self.rules.iter().enumerate() {
            let (word, bit) = (index / 64, 1 << (index % 64));
            let inherited = above.matched.get(word).is_some_and(|bits| bits & bit != 0);
            let could_change = rule.reinclude == excluded;
            if inherited || (could_change && rule.pattern.matches(path, slashes)) {
                excluded = !rule.reinclude;
                if let Some(matched) = &mut note {
                    matched[word] |= bit;
                }
            }
        }
        excluded
    }
}

/// Without white space at both ends.
fn trim(line: &[u8]) -> &[u8] {
    match std::str::from_utf8(line) {
        Ok(text) => text.trim().as_bytes(),
        Err(_) => line.trim_ascii(),
    }
}

/// Go's `filepath.Clean`: `.` and `..` resolved as text, no slash twice or at the end; nothing is `.`.
pub(super) fn clean(path: &[u8]) -> Cow<'_, [u8]> {
    let rooted = path.starts_with(b"/");
    let mut names: Vec<&[u8]> = Vec::new();
    for name in path.split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => match names.last() {
                Some(&last) if last != b".." => drop(names.pop()),
                _ if rooted => {}
                _ => names.push(name),
            },
            _ => names.push(name),
        }
    }
    let joined = names.join(&b'/');
    Cow::Owned(match (rooted, joined.is_empty()) {
        (true, _) => [b"/", &*joined].concat(),
        (false, true) => b".".to_vec(),
        (false, false) => joined,
    })
}

#[cfg(test)]
#[path = "ignore_tests.rs"]
mod tests;
