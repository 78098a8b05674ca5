//! Tokens to nodes.

use super::TemplateError;
use super::functions;
use super::lexer::{Token, TokenKind, tokens};
use super::number::Number;

/// A piece of a template.
#[derive(Debug)]
pub(super) enum Node {
    Text(String),
    Action(Pipeline),
    If(Branch),
    With(Branch),
    Range(Branch),
    Break,
    Continue,
}

/// `if`, `with`, `range`: a pipeline and what is done with or without it.
#[derive(Debug)]
pub(super) struct Branch {
    pub(super) pipeline: Pipeline,
    pub(super) then: Vec<Node>,
    pub(super) otherwise: Vec<Node>,
}

/// `$a, $b := command | command`.
#[derive(Debug)]
pub(super) struct Pipeline {
    pub(super) variables: Vec<String>,
    /// `=` and not `:=`.
    pub(super) assigns: bool,
    pub(super) commands: Vec<Call>,
}

/// One command of a pipeline: an operand and its arguments.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) at: usize,
    pub(super) end: usize,
    pub(super) words: Vec<Operand>,
}

/// A value in a command.
#[derive(Debug)]
pub(super) struct Operand {
    /// Where errors point: Go's choice is the last name of a chain.
    pub(super) at: usize,
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) base: Base,
    /// `.A.B` after the base.
    pub(super) names: Vec<String>,
}

#[derive(Debug)]
pub(super) enum Base {
    Dot,
    Nil,
    Bool(bool),
    Number(Number),
    Text(String),
    Variable(String),
    Function(String),
    Pipeline(Box<Pipeline>),
}

/// Whether a field called `name` is asked for anywhere below.
pub(super) fn mentions(nodes: &[Node], name: &str) -> bool {
    fn pipeline(p: &Pipeline, name: &str) -> bool {
        p.commands.iter().flat_map(|c| &c.words).any(|word| {
            word.names.first().is_some_and(|n| n == name)
                || matches!(&word.base, Base::Pipeline(p) if pipeline(p, name))
        })
    }
    nodes.iter().any(|node| match node {
        Node::Text(_) | Node::Break | Node::Continue => false,
        Node::Action(p) => pipeline(p, name),
        Node::If(b) | Node::With(b) | Node::Range(b) => {
            pipeline(&b.pipeline, name) || mentions(&b.then, name) || mentions(&b.otherwise, name)
        }
    })
}

/// The nodes of `source`.
pub(super) fn parse(source: &str) -> Result<Vec<Node>, TemplateError> {
    let mut parser = Parser {
        source,
        tokens: tokens(source)?,
        next: 0,
        variables: vec!["$".to_owned()],
        loops: 0,
        depth: 0,
    };
    let (nodes, stop) = parser.list()?;
    match stop {
        Stop::End => Ok(nodes),
        Stop::Keyword(word, at) => Err(parser.fail(at, format!("unexpected {{{{{word}}}}}"))),
    }
}

/// Why a list of nodes ended.
enum Stop {
    /// The source did.
    End,
    /// `{{else` (its `}}` not read yet) or `{{end}}`, and where.
    Keyword(&'static str, usize),
}

/// Deeper nesting is refused: the parser and the evaluator recurse.
const MAX_DEPTH: usize = 200;

/// What a pipeline in parentheses is called in messages.
const PARENTHESES: &str = "parenthesized pipeline";

struct Parser<'s> {
    source: &'s str,
    tokens: Vec<Token>,
    next: usize,
    /// Those in scope.
    variables: Vec<String>,
    /// Ranges around.
    loops: usize,
    depth: usize,
}

impl Parser<'_> {
    fn fail(&self, at: usize, message: impl Into<String>) -> TemplateError {
        TemplateError::parse(self.source, at, message)
    }

    fn peek(&self) -> Option<&TokenKind> {
        self.tokens.get(self.next).map(|t| &t.kind)
    }

    fn at(&self) -> usize {
        self.tokens
            .get(self.next)
            .map_or(self.source.len(), |t| t.at)
    }

    /// The end of the last token.
    fn end(&self) -> usize {
        self.next.checked_sub(1).map_or(0, |i| self.tokens[i].end)
    }

    fn eat(&mut self, kind: &TokenKind) -> bool {
        let found = self.peek() == Some(kind);
        self.next += usize::from(found);
        found
    }

    fn skip_space(&mut self) {
        while self.eat(&TokenKind::Space) {}
    }

    fn deeper(&mut self) -> Result<(), TemplateError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.fail(self.at(), "nested too deeply"));
        }
        Ok(())
    }

    fn list(&mut self) -> Result<(Vec<Node>, Stop), TemplateError> {
        let mut nodes = Vec::new();
        while let Some(token) = self.tokens.get(self.next).cloned() {
            self.next += 1;
            if let TokenKind::Text(text) = token.kind {
                nodes.push(Node::Text(text));
                continue;
            }
            // The lexer gives nothing but texts and actions at this level.
            self.skip_space();
            let keyword = match self.peek() {
                Some(TokenKind::Word(word)) => word.clone(),
                _ => String::new(),
            };
            match keyword.as_str() {
                "end" => {
                    self.next += 1;
                    self.close("end")?;
                    return Ok((nodes, Stop::Keyword("end", token.at)));
                }
                "else" => {
                    self.next += 1;
                    return Ok((nodes, Stop::Keyword("else", token.at)));
                }
                "if" | "with" | "range" => {
                    self.next += 1;
                    nodes.push(self.control(&keyword, token.at)?);
                }
                "break" | "continue" => {
                    self.next += 1;
                    if self.loops == 0 {
                        return Err(
                            self.fail(token.at, format!("{{{{{keyword}}}}} outside {{{{range}}}}"))
                        );
                    }
                    self.close(&keyword)?;
                    nodes.push(if keyword == "break" {
                        Node::Break
                    } else {
                        Node::Continue
                    });
                }
                "define" | "template" | "block" => {
                    let message = format!("{{{{{keyword}}}}} has no use in a format");
                    return Err(self.fail(token.at, message));
                }
                _ => {
                    let pipeline = self.pipeline("command", &TokenKind::Close)?;
                    nodes.push(Node::Action(pipeline));
                }
            }
        }
        Ok((nodes, Stop::End))
    }

    fn close(&mut self, context: &str) -> Result<(), TemplateError> {
        self.skip_space();
        if self.eat(&TokenKind::Close) {
            return Ok(());
        }
        Err(self.unexpected(context))
    }

    fn unexpected(&self, context: &str) -> TemplateError {
        let at = self.at();
        match self.tokens.get(self.next) {
            None => self.fail(at, "unclosed action"),
            Some(token) if context == PARENTHESES && token.kind == TokenKind::Close => {
                self.fail(at, "unclosed left paren")
            }
            Some(token) if token.kind == TokenKind::Right => {
                self.fail(at, "unexpected right paren")
            }
            Some(token) => {
                let text = self.source[token.at..token.end].trim();
                let shown = match token.kind {
                    TokenKind::Word(_) => format!("<{text}>"),
                    _ => format!("{text:?}"),
                };
                self.fail(at, format!("unexpected {shown} in {context}"))
            }
        }
    }

    /// After `if`, `with` or `range`, to its `end`.
    fn control(&mut self, keyword: &str, at: usize) -> Result<Node, TemplateError> {
        self.deeper()?;
        let scope = self.variables.len();
        let pipeline = self.pipeline(keyword, &TokenKind::Close)?;
        self.loops += usize::from(keyword == "range");
        let (then, stop) = self.list()?;
        self.loops -= usize::from(keyword == "range");
        let otherwise = match stop {
            Stop::End => return Err(self.fail(self.source.len(), "unexpected EOF")),
            Stop::Keyword("end", _) => Vec::new(),
            Stop::Keyword(..) => self.otherwise(keyword, at)?,
        };
        self.variables.truncate(scope);
        self.depth -= 1;
        let branch = Branch {
            pipeline,
            then,
            otherwise,
        };
        Ok(match keyword {
            "if" => Node::If(branch),
            "with" => Node::With(branch),
            _ => Node::Range(branch),
        })
    }

    /// After `{{else`: `}}…{{end}}`, or ` if …}}…{{end}}` whose `end` closes both.
    fn otherwise(&mut self, keyword: &str, at: usize) -> Result<Vec<Node>, TemplateError> {
        self.skip_space();
        if matches!(self.peek(), Some(TokenKind::Word(word)) if word == keyword && keyword != "range")
        {
            self.next += 1;
            return Ok(vec![self.control(keyword, at)?]);
        }
        self.close("else")?;
        match self.list()? {
            (nodes, Stop::Keyword("end", _)) => Ok(nodes),
            (_, Stop::Keyword(_, at)) => Err(self.fail(at, "expected end; found {{else}}")),
            (_, Stop::End) => Err(self.fail(self.source.len(), "unexpected EOF")),
        }
    }

    /// Up to and with `close`. `context` is the keyword before it.
    fn pipeline(&mut self, context: &str, close: &TokenKind) -> Result<Pipeline, TemplateError> {
        let (variables, assigns) = self.declarations(context)?;
        let start = self.at();
        let mut commands = Vec::new();
        loop {
            let call = self.call()?;
            let empty = call.words.is_empty();
            if !empty {
                self.check_stage(&call, commands.is_empty())?;
                commands.push(call);
            }
            self.skip_space();
            if self.eat(&TokenKind::Pipe) {
                if empty {
                    return Err(self.fail(start, format!("missing value for {context}")));
                }
                continue;
            }
            if empty {
                let message = if commands.is_empty() {
                    format!("missing value for {context}")
                } else {
                    "missing value for command".to_owned()
                };
                return Err(match self.peek() {
                    Some(kind) if kind == close => self.fail(self.at(), message),
                    _ => self.unexpected(context),
                });
            }
            if self.eat(close) {
                break;
            }
            return Err(self.unexpected(context));
        }
        if !assigns {
            self.variables.extend(variables.iter().cloned());
        }
        Ok(Pipeline {
            variables,
            assigns,
            commands,
        })
    }

    /// A later stage of a pipeline must be callable.
    fn check_stage(&self, call: &Call, first: bool) -> Result<(), TemplateError> {
        let constant = matches!(
            call.words[0].base,
            Base::Bool(_) | Base::Number(_) | Base::Text(_) | Base::Nil
        ) || matches!(call.words[0].base, Base::Dot if call.words[0].names.is_empty());
        if first || !constant {
            return Ok(());
        }
        let message = "non executable command in pipeline stage 2";
        Err(self.fail(call.at, message))
    }

    /// `$x :=`, `$x =` or, for `range`, `$i, $x :=`.
    fn declarations(&mut self, context: &str) -> Result<(Vec<String>, bool), TemplateError> {
        let begin = self.next;
        let mut names = Vec::new();
        self.skip_space();
        while let Some(TokenKind::Variable(name)) = self.peek().cloned() {
            let at = self.at();
            self.next += 1;
            self.skip_space();
            names.push(name.clone());
            if self.eat(&TokenKind::Declare) {
                return Ok((names, false));
            }
            if self.eat(&TokenKind::Assign) {
                if let Some(unknown) = names.iter().find(|n| !self.variables.contains(n)) {
                    return Err(self.fail(at, format!("undefined variable {unknown:?}")));
                }
                return Ok((names, true));
            }
            if context == "range" && names.len() < 2 && self.eat(&TokenKind::Comma) {
                self.skip_space();
                continue;
            }
            break;
        }
        self.next = begin;
        Ok((Vec::new(), false))
    }

    /// Operands up to a pipe or a closing delimiter, which is left.
    fn call(&mut self) -> Result<Call, TemplateError> {
        self.skip_space();
        let at = self.at();
        let mut words = Vec::new();
        let mut end = at;
        while let Some(word) = self.operand()? {
            words.push(word);
            end = self.end();
            match self.peek() {
                Some(TokenKind::Space) => self.skip_space(),
                Some(TokenKind::Pipe | TokenKind::Close | TokenKind::Right) => break,
                _ => return Err(self.unexpected("operand")),
            }
        }
        Ok(Call { at, end, words })
    }

    /// One operand with the names after it; `None` when something else comes.
    fn operand(&mut self) -> Result<Option<Operand>, TemplateError> {
        let start = self.at();
        let Some(kind) = self.peek().cloned() else {
            return Ok(None);
        };
        let mut names = Vec::new();
        let base = match kind {
            TokenKind::Dot => Base::Dot,
            TokenKind::Field(name) => {
                names.push(name);
                Base::Dot
            }
            TokenKind::Variable(name) => {
                if !self.variables.contains(&name) {
                    return Err(self.fail(start, format!("undefined variable {name:?}")));
                }
                Base::Variable(name)
            }
            TokenKind::Quoted(text) => Base::Text(text),
            TokenKind::Number(number) => Base::Number(number),
            TokenKind::Word(word) => match word.as_str() {
                "true" => Base::Bool(true),
                "false" => Base::Bool(false),
                "nil" => Base::Nil,
                "if" | "else" | "end" | "range" | "with" | "break" | "continue" | "define"
                | "template" | "block" => return Ok(None),
                name if functions::exists(name) => Base::Function(word),
                _ => return Err(self.fail(start, format!("function {word:?} not defined"))),
            },
            TokenKind::Left => {
                self.next += 1;
                self.deeper()?;
                let inner = self.pipeline(PARENTHESES, &TokenKind::Right)?;
                self.depth -= 1;
                // The closing parenthesis is read.
                self.next -= 1;
                Base::Pipeline(Box::new(inner))
            }
            _ => return Ok(None),
        };
        self.next += 1;
        let mut at = start;
        while let Some(TokenKind::Field(name)) = self.peek().cloned() {
            if matches!(
                base,
                Base::Bool(_) | Base::Number(_) | Base::Text(_) | Base::Nil
            ) {
                return Err(self.unexpected("operand"));
            }
            // A field's own name and its followers are one node, placed at the first follower.
            if at == start {
                at = self.at();
            }
            names.push(name);
            self.next += 1;
        }
        Ok(Some(Operand {
            at,
            start,
            end: self.end(),
            base,
            names,
        }))
    }
}
