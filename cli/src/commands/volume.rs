//! `rctr volume create`, `ls` and `rm`.

use clap::{Arg, ArgMatches};
use rctr_runtime::identity::{self, Mounts};
use rctr_storage::Store;
use rctr_storage::volume::{NewVolume, VolumeError};

use super::words;
use crate::command::Verb;
use crate::context::Context;
use crate::filter::Filters;
use crate::output;
use crate::report::Failure;
use crate::request::values::pairs;
use crate::view::inspect::volume;

/// `volume create`.
pub(crate) const CREATE: Verb = Verb {
    names: &["volume create"],
    about: "Make a volume",
    args: |command| {
        command
            .arg(
                Arg::new("volume")
                    .value_name("VOLUME")
                    .help("Its name; made up if not given"),
            )
            .arg(
                words::value("name", None, "The name, as old versions of docker had it").hide(true),
            )
            .arg(words::value(
                "driver",
                Some('d'),
                "Only 'local' (the default)",
            ))
            .arg(words::values("label", None, "Give it a label, KEY=VALUE"))
            .arg(words::values(
                "opt",
                Some('o'),
                "Option of the driver, KEY=VALUE",
            ))
    },
    run: create,
};

/// `volume ls`.
pub(crate) const LIST: Verb = Verb {
    names: &["volume ls", "volume list"],
    about: "List volumes",
    args: |command| {
        command
            .arg(words::values(
                "filter",
                Some('f'),
                "Show those that fit, NAME=VALUE: name (a regular expression), label, dangling, driver",
            ))
            .arg(words::value(
                "format",
                None,
                "Go template for each line, 'table TEMPLATE', or 'json'",
            ))
            .arg(words::on("quiet", Some('q'), "Show names only"))
    },
    run: list,
};

/// `volume rm`.
pub(crate) const REMOVE: Verb = Verb {
    names: &["volume rm", "volume remove"],
    about: "Remove volumes",
    args: |command| {
        command
            .arg(
                Arg::new("volume")
                    .value_name("VOLUME")
                    .num_args(1..)
                    .required(true),
            )
            .arg(words::on(
                "force",
                Some('f'),
                "A volume that isn't there is no failure",
            ))
    },
    run: remove,
};

fn create(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let name = words::text(matches, "volume").or_else(|| words::text(matches, "name"));
    let store = Store::open(&context.root)?;
    let volume = store.create_volume(NewVolume {
        name: name.unwrap_or_default().to_owned(),
        labels: pairs(&words::list(matches, "label")),
        options: pairs(&words::list(matches, "opt")),
        driver: words::text(matches, "driver")
            .unwrap_or_default()
            .to_owned(),
    })?;
    output::line(volume.name);
    Ok(0)
}

fn list(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let known = ["name", "label", "label!", "dangling", "driver"];
    let filters = Filters::parse(&words::list(matches, "filter"), &known)?;
    let names = filters.patterns("name")?;
    let format = volume::listing().format(
        words::text(matches, "format"),
        words::is_on(matches, "quiet").into(),
    )?;
    let store = Store::open(&context.root)?;
    let mut volumes = store.volumes()?;
    volumes.retain(|v| {
        names.fit(&v.name)
            && filters.any("driver", |driver| driver == v.driver)
            && filters.labels(|key| v.labels.get(key).map(String::as_str))
    });
    if let Some(dangling) = filters.truth("dangling")? {
        let users = store.volume_users()?;
        volumes.retain(|v| users.contains_key(&v.name) != dangling);
    }
    output::text(format.render(volumes.iter().map(volume::row))?);
    Ok(0)
}

fn remove(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let force = words::is_on(matches, "force");
    let store = Store::open(&context.root)?;
    let names = words::list(matches, "volume");
    // Its files belong to several owners. Who asks for nothing that is there needs no namespace to hear so.
    if names.iter().any(|name| store.find_volume(name).is_ok()) {
        crate::leftovers::clear(context, &store);
        identity::enter(&context.identity()?, Mounts::Host)?;
    }
    words::each(&names, |name| match store.remove_volume(name) {
        Err(VolumeError::NotFound { .. }) if force => Ok(()),
        other => Ok(other?),
    })
}
