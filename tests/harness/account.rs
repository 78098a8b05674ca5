//! Who runs the binary under test: never root. A test process that is root hands everything to `rctr-test`.

use std::env;
use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// An ordinary user.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// The test process is root and has to become this user.
    switch: bool,
}

impl Account {
    /// The user of this test run.
    pub(crate) fn current() -> &'static Self {
        static ACCOUNT: OnceLock<Account> = OnceLock::new();
        ACCOUNT.get_or_init(|| {
            let uid = nix::unistd::geteuid().as_raw();
            if uid == 0 {
                let name = env::var("RCTR_TEST_USER").unwrap_or_else(|_| "rctr-test".to_owned());
                let (uid, gid) = look_up(&name).unwrap_or_else(|| {
                    panic!("there is no user {name}: run scripts/test, which makes it")
                });
                Self {
                    name,
                    uid,
                    gid,
                    switch: true,
                }
            } else {
                let gid = nix::unistd::getegid().as_raw();
                let name = name_of(uid).unwrap_or_else(|| uid.to_string());
                Self {
                    name,
                    uid,
                    gid,
                    switch: false,
                }
            }
        })
    }

    /// Whether the test process itself is root.
    pub(crate) fn tests_are_root(&self) -> bool {
        self.switch
    }

    /// A command that runs as this user, with nothing of the tests' environment.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", PATH);
        if self.switch {
            command.uid(self.uid).gid(self.gid);
        }
        command
    }

    /// Makes a directory that belongs to this user.
    pub(crate) fn make_dir(&self, path: &Path) {
        fs::create_dir_all(path).unwrap();
        self.own(path);
    }

    /// Gives a file or directory to this user.
    pub(crate) fn own(&self, path: &Path) {
        if self.switch {
            chown(path, Some(self.uid), Some(self.gid)).unwrap();
        }
    }
}

/// Where the system's programs are; what the tests' own user has installed elsewhere is of no interest.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where a program is, as the tests' user finds it.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    PATH.split(':')
        .map(|dir| Path::new(dir).join(name))
        .find(|path| path.is_file())
}

fn look_up(name: &str) -> Option<(u32, u32)> {
    passwd()
        .into_iter()
        .find(|(n, ..)| n == name)
        .map(|(_, uid, gid)| (uid, gid))
}

fn name_of(uid: u32) -> Option<String> {
    passwd()
        .into_iter()
        .find(|(_, u, _)| *u == uid)
        .map(|(name, ..)| name)
}

fn passwd() -> Vec<(String, u32, u32)> {
    let text = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let entry = |line: &str| {
        let fields: Vec<_> = line.split(':').collect();
        Some((
            fields[0].to_owned(),
            fields.get(2)?.parse().ok()?,
            fields.get(3)?.parse().ok()?,
        ))
    };
    text.lines().filter_map(entry).collect()
}
