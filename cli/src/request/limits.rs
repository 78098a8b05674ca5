//! Limits that a cgroup enforces. They are checked and kept; nothing is silent about what doesn't hold.

use super::{Given, RunRequest, values};
use crate::report::Failure;

/// Docker's least memory limit.
const LEAST_MEMORY: i64 = 6 << 20;

pub(super) fn parse(given: &Given<'_>, request: &mut RunRequest) -> Result<(), Failure> {
    let refuse = |why: String| given.refuse(why);
    let host = &mut request.host;
    host.memory = given.parsed("memory", values::parse_size)?.unwrap_or(0);
    host.memory_reservation = given
        .parsed("memory-reservation", values::parse_size)?
        .unwrap_or(0);
    host.memory_swap = given
        .parsed("memory-swap", |text| match text {
            "-1" => Ok(-1),
            text => values::parse_size(text),
        })?
        .unwrap_or(0);
    host.memory_swappiness = given
        .number::<i64>("memory-swappiness")?
        .filter(|n| *n != -1);
    if given
        .parsed("kernel-memory", values::parse_size)?
        .is_some_and(|bytes| bytes != 0)
    {
        request
            .warnings
            .push("--kernel-memory has no effect: kernels have no such limit any more".to_owned());
    }
    memory(host).map_err(refuse)?;

    host.nano_cpus = given.parsed("cpus", parse_cpus)?.unwrap_or(0);
    host.cpu_shares = given.number("cpu-shares")?.unwrap_or(0);
    host.cpu_period = given.number("cpu-period")?.unwrap_or(0);
    host.cpu_quota = given.number("cpu-quota")?.unwrap_or(0);
    if host.nano_cpus > 0 && (host.cpu_period > 0 || host.cpu_quota > 0) {
        return Err(refuse(
            "conflicting options: --cpus cannot be set with --cpu-period or --cpu-quota".to_owned(),
        ));
    }
    if host.cpu_period != 0 && !(1_000..=1_000_000).contains(&host.cpu_period) {
        return Err(refuse(
            "CPU cfs period must be between 1000us and 1000000us".to_owned(),
        ));
    }
    if host.cpu_quota > 0 && host.cpu_quota < 1_000 {
        return Err(refuse(
            "CPU cfs quota can not be less than 1ms (i.e. 1000)".to_owned(),
        ));
    }
    host.cpuset_cpus = given.parsed("cpuset-cpus", parse_set)?.unwrap_or_default();
    host.cpuset_mems = given.parsed("cpuset-mems", parse_set)?.unwrap_or_default();
    host.pids_limit = given.number("pids-limit")?.unwrap_or(0);
    host.blkio_weight = given.number("blkio-weight")?.unwrap_or(0);
    if host.blkio_weight != 0 && !(10..=1000).contains(&host.blkio_weight) {
        return Err(refuse(
            "range of blkio weight is from 10 to 1000".to_owned(),
        ));
    }
    host.oom_kill_disable = given.on("oom-kill-disable");
    host.oom_score_adj = given.number("oom-score-adj")?.unwrap_or(0);
    if !(-1000..=1000).contains(&host.oom_score_adj) {
        return Err(refuse(format!(
            "Invalid value {}, range for oom score adj is [-1000, 1000]",
            host.oom_score_adj
        )));
    }
    let mut ignored: Vec<&str> = Vec::new();
    for flag in ["cpu-rt-period", "cpu-rt-runtime"] {
        if given.number::<i64>(flag)?.is_some_and(|n| n != 0) {
            ignored.push(flag);
        }
    }
    for flag in [
        "blkio-weight-device",
        "device-read-bps",
        "device-read-iops",
        "device-write-bps",
        "device-write-iops",
    ] {
        let words = given.many(flag);
        if let Some(word) = words.iter().find(|w| !is_throttle(w)) {
            return Err(given.bad(flag, word, "want <device-path>:<number>[<unit>]"));
        }
        if !words.is_empty() {
            ignored.push(flag);
        }
    }
    for flag in ignored {
        request.warnings.push(format!("--{flag} has no effect yet"));
    }
    Ok(())
}

fn is_throttle(word: &str) -> bool {
    word.rsplit_once(':')
        .is_some_and(|(path, n)| path.starts_with("/dev/") && values::parse_size(n).is_ok())
}

fn memory(host: &rctr_storage::record::HostConfig) -> Result<(), String> {
    if host.memory != 0 && host.memory < LEAST_MEMORY {
        return Err("Minimum memory limit allowed is 6MB".to_owned());
    }
    if host.memory_reservation != 0 && host.memory_reservation < LEAST_MEMORY {
        return Err("Minimum memory reservation allowed is 6MB".to_owned());
    }
    if host.memory != 0 && host.memory_reservation > host.memory {
        return Err(
            "Minimum memory limit can not be less than memory reservation limit, see usage"
                .to_owned(),
        );
    }
    if host.memory_swap > 0 && host.memory == 0 {
        return Err(
            "You should always set the Memory limit when using Memoryswap limit, see usage"
                .to_owned(),
        );
    }
    if host.memory_swap > 0 && host.memory_swap < host.memory {
        return Err(
            "Minimum memoryswap limit should be larger than memory limit, see usage".to_owned(),
        );
    }
    match host.memory_swappiness {
        Some(n) if !(0..=100).contains(&n) => Err(format!(
            "Invalid value: {n}, valid memory swappiness range is 0-100"
        )),
        _ => Ok(()),
    }
}

/// Billionths of a CPU of `1.5`.
pub(crate) fn parse_cpus(text: &str) -> Result<i64, String> {
    let invalid = || format!("invalid number of CPUs: {text:?}");
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 9 {
        return Err("value is too precise".to_owned());
    }
    let digits = |text: &str| text.bytes().all(|c| c.is_ascii_digit());
    if text.is_empty() || text == "." || !digits(whole) || !digits(fraction) {
        return Err(invalid());
    }
    let whole: i64 = if whole.is_empty() {
        0
    } else {
        whole.parse().map_err(|_| invalid())?
    };
    let nanos: i64 = format!("{fraction:0<9}").parse().map_err(|_| invalid())?;
    whole
        .checked_mul(1_000_000_000)
        .and_then(|n| n.checked_add(nanos))
        .ok_or_else(invalid)
}

/// `0-3,7`.
fn parse_set(text: &str) -> Result<String, String> {
    let number = |n: &str| n.trim().parse::<u32>().ok();
    let good = |part: &str| match part.split_once('-') {
        Some((from, to)) => number(from).zip(number(to)).is_some_and(|(a, b)| a <= b),
        None => number(part).is_some(),
    };
    if text.is_empty() || text.split(',').all(good) {
        Ok(text.to_owned())
    } else {
        Err(format!("invalid list {text:?}: want for example 0-3,7"))
    }
}

/// The limits that were asked for, as words for a warning: `memory`, `cpus`, `pids`.
pub(crate) fn asked_for(host: &rctr_storage::record::HostConfig) -> Vec<&'static str> {
    let table = [
        ("memory", host.memory != 0 || host.memory_reservation != 0),
        (
            "swap",
            host.memory_swap != 0 || host.memory_swappiness.is_some(),
        ),
        (
            "CPU",
            host.nano_cpus != 0 || host.cpu_quota > 0 || host.cpu_shares != 0,
        ),
        (
            "cpuset",
            !host.cpuset_cpus.is_empty() || !host.cpuset_mems.is_empty(),
        ),
        ("pids", host.pids_limit > 0),
        ("block I/O", host.blkio_weight != 0),
    ];
    table
        .iter()
        .filter(|(_, asked)| *asked)
        .map(|(name, _)| *name)
        .collect()
}
