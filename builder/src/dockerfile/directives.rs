//! Parser directives: `# escape=`, `# syntax=`, `# check=` at the top of a file.

use super::Fault;
use super::ast::{Check, Directives};

/// Looks at comments until one is no directive.
pub(super) struct Parser {
    found: Directives,
    seen: Vec<&'static str>,
    ended: bool,
}

const KNOWN: [&str; 3] = ["escape", "syntax", "check"];

impl Default for Parser {
    fn default() -> Self {
        Self {
            found: Directives {
                escape: '\\',
                syntax: None,
                check: Check::default(),
            },
            seen: Vec::new(),
            ended: false,
        }
    }
}

impl Parser {
    /// One that takes no more.
    pub(super) fn ended(escape: char) -> Self {
        let mut parser = Self::default();
        parser.found.escape = escape;
        parser.ended = true;
        parser
    }

    pub(super) fn escape(&self) -> char {
        self.found.escape
    }

    pub(super) fn finish(self) -> Directives {
        self.found
    }

    /// Something that isn't a comment was seen.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    /// Whether a comment, `#` included, is a directive.
    pub(super) fn line(&mut self, comment: &str) -> Result<bool, Fault> {
        if self.ended {
            return Ok(false);
        }
        let Some((name, value)) = split(comment) else {
            self.ended = true;
            return Ok(false);
        };
        if self.seen.contains(&name) {
            return Err(Fault::new(format!(
                "only one {name} parser directive can be used"
            )));
        }
        self.seen.push(name);
        match name {
            "escape" => self.found.escape = escape(value)?,
            "syntax" => self.found.syntax = Some(value.to_owned()),
            _ => self.found.check = value.parse()?,
        }
        Ok(true)
    }
}

/// `# name = value`, if the name is known.
fn split(comment: &str) -> Option<(&'static str, &str)> {
    let (name, value) = comment.strip_prefix('#')?.split_once('=')?;
    let name = name.trim().to_ascii_lowercase();
    let known = KNOWN.into_iter().find(|known| *known == name)?;
    let value = value.trim();
    (!value.is_empty()).then_some((known, value))
}

fn escape(value: &str) -> Result<char, Fault> {
    match value {
        "\\" => Ok('\\'),
        "`" => Ok('`'),
        _ => Err(Fault::new(format!(
            "invalid escape token '{value}' does not match ` or \\"
        ))),
    }
}

impl std::str::FromStr for Check {
    type Err = Fault;

    /// `skip=A,B;error=true;experimental=C`: the value of the directive and of the build argument
    /// `BUILDKIT_DOCKERFILE_CHECK`.
    fn from_str(text: &str) -> Result<Self, Fault> {
        let mut check = Self::default();
        for option in text
            .split(';')
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
            let (name, value) = option
                .split_once('=')
                .ok_or_else(|| Fault::new(format!("invalid check option {option:?}")))?;
            let value = value.trim();
            match name.trim() {
                "skip" if value == "all" => check.skip_all = true,
                "skip" => check.skip = rules(value),
                "experimental" if value == "all" => check.experimental_all = true,
                "experimental" => check.experimental = rules(value),
                "error" => {
                    check.error = boolean(value).ok_or_else(|| {
                        Fault::new(format!(
                            "failed to parse check option {option:?}: {value:?} is neither true nor false"
                        ))
                    })?;
                }
                name => {
                    return Err(Fault::new(format!("invalid check option {name:?}"))
                        .near(name, &["skip", "error", "experimental"]));
                }
            }
        }
        Ok(check)
    }
}

fn rules(list: &str) -> Vec<String> {
    list.split(',')
        .map(|rule| rule.trim().to_owned())
        .filter(|rule| !rule.is_empty())
        .collect()
}

/// As Go's strconv.ParseBool.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Rules that are off unless `experimental=` names them.
const EXPERIMENTAL: [&str; 1] = ["InvalidDefinitionDescription"];

impl Check {
    /// Whether a rule's findings are told.
    #[must_use]
    pub fn allows(&self, rule: &str) -> bool {
        let named = |rules: &[String]| rules.iter().any(|name| name.eq_ignore_ascii_case(rule));
        if EXPERIMENTAL.contains(&rule) && !self.experimental_all && !named(&self.experimental) {
            return false;
        }
        !self.skip_all && !named(&self.skip)
    }
}
