//! `rctr import`.

use std::fs::File;
use std::io::{self, IsTerminal, Read};

use clap::{Arg, ArgMatches, Command};
use rctr_builder::fetch;
use rctr_runtime::identity::{self, Mounts};
use rctr_storage::Store;
use rctr_storage::archive::{self, ImportOptions};
use rctr_storage::config::ContainerConfig;
use rctr_storage::reference::Reference;
use rctr_storage::web::without_password;

use super::create::io_failure;
use super::words;
use crate::command::Verb;
use crate::context::Context;
use crate::report::Failure;
use crate::{changes, output, web};

/// `import`.
pub(crate) const VERB: Verb = Verb {
    names: &["import", "image import"],
    about: "Make an image from the tar of a root file system",
    args,
    run,
};

fn args(command: Command) -> Command {
    words::required(command, "file", "FILE|URL|-")
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
    let is_url = file.starts_with("http://") || file.starts_with("https://");
    let message = match words::text(matches, "message") {
        Some(message) => message.to_owned(),
        None => format!("Imported from {}", without_password(file)),
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
    let local: Option<Box<dyn Read + Send>> = match file {
        _ if is_url => None,
        "-" if io::stdin().is_terminal() => {
            return Err(
                Failure::new("requested import from stdin, but stdin is a terminal")
                    .hint("rctr import FILE NAME, or rctr import - NAME < FILE"),
            );
        }
        "-" => Some(Box::new(io::stdin())),
        path => Some(Box::new(File::open(path).map_err(|error| {
            io_failure(format!("cannot open {path}"), &error)
        })?)),
    };
    let store = Store::open(&context.root)?;
    identity::enter(&context.identity()?, Mounts::Host)?;
    // Who looks up names may start threads, which can't be before the user namespace is entered.
    let input = match local {
        Some(input) => input,
        None => fetch::Client::new(fetch::Settings {
            web: web::settings(),
            ..fetch::Settings::default()
        })
        .open(file)?,
    };
    output::line(archive::import(&store, input, options)?.id);
    Ok(0)
}
