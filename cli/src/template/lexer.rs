//! Text to tokens.

use super::TemplateError;
use super::number;

/// A token and the byte where it starts.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub(super) at: usize,
    /// The byte after it.
    pub(super) end: usize,
    pub(super) kind: TokenKind,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum TokenKind {
    /// Outside of actions, trimmed as the markers say.
    Text(String),
    /// `{{`.
    Open,
    /// `}}`.
    Close,
    /// `.name`.
    Field(String),
    /// `.`.
    Dot,
    /// A keyword or a function.
    Word(String),
    /// `$` or `$name`.
    Variable(String),
    /// A quoted or raw string, without its quotes.
    Quoted(String),
    /// A number or a character.
    Number(number::Number),
    /// `(`.
    Left,
    /// `)`.
    Right,
    /// `|`.
    Pipe,
    /// `:=`.
    Declare,
    /// `=`.
    Assign,
    /// `,`.
    Comma,
    /// Blanks and line breaks in an action.
    Space,
}

/// All tokens of `source`.
pub(super) fn tokens(source: &str) -> Result<Vec<Token>, TemplateError> {
    let mut lexer = Lexer {
        source,
        at: 0,
        tokens: Vec::new(),
        trim_next: false,
    };
    lexer.text()?;
    Ok(lexer.tokens)
}

struct Lexer<'s> {
    source: &'s str,
    at: usize,
    tokens: Vec<Token>,
    /// The last action ended with a trim marker.
    trim_next: bool,
}

impl<'s> Lexer<'s> {
    fn rest(&self) -> &'s str {
        &self.source[self.at..]
    }

    fn fail(&self, at: usize, message: impl Into<String>) -> TemplateError {
        TemplateError::parse(self.source, at, message)
    }

    fn push(&mut self, at: usize, kind: TokenKind) {
        self.tokens.push(Token {
            at,
            end: self.at,
            kind,
        });
    }

    /// The whole source: text and actions in turn.
    fn text(&mut self) -> Result<(), TemplateError> {
        loop {
            let rest = self.rest();
            let open = rest.find("{{");
            let mut text = &rest[..open.unwrap_or(rest.len())];
            if std::mem::take(&mut self.trim_next) {
                text = text.trim_start_matches(SPACES);
            }
            let trim_left = open.is_some_and(|at| starts_trimmed(&rest[at + 2..]));
            if trim_left {
                text = text.trim_end_matches(SPACES);
            }
            let at = self.at;
            self.at += open.unwrap_or(rest.len());
            if !text.is_empty() {
                self.push(at, TokenKind::Text(text.to_owned()));
            }
            if open.is_none() {
                return Ok(());
            }
            let at = self.at;
            self.at += if trim_left { 3 } else { 2 };
            let inner = self.rest().trim_start_matches(SPACES);
            if inner.starts_with("/*") && (trim_left || self.rest().starts_with("/*")) {
                self.comment(at)?;
            } else {
                self.push(at, TokenKind::Open);
                self.action(at)?;
            }
        }
    }

    /// `{{/* … */}}`: nothing, but its trim markers count.
    fn comment(&mut self, open: usize) -> Result<(), TemplateError> {
        let Some(end) = self.rest().find("*/") else {
            return Err(self.fail(open, "unclosed comment"));
        };
        self.at += end + 2;
        if self.ends_trimmed() {
            self.trim_next = true;
            self.at += self.rest().find("}}").unwrap_or_default() + 2;
        } else if self.rest().starts_with("}}") {
            self.at += 2;
        } else {
            return Err(self.fail(open, "comment ends before closing delimiter"));
        }
        Ok(())
    }

    /// ` -}}` comes next.
    fn ends_trimmed(&self) -> bool {
        self.rest().starts_with(SPACES) && self.rest().trim_start_matches(SPACES).starts_with("-}}")
    }

    fn action(&mut self, open: usize) -> Result<(), TemplateError> {
        loop {
            let at = self.at;
            if self.ends_trimmed() {
                self.at += self.rest().find("}}").unwrap_or_default() + 2;
                self.trim_next = true;
                self.push(at, TokenKind::Close);
                return Ok(());
            }
            if self.rest().starts_with("}}") {
                self.at += 2;
                self.push(at, TokenKind::Close);
                return Ok(());
            }
            let Some(first) = self.rest().chars().next() else {
                return Err(self.fail(open, "unclosed action"));
            };
            let kind = self.token(first)?;
            self.push(at, kind);
        }
    }

    /// One token inside an action; moves past it.
    fn token(&mut self, first: char) -> Result<TokenKind, TemplateError> {
        let at = self.at;
        let second = self.rest().chars().nth(1).unwrap_or('\0');
        match first {
            c if SPACES.contains(&c) => {
                let rest = self.rest();
                // The blank before a trim marker belongs to the marker.
                let blanks = rest.len() - rest.trim_start_matches(SPACES).len();
                let marker = rest[blanks..].starts_with("-}}") && blanks > 1;
                self.at += if marker { blanks - 1 } else { blanks };
                Ok(TokenKind::Space)
            }
            '"' => self.quoted(),
            '`' => {
                let Some(end) = self.rest()[1..].find('`') else {
                    return Err(self.fail(at, "unterminated raw quoted string"));
                };
                let text = self.rest()[1..=end].to_owned();
                self.at += end + 2;
                Ok(TokenKind::Quoted(text))
            }
            '(' | ')' | '|' | ',' | '=' => {
                self.at += 1;
                Ok(match first {
                    '(' => TokenKind::Left,
                    ')' => TokenKind::Right,
                    '|' => TokenKind::Pipe,
                    ',' => TokenKind::Comma,
                    _ => TokenKind::Assign,
                })
            }
            ':' if second == '=' => {
                self.at += 2;
                Ok(TokenKind::Declare)
            }
            '$' => {
                let name = format!("${}", self.word(1));
                self.at += name.len();
                self.terminated(TokenKind::Variable(name))
            }
            '.' if !second.is_ascii_digit() => {
                let name = self.word(1);
                self.at += 1 + name.len();
                if name.is_empty() {
                    return self.terminated(TokenKind::Dot);
                }
                self.terminated(TokenKind::Field(name))
            }
            '\'' => self.character(),
            '+' | '-' | '.' | '0'..='9' => self.number(),
            c if c == '_' || c.is_alphabetic() => {
                let name = self.word(0);
                self.at += name.len();
                self.terminated(TokenKind::Word(name))
            }
            c => Err(self.fail(at, unexpected(c))),
        }
    }

    fn word(&self, skip: usize) -> String {
        self.rest()[skip..]
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect()
    }

    /// A name must not run into something else.
    fn terminated(&self, kind: TokenKind) -> Result<TokenKind, TemplateError> {
        match self.rest().chars().next() {
            None | Some('.' | ',' | '|' | ':' | '=' | '(' | ')' | '{' | '}') => Ok(kind),
            Some(c) if SPACES.contains(&c) => Ok(kind),
            Some(c) => Err(self.fail(
                self.at,
                format!("bad character U+{:04X} {c:?}", u32::from(c)),
            )),
        }
    }

    fn quoted(&mut self) -> Result<TokenKind, TemplateError> {
        let at = self.at;
        let mut escaped = false;
        for (i, c) in self.rest().char_indices().skip(1) {
            match c {
                '\n' => break,
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => {
                    let Some(text) = number::unquote(&self.rest()[1..i]) else {
                        return Err(self.fail(at, "invalid syntax"));
                    };
                    self.at += i + 1;
                    return Ok(TokenKind::Quoted(text));
                }
                _ => {}
            }
        }
        Err(self.fail(at, "unterminated quoted string"))
    }

    fn character(&mut self) -> Result<TokenKind, TemplateError> {
        let at = self.at;
        let inner = &self.rest()[1..];
        let end = inner
            .char_indices()
            .skip(1)
            .find(|&(i, c)| c == '\'' && !inner[..i].ends_with('\\'))
            .or_else(|| inner.starts_with("\\''").then_some((2, '\'')));
        let value = end.and_then(|(i, _)| number::unquote(&inner[..i]).map(|t| (i, t)));
        match value {
            Some((i, text)) if text.chars().count() == 1 => {
                self.at += i + 2;
                let c = text.chars().next().map_or(0, u32::from);
                Ok(TokenKind::Number(number::Number::Int(i64::from(c))))
            }
            _ => Err(self.fail(at, "unterminated character constant")),
        }
    }

    fn number(&mut self) -> Result<TokenKind, TemplateError> {
        let rest = self.rest();
        let mut length = 0;
        for (i, c) in rest.char_indices() {
            let sign_of_exponent =
                matches!(c, '+' | '-') && (i == 0 || rest[..i].ends_with(['e', 'E']));
            if !(c.is_ascii_alphanumeric() || c == '_' || c == '.' || sign_of_exponent) {
                break;
            }
            length = i + 1;
        }
        let text = &rest[..length];
        let Some(number) = number::parse(text) else {
            let kind = if matches!(text, "+" | "-" | ".") {
                "illegal"
            } else {
                "bad"
            };
            return Err(self.fail(self.at, format!("{kind} number syntax: {text:?}")));
        };
        self.at += length;
        self.terminated(TokenKind::Number(number))
    }
}

/// What Go counts as a blank in a template.
const SPACES: [char; 4] = [' ', '\t', '\r', '\n'];

/// `{{- `: the minus must be followed by a blank, else it is a sign.
fn starts_trimmed(after: &str) -> bool {
    after
        .strip_prefix('-')
        .is_some_and(|rest| rest.starts_with(SPACES))
}

fn unexpected(c: char) -> String {
    match c {
        '{' | '}' => format!("unexpected {:?} in operand", c.to_string()),
        c => format!("unexpected {:?} in command", c.to_string()),
    }
}
