//! What unit tests share.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory that is deleted at the end.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }

    /// One on a tmpfs; `None`: there is none, and `test` is skipped, which is said loudly.
    pub(crate) fn in_memory(test: &str) -> Option<Self> {
        let memory = Path::new("/dev/shm");
        let usable = nix::unistd::access(memory, nix::unistd::AccessFlags::W_OK).is_ok();
        if !usable {
            skip(test, "no /dev/shm to write to");
        }
        usable.then(|| Self::below(memory))
    }

    fn below(top: &Path) -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("rctr-unit-{}-{count}", std::process::id());
        let dir = top.join(name);
        std::fs::create_dir(&dir).unwrap();
        Self(dir)
    }

    /// A path in it, where nothing is yet.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let removed = crate::tree::remove_tree(&self.0);
        if !std::thread::panicking() {
            removed.unwrap();
        }
    }
}

/// Whether this process may give files to others; else says loudly that `test` is skipped.
pub(crate) fn can_give_away(test: &str) -> bool {
    let allowed = nix::unistd::geteuid().is_root();
    if !allowed {
        skip(test, "only root may give files away");
    }
    allowed
}

/// Whether every id is mapped; else says loudly that `test` is skipped.
pub(crate) fn has_all_ids(test: &str) -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let all = map.split_whitespace().eq(["0", "0", "4294967295"]);
    if !all {
        skip(test, "only some ids are mapped here");
    }
    all && can_give_away(test)
}

/// Not with `eprintln!`, which the test harness hides.
fn skip(test: &str, reason: &str) {
    let line = format!("SKIPPED {test}: {reason}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}
