//! `rctr images`.

use clap::{Arg, ArgMatches, Command};
use rctr_storage::Store;
use rctr_storage::digest::Digest;
use rctr_storage::image::ImageSummary;
use rctr_storage::manifest::Descriptor;
use rctr_storage::reference::Reference;

use super::words;
use crate::command::Verb;
use crate::context::Context;
use crate::filter::{Filters, glob};
use crate::format::time;
use crate::report::{ENGINE, Failure};
use crate::view::container_row::Cut;
use crate::view::image_row::{self, Use};
use crate::{moment, output};

/// `images`.
pub(crate) const VERB: Verb = Verb {
    names: &["images", "image ls", "image list"],
    about: "List images",
    args,
    run,
};

const FILTERS: [&str; 7] = [
    "dangling",
    "label",
    "label!",
    "before",
    "since",
    "until",
    "reference",
];

fn args(command: Command) -> Command {
    command
        .arg(
            Arg::new("name")
                .value_name("REPOSITORY[:TAG]")
                .help("Only this name; * and ? stand for any characters"),
        )
        .arg(words::on(
            "all",
            Some('a'),
            "Show nameless images that others are made from, too",
        ))
        .arg(words::on(
            "digests",
            None,
            "Show the digests that images were pulled by",
        ))
        .arg(words::values(
            "filter",
            Some('f'),
            "Show those that fit, NAME=VALUE: dangling, label, before, since, until, reference",
        ))
        .arg(words::value(
            "format",
            None,
            "Go template for each line, 'table TEMPLATE', or 'json'",
        ))
        .arg(words::on("no-trunc", None, "Show IDs in full"))
        .arg(words::on("quiet", Some('q'), "Show IDs only"))
        .arg(words::on(
            "tree",
            None,
            "Show each image with its platform and what uses it",
        ))
}

fn run(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let filters = Filters::parse(&words::list(matches, "filter"), &FILTERS)?;
    let digests = words::is_on(matches, "digests");
    let tree = words::is_on(matches, "tree");
    let shaped = words::text(matches, "format").is_some() || words::is_on(matches, "quiet");
    if tree && (shaped || digests) {
        return Err(Failure::new("--tree excludes --format, --quiet and --digests").code(ENGINE));
    }
    let listing = if tree {
        image_row::tree()
    } else {
        image_row::listing(digests)
    };
    let format = listing.format(
        words::text(matches, "format"),
        words::is_on(matches, "quiet").into(),
    )?;
    let store = Store::open(&context.root)?;
    let all = store.images()?;
    let mut images = all.clone();
    if !words::is_on(matches, "all") {
        let parents: Vec<_> = images.iter().filter_map(|i| i.parent).collect();
        images.retain(|i| is_named(i) || !parents.contains(&i.id) && i.part_of.is_none());
    }
    Choice::new(&store, &filters)?.apply(&store, &mut images);
    let name = words::text(matches, "name");
    let wanted = |reference: &Reference| {
        name.is_none_or(|pattern| matches_reference(pattern, reference))
            && filters.any("reference", |pattern| matches_reference(pattern, reference))
    };
    let by_name = name.is_some() || filters.has("reference");
    let counts = if tree || format.mentions("Containers") {
        Some(store.containers()?)
    } else {
        None
    };
    let cut = if words::is_on(matches, "no-trunc") {
        Cut::No
    } else {
        Cut::Yes
    };
    let now = time::now();
    let mut rows = Vec::new();
    let used = |image: &ImageSummary| Use {
        containers: counts
            .as_ref()
            .map(|all| all.iter().filter(|c| c.record.image == image.id).count()),
        ..Use::default()
    };
    for image in images.iter().filter(|image| is_named(image) || !by_name) {
        for name in image_row::names(image, digests, &wanted) {
            if tree {
                let (top, platforms) = platforms(&store, &all, image, &name)?;
                let platforms: Vec<_> = platforms.into_iter().map(|i| (i, used(i))).collect();
                rows.extend(image_row::branch(&name, top, &platforms, cut));
            } else {
                rows.push(image_row::row(image, &name, cut, now, used(image)));
            }
        }
    }
    output::text(format.render(rows)?);
    Ok(0)
}

/// What a name of an image stands for: the digest of a manifest or an index, and the images behind it that are here.
fn platforms<'i>(
    store: &Store,
    all: &'i [ImageSummary],
    image: &'i ImageSummary,
    name: &image_row::Name,
) -> Result<(Digest, Vec<&'i ImageSummary>), Failure> {
    let index = match name.typed() {
        Some(name) => store.find_index(&name)?,
        None => None,
    };
    let Some((descriptor, index)) = index else {
        return Ok((image.manifest, vec![image]));
    };
    let here = |manifest: &Descriptor| all.iter().find(|i| i.manifest == manifest.digest);
    let images = index.manifests.iter().filter_map(here).collect();
    Ok((descriptor.digest, images))
}

fn is_named(image: &ImageSummary) -> bool {
    !(image.tags.is_empty() && image.digests.is_empty())
}

/// Whether a name fits a pattern: as it is shown, with its tag or without, or in full.
fn matches_reference(pattern: &str, reference: &Reference) -> bool {
    let name = reference.familiar_name();
    let full = format!("{}/{}", reference.domain, reference.path);
    let tag = reference.tag.as_deref().unwrap_or_default();
    glob(pattern, &name)
        || glob(pattern, &reference.to_string())
        || glob(pattern, &full)
        || glob(pattern, &format!("{full}:{tag}"))
}

/// What the filters mean, looked up once.
pub(super) struct Choice<'a> {
    filters: &'a Filters,
    dangling: Option<bool>,
    before: Option<time::Nanos>,
    since: Option<time::Nanos>,
}

impl<'a> Choice<'a> {
    pub(super) fn new(store: &Store, filters: &'a Filters) -> Result<Self, Failure> {
        let mut before = Vec::new();
        for name in filters.values("before") {
            before.push(created(store, name)?);
        }
        for text in filters.values("until") {
            before.push(until(text)?);
        }
        let mut since = None;
        for name in filters.values("since") {
            since = since.max(Some(created(store, name)?));
        }
        Ok(Self {
            filters,
            dangling: filters.truth("dangling")?,
            before: before.into_iter().min(),
            since,
        })
    }

    fn apply(&self, store: &Store, images: &mut Vec<ImageSummary>) {
        images.retain(|image| {
            let created = time::of(&image.created).unwrap_or_default();
            self.dangling
                .is_none_or(|dangling| dangling != is_named(image))
                && self.in_time(created)
                && (!self.by_label()
                    || store
                        .read_config(&image.id)
                        .is_ok_and(|config| self.has_labels(&config.config.labels)))
        });
    }

    pub(super) fn in_time(&self, created: time::Nanos) -> bool {
        self.before.is_none_or(|before| created < before)
            && self.since.is_none_or(|since| created > since)
    }

    /// Labels are in configs, which a list doesn't read otherwise.
    fn by_label(&self) -> bool {
        self.filters.has("label") || self.filters.has("label!")
    }

    pub(super) fn has_labels(&self, labels: &std::collections::BTreeMap<String, String>) -> bool {
        self.filters
            .labels(|key| labels.get(key).map(String::as_str))
    }
}

fn created(store: &Store, name: &str) -> Result<time::Nanos, Failure> {
    let image = store.find_image(name)?;
    let created = image.config.created.unwrap_or_default();
    Ok(time::of(&created).unwrap_or_default())
}

/// The value of `until=`: things made before it are meant.
pub(super) fn until(text: &str) -> Result<time::Nanos, Failure> {
    let moment = moment::parse(text, std::time::SystemTime::now())
        .map_err(|why| Failure::new(format!("invalid filter 'until={text}'")).hint(why))?;
    Ok(time::of_system(moment))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_globs() {
        let fits = |pattern: &str, name: &str| {
            matches_reference(pattern, &Reference::parse(name).unwrap())
        };
        assert!(fits("ubuntu", "ubuntu:14.04"));
        assert!(fits("ubuntu:14.04", "ubuntu:14.04"));
        assert!(fits("ubuntu:14.*", "ubuntu:14.04"));
        assert!(fits("ub*", "ubuntu:14.04"));
        assert!(fits("docker.io/library/ubuntu", "ubuntu:14.04"));
        assert!(fits("seed/*", "seed/app:1"));
        assert!(fits("seed/app:*", "seed/app:1"));
        assert!(!fits("seed", "seed/app:1"));
        assert!(!fits("ubuntu:12.04", "ubuntu:14.04"));
    }
}
