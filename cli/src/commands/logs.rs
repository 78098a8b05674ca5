//! `rctr logs`.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::SystemTime;

use clap::{ArgMatches, Command};
use rctr_runtime::log::{self, Entry, LogError, ReadOptions, Stream};
use rctr_storage::Store;
use rctr_storage::record::ContainerRecord;

use super::words;
use crate::command::Verb;
use crate::context::Context;
use crate::report::Failure;
use crate::{moment, output};

/// `logs`.
pub(crate) const VERB: Verb = Verb {
    names: &["logs", "container logs"],
    about: "Show what a container has written",
    args,
    run,
};

fn args(command: Command) -> Command {
    words::required(command, "container", "CONTAINER")
        .args_override_self(true)
        .arg(words::on("follow", Some('f'), "Go on as it writes"))
        .arg(words::on(
            "timestamps",
            Some('t'),
            "Show when each line was written",
        ))
        .arg(words::on(
            "details",
            None,
            "Show what --log-opt labels, env and tag name, before each line",
        ))
        .arg(words::value(
            "tail",
            Some('n'),
            "Only the last N lines; all",
        ))
        .arg(words::value(
            "since",
            None,
            "Only since a time: 10m, 2024-05-01T10:00:00",
        ))
        .arg(words::value("until", None, "Only until a time"))
}

fn run(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let now = SystemTime::now();
    let time = |flag: &str| {
        words::text(matches, flag)
            .map(|text| moment::parse(text, now).map_err(|why| words::bad(flag, text, why).code(1)))
            .transpose()
    };
    let options = ReadOptions {
        tail: words::text(matches, "tail").map_or(Ok(None), tail)?,
        follow: words::is_on(matches, "follow"),
        since: time("since")?,
        until: time("until")?,
    };
    let stamps = words::is_on(matches, "timestamps");
    let store = Store::open(&context.root)?;
    let container = store.find_container(words::text(matches, "container").unwrap_or_default())?;
    let record = &container.record;
    if record.host_config.log_config.driver == "none" {
        return Err(LogError::NoLog.into());
    }
    let details = if words::is_on(matches, "details") {
        let mut text = details(record);
        text.push(' ');
        text
    } else {
        String::new()
    };
    let mut streams = output::Streams::new();
    let mut sink = |entry: Entry<'_>| {
        let out: &mut dyn Write = match entry.stream {
            Stream::Stdout => &mut streams.stdout,
            Stream::Stderr => &mut streams.stderr,
        };
        if stamps {
            write!(out, "{} ", entry.time)?;
        }
        out.write_all(details.as_bytes())?;
        out.write_all(entry.text.as_bytes())?;
        if options.follow { out.flush() } else { Ok(()) }
    };
    let mut alive = || store.monitor_alive(&record.id);
    let read = log::read(&log::path(&container.dir), &options, &mut alive, &mut sink);
    match read {
        // Who reads has what he wanted.
        Err(LogError::Io { source, .. }) if source.kind() == std::io::ErrorKind::BrokenPipe => {
            Ok(0)
        }
        other => {
            streams.flush();
            other?;
            Ok(0)
        }
    }
}

/// The labels and variables that `--log-opt` lists, and its tag, as docker shows them: sorted, escaped for a URL. Empty
/// without. They can't change while a container lives, so its log needn't have them.
fn details(record: &ContainerRecord) -> String {
    let option = |name: &str| record.host_config.log_config.config.get(name);
    let named = |name: &str| option(name).into_iter().flat_map(|list| list.split(','));
    let mut found = BTreeMap::new();
    for key in named("labels") {
        if let Some(value) = record.config.labels.get(key) {
            found.insert(key, value.as_str());
        }
    }
    for key in named("env") {
        let mut variables = record.config.env.iter().filter_map(|v| v.split_once('='));
        if let Some((_, value)) = variables.find(|(name, _)| *name == key) {
            found.insert(key, value);
        }
    }
    if let Some(tag) = option("tag") {
        found.insert("tag", tag);
    }
    let pairs = found
        .iter()
        .map(|(k, v)| format!("{}={}", escaped(k), escaped(v)));
    pairs.collect::<Vec<_>>().join(",")
}

/// As in the query of a URL.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b' ' => out.push('+'),
            b'-' | b'_' | b'.' | b'~' => out.push(byte.into()),
            _ if byte.is_ascii_alphanumeric() => out.push(byte.into()),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// `all`, a number; a negative one means all.
fn tail(text: &str) -> Result<Option<u64>, Failure> {
    if text == "all" {
        return Ok(None);
    }
    text.parse::<i64>()
        .map(|n| u64::try_from(n).ok())
        .map_err(|_| words::bad("tail", text, "want a number or \"all\"").code(1))
}
