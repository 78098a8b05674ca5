//! A container's record to what runtime is told: pure, but for the paths that the caller found.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rctr_runtime::emulation::Emulation;
use rctr_runtime::plan::{
    DeviceBind, Driver, LaunchPlan, MountOp, Namespace, Namespaces, ProcessPlan, RootfsPlan,
    Seccomp,
};
use rctr_runtime::sandbox;
use rctr_storage::record::{ContainerRecord, HostConfig, MountPoint};

use crate::request::values::set_env;

/// What the caller has found out.
pub(crate) struct Found<'a> {
    /// `containers/<id>`.
    pub(crate) dir: &'a Path,
    /// Where the root file system is mounted.
    pub(crate) merged: PathBuf,
    /// Layer directories, top first.
    pub(crate) lowers: Vec<PathBuf>,
    /// How the root file system is put together.
    pub(crate) driver: Driver,
    /// Names with `CAP_`.
    pub(crate) capabilities: Vec<String>,
    /// The process of a container whose namespaces are joined: (container's ID) to its host PID.
    pub(crate) joined: BTreeMap<String, i32>,
    /// Files that are bound over the container's: (name in the directory that follows, its path inside).
    pub(crate) files: Vec<(PathBuf, &'static str)>,
    /// For programs of other processors.
    pub(crate) emulation: Option<Emulation>,
}

/// What runtime is told.
pub(crate) fn launch(record: &ContainerRecord, found: &Found<'_>) -> LaunchPlan {
    let host = &record.host_config;
    let security = Security::of(host);
    LaunchPlan {
        container_id: record.id.clone(),
        namespaces: namespaces(host, &found.joined),
        rootfs: RootfsPlan {
            driver: found.driver,
            lowers: found.lowers.clone(),
            upper: found.dir.join("upper"),
            work: found.dir.join("work"),
            merged: found.merged.clone(),
            read_only: host.readonly_rootfs,
            volatile: host.auto_remove,
        },
        mounts: mounts(record, &found.files),
        devices: host
            .devices
            .iter()
            .map(|device| DeviceBind {
                source: PathBuf::from(&device.path_on_host),
                target: PathBuf::from(&device.path_in_container),
            })
            .collect(),
        shm_size: u64::try_from(host.shm_size).unwrap_or(sandbox::SHM_SIZE),
        sysctls: host.sysctls.clone(),
        default_sysctls: BTreeMap::new(),
        masked_paths: security.masked,
        readonly_paths: security.read_only,
        privileged: host.privileged,
        hostname: record.config.hostname.clone(),
        domainname: record.config.domainname.clone(),
        process: process(record, found, security.seccomp, security.no_new_privileges),
        emulation: found.emulation.clone(),
        init: host.init,
        tells_made: false,
    }
}

fn process(
    record: &ContainerRecord,
    found: &Found<'_>,
    seccomp: Seccomp,
    no_new_privileges: bool,
) -> ProcessPlan {
    let config = &record.config;
    let host = &record.host_config;
    let argv = std::iter::once(&record.path).chain(&record.args).cloned();
    ProcessPlan {
        argv: argv.collect(),
        env: environment(record, config.tty),
        cwd: directory(&config.working_dir),
        create_cwd: true,
        user: config.user.clone(),
        additional_groups: host.group_add.clone(),
        capabilities: found.capabilities.clone(),
        rlimits: host.ulimits.iter().map(sandbox::rlimit).collect(),
        no_new_privileges,
        seccomp,
        tty: config.tty,
        oom_score_adj: Some(host.oom_score_adj).filter(|n| *n != 0),
    }
}

/// `PATH`, `HOSTNAME`, `TERM`, then the container's own variables, which win.
pub(crate) fn environment(record: &ContainerRecord, tty: bool) -> Vec<String> {
    let mut env = vec![
        sandbox::PATH.to_owned(),
        format!("HOSTNAME={}", record.config.hostname),
    ];
    if tty {
        env.push("TERM=xterm".to_owned());
    }
    for entry in &record.config.env {
        set_env(&mut env, entry.clone());
    }
    env
}

/// The root when nothing else was asked for.
pub(crate) fn directory(path: &str) -> PathBuf {
    PathBuf::from(if path.is_empty() { "/" } else { path })
}

fn namespaces(host: &HostConfig, joined: &BTreeMap<String, i32>) -> Namespaces {
    let of = |mode: &str, name: &str| match mode.strip_prefix("container:") {
        Some(id) => joined.get(id).map_or(Namespace::Private, |pid| {
            Namespace::Of(PathBuf::from(format!("/proc/{pid}/ns/{name}")))
        }),
        None if mode == "host" => Namespace::Host,
        None => Namespace::Private,
    };
    let modes = [&host.network_mode, &host.pid_mode, &host.ipc_mode];
    let user = modes
        .iter()
        .map(|mode| of(mode, "user"))
        .find(|ns| matches!(ns, Namespace::Of(_)));
    Namespaces {
        user: user.unwrap_or(Namespace::Private),
        pid: of(&host.pid_mode, "pid"),
        net: of(&host.network_mode, "net"),
        ipc: of(&host.ipc_mode, "ipc"),
        uts: of(&host.uts_mode, "uts"),
        cgroup: of(&host.cgroupns_mode, "cgroup"),
    }
}

/// Parents before children.
fn mounts(record: &ContainerRecord, files: &[(PathBuf, &'static str)]) -> Vec<MountOp> {
    let host = &record.host_config;
    let mut ops: Vec<(String, MountOp)> = Vec::new();
    for (source, target) in files {
        ops.push((
            (*target).to_owned(),
            MountOp::Bind {
                source: source.clone(),
                target: PathBuf::from(target),
                read_only: false,
                recursive: false,
                propagation: String::new(),
                chown: false,
            },
        ));
    }
    for (target, options) in &host.tmpfs {
        ops.push((target.clone(), tmpfs(target, options)));
    }
    for point in &record.mounts {
        ops.push((point.destination.clone(), mount(point, host)));
    }
    // The later one of the same target is the user's: ours would only hide beneath.
    let last: BTreeMap<&str, usize> = ops
        .iter()
        .enumerate()
        .map(|(at, (t, _))| (t.as_str(), at))
        .collect();
    let mut kept: Vec<MountOp> = ops
        .iter()
        .enumerate()
        .filter(|(at, (target, _))| last[target.as_str()] == *at)
        .map(|(_, (_, op))| op.clone())
        .collect();
    sandbox::parents_first(&mut kept);
    kept
}

fn mount(point: &MountPoint, host: &HostConfig) -> MountOp {
    let target = PathBuf::from(&point.destination);
    match point.kind.as_str() {
        "volume" => MountOp::Volume {
            source: PathBuf::from(&point.source),
            target,
            read_only: !point.rw,
            copy_up: point.copy_up,
            chown: point.chown,
        },
        "tmpfs" => {
            let asked = host.mounts.iter().find(|m| m.target == point.destination);
            tmpfs(&point.destination, asked.map_or("", |m| &m.tmpfs_options))
        }
        _ => MountOp::Bind {
            source: PathBuf::from(&point.source),
            target,
            read_only: !point.rw,
            recursive: !point.non_recursive,
            propagation: point.propagation.clone(),
            chown: point.chown,
        },
    }
}

fn tmpfs(target: &str, options: &str) -> MountOp {
    MountOp::Tmpfs {
        target: PathBuf::from(target),
        options: options.to_owned(),
    }
}

/// `--security-opt`, `--privileged` and the default lists of paths.
pub(crate) struct Security {
    pub(crate) seccomp: Seccomp,
    pub(crate) no_new_privileges: bool,
    pub(crate) masked: Vec<String>,
    pub(crate) read_only: Vec<String>,
}

impl Security {
    pub(crate) fn of(host: &HostConfig) -> Self {
        let list = |given: &Option<Vec<String>>, default: &[&str]| match given {
            _ if host.privileged => Vec::new(),
            Some(list) => list.clone(),
            None => sandbox::owned(default),
        };
        let mut security = Self {
            seccomp: if host.privileged {
                Seccomp::Unconfined
            } else {
                Seccomp::Default
            },
            no_new_privileges: false,
            masked: list(&host.masked_paths, &sandbox::MASKED),
            read_only: list(&host.readonly_paths, &sandbox::READ_ONLY),
        };
        for option in &host.security_opt {
            security.apply(option);
        }
        security
    }

    fn apply(&mut self, option: &str) {
        match option.split_once('=').unwrap_or((option, "")) {
            ("no-new-privileges", value) => self.no_new_privileges = value != "false",
            ("seccomp", "unconfined") => self.seccomp = Seccomp::Unconfined,
            ("seccomp", "builtin" | "default") => self.seccomp = Seccomp::Default,
            ("seccomp", profile) => self.seccomp = Seccomp::Profile(profile.to_owned()),
            ("systempaths", "unconfined") | ("unmask", "ALL" | "all") => {
                self.masked.clear();
                self.read_only.clear();
            }
            ("mask", paths) => self.masked.extend(paths.split(':').map(str::to_owned)),
            ("unmask", paths) => {
                let shown = |path: &String| !paths.split(':').any(|p| p == path);
                self.masked.retain(shown);
                self.read_only.retain(shown);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use rctr_storage::config::ContainerConfig;
    use rctr_storage::digest::Digest;

    use super::*;

    fn record() -> ContainerRecord {
        ContainerRecord {
            version: 1,
            id: "c".repeat(64),
            name: "c1".to_owned(),
            created: String::new(),
            path: "sh".to_owned(),
            args: vec!["-c".to_owned()],
            image: Digest::of(b""),
            layers: Vec::new(),
            platform: String::new(),
            driver: "overlay".to_owned(),
            config: ContainerConfig {
                hostname: "h".to_owned(),
                env: vec!["PATH=/mine".to_owned(), "A=1".to_owned()],
                ..ContainerConfig::default()
            },
            host_config: HostConfig::default(),
            mounts: Vec::new(),
        }
    }

    fn plan(record: &ContainerRecord) -> LaunchPlan {
        let found = Found {
            dir: Path::new("/c"),
            merged: PathBuf::from("/m"),
            lowers: Vec::new(),
            driver: Driver::Overlay,
            capabilities: Vec::new(),
            joined: [("x".to_owned(), 7)].into(),
            files: vec![(PathBuf::from("/c/hosts"), "/etc/hosts")],
            emulation: None,
        };
        launch(record, &found)
    }

    #[test]
    fn the_environment_has_docker_s_defaults() {
        let plan = plan(&record());
        assert_eq!(plan.process.env, ["PATH=/mine", "HOSTNAME=h", "A=1"]);
        assert_eq!(plan.process.cwd, Path::new("/"));
        assert!(plan.masked_paths.contains(&"/proc/kcore".to_owned()));
    }

    #[test]
    fn parents_are_mounted_before_children_and_the_user_s_files_win() {
        let mut record = record();
        record
            .host_config
            .tmpfs
            .insert("/a/b/c/d".to_owned(), "size=1m".to_owned());
        for target in ["/a/b", "/a", "/etc/hosts"] {
            record.mounts.push(MountPoint {
                kind: "bind".to_owned(),
                source: "/h".to_owned(),
                destination: target.to_owned(),
                ..MountPoint::default()
            });
        }
        let targets: Vec<PathBuf> = plan(&record)
            .mounts
            .into_iter()
            .map(|op| {
                if let MountOp::Bind { source, .. } = &op {
                    assert_eq!(source, Path::new("/h"));
                }
                op.target().to_owned()
            })
            .collect();
        assert_eq!(
            targets,
            ["/a", "/a/b", "/etc/hosts", "/a/b/c/d"].map(PathBuf::from)
        );
    }

    #[test]
    fn namespaces_follow_the_modes() {
        let mut record = record();
        record.host_config.network_mode = "container:x".to_owned();
        record.host_config.uts_mode = "host".to_owned();
        let got = plan(&record).namespaces;
        assert_eq!(got.net, Namespace::Of(PathBuf::from("/proc/7/ns/net")));
        assert_eq!(got.user, Namespace::Of(PathBuf::from("/proc/7/ns/user")));
        assert_eq!((got.uts, got.pid), (Namespace::Host, Namespace::Private));
    }

    #[test]
    fn security_options() {
        let mut record = record();
        record.host_config.security_opt = vec![
            "no-new-privileges".to_owned(),
            "unmask=/proc/kcore".to_owned(),
            "mask=/secret".to_owned(),
            "seccomp=unconfined".to_owned(),
        ];
        let got = plan(&record);
        assert!(got.process.no_new_privileges);
        assert_eq!(got.process.seccomp, Seccomp::Unconfined);
        assert!(!got.masked_paths.contains(&"/proc/kcore".to_owned()));
        assert!(got.masked_paths.contains(&"/secret".to_owned()));
        record.host_config.privileged = true;
        record.host_config.security_opt.clear();
        assert!(plan(&record).readonly_paths.is_empty());
    }
}
