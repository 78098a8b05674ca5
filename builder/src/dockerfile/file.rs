//! Instructions to stages.

use std::sync::Arc;

use super::ast::{Argument, Check, Directives, Dockerfile, Instruction, Located, Stage};
use super::instructions::{self, Parsed};
use super::lines::{Lines, Logical, Reader};
use super::{Fault, checks};
use crate::source::{Place, SourceError, SourceFile, Span, Warning};

/// A Dockerfile's text. `name` is how messages call it.
pub fn parse(name: &str, text: &[u8]) -> Result<Dockerfile, SourceError> {
    parse_with(name, text, None)
}

/// As [`parse`]. `check` is used instead of the file's own `# check=` (build argument `BUILDKIT_DOCKERFILE_CHECK`).
pub fn parse_with(
    name: &str,
    text: &[u8],
    check: Option<Check>,
) -> Result<Dockerfile, SourceError> {
    if text.is_empty() {
        return Err(Fault::new(format!("the Dockerfile ({name}) is empty"))
            .hint("begin it with FROM and the image to start from")
            .nowhere());
    }
    let lines = Lines::of(name, text);
    let mut reader = Reader::new(&lines);
    let mut assembly = Assembly::default();
    let mut seen = Vec::new();
    while let Some(logical) = reader.next(instructions::takes_heredocs)? {
        let place = |span| Place {
            file: lines.file.clone(),
            span,
        };
        let parsed = read(logical, reader.escape(), &mut seen)
            .map_err(|(fault, span)| fault.at(place(span)))?;
        let span = parsed.span;
        assembly
            .add(parsed)
            .map_err(|fault| fault.at(place(span)))?;
    }
    let mut directives = reader.directives().finish();
    if let Some(check) = check {
        directives.check = check;
    }
    if seen.is_empty() {
        return Err(Fault::new("file with no instructions".to_owned())
            .hint("begin it with FROM and the image to start from")
            .nowhere());
    }
    if assembly.stages.is_empty() {
        return Err(
            Fault::new("dockerfile contains no stages to build".to_owned())
                .hint("add FROM and the image to start from")
                .nowhere(),
        );
    }
    let warnings = warnings(&lines.file, &seen, &assembly, &directives);
    Ok(Dockerfile {
        file: lines.file,
        directives,
        global_args: assembly.global_args,
        stages: assembly.stages,
        warnings,
    })
}

/// The text of an ONBUILD trigger, of a base image or of this file: one instruction. Errors and the result are placed at
/// `span` of `file`.
pub fn parse_onbuild(
    trigger: &str,
    file: &Arc<SourceFile>,
    span: Span,
) -> Result<Located<Instruction>, SourceError> {
    let at = |fault: Fault| {
        fault.at(Place {
            file: file.clone(),
            span,
        })
    };
    let (text, parsed) = onbuild(trigger, '\\').map_err(at)?;
    Ok(Located {
        span,
        text,
        node: parsed,
    })
}

/// A trigger's first line, and what it means.
pub(super) fn onbuild(trigger: &str, escape: char) -> Result<(String, Instruction), Fault> {
    let lines = Lines::of("ONBUILD", trigger.as_bytes());
    let mut reader = Reader::with_escape(&lines, escape);
    let mut next = || {
        reader
            .next(instructions::takes_heredocs)
            .map_err(|error| Fault {
                message: error.message,
                hint: error.hint,
            })
    };
    let Some(logical) = next()? else {
        return Err(instructions::at_least_one("ONBUILD"));
    };
    if next()?.is_some() {
        return Err(Fault::new(
            "onbuild trigger should be a single expression".to_owned(),
        ));
    }
    let text = logical.text;
    instructions::trigger_allowed(&text)?;
    match instructions::parse(&text, logical.documents, escape)? {
        Parsed::Instruction(instruction) => Ok((text, instruction)),
        Parsed::From(_) => Err(Fault::new(
            "FROM isn't allowed as an ONBUILD trigger".to_owned(),
        )),
    }
}

/// Parses a logical line, and notes it for the checks.
fn read(
    mut logical: Logical,
    escape: char,
    seen: &mut Vec<Logical>,
) -> Result<Located<Parsed>, (Fault, Span)> {
    let span = logical.span;
    let documents = std::mem::take(&mut logical.documents);
    let shown = shown_span(span, &documents);
    let node = instructions::parse(&logical.text, documents, escape).map_err(|fault| {
        let (word, _) = super::words::first(&logical.text);
        let unknown = fault.hint.is_none() && !instructions::is_known(word);
        let fault = if unknown && !seen.is_empty() {
            fault.hint(format!(
                "if this belongs to the instruction before it, end that one's line with {escape}"
            ))
        } else {
            fault
        };
        (fault, shown)
    })?;
    let text = logical.text.clone();
    seen.push(logical);
    Ok(Located { span, text, node })
}

/// An instruction's lines without its heredocs, which may be long.
fn shown_span(span: Span, documents: &[super::lines::Document]) -> Span {
    let lines: usize = documents
        .iter()
        .map(|document| document.content.lines().count() + 1)
        .sum();
    Span {
        first: span.first,
        last: span.last.saturating_sub(lines).max(span.first),
    }
}

#[derive(Default)]
struct Assembly {
    global_args: Vec<Located<Vec<Argument>>>,
    stages: Vec<Stage>,
}

impl Assembly {
    fn add(&mut self, parsed: Located<Parsed>) -> Result<(), Fault> {
        let Located { span, text, node } = parsed;
        match (node, self.stages.last_mut()) {
            (Parsed::From(node), _) => self.stages.push(Stage {
                from: Located { span, text, node },
                instructions: Vec::new(),
            }),
            (Parsed::Instruction(node), Some(stage)) => {
                stage.instructions.push(Located { span, text, node });
            }
            (Parsed::Instruction(Instruction::Arg(node)), None) => {
                self.global_args.push(Located { span, text, node });
            }
            (Parsed::Instruction(_), None) => {
                return Err(Fault::new("no build stage in current context".to_owned())
                    .hint("begin the Dockerfile with FROM: only ARG may come before it"));
            }
        }
        Ok(())
    }
}

fn warnings(
    file: &Arc<SourceFile>,
    seen: &[Logical],
    assembly: &Assembly,
    directives: &Directives,
) -> Vec<Warning> {
    let mut warnings: Vec<Warning> = checks::find(seen, &assembly.stages, directives.escape)
        .into_iter()
        .filter(|finding| directives.check.allows(finding.rule))
        .map(|finding| Warning {
            rule: finding.rule,
            message: finding.message,
            place: Place {
                file: file.clone(),
                span: finding.span,
            },
        })
        .collect();
    warnings.sort_by_key(|warning| warning.place.span);
    warnings
}
