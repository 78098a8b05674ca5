//! `rctr system df -v`: what takes room, thing by thing. Docker's four tables.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

use rctr_storage::cache::total;
use rctr_storage::container::Container;
use rctr_storage::digest::DiffId;
use rctr_storage::image::ImageSummary;
use rctr_storage::{Store, tree};

use super::ps;
use crate::format::{Listing, Quiet, size, time};
use crate::report::Failure;
use crate::template::Data;
use crate::view::cache_row;
use crate::view::container_row::{self, Around, Cut, Sizes};
use crate::view::image_row::{self, Use};

/// All four. `written`: the sizes of containers, by ID.
pub(super) fn tables(
    store: &Store,
    containers: &[Container],
    written: &BTreeMap<String, Sizes>,
) -> Result<String, Failure> {
    let mut out = String::new();
    let tables = [
        ("Images", images(store, containers)?),
        ("Containers", of_containers(store, containers, written)?),
        ("Local Volumes", volumes(store)?),
    ];
    for (name, table) in tables {
        let _ = write!(out, "{name} space usage:\n\n{table}\n");
    }
    let cache = store.cache_usage()?;
    let bytes = total(cache.iter().filter(|usage| !usage.shared));
    let _ = write!(out, "Build cache usage: {}\n\n", size::long(bytes));
    let now = time::now();
    let rows = cache.iter().map(|usage| cache_row::row(usage, now));
    out.push_str(&build_cache().format(None, Quiet::No)?.render(rows)?);
    Ok(out)
}

fn images(store: &Store, containers: &[Container]) -> Result<String, Failure> {
    let listing = Listing {
        table: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}".to_owned(),
        ..image_row::listing(false)
    };
    let images = store.images()?;
    // A damaged image is for `system check` to tell: its layers count as none.
    let layers = |image: &ImageSummary| {
        let config = store.read_config(&image.id);
        config.map(|c| c.rootfs.diff_ids).unwrap_or_default()
    };
    let layers: Vec<Vec<DiffId>> = images.iter().map(layers).collect();
    let mut users: HashMap<DiffId, usize> = HashMap::new();
    for layer in layers.iter().flatten() {
        *users.entry(*layer).or_default() += 1;
    }
    let now = time::now();
    let mut rows = Vec::new();
    for (image, layers) in images.iter().zip(&layers) {
        let shared = layers.iter().filter(|layer| users[*layer] > 1);
        let shared: u64 = shared.map(|layer| store.layer_size(layer)).sum();
        let made = containers.iter().filter(|c| c.record.image == image.id);
        let used = Use {
            containers: Some(made.count()),
            shared: Some(shared),
            unique: Some(image.size.saturating_sub(shared)),
        };
        for name in image_row::names(image, false, &|_| true) {
            rows.push(image_row::row(image, &name, Cut::Yes, now, used));
        }
    }
    listing.format(None, Quiet::No)?.render(rows)
}

fn of_containers(
    store: &Store,
    containers: &[Container],
    written: &BTreeMap<String, Sizes>,
) -> Result<String, Failure> {
    let listing = Listing {
        table: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}".to_owned(),
        ..container_row::listing(true)
    };
    let tags = ps::tags(store);
    let around = Around {
        now: time::now(),
        cut: Cut::Yes,
        image: &|container| ps::image_name(container, &tags),
        // The image's part is in the table above.
        sizes: &|container| {
            let own = written.get(&container.record.id)?.own;
            Some(Sizes { own, image: 0 })
        },
    };
    let rows = containers.iter().map(|c| container_row::row(c, &around));
    listing.format(None, Quiet::No)?.render(rows)
}

fn volumes(store: &Store) -> Result<String, Failure> {
    let listing = Listing {
        headers: &[
            ("Name", "VOLUME NAME"),
            ("Links", "LINKS"),
            ("Size", "SIZE"),
        ],
        table: "{{.Name}}\t{{.Links}}\t{{.Size}}".to_owned(),
        quiet: "{{.Name}}",
    };
    let users = store.volume_users()?;
    let volumes = store.volumes()?;
    let rows = volumes.iter().map(|volume| {
        let links = users.get(&volume.name).map_or(0, Vec::len);
        let bytes = tree::size(&volume.mountpoint).unwrap_or(0);
        Data::fields([
            ("Links", Data::text(links.to_string())),
            ("Name", Data::text(&volume.name)),
            ("Size", Data::text(size::short(bytes))),
        ])
    });
    listing.format(None, Quiet::No)?.render(rows)
}

fn build_cache() -> Listing {
    Listing {
        headers: &[
            ("ID", "CACHE ID"),
            ("CacheType", "CACHE TYPE"),
            ("Size", "SIZE"),
            ("CreatedSince", "CREATED"),
            ("LastUsedSince", "LAST USED"),
            ("UsageCount", "USAGE"),
            ("Shared", "SHARED"),
        ],
        table: "{{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.Shared}}".to_owned(),
        quiet: "{{.ID}}",
    }
}
