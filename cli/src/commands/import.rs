//! `rctr import`.

use std::fs::File;
use std::io::{self, Read};

use clap::{Arg, ArgMatches, Command};
use rctr_runtime::identity::{self, Mounts};
use rctr_storage::Store;
use rctr_storage::archive::{self, ImportOptions};
use rctr_storage::config::ContainerConfig;
use rctr_storage::reference::Reference;

use super::create::io_failure;
use super::words;
use crate::command::Verb;
use crate::context::Context;
use crate::report::Failure;
use crate::{changes, output};

/// `import`.
pub(crate) const VERB: Verb = Verb {
    names: &["import", "image import"],
    about: "Make an image from the tar of a root file system",
    args,
    run,
};

fn args(command: Command) -> Command {
    words::required(command, "file", "FILE|-")
        .args_override_self(true)
        .arg(Arg::new("reference").value_name("REPOSITORY[:TAG]"))
        .arg(words::values(
            "change",
            Some('c'),
            "Apply a Dockerfile instruction to the image's config",
        ))
        .arg(words::value("message", Some('m'), "Comment of the image"))
        .arg(words::value(
            "platform",
            None,
            "Platform of the files: OS/ARCH[/VARIANT]",
        ))
}

fn run(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let file = words::text(matches, "file").unwrap_or_default();
    let mut config = ContainerConfig::default();
    changes::apply(&mut config, &words::list(matches, "change"))?;
    let message = match words::text(matches, "message") {
        Some(message) => message.to_owned(),
        None => format!("Imported from {}", if file == "-" { "-" } else { file }),
    };
    let options = ImportOptions {
        reference: words::text(matches, "reference")
            .map(Reference::parse)
            .transpose()?,
        message,
        config,
        platform: words::platform(matches)?,
        created: None,
    };
    if file.starts_with("http://") || file.starts_with("https://") {
        return Err(Failure::new(format!(
            "cannot import from {file}: URLs are not supported yet"
        ))
        .hint(format!("curl -fsSL {file} | rctr import - NAME")));
    }
    let input: Box<dyn Read + Send> = match file {
        "-" => Box::new(io::stdin()),
        path => Box::new(
            File::open(path).map_err(|error| io_failure(format!("cannot open {path}"), &error))?,
        ),
    };
    let store = Store::open(&context.root)?;
    identity::enter(&context.identity()?, Mounts::Host)?;
    output::line(archive::import(&store, input, options)?.id);
    Ok(0)
}
