//! `rctr rm`.

use std::time::{Duration, Instant};

use clap::{ArgMatches, Command};
use rctr_runtime::attach;
use rctr_runtime::control;
use rctr_runtime::identity::{self, Mounts};
use rctr_storage::Store;
use rctr_storage::container::{Container, ContainerError};

use super::{create, start, stop, words};
use crate::command::Verb;
use crate::context::Context;
use crate::report::Failure;
use crate::{leftovers, output};

/// `rm`.
pub(crate) const VERB: Verb = Verb {
    names: &["rm", "container rm", "container remove"],
    about: "Remove containers",
    args,
    run,
};

fn args(command: Command) -> Command {
    words::containers(command)
        .arg(words::on("force", Some('f'), "Kill it first if it runs"))
        .arg(words::on(
            "volumes",
            Some('v'),
            "Remove its anonymous volumes too",
        ))
        .arg(words::on("link", Some('l'), "").hide(true))
}

fn run(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let force = words::is_on(matches, "force");
    if words::is_on(matches, "link") {
        return Err(Failure::new("--link is not supported: there are no links"));
    }
    let store = Store::open(&context.root)?;
    leftovers::clear(context, &store);
    let mut code = 0;
    let mut doomed = Vec::new();
    for name in words::list(matches, "container") {
        match ready(context, &store, &name, force) {
            Ok(container) => doomed.push((name, container)),
            // With -f, nothing there is what was wanted (docker since 23), but it is said.
            Err(failure) => {
                output::error(&failure);
                let gone = force && failure.message.starts_with("No such container");
                code = if gone { code } else { 1 };
            }
        }
    }
    if doomed.is_empty() {
        return Ok(code);
    }
    // Once for all: the files belong to several owners.
    identity::enter(&context.identity()?, Mounts::Host)?;
    for (name, container) in doomed {
        match remove(
            context,
            &store,
            &container,
            words::is_on(matches, "volumes"),
        ) {
            Ok(()) => output::line(name),
            Err(failure) => {
                output::error(&failure);
                code = 1;
            }
        }
    }
    attach::sweep(&context.run);
    Ok(code)
}

/// How long a monitor may take to start its container, or to go after its end.
const SETTLING: Duration = Duration::from_secs(10);

/// The container, once its state says what its monitor does: between two states the monitor lives, but nothing runs.
fn settled(store: &Store, name: &str) -> Result<Container, Failure> {
    let end = Instant::now() + SETTLING;
    loop {
        let container = store.find_container(name)?;
        let between = !start::is_up(&container) && store.monitor_alive(&container.record.id);
        if !between || Instant::now() > end {
            return Ok(container);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The container, which doesn't run (any more).
fn ready(context: &Context, store: &Store, name: &str, force: bool) -> Result<Container, Failure> {
    let container = settled(store, name)?;
    if !start::is_up(&container) {
        return Ok(container);
    }
    if !force {
        return Err(Failure::new(format!(
            "cannot remove container \"/{}\": container is running: stop the container before removing or force remove",
            container.record.name
        ))
        .hint(format!("rctr rm -f {}", container.record.name)));
    }
    let target = stop::target(context, store, &container);
    control::stop(&target, nix::libc::SIGKILL, Some(Duration::from_secs(10)))?;
    Ok(container)
}

/// Removes the container, and its anonymous volumes if nobody else uses them.
fn remove(
    context: &Context,
    store: &Store,
    container: &Container,
    volumes: bool,
) -> Result<(), Failure> {
    let result = store.remove_container(&container.record.id);
    match result {
        // Its own monitor was faster (`--rm`), or another `rm`.
        Err(ContainerError::NotFound { .. }) => {}
        other => other?,
    }
    attach::forget(&context.run, &container.record.id);
    if volumes {
        for name in create::anonymous(&container.record) {
            // In use by another container, or gone already: both are as wanted.
            let _ = store.remove_volume(name);
        }
    }
    Ok(())
}
