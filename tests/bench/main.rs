//! Times user scenarios with `rctr` beside what else is installed, all in one run and in turn (A B C A B C …), so that
//! ratios hold on a machine whose speed drifts. `scripts/bench` builds, prepares and calls this as an ordinary user.
//!
//! Environment: `RCTR_BIN`; `FLOOR_BIN` (scripts/bench.d/floor.c); `BENCH_DIR`, an empty directory of ours; `BUSYBOX_TAR`;
//! `DEBIAN_TAR` (may be missing); `BENCH_RUNS`, counted runs of the short scenarios (default 15); `BENCH_DOCKER`, the
//! client of a running dockerd. Arguments: names of scenarios (default: all). The report is Markdown on stdout.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a report for people"
)]

mod build;
mod engine;
mod machine;
mod measure;
mod memory;
mod parts;
mod report;
mod scenarios;
mod transfer;

use std::time::Instant;

use engine::Engines;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    if let Some(done) = parts::run(&wanted) {
        let failed = done.inspect_err(|error| eprintln!("{}: {error}", wanted[0]));
        std::process::exit(i32::from(failed.is_err()));
    }
    if let Some(unknown) = wanted
        .iter()
        .find(|name| !scenarios::ALL.iter().any(|s| s.name == **name))
    {
        let known: Vec<_> = scenarios::ALL.iter().map(|s| s.name).collect();
        eprintln!(
            "no such scenario: {unknown} (there are: {})",
            known.join(" ")
        );
        std::process::exit(2);
    }
    let engines = Engines::prepare();
    println!("{}", machine::describe(&engines));
    for scenario in scenarios::ALL {
        if wanted.is_empty() || wanted.iter().any(|name| name == scenario.name) {
            let start = Instant::now();
            let report = (scenario.run)(&engines);
            eprintln!("{}: {:.0} s", scenario.name, start.elapsed().as_secs_f64());
            println!("### {}: {}\n\n{report}", scenario.name, scenario.about);
        }
    }
    engines.remove();
}
