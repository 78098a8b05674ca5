//! A world of its own for each test: store, home, run directory, and a directory to work in.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio, id};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use super::account::{Account, PATH};
use super::images;
use super::invocation::Invocation;

/// Where the sandboxes of this test process are. Short: paths of sockets below must fit in 108 bytes.
pub(super) fn base() -> &'static Path {
    static BASE: OnceLock<PathBuf> = OnceLock::new();
    BASE.get_or_init(|| {
        let path = env::temp_dir().join(format!("rctr-t{}", id()));
        Account::current().make_dir(&path);
        path
    })
}

/// The binary under test, where the user who runs it can reach it.
fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let built = env::var_os("RCTR_BIN")
            .map_or_else(|| env!("CARGO_BIN_EXE_rctr").into(), PathBuf::from);
        if !Account::current().tests_are_root() {
            return built;
        }
        let copy = base().join("rctr");
        copy_program(&built, &copy);
        copy
    })
}

/// Copies a program by another process: were the new file open for writing here, a child that another thread forks at
/// that moment would hold it open, and nobody could run it ("text file busy").
pub(crate) fn copy_program(from: &Path, to: &Path) {
    let output = Command::new("cp").arg(from).arg(to).output().unwrap();
    assert!(
        output.status.success(),
        "cannot copy {}: {}",
        from.display(),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// registries.conf: images without a registry's name are here or nowhere.
const NO_HUB: &str = "[[registry]]\nlocation = \"docker.io\"\nblocked = true\n";

/// A store, a home, a run directory and a working directory. Dropping it ends and removes everything.
pub(crate) struct Sandbox {
    dir: PathBuf,
    store: PathBuf,
    driver: Option<String>,
}

impl Sandbox {
    /// With an empty store.
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let dir = base().join(NUMBER.fetch_add(1, Ordering::Relaxed).to_string());
        for part in ["", "home", "run", "work"] {
            Account::current().make_dir(&dir.join(part));
        }
        let sandbox = Self {
            store: dir.join("store"),
            driver: env::var("RCTR_TEST_DRIVER").ok(),
            dir,
        };
        // Nothing is looked for outside this machine.
        sandbox.home_file(".config/containers/registries.conf", NO_HUB);
        sandbox
    }

    /// With the image `busybox`.
    pub(crate) fn with_busybox() -> Self {
        let sandbox = Self::new();
        sandbox
            .words(["import", images::busybox().to_str().unwrap(), "busybox"])
            .ok();
        sandbox
    }

    /// The same, with its store in another directory.
    pub(crate) fn store_at(mut self, store: PathBuf) -> Self {
        self.store = store;
        self
    }

    /// The same, with `RCTR_DRIVER` set.
    pub(crate) fn driver(mut self, driver: &str) -> Self {
        self.driver = Some(driver.to_owned());
        self
    }

    /// The same, with the best driver that works, whatever the tests are run for.
    pub(crate) fn best_driver(mut self) -> Self {
        self.driver = None;
        self
    }

    /// `rctr` with words as typed: blanks separate, single and double quotes keep together.
    pub(crate) fn rctr(&self, line: &str) -> Invocation {
        self.words(split(line))
    }

    /// `rctr` with exactly these words.
    pub(crate) fn words<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Invocation {
        let mut command = Account::current().command(binary());
        command
            .args(words)
            .current_dir(self.work())
            .env("HOME", self.dir.join("home"))
            .env("USER", &Account::current().name)
            .env("TERM", "xterm")
            .env("RCTR_ROOT", &self.store)
            .env("RCTR_RUN", self.dir.join("run"))
            .env("PATH", self.search_path())
            .envs(self.driver.iter().map(|driver| ("RCTR_DRIVER", driver)));
        Invocation::new(command)
    }

    /// `PATH`, with a directory that isn't there: the one variable that our helper processes keep, to know them by.
    pub(crate) fn search_path(&self) -> String {
        format!("{PATH}:{}/bin", self.dir.display())
    }

    /// `rctr run --network none OPTIONS busybox COMMAND`.
    pub(crate) fn run(&self, options: &str, command: &str) -> Invocation {
        self.rctr(&format!("run --network none {options} busybox {command}"))
    }

    /// Another program as the same user, in the working directory.
    pub(crate) fn program(&self, line: &str) -> Invocation {
        let words = split(line);
        let path =
            super::account::find_program(&words[0]).unwrap_or_else(|| panic!("no {}", words[0]));
        let mut command = Account::current().command(&path);
        command
            .args(&words[1..])
            .current_dir(self.work())
            .env("HOME", self.dir.join("home"))
            .env("XDG_RUNTIME_DIR", self.dir.join("run"));
        Invocation::new(command)
    }

    /// The first (or only) object that `inspect` prints.
    pub(crate) fn inspect(&self, name: &str) -> Value {
        let text = self.words(["inspect", name]).ok().stdout;
        serde_json::from_str::<Value>(&text).unwrap()[0].clone()
    }

    /// `inspect --format`.
    pub(crate) fn field(&self, name: &str, template: &str) -> String {
        self.words(["inspect", "--format", template, name])
            .ok()
            .line()
    }

    /// The sandbox itself.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// `RCTR_ROOT`.
    pub(crate) fn store(&self) -> &Path {
        &self.store
    }

    /// The directory that commands are run in; the user can write there.
    pub(crate) fn work(&self) -> PathBuf {
        self.dir.join("work")
    }

    /// Writes a file that belongs to the user, below the working directory, and returns its path.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.work().join(name);
        Account::current().make_dir(path.parent().unwrap());
        fs::write(&path, content).unwrap();
        Account::current().own(&path);
        path
    }

    /// Writes a file that belongs to the user, below the home directory.
    pub(crate) fn home_file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir.join("home").join(name);
        let mut missing: Vec<_> = path
            .ancestors()
            .skip(1)
            .take_while(|dir| !dir.exists())
            .collect();
        missing.reverse();
        missing
            .iter()
            .for_each(|dir| Account::current().make_dir(dir));
        fs::write(&path, content).unwrap();
        Account::current().own(&path);
        path
    }

    /// A file below the working directory.
    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.work().join(name)).unwrap()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if std::thread::panicking() && env::var_os("RCTR_TEST_KEEP").is_some() {
            return;
        }
        for process in self.processes() {
            process.kill();
        }
        // Files of subordinate ids can be removed by root, or from inside a namespace that maps them.
        let mut remove = if Account::current().tests_are_root() {
            Command::new("rm")
        } else {
            let mut command = Command::new("unshare");
            command.args(["--map-root-user", "--map-auto", "rm"]);
            command
        };
        remove.arg("-rf").arg(&self.dir).stderr(Stdio::null());
        drop(remove.status());
        // The last one switches off the light (a directory that still has sandboxes stays).
        drop(fs::remove_dir(base()));
    }
}

/// Splits as a shell would, knowing only blanks and quotes.
fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars() {
        match (c, quote) {
            (c, Some(q)) if c == q => quote = None,
            (c, Some(_)) => word.get_or_insert_default().push(c),
            ('\'' | '"', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (' ' | '\n', None) => words.extend(word.take()),
            (c, None) => word.get_or_insert_default().push(c),
        }
    }
    assert!(quote.is_none(), "unbalanced quotes in: {line}");
    words.extend(word);
    words
}

#[test]
fn words_are_split_as_a_shell_would() {
    assert_eq!(
        split("run  x sh -c 'echo \"a b\"' \"\""),
        ["run", "x", "sh", "-c", "echo \"a b\"", ""]
    );
}
