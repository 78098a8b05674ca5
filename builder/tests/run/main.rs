//! RUN on the real kernel: exit codes, output, network, files and mounts, what stays in the layer, and how it ends.
//! This executable plays rctr: it is started again as build step and init, and once for each test, which enters the
//! user namespace as a build does.
//!
//! Wants /bin/busybox (static) and a host where this user may map IDs; without them it says so and passes.
#![expect(
    clippy::print_stdout,
    reason = "a test program with its own main reports by itself"
)]

mod basics;
mod ends;
mod mounts;
mod scene;

use std::path::{Path, PathBuf};
use std::time::Instant;

use rctr_runtime::identity::{self, Mounts};

use scene::Scene;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let word = |n: usize| words.get(n).map_or("", String::as_str);
    match word(0) {
        "init" => rctr_runtime::init::main(),
        rctr_runtime::step::VERB => std::process::exit(rctr_runtime::step::main().into()),
        rctr_runtime::monitor::RELAY_VERB => std::process::exit(rctr_runtime::net::relay::run()),
        "inside" => inside(word(1), Path::new(word(2))),
        filter => all(filter),
    }
}

type Test = (&'static str, fn(&Scene));

const TESTS: &[Test] = &[
    ("exit_codes_and_output", basics::exit_codes_and_output),
    ("output_comes_at_once", basics::output_comes_at_once),
    ("large_output_is_whole", basics::large_output_is_whole),
    ("failures_say_why", basics::failures_say_why),
    ("the_sandbox_is_run_s", basics::the_sandbox_is_run_s),
    ("networks", basics::networks),
    (
        "without_a_helper_the_host_s_network_is_used",
        basics::without_a_helper_the_host_s_network_is_used,
    ),
    ("hosts_and_limits", basics::hosts_and_limits),
    (
        "the_layer_has_only_changes",
        basics::the_layer_has_only_changes,
    ),
    ("bind_mounts", mounts::bind_mounts),
    (
        "ignored_files_are_not_mounted",
        mounts::ignored_files_are_not_mounted,
    ),
    ("other_drivers", mounts::other_drivers),
    ("cache_mounts", mounts::cache_mounts),
    ("tmpfs_mounts", mounts::tmpfs_mounts),
    ("secrets_leave_nothing", mounts::secrets_leave_nothing),
    ("heredoc_files", mounts::heredoc_files),
    ("ssh_agents_are_reached", mounts::ssh_agents_are_reached),
    ("two_at_once", ends::two_at_once),
    ("cancel_ends_it_at_once", ends::cancel_ends_it_at_once),
    (
        "orphans_end_with_the_program",
        ends::orphans_end_with_the_program,
    ),
    (
        "a_killed_builder_leaves_no_process",
        ends::a_killed_builder_leaves_no_process,
    ),
    (
        "a_killed_step_leaves_no_process",
        ends::a_killed_step_leaves_no_process,
    ),
    ("overhead", ends::overhead),
];

/// Runs each test in a process of its own.
fn all(filter: &str) {
    if !Path::new("/bin/busybox").exists() {
        println!("skipped: /bin/busybox is missing");
        return;
    }
    if let Err(error) = identity::detect(&path()) {
        println!("skipped: {error}");
        return;
    }
    let base = std::env::var_os("RCTR_TEST_TMP").map_or_else(std::env::temp_dir, PathBuf::from);
    let top = base.join(format!("rctr-build-step-{}", std::process::id()));
    let mut failed = false;
    for (name, _) in TESTS.iter().filter(|(name, _)| name.contains(filter)) {
        let began = Instant::now();
        let status = scene::again(&["inside", name, top.to_str().unwrap()]).status();
        if status.unwrap().success() {
            println!("ok {name} ({} ms)", began.elapsed().as_millis());
        } else {
            println!("FAILED {name}");
            failed = true;
        }
    }
    assert!(!failed, "tests have failed");
}

fn path() -> String {
    std::env::var("PATH").unwrap_or_default()
}

/// One test, as root of a user namespace.
fn inside(name: &str, top: &Path) {
    let identity = identity::detect(&path()).unwrap();
    identity::enter(&identity, Mounts::Private).unwrap();
    let (_, test) = TESTS.iter().find(|(known, _)| *known == name).unwrap();
    let scene = Scene::new(&top.join(name));
    test(&scene);
    drop(scene);
    // The last test that ends removes it.
    let _ = std::fs::remove_dir(top);
}

fn say(line: &str) {
    println!("{line}");
}
