//! `rctr export`.

use std::io::{self, Write};
use std::path::Path;

use clap::{ArgMatches, Command};
use rctr_storage::Store;
use rctr_storage::tree::{self, Mounts, PackOptions};

use super::{save, words};
use crate::command::Verb;
use crate::context::Context;
use crate::files::{self, Volumes};
use crate::report::Failure;

/// `export`.
pub(crate) const VERB: Verb = Verb {
    names: &["export", "container export"],
    about: "Write a container's file system to a tar",
    args,
    run,
};

fn args(command: Command) -> Command {
    words::required(command, "container", "CONTAINER")
        .args_override_self(true)
        .arg(words::value(
            "output",
            Some('o'),
            "Write to this file instead of standard output",
        ))
}

fn run(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let output = words::text(matches, "output").filter(|path| *path != "-");
    if output.is_none() {
        save::refuse_terminal()?;
    }
    let store = Store::open(&context.root)?;
    let container = store.find_container(words::text(matches, "container").unwrap_or_default())?;
    let options = PackOptions {
        mounts: Mounts::Skip,
        ..PackOptions::default()
    };
    let pack = |root: &Path, out: &mut dyn Write| Ok(tree::pack(root, "/", &options, out)?);
    let root = files::enter(context, &store, &container, Volumes::Hidden)?;
    match output {
        Some(path) => save::whole_file(Path::new(path), |file| pack(&root, file))?,
        None => pack(&root, &mut io::stdout().lock())?,
    }
    Ok(0)
}
