//! Runs nodes over data.

use super::data::Data;
use super::functions::{self, Set};
use super::number::Number;
use super::parser::{Base, Branch, Call, Node, Operand, Pipeline};
use super::{TemplateError, print};

/// What `nodes` make of `data`.
pub(super) fn render(
    source: &str,
    nodes: &[Node],
    functions: Set,
    data: &Data,
) -> Result<String, TemplateError> {
    let mut run = Run {
        source,
        functions,
        variables: vec![("$".to_owned(), data.clone())],
        out: String::new(),
    };
    run.list(nodes, data)?;
    Ok(run.out)
}

/// How a list of nodes ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Next,
    Break,
    Continue,
}

struct Run<'t> {
    source: &'t str,
    functions: Set,
    /// Innermost last.
    variables: Vec<(String, Data)>,
    out: String,
}

/// An error without its place.
type Message = String;

impl Run<'_> {
    fn list(&mut self, nodes: &[Node], dot: &Data) -> Result<Flow, TemplateError> {
        for node in nodes {
            let flow = match node {
                Node::Text(text) => {
                    self.out.push_str(text);
                    Flow::Next
                }
                Node::Action(pipeline) => {
                    let value = self.pipeline(pipeline, dot)?;
                    if pipeline.variables.is_empty() {
                        self.print(pipeline, &value)?;
                    }
                    Flow::Next
                }
                Node::If(branch) => self.scoped(|run| {
                    let value = run.pipeline(&branch.pipeline, dot)?;
                    run.list(branch.side(value.is_true()), dot)
                })?,
                Node::With(branch) => self.scoped(|run| {
                    let value = run.pipeline(&branch.pipeline, dot)?;
                    let met = value.is_true();
                    run.list(branch.side(met), if met { &value } else { dot })
                })?,
                Node::Range(branch) => self.scoped(|run| run.range(branch, dot))?,
                Node::Break => Flow::Break,
                Node::Continue => Flow::Continue,
            };
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    /// Variables made inside end with it.
    fn scoped<T>(
        &mut self,
        inner: impl FnOnce(&mut Self) -> Result<T, TemplateError>,
    ) -> Result<T, TemplateError> {
        let mark = self.variables.len();
        let result = inner(self);
        self.variables.truncate(mark);
        result
    }

    fn print(&mut self, pipeline: &Pipeline, value: &Data) -> Result<(), TemplateError> {
        if let Data::Method(_) = value {
            let call = &pipeline.commands[0];
            return Err(self.fail(
                call.at,
                call.at,
                call.end,
                "wrong number of args: want 1 got 0",
            ));
        }
        print::value(&mut self.out, value);
        Ok(())
    }

    fn fail(
        &self,
        at: usize,
        start: usize,
        end: usize,
        message: impl Into<String>,
    ) -> TemplateError {
        TemplateError::run(self.source, at, &self.source[start..end], message)
    }

    fn range(&mut self, branch: &Branch, dot: &Data) -> Result<Flow, TemplateError> {
        let commands = &branch.pipeline.commands;
        let over = self.commands(commands, dot)?;
        type Items<'d> = Box<dyn Iterator<Item = (Data, Data)> + 'd>;
        let items: Items<'_> = match &over {
            Data::List(items) => Box::new(
                items
                    .iter()
                    .enumerate()
                    .map(|(i, value)| (number(i), value.clone())),
            ),
            Data::Map(entries, _) => Box::new(
                entries
                    .iter()
                    .map(|(key, value)| (Data::text(key), value.clone())),
            ),
            Data::Int(n) => Box::new((0..*n).map(|i| (Data::Int(i), Data::Int(i)))),
            Data::Nil(_) | Data::NoValue => Box::new(std::iter::empty()),
            other => {
                let mut text = String::new();
                print::value(&mut text, other);
                let call = &commands[0];
                let message = format!("range can't iterate over {text}");
                return Err(self.fail(call.at, call.at, call.end, message));
            }
        };
        let mut items = items.peekable();
        if items.peek().is_none() {
            return self.list(&branch.otherwise, dot);
        }
        for (key, value) in items {
            let flow = self.scoped(|run| {
                match branch.pipeline.variables.as_slice() {
                    [] => {}
                    [one] => run.set(one, value.clone(), branch.pipeline.assigns),
                    [index, one, ..] => {
                        run.set(index, key, branch.pipeline.assigns);
                        run.set(one, value.clone(), branch.pipeline.assigns);
                    }
                }
                run.list(&branch.then, &value)
            })?;
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::Next)
    }

    fn set(&mut self, name: &str, value: Data, assigns: bool) {
        let known = self.variables.iter_mut().rev().find(|(n, _)| n == name);
        match known {
            Some((_, old)) if assigns => *old = value,
            _ => self.variables.push((name.to_owned(), value)),
        }
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Data) -> Result<Data, TemplateError> {
        let value = self.commands(&pipeline.commands, dot)?;
        for name in &pipeline.variables {
            self.set(name, value.clone(), pipeline.assigns);
        }
        Ok(value)
    }

    /// Each command's value is the last argument of the next one.
    fn commands(&mut self, commands: &[Call], dot: &Data) -> Result<Data, TemplateError> {
        let mut value = None;
        for call in commands {
            value = Some(self.call(call, dot, value)?);
        }
        Ok(value.unwrap_or(Data::NoValue))
    }

    fn call(
        &mut self,
        call: &Call,
        dot: &Data,
        piped: Option<Data>,
    ) -> Result<Data, TemplateError> {
        let first = &call.words[0];
        if let Base::Function(name) = &first.base
            && matches!(name.as_str(), "and" | "or")
        {
            return self.shortcut(name == "and", call, dot, piped);
        }
        let mut arguments = Vec::with_capacity(call.words.len());
        if call.words.len() > 1 {
            for word in &call.words[1..] {
                arguments.push(self.operand(word, dot)?);
            }
        }
        arguments.extend(piped);
        if let Base::Function(name) = &first.base {
            let value = functions::call(self.functions, name, &arguments).map_err(|message| {
                // About a wrong number Go shows the function, else the call.
                let end = if message.starts_with("wrong number") {
                    first.end
                } else {
                    call.end
                };
                self.fail(first.start, call.at, end, message)
            })?;
            return self.walk(first, value);
        }
        if matches!(first.base, Base::Nil) && arguments.is_empty() {
            return Err(self.fail(first.at, first.start, first.end, "nil is not a command"));
        }
        let value = self.operand(first, dot)?;
        match (value, arguments.as_slice()) {
            (value, []) => Ok(value),
            (Data::Method(method), [Data::Text(key)]) => Ok(Data::text(method(key))),
            (Data::Method(_), [other]) => {
                let message = format!(
                    "wrong type for value; expected string; got {}",
                    other.type_name()
                );
                Err(self.fail(first.at, first.start, first.end, message))
            }
            (Data::Method(_), many) => {
                let name = first.names.last().map_or("", String::as_str);
                let message = format!("wrong number of args for {name}: want 1 got {}", many.len());
                Err(self.fail(first.at, first.start, first.end, message))
            }
            (..) => {
                let message = match first.names.last() {
                    Some(name) => format!("{name} is not a method but has arguments"),
                    None => format!(
                        "can't give argument to non-function {}",
                        &self.source[first.start..first.end]
                    ),
                };
                Err(self.fail(first.at, first.start, first.end, message))
            }
        }
    }

    /// `and` and `or` stop at the first argument that decides.
    fn shortcut(
        &mut self,
        and: bool,
        call: &Call,
        dot: &Data,
        piped: Option<Data>,
    ) -> Result<Data, TemplateError> {
        let mut last = None;
        for word in &call.words[1..] {
            let value = self.operand(word, dot)?;
            if value.is_true() != and {
                return Ok(value);
            }
            last = Some(value);
        }
        piped.or(last).ok_or_else(|| {
            let name = if and { "and" } else { "or" };
            let message = format!("wrong number of args for {name}: want at least 1 got 0");
            self.fail(call.at, call.at, call.end, message)
        })
    }

    fn operand(&mut self, word: &Operand, dot: &Data) -> Result<Data, TemplateError> {
        let base = match &word.base {
            Base::Dot => dot.clone(),
            Base::Nil => Data::Nil(super::Kind::Pointer),
            Base::Bool(b) => Data::Bool(*b),
            Base::Number(Number::Int(n)) => Data::Int(*n),
            Base::Number(Number::Float(x)) => Data::Float(*x),
            Base::Text(text) => Data::text(text),
            // The parser has seen to it that the variable is in scope.
            Base::Variable(name) => self
                .variables
                .iter()
                .rev()
                .find(|(n, _)| n == name)
                .map_or(Data::NoValue, |(_, value)| value.clone()),
            Base::Function(name) => functions::call(self.functions, name, &[])
                .map_err(|message| self.fail(word.at, word.start, word.end, message))?,
            Base::Pipeline(pipeline) => self.scoped(|run| run.pipeline(pipeline, dot))?,
        };
        self.walk(word, base)
    }

    /// Follows the names after an operand.
    fn walk(&self, word: &Operand, base: Data) -> Result<Data, TemplateError> {
        let mut value = base;
        let mut parent = None;
        for name in &word.names {
            value = field(&value, name, parent)
                .map_err(|message| self.fail(word.at, word.start, word.end, message))?;
            parent = Some(name.as_str());
        }
        Ok(value)
    }
}

impl Branch {
    fn side(&self, met: bool) -> &[Node] {
        if met { &self.then } else { &self.otherwise }
    }
}

fn number(n: usize) -> Data {
    Data::Int(i64::try_from(n).unwrap_or(i64::MAX))
}

/// `.name` of `value`, which is itself the field `parent` of something.
fn field(value: &Data, name: &str, parent: Option<&str>) -> Result<Data, Message> {
    let missing = |name: &str| format!("map has no entry for key {name:?}");
    match value {
        Data::NoValue => Ok(Data::NoValue),
        Data::Map(entries, _) => Ok(entries.get(name).cloned().unwrap_or(Data::NoValue)),
        Data::Struct(_) => value.entry(name).ok_or_else(|| missing(name)),
        Data::Nil(super::Kind::Pointer) => Err(match parent {
            Some(parent) => missing(parent),
            None => format!("nil data; no entry for key {name:?}"),
        }),
        Data::Nil(super::Kind::TextMap | super::Kind::ListMap | super::Kind::StructMap) => {
            Ok(Data::NoValue)
        }
        other => Err(format!(
            "can't evaluate field {name} in type {}",
            other.type_name()
        )),
    }
}
