//! `rctr builder prune` and `builder du`: the build cache.

use std::time::SystemTime;

use clap::{ArgMatches, Command};
use rctr_runtime::identity::{self, Mounts};
use rctr_storage::Store;
use rctr_storage::cache::{CachePolicy, CacheUsage, PruneCache, UsageKind, total};
use rctr_storage::removal::PruneScope;

use super::{prune, words};
use crate::command::Verb;
use crate::context::Context;
use crate::filter::Filters;
use crate::format::{Quiet, size, time};
use crate::report::{ENGINE, Failure};
use crate::request::values::parse_size;
use crate::view::cache_row;
use crate::{moment, output};

/// `builder prune`.
pub(crate) const PRUNE: Verb = Verb {
    names: &["builder prune", "buildx prune"],
    about: "Remove build cache",
    args: prune_args,
    run: prune,
};

/// `builder du`.
pub(crate) const DU: Verb = Verb {
    names: &["builder du", "buildx du"],
    about: "Show what the build cache takes",
    args: du_args,
    run: du,
};

const FILTERS: &str = "Only what fits, NAME=VALUE: until or unused-for (not used for so long, 24h), type (regular, exec.cachemount, source.local), id, parent, description, inuse, shared, private";
const KNOWN: [&str; 9] = [
    "until",
    "unused-for",
    "type",
    "id",
    "parent",
    "description",
    "inuse",
    "shared",
    "private",
];

fn prune_args(command: Command) -> Command {
    command
        .arg(words::on(
            "all",
            Some('a'),
            "What images have, too, and digests of contexts: all that no running build uses",
        ))
        .arg(words::on("force", Some('f'), "Don't ask"))
        .arg(words::values("filter", None, FILTERS))
        .arg(words::value(
            "max-used-space",
            None,
            "No more than this may stay, as 10gb; the oldest goes first",
        ))
        .arg(
            words::value("reserved-space", None, "So much may always stay")
                .alias("keep-storage")
                .value_name("SIZE"),
        )
        .arg(words::value(
            "min-free-space",
            None,
            "So much of the disk is to be free afterwards",
        ))
        .arg(words::on("verbose", None, "Show more of each"))
        .arg(builder())
}

fn du_args(command: Command) -> Command {
    command
        .arg(words::values("filter", None, FILTERS))
        .arg(words::value(
            "format",
            None,
            "Go template for each line, 'table TEMPLATE', or 'json'",
        ))
        .arg(words::on("verbose", None, "Show more of each"))
        .arg(builder())
}

/// There is one builder: its name is of no matter.
fn builder() -> clap::Arg {
    words::value("builder", None, "Ignored").hide(true)
}

fn prune(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let all = words::is_on(matches, "all");
    let filters = Filters::parse(&words::list(matches, "filter"), &KNOWN)?;
    let wanted = Wanted::new(&filters)?;
    let policy = CachePolicy {
        max_used: bytes(matches, "max-used-space")?,
        reserved: bytes(matches, "reserved-space")?,
        min_free: bytes(matches, "min-free-space")?,
    };
    let said = if all {
        "all build cache"
    } else {
        "all dangling build cache"
    };
    prune::confirm(matches, &[said])?;
    let store = Store::open(&context.root)?;
    identity::enter(&context.identity()?, Mounts::Host)?;
    let collected = store.prune_cache(&PruneCache {
        scope: if all {
            PruneScope::Unused
        } else {
            PruneScope::Dangling
        },
        policy,
        wanted: &|usage| wanted.fits(usage),
    })?;
    if !collected.removed.is_empty() {
        show(&collected.removed, None, words::is_on(matches, "verbose"))?;
    }
    output::line(format!("Total:\t{}", size::long(collected.bytes)));
    Ok(0)
}

fn du(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let filters = Filters::parse(&words::list(matches, "filter"), &KNOWN)?;
    let wanted = Wanted::new(&filters)?;
    let (format, verbose) = (
        words::text(matches, "format"),
        words::is_on(matches, "verbose"),
    );
    if verbose && format.is_some() {
        return Err(Failure::new("--format and --verbose exclude each other").code(ENGINE));
    }
    // A format that isn't one is told before anything is counted.
    cache_row::listing().format(format, Quiet::No)?;
    let store = Store::open(&context.root)?;
    // Cache mounts belong to several owners.
    identity::enter(&context.identity()?, Mounts::Host)?;
    let mut usage = store.cache_usage()?;
    usage.retain(|usage| wanted.fits(usage));
    show(&usage, format, verbose)?;
    if format.is_none() {
        let free = usage.iter().filter(|usage| !usage.in_use && !usage.shared);
        let shared = total(usage.iter().filter(|usage| usage.shared));
        if shared > 0 {
            let private = total(usage.iter().filter(|usage| !usage.shared));
            output::line(format!("Shared:\t\t{}", size::long(shared)));
            output::line(format!("Private:\t{}", size::long(private)));
        }
        output::line(format!("Reclaimable:\t{}", size::long(total(free))));
        output::line(format!("Total:\t\t{}", size::long(total(&usage))));
    }
    Ok(0)
}

fn show(usage: &[CacheUsage], format: Option<&str>, verbose: bool) -> Result<(), Failure> {
    if verbose {
        usage
            .iter()
            .for_each(|usage| output::line(cache_row::verbose(usage)));
        return Ok(());
    }
    let now = time::now();
    let format = cache_row::listing().format(format, Quiet::No)?;
    let rows = usage.iter().map(|usage| cache_row::row(usage, now));
    output::text(format.render(rows)?);
    Ok(())
}

fn bytes(matches: &ArgMatches, flag: &str) -> Result<Option<u64>, Failure> {
    let parse = |text| {
        parse_size(text)
            .map(|bytes| u64::try_from(bytes).unwrap_or(0))
            .map_err(|why| words::bad(flag, text, why))
    };
    words::text(matches, flag).map(parse).transpose()
}

/// `--filter`, read.
struct Wanted<'a> {
    filters: &'a Filters,
    /// Not used since then.
    before: Option<SystemTime>,
    in_use: Option<bool>,
    shared: Option<bool>,
}

impl<'a> Wanted<'a> {
    fn new(filters: &'a Filters) -> Result<Self, Failure> {
        let now = SystemTime::now();
        let moments = ["until", "unused-for"].into_iter().flat_map(|name| {
            filters.values(name).map(move |text| {
                moment::parse(text, now).map_err(|why| {
                    Failure::new(format!("invalid filter '{name}={text}'")).hint(why)
                })
            })
        });
        let before = moments.collect::<Result<Vec<_>, _>>()?.into_iter().min();
        let kinds = [UsageKind::Step, UsageKind::Mount, UsageKind::Files];
        let is_kind = |word: &str| kinds.iter().any(|kind| kind.word() == word);
        // Docker's other kinds are fine, and never there.
        let others = ["internal", "frontend", "source.git.checkout"];
        if let Some(word) = filters
            .values("type")
            .find(|word| !is_kind(word) && !others.contains(word))
        {
            let words: Vec<_> = kinds.iter().map(|kind| kind.word()).collect();
            return Err(Failure::new(format!("invalid filter 'type={word}'"))
                .hint(format!("types: {}", words.join(", "))));
        }
        let private = filters.truth("private")?;
        Ok(Self {
            before,
            in_use: filters.truth("inuse")?,
            shared: filters.truth("shared")?.or(private.map(|private| !private)),
            filters,
        })
    }

    fn fits(&self, usage: &CacheUsage) -> bool {
        let parent = usage.parent.map(|key| key.hex()).unwrap_or_default();
        let begins = |full: &str, prefix: &str| !prefix.is_empty() && full.starts_with(prefix);
        self.before.is_none_or(|before| usage.used < before)
            && self.in_use.is_none_or(|wanted| wanted == usage.in_use)
            && self.shared.is_none_or(|wanted| wanted == usage.shared)
            && self.filters.any("type", |word| word == usage.kind.word())
            && self.filters.any("id", |id| begins(&usage.id, id))
            && self.filters.any("parent", |id| begins(&parent, id))
            && self
                .filters
                .any("description", |text| usage.description.contains(text))
    }
}
