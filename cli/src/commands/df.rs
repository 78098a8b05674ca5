//! `rctr system df`.

use std::collections::{BTreeMap, HashSet};

use clap::{ArgMatches, Command};
use rctr_storage::cache::{CacheUsage, total};
use rctr_storage::digest::DiffId;
use rctr_storage::record::Status;
use rctr_storage::{Store, tree};

use super::{df_verbose, sizes, words};
use crate::command::Verb;
use crate::context::Context;
use crate::format::{Listing, Quiet, size};
use crate::output;
use crate::report::{ENGINE, Failure};
use crate::template::Data;

/// `system df`.
pub(crate) const VERB: Verb = Verb {
    names: &["system df"],
    about: "Show what takes room on the disk",
    args,
    run,
};

fn args(command: Command) -> Command {
    command
        .arg(words::value(
            "format",
            None,
            "Go template for each line, 'table TEMPLATE', or 'json'",
        ))
        .arg(words::on(
            "verbose",
            Some('v'),
            "Show every image, container and volume",
        ))
}

fn listing() -> Listing {
    Listing {
        headers: &[
            ("Type", "TYPE"),
            ("TotalCount", "TOTAL"),
            ("Active", "ACTIVE"),
            ("Size", "SIZE"),
            ("Reclaimable", "RECLAIMABLE"),
        ],
        table: "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}".to_owned(),
        quiet: "{{.Type}}",
    }
}

/// A kind of thing.
#[derive(Default)]
struct Usage {
    name: &'static str,
    total: usize,
    active: usize,
    bytes: u64,
    reclaimable: u64,
}

impl Usage {
    fn row(&self) -> Data {
        let percent = match self.bytes {
            0 => String::new(),
            bytes => format!(
                " ({}%)",
                u128::from(self.reclaimable) * 100 / u128::from(bytes)
            ),
        };
        Data::fields([
            ("Active", Data::text(self.active.to_string())),
            (
                "Reclaimable",
                Data::text(format!("{}{percent}", size::long(self.reclaimable))),
            ),
            ("Size", Data::text(size::long(self.bytes))),
            ("TotalCount", Data::text(self.total.to_string())),
            ("Type", Data::text(self.name)),
        ])
    }
}

fn run(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let verbose = words::is_on(matches, "verbose");
    if verbose && words::text(matches, "format").is_some() {
        return Err(Failure::new("--format and --verbose exclude each other")
            .hint("rctr images --format … and rctr ps -as --format … list the same")
            .code(ENGINE));
    }
    let format = listing().format(words::text(matches, "format"), Quiet::No)?;
    let store = Store::open(&context.root)?;
    let containers = store.containers()?;
    let written = sizes::of(context, &store, &containers)?;
    if verbose {
        output::text(df_verbose::tables(&store, &containers, &written)?);
        return Ok(0);
    }
    let used: HashSet<DiffId> = containers
        .iter()
        .flat_map(|c| &c.record.layers)
        .map(|l| DiffId(*l))
        .collect();
    let usages = [
        images(
            &store,
            &containers.iter().map(|c| c.record.image).collect(),
            &used,
        )?,
        of_containers(&containers, &written),
        volumes(&store)?,
        build_cache(&store)?,
    ];
    output::text(format.render(usages.iter().map(Usage::row))?);
    Ok(0)
}

/// What images have as well isn't counted twice.
fn build_cache(store: &Store) -> Result<Usage, Failure> {
    let all = store.cache_usage()?;
    let own = |usage: &&CacheUsage| !usage.shared;
    Ok(Usage {
        name: "Build Cache",
        total: all.len(),
        active: all.iter().filter(|usage| usage.in_use).count(),
        bytes: total(all.iter().filter(own)),
        reclaimable: total(all.iter().filter(own).filter(|usage| !usage.in_use)),
    })
}

/// Layers count once, whoever shares them.
fn images(
    store: &Store,
    active: &HashSet<rctr_storage::digest::Digest>,
    used: &HashSet<DiffId>,
) -> Result<Usage, Failure> {
    let images = store.images()?;
    let mut layers = HashSet::new();
    for image in &images {
        // A damaged image is for `system check` to tell.
        if let Ok(config) = store.read_config(&image.id) {
            layers.extend(config.rootfs.diff_ids);
        }
    }
    let mut usage = Usage {
        name: "Images",
        total: images.iter().filter(|i| i.part_of.is_none()).count(),
        active: images.iter().filter(|i| active.contains(&i.id)).count(),
        ..Usage::default()
    };
    for layer in layers {
        let bytes = store.layer_size(&layer);
        usage.bytes += bytes;
        usage.reclaimable += if used.contains(&layer) { 0 } else { bytes };
    }
    Ok(usage)
}

fn of_containers(
    containers: &[rctr_storage::container::Container],
    written: &BTreeMap<String, crate::view::container_row::Sizes>,
) -> Usage {
    let mut usage = Usage {
        name: "Containers",
        total: containers.len(),
        ..Usage::default()
    };
    for container in containers {
        let bytes = written.get(&container.record.id).map_or(0, |s| s.own);
        let live = matches!(
            container.state.status,
            Status::Running | Status::Paused | Status::Restarting
        );
        usage.active += usize::from(live);
        usage.bytes += bytes;
        usage.reclaimable += if live { 0 } else { bytes };
    }
    usage
}

fn volumes(store: &Store) -> Result<Usage, Failure> {
    let users = store.volume_users()?;
    let mut usage = Usage {
        name: "Local Volumes",
        ..Usage::default()
    };
    for volume in store.volumes()? {
        let bytes = tree::size(&volume.mountpoint).unwrap_or(0);
        let active = users.contains_key(&volume.name);
        usage.total += 1;
        usage.active += usize::from(active);
        usage.bytes += bytes;
        usage.reclaimable += if active { 0 } else { bytes };
    }
    Ok(usage)
}
