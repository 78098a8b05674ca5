//! What kind of machine this is, for `info` and `version`: read from files, never tried.

use std::fs;

use nix::sys::utsname::uname;
use nix::unistd::{SysconfVar, geteuid, gethostname, sysconf};

/// The machine and its system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// As in `uname -r`.
    pub kernel: String,
    /// As in `uname -m`.
    pub machine: String,
    /// The distribution's own name for itself (os-release(5), `PRETTY_NAME`).
    pub operating_system: String,
    /// `VERSION_ID` there.
    pub os_version: String,
    /// Host name.
    pub name: String,
    /// Processors that are online.
    pub cpus: u64,
    /// Bytes of memory.
    pub memory: u64,
    /// 1 or 2.
    pub cgroup_version: u8,
    /// Whether we aren't root.
    pub rootless: bool,
}

impl Host {
    /// Reads it. What can't be read is empty or 0.
    #[must_use]
    pub fn read() -> Self {
        let uname = uname().ok();
        let word = |of: fn(&nix::sys::utsname::UtsName) -> &std::ffi::OsStr| {
            let word = uname.as_ref().map(|u| of(u).to_string_lossy().into_owned());
            word.unwrap_or_default()
        };
        let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
        let release = ["/etc/os-release", "/usr/lib/os-release"]
            .iter()
            .find_map(|file| fs::read_to_string(file).ok())
            .unwrap_or_default();
        let name = gethostname().map(|name| name.to_string_lossy().into_owned());
        let cpus = sysconf(SysconfVar::_NPROCESSORS_ONLN).ok().flatten();
        let unified = fs::exists("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
        Self {
            kernel: word(|u| u.release()),
            machine: word(|u| u.machine()),
            operating_system: variable(&release, "PRETTY_NAME")
                .unwrap_or_else(|| "Linux".to_owned()),
            os_version: variable(&release, "VERSION_ID").unwrap_or_default(),
            name: name.unwrap_or_default(),
            cpus: cpus.and_then(|n| u64::try_from(n).ok()).unwrap_or_default(),
            memory: memory(&read("/proc/meminfo")),
            cgroup_version: if unified { 2 } else { 1 },
            rootless: !geteuid().is_root(),
        }
    }
}

/// Go's word for the architecture that this program was built for, as images have it.
pub const GO_ARCH: &str = if cfg!(target_arch = "aarch64") {
    "arm64"
} else {
    "amd64"
};

/// `NAME=value` or `NAME="value"` of os-release(5).
fn variable(text: &str, name: &str) -> Option<String> {
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
    Some(value.trim().trim_matches(['"', '\'']).to_owned())
}

/// Bytes of `MemTotal` in /proc/meminfo (proc_meminfo(5)).
fn memory(text: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.unwrap_or_default() * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read() {
        let text =
            "NAME=\"Debian\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=12\n";
        let pretty = variable(text, "PRETTY_NAME").unwrap();
        assert_eq!(pretty, "Debian GNU/Linux 12 (bookworm)");
        assert_eq!(variable(text, "VERSION_ID").unwrap(), "12");
        assert_eq!(variable(text, "ID"), None);
        assert_eq!(
            memory("MemTotal:       49367520 kB\nMemFree: 1 kB"),
            49_367_520 * 1024
        );
        let host = Host::read();
        assert!(host.cpus > 0 && host.memory > 0 && !host.kernel.is_empty());
    }
}
