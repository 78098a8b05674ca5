//! `rctr attach`.

use clap::{ArgMatches, Command};
use rctr_runtime::attach::message::Streams;
use rctr_runtime::attach::{Client, RelayOptions};
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
    words::required(command, "container", "CONTAINER")
        .arg(words::on("no-stdin", None, "Leave standard input alone"))
        .arg(words::on(
            "sig-proxy",
            None,
            "Pass signals on (default true)",
        ))
        .arg(words::value(
            "detach-keys",
            None,
            "Key sequence that detaches",
        ))
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
    let relay = RelayOptions {
        streams: Streams {
            stdin: config.open_stdin && !words::is_on(matches, "no-stdin"),
            stdout: true,
            stderr: true,
        },
        tty: config.tty,
        detach_keys: foreground::detach_keys(words::text(matches, "detach-keys"))?,
        sig_proxy: matches
            .get_one::<bool>("sig-proxy")
            .copied()
            .unwrap_or(true),
    };
    foreground::check_terminal(relay.tty && relay.streams.stdin)?;
    let client = Client::connect(&context.run, &container.record.id, &relay)?;
    foreground::finish(client, &relay)
}
