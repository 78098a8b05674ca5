//! `rctr pull`.

use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::process::{Command as Process, Stdio};

use clap::{ArgMatches, Command};
use rctr_builder::plan::ImageFailure;
use rctr_builder::pull::{Moved, Puller};
use rctr_runtime::identity::{self, Mounts};
use rctr_storage::Store;
use rctr_storage::manifest::Platform;
use rctr_storage::reference::Reference;
use rctr_storage::registry::Access;
use rctr_storage::transfer::{self, PullOptions, Source};
use rctr_storage::transport::Place;
use serde_json::{Value, json};

use super::create::io_failure;
use super::words;
use crate::command::Verb;
use crate::context::Context;
use crate::progress::transfer::{Display, Look, Way};
use crate::registries::{Registries, tls_verify};
use crate::report::Failure;
use crate::{output, places};

/// `pull`.
pub(crate) const VERB: Verb = Verb {
    names: &["pull", "image pull"],
    about: "Get an image from a registry",
    args,
    run,
};

fn args(command: Command) -> Command {
    let help = "An image of a registry, or oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:NAME], dir:DIR";
    words::required(command, "name", "NAME[:TAG|@DIGEST]|PLACE")
        .mut_arg("name", |arg| arg.help(help))
        .arg(words::on(
            "all-tags",
            Some('a'),
            "Get all tags of the repository",
        ))
        .arg(words::on("quiet", Some('q'), "Print the image's name only"))
        .arg(words::value(
            "platform",
            None,
            "Get the image for this platform, for example linux/arm64",
        ))
        .arg(words::on(
            "all-platforms",
            None,
            "Get the images of all platforms, and keep the index",
        ))
        .arg(
            words::on(
                "disable-content-trust",
                None,
                "Ignored: signatures aren't looked at",
            )
            .hide(true),
        )
        .arg(words::value("progress", None, "auto or rawjson").hide(true))
        .arg(tls_verify())
}

fn run(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let look = match words::text(matches, "progress") {
        Some("rawjson") => Look::Json,
        _ if words::is_on(matches, "quiet") => Look::Quiet,
        _ => Look::auto(),
    };
    match (pull(context, matches, look), look) {
        (Err(failure), Look::Json) => {
            output::line(json!({ "error": {
                "message": failure.message,
                "causes": failure.causes,
                "hint": failure.hint,
            }}));
            Ok(1)
        }
        (result, _) => result.map(|()| 0),
    }
}

fn pull(context: &Context, matches: &ArgMatches, look: Look) -> Result<(), Failure> {
    let word = words::text(matches, "name").unwrap_or_default();
    let place = places::parse(word)?;
    let name = match &place {
        Place::Registry(_) => Some(Reference::parse_bare(word.trim_start_matches("docker://"))?),
        _ => None,
    };
    let all_tags = words::is_on(matches, "all-tags");
    let complete = |name: &Reference| name.tag.is_some() || name.digest.is_some();
    if all_tags && name.as_ref().is_none_or(complete) {
        return Err(Failure::new("tag can't be used with --all-tags/-a"));
    }
    let options = PullOptions {
        platform: words::platform(matches)?,
        all_platforms: words::is_on(matches, "all-platforms"),
        ..PullOptions::default()
    };
    if options.all_platforms && options.platform.is_some() {
        return Err(Failure::new(
            "--platform and --all-platforms exclude each other",
        ));
    }
    let registries = Registries::new(matches)?;
    let word = word.trim_start_matches("docker://");
    let there = match &name {
        Some(name) => Some(registries.meant(word, name)?),
        None => None,
    };
    if let Some(there) = &there {
        registries.prefetch(there)?;
    }
    let store = Store::open(&context.root)?;
    identity::enter(&context.identity()?, Mounts::Host)?;
    let each = Pull {
        store: &store,
        registries: &registries,
        options: &options,
        look,
    };
    let shown = match name {
        None => each.place(&place)?,
        Some(name) if all_tags => {
            for tag in registries.client.tags(there.as_ref().unwrap_or(&name))? {
                let tagged = Reference {
                    tag: Some(tag),
                    ..name.clone()
                };
                each.name(&tagged, &registries.meant(word, &tagged)?)?;
            }
            name
        }
        Some(name) => {
            let complete = with_tag(&name);
            if complete != name && each.talks() {
                output::line("Using default tag: latest");
            }
            each.name(&complete, &registries.meant(word, &complete)?)?;
            complete
        }
    };
    if look != Look::Json {
        output::line(full(&shown));
    }
    Ok(())
}

/// What is the same for all tags of a repository.
struct Pull<'a> {
    store: &'a Store,
    registries: &'a Registries,
    options: &'a PullOptions,
    look: Look,
}

impl Pull<'_> {
    /// An image of a registry, which is called `there` in it.
    fn name(&self, name: &Reference, there: &Reference) -> Result<(), Failure> {
        let source = self.registries.client.repository(there, Access::Pull)?;
        if self.talks() && name != there {
            output::line(format!("{name} is an alias of {}", full(there)));
        }
        if self.talks() {
            output::line(format!("{}: Pulling from {}", tag_of(name), there.path));
        }
        self.pull(&source, name)
    }

    /// The image of a layout or an archive, by the names that it has there.
    fn place(&self, place: &Place) -> Result<Reference, Failure> {
        let from = places::source(self.registries, self.store, place)?;
        let Some((name, others)) = from.names.split_first() else {
            return Err(
                Failure::new(format!("the image in {place} has no name there"))
                    .hint(format!("give it one: rctr image cp {place} NAME")),
            );
        };
        self.pull(&*from.source, name)?;
        let image = self.store.find_image(&name.to_string())?;
        for other in others {
            self.store.tag(&image, other)?;
        }
        Ok(name.clone())
    }

    fn pull(&self, source: &dyn Source, name: &Reference) -> Result<(), Failure> {
        let display = Display::start(self.look, Way::Pull);
        let pulled = transfer::pull(self.store, source, name, self.options, &display);
        display.finish();
        let pulled = pulled?;
        if self.talks() {
            output::line(format!("Digest: {}", pulled.digest));
            output::line(match pulled.changed {
                true => format!("Status: Downloaded newer image for {name}"),
                false => format!("Status: Image is up to date for {name}"),
            });
        }
        Ok(())
    }

    fn talks(&self) -> bool {
        matches!(self.look, Look::Bars | Look::Lines)
    }
}

/// With `latest` if it has neither tag nor digest.
pub(crate) fn with_tag(name: &Reference) -> Reference {
    let mut name = name.clone();
    if name.tag.is_none() && name.digest.is_none() {
        name.tag = Some("latest".to_owned());
    }
    name
}

/// The digest, else the tag.
fn tag_of(name: &Reference) -> String {
    match (&name.digest, &name.tag) {
        (Some(digest), _) => digest.to_string(),
        (None, tag) => tag.clone().unwrap_or_default(),
    }
}

/// `docker.io/library/debian:12`: with all that is left out as a rule.
pub(crate) fn full(name: &Reference) -> String {
    let tag = name.tag.as_ref().map(|tag| format!(":{tag}"));
    let digest = name.digest.map(|digest| format!("@{digest}"));
    format!(
        "{}/{}{}{}",
        name.domain,
        name.path,
        tag.unwrap_or_default(),
        digest.unwrap_or_default()
    )
}

/// Another `rctr pull`, for a command that isn't to have its namespace, threads and memory.
fn process(platform: Option<&Platform>) -> Process {
    let mut process = Process::new("/proc/self/exe");
    process.arg("pull").stdin(Stdio::null());
    if let Some(platform) = platform {
        process.args(["--platform", &platform.to_string()]);
    }
    process
}

/// Pulls for `run` and `create`; what is to be seen goes to standard error.
///
/// # Errors
/// When the image can't be had. The failure was shown.
pub(crate) fn for_run(name: &str, platform: Option<&Platform>, quiet: bool) -> Result<(), Failure> {
    let mut process = process(platform);
    match quiet {
        true => process.arg("-q").stdout(Stdio::null()),
        false => {
            let stderr = std::io::stderr().as_fd().try_clone_to_owned();
            process.stdout(stderr.map_err(|error| io_failure("cannot use standard error", &error))?)
        }
    };
    let status = process.args(["--", name]).status();
    let status = status.map_err(|error| io_failure("cannot start `rctr pull`", &error))?;
    match status.success() {
        true => Ok(()),
        // It has told why.
        false => Err(Failure::new("")),
    }
}

/// Pulls without a word; the image that is here already will do if that fails.
///
/// # Errors
/// When the image can't be had.
pub(crate) fn newer(name: &str, platform: Option<&Platform>) -> Result<(), Failure> {
    Ok(Quietly.run(name, platform, &mut |_| {})?)
}

/// Pulls for builds.
pub(crate) struct Quietly;

impl Puller for Quietly {
    fn pull(
        &self,
        name: &str,
        wanted: &Platform,
        moved: &mut dyn FnMut(Moved),
    ) -> Result<(), ImageFailure> {
        // Without one, an image that is for one platform only comes whatever it is.
        let foreign = Some(wanted).filter(|wanted| **wanted != Platform::host());
        let failed = |error: PullError| ImageFailure {
            // Perhaps another stage was meant.
            not_found: true,
            ..ImageFailure::new(error)
        };
        self.run(name, foreign, moved).map_err(failed)
    }
}

/// What a process that pulls has told of its failure.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct PullError {
    message: String,
    hint: Option<String>,
}

impl rctr_storage::explain::Explain for PullError {
    fn hint(&self) -> Option<String> {
        self.hint.clone()
    }
}

impl PullError {
    fn new(message: impl Into<String>) -> Self {
        let (message, hint) = (message.into(), None);
        Self { message, hint }
    }

    /// `{"message": …, "causes": […], "hint": …}`.
    fn of(value: &Value) -> Self {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let causes = value["causes"].as_array().into_iter().flatten();
        let message = text(&value["message"])
            .into_iter()
            .chain(causes.filter_map(text));
        Self {
            message: message.collect::<Vec<_>>().join(": "),
            hint: text(&value["hint"]),
        }
    }
}

impl Quietly {
    fn run(
        &self,
        name: &str,
        platform: Option<&Platform>,
        moved: &mut dyn FnMut(Moved),
    ) -> Result<(), PullError> {
        let cannot = |error| PullError::new(format!("cannot start `rctr pull`: {error}"));
        let mut child = process(platform)
            .args(["--progress", "rawjson", "--", name])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(cannot)?;
        let mut failure = None;
        let lines = BufReader::new(child.stdout.take().expect("it was piped")).lines();
        for line in lines.map_while(Result::ok) {
            let Ok(value) = serde_json::from_str::<Value>(&line) else {
                continue;
            };
            match value.get("error") {
                Some(error) => failure = Some(PullError::of(error)),
                None => value_moved(&value).into_iter().for_each(&mut *moved),
            }
        }
        let mut told = String::new();
        if let Some(stderr) = child.stderr.take() {
            // Warnings, or the end of one that was killed.
            let _ = stderr.take(1 << 16).read_to_string(&mut told);
        }
        let status = child.wait().map_err(cannot)?;
        match (status.success(), failure) {
            (true, _) => Ok(()),
            (false, Some(failure)) => Err(failure),
            (false, None) => Err(PullError::new(format!(
                "`rctr pull` failed ({status}) {}",
                told.trim()
            ))),
        }
    }
}

fn value_moved(value: &Value) -> Option<Moved> {
    Some(Moved {
        digest: value["digest"].as_str()?.parse().ok()?,
        current: value["current"].as_u64()?,
        total: value["total"].as_u64()?,
        done: matches!(value["step"].as_str()?, "pulled" | "exists"),
    })
}
