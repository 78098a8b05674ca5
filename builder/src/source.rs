//! Places in a Dockerfile: what every error and warning about it carries.

use std::sync::Arc;

/// Lines of a Dockerfile, counted from 1, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The first.
    pub first: usize,
    /// The last.
    pub last: usize,
}

/// A Dockerfile's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// As shown in messages: `Dockerfile`, or the path that was given.
    pub name: String,
    /// Without their ends.
    pub lines: Vec<String>,
}

/// A place in a Dockerfile that something is said about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: Arc<SourceFile>,
    /// The lines.
    pub span: Span,
}

/// Lines of context around the marked ones.
const AROUND: usize = 2;

impl Place {
    /// The marked lines with their neighbours, as BuildKit shows them: `Dockerfile:3`, a rule, numbered lines (the
    /// marked ones with `>>>`), a rule.
    #[must_use]
    pub fn excerpt(&self) -> String {
        const RULE: &str = "--------------------\n";
        let lines = &self.file.lines;
        let first = self.span.first.saturating_sub(AROUND).max(1);
        let last = (self.span.last + AROUND).min(lines.len());
        let mut out = format!("{}:{}\n{RULE}", self.file.name, self.span.first);
        for number in first..=last {
            let marked = (self.span.first..=self.span.last).contains(&number);
            let mark = if marked { ">>>" } else { "   " };
            let line = &lines[number - 1];
            out.push_str(&format!("{number:>4} | {mark} {line}\n"));
        }
        out.push_str(RULE);
        out
    }
}

/// What is wrong with a Dockerfile, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SourceError {
    /// One sentence, lower-case, without a full stop.
    pub message: String,
    /// `None`: the file as a whole.
    pub place: Option<Place>,
    /// What to do: "did you mean COPY?".
    pub hint: Option<String>,
}

/// A build check's finding: the build goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The rule's name, as in BuildKit's reference of build checks: `StageNameCasing`.
    pub rule: &'static str,
    /// One sentence.
    pub message: String,
    /// Where.
    pub place: Place,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excerpt_marks_the_lines() {
        let file = SourceFile {
            name: "Dockerfile".to_owned(),
            lines: ["FROM a", "RUN b \\", "  c", "", "CMD d", "CMD e"]
                .map(str::to_owned)
                .to_vec(),
        };
        let place = Place {
            file: Arc::new(file),
            span: Span { first: 2, last: 3 },
        };
        let want = "Dockerfile:2\n--------------------\n   1 |     FROM a\n   2 | >>> RUN b \\\n   3 | >>>   c\n   4 |     \n   5 |     CMD d\n--------------------\n";
        assert_eq!(place.excerpt(), want);
    }
}
