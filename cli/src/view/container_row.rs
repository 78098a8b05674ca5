//! A container as a row of `ps`.

use std::collections::BTreeMap;
use std::rc::Rc;

use rctr_storage::container::Container;
use rctr_storage::record::{ContainerState, MountPoint, NEVER, Status};

use crate::format::time::{Nanos, since};
use crate::format::{Listing, duration, ellipsis, ports, short_id, size, time};
use crate::template::{Data, quoted};

/// Width of the COMMAND column, of a name in `.Mounts`.
const COMMAND: usize = 20;
const MOUNT: usize = 15;

/// Whether long values are cut: `--no-trunc`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// To a column's width.
    Yes,
    /// Never.
    No,
}

/// Bytes of a container.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sizes {
    /// Of its writable layer.
    pub(crate) own: u64,
    /// Of its image.
    pub(crate) image: u64,
}

/// What a row shows beyond the container's record.
pub(crate) struct Around<'a> {
    /// Now.
    pub(crate) now: Nanos,
    /// Whether values are cut.
    pub(crate) cut: Cut,
    /// How the IMAGE column names the image of a container.
    pub(crate) image: &'a dyn Fn(&Container) -> String,
    /// Sizes, when they are asked for.
    pub(crate) sizes: &'a dyn Fn(&Container) -> Option<Sizes>,
}

/// The list of containers; `sized` adds the column SIZE.
pub(crate) fn listing(sized: bool) -> Listing {
    let mut table =
        "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}"
            .to_owned();
    if sized {
        table.push_str("\t{{.Size}}");
    }
    Listing {
        headers: &[
            ("ID", "CONTAINER ID"),
            ("Image", "IMAGE"),
            ("Command", "COMMAND"),
            ("RunningFor", "CREATED"),
            ("CreatedAt", "CREATED AT"),
            ("Status", "STATUS"),
            ("State", "STATE"),
            ("HealthStatus", "HEALTH STATUS"),
            ("Ports", "PORTS"),
            ("Names", "NAMES"),
            ("Size", "SIZE"),
            ("Labels", "LABELS"),
            ("Mounts", "MOUNTS"),
            ("LocalVolumes", "LOCAL VOLUMES"),
            ("Networks", "NETWORKS"),
            ("Platform", "PLATFORM"),
        ],
        table,
        quiet: "{{.ID}}",
    }
}

/// A row, fields in alphabetical order as docker's JSON has them.
pub(crate) fn row(container: &Container, around: &Around<'_>) -> Data {
    let Container { record, state, .. } = container;
    let short = |text: String, width: usize| match around.cut {
        Cut::Yes => ellipsis(&text, width),
        Cut::No => text,
    };
    let id = match around.cut {
        Cut::Yes => short_id(&record.id),
        Cut::No => record.id.clone(),
    };
    let local = record.mounts.iter().filter(|m| m.kind == "volume").count();
    let labels = record.config.labels.clone();
    Data::fields([
        (
            "Command",
            Data::text(quoted(&short(command(&record.path, &record.args), COMMAND))),
        ),
        (
            "CreatedAt",
            Data::text(
                time::of(&record.created)
                    .map(time::shown)
                    .unwrap_or_default(),
            ),
        ),
        ("HealthStatus", Data::text(health(state))),
        ("ID", Data::text(id)),
        ("Image", Data::text((around.image)(container))),
        (
            "Label",
            Data::Method(Rc::new(move |key: &str| {
                labels.get(key).cloned().unwrap_or_default()
            })),
        ),
        ("Labels", Data::text(pairs(&record.config.labels))),
        ("LocalVolumes", Data::text(local.to_string())),
        (
            "Mounts",
            Data::text(join(
                record
                    .mounts
                    .iter()
                    .map(|m| short(mount_name(m).to_owned(), MOUNT)),
            )),
        ),
        ("Names", Data::text(&record.name)),
        (
            "Networks",
            Data::text(network(&record.host_config.network_mode)),
        ),
        ("Platform", Data::text(&record.platform)),
        ("Ports", Data::text(ports::column(&ports_of(container)))),
        (
            "RunningFor",
            Data::text(format!(
                "{} ago",
                duration::words(since(&record.created, around.now))
            )),
        ),
        (
            "Size",
            Data::text((around.sizes)(container).map_or_else(|| "0B".to_owned(), sizes)),
        ),
        ("State", Data::text(state.status.as_str())),
        ("Status", Data::text(status(state, around.now))),
    ])
}

/// `5B (virtual 120MB)`: what is written, and with the image's layers.
fn sizes(sizes: Sizes) -> String {
    let own = size::short(sizes.own);
    match sizes.image {
        0 => own,
        image => format!("{own} (virtual {})", size::short(sizes.own + image)),
    }
}

/// The words, those with blanks in single quotes.
fn command(path: &str, args: &[String]) -> String {
    let words = std::iter::once(path.to_owned()).chain(args.iter().map(|arg| {
        if arg.contains(' ') {
            format!("'{arg}'")
        } else {
            arg.clone()
        }
    }));
    words.collect::<Vec<_>>().join(" ")
}

/// The STATUS column.
pub(crate) fn status(state: &ContainerState, now: Nanos) -> String {
    let up = || format!("Up {}", duration::words(since(&state.started_at, now)));
    let ended = || {
        format!(
            "({}) {} ago",
            state.exit_code,
            duration::words(since(&state.finished_at, now))
        )
    };
    match state.status {
        Status::Created => "Created".to_owned(),
        Status::Running => match health(state) {
            "none" => up(),
            "starting" => format!("{} (health: starting)", up()),
            health => format!("{} ({health})", up()),
        },
        Status::Paused => format!("{} (Paused)", up()),
        Status::Restarting => format!("Restarting {}", ended()),
        Status::Removing => "Removal In Progress".to_owned(),
        Status::Exited if state.finished_at == NEVER => format!("Exited ({})", state.exit_code),
        Status::Exited => format!("Exited {}", ended()),
        Status::Dead => "Dead".to_owned(),
    }
}

/// `none`, `starting`, `healthy` or `unhealthy`.
pub(crate) fn health(state: &ContainerState) -> &str {
    match &state.health {
        Some(health) if !health.status.is_empty() => &health.status,
        _ => "none",
    }
}

/// What a live container has bound, and what it exposes beyond that.
pub(crate) fn ports_of(container: &Container) -> Vec<ports::Port> {
    let live = matches!(container.state.status, Status::Running | Status::Paused);
    if !live || container.record.host_config.network_mode == "host" {
        return Vec::new();
    }
    let mut all = container.state.ports.clone();
    for key in container.record.config.exposed_ports.keys() {
        all.entry(key.clone()).or_default();
    }
    ports::of(&all)
}

/// A volume's name, a bind mount's source.
fn mount_name(mount: &MountPoint) -> &str {
    if mount.name.is_empty() {
        &mount.source
    } else {
        &mount.name
    }
}

/// The network's name as docker's users know it: the private one is in the place of `bridge`.
pub(crate) fn network(mode: &str) -> &str {
    match mode {
        "" | "private" | "default" => "bridge",
        mode if mode.starts_with("container:") => "",
        mode => mode,
    }
}

/// `a=1,b=2`.
pub(crate) fn pairs(labels: &BTreeMap<String, String>) -> String {
    join(labels.iter().map(|(key, value)| format!("{key}={value}")))
}

fn join(words: impl Iterator<Item = String>) -> String {
    words.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
pub(crate) mod tests {
    use rctr_storage::digest::Digest;
    use rctr_storage::record::{ContainerRecord, Health, HostConfig, PortBinding};

    use super::*;
    use crate::format::Quiet;

    /// 2024-05-01T10:00:00Z.
    pub(crate) const NOW: Nanos = 1_714_557_600_000_000_000;

    pub(crate) fn container() -> Container {
        Container {
            record: ContainerRecord {
                version: 1,
                id: "0123456789abcdef".repeat(4),
                name: "web".to_owned(),
                created: "2024-05-01T09:00:00Z".to_owned(),
                path: "sh".to_owned(),
                args: vec!["-c".to_owned(), "sleep 300; echo done".to_owned()],
                image: Digest::of(b"image"),
                layers: vec![Digest::of(b"layer")],
                platform: "linux/amd64".to_owned(),
                driver: "overlay".to_owned(),
                config: rctr_storage::config::ContainerConfig {
                    image: "debian:12".to_owned(),
                    labels: [("a", "1"), ("com.example.role", "php")]
                        .map(|(k, v)| (k.to_owned(), v.to_owned()))
                        .into(),
                    exposed_ports: [("443/tcp".to_owned(), rctr_storage::config::Empty {})].into(),
                    ..Default::default()
                },
                host_config: HostConfig {
                    network_mode: "private".to_owned(),
                    ..Default::default()
                },
                mounts: Vec::new(),
            },
            state: ContainerState {
                status: Status::Running,
                started_at: "2024-05-01T09:58:00Z".to_owned(),
                ports: [(
                    "80/tcp".to_owned(),
                    Some(vec![PortBinding {
                        host_ip: "0.0.0.0".to_owned(),
                        host_port: "8005".to_owned(),
                    }]),
                )]
                .into(),
                ..Default::default()
            },
            dir: "/store".into(),
        }
    }

    fn shown(format: Option<&str>, cut: Cut) -> String {
        let around = Around {
            now: NOW,
            cut,
            image: &|c| c.record.config.image.clone(),
            sizes: &|_| {
                Some(Sizes {
                    own: 5,
                    image: 120_000_000,
                })
            },
        };
        let format = listing(false).format(format, Quiet::No).unwrap();
        format.render([row(&container(), &around)]).unwrap()
    }

    #[test]
    fn the_table_is_docker_s() {
        assert_eq!(
            shown(None, Cut::Yes),
            "CONTAINER ID   IMAGE       COMMAND                  CREATED             STATUS         PORTS                           NAMES\n\
             0123456789ab   debian:12   \"sh -c 'sleep 300; e…\"   About an hour ago   Up 2 minutes   0.0.0.0:8005->80/tcp, 443/tcp   web\n"
        );
    }

    #[test]
    fn formats_have_all_fields() {
        assert_eq!(
            shown(
                Some(
                    "{{.Label \"com.example.role\"}} {{.Labels}} {{.CreatedAt}} {{.Networks}} {{.State}} {{.Size}}"
                ),
                Cut::No
            ),
            "php a=1,com.example.role=php 2024-05-01 09:00:00 +0000 UTC bridge running 5B (virtual 120MB)\n"
        );
        for (name, _) in listing(true).headers {
            shown(Some(&format!("{{{{.{name}}}}}")), Cut::No);
        }
        assert!(
            shown(Some("{{json .}}"), Cut::No)
                .contains("\"Command\":\"\\\"sh -c 'sleep 300; echo done'\\\"\"")
        );
    }

    #[test]
    fn states_in_words() {
        let mut state = container().state;
        let mut said = |change: &dyn Fn(&mut ContainerState)| {
            change(&mut state);
            status(&state, NOW)
        };
        let healthy = |status: &str| {
            Some(Health {
                status: status.to_owned(),
                ..Default::default()
            })
        };
        assert_eq!(said(&|_| ()), "Up 2 minutes");
        assert_eq!(
            said(&|s| s.health = healthy("starting")),
            "Up 2 minutes (health: starting)"
        );
        assert_eq!(
            said(&|s| s.health = healthy("healthy")),
            "Up 2 minutes (healthy)"
        );
        assert_eq!(
            said(&|s| s.status = Status::Paused),
            "Up 2 minutes (Paused)"
        );
        assert_eq!(said(&|s| s.status = Status::Created), "Created");
        assert_eq!(
            said(&|s| {
                s.status = Status::Exited;
                s.exit_code = 137;
                s.finished_at = "2024-05-01T09:59:59.9Z".to_owned();
            }),
            "Exited (137) Less than a second ago"
        );
        assert_eq!(
            said(&|s| s.status = Status::Restarting),
            "Restarting (137) Less than a second ago"
        );
    }
}
