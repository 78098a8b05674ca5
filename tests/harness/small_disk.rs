//! Disks that stores don't like: soon full, not to be written at all, or an overlay itself.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::account::Account;
use super::sandbox::Sandbox;

/// A tmpfs of a given size that belongs to the tests' user. Needs [`super::Feature::Mounts`].
pub(crate) struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts one in the sandbox.
    pub(crate) fn new(sandbox: &Sandbox, size_bytes: u64) -> Self {
        let path = sandbox.dir().join("disk");
        Account::current().make_dir(&path);
        let Account { uid, gid, .. } = Account::current();
        let options = format!("size={size_bytes},mode=755,uid={uid},gid={gid}");
        as_root(&[
            "mount",
            "-t",
            "tmpfs",
            "-o",
            &options,
            "rctr-test",
            path.to_str().unwrap(),
        ]);
        Self { path }
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// From now on nothing on it can be changed.
    pub(crate) fn make_read_only(&self) {
        as_root(&["mount", "-o", "remount,ro", self.path.to_str().unwrap()]);
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        as_root(&["umount", "-l", self.path.to_str().unwrap()]);
    }
}

/// An overlay that belongs to the tests' user, on which no other one can be put. Needs [`super::Feature::Mounts`].
pub(crate) struct OverlayDisk {
    path: PathBuf,
}

impl OverlayDisk {
    /// Mounts one in the sandbox.
    pub(crate) fn new(sandbox: &Sandbox) -> Self {
        let dir = |name: &str| {
            let path = sandbox.dir().join(name);
            Account::current().make_dir(&path);
            path.to_str().unwrap().to_owned()
        };
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            dir("disk-lower"),
            dir("disk-upper"),
            dir("disk-work")
        );
        let path = dir("disk");
        as_root(&["mount", "-t", "overlay", "-o", &options, "rctr-test", &path]);
        Self { path: path.into() }
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for OverlayDisk {
    fn drop(&mut self) {
        as_root(&["umount", "-l", self.path.to_str().unwrap()]);
    }
}

fn as_root(words: &[&str]) {
    let sudo: &[&str] = if Account::current().tests_are_root() {
        &[]
    } else {
        &["sudo", "-n"]
    };
    let words: Vec<_> = sudo.iter().chain(words).collect();
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
    assert!(
        output.status.success(),
        "{words:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
