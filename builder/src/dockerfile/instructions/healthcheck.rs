//! HEALTHCHECK.

use super::super::ast::{CommandLine, HealthcheckInstruction};
use super::super::{Fault, duration, words};
use super::{Statement, at_least_one, command};

/// Nanoseconds: Docker's engine takes no shorter interval.
const SHORTEST: i64 = 1_000_000;

pub(super) fn parse(statement: &mut Statement) -> Result<HealthcheckInstruction, Fault> {
    let (kind, rest) = words::first(statement.rest);
    if kind.is_empty() {
        return Err(at_least_one("HEALTHCHECK"));
    }
    let mut time = |name| time(name, statement.flags.one(name)?);
    let interval = time("interval")?;
    let timeout = time("timeout")?;
    let start_period = time("start-period")?;
    let start_interval = time("start-interval")?;
    let retries = retries(statement.flags.one("retries")?)?;
    match kind.to_ascii_uppercase().as_str() {
        "NONE" if rest.is_empty() => Ok(HealthcheckInstruction::None),
        "NONE" => Err(Fault::new("HEALTHCHECK NONE takes no arguments".to_owned())),
        "CMD" => Ok(HealthcheckInstruction::Check {
            command: some_command(rest)?,
            interval,
            timeout,
            start_period,
            start_interval,
            retries,
        }),
        kind => Err(Fault::new(format!(
            "Unknown type {kind:?} in HEALTHCHECK (try CMD)"
        ))),
    }
}

fn some_command(text: &str) -> Result<CommandLine, Fault> {
    let command = command(text)?;
    let empty = match &command {
        CommandLine::Shell(line) => line.is_empty(),
        CommandLine::Exec(words) => words.is_empty(),
    };
    if empty {
        return Err(Fault::new(
            "Missing command after HEALTHCHECK CMD".to_owned(),
        ));
    }
    Ok(command)
}

/// Nanoseconds; 0 if not given.
fn time(name: &str, text: Option<String>) -> Result<i64, Fault> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(0);
    };
    let time = duration::parse(&text)?;
    if time != 0 && time < SHORTEST {
        return Err(Fault::new(format!(
            "Interval {name:?} cannot be less than 1ms"
        )));
    }
    Ok(time)
}

fn retries(text: Option<String>) -> Result<i64, Fault> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(0);
    };
    let retries: i32 = text
        .parse()
        .map_err(|_| Fault::new(format!("invalid number of retries {text:?}")))?;
    if retries < 0 {
        return Err(Fault::new(format!(
            "--retries cannot be negative ({retries})"
        )));
    }
    Ok(retries.into())
}
