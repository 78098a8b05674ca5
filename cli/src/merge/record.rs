//! Image and request to a container's record.

use std::path::Path;

use rctr_storage::config::ContainerConfig;
use rctr_storage::digest::Digest;
use rctr_storage::random;
use rctr_storage::record::{ContainerRecord, HostConfig, MountPoint, MountRequest, RECORD_VERSION};

use super::config;
use crate::report::{ENGINE, Failure};
use crate::request::{Network, RunRequest};

/// The image that a container is made from.
pub(crate) struct Base<'a> {
    /// Digest of its config.
    pub(crate) id: Digest,
    /// Its execution parameters.
    pub(crate) config: &'a ContainerConfig,
    /// Its layers' diffIDs, base first.
    pub(crate) layers: Vec<Digest>,
    /// `linux/amd64`.
    pub(crate) platform: String,
}

/// What else a record holds, and how other containers are found.
pub(crate) struct Around<'a> {
    /// The new container's ID.
    pub(crate) id: String,
    /// Its name.
    pub(crate) name: String,
    /// RFC 3339.
    pub(crate) created: String,
    /// How the root file system is put together.
    pub(crate) driver: &'static str,
    /// The store's `volumes` directory.
    pub(crate) volumes: &'a Path,
    /// The host's name.
    pub(crate) hostname: &'a dyn Fn() -> String,
    /// The record of a container, by what the user calls it.
    pub(crate) find: &'a dyn Fn(&str) -> Result<ContainerRecord, Failure>,
}

/// The record of a new container.
///
/// # Errors
/// Nothing to run, or a container that is named doesn't exist.
pub(crate) fn make(
    request: &RunRequest,
    base: &Base<'_>,
    around: &Around<'_>,
) -> Result<ContainerRecord, Failure> {
    let mut config = config::merge(request, base.config);
    let mut words = config
        .entrypoint
        .iter()
        .chain(&config.cmd)
        .flatten()
        .cloned();
    let path = words
        .next()
        .filter(|word| !word.is_empty())
        .ok_or_else(|| {
            Failure::new("no command specified")
                .code(ENGINE)
                .hint("the image has neither CMD nor ENTRYPOINT: name a command after the image")
        })?;
    let args = words.collect();
    let mut host = request.host.clone();
    join_others(request, &mut host, &mut config, around)?;
    if config.hostname.is_empty() {
        config.hostname = if host.network_mode == "host" || host.uts_mode == "host" {
            (around.hostname)()
        } else {
            around.id[..12].to_owned()
        };
    }
    for key in host.port_bindings.keys() {
        config.exposed_ports.insert(key.clone(), Default::default());
    }
    if host.shm_size == 0 {
        host.shm_size = 64 << 20;
    }
    let mounts = mounts(request, &config, around)?;
    Ok(ContainerRecord {
        version: RECORD_VERSION,
        id: around.id.clone(),
        name: around.name.clone(),
        created: around.created.clone(),
        path,
        args,
        image: base.id,
        layers: base.layers.clone(),
        platform: base.platform.clone(),
        driver: around.driver.to_owned(),
        config,
        host_config: host,
        mounts,
    })
}

/// `container:NAME` modes name an ID from now on; who joins a network has that container's host name.
fn join_others(
    request: &RunRequest,
    host: &mut HostConfig,
    config: &mut ContainerConfig,
    around: &Around<'_>,
) -> Result<(), Failure> {
    let refuse = |failure: Failure| failure.code(ENGINE);
    if let Network::Container(name) = &request.network {
        let other = (around.find)(name).map_err(refuse)?;
        host.network_mode = format!("container:{}", other.id);
        config.hostname = other.config.hostname;
        config.domainname = other.config.domainname;
    }
    for mode in [&mut host.pid_mode, &mut host.ipc_mode] {
        if let Some(name) = mode.strip_prefix("container:") {
            let other = (around.find)(name).map_err(refuse)?;
            *mode = format!("container:{}", other.id);
        }
    }
    Ok(())
}

/// Explicit mounts, then those of other containers and the image's volumes whose targets are free yet.
fn mounts(
    request: &RunRequest,
    config: &ContainerConfig,
    around: &Around<'_>,
) -> Result<Vec<MountPoint>, Failure> {
    let mut points: Vec<MountPoint> = request
        .mounts
        .iter()
        .filter(|m| m.kind != "tmpfs" || !request.host.tmpfs.contains_key(&m.target))
        .map(|m| point(m, around.volumes))
        .collect();
    let taken = |points: &[MountPoint], target: &str| {
        points.iter().any(|p| p.destination == target) || request.host.tmpfs.contains_key(target)
    };
    for (name, read_only) in &request.volumes_from {
        let other = (around.find)(name).map_err(|failure| failure.code(ENGINE))?;
        for theirs in other.mounts.into_iter().filter(|m| m.kind != "tmpfs") {
            if !taken(&points, &theirs.destination) {
                points.push(MountPoint {
                    rw: theirs.rw && !read_only,
                    anonymous: false,
                    copy_up: false,
                    chown: false,
                    ..theirs
                });
            }
        }
    }
    for target in config.volumes.keys() {
        let target = crate::request::mounts::clean(target);
        if target != "/" && !taken(&points, &target) {
            let request = MountRequest {
                kind: "volume".to_owned(),
                target,
                ..MountRequest::default()
            };
            points.push(point(&request, around.volumes));
        }
    }
    Ok(points)
}

fn point(request: &MountRequest, volumes: &Path) -> MountPoint {
    let mut point = MountPoint {
        kind: request.kind.clone(),
        source: request.source.clone(),
        destination: request.target.clone(),
        mode: request.mode.clone(),
        rw: !request.read_only,
        non_recursive: request.non_recursive,
        chown: request.chown,
        ..MountPoint::default()
    };
    match request.kind.as_str() {
        "volume" => {
            point.anonymous = request.source.is_empty();
            point.name = if point.anonymous {
                random::hex::<32>()
            } else {
                request.source.clone()
            };
            point.source = volumes
                .join(&point.name)
                .join("_data")
                .to_string_lossy()
                .into_owned();
            point.driver = "local".to_owned();
            point.copy_up = !request.no_copy;
        }
        "bind" => {
            point.propagation = match request.propagation.as_str() {
                "" => "rprivate".to_owned(),
                given => given.to_owned(),
            };
        }
        _ => {}
    }
    point
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::mounts::{parse_mount, parse_tmpfs, parse_volume};

    fn made(request: &RunRequest, image: &ContainerConfig) -> Result<ContainerRecord, Failure> {
        let base = Base {
            id: Digest::of(b"image"),
            config: image,
            layers: Vec::new(),
            platform: "linux/amd64".to_owned(),
        };
        let other = |name: &str| {
            let mut record = record_of("0".repeat(64), name);
            record.mounts = vec![
                point(&parse_volume("data:/d").unwrap(), Path::new("/v")),
                point(&parse_volume("/h:/taken").unwrap(), Path::new("/v")),
            ];
            match name {
                "other" => Ok(record),
                _ => Err(Failure::new(format!("No such container: {name}"))),
            }
        };
        let around = Around {
            id: "a".repeat(64),
            name: "n1".to_owned(),
            created: String::new(),
            driver: "overlay",
            volumes: Path::new("/v"),
            hostname: &|| "thehost".to_owned(),
            find: &other,
        };
        make(request, &base, &around)
    }

    fn record_of(id: String, name: &str) -> ContainerRecord {
        ContainerRecord {
            version: RECORD_VERSION,
            id,
            name: name.to_owned(),
            created: String::new(),
            path: String::new(),
            args: Vec::new(),
            image: Digest::of(b""),
            layers: Vec::new(),
            platform: String::new(),
            driver: String::new(),
            config: ContainerConfig {
                hostname: "otherhost".to_owned(),
                ..ContainerConfig::default()
            },
            host_config: HostConfig::default(),
            mounts: Vec::new(),
        }
    }

    fn image() -> ContainerConfig {
        ContainerConfig {
            cmd: Some(vec!["sh".to_owned(), "-l".to_owned()]),
            volumes: [
                ("/img".to_owned(), Default::default()),
                ("/taken".to_owned(), Default::default()),
            ]
            .into(),
            ..ContainerConfig::default()
        }
    }

    #[test]
    fn mounts_come_from_everywhere_once() {
        let tmpfs = parse_tmpfs("/t:size=1m").unwrap();
        let mut request = RunRequest {
            mounts: vec![
                parse_volume("/h:/taken:ro").unwrap(),
                parse_volume("/anon").unwrap(),
                parse_mount("type=tmpfs,dst=/t2").unwrap(),
                tmpfs.clone(),
            ],
            volumes_from: vec![("other".to_owned(), true)],
            ..RunRequest::default()
        };
        request.host.tmpfs.insert(tmpfs.target, tmpfs.tmpfs_options);
        let got = made(&request, &image()).unwrap();
        let shown: Vec<_> = got
            .mounts
            .iter()
            .map(|m| (m.kind.as_str(), m.destination.as_str(), m.rw, m.anonymous))
            .collect();
        assert_eq!(
            shown,
            [
                ("bind", "/taken", false, false),
                ("volume", "/anon", true, true),
                ("tmpfs", "/t2", true, false),
                ("volume", "/d", false, false),
                ("volume", "/img", true, true),
            ]
        );
        assert_eq!(got.mounts[3].source, "/v/data/_data");
        assert_eq!(got.mounts[1].name.len(), 64);
    }

    #[test]
    fn path_args_and_hostname() {
        let got = made(&RunRequest::default(), &image()).unwrap();
        assert_eq!((got.path.as_str(), got.args.len()), ("sh", 1));
        assert_eq!(got.config.hostname, "a".repeat(12));
        assert_eq!(got.host_config.shm_size, 64 << 20);
        let failure = made(&RunRequest::default(), &ContainerConfig::default()).unwrap_err();
        assert_eq!(
            (failure.code, failure.message.as_str()),
            (ENGINE, "no command specified")
        );
    }

    #[test]
    fn joined_containers_are_kept_by_id() {
        let mut request = RunRequest {
            network: Network::Container("other".to_owned()),
            ..RunRequest::default()
        };
        request.host.pid_mode = "container:other".to_owned();
        let got = made(&request, &image()).unwrap();
        let id = format!("container:{}", "0".repeat(64));
        assert_eq!(
            (&got.host_config.network_mode, &got.host_config.pid_mode),
            (&id, &id)
        );
        assert_eq!(got.config.hostname, "otherhost");
        request.network = Network::Container("gone".to_owned());
        assert_eq!(made(&request, &image()).unwrap_err().code, ENGINE);
    }
}
