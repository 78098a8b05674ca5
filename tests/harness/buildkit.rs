//! BuildKit as a peer: Debian's docker 20.10, whose daemon runs only while a test wants it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::oracle::ImageText;
use super::sandbox::Sandbox;
use super::wait::wait_for;

/// This client needs no plugin to use BuildKit, as newer ones do.
const CLIENT: &str = "/usr/bin/docker";
const DAEMON: &str = "/usr/sbin/dockerd";

/// A daemon of its own, without networks, and with the image `busybox` of a sandbox.
pub(crate) struct BuildKit<'a> {
    sandbox: &'a Sandbox,
    dir: PathBuf,
    daemon: Child,
}

impl<'a> BuildKit<'a> {
    /// Whether it can be had here, or why not.
    pub(super) fn check() -> Result<(), String> {
        if !nix::unistd::geteuid().is_root() {
            return Err("dockerd needs root".to_owned());
        }
        let missing = [DAEMON, CLIENT]
            .iter()
            .find(|path| !Path::new(path).exists());
        match missing {
            Some(path) => Err(format!("there is no {path}")),
            None => Ok(()),
        }
    }

    /// Starts the daemon and gives it the sandbox's busybox.
    pub(crate) fn start(sandbox: &'a Sandbox) -> Self {
        let dir = sandbox.dir().join("dockerd");
        fs::create_dir(&dir).unwrap();
        let path = |name: &str| dir.join(name).into_os_string().into_string().unwrap();
        let log = fs::File::create(path("log")).unwrap();
        let daemon = Command::new(DAEMON)
            .args(["--data-root", &path("data"), "--exec-root", &path("run")])
            .args([
                "--pidfile",
                &path("pid"),
                "--bridge",
                "none",
                "--iptables=false",
            ])
            .args(["--host", &format!("unix://{}", path("socket"))])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let buildkit = Self {
            sandbox,
            dir,
            daemon,
        };
        wait_for("dockerd", || buildkit.dir.join("socket").exists());
        sandbox.rctr("save -o busybox-docker.tar busybox").ok();
        buildkit.docker(&["load", "-q", "-i", "busybox-docker.tar"]);
        buildkit
    }

    /// Builds a context below the working directory.
    pub(crate) fn build(&self, name: &str, options: &str) -> ImageText {
        let tar = format!("{name}.docker.tar");
        let mut words = vec!["build", "-q", "--network", "none", "-t", name];
        words.extend(options.split_whitespace());
        words.push(name);
        self.docker(&words);
        self.docker(&["save", "-o", &tar, name]);
        ImageText::of_archive(&self.sandbox.work().join(tar))
    }

    fn docker(&self, words: &[&str]) {
        let output = Command::new(CLIENT)
            .args(words)
            .current_dir(self.sandbox.work())
            .env("DOCKER_BUILDKIT", "1")
            .env(
                "DOCKER_HOST",
                format!("unix://{}/socket", self.dir.display()),
            )
            .env("HOME", &self.dir)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "docker {words:?}: {said}");
    }
}

impl Drop for BuildKit<'_> {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.daemon.id().cast_signed());
        // It ends its containerd, and unmounts what it has mounted.
        if kill(pid, Signal::SIGTERM).is_ok() {
            let _ = self.daemon.wait();
        }
        for _ in 0..50 {
            let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
            if !mounts.contains(&*self.dir.to_string_lossy()) {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}
