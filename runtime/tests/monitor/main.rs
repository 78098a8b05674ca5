//! Real containers under real monitors: attaching, logs, signals, restarts, removal. Without the cli: this executable
//! plays its part, and is started again as monitor, init and foreground client.
//!
//! Wants /bin/busybox (static) and a host where this user may map IDs; without them it says so and passes.
#![expect(
    clippy::print_stdout,
    reason = "a test program with its own main reports by itself"
)]

mod clients;
mod harness;
mod logs;
mod monitors;
mod program;
mod requests;
mod streams;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rctr_runtime::monitor;
use rctr_runtime::net::NetworkPlan;
use rctr_storage::config::Healthcheck;
use rctr_storage::record::RestartPolicy;
use serde::{Deserialize, Serialize};

use harness::Sandbox;

/// What a test asks for.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Spec {
    top: PathBuf,
    id: String,
    argv: Vec<String>,
    tty: bool,
    open_stdin: bool,
    stdin_once: bool,
    attach: Option<(bool, bool, bool)>,
    rm: bool,
    restart: RestartPolicy,
    health: Option<Healthcheck>,
    log: BTreeMap<String, String>,
    network: Option<NetworkPlan>,
}

fn main() {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let word = |n: usize| {
        arguments
            .get(n)
            .and_then(|a| a.to_str())
            .unwrap_or_default()
    };
    match word(0) {
        "init" => rctr_runtime::init::main(),
        "exec-init" => rctr_runtime::init::exec_main(),
        monitor::VERB => {
            let path = std::env::var("PATH").unwrap_or_default();
            std::process::exit(monitor::main(&arguments[1..], &path).into());
        }
        monitor::RELAY_VERB => std::process::exit(rctr_runtime::net::relay::run()),
        "run" => std::process::exit(program::run(&serde_json::from_str(word(1)).unwrap())),
        "attach" => std::process::exit(program::attach(&serde_json::from_str(word(1)).unwrap())),
        filter => tests(filter),
    }
}

type Test = (&'static str, fn(&Sandbox));

fn tests(filter: &str) {
    if !Path::new("/bin/busybox").exists() {
        println!("skipped: /bin/busybox is missing");
        return;
    }
    let path = std::env::var("PATH").unwrap_or_default();
    if let Err(error) = rctr_runtime::identity::detect(&path) {
        println!("skipped: {error}");
        return;
    }
    let all: &[Test] = &[
        ("exit_codes_and_streams", streams::exit_codes_and_streams),
        (
            "stdin_reaches_the_program",
            streams::stdin_reaches_the_program,
        ),
        (
            "large_streams_lose_nothing",
            streams::large_streams_lose_nothing,
        ),
        ("removal_on_exit", streams::removal_on_exit),
        (
            "failures_have_dockers_codes",
            streams::failures_have_dockers_codes,
        ),
        ("the_log_is_dockers", logs::the_log_is_dockers),
        ("logs_rotate", logs::logs_rotate),
        ("logs_are_followed", logs::logs_are_followed),
        (
            "stop_kills_after_its_time",
            requests::stop_kills_after_its_time,
        ),
        ("signals_arrive", requests::signals_arrive),
        ("wait_gives_the_code", requests::wait_gives_the_code),
        ("restart_policies", requests::restart_policies),
        (
            "a_killed_monitor_takes_the_container_along",
            monitors::a_killed_monitor_takes_the_container_along,
        ),
        (
            "a_process_that_changed_its_user_dies_as_well",
            monitors::a_process_that_changed_its_user_dies_as_well,
        ),
        (
            "a_killed_client_hurts_nobody",
            clients::a_killed_client_hurts_nobody,
        ),
        (
            "a_stopped_client_is_left_out",
            clients::a_stopped_client_is_left_out,
        ),
        (
            "several_clients_see_the_same",
            clients::several_clients_see_the_same,
        ),
        (
            "closed_output_ends_the_client_only",
            clients::closed_output_ends_the_client_only,
        ),
        (
            "signals_to_the_client_are_forwarded",
            clients::signals_to_the_client_are_forwarded,
        ),
        (
            "terminals_have_size_and_detach_keys",
            clients::terminals_have_size_and_detach_keys,
        ),
        ("health_is_checked", requests::health_is_checked),
        (
            "published_ports_are_served",
            streams::published_ports_are_served,
        ),
        ("latency", monitors::latency),
        (
            "an_idle_monitor_is_small",
            monitors::an_idle_monitor_is_small,
        ),
    ];
    let sandbox = Sandbox::new();
    for (name, test) in all.iter().filter(|(name, _)| name.contains(filter)) {
        let began = Instant::now();
        test(&sandbox);
        println!("ok {name} ({} ms)", began.elapsed().as_millis());
    }
}
