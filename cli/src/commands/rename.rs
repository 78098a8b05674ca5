//! `rctr rename`.

use clap::{ArgMatches, Command};
use rctr_storage::Store;

use super::words;
use crate::command::Verb;
use crate::context::Context;
use crate::report::Failure;

/// `rename`.
pub(crate) const VERB: Verb = Verb {
    names: &["rename", "container rename"],
    about: "Give a container another name",
    args,
    run,
};

fn args(command: Command) -> Command {
    let command = words::required(command, "container", "CONTAINER");
    words::required(command, "name", "NEW_NAME")
}

fn run(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let name = words::text(matches, "name").unwrap_or_default();
    let store = Store::open(&context.root)?;
    let container = store.find_container(words::text(matches, "container").unwrap_or_default())?;
    let name = name.trim_start_matches('/');
    if name == container.record.name {
        return Err(Failure::new(format!("{name} has this name already"))
            .hint("give another name, or leave it"));
    }
    store.rename_container(&container.record.id, name)?;
    Ok(0)
}
