//! `rctr builder history` and `builder logs`: builds that were, and all that their steps have written.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};

use clap::{Arg, ArgMatches, Command};
use rctr_storage::Store;
use rctr_storage::cache::{BuildEntry, BuildResult, LogChunk, LogStream};
use rctr_storage::reference::Reference;

use super::words;
use crate::command::Verb;
use crate::context::Context;
use crate::format::time;
use crate::output::{self, Streams};
use crate::report::Failure;
use crate::view::cache_row;

/// `builder logs`.
pub(crate) const LOGS: Verb = Verb {
    names: &["builder logs", "buildx logs"],
    about: "Show all that a build has written",
    args: |command| {
        command.arg(build(
            "The ID or its beginning, or a tag; the last build if not given",
        ))
    },
    run: |context, matches| {
        let store = Store::open(&context.root)?;
        let entry = find(&store, words::text(matches, "build"))?;
        show(&store, &entry)?;
        Ok(0)
    },
};

/// `builder history`.
pub(crate) const HISTORY: Verb = Verb {
    names: &["builder history", "buildx history", "builder ls"],
    about: "List builds",
    args: history_args,
    run: history,
};

fn build(help: &'static str) -> Arg {
    Arg::new("build").value_name("BUILD").help(help)
}

fn history_args(command: Command) -> Command {
    command
        .arg(
            Arg::new("action")
                .value_name("ACTION")
                .value_parser(["ls", "logs", "rm"])
                .help("ls (the default), or logs or rm of a build"),
        )
        .arg(build("The ID or its beginning, or a tag"))
        .arg(words::on("all", Some('a'), "rm: all builds"))
        .arg(words::value(
            "format",
            None,
            "Go template for each line, 'table TEMPLATE', or 'json'",
        ))
        .arg(words::on("quiet", Some('q'), "Show IDs only"))
}

fn history(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let format = cache_row::builds().format(
        words::text(matches, "format"),
        words::is_on(matches, "quiet").into(),
    )?;
    let store = Store::open(&context.root)?;
    let name = words::text(matches, "build");
    match words::text(matches, "action") {
        Some("logs") => show(&store, &find(&store, name)?)?,
        Some("rm") if words::is_on(matches, "all") => {
            for entry in store.builds()? {
                remove(&store, &entry)?;
            }
        }
        Some("rm") => {
            let name = name.ok_or_else(|| {
                Failure::new("which build?").hint("rctr builder history rm BUILD, or --all")
            })?;
            remove(&store, &find(&store, Some(name))?)?;
        }
        _ => {
            let now = time::now();
            let builds = store.builds()?;
            let rows = builds.iter().map(|entry| cache_row::build(entry, now));
            output::text(format.render(rows)?);
        }
    }
    Ok(0)
}

fn remove(store: &Store, entry: &BuildEntry) -> Result<(), Failure> {
    if entry.result == BuildResult::Running {
        return Err(Failure::new(format!("build {} is running", entry.id)));
    }
    store.remove_log(&entry.id)?;
    output::line(&entry.id);
    Ok(())
}

/// The build that is meant: the newest that fits.
fn find(store: &Store, name: Option<&str>) -> Result<BuildEntry, Failure> {
    let builds = store.builds()?;
    let list = "`rctr builder history` lists the builds";
    let Some(name) = name else {
        let last = builds.into_iter().next();
        return last.ok_or_else(|| Failure::new("nothing was built yet"));
    };
    let same = |entry: &&BuildEntry| entry.id == name;
    if let Some(entry) = builds.iter().find(same) {
        return Ok(entry.clone());
    }
    let by_id: Vec<_> = builds
        .iter()
        .filter(|entry| entry.id.starts_with(name))
        .collect();
    let wanted = Reference::parse(name).ok();
    let has_tag = |entry: &&BuildEntry| {
        let mut tags = entry.tags.iter();
        wanted.is_some() && tags.any(|tag| Reference::parse(tag).ok() == wanted)
    };
    match by_id.as_slice() {
        [one] => return Ok((*one).clone()),
        [] => {}
        many => {
            let message = format!("{name} is the beginning of {} build IDs", many.len());
            return Err(Failure::new(message).hint("give more digits of the ID"));
        }
    }
    let found = builds.iter().find(has_tag).cloned();
    found.ok_or_else(|| Failure::new(format!("No such build: {name}")).hint(list))
}

/// Writes the log as `--progress=plain` does: each line with its step's number and the seconds since the build began.
fn show(store: &Store, entry: &BuildEntry) -> Result<(), Failure> {
    let mut out = Streams::new();
    let mut lines = Lines {
        raw: !std::io::stdout().is_terminal(),
        parts: BTreeMap::new(),
    };
    for chunk in store.read_build_log(&entry.id)? {
        let chunk = chunk.map_err(|error| {
            Failure::new(format!(
                "cannot read the log of build {}: {error}",
                entry.id
            ))
        })?;
        match chunk.stream {
            LogStream::Origin => lines.add_origin(&mut out, store, &chunk),
            _ => lines.add(&mut out, chunk),
        }
    }
    lines.end(&mut out);
    match entry.result {
        BuildResult::Completed => {}
        BuildResult::Running => out.line("… it is still running"),
        other => {
            let error = entry.error.as_deref();
            let error = error.map(|error| format!(": {error}")).unwrap_or_default();
            out.line(format!(
                "{}{error}",
                cache_row::status(other).to_uppercase()
            ));
        }
    }
    out.flush();
    Ok(())
}

/// Lines of several steps and streams, which come in pieces.
struct Lines {
    /// Into a file or pipe, every byte as it is.
    raw: bool,
    parts: BTreeMap<(u32, u8), (u64, Vec<u8>)>,
}

impl Lines {
    fn add(&mut self, out: &mut Streams, chunk: LogChunk) {
        let output = match chunk.stream {
            LogStream::Stdout => 1,
            LogStream::Stderr => 2,
            LogStream::Step | LogStream::Note | LogStream::Origin => {
                // What the step wrote before comes before.
                self.end_step(out, chunk.step);
                for line in chunk.bytes.split(|byte| *byte == b'\n') {
                    self.write(out, chunk.step, None, line);
                }
                return;
            }
        };
        let (mut at, mut rest) = self
            .parts
            .remove(&(chunk.step, output))
            .unwrap_or((chunk.at_ms, Vec::new()));
        rest.extend(chunk.bytes);
        let mut start = 0;
        while let Some(length) = rest[start..].iter().position(|byte| *byte == b'\n') {
            self.write(out, chunk.step, Some(at), &rest[start..start + length]);
            start += length + 1;
            at = chunk.at_ms;
        }
        rest.drain(..start);
        if !rest.is_empty() {
            self.parts.insert((chunk.step, output), (at, rest));
        }
    }

    /// What a cached step wrote when it was run, with the times of then.
    fn add_origin(&mut self, out: &mut Streams, store: &Store, chunk: &LogChunk) {
        let place = String::from_utf8_lossy(&chunk.bytes);
        let Some((build, step)) = place.split_once(' ') else {
            return;
        };
        let Ok(log) = store.read_build_log(build) else {
            let gone = format!("the log of build {build}, in which it was run, is no longer there");
            return self.write(out, chunk.step, None, gone.as_bytes());
        };
        let written = log
            .map_while(Result::ok)
            .filter(|piece| piece.step.to_string() == step)
            .filter(|piece| matches!(piece.stream, LogStream::Stdout | LogStream::Stderr));
        let mut told = false;
        for piece in written {
            if !std::mem::replace(&mut told, true) {
                let head = format!("in build {build} it wrote:");
                self.write(out, chunk.step, None, head.as_bytes());
            }
            self.add(
                out,
                LogChunk {
                    step: chunk.step,
                    ..piece
                },
            );
        }
        self.end_step(out, chunk.step);
    }

    /// Writes the lines of a step that have no end.
    fn end_step(&mut self, out: &mut Streams, step: u32) {
        for stream in [1, 2] {
            if let Some((at, part)) = self.parts.remove(&(step, stream)) {
                self.write(out, step, Some(at), &part);
            }
        }
    }

    /// Writes the lines that have no end.
    fn end(&mut self, out: &mut Streams) {
        for ((step, _), (at, part)) in std::mem::take(&mut self.parts) {
            self.write(out, step, Some(at), &part);
        }
    }

    fn write(&self, out: &mut Streams, step: u32, at_ms: Option<u64>, line: &[u8]) {
        let time = at_ms.map(|ms| format!("{}.{:03} ", ms / 1000, ms % 1000));
        let head = format!("#{step} {}", time.unwrap_or_default());
        if self.raw {
            // Who reads has gone: nothing is left to be done.
            drop(
                out.stdout
                    .write_all(&[head.as_bytes(), line, b"\n"].concat()),
            );
        } else {
            out.line(format!("{head}{}", String::from_utf8_lossy(line)));
        }
    }
}
