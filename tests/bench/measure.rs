//! Timing of whole processes, in turn.

use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::report::Budget;

/// One of the commands that are compared.
pub(crate) struct Contender {
    pub(crate) name: String,
    /// Run before each timed run, not timed.
    before: Option<Vec<String>>,
    /// What is timed.
    command: Vec<String>,
    /// Run after each timed run, not timed.
    after: Option<Vec<String>>,
    /// What was promised of it.
    pub(crate) budgets: Vec<Budget>,
}

impl Contender {
    /// A command with nothing around it.
    pub(crate) fn new(name: &str, command: Vec<String>) -> Self {
        Self {
            name: name.to_owned(),
            before: None,
            command,
            after: None,
            budgets: Vec::new(),
        }
    }

    /// With something before each run.
    pub(crate) fn before(mut self, command: Vec<String>) -> Self {
        self.before = Some(command);
        self
    }

    /// With something after each run.
    pub(crate) fn after(mut self, command: Vec<String>) -> Self {
        self.after = Some(command);
        self
    }

    /// With a promise, of `rctr` only: it is the one that made it.
    pub(crate) fn budget(mut self, budget: Budget) -> Self {
        if self.name.starts_with("rctr") {
            self.budgets.push(budget);
        }
        self
    }
}

/// How many runs: not counted, counted.
#[derive(Clone, Copy)]
pub(crate) struct Runs {
    warm_up: usize,
    counted: usize,
    /// When this is over, a round that is counted is the last: a slow disk must not hold all else up.
    at_most: Duration,
}

impl Runs {
    /// For what takes milliseconds: `BENCH_RUNS`, or 15.
    pub(crate) fn many() -> Self {
        let counted = std::env::var("BENCH_RUNS")
            .ok()
            .and_then(|n| n.parse().ok());
        Self {
            warm_up: 2,
            counted: counted.unwrap_or(15).max(1),
            at_most: Duration::from_secs(30),
        }
    }

    /// For what takes seconds.
    pub(crate) fn few() -> Self {
        Self {
            warm_up: 1,
            counted: (Self::many().counted / 3).max(2),
            at_most: Duration::from_secs(20),
        }
    }
}

/// What came of a contender.
pub(crate) struct Timed {
    pub(crate) contender: Contender,
    /// Sorted, of the runs that were counted.
    times: Vec<Duration>,
    /// Why it was given up.
    pub(crate) problem: Option<String>,
}

impl Timed {
    /// The middle one; `None` after a problem.
    pub(crate) fn median(&self) -> Option<Duration> {
        self.whole()?.get(self.times.len() / 2).copied()
    }

    pub(crate) fn min(&self) -> Option<Duration> {
        self.whole()?.first().copied()
    }

    pub(crate) fn max(&self) -> Option<Duration> {
        self.whole()?.last().copied()
    }

    /// How many runs were counted.
    pub(crate) fn runs(&self) -> usize {
        self.times.len()
    }

    fn whole(&self) -> Option<&[Duration]> {
        self.problem.is_none().then_some(&self.times)
    }
}

/// Runs all contenders in turn: A B C A B C …
pub(crate) fn in_turn(runs: Runs, contenders: Vec<Contender>) -> Vec<Timed> {
    let timed = |contender| Timed {
        contender,
        times: Vec::new(),
        problem: None,
    };
    let mut all: Vec<_> = contenders.into_iter().map(timed).collect();
    let start = Instant::now();
    for round in 0..runs.warm_up + runs.counted {
        if round > runs.warm_up && start.elapsed() > runs.at_most {
            break;
        }
        for one in &mut all {
            if one.problem.is_some() {
                continue;
            }
            match once(&one.contender) {
                Ok(time) if round >= runs.warm_up => one.times.push(time),
                Ok(_) => {}
                Err(problem) => one.problem = Some(problem),
            }
        }
    }
    for one in &mut all {
        one.times.sort_unstable();
    }
    all
}

/// What an engine still does in the background after its command has ended is over by then, mostly.
const PAUSE: Duration = Duration::from_millis(50);

/// Times one run, from before the spawn to after the wait; its exit code must be 0.
fn once(contender: &Contender) -> Result<Duration, String> {
    if let Some(before) = &contender.before {
        run(before)?;
    }
    sleep(PAUSE);
    let mut command = command(&contender.command);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let start = Instant::now();
    let status = command.status().map_err(|e| e.to_string())?;
    let time = start.elapsed();
    if !status.success() {
        return Err(run(&contender.command)
            .err()
            .unwrap_or_else(|| "only now and then".to_owned()));
    }
    if let Some(after) = &contender.after {
        run(after)?;
    }
    Ok(time)
}

/// A command from words.
fn command(words: &[String]) -> Command {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    command
}

/// Runs to the end; stdout, or the first line of stderr.
pub(crate) fn run(words: &[String]) -> Result<String, String> {
    let output = command(words)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("{}: {e}", words[0]))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned());
    }
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(text.lines().next().unwrap_or("no message").to_owned())
}
