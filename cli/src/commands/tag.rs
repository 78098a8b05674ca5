//! `rctr tag` and `rctr rmi`: names of images come and go.

use clap::{Arg, ArgMatches, Command};
use rctr_runtime::identity::{self, Mounts};
use rctr_storage::Store;
use rctr_storage::manifest::Platform;
use rctr_storage::reference::Reference;
use rctr_storage::removal::RemoveImage;

use super::words;
use crate::command::Verb;
use crate::context::Context;
use crate::output;
use crate::report::Failure;

/// `tag`.
pub(crate) const TAG: Verb = Verb {
    names: &["tag", "image tag"],
    about: "Give an image one more name",
    args: |command| {
        let command = words::required(command, "image", "IMAGE[:TAG]");
        words::required(command, "target", "NAME[:TAG]")
    },
    run: tag,
};

/// `rmi`.
pub(crate) const REMOVE: Verb = Verb {
    names: &["rmi", "image rm", "image remove"],
    about: "Remove images, or names of images",
    args: |command: Command| {
        command
            .arg(
                Arg::new("image")
                    .value_name("IMAGE")
                    .num_args(1..)
                    .required(true),
            )
            .arg(words::on(
                "force",
                Some('f'),
                "Remove it with all its names, even if a stopped container uses it",
            ))
            .arg(words::on(
                "no-prune",
                None,
                "Keep nameless images that it was made from",
            ))
            .arg(
                words::values(
                    "platform",
                    None,
                    "Only if the image is for this platform, and for no other",
                )
                .hide(true),
            )
    },
    run: remove,
};

fn tag(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let target = words::text(matches, "target").unwrap_or_default();
    let target: Reference = target.parse()?;
    let store = Store::open(&context.root)?;
    let name = words::text(matches, "image").unwrap_or_default();
    store.tag_named(name, &target)?;
    Ok(0)
}

fn is_there(store: &Store, name: &str) -> bool {
    let found = store.find_image(name);
    !found.is_err_and(|error| error.is_not_found())
}

/// Whether what `--platform` names is all that goes with the name.
fn is_only_for(store: &Store, name: &str, platforms: &[String]) -> Result<(), Failure> {
    for text in platforms {
        let platform = Platform::parse(text).map_err(|why| words::bad("platform", text, why))?;
        store.find_image_for(name, &platform)?;
        if store.find_index(name)?.is_some() {
            return Err(Failure::new(format!(
                "{name} is of several platforms, which are removed together"
            ))
            .hint(format!(
                "`rctr rmi {name}` removes all; `rctr pull --platform {text} {name}` gets one"
            )));
        }
    }
    Ok(())
}

fn remove(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let options = RemoveImage {
        force: words::is_on(matches, "force"),
        keep_parents: words::is_on(matches, "no-prune"),
    };
    let names = words::list(matches, "image");
    let store = Store::open(&context.root)?;
    // Its files belong to several owners. Who asks for nothing that is there needs no namespace to hear so.
    if names.iter().any(|name| is_there(&store, name)) {
        crate::leftovers::clear(context, &store);
        identity::enter(&context.identity()?, Mounts::Host)?;
    }
    let mut code = 0;
    let platforms = words::list(matches, "platform");
    for name in names {
        if let Err(failure) = is_only_for(&store, &name, &platforms) {
            code = 1;
            output::error(failure);
            continue;
        }
        match store.remove_image(&name, options) {
            Ok(removed) => removed.iter().for_each(output::line),
            Err(error) => {
                // With -f, nothing there is what was wanted, but it is said.
                if !(options.force && error.is_not_found()) {
                    code = 1;
                }
                output::error(Failure::from(error));
            }
        }
    }
    Ok(code)
}
