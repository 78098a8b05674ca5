//! `rctr run`.

use std::io::{self, IsTerminal};

use clap::{ArgMatches, Command};
use rctr_runtime::attach::message::Streams;
use rctr_runtime::attach::{Client, Outcome, RelayOptions, keys};
use rctr_runtime::monitor;
use rctr_storage::Store;
use rctr_storage::config::ContainerConfig;
use rctr_storage::container::Container;

use super::{create, words};
use crate::command::Verb;
use crate::context::Context;
use crate::report::Failure;
use crate::request::{RunRequest, flags};
use crate::{order, output};

/// `run`.
pub(crate) const VERB: Verb = Verb {
    names: &["run", "container run"],
    about: "Make a container from an image and start it",
    args: |command| {
        flags::add(
            command,
            &[flags::CREATE, flags::RUN],
            "rctr run [OPTIONS] IMAGE [COMMAND] [ARG...]",
        )
    },
    run,
};

fn run(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let request = create::request(matches, "run")?;
    check_terminal(request.config.tty && request.attach.stdin && !request.detach)?;
    let relay = relay_options(&request)?;
    start(context, &request, &relay).map_err(create::engine)
}

/// `-it` wants a terminal on standard input, as docker does.
pub(crate) fn check_terminal(wanted: bool) -> Result<(), Failure> {
    if wanted && !io::stdin().is_terminal() {
        return Err(Failure::new("the input device is not a TTY")
            .hint("leave -t out when standard input is not a terminal"));
    }
    Ok(())
}

/// The bytes of `--detach-keys`.
pub(crate) fn detach_keys(given: Option<&str>) -> Result<Vec<u8>, Failure> {
    let text = given
        .filter(|keys| !keys.is_empty())
        .unwrap_or(keys::DEFAULT);
    keys::parse(text).map_err(|error| Failure::from(error).code(crate::report::ENGINE))
}

/// Adds the flags of a foreground client of a container that is there.
pub(crate) fn relay_flags(command: Command) -> Command {
    command
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

/// What such a client passes on, by its flags; `stdin`: whether input is wanted.
///
/// # Errors
/// Wrong keys; a container with a terminal whose input is wanted while ours isn't one.
pub(crate) fn relay(
    matches: &ArgMatches,
    config: &ContainerConfig,
    stdin: bool,
) -> Result<RelayOptions, Failure> {
    let stdin = stdin && config.open_stdin;
    let detach_keys = detach_keys(words::text(matches, "detach-keys"))?;
    check_terminal(config.tty && stdin)?;
    Ok(RelayOptions {
        streams: Streams {
            stdin,
            stdout: true,
            stderr: true,
        },
        tty: config.tty,
        detach_keys,
        sig_proxy: matches
            .get_one::<bool>("sig-proxy")
            .copied()
            .unwrap_or(true),
    })
}

fn relay_options(request: &RunRequest) -> Result<RelayOptions, Failure> {
    Ok(RelayOptions {
        streams: Streams {
            stdin: request.attach.stdin && request.config.open_stdin,
            stdout: request.attach.stdout,
            stderr: request.attach.stderr,
        },
        tty: request.config.tty,
        detach_keys: detach_keys(request.detach_keys.as_deref())?,
        sig_proxy: request.sig_proxy,
    })
}

fn start(context: &Context, request: &RunRequest, relay: &RelayOptions) -> Result<u8, Failure> {
    let store = Store::open(&context.root)?;
    // It gets ready while the record is made; no thread exists before.
    let own = order::own_user_namespace(&request.host);
    let prepared = monitor::prepare(own, context.path.as_ref())?;
    let container = create::new_container(context, &store, request)?;
    let order =
        order::order(context, &store, &container).inspect_err(|_| discard(&store, &container))?;
    let attached = Some(relay).filter(|_| !request.detach);
    let started = prepared.start(order, attached).map_err(|error| {
        // A monitor that got as far as the record has removed it itself.
        discard(&store, &container);
        let code = error.exit_code();
        Failure::from(error).code(code)
    })?;
    // While the program runs, and not for as long as it does.
    store.end_session();
    match started.client {
        Some(client) => {
            // Who shows no output shows the ID (`-a stdin`).
            if !relay.streams.stdout && !relay.streams.stderr {
                output::line(&container.record.id);
            }
            finish(client, relay)
        }
        None => {
            output::line(&container.record.id);
            Ok(0)
        }
    }
}

/// A `--rm` container that can't even be asked for goes, as one that ran.
fn discard(store: &Store, container: &Container) {
    if container.record.host_config.auto_remove {
        // The error that led here is the news; what is left is listed by `ps -a` and `volume ls`.
        let _ = store.remove_container(&container.record.id);
        for name in create::anonymous(&container.record) {
            let _ = store.remove_volume(name);
        }
    }
}

/// Relays until the end, which is the command's exit code.
pub(crate) fn finish(client: Client, relay: &RelayOptions) -> Result<u8, Failure> {
    Ok(exit_code(client.relay(relay)?))
}

/// How a relay's end shows in the exit code, and who detached is told so.
pub(crate) fn exit_code(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Exited(code) => u8::try_from(code & 0xff).unwrap_or(1),
        Outcome::Detached => {
            // The cursor stands where the container left it.
            output::note("\nread escape sequence");
            0
        }
        Outcome::Interrupted(signal) => u8::try_from(128 + signal).unwrap_or(1),
        Outcome::OutputClosed => 141,
        Outcome::GivenUp => {
            let failure = Failure::new("got 3 SIGTERM/SIGINTs, forcefully exiting")
                .hint("the container goes on: `rctr stop` or `rctr kill` ends it");
            output::error(&failure);
            1
        }
    }
}
