//! What every sandbox of ours has in common, a container's as a build step's: docker's defaults.

use std::path::Component;

use rctr_storage::record::Ulimit;

use crate::plan::{MountOp, Rlimit};

/// The variable of a process whose image and user say nothing else.
pub const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Bytes of /dev/shm.
pub const SHM_SIZE: u64 = 64 << 20;

/// What nobody inside may see.
pub const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// What nobody inside may write.
pub const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Files of ours that are bound over the image's: name in the container's directory, path inside.
pub const FILES: [(&str, &str); 3] = [
    ("hostname", "/etc/hostname"),
    ("hosts", "/etc/hosts"),
    ("resolv.conf", "/etc/resolv.conf"),
];

/// Where they are mounted, below the root: files that are made there for it are no part of the container.
pub const PLACEHOLDERS: [&str; 3] = ["etc/hostname", "etc/hosts", "etc/resolv.conf"];

/// A list of paths as a plan has it.
#[must_use]
pub fn owned(paths: &[&str]) -> Vec<String> {
    paths.iter().map(|path| (*path).to_owned()).collect()
}

/// One `--ulimit`.
#[must_use]
pub fn rlimit(ulimit: &Ulimit) -> Rlimit {
    // -1 is docker's word for unlimited.
    let number = |n: i64| u64::try_from(n).unwrap_or(u64::MAX);
    Rlimit {
        name: ulimit.name.clone(),
        soft: number(ulimit.soft),
        hard: number(ulimit.hard),
    }
}

/// Sorts mounts so that none covers one that came before it: parents first, else in their order.
pub fn parents_first(mounts: &mut [MountOp]) {
    let names = |op: &MountOp| {
        let parts = op.target().components();
        parts
            .filter(|part| matches!(part, Component::Normal(_)))
            .count()
    };
    mounts.sort_by_key(names);
}
