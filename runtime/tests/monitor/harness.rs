//! A store with one layer (busybox), and containers in it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rctr_runtime::control::Target;
use rctr_runtime::log::{self, ReadOptions};
use rctr_storage::Store;
use rctr_storage::record::{ContainerState, Status};

use crate::Spec;
use crate::program::layer;

pub(crate) fn layer_dir(top: &Path) -> PathBuf {
    top.join("store/layers").join(layer().hex()).join("fs")
}

pub(crate) struct Sandbox {
    pub(crate) top: PathBuf,
    pub(crate) store: Store,
    next: std::cell::Cell<u32>,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        let base = std::env::var_os("RCTR_TEST_TMP").map_or_else(std::env::temp_dir, PathBuf::from);
        let top = base.join(format!("rctr-monitor-{}", std::process::id()));
        let store = Store::open(&top.join("store")).unwrap();
        let root = layer_dir(&top);
        for dir in ["bin", "etc", "proc", "sys", "dev", "tmp"] {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
        for applet in [
            "sh", "cat", "sleep", "true", "echo", "yes", "head", "stty", "seq", "dd", "wc", "test",
            "printf",
        ] {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        fs::write(
            root.join("etc/passwd"),
            "root:x:0:0::/:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n",
        )
        .unwrap();
        Self {
            top,
            store,
            next: std::cell::Cell::new(1),
        }
    }

    pub(crate) fn spec(&self, line: &str) -> Spec {
        let n = self.next.get();
        self.next.set(n + 1);
        Spec {
            top: self.top.clone(),
            id: format!("{n:012x}{:052x}", std::process::id()),
            argv: ["sh", "-c", line].map(str::to_owned).to_vec(),
            ..Spec::default()
        }
    }

    pub(crate) fn command(&self, verb: &str, spec: &Spec) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg(verb).arg(serde_json::to_string(spec).unwrap());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs `verb` to its end: exit code, stdout, stderr.
    pub(crate) fn output(&self, verb: &str, spec: &Spec, input: &[u8]) -> (i32, String, String) {
        let mut command = self.command(verb, spec);
        command.stdin(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.code().unwrap_or(-1),
            text(&output.stdout),
            text(&output.stderr),
        )
    }

    pub(crate) fn detached(&self, spec: &Spec) {
        let (code, out, err) = self.output("run", spec, b"");
        assert_eq!(code, 0, "{out} {err}");
    }

    pub(crate) fn state(&self, spec: &Spec) -> ContainerState {
        self.store.read_container(&spec.id).unwrap().state
    }

    pub(crate) fn until(&self, what: &str, mut is: impl FnMut() -> bool) {
        let end = Instant::now() + Duration::from_secs(10);
        while !is() {
            assert!(Instant::now() < end, "never: {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn until_for(&self, what: &str, time: Duration, mut is: impl FnMut() -> bool) {
        let end = Instant::now() + time;
        while !is() {
            assert!(Instant::now() < end, "never: {what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn log(&self, spec: &Spec, options: &ReadOptions) -> String {
        let mut text = String::new();
        let path = log::path(&self.store.container_dir(&spec.id));
        log::read(&path, options, &mut || false, &mut |entry| {
            text.push_str(entry.text);
            Ok(())
        })
        .unwrap();
        text
    }

    pub(crate) fn control<T>(&self, spec: &Spec, act: impl FnOnce(&Target<'_>) -> T) -> T {
        let state = self.state(spec);
        let run = self.top.join("run");
        act(&Target {
            store: &self.store,
            run: &run,
            id: &spec.id,
            state: &state,
        })
    }

    pub(crate) fn ended(&self, spec: &Spec) -> ContainerState {
        self.until("end", || {
            self.state(spec).status == Status::Exited && !self.store.monitor_alive(&spec.id)
        });
        self.state(spec)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.top);
    }
}

pub(crate) fn walk(top: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(top).into_iter().flatten().flatten() {
        all.extend(walk(&entry.path()));
        all.push(entry.path());
    }
    all
}
