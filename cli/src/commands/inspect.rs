//! `rctr inspect` and its forms for one kind of thing.

use clap::{Arg, ArgMatches, Command};
use rctr_storage::Store;
use rctr_storage::container::{Container, ContainerError};
use rctr_storage::digest::DiffId;
use rctr_storage::manifest::Platform;
use rctr_storage::transfer;
use rctr_storage::volume::VolumeError;
use serde::Serialize;
use serde_json::Value;

use super::{sizes, words};
use crate::command::Verb;
use crate::context::Context;
use crate::format::template_failure;
use crate::registries::Registries;
use crate::report::Failure;
use crate::template::{Data, Schema, Template};
use crate::view::inspect;
use crate::{output, places};

/// `inspect`.
pub(crate) const VERB: Verb = Verb {
    names: &["inspect"],
    about: "Show all about containers, images and volumes, as JSON",
    args: |command| {
        with_size(common(command)).arg(words::value(
            "type",
            None,
            "Look only for a container, image or volume",
        ))
    },
    run: |context, matches| run(context, matches, words::text(matches, "type").unwrap_or("")),
};

/// `container inspect`.
pub(crate) const CONTAINER: Verb = Verb {
    names: &["container inspect"],
    about: "Show all about containers, as JSON",
    args: |command| with_size(common(command)),
    run: |context, matches| run(context, matches, "container"),
};

/// `image inspect`.
pub(crate) const IMAGE: Verb = Verb {
    names: &["image inspect"],
    about: "Show all about images, as JSON",
    args: |command| {
        common(command).arg(words::value(
            "platform",
            None,
            "Of an image for several platforms, show this one",
        ))
    },
    run: |context, matches| run(context, matches, "image"),
};

/// `volume inspect`.
pub(crate) const VOLUME: Verb = Verb {
    names: &["volume inspect"],
    about: "Show all about volumes, as JSON",
    args: common,
    run: |context, matches| run(context, matches, "volume"),
};

fn common(command: Command) -> Command {
    command
        .arg(
            Arg::new("name")
                .value_name("NAME|ID")
                .num_args(1..)
                .required(true),
        )
        .arg(words::value(
            "format",
            Some('f'),
            "Go template for each, or 'json' for one line of JSON",
        ))
}

fn with_size(command: Command) -> Command {
    command.arg(words::on(
        "size",
        Some('s'),
        "Show what containers have written",
    ))
}

/// A thing's document and what its fields are.
type Found = (Value, Schema);

fn run(context: &Context, matches: &ArgMatches, kind: &str) -> Result<u8, Failure> {
    if !matches!(kind, "" | "container" | "image" | "volume") {
        return Err(
            Failure::new(format!("{kind:?} is not a valid value for --type"))
                .hint("want container, image or volume"),
        );
    }
    let platform = match matches.try_contains_id("platform") {
        Ok(true) => words::platform(matches)?,
        _ => None,
    };
    let sized = matches.try_contains_id("size").unwrap_or(false) && words::is_on(matches, "size");
    let form = Form::parse(words::text(matches, "format").unwrap_or_default())?;
    let store = Store::open(&context.root)?;
    let mut found = Vec::new();
    let mut failures = Vec::new();
    for name in words::list(matches, "name") {
        match look(context, &store, &name, kind, sized, platform.as_ref()) {
            Ok(thing) => found.push(thing),
            Err(failure) => failures.push(failure),
        }
    }
    let shown = form.render(&found);
    match shown {
        Ok(text) => output::text(text),
        Err((text, failure)) => {
            output::text(text);
            failures.push(failure);
        }
    }
    for failure in &failures {
        output::error(failure);
    }
    Ok(u8::from(!failures.is_empty()))
}

/// Finds a thing by name: a container before an image before a volume.
fn look(
    context: &Context,
    store: &Store,
    name: &str,
    kind: &str,
    sized: bool,
    platform: Option<&Platform>,
) -> Result<Found, Failure> {
    let any = kind.is_empty();
    if any || kind == "container" {
        match store.find_container(name) {
            Ok(container) => return container_of(context, store, &container, sized),
            Err(ContainerError::NotFound { .. }) if any => {}
            Err(error) => return Err(error.into()),
        }
    }
    if kind == "image" && places::is_elsewhere(name) {
        return elsewhere(store, name, platform);
    }
    if any || kind == "image" {
        match words::find_image(store, name, platform) {
            Ok(image) => {
                let document = inspect::image::document(&image, &store.snapshot(&image));
                return Ok((document, inspect::image::SCHEMA));
            }
            Err(error) if any && error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    match store.find_volume(name) {
        Ok(volume) => Ok((inspect::volume::document(&volume), inspect::volume::SCHEMA)),
        Err(VolumeError::NotFound { .. }) if any => {
            Err(Failure::new(format!("No such object: {name}"))
                .hint("`rctr ps -a`, `rctr images` and `rctr volume ls` list what is here"))
        }
        Err(error) => Err(error.into()),
    }
}

/// An image of a registry, a layout or an archive, without its layers.
fn elsewhere(store: &Store, name: &str, platform: Option<&Platform>) -> Result<Found, Failure> {
    let registries = Registries::of_environment()?;
    let from = places::source(&registries, store, &places::parse(name)?)?;
    let mut image = transfer::look_at_image(&*from.source, platform)?;
    image.tags = from
        .names
        .into_iter()
        .filter(|name| name.digest.is_none())
        .collect();
    Ok((
        inspect::image::document(&image, &[]),
        inspect::image::SCHEMA,
    ))
}

fn container_of(
    context: &Context,
    store: &Store,
    container: &Container,
    sized: bool,
) -> Result<Found, Failure> {
    let layers = container.record.layers.iter().rev();
    let layers: Vec<_> = layers.map(|l| store.layer_dir(&DiffId(*l))).collect();
    let sizes = if sized {
        sizes::of(context, store, std::slice::from_ref(container))?
            .into_values()
            .next()
    } else {
        None
    };
    let document = inspect::container::document(container, &layers, sizes);
    Ok((document, inspect::container::SCHEMA))
}

/// `--format`.
enum Form {
    /// An indented array.
    Pretty,
    /// An array in one line.
    Line,
    /// A line each.
    Template(Template),
}

impl Form {
    fn parse(format: &str) -> Result<Self, Failure> {
        Ok(match format {
            "" => Self::Pretty,
            "json" => Self::Line,
            text => Self::Template(Template::parse(text).map_err(|e| template_failure(&e))?),
        })
    }

    /// The text; a failing template gives also what came before.
    fn render(&self, found: &[Found]) -> Result<String, (String, Failure)> {
        let documents: Vec<_> = found.iter().map(|(document, _)| document).collect();
        match self {
            Self::Pretty => Ok(pretty(&documents)),
            Self::Line => Ok(format!(
                "{}\n",
                Value::from_iter(documents.into_iter().cloned())
            )),
            Self::Template(template) => {
                let mut out = String::new();
                for (document, schema) in found {
                    match template.render(&Data::typed(document, schema)) {
                        Ok(text) => out.push_str(&text),
                        Err(error) => return Err((out, template_failure(&error))),
                    }
                    out.push('\n');
                }
                // Docker ends with a line in any case: "$(…)" doesn't care, line counters do.
                if out.is_empty() {
                    out.push('\n');
                }
                Ok(out)
            }
        }
    }
}

/// JSON with docker's indentation of four.
pub(super) fn pretty(value: &impl Serialize) -> String {
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    // Writing values to memory can't fail.
    let _ = value.serialize(&mut serializer);
    out.push(b'\n');
    String::from_utf8_lossy(&out).into_owned()
}
