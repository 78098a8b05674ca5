//! `rctr history`.

use clap::{ArgMatches, Command};
use rctr_storage::Store;

use super::words;
use crate::command::Verb;
use crate::context::Context;
use crate::format::time;
use crate::output;
use crate::report::Failure;
use crate::view::container_row::Cut;
use crate::view::history::{self, Human};

/// `history`.
pub(crate) const VERB: Verb = Verb {
    names: &["history", "image history"],
    about: "Show how an image came to be",
    args,
    run,
};

fn args(command: Command) -> Command {
    words::required(command, "image", "IMAGE")
        .arg(words::value(
            "format",
            None,
            "Go template for each line, 'table TEMPLATE', or 'json'",
        ))
        .arg(
            words::on(
                "human",
                Some('H'),
                "Show durations and sizes in words (default: true)",
            )
            .default_value("true"),
        )
        .arg(words::on(
            "no-trunc",
            None,
            "Show IDs and instructions in full",
        ))
        .arg(words::on("quiet", Some('q'), "Show IDs only"))
        .arg(words::value(
            "platform",
            None,
            "Of an image for several platforms, show this one",
        ))
}

fn run(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let format = history::listing().format(
        words::text(matches, "format"),
        words::is_on(matches, "quiet").into(),
    )?;
    let store = Store::open(&context.root)?;
    let name = words::text(matches, "image").unwrap_or_default();
    let image = words::find_image(&store, name, words::platform(matches)?.as_ref())?;
    let mut images = vec![(image.id, image.config.history.len())];
    let mut next = image.parent;
    // An ancestor that was removed ends the walk.
    while let Some(id) = next
        && let Ok(parent) = store.find_image(&id.to_string())
        && images.len() <= image.config.history.len()
    {
        images.push((id, parent.config.history.len()));
        next = parent.parent;
    }
    let cut = if words::is_on(matches, "no-trunc") {
        Cut::No
    } else {
        Cut::Yes
    };
    let human = if words::is_on(matches, "human") {
        Human::Yes
    } else {
        Human::No
    };
    let now = time::now();
    let steps = history::steps(&image.config, &images, &|id| store.layer_size(id));
    let rows = steps.iter().map(|step| step.row(cut, human, now));
    output::text(format.render(rows)?);
    Ok(0)
}
