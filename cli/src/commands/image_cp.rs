//! `rctr image cp`: an image from one place to another.

use clap::{ArgMatches, Command};
use rctr_runtime::identity::{self, Mounts};
use rctr_storage::Store;
use rctr_storage::transfer::{self, CopyOptions, PullOptions, PushOptions};
use rctr_storage::transport::Place;

use super::words;
use crate::command::Verb;
use crate::context::Context;
use crate::progress::transfer::{Display, Look, Way};
use crate::registries::{Registries, tls_verify};
use crate::report::Failure;
use crate::{output, places};

/// `image cp`.
pub(crate) const VERB: Verb = Verb {
    names: &["image cp", "image copy"],
    about: "Copy an image between store, registries, layouts and archives",
    args,
    run,
};

const PLACES: &str = "NAME (the store), docker://NAME (a registry), oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:NAME] or dir:DIR";

fn args(command: Command) -> Command {
    let command =
        words::required(command, "source", "SOURCE").mut_arg("source", |arg| arg.help(PLACES));
    words::required(command, "target", "TARGET")
        .mut_arg("target", |arg| arg.help("The same"))
        .arg(words::on(
            "all-platforms",
            None,
            "The index and the images of all its platforms",
        ))
        .arg(words::value(
            "platform",
            None,
            "The image for this platform, for example linux/arm64",
        ))
        .arg(words::on("quiet", Some('q'), "Print the digest only"))
        .arg(tls_verify())
}

fn run(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let place = |id: &str| Place::parse(words::text(matches, id).unwrap_or_default());
    let (from, to) = (place("source")?, place("target")?);
    let quiet = words::is_on(matches, "quiet");
    let look = if quiet { Look::Quiet } else { Look::auto() };
    let platform = words::platform(matches)?;
    let all_platforms = words::is_on(matches, "all-platforms");
    let registries = Registries::new(matches)?;
    let store = Store::open(&context.root)?;
    let digest = match (&from, &to) {
        (Place::Store(_), Place::Store(_)) => {
            return Err(Failure::new("both places are the store")
                .hint("`rctr tag` gives an image one more name; a registry is docker://NAME"));
        }
        (Place::Store(name), _) => {
            let image = words::find_image(&store, &name.to_string(), platform.as_ref())?;
            let target = places::target(&registries, &to)?;
            let options = PushOptions {
                all_platforms,
                ..PushOptions::default()
            };
            let display = Display::start(look, Way::Push);
            let pushed = transfer::push(&store, &image, &*target, &options, &display);
            display.finish();
            pushed?.digest
        }
        (_, Place::Store(name)) => {
            let from = places::source(&registries, &store, &from)?;
            identity::enter(&context.identity()?, Mounts::Host)?;
            let options = PullOptions {
                platform,
                all_platforms,
                ..PullOptions::default()
            };
            let display = Display::start(look, Way::Pull);
            let pulled = transfer::pull(&store, &*from.source, name, &options, &display);
            display.finish();
            pulled?.digest
        }
        _ => {
            let from = places::source(&registries, &store, &from)?;
            let target = places::target(&registries, &to)?;
            let options = CopyOptions {
                platform,
                all_platforms,
                ..CopyOptions::default()
            };
            let display = Display::start(look, Way::Push);
            let copied = transfer::copy(&*from.source, &*target, &options, &display);
            display.finish();
            copied?.digest
        }
    };
    match quiet {
        true => output::line(digest),
        false => output::line(format!("Digest: {digest}")),
    }
    Ok(0)
}
