//! One logical line to an instruction: which one, its flags, its arguments.

mod copy;
mod from;
mod healthcheck;
mod mount;
mod pairs;
mod run;

pub(super) use pairs::is_old_form;

use super::Fault;
use super::ast::{CommandLine, FromInstruction, Instruction};
use super::flags::{self, Flags};
use super::lines::Document;
use super::words;

/// A line's meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Parsed {
    From(FromInstruction),
    Instruction(Instruction),
}

const KNOWN: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Whether an instruction is called so, in any case.
pub(super) fn is_known(word: &str) -> bool {
    KNOWN.iter().any(|known| known.eq_ignore_ascii_case(word))
}

/// What an instruction is made of.
struct Statement<'a> {
    /// Upper case.
    name: &'static str,
    flags: Flags,
    /// Behind the flags, blanks around it removed.
    rest: &'a str,
    documents: Vec<Document>,
    escape: char,
}

/// `text` is never empty.
pub(super) fn parse(text: &str, documents: Vec<Document>, escape: char) -> Result<Parsed, Fault> {
    let (word, arguments) = words::first(text);
    let Some(name) = KNOWN
        .into_iter()
        .find(|known| known.eq_ignore_ascii_case(word))
    else {
        return Err(
            Fault::new(format!("unknown instruction: {}", clipped(word))).near(word, &KNOWN),
        );
    };
    let (flags, rest) = flags::split(arguments);
    let mut statement = Statement {
        name,
        flags,
        rest,
        documents,
        escape,
    };
    let parsed = if name == "FROM" {
        Parsed::From(from::parse(&mut statement)?)
    } else {
        Parsed::Instruction(instruction(&mut statement)?)
    };
    statement.flags.end()?;
    Ok(parsed)
}

fn instruction(statement: &mut Statement) -> Result<Instruction, Fault> {
    Ok(match statement.name {
        "ADD" => Instruction::Add(copy::add(statement)?),
        "ARG" => Instruction::Arg(pairs::arguments(statement)?),
        "CMD" => Instruction::Cmd(statement.command()?),
        "COPY" => Instruction::Copy(copy::copy(statement)?),
        "ENTRYPOINT" => Instruction::Entrypoint(statement.command()?),
        "ENV" => Instruction::Env(pairs::pairs(statement)?),
        "EXPOSE" => Instruction::Expose(statement.some(words::plain(statement.rest))?),
        "HEALTHCHECK" => Instruction::Healthcheck(healthcheck::parse(statement)?),
        "LABEL" => Instruction::Label(pairs::pairs(statement)?),
        "MAINTAINER" => Instruction::Maintainer(statement.whole()?),
        "ONBUILD" => Instruction::Onbuild(onbuild(statement)?),
        "RUN" => Instruction::Run(run::parse(statement)?),
        "SHELL" => Instruction::Shell(shell(statement)?),
        "STOPSIGNAL" => Instruction::Stopsignal(statement.whole()?),
        "USER" => Instruction::User(statement.whole()?),
        "VOLUME" => Instruction::Volume(volumes(statement)?),
        _ => Instruction::Workdir(statement.whole()?),
    })
}

impl Statement<'_> {
    /// Everything is one argument, blanks included.
    fn whole(&self) -> Result<String, Fault> {
        if self.rest.is_empty() {
            return Err(Fault::new(format!(
                "{} requires exactly one argument",
                self.name
            )));
        }
        Ok(self.rest.to_owned())
    }

    fn some<T>(&self, arguments: Vec<T>) -> Result<Vec<T>, Fault> {
        if arguments.is_empty() {
            return Err(at_least_one(self.name));
        }
        Ok(arguments)
    }

    fn command(&self) -> Result<CommandLine, Fault> {
        command(self.rest)
    }
}

/// Exec form if it is a JSON array, else shell form: a JSON array with a mistake in it is a shell's.
fn command(text: &str) -> Result<CommandLine, Fault> {
    Ok(match words::json(text)? {
        Some(words) => CommandLine::Exec(words),
        None => CommandLine::Shell(text.to_owned()),
    })
}

fn shell(statement: &Statement) -> Result<Vec<String>, Fault> {
    if statement.rest.is_empty() {
        return Err(at_least_one("SHELL"));
    }
    let words = words::json(statement.rest)?.ok_or_else(|| {
        Fault::new("SHELL requires the arguments to be in JSON form".to_owned())
            .hint("write it as in SHELL [\"/bin/bash\", \"-c\"]")
    })?;
    statement.some(words)
}

fn volumes(statement: &Statement) -> Result<Vec<String>, Fault> {
    let volumes = statement.some(words::json_or_plain(statement.rest)?)?;
    let volumes: Vec<String> = volumes.iter().map(|path| path.trim().to_owned()).collect();
    if volumes.iter().any(String::is_empty) {
        return Err(Fault::new(
            "VOLUME specified can not be an empty string".to_owned(),
        ));
    }
    Ok(volumes)
}

/// The trigger with its heredocs, checked as if it stood here: who builds on this image couldn't mend it.
fn onbuild(statement: &mut Statement) -> Result<String, Fault> {
    // Flags before the trigger are nobody's.
    statement.flags.end()?;
    if statement.rest.is_empty() {
        return Err(at_least_one("ONBUILD"));
    }
    let mut trigger = statement.rest.to_owned();
    for document in &statement.documents {
        trigger.push('\n');
        trigger.push_str(&document.content);
        trigger.push_str(&document.word.name);
    }
    super::file::onbuild(&trigger, statement.escape)?;
    Ok(trigger)
}

/// Refuses what may not be an ONBUILD trigger.
pub(super) fn trigger_allowed(trigger: &str) -> Result<(), Fault> {
    let (word, _) = words::first(trigger);
    match word.to_ascii_uppercase().as_str() {
        "ONBUILD" => Err(Fault::new(
            "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed".to_owned(),
        )),
        name @ ("MAINTAINER" | "FROM") => Err(Fault::new(format!(
            "{name} isn't allowed as an ONBUILD trigger"
        ))),
        _ => Ok(()),
    }
}

/// Whether `<<NAME` in an instruction begins a heredoc.
pub(super) fn takes_heredocs(text: &str) -> bool {
    let (word, arguments) = words::first(text);
    let name = word.to_ascii_uppercase();
    if name == "ONBUILD" {
        let (inner, _) = words::first(arguments);
        return !inner.eq_ignore_ascii_case("ONBUILD") && takes_heredocs(arguments);
    }
    let (_, rest) = flags::split(arguments);
    matches!(name.as_str(), "ADD" | "COPY" | "RUN") && matches!(words::json(rest), Ok(None))
}

pub(super) fn at_least_one(name: &str) -> Fault {
    Fault::new(format!("{name} requires at least one argument"))
}

/// A word from the file within a message.
fn clipped(word: &str) -> String {
    const MOST: usize = 40;
    match word.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", word[..end].escape_debug()),
        None => word.escape_debug().to_string(),
    }
}
