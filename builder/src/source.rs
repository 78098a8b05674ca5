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
/// Marked lines that are shown: the first ones.
const MOST_MARKED: usize = 24;
/// Characters of a line that are shown.
const MOST_WIDTH: usize = 500;

impl Place {
    /// The marked lines with their neighbours, as BuildKit shows them: `Dockerfile:3`, a rule, numbered lines (the
    /// marked ones with `>>>`), a rule. Long lines are clipped, as are long marks; control characters of a hostile file
    /// don't reach the terminal.
    #[must_use]
    pub fn excerpt(&self) -> String {
        const RULE: &str = "--------------------\n";
        let lines = &self.file.lines;
        let first = self.span.first.saturating_sub(AROUND).max(1);
        let last = (self.span.last + AROUND).min(lines.len());
        let left_out = self.span.first + MOST_MARKED..=self.span.last;
        let mut out = format!("{}:{}\n{RULE}", self.file.name, self.span.first);
        for number in first..=last {
            if left_out.contains(&number) {
                if number == *left_out.start() {
                    out.push_str(&format!("     | >>> … to line {}\n", self.span.last));
                }
                continue;
            }
            let marked = (self.span.first..=self.span.last).contains(&number);
            let mark = if marked { ">>>" } else { "   " };
            let line = shown(&lines[number - 1]);
            out.push_str(&format!("{number:>4} | {mark} {line}\n"));
        }
        out.push_str(RULE);
        out
    }
}

/// A line that a terminal can show.
fn shown(line: &str) -> String {
    let clean = |char: char| match char {
        '\t' => '\t',
        char if char.is_control() => '\u{fffd}',
        char => char,
    };
    let mut shown: String = line.chars().take(MOST_WIDTH).map(clean).collect();
    if line.chars().nth(MOST_WIDTH).is_some() {
        shown.push('…');
    }
    shown
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

    #[test]
    fn excerpt_of_a_hostile_file_is_short_and_harmless() {
        let mut lines = vec!["\u{1b}[2J".to_owned(), "x".repeat(1 << 20)];
        lines.resize(100_000, "y".to_owned());
        let place = Place {
            file: Arc::new(SourceFile {
                name: "Dockerfile".to_owned(),
                lines,
            }),
            span: Span {
                first: 1,
                last: 99_999,
            },
        };
        let excerpt = place.excerpt();
        assert!(excerpt.len() < 3_000, "{}", excerpt.len());
        assert!(!excerpt.contains('\u{1b}'));
        assert!(excerpt.contains("     | >>> … to line 99999\n100000 |     y\n"));
    }
}
