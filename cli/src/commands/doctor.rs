//! `rctr doctor`: what this host gives, and how to get what it doesn't.

use std::fmt::Write;

use clap::{Arg, ArgAction, ArgMatches, Command};
use rctr_runtime::probe::{self, Outcome, Probe, Surroundings};
use serde_json::{Value, json};

use crate::command::Verb;
use crate::context::Context;
use crate::output;
use crate::report::Failure;

/// `doctor`.
pub(crate) const VERB: Verb = Verb {
    names: &["doctor", "system doctor"],
    about: "Try what this host allows, and tell how to get the rest",
    args,
    run,
};

fn args(command: Command) -> Command {
    command.arg(
        Arg::new("json")
            .long("json")
            .help("Print JSON")
            .action(ArgAction::SetTrue),
    )
}

/// Ends with 0 when containers can run here, with whatever limits.
fn run(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let probes = probe::all(&Surroundings {
        storage: &context.root,
        run: &context.run,
        path: &context.path,
    });
    if matches.get_flag("json") {
        output::line(format_args!("{:#}", as_json(&probes)));
    } else {
        output::text(as_text(&probes));
    }
    Ok(u8::from(!probe::run_works(&probes)))
}

fn as_json(probes: &[Probe]) -> Value {
    let probe = |p: &Probe| {
        json!({
            "Name": p.name, "Outcome": p.outcome.as_str(), "Found": p.found, "Means": p.means, "Fix": p.fix,
        })
    };
    json!({
        "RunWorks": probe::run_works(probes),
        "Probes": probes.iter().map(probe).collect::<Vec<_>>(),
    })
}

fn as_text(probes: &[Probe]) -> String {
    let width = probes.iter().map(|p| p.name.len()).max().unwrap_or(0);
    let mut out = String::new();
    for probe in probes {
        let outcome = probe.outcome.as_str();
        let _ = writeln!(out, "{outcome:<7}  {:<width$}  {}", probe.name, probe.found);
        if !probe.means.is_empty() {
            let _ = writeln!(out, "         means: {}", probe.means);
        }
        if let Some(fix) = &probe.fix {
            let _ = writeln!(out, "         fix:   {fix}");
        }
    }
    let count = |outcome| probes.iter().filter(|p| p.outcome == outcome).count();
    let summary = match (count(Outcome::Broken), count(Outcome::Limited)) {
        (0, 0) => "Containers run here.".to_owned(),
        (0, limits) => format!("Containers run here, with limits: {limits}."),
        (broken, _) => format!("Containers can't run here: {broken} of these must be fixed first."),
    };
    let _ = writeln!(out, "\n{summary}");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(outcome: Outcome) -> Probe {
        Probe {
            name: "thing",
            outcome,
            found: "seen".to_owned(),
            means: "something".to_owned(),
            fix: Some("do it".to_owned()),
        }
    }

    #[test]
    fn limits_do_not_hide_that_run_works() {
        let probes = [probe(Outcome::Limited), probe(Outcome::Note)];
        assert!(as_text(&probes).ends_with("\nContainers run here, with limits: 1.\n"));
        assert_eq!(as_json(&probes)["RunWorks"], true);
        let probes = [probe(Outcome::Limited), probe(Outcome::Broken)];
        assert!(as_text(&probes).contains("can't run here: 1 of"));
        assert_eq!(as_json(&probes)["Probes"][1]["Fix"], "do it");
        assert_eq!(as_json(&probes)["RunWorks"], false);
    }
}
