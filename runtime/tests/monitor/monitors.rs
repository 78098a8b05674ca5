//! Monitors themselves: killed, fast, small.

use std::fs;

use std::time::{Duration, Instant};

use rctr_runtime::control;
use rctr_runtime::log::ReadOptions;
use rctr_storage::record::Status;

use crate::harness::Sandbox;

fn exists(pid: i32) -> bool {
    // A zombie has ended as well; whoever reaps it is not ours to care for.
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|t| !t.contains(") Z "))
}

pub(crate) fn a_killed_monitor_takes_the_container_along(s: &Sandbox) {
    let spec = s.spec("trap '' TERM HUP INT; sleep 60 & wait; sleep 60");
    s.detached(&spec);
    let state = s.state(&spec);
    assert!(exists(state.pid));
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(state.monitor_pid),
        nix::sys::signal::SIGKILL,
    )
    .unwrap();
    s.until("the container's death", || !exists(state.pid));
    let state = s.state(&spec);
    assert_eq!((state.status, state.exit_code), (Status::Exited, 137));
    // And it can be started again.
    s.detached(&spec);
    assert_eq!(s.state(&spec).status, Status::Running);
    s.control(&spec, |t| control::stop(t, 9, None)).unwrap();
}

pub(crate) fn a_process_that_changed_its_user_dies_as_well(s: &Sandbox) {
    let mut spec = s.spec("");
    spec.argv = [
        "busybox",
        "start-stop-daemon",
        "-S",
        "-c",
        "user",
        "-x",
        "/bin/sleep",
        "--",
        "60",
    ]
    .map(str::to_owned)
    .to_vec();
    s.detached(&spec);
    std::thread::sleep(Duration::from_millis(500));
    let state = s.state(&spec);
    assert_eq!(
        state.status,
        Status::Running,
        "{}",
        s.log(&spec, &ReadOptions::default())
    );
    let status = fs::read_to_string(format!("/proc/{}/status", state.pid)).unwrap();
    assert!(
        status.contains("sleep") && !status.contains("Uid:\t0"),
        "{status}"
    );
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(state.monitor_pid),
        nix::sys::signal::SIGKILL,
    )
    .unwrap();
    s.until("the container's death", || !exists(state.pid));
    assert!(!s.store.monitor_alive(&spec.id));
}

/// Prints, judges nothing: see scripts/bench.
pub(crate) fn latency(s: &Sandbox) {
    let mut times = Vec::new();
    for _ in 0..30 {
        let mut spec = s.spec("");
        spec.argv = vec!["true".to_owned()];
        spec.attach = Some((false, true, true));
        spec.rm = true;
        let mut command = s.command("run", &spec);
        let began = Instant::now();
        assert!(command.status().unwrap().success());
        times.push(began.elapsed());
    }
    times.sort();
    println!(
        "   run --rm true: median {:?}, best {:?}",
        times[15], times[0]
    );
}

pub(crate) fn an_idle_monitor_is_small(s: &Sandbox) {
    let spec = s.spec("echo up; exec sleep 60");
    s.detached(&spec);
    std::thread::sleep(Duration::from_millis(600));
    let pid = s.state(&spec).monitor_pid;
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = rollup.lines().find(|l| l.starts_with("Rss:")).unwrap();
    let size: u32 = line
        .trim_start_matches("Rss:")
        .trim_end_matches("kB")
        .trim()
        .parse()
        .unwrap();
    let guards = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    println!("   {size} KiB resident, shared ones included; children: {guards}");
    for child in guards
        .split_ascii_whitespace()
        .filter(|c| **c != *s.state(&spec).pid.to_string())
    {
        let rollup = fs::read_to_string(format!("/proc/{child}/smaps_rollup")).unwrap_or_default();
        println!(
            "   guard: {}",
            rollup
                .lines()
                .find(|l| l.starts_with("Pss:"))
                .unwrap_or_default()
        );
    }
    // A debug build has four times the text.
    assert!(cfg!(debug_assertions) || size < 500);
    s.control(&spec, |t| control::stop(t, 9, None)).unwrap();
}
