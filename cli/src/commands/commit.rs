//! `rctr commit`.

use clap::{Arg, ArgMatches, Command};
use rctr_runtime::control::{self, ControlError, Stillness};
use rctr_runtime::identity::{self, Mounts};
use rctr_storage::config::{ContainerConfig, History, ImageConfig};
use rctr_storage::container::Container;
use rctr_storage::image::{Image, NewImage};
use rctr_storage::record::Status;
use rctr_storage::reference::Reference;
use rctr_storage::{Store, timestamp};

use super::{stop, words};
use crate::command::Verb;
use crate::context::Context;
use crate::report::Failure;
use crate::{changes, files, output};

/// `commit`.
pub(crate) const VERB: Verb = Verb {
    names: &["commit", "container commit"],
    about: "Make an image of a container's changes",
    args,
    run,
};

fn args(command: Command) -> Command {
    words::required(command, "container", "CONTAINER")
        .args_override_self(true)
        .arg(Arg::new("reference").value_name("REPOSITORY[:TAG]"))
        .arg(words::value("author", Some('a'), "Who made it"))
        .arg(words::values(
            "change",
            Some('c'),
            "Apply a Dockerfile instruction to the image's config",
        ))
        .arg(words::value("message", Some('m'), "Comment of the image"))
        .arg(words::on(
            "pause",
            Some('p'),
            "Stop the container's processes while its files are read (default true)",
        ))
        .arg(words::on("no-pause", None, "Let them run on meanwhile"))
}

fn run(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let tags = words::text(matches, "reference")
        .map(Reference::parse)
        .transpose()?
        .into_iter()
        .collect();
    let store = Store::open(&context.root)?;
    let container = store.find_container(words::text(matches, "container").unwrap_or_default())?;
    let base = store
        .find_image(&container.record.image.to_string())
        .map_err(|error| {
            let mut failure = Failure::from(error);
            failure.hint = Some(
                "the image that the container stands on is gone: bring it back with `rctr load`"
                    .to_owned(),
            );
            failure
        })?;
    let config = config(&container, &base, matches)?;
    let plan = files::rootfs_plan(&store, &container);
    let still = freeze(context, &store, &container, matches)?;
    identity::enter(&context.identity()?, Mounts::Host)?;
    let mut layers = base.layers.clone();
    layers.push(files::layer(&store, &plan)?);
    drop(still);
    let image = store.create_image(NewImage {
        config,
        layers,
        tags,
        parent: Some(base.id),
    })?;
    output::line(image.id);
    Ok(0)
}

/// Stops a running container's processes, unless they are not to be stopped.
fn freeze(
    context: &Context,
    store: &Store,
    container: &Container,
    matches: &ArgMatches,
) -> Result<Option<Stillness>, Failure> {
    let wanted = matches.get_one::<bool>("pause").copied().unwrap_or(true);
    if !wanted || words::is_on(matches, "no-pause") || container.state.status != Status::Running {
        return Ok(None);
    }
    match control::freeze(&stop::target(context, store, container)) {
        // It has ended since: nobody changes its files.
        Err(ControlError::NotRunning { .. }) => Ok(None),
        other => Ok(Some(other?)),
    }
}

/// The base's document with the container's parameters and one more step of history.
fn config(
    container: &Container,
    base: &Image,
    matches: &ArgMatches,
) -> Result<ImageConfig, Failure> {
    let mut config = of_container(&container.record.config, &base.config.config);
    changes::apply(&mut config, &words::list(matches, "change"))?;
    let now = timestamp::now();
    let text = |id: &str| {
        words::text(matches, id)
            .filter(|t| !t.is_empty())
            .map(str::to_owned)
    };
    let mut history = base.config.history.clone();
    history.push(History {
        created: Some(now.clone()),
        created_by: Some(
            container
                .record
                .config
                .cmd
                .as_deref()
                .unwrap_or_default()
                .join(" "),
        ),
        author: text("author"),
        comment: text("message"),
        empty_layer: false,
    });
    Ok(ImageConfig {
        created: Some(now),
        author: text("author"),
        comment: text("message"),
        config,
        history,
        ..base.config.clone()
    })
}

/// What a container of the new image runs with: this one's parameters, without what concerned only it.
fn of_container(container: &ContainerConfig, base: &ContainerConfig) -> ContainerConfig {
    ContainerConfig {
        hostname: String::new(),
        domainname: String::new(),
        attach_stdin: false,
        attach_stdout: false,
        attach_stderr: false,
        tty: false,
        open_stdin: false,
        stdin_once: false,
        image: String::new(),
        stop_timeout: None,
        on_build: base.on_build.clone(),
        extra: base.extra.clone(),
        ..container.clone()
    }
}
