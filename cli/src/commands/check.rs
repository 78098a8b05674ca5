//! `rctr system check`.

use clap::{ArgMatches, Command};
use rctr_runtime::attach;
use rctr_runtime::identity::{self, Mounts};
use rctr_storage::Store;
use rctr_storage::check::{Depth, Outcome, Problem, Repair};

use super::words;
use crate::command::Verb;
use crate::context::Context;
use crate::report::Failure;
use crate::{leftovers, output};

/// `system check`.
pub(crate) const VERB: Verb = Verb {
    names: &["system check"],
    about: "Look for damage in the store, and mend it",
    args,
    run,
};

fn args(command: Command) -> Command {
    command
        .arg(words::on("repair", None, "Mend what can be mended"))
        .arg(words::on(
            "deep",
            None,
            "Read all layers and compare their digests, too",
        ))
        .arg(words::on("quiet", Some('q'), "Show problems only"))
}

fn run(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let (repair, store) = if words::is_on(matches, "repair") {
        let store = Store::open_damaged(&context.root)?;
        // What is mended belongs to several owners.
        leftovers::clear_all(context, &store);
        identity::enter(&context.identity()?, Mounts::Host)?;
        (Repair::Yes, store)
    } else {
        (Repair::No, Store::open(&context.root)?)
    };
    let depth = if words::is_on(matches, "deep") {
        Depth::Deep
    } else {
        Depth::Quick
    };
    let report = store.check(repair, depth)?;
    if repair == Repair::Yes {
        attach::sweep(&context.run);
    }
    for problem in &report.problems {
        output::line(line(problem));
    }
    if !words::is_on(matches, "quiet") {
        let steps = match report.steps {
            0 => String::new(),
            n => format!(", {}", count(n, "cached build step")),
        };
        output::line(format!(
            "looked at {}, {}, {}, {}, {}{steps}: {}",
            count(report.images, "image"),
            count(report.layers, "layer"),
            count(report.blobs, "blob"),
            count(report.containers, "container"),
            count(report.volumes, "volume"),
            match report.problems.len() {
                0 => "all is well".to_owned(),
                n => count(n, "problem"),
            }
        ));
    }
    if report.is_clean() {
        return Ok(0);
    }
    let mendable = report.problems.iter().any(|p| p.outcome == Outcome::Found);
    let failure = Failure::new("the store isn't as it should be");
    Err(if mendable {
        failure.hint("rctr system check --repair")
    } else {
        failure
    })
}

fn line(problem: &Problem) -> String {
    let Problem {
        subject,
        problem,
        outcome,
    } = problem;
    match outcome {
        Outcome::Found => format!("{subject}: {problem}"),
        Outcome::Repaired(how) => format!("{subject}: {problem}: {how}"),
        Outcome::Unrepaired(advice) => format!("{subject}: {problem}; {advice}"),
    }
}

fn count(n: usize, what: &str) -> String {
    if n == 1 {
        format!("1 {what}")
    } else {
        format!("{n} {what}s")
    }
}
