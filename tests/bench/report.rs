//! The tables, and whether budgets (docs/architecture.md) are met.

use std::fmt::Write;
use std::time::Duration;

use crate::measure::Timed;

/// What was promised of a command. Judged by medians; the minima stand beside them, since they suffer less on a machine
/// with other work.
#[derive(Clone)]
pub(crate) enum Budget {
    /// At most so many times as long as the slowest of these others.
    Times(f64, &'static [&'static str]),
    /// At most so much longer than that other.
    Above(Duration, &'static str),
    /// No longer than this.
    Within(Duration),
}

impl Budget {
    /// Promise, verdict and figures; `None` when what it is compared with has no figures.
    fn check(&self, own: &Timed, all: &[Timed]) -> Option<String> {
        let figures = |figure: fn(&Timed) -> Option<Duration>| {
            let own = figure(own)?;
            let other = |name: &&str| {
                all.iter()
                    .find(|t| t.contender.name == *name)
                    .and_then(figure)
            };
            match self {
                Self::Times(_, others) => {
                    let slowest = others.iter().filter_map(other).max()?;
                    Some(own.as_secs_f64() / slowest.as_secs_f64())
                }
                Self::Above(_, name) => Some(own.saturating_sub(other(name)?).as_secs_f64() * 1e3),
                Self::Within(_) => Some(own.as_secs_f64() * 1e3),
            }
        };
        let (median, min) = (figures(Timed::median)?, figures(Timed::min)?);
        let milliseconds = |limit: &Duration| limit.as_secs_f64() * 1e3;
        Some(match self {
            Self::Times(limit, others) => format!(
                "≤ {limit}x {}: {} ({median:.2}; minima {min:.2})",
                others.join(" or "),
                verdict(median <= *limit)
            ),
            Self::Above(limit, name) => format!(
                "≤ {} ms above {name}: {} ({median:.1}; minima {min:.1})",
                milliseconds(limit),
                verdict(median <= milliseconds(limit))
            ),
            Self::Within(limit) => format!(
                "≤ {} ms: {} (min {min:.1})",
                milliseconds(limit),
                verdict(median <= milliseconds(limit))
            ),
        })
    }
}

/// How it stands with a budget, in a word.
pub(crate) fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "**missed**" }
}

/// A Markdown table, with the ratios of the medians to the first contender's.
pub(crate) fn table(all: &[Timed]) -> String {
    let base = all.first().and_then(Timed::median);
    let base_name = all.first().map_or("", |t| t.contender.name.as_str());
    let mut table = format!(
        "| command | runs | median ms | min | max | ratio to {base_name} | budget |\n|---|---:|---:|---:|---:|---:|---|\n"
    );
    for one in all {
        let name = &one.contender.name;
        let row = match (&one.problem, one.median(), one.min(), one.max()) {
            (None, Some(median), Some(min), Some(max)) => {
                let ratio = base.map_or_else(String::new, |base| {
                    format!("{:.2}", median.as_secs_f64() / base.as_secs_f64())
                });
                let budgets: Vec<_> = one
                    .contender
                    .budgets
                    .iter()
                    .filter_map(|b| b.check(one, all))
                    .collect();
                let [median, min, max] = [median, min, max].map(ms);
                format!(
                    "| {name} | {} | {median} | {min} | {max} | {ratio} | {} |",
                    one.runs(),
                    budgets.join("; ")
                )
            }
            (problem, ..) => {
                let problem = problem.as_deref().unwrap_or("no runs");
                format!("| {name} | | failed: {problem} | | | | |")
            }
        };
        let _ = writeln!(table, "{row}");
    }
    table
}

fn ms(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1e3;
    if ms < 100.0 {
        format!("{ms:.1}")
    } else {
        format!("{ms:.0}")
    }
}
