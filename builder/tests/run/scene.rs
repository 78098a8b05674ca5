//! A store with one layer (busybox), and steps on it.

use std::cell::{Cell, RefCell};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use rctr_builder::dockerfile::{NetworkFlag, SecurityFlag};
use rctr_builder::engine::run::{Cancel, Finished, ResolvedMount, RunError, RunOrder, run};
use rctr_builder::event::Stream;
use rctr_builder::plan::{RunMount, RunNetwork, RunStep};
use rctr_builder::request::BuildRequest;
use rctr_runtime::plan::Driver;
use rctr_storage::Store;

const APPLETS: [&str; 30] = [
    "sh", "cat", "sleep", "true", "false", "echo", "yes", "head", "seq", "wc", "test", "printf",
    "ls", "id", "touch", "mkdir", "rm", "stat", "hostname", "ip", "grep", "mount", "setsid",
    "kill", "su", "nc", "df", "chmod", "find", "sort",
];

/// This executable with other words.
pub(crate) fn again(words: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(words);
    command
}

pub(crate) struct Scene {
    pub(crate) top: PathBuf,
    pub(crate) store: Store,
    pub(crate) request: RefCell<BuildRequest>,
    pub(crate) cancel: Cancel,
    pub(crate) driver: Cell<Driver>,
}

/// How a step went.
pub(crate) struct Ran {
    pub(crate) result: Result<Finished, RunError>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// The output of a step that must have succeeded.
    pub(crate) fn ok(&self) -> &str {
        assert!(
            self.result.is_ok(),
            "{:?}: {}{}",
            self.result,
            self.out,
            self.err
        );
        &self.out
    }

    /// The code of a step that must have failed.
    pub(crate) fn code(&self) -> i32 {
        self.result.as_ref().unwrap_err().exit_code().unwrap_or(-1)
    }

    /// What the step left: paths below the upper directory, sorted.
    pub(crate) fn left(&self) -> Vec<String> {
        let upper = &self.result.as_ref().unwrap().upper;
        let mut left = Vec::new();
        walk(upper, upper, &mut left);
        left.sort();
        left
    }
}

pub(crate) fn walk(top: &Path, dir: &Path, left: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        left.push(path.strip_prefix(top).unwrap().display().to_string());
        if entry.file_type().unwrap().is_dir() {
            walk(top, &path, left);
        }
    }
}

impl Scene {
    pub(crate) fn new(top: &Path) -> Self {
        fs::create_dir_all(top).unwrap();
        let store = Store::open(&top.join("store")).unwrap();
        let scene = Self {
            top: top.to_owned(),
            store,
            request: RefCell::default(),
            cancel: Cancel::new().unwrap(),
            driver: Cell::new(Driver::Overlay),
        };
        scene.request.borrow_mut().network = RunNetwork::None;
        let root = scene.layer();
        for dir in ["bin", "etc", "tmp"] {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
        for applet in APPLETS {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        let passwd = "root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n";
        fs::write(root.join("etc/passwd"), passwd).unwrap();
        scene
    }

    pub(crate) fn layer(&self) -> PathBuf {
        self.top.join("layers/busybox")
    }

    /// Another directory below the scene, with files: (path, content).
    pub(crate) fn tree(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let tree = self.top.join(name);
        fs::create_dir_all(&tree).unwrap();
        for (path, content) in files {
            let path = tree.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        tree
    }

    pub(crate) fn sh(&self, line: &str) -> Ran {
        self.run(&shell(line), Vec::new())
    }

    /// A line of shell with one mount.
    pub(crate) fn mounted(&self, line: &str, mount: RunMount, found: ResolvedMount) -> Ran {
        let step = RunStep {
            mounts: vec![mount],
            ..shell(line)
        };
        self.run(&step, vec![found])
    }

    pub(crate) fn run(&self, step: &RunStep, mounts: Vec<ResolvedMount>) -> Ran {
        let (out, err) = (RefCell::new(Vec::new()), RefCell::new(Vec::new()));
        let output = |stream, bytes: &[u8]| match stream {
            Stream::Out => out.borrow_mut().extend_from_slice(bytes),
            Stream::Err => err.borrow_mut().extend_from_slice(bytes),
        };
        let result = self.run_with(step, mounts, &output);
        let text = |bytes: &RefCell<Vec<u8>>| String::from_utf8_lossy(&bytes.borrow()).into_owned();
        Ran {
            result,
            out: text(&out),
            err: text(&err),
        }
    }

    pub(crate) fn run_until(&self, step: &RunStep, cancel: &Cancel) -> Result<Finished, RunError> {
        self.start(step, Vec::new(), &|_, _| {}, cancel)
    }

    pub(crate) fn run_with(
        &self,
        step: &RunStep,
        mounts: Vec<ResolvedMount>,
        output: &dyn Fn(Stream, &[u8]),
    ) -> Result<Finished, RunError> {
        self.start(step, mounts, output, &self.cancel)
    }

    fn start(
        &self,
        step: &RunStep,
        mounts: Vec<ResolvedMount>,
        output: &dyn Fn(Stream, &[u8]),
        cancel: &Cancel,
    ) -> Result<Finished, RunError> {
        let request = self.request.borrow().clone();
        let order = RunOrder {
            step,
            lowers: &vec![self.layer()],
            driver: self.driver.get(),
            directory: self.store.temp_path("run").unwrap(),
            request: &request,
            mounts,
            output,
            cancel,
            emulation: None,
        };
        run(&self.store, &order)
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        // The store's own session is still open; what it removes later isn't there any more then.
        let _ = rctr_storage::tree::remove_tree(&self.top);
    }
}

/// `RUN line`.
pub(crate) fn shell(line: &str) -> RunStep {
    RunStep {
        argv: ["sh", "-c", line].map(str::to_owned).to_vec(),
        env: vec!["PATH=/bin".to_owned()],
        proxies: Vec::new(),
        cwd: PathBuf::from("/"),
        user: String::new(),
        files: Vec::new(),
        mounts: Vec::new(),
        network: NetworkFlag::Default,
        security: SecurityFlag::Sandbox,
    }
}
