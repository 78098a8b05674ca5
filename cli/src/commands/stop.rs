//! `rctr stop`, `kill`, `wait` and `restart`: what is done to a container's process through its monitor.

use std::time::Duration;

use clap::{ArgMatches, Command};
use rctr_runtime::control::{self, Target};
use rctr_storage::Store;
use rctr_storage::container::Container;
use rctr_storage::record::Status;

use super::{start, words};
use crate::command::Verb;
use crate::context::Context;
use crate::report::Failure;
use rctr_runtime::signals;

use crate::{order, output};

/// `stop`.
pub(crate) const STOP: Verb = Verb {
    names: &["stop", "container stop"],
    about: "Stop containers: signal, and SIGKILL after a while",
    args: stop_args,
    run: |context, matches| {
        let asked = Asked::parse(matches)?;
        let store = Store::open(&context.root)?;
        words::each(&words::list(matches, "container"), |name| {
            let container = store.find_container(name)?;
            stop(context, &store, &container, &asked)
        })
    },
};

/// `restart`.
pub(crate) const RESTART: Verb = Verb {
    names: &["restart", "container restart"],
    about: "Stop containers and start them again",
    args: stop_args,
    run: |context, matches| {
        let asked = Asked::parse(matches)?;
        let store = Store::open(&context.root)?;
        words::each(&words::list(matches, "container"), |name| {
            let container = store.find_container(name)?;
            stop(context, &store, &container, &asked)?;
            let container = store.read_container(&container.record.id)?;
            start::start(context, &store, &container, None).map(drop)
        })
    },
};

/// `kill`.
pub(crate) const KILL: Verb = Verb {
    names: &["kill", "container kill"],
    about: "Send a signal to containers, SIGKILL by default",
    args: |command| {
        words::containers(command)
            .args_override_self(true)
            .arg(words::value("signal", Some('s'), "Which signal"))
    },
    run: kill,
};

/// `wait`.
pub(crate) const WAIT: Verb = Verb {
    names: &["wait", "container wait"],
    about: "Wait until containers end and show their exit codes",
    args: words::containers,
    run: wait,
};

fn stop_args(command: Command) -> Command {
    words::containers(command)
        .args_override_self(true)
        .arg(words::value("time", Some('t'), "Seconds until SIGKILL; -1: never").alias("timeout"))
        .arg(words::value("signal", Some('s'), "The first signal"))
}

/// What the flags say; else the container's own values count.
struct Asked {
    signal: Option<i32>,
    seconds: Option<i64>,
}

impl Asked {
    fn parse(matches: &ArgMatches) -> Result<Self, Failure> {
        let seconds = words::text(matches, "time")
            .map(|text| {
                text.parse()
                    .map_err(|_| words::bad("time", text, "want a number of seconds"))
            })
            .transpose()?;
        Ok(Self {
            signal: words::text(matches, "signal").map(signal).transpose()?,
            seconds,
        })
    }
}

fn signal(text: &str) -> Result<i32, Failure> {
    signals::parse(text).ok_or_else(|| Failure::new(format!("invalid signal: {text}")))
}

/// What control needs to know of a container.
pub(crate) fn target<'a>(
    context: &'a Context,
    store: &'a Store,
    container: &'a Container,
) -> Target<'a> {
    Target {
        store,
        run: &context.run,
        id: &container.record.id,
        state: &container.state,
    }
}

fn stop(
    context: &Context,
    store: &Store,
    container: &Container,
    asked: &Asked,
) -> Result<(), Failure> {
    let record = &container.record;
    let signal = asked.signal.unwrap_or_else(|| order::stop_signal(record));
    let seconds = asked.seconds.unwrap_or_else(|| order::stop_timeout(record));
    let timeout = u64::try_from(seconds).ok().map(Duration::from_secs);
    control::stop(&target(context, store, container), signal, timeout)?;
    Ok(())
}

fn kill(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let signal = words::text(matches, "signal").map_or(Ok(nix::libc::SIGKILL), signal)?;
    let store = Store::open(&context.root)?;
    words::each(&words::list(matches, "container"), |name| {
        let container = store.find_container(name)?;
        let target = target(context, &store, &container);
        if signal == nix::libc::SIGKILL && container.state.status != Status::Restarting {
            if !start::is_up(&container) {
                return Err(super::not_running(&container.record.id));
            }
            // A kill is meant to last: no restart policy undoes it.
            control::stop(&target, signal, Some(Duration::from_secs(10)))?;
            return Ok(());
        }
        Ok(control::signal(&target, signal)?)
    })
}

fn wait(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let store = Store::open(&context.root)?;
    let mut code = 0;
    for name in words::list(matches, "container") {
        let result = store
            .find_container(&name)
            .map_err(Failure::from)
            .and_then(|container| Ok(control::wait(&target(context, &store, &container))?));
        match result {
            Ok(exit_code) => output::line(exit_code),
            Err(failure) => {
                output::error(&failure);
                code = 1;
            }
        }
    }
    Ok(code)
}
