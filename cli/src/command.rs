//! The table of commands: names, arguments, what runs. Only the command that is called is built (clap is not free).

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgMatches, Command};

use crate::context::Context;
use crate::report::{ENGINE, Failure};
use crate::{commands, help, output};

/// One command.
pub(crate) struct Verb {
    /// All its names, the documented one first: `["container ls", "ps", "container list", "container ps"]`. The first
    /// is shown in help.
    pub(crate) names: &'static [&'static str],
    /// One line for the list of commands.
    pub(crate) about: &'static str,
    /// Adds arguments to a bare command.
    pub(crate) args: fn(Command) -> Command,
    /// Does it; the result is the exit code.
    pub(crate) run: fn(&Context, &ArgMatches) -> Result<u8, Failure>,
}

/// Finds the verb of `words` (without the program's name) and runs it.
pub(crate) fn dispatch(words: Vec<OsString>) -> Result<u8, Failure> {
    let text = |i: usize| words.get(i).and_then(|w| w.to_str()).unwrap_or_default();
    let first = text(0);
    let asks = |word: &str| matches!(word, "" | "help" | "--help" | "-h");
    if asks(first) && (first != "help" || asks(text(1))) {
        output::text(help::overview());
        return Ok(0);
    }
    if first == "help" {
        let mut words: Vec<_> = words.into_iter().skip(1).collect();
        words.push("--help".into());
        return dispatch(words);
    }
    if help::is_group(first) && asks(text(1)) {
        output::text(help::group(first));
        return Ok(0);
    }
    let verbs = || commands::VERBS.iter();
    let pair = format!("{first} {}", text(1));
    let found = verbs()
        .find(|v| v.names.contains(&pair.as_str()))
        .map(|v| (v, 2))
        .or_else(|| verbs().find(|v| v.names.contains(&first)).map(|v| (v, 1)));
    let Some((verb, used)) = found else {
        return Err(unknown(first, text(1)));
    };
    let name = words[..used]
        .iter()
        .filter_map(|w| w.to_str())
        .collect::<Vec<_>>()
        .join(" ");
    let command = || {
        let bare = Command::new(name.clone()).bin_name(format!("rctr {name}"));
        // Of a flag that is given twice the last one counts.
        (verb.args)(bare.about(verb.about).args_override_self(true))
    };
    let argv =
        std::iter::once(OsString::from(format!("rctr {name}"))).chain(words.into_iter().skip(used));
    match command().try_get_matches_from(argv) {
        Ok(matches) => (verb.run)(&Context::from_env()?, &matches),
        Err(error) if error.kind() == ErrorKind::DisplayHelp => {
            output::text(help::command(verb, &name, command()));
            Ok(0)
        }
        Err(error) => Err(usage(&name, &error)),
    }
}

/// clap's error as ours: unknown flags and bad values end with 125, a missing or surplus argument with 1, as docker's do.
fn usage(name: &str, error: &clap::Error) -> Failure {
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    let message = first.trim_start_matches("error: ").trim_end_matches(':');
    let invalid = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(word)) => word.as_str(),
        _ => "",
    };
    let (code, message) = match error.kind() {
        ErrorKind::MissingRequiredArgument | ErrorKind::TooFewValues => {
            (1, format!("\"rctr {name}\" requires more arguments"))
        }
        ErrorKind::UnknownArgument if !invalid.starts_with('-') => {
            (1, format!("\"rctr {name}\" takes no argument {invalid:?}"))
        }
        ErrorKind::UnknownArgument => (ENGINE, format!("unknown flag: {invalid}")),
        _ => (ENGINE, message.to_owned()),
    };
    let usage = text.lines().find_map(|line| line.strip_prefix("Usage: "));
    let hint = match (error.get(ContextKind::SuggestedArg), usage) {
        (Some(arg), _) => format!("did you mean {arg}? See 'rctr {name} --help'"),
        (None, Some(usage)) if code == 1 => {
            let usage = usage.replace("[OPTIONS]", "[FLAGS]");
            format!("usage: {usage}; see 'rctr {name} --help'")
        }
        _ => format!("see 'rctr {name} --help'"),
    };
    Failure::new(message).code(code).hint(hint)
}

/// Docker's commands that are missing here (looked up only when no verb has the name), and what to do instead.
const NOT_YET: [(&str, &str); 10] = [
    ("compose", "start the containers one by one"),
    (
        "network",
        "`rctr run --network` takes private, none, host or container:NAME",
    ),
    ("pause", "`rctr kill -s STOP` stops the first process"),
    ("unpause", "`rctr kill -s CONT` continues the first process"),
    ("stats", "`rctr top CONTAINER aux` shows the processes' use"),
    ("events", "`rctr ps -a` shows what there is"),
    ("update", "limits are set by `rctr run`"),
    ("context", "there is no daemon to choose"),
    ("swarm", "rctr is for one host"),
    ("plugin", "there are none"),
];

fn unknown(first: &str, second: &str) -> Failure {
    let group: Vec<_> = commands::VERBS
        .iter()
        .flat_map(|v| v.names)
        .filter_map(|name| name.split_once(' '))
        .filter(|(g, _)| *g == first)
        .map(|(_, verb)| verb)
        .collect();
    if !group.is_empty() {
        return Failure::new(format!("unknown command: rctr {first} {second}"))
            .hint(format!("'rctr {first}' has: {}", group.join(", ")));
    }
    if first.starts_with('-') {
        return Failure::new(format!("unknown flag: {first}"))
            .code(ENGINE)
            .hint("the flags of a command come after it; see 'rctr --help'");
    }
    let failure = Failure::new(format!("'{first}' is not a rctr command"));
    if let Some((_, hint)) = NOT_YET.iter().find(|(name, _)| *name == first) {
        return failure.hint(format!("docker has it, rctr does not: {hint}"));
    }
    // In a short word, two other letters make another word.
    let limit = if first.len() > 3 { 2 } else { 1 };
    let near = commands::VERBS
        .iter()
        .flat_map(|v| v.names)
        .filter(|name| !name.contains(' '))
        .min_by_key(|name| distance(name, first))
        .filter(|name| distance(name, first) <= limit);
    match near {
        Some(near) => failure.hint(format!("did you mean '{near}'? See 'rctr --help'")),
        None => failure.hint("see 'rctr --help'"),
    }
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
