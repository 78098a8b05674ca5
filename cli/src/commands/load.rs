//! `rctr load`.

use std::fs::File;
use std::io::{self, IsTerminal, Read};

use clap::{ArgMatches, Command};
use rctr_runtime::identity::{self, Mounts};
use rctr_storage::Store;
use rctr_storage::archive;

use super::create::io_failure;
use super::words;
use crate::command::Verb;
use crate::context::Context;
use crate::output;
use crate::report::Failure;

/// `load`.
pub(crate) const VERB: Verb = Verb {
    names: &["load", "image load"],
    about: "Load images from an archive",
    args,
    run,
};

fn args(command: Command) -> Command {
    let help = "Read from this file instead of standard input";
    words::archive(command, words::value("input", Some('i'), help))
}

fn run(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let input: Box<dyn Read + Send> = match words::text(matches, "input") {
        Some(path) if path != "-" => Box::new(
            File::open(path).map_err(|error| io_failure(format!("cannot open {path}"), &error))?,
        ),
        _ if io::stdin().is_terminal() => {
            return Err(
                Failure::new("requested load from stdin, but stdin is a terminal")
                    .hint("rctr load -i FILE, or rctr load < FILE"),
            );
        }
        _ => Box::new(io::stdin()),
    };
    let store = Store::open(&context.root)?;
    identity::enter(&context.identity()?, Mounts::Host)?;
    for loaded in archive::load(&store, input)? {
        match loaded.name {
            Some(name) => output::line(format!("Loaded image: {name}")),
            None => output::line(format!("Loaded image ID: {}", loaded.id)),
        }
    }
    Ok(0)
}
