//! The processes of a container as /proc tells of them, and the columns of ps(1).

use std::fs;
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;

/// Clock ticks a second in /proc (`USER_HZ`, 100 on all of Linux's architectures that we build for).
const TICKS: u64 = 100;

/// One process.
#[derive(Debug, Clone, Default)]
pub(crate) struct Process {
    /// As the host sees it.
    pid: i32,
    /// As the host sees it; 0 when the parent is outside.
    ppid: i32,
    /// Inside.
    inner_pid: String,
    /// As the host sees it.
    uid: u32,
    /// As the host sees it.
    gid: u32,
    user: String,
    comm: String,
    args: String,
    state: String,
    tty: String,
    pgid: i32,
    sid: i32,
    nice: i64,
    threads: u64,
    /// Clock ticks.
    cpu: u64,
    /// Clock ticks since boot.
    start: u64,
    /// Bytes.
    virtual_size: u64,
    /// KiB.
    rss: u64,
}

/// One column.
pub(crate) struct Column {
    names: &'static [&'static str],
    pub(crate) title: &'static str,
    pub(crate) cell: fn(&Process) -> String,
}

const COLUMNS: &[Column] = &[
    Column {
        names: &["pid"],
        title: "PID",
        cell: |p| p.pid.to_string(),
    },
    Column {
        names: &["ppid"],
        title: "PPID",
        cell: |p| p.ppid.to_string(),
    },
    Column {
        names: &["hpid", "nspid"],
        title: "NSPID",
        cell: |p| p.inner_pid.clone(),
    },
    Column {
        names: &["uid"],
        title: "UID",
        cell: |p| p.user.clone(),
    },
    Column {
        names: &["user", "euser", "ruser", "uname"],
        title: "USER",
        cell: |p| p.user.clone(),
    },
    Column {
        names: &["gid", "egid", "rgid"],
        title: "GID",
        cell: |p| p.gid.to_string(),
    },
    Column {
        names: &["euid", "ruid"],
        title: "EUID",
        cell: |p| p.uid.to_string(),
    },
    Column {
        names: &["c"],
        title: "C",
        cell: |p| format!("{:.0}", p.cpu_percent()),
    },
    Column {
        names: &["%cpu", "pcpu"],
        title: "%CPU",
        cell: |p| format!("{:.1}", p.cpu_percent()),
    },
    Column {
        names: &["%mem", "pmem"],
        title: "%MEM",
        cell: |p| format!("{:.1}", p.memory_percent()),
    },
    Column {
        names: &["vsz", "vsize"],
        title: "VSZ",
        cell: |p| (p.virtual_size / 1024).to_string(),
    },
    Column {
        names: &["rss", "rssize", "rsz"],
        title: "RSS",
        cell: |p| p.rss.to_string(),
    },
    Column {
        names: &["tty", "tt", "tname"],
        title: "TTY",
        cell: |p| p.tty.clone(),
    },
    Column {
        names: &["stat", "s", "state"],
        title: "STAT",
        cell: |p| p.state.clone(),
    },
    Column {
        names: &["stime", "start_time"],
        title: "STIME",
        cell: Process::start_text,
    },
    Column {
        names: &["start", "bsdstart"],
        title: "START",
        cell: Process::start_text,
    },
    Column {
        names: &["lstart"],
        title: "STARTED",
        cell: Process::long_start,
    },
    Column {
        names: &["etime"],
        title: "ELAPSED",
        cell: |p| elapsed(p.age()),
    },
    Column {
        names: &["etimes"],
        title: "ELAPSED",
        cell: |p| p.age().to_string(),
    },
    Column {
        names: &["time", "cputime"],
        title: "TIME",
        cell: |p| clock(p.cpu / TICKS),
    },
    Column {
        names: &["ni", "nice"],
        title: "NI",
        cell: |p| p.nice.to_string(),
    },
    Column {
        names: &["nlwp", "thcount"],
        title: "NLWP",
        cell: |p| p.threads.to_string(),
    },
    Column {
        names: &["pgid", "pgrp"],
        title: "PGID",
        cell: |p| p.pgid.to_string(),
    },
    Column {
        names: &["sid", "sess", "session"],
        title: "SID",
        cell: |p| p.sid.to_string(),
    },
    Column {
        names: &["comm", "ucmd", "ucomm"],
        title: "COMMAND",
        cell: |p| p.comm.clone(),
    },
    Column {
        names: &["args", "command"],
        title: "COMMAND",
        cell: |p| p.args.clone(),
    },
    Column {
        names: &["cmd"],
        title: "CMD",
        cell: |p| p.args.clone(),
    },
];

/// The column that ps(1) calls so.
pub(crate) fn column(name: &str) -> Option<&'static Column> {
    let name = name.to_ascii_lowercase();
    COLUMNS.iter().find(|c| c.names.contains(&name.as_str()))
}

/// All names, for a hint.
pub(crate) fn names() -> String {
    let first: Vec<&str> = COLUMNS.iter().map(|c| c.names[0]).collect();
    first.join(", ")
}

/// The processes in the PID namespace of `init` (a host PID), oldest first.
pub(crate) fn of_container(init: i32) -> Vec<Process> {
    let namespace = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let Some(wanted) = namespace(init) else {
        return Vec::new();
    };
    let passwd = fs::read_to_string(format!("/proc/{init}/root/etc/passwd")).unwrap_or_default();
    let map = fs::read_to_string(format!("/proc/{init}/uid_map")).unwrap_or_default();
    let mut pids: Vec<i32> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    let mut all: Vec<Process> = pids
        .into_iter()
        .filter(|pid| namespace(*pid).as_ref() == Some(&wanted))
        .filter_map(read)
        .collect();
    for process in &mut all {
        process.user = user_name(&passwd, inner_id(&map, process.uid));
    }
    all
}

/// The ID inside that `outer` stands for, by the lines of /proc/PID/uid_map.
fn inner_id(map: &str, outer: u32) -> u32 {
    map.lines()
        .filter_map(|line| {
            let mut numbers = line.split_whitespace().map(|n| n.parse::<u32>());
            let (inside, outside, count) = (
                numbers.next()?.ok()?,
                numbers.next()?.ok()?,
                numbers.next()?.ok()?,
            );
            let offset = outer.checked_sub(outside).filter(|o| *o < count)?;
            Some(inside + offset)
        })
        .next()
        .unwrap_or(outer)
}

/// The name in the image's passwd, else the number.
fn user_name(passwd: &str, uid: u32) -> String {
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    match name {
        Some(name) if !name.is_empty() && name.len() <= 32 => name,
        _ if uid == 0 => "root".to_owned(),
        _ => uid.to_string(),
    }
}

/// proc_pid_stat(5) and proc_pid_status(5); `None` when it has ended.
fn read(pid: i32) -> Option<Process> {
    // The program's name in them may be any bytes.
    let text = |file: &str| {
        let bytes = fs::read(format!("/proc/{pid}/{file}")).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    };
    let (stat, status) = (text("stat")?, text("status")?);
    let cmdline = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    Some(parse(pid, &stat, &status, &cmdline))
}

fn parse(pid: i32, stat: &str, status: &str, cmdline: &[u8]) -> Process {
    // The name may hold anything, even parentheses: the fields begin after the last one.
    let (head, tail) = stat.rsplit_once(')').unwrap_or(("", stat));
    let comm = head.split_once('(').map_or("", |(_, name)| name);
    let comm = comm.replace(char::is_control, "?");
    let fields: Vec<&str> = tail.split_whitespace().collect();
    // Numbered as in the man page, where the state is field 3.
    let number = |n: usize| {
        fields
            .get(n - 3)
            .and_then(|f| f.parse::<i64>().ok())
            .unwrap_or(0)
    };
    let small = |n: usize| i32::try_from(number(n)).unwrap_or(0);
    let count = |n: usize| u64::try_from(number(n)).unwrap_or(0);
    let line = |key: &str| {
        status
            .lines()
            .find_map(|l| l.strip_prefix(key))
            .map(str::trim)
            .unwrap_or_default()
    };
    let second = |key: &str| {
        line(key)
            .split_whitespace()
            .nth(1)
            .and_then(|n| n.parse().ok())
            .unwrap_or(0)
    };
    let words: Vec<String> = cmdline
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8_lossy(word).replace(char::is_control, "?"))
        .collect();
    Process {
        pid,
        ppid: small(4),
        inner_pid: line("NSpid:")
            .split_whitespace()
            .last()
            .unwrap_or_default()
            .to_owned(),
        uid: second("Uid:"),
        gid: second("Gid:"),
        user: String::new(),
        args: if words.is_empty() {
            format!("[{comm}]")
        } else {
            words.join(" ")
        },
        comm,
        state: fields.first().copied().unwrap_or("?").to_owned(),
        tty: tty(number(7)),
        pgid: small(5),
        sid: small(6),
        cpu: count(14) + count(15),
        nice: number(19),
        threads: count(20),
        start: count(22),
        virtual_size: count(23),
        rss: line("VmRSS:")
            .split_whitespace()
            .next()
            .and_then(|n| n.parse().ok())
            .unwrap_or(0),
    }
}

/// A device number as ps(1) names it.
fn tty(device: i64) -> String {
    let (major, minor) = (
        (device >> 8) & 0xfff,
        (device & 0xff) | ((device >> 12) & 0xfff00),
    );
    match major {
        0 => "?".to_owned(),
        4 => format!("tty{minor}"),
        136..=143 => format!("pts/{}", minor + (major - 136) * 256),
        _ => format!("{major}:{minor}"),
    }
}

impl Process {
    /// Seconds since the start.
    fn age(&self) -> u64 {
        uptime().saturating_sub(self.start / TICKS)
    }

    fn cpu_percent(&self) -> f64 {
        let age = self.age().max(1);
        #[expect(clippy::cast_precision_loss, reason = "it is shown with one digit")]
        let percent = 100.0 * (self.cpu as f64 / TICKS as f64) / age as f64;
        percent.min(99.9)
    }

    fn memory_percent(&self) -> f64 {
        let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let total: u64 = text
            .split_whitespace()
            .nth(1)
            .and_then(|n| n.parse().ok())
            .unwrap_or(1);
        #[expect(clippy::cast_precision_loss, reason = "it is shown with one digit")]
        let percent = 100.0 * self.rss as f64 / total.max(1) as f64;
        percent
    }

    fn started(&self) -> OffsetDateTime {
        (SystemTime::now() - Duration::from_secs(self.age())).into()
    }

    /// The hour within a day, else the date (UTC).
    fn start_text(&self) -> String {
        let started = self.started();
        if self.age() < 86_400 {
            format!("{:02}:{:02}", started.hour(), started.minute())
        } else {
            let month = started.month().to_string();
            format!("{}{:02}", &month[..3], started.day())
        }
    }

    fn long_start(&self) -> String {
        let t = self.started();
        let (weekday, month) = (t.weekday().to_string(), t.month().to_string());
        format!(
            "{} {} {:>2} {:02}:{:02}:{:02} {}",
            &weekday[..3],
            &month[..3],
            t.day(),
            t.hour(),
            t.minute(),
            t.second(),
            t.year()
        )
    }
}

fn uptime() -> u64 {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    text.split('.')
        .next()
        .and_then(|n| n.parse().ok())
        .unwrap_or(0)
}

/// `00:01:02`.
fn clock(seconds: u64) -> String {
    format!(
        "{:02}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

/// `[[dd-]hh:]mm:ss`.
fn elapsed(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let rest = format!("{:02}:{:02}", seconds / 60 % 60, seconds % 60);
    match (days, hours) {
        (0, 0) => rest,
        (0, hours) => format!("{hours:02}:{rest}"),
        (days, hours) => format!("{days}-{hours:02}:{rest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_parsed() {
        let stat = "7 (a) b) S 1 7 7 34816 7 0 0 0 0 0 150 50 0 0 20 0 3 0 100 1048576 10 0";
        let status = "Name:\tx\nUid:\t1000\t1000\t1000\t1000\nGid:\t5\t6\t5\t5\nVmRSS:\t  40 kB\nNSpid:\t7\t1\n";
        let got = parse(7, stat, status, b"sleep\x00300\x00");
        assert_eq!(
            (got.comm.as_str(), got.args.as_str(), got.tty.as_str()),
            ("a) b", "sleep 300", "pts/0")
        );
        assert_eq!(
            (got.ppid, got.uid, got.gid, got.cpu, got.threads, got.rss),
            (1, 1000, 6, 200, 3, 40)
        );
        assert_eq!(
            (got.inner_pid.as_str(), got.virtual_size, got.start),
            ("1", 1_048_576, 100)
        );
    }

    #[test]
    fn users_are_those_of_the_image() {
        let map = "0 1000 1\n1 100000 65535\n";
        assert_eq!(
            (
                inner_id(map, 1000),
                inner_id(map, 100_032),
                inner_id(map, 5)
            ),
            (0, 33, 5)
        );
        let passwd = "root:x:0:0:r:/root:/bin/sh\nwww-data:x:33:33::/:/x\n";
        assert_eq!(user_name(passwd, 33), "www-data");
        assert_eq!(user_name(passwd, 77), "77");
    }

    #[test]
    fn times_are_ps_s() {
        assert_eq!(elapsed(59), "00:59");
        assert_eq!(elapsed(3_661), "01:01:01");
        assert_eq!(elapsed(90_061), "1-01:01:01");
        assert_eq!(clock(3_661), "01:01:01");
    }
}
