//! What the figures were measured on.

use std::fmt::Write;
use std::fs;
use std::process::Command;

use crate::engine::Engines;

/// Machine and versions, as Markdown.
pub(crate) fn describe(engines: &Engines) -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|l| l.strip_prefix("model name"))
        .unwrap_or("unknown");
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory_kib = memory
        .split_whitespace()
        .nth(1)
        .and_then(|n| n.parse::<u64>().ok())
        .unwrap_or(0);
    let disk = Command::new("stat")
        .args(["-f", "-c", "%T"])
        .arg(&engines.dir)
        .output();
    let disk = disk
        .map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned())
        .unwrap_or_default();
    let mut text = format!(
        "Machine: {cores} cores of {}, {} GiB of memory, Linux {}, file system {disk}.\nVersions:",
        model.trim_start_matches(['\t', ' ', ':']),
        memory_kib >> 20,
        kernel.trim(),
    );
    let versions = engines
        .builders()
        .map(|e| &e.version)
        .chain(engines.runtimes.iter().map(|r| &r.1));
    for version in versions {
        let _ = write!(text, " {version};");
    }
    text.truncate(text.len() - 1);
    text + ".\n"
}
