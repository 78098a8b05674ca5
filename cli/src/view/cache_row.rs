//! What is in the build cache, as rows of `builder du` and `builder prune`, and builds as rows of `builder history`.

use std::fmt::Write;
use std::time::SystemTime;

use rctr_storage::cache::{BuildEntry, BuildResult, CacheUsage};

use crate::format::{Listing, duration, ellipsis, short_id, size, time};
use crate::template::Data;

/// Width of the column NAME.
const NAME: usize = 40;
/// Width of a step's name.
const DESCRIPTION: usize = 60;

/// `builder du`.
pub(crate) fn listing() -> Listing {
    Listing {
        headers: &[
            ("ID", "ID"),
            ("Reclaimable", "RECLAIMABLE"),
            ("Size", "SIZE"),
            ("LastAccessed", "LAST ACCESSED"),
            ("LastUsedSince", "LAST USED"),
            ("CreatedSince", "CREATED"),
            ("CreatedAt", "CREATED AT"),
            ("CacheType", "CACHE TYPE"),
            ("Type", "TYPE"),
            ("Description", "DESCRIPTION"),
            ("Name", "NAME"),
            ("InUse", "IN USE"),
            ("Shared", "SHARED"),
            ("Parents", "PARENTS"),
            ("UsageCount", "USAGE"),
        ],
        table: "{{.ID}}\t{{.Reclaimable}}\t{{.Size}}\t{{.LastAccessed}}\t{{.Name}}".to_owned(),
        quiet: "{{.ID}}",
    }
}

/// A thing in the cache.
pub(crate) fn row(usage: &CacheUsage, now: time::Nanos) -> Data {
    let ago = format!("{} ago", duration::words(age(usage.used)));
    // Docker's mark of what images have, too.
    let mark = if usage.shared { "*" } else { "" };
    let created = time::since(&usage.created, now);
    Data::fields([
        ("CacheType", Data::text(usage.kind.word())),
        ("CreatedAt", Data::text(&usage.created)),
        (
            "CreatedSince",
            Data::text(format!("{} ago", duration::words(created))),
        ),
        ("Description", Data::text(&usage.description)),
        ("ID", Data::text(short_id(&usage.id))),
        ("InUse", Data::text(usage.in_use.to_string())),
        ("LastAccessed", Data::text(&ago)),
        ("LastUsedSince", Data::text(&ago)),
        (
            "Name",
            Data::text(ellipsis(&usage.description, DESCRIPTION)),
        ),
        ("Parents", Data::text(parent(usage))),
        ("Reclaimable", Data::text((!usage.in_use).to_string())),
        ("Shared", Data::text(usage.shared.to_string())),
        (
            "Size",
            Data::text(format!("{}{mark}", size::long(usage.bytes))),
        ),
        ("Type", Data::text(usage.kind.word())),
        // Hits are noted by their time, not counted.
        ("UsageCount", Data::text("-")),
    ])
}

/// `builder du --verbose`.
pub(crate) fn verbose(usage: &CacheUsage) -> String {
    let mut out = String::new();
    let mut put = |name: &str, value: &dyn std::fmt::Display| {
        let name = format!("{name}:");
        let _ = writeln!(out, "{name:<16}{value}");
    };
    put("ID", &usage.id);
    if usage.parent.is_some() {
        put("Parents", &parent(usage));
    }
    put("Created at", &usage.created);
    put("Reclaimable", &!usage.in_use);
    put("Shared", &usage.shared);
    put("Size", &size::long(usage.bytes));
    put("Description", &usage.description);
    put(
        "Last used",
        &format!("{} ago", duration::words(age(usage.used))),
    );
    put("Type", &usage.kind.word());
    out
}

fn parent(usage: &CacheUsage) -> String {
    usage.parent.map(|key| key.hex()).unwrap_or_default()
}

fn age(used: SystemTime) -> std::time::Duration {
    // One in the future was used now.
    used.elapsed().unwrap_or_default()
}

/// `builder history`.
pub(crate) fn builds() -> Listing {
    Listing {
        headers: &[
            ("ID", "BUILD ID"),
            ("Name", "NAME"),
            ("Status", "STATUS"),
            ("CreatedSince", "CREATED"),
            ("CreatedAt", "CREATED AT"),
            ("Duration", "DURATION"),
            ("Steps", "STEPS"),
            ("Cached", "CACHED"),
            ("Image", "IMAGE"),
            ("Error", "ERROR"),
            ("Tags", "TAGS"),
            ("Target", "TARGET"),
            ("Dockerfile", "DOCKERFILE"),
            ("Context", "CONTEXT"),
        ],
        table: "{{.ID}}\t{{.Name}}\t{{.Status}}\t{{.CreatedSince}}\t{{.Duration}}".to_owned(),
        quiet: "{{.ID}}",
    }
}

/// A build.
pub(crate) fn build(entry: &BuildEntry, now: time::Nanos) -> Data {
    let image = entry.image.map(|image| image.to_string());
    let named = entry.tags.first().cloned();
    let name = named.unwrap_or_else(|| format!("{} ({})", entry.context, entry.dockerfile));
    Data::fields([
        ("Cached", Data::text(entry.cached.to_string())),
        ("Context", Data::text(&entry.context)),
        ("CreatedAt", Data::text(&entry.started)),
        (
            "CreatedSince",
            Data::text(format!(
                "{} ago",
                duration::words(time::since(&entry.started, now))
            )),
        ),
        ("Dockerfile", Data::text(&entry.dockerfile)),
        ("Duration", Data::text(took(entry))),
        ("Error", Data::text(entry.error.as_deref().unwrap_or(""))),
        ("ID", Data::text(&entry.id)),
        ("Image", Data::text(image.unwrap_or_default())),
        ("Name", Data::text(ellipsis(&name, NAME))),
        ("Status", Data::text(status(entry.result))),
        ("Steps", Data::text(entry.steps.to_string())),
        ("Tags", Data::text(entry.tags.join(","))),
        (
            "Target",
            Data::text(entry.target.as_deref().unwrap_or_default()),
        ),
    ])
}

/// How a build ended, in buildx's words.
pub(crate) fn status(result: BuildResult) -> &'static str {
    match result {
        BuildResult::Running => "Running",
        BuildResult::Completed => "Completed",
        BuildResult::Failed => "Error",
        BuildResult::Canceled => "Canceled",
        BuildResult::Killed => "Killed",
    }
}

/// `1.2s`; empty when nobody knows.
fn took(entry: &BuildEntry) -> String {
    let ended = entry.ended.as_deref().and_then(time::of);
    match (ended, time::of(&entry.started)) {
        (Some(ended), Some(started)) => {
            let tenths = (ended - started).max(0) / 100_000_000;
            format!("{}.{}s", tenths / 10, tenths % 10)
        }
        _ => String::new(),
    }
}
