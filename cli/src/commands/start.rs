//! `rctr start`.

use clap::{ArgMatches, Command};
use rctr_runtime::attach::RelayOptions;
use rctr_runtime::monitor::{self, Started};
use rctr_storage::Store;
use rctr_storage::container::Container;
use rctr_storage::record::Status;

use super::{run as foreground, words};
use crate::command::Verb;
use crate::context::Context;
use crate::report::Failure;
use crate::{order, output};

/// `start`.
pub(crate) const VERB: Verb = Verb {
    names: &["start", "container start"],
    about: "Start containers",
    args,
    run,
};

fn args(command: Command) -> Command {
    let command = words::containers(command)
        .arg(words::on(
            "attach",
            Some('a'),
            "Show its output, pass signals on, end with its exit code",
        ))
        .arg(words::on(
            "interactive",
            Some('i'),
            "Attach its standard input",
        ));
    foreground::relay_flags(command)
}

fn run(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let names = words::list(matches, "container");
    let (attach, stdin) = (
        words::is_on(matches, "attach"),
        words::is_on(matches, "interactive"),
    );
    let store = Store::open(&context.root)?;
    if attach || stdin {
        let [name] = names.as_slice() else {
            return Err(Failure::new(
                "you cannot start and attach multiple containers at once",
            ));
        };
        let container = store.find_container(name)?;
        let relay = foreground::relay(matches, &container.record.config, stdin)?;
        if is_up(&container) {
            let client =
                rctr_runtime::attach::Client::connect(&context.run, &container.record.id, &relay)?;
            return foreground::finish(client, &relay);
        }
        let started = start(context, &store, &container, Some(&relay))?;
        return match started.client {
            Some(client) => foreground::finish(client, &relay),
            None => Ok(0),
        };
    }
    let mut failed = Vec::new();
    for name in &names {
        let result = store
            .find_container(name)
            .map_err(Failure::from)
            .and_then(|container| match is_up(&container) {
                true => Ok(()),
                false => start(context, &store, &container, None).map(drop),
            });
        match result {
            Ok(()) => output::line(name),
            Err(failure) => {
                output::error(&failure);
                failed.push(name.as_str());
            }
        }
    }
    if failed.is_empty() {
        return Ok(0);
    }
    Err(Failure::new(format!(
        "failed to start containers: {}",
        failed.join(", ")
    )))
}

/// Whether its monitor is at work.
pub(crate) fn is_up(container: &Container) -> bool {
    matches!(
        container.state.status,
        Status::Running | Status::Paused | Status::Restarting
    )
}

/// Starts a container that is there.
///
/// # Errors
/// Whatever keeps it from running; exit code 1, as docker's `start`.
pub(crate) fn start(
    context: &Context,
    store: &Store,
    container: &Container,
    relay: Option<&RelayOptions>,
) -> Result<Started, Failure> {
    let own = order::own_user_namespace(&container.record.host_config);
    let prepared = monitor::prepare(own, context.path.as_ref())?;
    let order = order::order(context, store, container)?;
    Ok(prepared.start(order, relay)?)
}
