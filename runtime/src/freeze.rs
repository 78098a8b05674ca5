//! Stops all processes of a container for a moment, so that its files can be read while nobody changes them.
//!
//! The monitor does it for a client and thaws when the client's connection ends, however it ends: a killed client leaves
//! nothing stopped, and with a killed monitor the container dies as always. SIGSTOP from outside also stops PID 1.
//!
//! Parents are stopped before their children and continued after them, so that a shell doesn't see its job stop.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::{process, sys};

/// How long the last process may take to stop. One that waits for a device stops before it does anything else.
const PATIENCE: Duration = Duration::from_millis(500);

/// Stopped processes; dropping it continues them.
#[derive(Debug)]
pub(crate) struct Frozen {
    /// In the order in which they were stopped.
    stopped: Vec<(i32, OwnedFd)>,
}

/// Stops the process `init` and all others of its container, those that are stopped already excepted.
///
/// # Errors
/// When `init` is gone, or one of them can't be stopped; none is stopped then.
pub(crate) fn freeze(init: i32) -> io::Result<Frozen> {
    let mut frozen = Frozen {
        stopped: Vec::new(),
    };
    let mut seen = HashSet::new();
    loop {
        // Until nothing is new: what ran may have forked between the look and its signal.
        let new: Vec<_> = (members(init)?.into_iter())
            .filter(|member| seen.insert((member.pid, member.start)))
            .collect();
        if new.is_empty() {
            break;
        }
        for member in new.iter().filter(|member| !member.stopped) {
            frozen.stop(member)?;
        }
        frozen.settle();
    }
    Ok(frozen)
}

impl Frozen {
    fn stop(&mut self, member: &Member) -> io::Result<()> {
        let gone = |error: &io::Error| error.raw_os_error() == Some(libc::ESRCH);
        let pidfd = match process::pidfd(member.pid, member.start) {
            Err(error) if gone(&error) => return Ok(()),
            other => other?,
        };
        match sys::pidfd_send_signal(pidfd.as_fd(), libc::SIGSTOP) {
            Err(error) if gone(&error) => Ok(()),
            Err(error) => Err(error),
            Ok(()) => {
                self.stopped.push((member.pid, pidfd));
                Ok(())
            }
        }
    }

    /// Waits until all have really stopped.
    fn settle(&self) {
        let deadline = Instant::now() + PATIENCE;
        for (pid, _) in &self.stopped {
            while !threads_stand(*pid) && Instant::now() < deadline {
                sleep(Duration::from_micros(200));
            }
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        for (_, pidfd) in self.stopped.iter().rev() {
            // It fails only for one that was killed meanwhile.
            let _ = sys::pidfd_send_signal(pidfd.as_fd(), libc::SIGCONT);
        }
    }
}

/// A process of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Member {
    pid: i32,
    parent: i32,
    start: u64,
    /// By somebody's SIGSTOP, or traced.
    stopped: bool,
    /// In the PID namespace of the container.
    inside: bool,
}

/// All processes of the container of `init`: those of its PID namespace and their descendants (which may have PID
/// namespaces of their own). A container without a PID namespace of its own has only `init` and what descends from it.
fn members(init: i32) -> io::Result<Vec<Member>> {
    let namespace = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let wanted = namespace(init).filter(|_| is_first(init));
    let pids =
        fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let all = pids.filter_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let inside = pid == init || wanted.is_some() && namespace(pid) == wanted;
        parse(pid, &stat, inside)
    });
    let chosen = choose(all.collect());
    match chosen.iter().any(|member| member.pid == init) {
        true => Ok(chosen),
        false => Err(io::Error::from_raw_os_error(libc::ESRCH)),
    }
}

/// Whether it is PID 1 of a namespace that isn't ours.
fn is_first(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    let mut numbers = numbers.unwrap_or_default().split_ascii_whitespace();
    numbers.next().is_some() && numbers.next_back() == Some("1")
}

/// Those inside and their descendants, parents first.
fn choose(mut all: Vec<Member>) -> Vec<Member> {
    let mut chosen: Vec<Member> = Vec::new();
    let mut known = HashSet::new();
    loop {
        let (new, rest): (Vec<_>, Vec<_>) = all
            .into_iter()
            .partition(|member| known.contains(&member.parent) || member.inside);
        if new.is_empty() {
            break;
        }
        known.extend(new.iter().map(|member| member.pid));
        chosen.extend(new);
        all = rest;
    }
    // A child starts after its parent; within one tick the lower number was first, but for a wrap-around.
    chosen.sort_by_key(|member| (member.start, member.pid));
    chosen
}

/// proc_pid_stat(5). `None` for one that has ended.
fn parse(pid: i32, stat: &str, inside: bool) -> Option<Member> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let start = fields.nth(17)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(Member {
        pid,
        parent,
        start,
        stopped: matches!(state, "T" | "t"),
        inside,
    })
}

/// Whether no thread of the process runs any more.
fn threads_stand(pid: i32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return true;
    };
    let mut states = threads.filter_map(|thread| {
        let path: PathBuf = thread.ok()?.path().join("stat");
        let stat = fs::read_to_string(path).ok()?;
        let (_, fields) = stat.rsplit_once(") ")?;
        fields.chars().next()
    });
    states.all(|state| matches!(state, 'T' | 't' | 'Z' | 'X'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read() {
        let rest = "7 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 4242 20";
        let member = parse(9, &format!("9 (a) b) S {rest}"), true).unwrap();
        assert_eq!(
            (member.parent, member.start, member.stopped),
            (7, 4242, false)
        );
        assert!(parse(9, &format!("9 (x) T {rest}"), true).unwrap().stopped);
        assert_eq!(parse(9, &format!("9 (x) Z {rest}"), true), None);
    }

    #[test]
    fn descendants_come_along_and_parents_come_first() {
        let member = |pid, parent, start, inside| Member {
            pid,
            parent,
            start,
            stopped: false,
            inside,
        };
        let all = vec![
            member(50, 40, 9, false),
            member(40, 10, 8, false),
            member(10, 5, 7, true),
            member(5, 1, 1, false),
            member(60, 1, 10, true),
        ];
        let pids: Vec<i32> = choose(all).iter().map(|m| m.pid).collect();
        assert_eq!(pids, [10, 40, 50, 60]);
    }

    #[test]
    fn a_child_stands_still_until_it_is_thawed() {
        let mut child = std::process::Command::new("sleep")
            .arg("100")
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let frozen = freeze(pid).unwrap();
        assert!(threads_stand(pid));
        // Stopped by somebody else: it stays so.
        drop(freeze(pid).unwrap());
        assert!(threads_stand(pid));
        drop(frozen);
        assert!(!threads_stand(pid));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(freeze(pid).unwrap_err().raw_os_error(), Some(libc::ESRCH));
    }
}
