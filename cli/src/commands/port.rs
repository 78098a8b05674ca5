//! `rctr port`.

use clap::{Arg, ArgMatches, Command};
use rctr_storage::Store;

use super::words;
use crate::command::Verb;
use crate::context::Context;
use crate::format::ports;
use crate::output;
use crate::report::Failure;
use crate::view::container_row::ports_of;

/// `port`.
pub(crate) const VERB: Verb = Verb {
    names: &["port", "container port"],
    about: "Show where a container's ports are published",
    args,
    run,
};

fn args(command: Command) -> Command {
    words::required(command, "container", "CONTAINER").arg(
        Arg::new("port")
            .value_name("PORT[/PROTOCOL]")
            .help("Only this port of the container"),
    )
}

fn run(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let name = words::text(matches, "container").unwrap_or_default();
    let store = Store::open(&context.root)?;
    let container = store.find_container(name)?;
    let mut published = ports_of(&container);
    published.retain(|port| port.host.is_some());
    let wanted = words::text(matches, "port");
    if let Some(text) = wanted {
        let Some((number, protocol)) = ports::split(text) else {
            return Err(Failure::new(format!("invalid port {text:?}"))
                .hint("want a number, and /tcp or /udp if you like"));
        };
        published.retain(|port| (port.container, port.protocol.as_str()) == (number, protocol));
        if published.is_empty() {
            return Err(Failure::new(format!(
                "no public port '{number}/{protocol}' published for {name}"
            ))
            .hint(format!("`rctr port {name}` lists what is published")));
        }
    }
    for port in published {
        let Some((ip, number)) = port.host else {
            continue;
        };
        let host = ports::address(ip, number);
        match wanted {
            Some(_) => output::line(host),
            None => output::line(format!("{}/{} -> {host}", port.container, port.protocol)),
        }
    }
    Ok(0)
}
