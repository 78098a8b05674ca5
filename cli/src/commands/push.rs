//! `rctr push`.

use clap::{Arg, ArgMatches, Command};
use rctr_storage::Store;
use rctr_storage::image::Image;
use rctr_storage::manifest::Platform;
use rctr_storage::reference::Reference;
use rctr_storage::transfer::{self, Compression, PushOptions, Pushed};
use rctr_storage::transport::Place;

use super::pull::with_tag;
use super::words;
use crate::command::Verb;
use crate::context::Context;
use crate::progress::transfer::{Display, Look, Way};
use crate::registries::{Registries, tls_verify};
use crate::report::Failure;
use crate::{output, places};

/// `push`.
pub(crate) const VERB: Verb = Verb {
    names: &["push", "image push"],
    about: "Put an image into a registry",
    args,
    run,
};

fn args(command: Command) -> Command {
    words::required(command, "name", "NAME[:TAG]")
        .arg(
            Arg::new("target")
                .value_name("TARGET")
                .help("Where to, if not to where the name says: another name, oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:NAME], dir:DIR"),
        )
        .arg(words::on(
            "all-tags",
            Some('a'),
            "Put all tags of the repository",
        ))
        .arg(words::on("quiet", Some('q'), "Print the image's name only"))
        .arg(words::value(
            "platform",
            None,
            "Put the image for this platform only",
        ))
        .arg(words::on(
            "all-platforms",
            None,
            "Put the index and the images of all its platforms",
        ))
        .arg(words::value(
            "compression",
            None,
            "Compress layers anew: gzip or zstd; the image's digest is another one then",
        ))
        .arg(words::value(
            "compression-level",
            None,
            "1 (fast) to 9, or to 22 for zstd (small)",
        ))
        .arg(words::on("disable-content-trust", None, "Ignored: nothing is signed").hide(true))
        .arg(tls_verify())
}

fn run(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let word = words::text(matches, "name").unwrap_or_default();
    let compression = compression(matches)?;
    let store = Store::open(&context.root)?;
    let registries = Registries::new(matches)?;
    let push = Push {
        store: &store,
        registries: &registries,
        options: PushOptions {
            compression,
            all_platforms: words::is_on(matches, "all-platforms"),
            ..PushOptions::default()
        },
        platform: words::platform(matches)?,
        quiet: words::is_on(matches, "quiet"),
    };
    let all_tags = words::is_on(matches, "all-tags");
    if let Some(target) = words::text(matches, "target") {
        if all_tags {
            return Err(Failure::new("TARGET can't be used with --all-tags/-a"));
        }
        push.image(word, &places::parse(target)?)?;
        return Ok(0);
    }
    let name = Reference::parse_bare(word)?;
    if name.digest.is_some() {
        return Err(Failure::new("cannot push a digest reference").hint("give a tag: NAME[:TAG]"));
    }
    if all_tags && name.tag.is_some() {
        return Err(Failure::new("tag can't be used with --all-tags/-a"));
    }
    let names = match all_tags {
        true => tags(&store, &name)?,
        false => vec![with_tag(&name)],
    };
    if !push.quiet {
        let there = registries.meant(word, &name)?;
        output::line(format!(
            "The push refers to repository [{}/{}]",
            there.domain, there.path
        ));
        if !all_tags && name.tag.is_none() {
            output::line("Using default tag: latest");
        }
    }
    for name in names {
        let there = registries.meant(word, &name)?;
        push.image(&name.to_string(), &Place::Registry(there))?;
    }
    Ok(0)
}

/// What is the same for all tags of a repository.
struct Push<'a> {
    store: &'a Store,
    registries: &'a Registries,
    options: PushOptions,
    platform: Option<Platform>,
    quiet: bool,
}

impl Push<'_> {
    fn image(&self, name: &str, to: &Place) -> Result<(), Failure> {
        // An index that was kept as a whole goes as a whole.
        let index = match self.platform {
            None => self.store.find_index(name)?,
            Some(_) => None,
        };
        let target = places::target(self.registries, to)?;
        let look = if self.quiet {
            Look::Quiet
        } else {
            Look::auto()
        };
        let display = Display::start(look, Way::Push);
        let pushed = match index {
            Some((index, _)) => {
                transfer::push_index(self.store, &index, &*target, &self.options, &display)?
            }
            None => {
                let image = self.find(name)?;
                let to = target.repository();
                let options = PushOptions {
                    mount_from: to.map_or_else(Vec::new, |to| same_registry(&image, &to)),
                    ..self.options.clone()
                };
                transfer::push(self.store, &image, &*target, &options, &display)?
            }
        };
        display.finish();
        let shown = match to {
            Place::Registry(name) if self.quiet => super::pull::full(name),
            Place::Registry(name) => name.tag.clone().unwrap_or_default(),
            place => place.to_string(),
        };
        match self.quiet {
            true => output::line(shown),
            false => output::line(format!(
                "{shown}: digest: {} size: {}",
                pushed.digest, pushed.size
            )),
        }
        Ok(())
    }

    fn find(&self, name: &str) -> Result<Image, Failure> {
        match words::find_image(self.store, name, self.platform.as_ref()) {
            Err(error) if error.is_not_found() => Err(absent(name)),
            found => Ok(found?),
        }
    }
}

/// The pushes of `build --push`.
pub(super) struct AfterBuild {
    registries: Registries,
    names: Vec<Reference>,
}

impl AfterBuild {
    /// Before the build enters a namespace: programs that keep credentials are asked now.
    ///
    /// # Errors
    /// When there is no name, or a program fails.
    pub(super) fn prepare(names: &[Reference]) -> Result<Self, Failure> {
        if names.is_empty() {
            return Err(Failure::new("tag is needed when pushing to registry")
                .hint("name the image: -t REGISTRY/NAME[:TAG]"));
        }
        let registries = Registries::of_environment()?;
        for name in names {
            registries.prefetch(name)?;
        }
        Ok(Self {
            registries,
            names: names.to_vec(),
        })
    }

    /// Pushes, and tells it on standard error. What there is now, which is the same in all registries.
    ///
    /// # Errors
    /// When a registry doesn't take it.
    pub(super) fn run(&self, store: &Store, quiet: bool) -> Result<Option<Pushed>, Failure> {
        let mut last = None;
        for name in &self.names {
            let target = places::target(&self.registries, &Place::Registry(name.clone()))?;
            let display = Display::start(Look::Quiet, Way::Push);
            // Of several platforms, all go.
            let pushed = match store.find_index(&name.to_string())? {
                Some((index, _)) => {
                    let options = PushOptions::default();
                    transfer::push_index(store, &index, &*target, &options, &display)?
                }
                None => {
                    let image = store.find_image(&name.to_string())?;
                    let options = PushOptions {
                        mount_from: same_registry(&image, name),
                        ..PushOptions::default()
                    };
                    transfer::push(store, &image, &*target, &options, &display)?
                }
            };
            if !quiet {
                output::note(format!("pushed {name}@{}", pushed.digest));
            }
            last = Some(pushed);
        }
        Ok(last)
    }
}

fn absent(name: &str) -> Failure {
    Failure::new(format!(
        "An image does not exist locally with the tag: {}",
        name.trim_end_matches(":latest")
    ))
    .hint("`rctr images` lists what is here; `rctr tag IMAGE NAME` gives an image this name")
}

fn compression(matches: &ArgMatches) -> Result<Option<(Compression, Option<i32>)>, Failure> {
    let level = match words::text(matches, "compression-level") {
        Some(text) => Some(
            text.parse()
                .map_err(|_| words::bad("compression-level", text, "want a number"))?,
        ),
        None => None,
    };
    let method = match words::text(matches, "compression") {
        None if level.is_none() => return Ok(None),
        None => {
            return Err(Failure::new("--compression-level needs --compression")
                .hint("say --compression gzip or zstd"));
        }
        Some("gzip") => Compression::Gzip,
        Some("zstd") => Compression::Zstd,
        Some(other) => return Err(words::bad("compression", other, "want gzip or zstd")),
    };
    let (least, most) = method.levels();
    match level {
        Some(level) if !(least..=most).contains(&level) => {
            let why = format!("want {least} to {most}");
            Err(words::bad("compression-level", &level.to_string(), why))
        }
        level => Ok(Some((method, level))),
    }
}

/// All tags of a repository that are here.
fn tags(store: &Store, name: &Reference) -> Result<Vec<Reference>, Failure> {
    let images = store.images()?;
    let tags = images.into_iter().flat_map(|image| image.tags);
    let mut tags: Vec<_> = tags.filter(|tag| same_repository(tag, name)).collect();
    tags.sort();
    if tags.is_empty() {
        return Err(absent(&name.familiar_name()));
    }
    Ok(tags)
}

fn same_repository(one: &Reference, other: &Reference) -> bool {
    (&one.domain, &one.path) == (&other.domain, &other.path)
}

/// Other repositories of the registry that had this image once: it may take the layers from there.
fn same_registry(image: &Image, name: &Reference) -> Vec<Reference> {
    let known = image.tags.iter().chain(&image.digests);
    let others = known.filter(|other| other.domain == name.domain && other.path != name.path);
    let mut others: Vec<_> = others.cloned().collect();
    others.sort();
    others.dedup_by(|one, other| same_repository(one, other));
    others
}
