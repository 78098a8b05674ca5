//! `rctr save`.

use std::fs::{self, File};
use std::io::{self, IsTerminal};
use std::path::Path;

use clap::{Arg, ArgMatches, Command};
use rctr_storage::Store;
use rctr_storage::archive::{self, Format};

use super::create::io_failure;
use super::words;
use crate::command::Verb;
use crate::context::Context;
use crate::report::Failure;

/// `save`.
pub(crate) const VERB: Verb = Verb {
    names: &["save", "image save"],
    about: "Write images to an archive",
    args,
    run,
};

fn args(command: Command) -> Command {
    let help = "Write to this file instead of standard output";
    words::archive(command, words::value("output", Some('o'), help))
        .arg(words::value(
            "format",
            None,
            "docker-archive (default) or oci-archive",
        ))
        .arg(words::value(
            "platform",
            None,
            "Of an image for several platforms, save this one",
        ))
        .arg(
            Arg::new("image")
                .value_name("IMAGE")
                .num_args(1..)
                .required(true),
        )
}

fn run(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let names = words::list(matches, "image");
    let format = match words::text(matches, "format") {
        None | Some("docker-archive" | "docker") => Format::Docker,
        Some("oci-archive" | "oci") => Format::Oci,
        Some(other) => {
            return Err(words::bad(
                "format",
                other,
                "want docker-archive or oci-archive",
            ));
        }
    };
    let platform = words::platform(matches)?;
    let platform = platform.as_ref();
    let store = Store::open(&context.root)?;
    match words::text(matches, "output") {
        Some(path) if path != "-" => {
            whole_file(Path::new(path), |file| {
                Ok(archive::save_for(&store, &names, format, platform, file)?)
            })?;
        }
        _ => {
            refuse_terminal()?;
            archive::save_for(&store, &names, format, platform, io::stdout().lock())?;
        }
    }
    Ok(0)
}

/// Binary data on a terminal helps nobody.
pub(crate) fn refuse_terminal() -> Result<(), Failure> {
    if io::stdout().is_terminal() {
        return Err(Failure::new("cowardly refusing to save to a terminal")
            .hint("use -o FILE, or redirect the output"));
    }
    Ok(())
}

/// Writes a file that is there as a whole or not at all.
pub(crate) fn whole_file(
    path: &Path,
    write: impl FnOnce(&mut File) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let cannot = |error: io::Error| io_failure(format!("cannot write {}", path.display()), &error);
    let kind = fs::metadata(path).map(|meta| meta.file_type()).ok();
    if kind.is_some_and(|kind| !kind.is_file() && !kind.is_dir()) {
        // A pipe or a device: it can't be replaced.
        return write(&mut File::options().write(true).open(path).map_err(cannot)?);
    }
    if kind.is_some_and(|kind| kind.is_dir()) {
        return Err(Failure::new(format!(
            "cannot write {}: it is a directory",
            path.display()
        )));
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temp = path.with_file_name(name);
    let result = File::create(&temp)
        .map_err(cannot)
        .and_then(|mut file| write(&mut file))
        .and_then(|()| fs::rename(&temp, path).map_err(cannot));
    if result.is_err() {
        // The error is the news.
        let _ = fs::remove_file(&temp);
    }
    result
}
