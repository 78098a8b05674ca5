//! How steps end, and what they cost.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rctr_builder::engine::run::{Cancel, ResolvedMount, RunError};
use rctr_builder::plan::{RunMount, RunNetwork, Sharing};

use crate::scene::{Scene, shell};

pub(crate) fn until(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !is() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Processes one of whose words is `word`.
fn processes(word: &str) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if line
            .split(|byte| *byte == 0)
            .any(|part| part == word.as_bytes())
        {
            found.extend(
                entry
                    .file_name()
                    .to_str()
                    .and_then(|name| name.parse::<i32>().ok()),
            );
        }
    }
    found
}

/// A number of seconds to sleep that nobody else has.
fn own_time(n: u32) -> String {
    format!("{}.{n}", 100_000 + std::process::id())
}

/// Each waits for the other, in a directory that both see.
pub(crate) fn two_at_once(scene: &Scene) {
    let meeting = scene.tree("meeting", &[]);
    let meet = |scene: &Scene, own: &str, other: &str| {
        let line = format!(
            "touch /m/{own}; n=0; until test -e /m/{other}; do n=$((n+1)); test $n -lt 200 || exit 9; sleep 0.05; done"
        );
        let found = ResolvedMount::Cache {
            path: meeting.clone(),
            seed: None,
        };
        let mount = RunMount::Cache {
            id: "m".to_owned(),
            target: PathBuf::from("/m"),
            read_only: false,
            sharing: Sharing::Shared,
            from: None,
            mode: 0o755,
            uid: 0,
            gid: 0,
        };
        scene.mounted(&line, mount, found).ok();
    };
    let top = scene.top.join("other");
    std::thread::scope(|scope| {
        scope.spawn(|| meet(&Scene::new(&top), "one", "two"));
        meet(scene, "two", "one");
    });
}

pub(crate) fn cancel_ends_it_at_once(scene: &Scene) {
    let time = own_time(1);
    let cancel = std::sync::Arc::new(Cancel::new().unwrap());
    let (their, seen) = (std::sync::Arc::clone(&cancel), time.clone());
    let canceler = std::thread::spawn(move || {
        until("sleep", || !processes(&seen).is_empty());
        their.cancel();
        Instant::now()
    });
    let step = shell(&format!(
        "trap '' TERM INT; sleep {time} & sleep {time}; true"
    ));
    let result = scene.run_until(&step, &cancel);
    let took = canceler.join().unwrap().elapsed();
    assert!(matches!(result, Err(RunError::Canceled)), "{result:?}");
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert!(processes(&time).is_empty());
}

pub(crate) fn orphans_end_with_the_program(scene: &Scene) {
    let time = own_time(2);
    let ran = scene.sh(&format!("setsid sleep {time} & sleep 0.1; echo done"));
    assert_eq!(ran.ok(), "done\n");
    assert!(processes(&time).is_empty());
}

/// Plays a builder that runs a long step, for who wants to kill it.
fn builder(scene: &Scene, line: &str) {
    let _ = scene.sh(line);
}

pub(crate) fn a_killed_builder_leaves_no_process(scene: &Scene) {
    if std::env::var_os("RCTR_PLAYS_BUILDER").is_some() {
        // It changes its user: the kernel's own signal is off then.
        let time = std::env::var("RCTR_PLAYS_BUILDER").unwrap();
        scene.request.borrow_mut().network = RunNetwork::Private;
        builder(scene, &format!("exec su user -c 'exec sleep {time}'"));
        return;
    }
    for wait in [Duration::ZERO, Duration::from_millis(400)] {
        let time = own_time(3 + wait.subsec_millis());
        let mut child = play("a_killed_builder_leaves_no_process", &scene.top, &time);
        until("sleep", || !processes(&time).is_empty());
        std::thread::sleep(wait);
        child.kill().unwrap();
        child.wait().unwrap();
        until("end", || processes(&time).is_empty());
        until("end of helpers", || left(&scene.top).is_empty());
    }
}

pub(crate) fn a_killed_step_leaves_no_process(scene: &Scene) {
    if let Ok(time) = std::env::var("RCTR_PLAYS_BUILDER") {
        builder(scene, &format!("exec su user -c 'exec sleep {time}'"));
        return;
    }
    let time = own_time(4);
    let mut child = play("a_killed_step_leaves_no_process", &scene.top, &time);
    until("sleep", || !processes(&time).is_empty());
    // After a moment it has a guard.
    std::thread::sleep(Duration::from_millis(400));
    let step = parent(processes(&time)[0]);
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(step),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    until("end", || processes(&time).is_empty());
    // The builder sees its end and goes on.
    assert!(child.wait().unwrap().success());
}

fn play(test: &str, top: &Path, time: &str) -> std::process::Child {
    let top = top.join(format!("builder-{time}"));
    let mut command = crate::scene::again(&["inside", test, top.to_str().unwrap()]);
    command.env("RCTR_PLAYS_BUILDER", time).spawn().unwrap()
}

fn parent(pid: i32) -> i32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    line.unwrap().trim().parse().unwrap()
}

/// Processes of ours that still have something of `top` open or mounted as their own directory.
fn left(top: &Path) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let mounts = fs::read_to_string(entry.path().join("mounts")).unwrap_or_default();
        if mounts.contains(&format!("{}/builder-", top.display())) {
            found.extend(
                entry
                    .file_name()
                    .to_str()
                    .and_then(|name| name.parse::<i32>().ok()),
            );
        }
    }
    found
}

/// What `RUN true` costs beside the program.
pub(crate) fn overhead(scene: &Scene) {
    for network in [RunNetwork::None, RunNetwork::Private] {
        scene.request.borrow_mut().network = network;
        let mut times: Vec<Duration> = (0..40)
            .map(|_| {
                let began = Instant::now();
                scene.sh("true").ok();
                began.elapsed()
            })
            .collect();
        times.sort();
        crate::say(&format!(
            "network {network:?}: min {:?}, median {:?}",
            times[0], times[20]
        ));
        // Far above what it is (docs/benchmarks.md has that): a loaded machine must pass.
        assert!(times[0] < Duration::from_millis(60), "{:?}", times[0]);
    }
}
