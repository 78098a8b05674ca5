//! `rctr ps`.

use std::collections::{BTreeMap, BTreeSet};

use clap::{Arg, ArgMatches, Command, value_parser};
use rctr_storage::Store;
use rctr_storage::container::Container;
use rctr_storage::digest::Digest;
use rctr_storage::record::Status;
use rctr_storage::reference::Reference;

use super::words;
use crate::command::Verb;
use crate::context::Context;
use crate::filter::Filters;
use crate::format::{ports, short_id, time};
use crate::output;
use crate::report::Failure;
use crate::view::container_row::{self, Around, Cut};

/// `ps`.
pub(crate) const VERB: Verb = Verb {
    names: &["ps", "container ls", "container ps", "container list"],
    about: "List containers",
    args,
    run,
};

const FILTERS: [&str; 15] = [
    "id", "name", "label", "label!", "exited", "status", "ancestor", "before", "since", "volume",
    "network", "publish", "expose", "health", "is-task",
];

fn args(command: Command) -> Command {
    command
        .arg(words::on("all", Some('a'), "Show all containers, not only those that run"))
        .arg(words::values(
            "filter",
            Some('f'),
            "Show those that fit, NAME=VALUE: id, name (regular expressions), label, status, exited, ancestor, \
             before, since, volume, network, publish, expose, health",
        ))
        .arg(words::value(
            "format",
            None,
            "Go template for each line, 'table TEMPLATE', or 'json'",
        ))
        .arg(
            Arg::new("last")
                .long("last")
                .short('n')
                .value_parser(value_parser!(i64))
                .allow_hyphen_values(true)
                .help("Show the N containers made last, in any state"),
        )
        .arg(words::on("latest", Some('l'), "Show the container made last, in any state"))
        .arg(words::on("no-trunc", None, "Show IDs and commands in full"))
        .arg(words::on("quiet", Some('q'), "Show IDs only"))
        .arg(words::on("size", Some('s'), "Show what each container has written"))
}

fn run(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let filters = Filters::parse(&words::list(matches, "filter"), &FILTERS)?;
    let sized = words::is_on(matches, "size");
    let format = container_row::listing(sized).format(
        words::text(matches, "format"),
        words::is_on(matches, "quiet").into(),
    )?;
    let sized = sized || format.mentions("Size");
    let last = last(matches);
    let all = words::is_on(matches, "all") || last.is_some() || filters.has("status");
    let store = Store::open(&context.root)?;
    let mut containers = store.containers()?;
    if !all {
        let live = |s: Status| matches!(s, Status::Running | Status::Paused | Status::Restarting);
        containers.retain(|c| live(c.state.status));
    }
    // Newest first.
    containers.sort_by_cached_key(|c| {
        std::cmp::Reverse((time::of(&c.record.created), c.record.id.clone()))
    });
    let chosen = Choice::new(&store, &filters)?;
    containers.retain(|c| chosen.fits(c));
    containers.truncate(last.unwrap_or(usize::MAX));
    let tags = if containers.is_empty() {
        Tags::new()
    } else {
        tags(&store)
    };
    let sizes = if sized {
        super::sizes::of(context, &store, &containers)?
    } else {
        BTreeMap::new()
    };
    let around = Around {
        now: time::now(),
        cut: if words::is_on(matches, "no-trunc") {
            Cut::No
        } else {
            Cut::Yes
        },
        image: &|c| image_name(c, &tags),
        sizes: &|c| sizes.get(&c.record.id).copied(),
    };
    let rows = containers.iter().map(|c| container_row::row(c, &around));
    output::text(format.render(rows)?);
    Ok(0)
}

/// Who has which tag now.
pub(super) type Tags = BTreeSet<(Reference, Digest)>;

/// Reads them from the store.
pub(super) fn tags(store: &Store) -> Tags {
    // Without them the list is as good, but for names that have moved on.
    store.tags().unwrap_or_default()
}

/// The image as it was named, unless that name belongs to another image (or to none) by now: then its ID.
pub(super) fn image_name(container: &Container, tags: &Tags) -> String {
    let record = &container.record;
    let name = &record.config.image;
    let hex = name.strip_prefix("sha256:").unwrap_or(name);
    let by_digest = name.contains('@');
    let tag = Reference::parse(name).ok();
    let moved = tag.is_none_or(|tag| !tags.contains(&(tag, record.image)));
    if moved && !by_digest || record.image.hex().starts_with(hex) {
        return short_id(&record.image.to_string());
    }
    name.clone()
}

/// `-n N` and `-l`; a negative N means all.
fn last(matches: &ArgMatches) -> Option<usize> {
    if words::is_on(matches, "latest") {
        return Some(1);
    }
    let count = *matches.get_one::<i64>("last")?;
    usize::try_from(count).ok().filter(|n| *n > 0)
}

/// What the filters mean, looked up once.
struct Choice<'a> {
    filters: &'a Filters,
    ids: crate::filter::Patterns,
    names: crate::filter::Patterns,
    exited: Vec<i32>,
    ports: Vec<(&'static str, PortRange)>,
    /// Made before, made after.
    window: (Option<time::Nanos>, Option<time::Nanos>),
}

/// From, to, protocol.
type PortRange = (u16, u16, String);

impl<'a> Choice<'a> {
    fn new(store: &Store, filters: &'a Filters) -> Result<Self, Failure> {
        let created = |name: &str| {
            filters
                .values(name)
                .last()
                .map(|c| {
                    Ok::<_, Failure>(
                        time::of(&store.find_container(c)?.record.created).unwrap_or_default(),
                    )
                })
                .transpose()
        };
        check(
            filters,
            "status",
            &[
                "created",
                "restarting",
                "running",
                "removing",
                "paused",
                "exited",
                "dead",
            ],
        )?;
        check(
            filters,
            "health",
            &["starting", "healthy", "unhealthy", "none"],
        )?;
        filters.truth("is-task")?;
        let exited = filters.values("exited").map(|value| {
            value
                .parse()
                .map_err(|_| invalid("exited", value, "want an exit code, for example exited=1"))
        });
        let mut ports = Vec::new();
        for name in ["publish", "expose"] {
            for value in filters.values(name) {
                let range = port_range(value).ok_or_else(|| {
                    invalid(
                        name,
                        value,
                        "want PORT or FROM-TO, and /tcp or /udp if you like",
                    )
                })?;
                ports.push((name, range));
            }
        }
        Ok(Self {
            filters,
            ids: filters.patterns("id")?,
            names: filters.patterns("name")?,
            exited: exited.collect::<Result<_, _>>()?,
            ports,
            window: (created("before")?, created("since")?),
        })
    }

    fn fits(&self, container: &Container) -> bool {
        let Container { record, state, .. } = container;
        let filters = self.filters;
        let created = time::of(&record.created).unwrap_or_default();
        let slashed = || format!("/{}", record.name);
        self.ids.fit(&record.id)
            && (self.names.fit(&record.name) || self.names.fit(&slashed()))
            && filters.labels(|key| record.config.labels.get(key).map(String::as_str))
            && filters.any("status", |status| status == state.status.as_str())
            && (self.exited.is_empty()
                || state.status == Status::Exited && self.exited.contains(&state.exit_code))
            && filters.any("ancestor", |image| ancestor(container, image))
            && self.window.0.is_none_or(|before| created < before)
            && self.window.1.is_none_or(|since| created > since)
            && filters.any("volume", |v| {
                record
                    .mounts
                    .iter()
                    .any(|m| m.name == v || m.source == v || m.destination == v)
            })
            && filters.any("network", |n| {
                container_row::network(&record.host_config.network_mode) == n
            })
            && filters.any("health", |h| container_row::health(state) == h)
            && filters.any("is-task", |value| value.parse() == Ok(false))
            && (self.ports.is_empty() || self.has_port(container))
    }

    fn has_port(&self, container: &Container) -> bool {
        let ports = container_row::ports_of(container);
        ["publish", "expose"].iter().all(|kind| {
            let mut wanted = self
                .ports
                .iter()
                .filter(|(name, _)| name == kind)
                .peekable();
            wanted.peek().is_none()
                || wanted.any(|(_, (from, to, protocol))| {
                    ports.iter().any(|port| {
                        let number = match *kind {
                            "publish" => port.host.map(|(_, host)| host),
                            _ => Some(port.container),
                        };
                        number.is_some_and(|n| (*from..=*to).contains(&n))
                            && port.protocol == *protocol
                    })
                })
        })
    }
}

/// Whether a container was made from `image`, named as it was, or by ID.
fn ancestor(container: &Container, image: &str) -> bool {
    let record = &container.record;
    let hex = record.image.hex();
    let wanted = image.strip_prefix("sha256:").unwrap_or(image);
    let tagged = |name: &str| Reference::parse(name).ok();
    record.config.image == image
        || (wanted.len() >= 4 && hex.starts_with(wanted))
        || tagged(image).is_some_and(|wanted| tagged(&record.config.image) == Some(wanted))
}

/// `80`, `80/udp`, `80-90/tcp`.
fn port_range(text: &str) -> Option<PortRange> {
    let (numbers, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (from, to) = numbers.split_once('-').unwrap_or((numbers, numbers));
    let (from, _) = ports::split(from)?;
    let (to, _) = ports::split(to)?;
    (from <= to).then(|| (from, to, protocol.to_lowercase()))
}

fn check(filters: &Filters, name: &str, known: &[&str]) -> Result<(), Failure> {
    match filters.values(name).find(|value| !known.contains(value)) {
        Some(value) => Err(invalid(
            name,
            value,
            &format!("want one of {}", known.join(", ")),
        )),
        None => Ok(()),
    }
}

fn invalid(name: &str, value: &str, hint: &str) -> Failure {
    Failure::new(format!("invalid filter '{name}={value}'")).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::container_row::tests::container;

    #[test]
    fn a_name_that_moved_on_is_not_shown() {
        let container = container();
        let tag = Reference::parse("debian:12").unwrap();
        let tags = |id: Digest| Tags::from([(tag.clone(), id)]);
        assert_eq!(
            image_name(&container, &tags(container.record.image)),
            "debian:12"
        );
        let id = short_id(&container.record.image.to_string());
        assert_eq!(image_name(&container, &tags(Digest::of(b"other"))), id);
        assert_eq!(image_name(&container, &Tags::new()), id);
    }

    #[test]
    fn filters_choose() {
        for (words, want) in [
            (vec![], true),
            (vec!["name=web"], true),
            (vec!["name=^/web$"], true),
            (vec!["name=db"], false),
            (vec!["name=db", "name=web"], true),
            (vec!["id=0123"], true),
            (vec!["status=running"], true),
            (vec!["status=exited"], false),
            (vec!["exited=0"], false),
            (vec!["ancestor=debian:12"], true),
            (vec!["ancestor=docker.io/library/debian:12"], true),
            (vec!["ancestor=debian"], false),
            (vec!["label=a=1", "name=web"], true),
            (vec!["network=bridge"], true),
            (vec!["network=host"], false),
            (vec!["publish=8005"], true),
            (vec!["publish=80"], false),
            (vec!["publish=8000-8010/tcp"], true),
            (vec!["expose=443"], true),
            (vec!["expose=53/udp"], false),
            (vec!["health=none"], true),
            (vec!["is-task=true"], false),
        ] {
            let owned: Vec<_> = words.iter().map(|w: &&str| (*w).to_owned()).collect();
            let filters = Filters::parse(&owned, &FILTERS).unwrap();
            let choice = Choice {
                filters: &filters,
                ids: filters.patterns("id").unwrap(),
                names: filters.patterns("name").unwrap(),
                exited: filters
                    .values("exited")
                    .map(|v| v.parse().unwrap())
                    .collect(),
                ports: ["publish", "expose"]
                    .into_iter()
                    .flat_map(|n| filters.values(n).map(move |v| (n, port_range(v).unwrap())))
                    .collect(),
                window: (None, None),
            };
            assert_eq!(choice.fits(&container()), want, "{words:?}");
        }
    }
}
