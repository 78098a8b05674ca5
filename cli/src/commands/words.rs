//! What the commands share: positional arguments, and doing one thing to several containers.

use clap::{Arg, ArgAction, ArgMatches, Command};

use rctr_storage::Store;
use rctr_storage::image::{Image, ImageError};
use rctr_storage::manifest::Platform;

use crate::output;
use crate::report::Failure;
use crate::request::flags::switch;

/// Adds one or more containers as arguments.
pub(crate) fn containers(command: Command) -> Command {
    command.arg(
        Arg::new("container")
            .value_name("CONTAINER")
            .num_args(1..)
            .required(true),
    )
}

/// Adds a required argument.
pub(crate) fn required(command: Command, id: &'static str, name: &'static str) -> Command {
    command.arg(Arg::new(id).value_name(name).required(true))
}

/// A switch.
pub(crate) fn on(long: &'static str, short: Option<char>, help: &'static str) -> Arg {
    let arg = Arg::new(long).long(long).help(help);
    switch(match short {
        Some(short) => arg.short(short),
        None => arg,
    })
}

/// A flag with a value, the last of which counts.
pub(crate) fn value(long: &'static str, short: Option<char>, help: &'static str) -> Arg {
    let arg = Arg::new(long)
        .long(long)
        .help(help)
        .allow_hyphen_values(true);
    match short {
        Some(short) => arg.short(short),
        None => arg,
    }
}

/// A flag with a value, each of which counts.
pub(crate) fn values(long: &'static str, short: Option<char>, help: &'static str) -> Arg {
    value(long, short, help).action(ArgAction::Append)
}

/// Adds what reading and writing archives of images share: the flag that names the file, and `--quiet`.
pub(crate) fn archive(command: Command, file: Arg) -> Command {
    let help = "Show no progress (there is none)";
    command
        .args_override_self(true)
        .arg(file)
        .arg(on("quiet", Some('q'), help))
}

/// Whether a switch is on.
pub(crate) fn is_on(matches: &ArgMatches, flag: &str) -> bool {
    matches.get_one::<bool>(flag).copied().unwrap_or(false)
}

/// The value of a flag or argument.
pub(crate) fn text<'a>(matches: &'a ArgMatches, id: &str) -> Option<&'a str> {
    matches.get_one::<String>(id).map(String::as_str)
}

/// All values of a flag or argument.
pub(crate) fn list(matches: &ArgMatches, id: &str) -> Vec<String> {
    matches
        .get_many::<String>(id)
        .map(|values| values.cloned().collect())
        .unwrap_or_default()
}

/// The value of `--platform`.
///
/// # Errors
/// When it is no platform.
pub(crate) fn platform(matches: &ArgMatches) -> Result<Option<Platform>, Failure> {
    let parse = |text| Platform::parse(text).map_err(|why| bad("platform", text, why));
    text(matches, "platform").map(parse).transpose()
}

/// An image by name, for a platform if one is wanted.
///
/// # Errors
/// When there is none.
pub(crate) fn find_image(
    store: &Store,
    name: &str,
    platform: Option<&Platform>,
) -> Result<Image, ImageError> {
    match platform {
        None => store.find_image(name),
        Some(platform) => store.find_image_for(name, platform),
    }
}

/// Does something to each; echoes the names for which it worked and goes on after failures.
///
/// # Errors
/// Never: failures are shown at once, the exit code is 1 then.
pub(crate) fn each(
    names: &[String],
    mut act: impl FnMut(&str) -> Result<(), Failure>,
) -> Result<u8, Failure> {
    let mut code = 0;
    for name in names {
        match act(name) {
            Ok(()) => output::line(name),
            Err(failure) => {
                output::error(&failure);
                code = 1;
            }
        }
    }
    Ok(code)
}

/// The failure of an argument that was given and can't be used.
pub(crate) fn bad(flag: &str, value: &str, why: impl std::fmt::Display) -> Failure {
    Failure::new(format!(
        "invalid argument {value:?} for \"--{flag}\" flag: {why}"
    ))
    .code(crate::report::ENGINE)
}
