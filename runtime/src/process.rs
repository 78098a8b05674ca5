//! Processes by PID and start time: a PID alone may be another process by now.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use crate::sys;

/// When `pid` started: field 22 of `/proc/PID/stat`, clock ticks since boot. `None`: there is no such process.
#[must_use]
pub fn start_time(pid: i32) -> Option<u64> {
    // A process may give itself any bytes as name.
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    parse_start(&String::from_utf8_lossy(&stat))
}

/// The name (field 2) may hold spaces and parentheses: fields are counted from the last `)`.
fn parse_start(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// A process that can't be mistaken for a later one with the same PID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// As seen from the host.
    pub pid: i32,
    /// As [`start_time`] tells.
    pub start: u64,
}

impl Known {
    /// Succeeds while the PID is still this process's: then it was so when its files in /proc were opened before.
    ///
    /// # Errors
    /// `ESRCH` when it is gone.
    pub fn check(self) -> io::Result<()> {
        if start_time(self.pid) == Some(self.start) {
            Ok(())
        } else {
            Err(io::Error::from_raw_os_error(libc::ESRCH))
        }
    }
}

/// A descriptor of the process `pid` that started at `start`; signals to it can't hit another one.
///
/// # Errors
/// `ESRCH` when that process is gone.
pub fn pidfd(pid: i32, start: u64) -> io::Result<OwnedFd> {
    let gone = || io::Error::from_raw_os_error(libc::ESRCH);
    if pid <= 0 {
        return Err(gone());
    }
    // Opened first: if the start time then matches, the descriptor is of that process.
    let fd = sys::pidfd_open(pid)?;
    if start_time(pid) == Some(start) {
        Ok(fd)
    } else {
        Err(gone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_time_survives_strange_names() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20";
        assert_eq!(parse_start(&format!("7 (a) b) {rest}")), Some(4242));
    }

    #[test]
    fn a_reused_pid_is_noticed() {
        let me = i32::try_from(std::process::id()).unwrap();
        let start = start_time(me).unwrap();
        assert!(pidfd(me, start).is_ok());
        let known = |start| Known { pid: me, start }.check().is_ok();
        assert!(known(start) && !known(start + 1));
        assert_eq!(
            pidfd(me, start + 1).unwrap_err().raw_os_error(),
            Some(libc::ESRCH)
        );
    }
}
