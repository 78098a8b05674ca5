//! `rctr container prune`, `image prune`, `volume prune` and `system prune`: what nobody needs goes.

use std::io;

use clap::{ArgMatches, Command};
use rctr_runtime::identity::{self, Mounts};
use rctr_storage::Store;
use rctr_storage::cache::{CachePolicy, CacheUsage, PruneCache};
use rctr_storage::container::ContainerError;
use rctr_storage::record::Status;
use rctr_storage::removal::{PruneScope, Removed};
use rctr_storage::volume::VolumeScope;

use super::{images, words};
use crate::command::Verb;
use crate::context::Context;
use crate::files;
use crate::filter::Filters;
use crate::format::{size, time};
use crate::output;
use crate::report::Failure;

/// `container prune`.
pub(crate) const CONTAINER: Verb = Verb {
    names: &["container prune"],
    about: "Remove all containers that don't run",
    args: common,
    run: |context, matches| {
        confirm(matches, &["all containers that don't run"])?;
        let job = Job::new(context, matches, "until, label")?;
        Job::show(&[job.containers()?]);
        Ok(0)
    },
};

/// `image prune`.
pub(crate) const IMAGE: Verb = Verb {
    names: &["image prune"],
    about: "Remove images that nobody needs",
    args: |command| {
        common(command).arg(all(
            "Not only those without a name, but all without a container",
        ))
    },
    run: |context, matches| {
        confirm(matches, &[images_said(matches)])?;
        let job = Job::new(context, matches, "until, label")?;
        Job::show(&[job.images()?]);
        Ok(0)
    },
};

/// `volume prune`.
pub(crate) const VOLUME: Verb = Verb {
    names: &["volume prune"],
    about: "Remove volumes that no container uses",
    args: |command| common(command).arg(all("Not only anonymous ones, but named ones, too")),
    run: |context, matches| {
        let said = if words::is_on(matches, "all") {
            "all volumes that no container uses"
        } else {
            "all anonymous volumes that no container uses"
        };
        confirm(matches, &[said])?;
        let job = Job::new(context, matches, "label")?;
        Job::show(&[job.volumes(words::is_on(matches, "all"))?]);
        Ok(0)
    },
};

/// `system prune`.
pub(crate) const SYSTEM: Verb = Verb {
    names: &["system prune"],
    about: "Remove containers, images and volumes that nobody needs",
    args: |command| {
        common(command)
            .arg(all(
                "Not only images without a name, but all without a container",
            ))
            .arg(words::on(
                "volumes",
                None,
                "Anonymous volumes that no container uses, too",
            ))
    },
    run: |context, matches| {
        let volumes = words::is_on(matches, "volumes");
        let cache = if words::is_on(matches, "all") {
            "all build cache"
        } else {
            "all dangling build cache"
        };
        let mut said = vec!["all containers that don't run", images_said(matches), cache];
        if volumes {
            said.push("all anonymous volumes that no container uses");
        }
        confirm(matches, &said)?;
        let job = Job::new(context, matches, "until, label")?;
        let mut done = vec![job.containers()?];
        if volumes {
            done.push(job.volumes(false)?);
        }
        done.push(job.images()?);
        // After the images, whose layers it may have.
        done.push(job.cache()?);
        Job::show(&done);
        Ok(0)
    },
};

fn common(command: Command) -> Command {
    command
        .arg(words::on("force", Some('f'), "Don't ask"))
        .arg(words::values(
            "filter",
            None,
            "Only those that fit, NAME=VALUE: until (a time or duration), label",
        ))
}

fn all(help: &'static str) -> clap::Arg {
    words::on("all", Some('a'), help)
}

fn images_said(matches: &ArgMatches) -> &'static str {
    if words::is_on(matches, "all") {
        "all images without a container"
    } else {
        "all images without a name"
    }
}

/// Asks, unless `-f`.
pub(super) fn confirm(matches: &ArgMatches, doomed: &[&str]) -> Result<(), Failure> {
    if words::is_on(matches, "force") {
        return Ok(());
    }
    let lines: String = doomed.iter().map(|what| format!("  - {what}\n")).collect();
    output::text(format!(
        "WARNING! This will remove:\n{lines}\nAre you sure you want to continue? [y/N] "
    ));
    let mut answer = String::new();
    // No answer is a "no".
    let _ = io::stdin().read_line(&mut answer);
    if matches!(answer.trim(), "y" | "Y" | "yes" | "Yes") {
        return Ok(());
    }
    Err(Failure::new("nothing was removed: not confirmed").hint("--force doesn't ask"))
}

/// What is to be done, with this process inside the identity.
struct Job {
    store: Store,
    filters: Filters,
    until: Option<time::Nanos>,
    scope: PruneScope,
}

/// What was removed of one kind.
struct Done {
    title: &'static str,
    lines: Vec<String>,
    bytes: u64,
}

impl Job {
    fn new(context: &Context, matches: &ArgMatches, known: &str) -> Result<Self, Failure> {
        let known: Vec<_> = known.split(", ").chain(["label!"]).collect();
        let filters = Filters::parse(&words::list(matches, "filter"), &known)?;
        let until = filters.values("until").map(images::until);
        let until = until.collect::<Result<Vec<_>, _>>()?.into_iter().min();
        let store = Store::open(&context.root)?;
        crate::leftovers::clear(context, &store);
        identity::enter(&context.identity()?, Mounts::Host)?;
        let all = matches.try_contains_id("all").is_ok() && words::is_on(matches, "all");
        Ok(Self {
            store,
            filters,
            until,
            scope: if all {
                PruneScope::Unused
            } else {
                PruneScope::Dangling
            },
        })
    }

    fn is_before(&self, created: &str) -> bool {
        self.until
            .is_none_or(|until| time::of(created).is_some_and(|created| created < until))
    }

    fn has_labels(&self, labels: &std::collections::BTreeMap<String, String>) -> bool {
        self.filters
            .labels(|key| labels.get(key).map(String::as_str))
    }

    fn containers(&self) -> Result<Done, Failure> {
        let mut done = Done {
            title: "Deleted Containers:",
            lines: Vec::new(),
            bytes: 0,
        };
        for container in self.store.containers()? {
            let record = &container.record;
            let idle = matches!(
                container.state.status,
                Status::Created | Status::Exited | Status::Dead
            );
            if !(idle && self.is_before(&record.created) && self.has_labels(&record.config.labels))
            {
                continue;
            }
            let bytes = files::written(&self.store, &container);
            match self.store.remove_container(&record.id) {
                Ok(()) => {
                    done.lines.push(record.id.clone());
                    done.bytes += bytes;
                }
                // Started or removed in this moment.
                Err(ContainerError::Running { .. } | ContainerError::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(done)
    }

    fn images(&self) -> Result<Done, Failure> {
        let pruned = self.store.prune_images(self.scope, &|image| {
            let created = image.config.created.as_deref().unwrap_or_default();
            self.is_before(created) && self.has_labels(&image.config.config.labels)
        })?;
        let lines = pruned.removed.iter().map(|removed| match removed {
            Removed::Untagged(name) => format!("untagged: {name}"),
            Removed::Deleted(digest) => format!("deleted: {digest}"),
        });
        Ok(Done {
            title: "Deleted Images:",
            lines: lines.collect(),
            bytes: pruned.bytes,
        })
    }

    /// Build cache has no labels: a filter by them spares it.
    fn cache(&self) -> Result<Done, Failure> {
        let labels = self.filters.has("label") || self.filters.has("label!");
        let is_before = |usage: &CacheUsage| {
            let used = time::of_system(usage.used);
            self.until.is_none_or(|until| used < until)
        };
        let collected = self.store.prune_cache(&PruneCache {
            scope: self.scope,
            policy: CachePolicy::default(),
            wanted: &|usage| !labels && is_before(usage),
        })?;
        let removed = collected.removed.iter();
        Ok(Done {
            title: "Deleted build cache objects:",
            lines: removed.map(|usage| usage.id.clone()).collect(),
            bytes: collected.bytes,
        })
    }

    fn volumes(&self, all: bool) -> Result<Done, Failure> {
        let scope = if all {
            VolumeScope::All
        } else {
            VolumeScope::Anonymous
        };
        let (lines, bytes) = self
            .store
            .prune_volumes(scope, &|volume| self.has_labels(&volume.labels))?;
        Ok(Done {
            title: "Deleted Volumes:",
            lines,
            bytes,
        })
    }

    fn show(done: &[Done]) {
        for Done { title, lines, .. } in done.iter().filter(|d| !d.lines.is_empty()) {
            output::line(title);
            lines.iter().for_each(output::line);
            output::line("");
        }
        let bytes = done.iter().map(|d| d.bytes).sum();
        output::line(format!("Total reclaimed space: {}", size::long(bytes)));
    }
}
