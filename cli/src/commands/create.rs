//! `rctr create`, and what `run` has in common with it.

use std::env;
use std::fs;
use std::io;
use std::path::Path;

use clap::ArgMatches;
use rctr_runtime::cgroup;
use rctr_runtime::plan::Driver;
use rctr_storage::container::{Container, ContainerError};
use rctr_storage::image::Image;
use rctr_storage::manifest::Platform;
use rctr_storage::record::ContainerRecord;
use rctr_storage::reference::Reference;
use rctr_storage::volume::{ANONYMOUS, NewVolume};
use rctr_storage::{Store, random, timestamp};

use super::{pull, words};
use crate::command::Verb;
use crate::context::Context;
use crate::merge::name::random_name;
use crate::merge::record::{self, Around, Base};
use crate::report::{ENGINE, Failure};
use crate::request::settle::Surroundings;
use crate::request::{Network, Pull, RunRequest, flags, limits};
use crate::{leftovers, output};

/// `create`.
pub(crate) const VERB: Verb = Verb {
    names: &["create", "container create"],
    about: "Make a container without starting it",
    args: |command| {
        flags::add(
            command,
            &[flags::CREATE],
            "rctr create [OPTIONS] IMAGE [COMMAND] [ARG...]",
        )
    },
    run,
};

fn run(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let request = request(matches, "create")?;
    let container = Store::open(&context.root)
        .map_err(Failure::from)
        .and_then(|store| new_container(context, &store, &request))
        .map_err(engine)?;
    output::line(&container.record.id);
    Ok(0)
}

/// A failure of `run` or `create` is the engine's, with exit code 125, unless it has a code of its own.
pub(crate) fn engine(failure: Failure) -> Failure {
    match failure.code {
        1 => failure.code(ENGINE),
        _ => failure,
    }
}

/// The request of the flags, complete; warnings are shown.
///
/// # Errors
/// A bad flag or file.
pub(crate) fn request(matches: &ArgMatches, verb: &'static str) -> Result<RunRequest, Failure> {
    let mut request = RunRequest::parse(matches, verb)?;
    request.settle(&Surroundings {
        env: &|name| env::var(name).ok(),
        directory: &env::current_dir,
    })?;
    for warning in &request.warnings {
        output::note(format!("rctr: warning: {warning}"));
    }
    let limits = limits::asked_for(&request.host);
    if !limits.is_empty() {
        output::note(format!(
            "rctr: warning: {} limits are not enforced: {}",
            limits.join(", "),
            match cgroup::delegated() {
                Ok(_) => "this version of rctr doesn't set them".to_owned(),
                Err(reason) => format!("no cgroup is delegated to this user ({reason})"),
            }
        ));
    }
    Ok(request)
}

/// Makes the container: image, volumes, record, ID file.
///
/// # Errors
/// Any refusal; nothing is left behind then.
pub(crate) fn new_container(
    context: &Context,
    store: &Store,
    request: &RunRequest,
) -> Result<Container, Failure> {
    if let Network::Named(name) = &request.network {
        return Err(Failure::new(format!("network {name} not found"))
            .hint("named networks are not there yet: use private, none, host or container:NAME"));
    }
    if let Some(file) = &request.cidfile
        && file.exists()
    {
        return Err(Failure::new(format!(
            "container ID file found, make sure the other container isn't running or delete {}",
            file.display()
        )));
    }
    leftovers::clear(context, store);
    let image = find_image(store, request)?;
    bind_sources(request)?;
    devices(request)?;
    let container = publish(store, request, &image, context.driver()?)?;
    if let Some(file) = &request.cidfile {
        fs::write(file, &container.record.id).map_err(|error| {
            io_failure(
                format!("cannot write the container ID file {}", file.display()),
                &error,
            )
        })?;
    }
    Ok(container)
}

fn publish(
    store: &Store,
    request: &RunRequest,
    image: &Image,
    driver: Driver,
) -> Result<Container, Failure> {
    let base = Base {
        id: image.id,
        config: &image.config.config,
        layers: image.layers.iter().map(|layer| layer.diff_id.0).collect(),
        platform: Platform::of(&image.config).to_string(),
    };
    let volumes = store.path("volumes");
    for attempt in 0.. {
        let around = Around {
            id: random::container_id(),
            name: match &request.name {
                Some(name) => name.trim_start_matches('/').to_owned(),
                None => random_name(attempt),
            },
            created: timestamp::now(),
            driver: driver.as_str(),
            volumes: &volumes,
            hostname: &host_name,
            find: &|name| Ok(store.find_container(name)?.record),
        };
        let record = record::make(request, &base, &around)?;
        crate::order::capabilities(&record.host_config)?;
        make_volumes(store, &record)?;
        let anonymous: Vec<String> = anonymous(&record).map(str::to_owned).collect();
        match store.create_container(record) {
            Ok(container) => return Ok(container),
            Err(error) => {
                for name in anonymous {
                    // Nobody knows them: what can't be removed is for `volume prune`.
                    let _ = store.remove_volume(&name);
                }
                let taken = matches!(error, ContainerError::NameTaken { .. });
                if request.name.is_some() || !taken || attempt > 50 {
                    return Err(error.into());
                }
            }
        }
    }
    unreachable!("a name is found or an error returned")
}

/// The names of a container's anonymous volumes.
pub(crate) fn anonymous(record: &ContainerRecord) -> impl Iterator<Item = &str> {
    record
        .mounts
        .iter()
        .filter(|mount| mount.anonymous)
        .map(|mount| mount.name.as_str())
}

fn make_volumes(store: &Store, record: &ContainerRecord) -> Result<(), Failure> {
    for mount in record.mounts.iter().filter(|m| m.kind == "volume") {
        let mut new = NewVolume {
            name: mount.name.clone(),
            ..NewVolume::default()
        };
        let mut asked = record.host_config.mounts.iter();
        if let Some(asked) = asked.find(|m| m.target == mount.destination) {
            new.labels.clone_from(&asked.labels);
        }
        if mount.anonymous {
            new.labels.insert(ANONYMOUS.to_owned(), String::new());
        }
        store.create_volume(new)?;
    }
    Ok(())
}

/// `-v` makes a missing directory on the host, `--mount` refuses it.
fn bind_sources(request: &RunRequest) -> Result<(), Failure> {
    for mount in request.mounts.iter().filter(|m| m.kind == "bind") {
        let path = Path::new(&mount.source);
        match fs::metadata(path) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound && mount.create_source => {
                fs::create_dir_all(path).map_err(|error| {
                    io_failure(
                        format!("error while creating mount source path '{}'", mount.source),
                        &error,
                    )
                })?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Failure::new(format!(
                    "invalid mount config for type \"bind\": bind source path does not exist: {}",
                    mount.source
                ))
                .hint("make it first, or use -v, which makes it"));
            }
            Err(error) => {
                return Err(io_failure(
                    format!("cannot use the mount source {}", mount.source),
                    &error,
                ));
            }
        }
    }
    Ok(())
}

/// A device that isn't there is told before anything is made.
fn devices(request: &RunRequest) -> Result<(), Failure> {
    for device in &request.host.devices {
        fs::metadata(&device.path_on_host).map_err(|error| {
            io_failure(
                format!(
                    "error gathering device information while adding custom device \"{}\"",
                    device.path_on_host
                ),
                &error,
            )
            .hint("`ls -l /dev` shows the devices of this host")
        })?;
    }
    Ok(())
}

/// The image; pulled if it isn't here, or as `--pull` says.
fn find_image(store: &Store, request: &RunRequest) -> Result<Image, Failure> {
    let name = &request.image;
    let platform = request.platform.as_ref();
    let local = match words::find_image(store, name, platform) {
        Err(error) if error.is_not_found() => None,
        Err(error) if error.is_wrong_platform() && request.pull == Pull::Missing => {
            // Perhaps the registry has it for that platform; if not, what is here is the news.
            pull::newer(name, platform).map_err(|_| error)?;
            Some(words::find_image(store, name, platform)?)
        }
        Err(error) if error.is_wrong_platform() => None,
        found => Some(found?),
    };
    match (request.pull, &local) {
        (Pull::Missing | Pull::Never, Some(_)) => {}
        (Pull::Never, None) => return Ok(words::find_image(store, name, platform)?),
        (Pull::Newer, Some(_)) => {
            if let Err(failure) = pull::newer(name, platform) {
                output::note(format!(
                    "rctr: warning: cannot look for a newer {name}: {}",
                    failure.message
                ));
            }
        }
        (Pull::Always, _) => pull::for_run(name, platform, request.quiet)?,
        (Pull::Missing | Pull::Newer, None) => {
            let reference = Reference::parse(name)?;
            if !request.quiet {
                output::note(format!("Unable to find image '{reference}' locally"));
            }
            pull::for_run(name, platform, request.quiet)?;
        }
    }
    let image = match (local, request.pull) {
        (Some(image), Pull::Missing | Pull::Never) => image,
        _ => words::find_image(store, name, platform)?,
    };
    warn_of_platform(request, &image);
    Ok(image)
}

/// Docker's warning.
fn warn_of_platform(request: &RunRequest, image: &Image) {
    let own = Platform::of(&image.config);
    if request.platform.is_none() && !own.is_native() {
        let host = Platform::detected_host();
        output::note(format!(
            "WARNING: The requested image's platform ({own}) does not match the detected host platform ({host}) and no specific platform was requested"
        ));
    }
}

fn host_name() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_default()
}

/// A failure with an I/O error as its cause.
pub(crate) fn io_failure(message: impl Into<String>, error: &io::Error) -> Failure {
    let mut failure = Failure::new(message);
    failure.causes.push(error.to_string());
    failure.hint = match error.kind() {
        io::ErrorKind::NotFound => Some("check the path, and that its directory is there"),
        io::ErrorKind::PermissionDenied => Some("check owner and mode: `ls -ld` shows them"),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some("free some space"),
        io::ErrorKind::ReadOnlyFilesystem => Some("choose a place that can be written to"),
        _ => None,
    }
    .map(str::to_owned);
    failure
}
