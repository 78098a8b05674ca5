//! What a running container costs in memory, its own processes aside.

use std::collections::HashMap;
use std::fmt::Write;
use std::fs;
use std::thread::sleep;
use std::time::Duration;

use nix::sys::prctl::set_child_subreaper;

use crate::engine::{Engine, Engines};
use crate::report::verdict;

/// Names of the container's own process: they are not helpers.
const OWN: [&str; 2] = ["sleep", "busybox"];

/// Proportional set size of each engine's helpers of one running container, in KiB.
pub(crate) fn helpers(engines: &Engines) -> String {
    // What goes into the background becomes our child then, so that it can be told from other people's processes.
    if let Err(error) = set_child_subreaper(true) {
        return format!("Not measured: cannot become a subreaper: {error}\n");
    }
    let mut table =
        String::from("| engine | network | helpers | PSS KiB | budget |\n|---|---|---|---:|---|\n");
    for engine in &engines.engines {
        for (network, option, limit_kib) in
            [("none", "--network none ", 512), ("private", "", 4096)]
        {
            let row = one(engine, option).map_or_else(
                |problem| format!("| {} | {network} | {problem} | | |", engine.name),
                |(names, kib)| {
                    let budget = if engine.name == "rctr" {
                        format!("≤ {limit_kib} KiB: {}", verdict(kib <= limit_kib))
                    } else {
                        String::new()
                    };
                    format!(
                        "| {} | {network} | {names} | {kib} | {budget} |",
                        engine.name
                    )
                },
            );
            let _ = writeln!(table, "{row}");
        }
    }
    table
}

/// Names and size of the helpers of one container of `engine`.
fn one(engine: &Engine, option: &str) -> Result<(String, u64), String> {
    let before = descendants();
    engine.attempt(&format!("run -d --name memory {option}busybox sleep 1000"))?;
    sleep(Duration::from_secs(1));
    let mut helpers = descendants();
    helpers.retain(|pid, name| !before.contains_key(pid) && !OWN.contains(&name.as_str()));
    let (mut names, mut kib) = (Vec::new(), 0);
    for (pid, name) in &helpers {
        // A zombie has no memory; what drops its right to be looked into is told by its resident set.
        match (pss_kib(*pid), rss_kib(*pid)) {
            (Some(pss), _) => {
                kib += pss;
                names.push(format!("{name} {pss}"));
            }
            (None, Some(rss)) if rss > 0 => {
                kib += rss;
                names.push(format!("{name} {rss} (resident)"));
            }
            _ => {}
        }
    }
    names.sort();
    engine.remove("memory");
    Ok((names.join(", "), kib))
}

/// All processes below us: PID to name.
fn descendants() -> HashMap<u32, String> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let process = |entry: fs::DirEntry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        // proc_pid_stat(5): pid (name) state parent …; the name may hold anything.
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
        let parent: u32 = rest.split_whitespace().nth(1)?.parse().ok()?;
        Some((pid, (parent, name.to_owned())))
    };
    let all: HashMap<u32, (u32, String)> = entries.filter_map(process).collect();
    let ours = |mut pid: u32| {
        while let Some((parent, _)) = all.get(&pid) {
            if *parent == std::process::id() {
                return true;
            }
            pid = *parent;
        }
        false
    };
    all.iter()
        .filter(|(pid, _)| ours(**pid))
        .map(|(pid, (_, name))| (*pid, name.clone()))
        .collect()
}

fn pss_kib(pid: u32) -> Option<u64> {
    field(&format!("/proc/{pid}/smaps_rollup"), "Pss:")
}

fn rss_kib(pid: u32) -> Option<u64> {
    field(&format!("/proc/{pid}/status"), "VmRSS:")
}

fn field(file: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}
