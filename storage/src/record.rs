//! What is kept about a container: `record.json` (what was asked for) and `state.json` (what became of it).
//!
//! The field names and shapes are those of Docker's `inspect`, so that the record is its own answer. `record.json`
//! changes only on rename and update; `state.json` is written by the monitor while it lives, else under the
//! container's lock. Both are replaced as a whole (write, rename), so readers take no lock.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::ContainerConfig;
use crate::digest::Digest;

/// The version that this code writes.
pub const RECORD_VERSION: u32 = 1;
/// A time that never was, as Docker writes it.
pub const NEVER: &str = "0001-01-01T00:00:00Z";

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerRecord {
    /// [`RECORD_VERSION`].
    pub version: u32,
    /// 64 hexadecimal digits.
    pub id: String,
    /// Without the leading `/`.
    pub name: String,
    /// RFC 3339, UTC, nanoseconds.
    pub created: String,
    /// The program: first word of entrypoint and command.
    pub path: String,
    /// The other words.
    pub args: Vec<String>,
    /// The image's ID (digest of its config).
    pub image: Digest,
    /// The image's layers, base first: what the container stands on, even if the image is removed by force.
    pub layers: Vec<Digest>,
    /// `linux/amd64`.
    pub platform: String,
    /// `overlay`, `fuse-overlayfs` or `copy`.
    pub driver: String,
    /// Merged from image and command line.
    pub config: ContainerConfig,
    /// What concerns the host.
    pub host_config: HostConfig,
    /// Volumes and bind mounts, resolved.
    pub mounts: Vec<MountPoint>,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerState {
    /// As last written; a reader combines it with whether the monitor lives.
    pub status: Status,
    /// Host PID of the container's first process; 0: none. Of a container whose monitor was killed it stays until the
    /// process is known to be gone.
    pub pid: i32,
    /// Start time of `pid` (field 22 of /proc/PID/stat, clock ticks since boot): tells a reused PID.
    pub pid_start: u64,
    /// Host PID of the monitor; 0: none.
    pub monitor_pid: i32,
    /// Start time of `monitor_pid`.
    pub monitor_start: u64,
    /// Of the last run; 128+n when a signal ended it.
    pub exit_code: i32,
    /// Why it could not start.
    pub error: String,
    /// The kernel killed it for want of memory.
    #[serde(rename = "OOMKilled")]
    pub oom_killed: bool,
    /// RFC 3339 or [`NEVER`].
    pub started_at: String,
    /// RFC 3339 or [`NEVER`].
    pub finished_at: String,
    /// Restarts by policy.
    pub restart_count: u32,
    /// The user stopped it: no policy restarts it.
    pub stopped_by_user: bool,
    /// Result of the last health checks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// Ports as they are bound now; keys are `80/tcp`.
    pub ports: BTreeMap<String, Option<Vec<PortBinding>>>,
    /// Its own address while it runs in a network of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Endpoint>,
}

impl Default for ContainerState {
    fn default() -> Self {
        Self {
            status: Status::Created,
            pid: 0,
            pid_start: 0,
            monitor_pid: 0,
            monitor_start: 0,
            exit_code: 0,
            error: String::new(),
            oom_killed: false,
            started_at: NEVER.to_owned(),
            finished_at: NEVER.to_owned(),
            restart_count: 0,
            stopped_by_user: false,
            health: None,
            ports: BTreeMap::new(),
            endpoint: None,
        }
    }
}

/// A container's end of its network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Endpoint {
    /// IPv4.
    #[serde(rename = "IPAddress")]
    pub ip_address: String,
    /// Bits.
    #[serde(rename = "IPPrefixLen")]
    pub ip_prefix_len: u8,
    /// The default route.
    pub gateway: String,
    /// Empty: not known.
    pub mac_address: String,
}

/// Docker's words for what a container does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Never started.
    Created,
    /// Its first process runs.
    Running,
    /// Frozen.
    Paused,
    /// Waits to be started again by policy.
    Restarting,
    /// Being removed.
    Removing,
    /// Ended.
    Exited,
    /// Can't be removed.
    Dead,
}

impl Status {
    /// The word in `inspect` and `ps`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Removing => "removing",
            Self::Exited => "exited",
            Self::Dead => "dead",
        }
    }
}

/// Health as `inspect` shows it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Health {
    /// `starting`, `healthy`, `unhealthy`.
    pub status: String,
    /// Failures in a row.
    pub failing_streak: u32,
    /// The last five checks.
    pub log: Vec<HealthResult>,
}

/// One health check.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HealthResult {
    /// RFC 3339.
    pub start: String,
    /// RFC 3339.
    pub end: String,
    /// 0 healthy, 1 unhealthy, -1 timed out.
    pub exit_code: i32,
    /// The first 4096 bytes.
    pub output: String,
}

/// What a container asks of its host. Zero, empty and `None` mean "not asked for".
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HostConfig {
    /// `-v` words as given: `SRC:DST[:opts]`.
    pub binds: Vec<String>,
    /// Where the CID was written.
    #[serde(rename = "ContainerIDFile")]
    pub container_id_file: String,
    /// How output is kept.
    pub log_config: LogConfig,
    /// `private` (shown as `default`/`bridge`), `none`, `host`, `container:<id>`.
    pub network_mode: String,
    /// Keys are `80/tcp`; an empty `HostPort` asks for any free one.
    pub port_bindings: BTreeMap<String, Vec<PortBinding>>,
    /// `--restart`.
    pub restart_policy: RestartPolicy,
    /// `--rm`.
    pub auto_remove: bool,
    /// `--volumes-from`.
    pub volumes_from: Vec<String>,
    /// Without `CAP_`.
    pub cap_add: Vec<String>,
    /// Without `CAP_`.
    pub cap_drop: Vec<String>,
    /// `host` or `private`.
    pub cgroupns_mode: String,
    /// `--dns`.
    pub dns: Vec<String>,
    /// `--dns-option`.
    pub dns_options: Vec<String>,
    /// `--dns-search`.
    pub dns_search: Vec<String>,
    /// `name:ip`.
    pub extra_hosts: Vec<String>,
    /// `--group-add`.
    pub group_add: Vec<String>,
    /// `private`, `shareable`, `host`, `none`, `container:<id>`.
    pub ipc_mode: String,
    /// -1000..1000.
    pub oom_score_adj: i32,
    /// `host`, `container:<id>` or empty.
    pub pid_mode: String,
    /// `--privileged`.
    pub privileged: bool,
    /// `-P`.
    pub publish_all_ports: bool,
    /// `--read-only`.
    pub readonly_rootfs: bool,
    /// `--security-opt` words as given (a seccomp file is replaced by its content).
    pub security_opt: Vec<String>,
    /// Path to mount options.
    pub tmpfs: BTreeMap<String, String>,
    /// `host` or empty.
    #[serde(rename = "UTSMode")]
    pub uts_mode: String,
    /// `host`, `keep-id` or empty.
    pub userns_mode: String,
    /// Bytes; 0: 64 MiB.
    pub shm_size: i64,
    /// `--sysctl`.
    pub sysctls: BTreeMap<String, String>,
    /// Relative weight.
    pub cpu_shares: i64,
    /// Bytes.
    pub memory: i64,
    /// Bytes.
    pub memory_reservation: i64,
    /// Bytes, memory plus swap; -1: no limit.
    pub memory_swap: i64,
    /// 1e-9 CPUs.
    pub nano_cpus: i64,
    /// Microseconds.
    pub cpu_period: i64,
    /// Microseconds.
    pub cpu_quota: i64,
    /// `0-3,7`.
    pub cpuset_cpus: String,
    /// `0-3,7`.
    pub cpuset_mems: String,
    /// `--device`.
    pub devices: Vec<Device>,
    /// Processes; 0: no limit.
    pub pids_limit: i64,
    /// 0 to 100; -1 or `None`: the kernel's.
    pub memory_swappiness: Option<i64>,
    /// Relative weight, 10 to 1000; 0: not asked for.
    pub blkio_weight: u16,
    /// `--oom-kill-disable`.
    pub oom_kill_disable: bool,
    /// `--cgroup-parent`.
    pub cgroup_parent: String,
    /// `--annotation`.
    pub annotations: BTreeMap<String, String>,
    /// `--ulimit`.
    pub ulimits: Vec<Ulimit>,
    /// `--init`.
    pub init: bool,
    /// `--mount` requests in full.
    pub mounts: Vec<MountRequest>,
    /// Empty: the default set.
    pub masked_paths: Option<Vec<String>>,
    /// Empty: the default set.
    pub readonly_paths: Option<Vec<String>>,
}

/// `HostConfig.LogConfig`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct LogConfig {
    /// `json-file` or `none`.
    #[serde(rename = "Type")]
    pub driver: String,
    /// `max-size`, `max-file`.
    pub config: BTreeMap<String, String>,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            driver: "json-file".to_owned(),
            config: BTreeMap::new(),
        }
    }
}

/// `--restart`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RestartPolicy {
    /// `no`, `always`, `on-failure`, `unless-stopped`.
    pub name: String,
    /// 0: no limit.
    pub maximum_retry_count: u32,
}

/// Where a container port is bound on the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PortBinding {
    /// Empty: all addresses.
    pub host_ip: String,
    /// Decimal; empty: any free one.
    pub host_port: String,
}

/// `--device`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Device {
    /// On the host.
    pub path_on_host: String,
    /// Inside.
    pub path_in_container: String,
    /// Of `rwm`.
    pub cgroup_permissions: String,
}

/// `--ulimit`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Ulimit {
    /// `nofile`.
    pub name: String,
    /// -1: unlimited.
    pub soft: i64,
    /// -1: unlimited.
    pub hard: i64,
}

/// One `--mount`, `-v` or `--tmpfs` after parsing, before volumes are named.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct MountRequest {
    /// `bind`, `volume`, `tmpfs`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// Host path or volume name; empty: anonymous.
    pub source: String,
    /// Absolute path inside.
    pub target: String,
    /// Mounted read-only.
    pub read_only: bool,
    /// `rprivate` and so on; empty: the default.
    pub propagation: String,
    /// Volumes: don't copy the image's content up.
    pub no_copy: bool,
    /// Create a missing bind source (`-v` does, `--mount` doesn't).
    pub create_source: bool,
    /// tmpfs: mount options as given, `size=…,mode=…`.
    pub tmpfs_options: String,
    /// Binds: one mount only, not the tree below.
    pub non_recursive: bool,
    /// The words after the second colon of `-v`, as given.
    pub mode: String,
    /// `U`: give the source to the container's user.
    pub chown: bool,
    /// Volumes that are made for it: their labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// A mount of a container, resolved: `inspect`'s `Mounts`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct MountPoint {
    /// `bind`, `volume` or `tmpfs`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// Volumes only.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// On the host.
    pub source: String,
    /// Inside.
    pub destination: String,
    /// `local`; volumes only.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub driver: String,
    /// `z` and the like, as given.
    pub mode: String,
    /// Writable.
    #[serde(rename = "RW")]
    pub rw: bool,
    /// `rprivate`; empty for volumes.
    pub propagation: String,
    /// An anonymous volume: goes with the container under `--rm` and `rm -v`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub anonymous: bool,
    /// A volume that gets the image's content on the first start, if it is empty.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub copy_up: bool,
    /// Binds: one mount only.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub non_recursive: bool,
    /// The source is given to the container's user at every start (`-v …:U`).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub chown: bool,
}
