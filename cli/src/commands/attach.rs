//! `rctr attach`.

use clap::{ArgMatches, Command};
use rctr_runtime::attach::Client;
use rctr_storage::Store;
use rctr_storage::record::Status;

use super::{run as foreground, start, words};
use crate::command::Verb;
use crate::context::Context;
use crate::report::Failure;

/// `attach`.
pub(crate) const VERB: Verb = Verb {
    names: &["attach", "container attach"],
    about: "Attach this terminal to a running container",
    args,
    run,
};

fn args(command: Command) -> Command {
    let command = words::required(command, "container", "CONTAINER").arg(words::on(
        "no-stdin",
        None,
        "Leave standard input alone",
    ));
    foreground::relay_flags(command)
}

fn run(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let store = Store::open(&context.root)?;
    let container = store.find_container(words::text(matches, "container").unwrap_or_default())?;
    let config = &container.record.config;
    if !start::is_up(&container) {
        return Err(
            Failure::new("you cannot attach to a stopped container, start it first")
                .hint(format!("rctr start -a {}", container.record.name)),
        );
    }
    if container.state.status == Status::Paused {
        return Err(Failure::new(
            "you cannot attach to a paused container, unpause it first",
        ));
    }
    let relay = foreground::relay(matches, config, !words::is_on(matches, "no-stdin"))?;
    let client = Client::connect(&context.run, &container.record.id, &relay)?;
    foreground::finish(client, &relay)
}
