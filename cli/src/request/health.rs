//! `--health-*` and `--no-healthcheck`.

use rctr_storage::config::Healthcheck;

use super::values::parse_duration;

/// The flags as given.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Options<'a> {
    pub(super) none: bool,
    pub(super) command: Option<&'a str>,
    pub(super) interval: Option<&'a str>,
    pub(super) timeout: Option<&'a str>,
    pub(super) start_period: Option<&'a str>,
    pub(super) start_interval: Option<&'a str>,
    pub(super) retries: Option<&'a str>,
}

impl Options<'_> {
    /// `None`: the image's check stays as it is.
    pub(super) fn parse(&self) -> Result<Option<Healthcheck>, String> {
        let others = [
            self.command,
            self.interval,
            self.timeout,
            self.start_period,
            self.start_interval,
            self.retries,
        ];
        let any = others.iter().any(Option::is_some);
        if self.none {
            if any {
                return Err("--no-healthcheck conflicts with --health-* options".to_owned());
            }
            return Ok(Some(Healthcheck {
                test: vec!["NONE".to_owned()],
                ..Healthcheck::default()
            }));
        }
        if !any {
            return Ok(None);
        }
        let retries = match self.retries {
            None => 0,
            Some(text) => text
                .parse::<i64>()
                .ok()
                .filter(|n| *n >= 0)
                .ok_or_else(|| {
                    format!("--health-retries cannot be {text:?}: want a number from 0")
                })?,
        };
        Ok(Some(Healthcheck {
            test: match self.command {
                None | Some("") => Vec::new(),
                Some(line) => vec!["CMD-SHELL".to_owned(), line.to_owned()],
            },
            interval: duration("interval", self.interval)?,
            timeout: duration("timeout", self.timeout)?,
            start_period: duration("start-period", self.start_period)?,
            start_interval: duration("start-interval", self.start_interval)?,
            retries,
        }))
    }
}

/// 0 inherits; else at least a millisecond, as docker wants it.
fn duration(name: &str, text: Option<&str>) -> Result<i64, String> {
    let Some(text) = text else { return Ok(0) };
    let nanos = parse_duration(text).map_err(|why| format!("--health-{name}: {why}"))?;
    if nanos < 0 {
        return Err(format!("--health-{name} cannot be negative"));
    }
    if nanos > 0 && nanos < 1_000_000 {
        return Err(format!("--health-{name} cannot be less than 1ms"));
    }
    Ok(nanos)
}
