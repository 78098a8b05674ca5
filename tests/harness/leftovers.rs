//! What a sandbox's commands have left behind: processes, mounts, directories.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::sandbox::Sandbox;
use super::wait::wait_for;

/// A process that belongs to a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    /// Words separated by blanks.
    pub(crate) command: String,
}

impl Process {
    /// Ends it at once. It may have ended by itself.
    pub(crate) fn kill(&self) {
        let _ = kill(Pid::from_raw(self.pid), Signal::SIGKILL);
    }
}

impl Sandbox {
    /// All processes that were started by the sandbox's commands or that live in its containers: the sandbox's path
    /// is in their `PATH` or their command line, or its store's in the mounts of a mount namespace other than ours. (Not
    /// the sandbox's: a disk that is mounted in it is in the namespaces of all other sandboxes' containers, too.)
    pub(crate) fn processes(&self) -> Vec<Process> {
        let path = self.dir().to_str().unwrap();
        let marker = self.search_path();
        let inside = format!("{path}/");
        let mounted = [
            format!("{},", self.store().display()),
            format!("{}/", self.store().display()),
        ];
        let ours = fs::read_link("/proc/self/ns/mnt").unwrap();
        let belongs = |proc: &Path| {
            let has = |file: &str, text: &str| {
                fs::read(proc.join(file)).is_ok_and(|b| find(&b, text.as_bytes()))
            };
            let foreign = fs::read_link(proc.join("ns/mnt")).is_ok_and(|ns| ns != ours);
            has("environ", &marker)
                || has("cmdline", &inside)
                || foreign && mounted.iter().any(|text| has("mountinfo", text))
        };
        let process = |proc: PathBuf| {
            let pid = proc.file_name()?.to_str()?.parse().ok()?;
            let command = fs::read(proc.join("cmdline")).ok()?;
            let command = String::from_utf8_lossy(&command)
                .trim_end_matches('\0')
                .replace('\0', " ");
            belongs(&proc).then_some(Process { pid, command })
        };
        let entries = fs::read_dir("/proc")
            .unwrap()
            .filter_map(|e| Some(e.ok()?.path()));
        entries.filter_map(process).collect()
    }

    /// No process, mount, container directory, name or unfinished thing is there any more.
    #[track_caller]
    pub(crate) fn assert_nothing_left(&self) {
        let mut left = Vec::new();
        let gone = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_for("all processes to end", || {
                left = self.processes();
                left.is_empty()
            });
        }));
        assert!(gone.is_ok(), "processes are left: {:#?}", self.processes());
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let store = format!("{}/", self.store().display());
        assert!(!mounts.contains(&store), "mounts are left: {mounts}");
        for part in ["containers", "names", "tmp"] {
            let left = entries(&self.store().join(part));
            let left: Vec<_> = left
                .iter()
                .filter(|p| p.extension().is_none_or(|e| e != "lock"))
                .collect();
            assert!(left.is_empty(), "left in {part}: {left:?}");
        }
        let run = entries(&self.dir().join("run"));
        let left: Vec<_> = run.iter().filter(|p| is_container_id(p)).collect();
        assert!(left.is_empty(), "left in the run directory: {left:?}");
    }

    /// `system check` finds nothing to repair.
    #[track_caller]
    pub(crate) fn assert_clean(&self) {
        let output = self.rctr("system check").output();
        assert_eq!(output.code, 0, "the store is not clean: {output}");
    }
}

fn find(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir)
        .map(|d| d.filter_map(|e| Some(e.ok()?.path())).collect())
        .unwrap_or_default()
}

fn is_container_id(path: &Path) -> bool {
    let name = path
        .file_name()
        .and_then(|n| n.to_str())
        .unwrap_or_default();
    name.len() >= 12 && name.chars().all(|c| c.is_ascii_hexdigit())
}
