//! The engines that are compared, each with a store of its own below the bench's directory and the same images.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::measure::run;

/// An engine with docker's command line.
pub(crate) struct Engine {
    pub(crate) name: &'static str,
    /// The program and its general options.
    words: Vec<String>,
    pub(crate) version: String,
}

impl Engine {
    /// Where the program is, or how it is called.
    pub(crate) fn program(&self) -> &str {
        &self.words[0]
    }

    /// A command line, as words.
    pub(crate) fn words(&self, line: &str) -> Vec<String> {
        self.words
            .iter()
            .cloned()
            .chain(line.split(' ').map(str::to_owned))
            .collect()
    }

    /// Runs a command line: its output, or the first line that it had to say.
    pub(crate) fn attempt(&self, line: &str) -> Result<String, String> {
        run(&self.words(line))
    }

    /// Runs a command line; a failure is told and goes on.
    pub(crate) fn run(&self, line: &str) -> String {
        self.attempt(line).unwrap_or_else(|problem| {
            let line: String = line.chars().take(60).collect();
            eprintln!("{} {line}: {problem}", self.name);
            String::new()
        })
    }

    /// Removes containers, without the ten seconds that a `sleep` as PID 1 would be given to end.
    pub(crate) fn remove(&self, names: &str) {
        // Those that don't run can't be killed; `rm` tells what matters.
        drop(self.attempt(&format!("kill {names}")));
        self.run(&format!("rm -f {names}"));
    }
}

/// Everything that is there to be compared.
pub(crate) struct Engines {
    pub(crate) dir: PathBuf,
    /// `rctr` first.
    pub(crate) engines: Vec<Engine>,
    /// It only builds; podman's images are its.
    buildah: Option<Engine>,
    /// Programs that run one unpacked root file system: (name, version, command that runs `true` in it).
    pub(crate) runtimes: Vec<(&'static str, String, Vec<String>)>,
    /// The floor probe, if it works here.
    pub(crate) floor: Option<Vec<String>>,
    pub(crate) debian: Option<PathBuf>,
}

impl Engines {
    /// Finds them and gives each the image `busybox`.
    pub(crate) fn prepare() -> Self {
        let path = |name: &str| env::var_os(name).map(PathBuf::from);
        let dir = path("BENCH_DIR").expect("BENCH_DIR is set by scripts/bench");
        let busybox = path("BUSYBOX_TAR").expect("BUSYBOX_TAR is set by scripts/bench");
        let debian = path("DEBIAN_TAR").filter(|p| p.exists());
        let rootfs = dir.join("rootfs");
        for part in ["rootfs", "upper", "work", "merged", "run"] {
            fs::create_dir_all(dir.join(part)).expect("BENCH_DIR is ours");
        }
        let untar = Command::new("tar")
            .arg("-xf")
            .arg(&busybox)
            .arg("-C")
            .arg(&rootfs)
            .status();
        assert!(
            untar.is_ok_and(|s| s.success()),
            "cannot unpack {}",
            busybox.display()
        );
        let mut engines = vec![rctr(&dir)];
        engines.extend(podman(&dir));
        engines.extend(docker());
        for engine in &engines {
            engine.run(&format!("import {} busybox:latest", busybox.display()));
        }
        let runtimes = [oci("crun", &dir), oci("runc", &dir), bubblewrap(&rootfs)]
            .into_iter()
            .flatten()
            .collect();
        Self {
            floor: floor(&dir),
            buildah: buildah(&dir),
            dir,
            engines,
            runtimes,
            debian,
        }
    }

    /// Those that build images.
    pub(crate) fn builders(&self) -> impl Iterator<Item = &Engine> {
        self.engines.iter().chain(&self.buildah)
    }

    /// Removes what only the engines themselves can remove.
    pub(crate) fn remove(&self) {
        for engine in &self.engines {
            let left = engine.run("ps -aq");
            if !left.is_empty() {
                engine.remove(&left.replace('\n', " "));
            }
        }
    }
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

fn version(line: &str) -> Option<String> {
    run(&words(line))
        .ok()
        .map(|text| text.lines().next().unwrap_or_default().to_owned())
}

fn rctr(dir: &Path) -> Engine {
    let binary = env::var("RCTR_BIN").expect("RCTR_BIN is set by scripts/bench");
    let version = version(&format!("{binary} --version")).expect("rctr runs");
    // `env` would cost a process: the variables are set for all children instead, by scripts/bench.
    assert_eq!(
        env::var_os("RCTR_ROOT").as_deref(),
        Some(dir.join("rctr").as_os_str())
    );
    Engine {
        name: "rctr",
        words: vec![binary],
        version,
    }
}

fn podman(dir: &Path) -> Option<Engine> {
    let version = version("podman --version")?;
    let dir = dir.display();
    let line = format!(
        "podman --root {dir}/podman --runroot {dir}/run/podman --cgroup-manager cgroupfs --events-backend file"
    );
    Some(Engine {
        name: "podman",
        words: words(&line),
        version,
    })
}

fn buildah(dir: &Path) -> Option<Engine> {
    let version = version("buildah --version")?;
    let dir = dir.display();
    let line = format!("buildah --root {dir}/podman --runroot {dir}/run/podman");
    Some(Engine {
        name: "buildah",
        words: words(&line),
        version,
    })
}

fn docker() -> Option<Engine> {
    let program = env::var("BENCH_DOCKER").ok()?;
    let version = version(&format!(
        "{program} version --format {{{{.Server.Version}}}}"
    ))?;
    Some(Engine {
        name: "docker",
        words: words(&program),
        version: format!("dockerd {version}"),
    })
}

/// First id of our range in /etc/subuid or /etc/subgid.
fn range(file: &str) -> Option<String> {
    let user = env::var("USER").ok()?;
    let text = fs::read_to_string(file).ok()?;
    let line = text
        .lines()
        .find_map(|l| l.strip_prefix(&format!("{user}:")))?;
    line.split(':').next().map(str::to_owned)
}

fn floor(dir: &Path) -> Option<Vec<String>> {
    let binary = env::var("FLOOR_BIN").ok()?;
    let (uid, gid) = (range("/etc/subuid")?, range("/etc/subgid")?);
    let d = dir.display();
    let line = format!("{binary} {d}/rootfs {d}/upper {d}/work {d}/merged {uid} {gid}");
    let probe = run(&words(&line));
    probe
        .map_err(|problem| eprintln!("no floor: {problem}"))
        .ok()
        .map(|_| words(&line))
}

/// An OCI runtime with a bundle that asks for what the floor makes (but a plain directory as root).
fn oci(name: &'static str, dir: &Path) -> Option<(&'static str, String, Vec<String>)> {
    let version = version(&format!("{name} --version"))?;
    let bundle = dir.join(name);
    fs::create_dir_all(&bundle).ok()?;
    let spec = Command::new(name)
        .args(["spec", "--rootless"])
        .current_dir(&bundle)
        .status();
    spec.ok().filter(std::process::ExitStatus::success)?;
    let file = bundle.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&file).ok()?).ok()?;
    config["process"]["args"] = json!(["/bin/true"]);
    config["process"]["terminal"] = json!(false);
    config["root"] = json!({"path": dir.join("rootfs"), "readonly": false});
    config["linux"]["namespaces"]
        .as_array_mut()?
        .push(json!({"type": "network"}));
    for (key, file) in [
        ("uidMappings", "/etc/subuid"),
        ("gidMappings", "/etc/subgid"),
    ] {
        let start = range(file)?;
        let own = if key == "uidMappings" {
            nix::unistd::geteuid().as_raw()
        } else {
            nix::unistd::getegid().as_raw()
        };
        config["linux"][key] = json!([
            {"containerID": 0, "hostID": own, "size": 1},
            {"containerID": 1, "hostID": start.parse::<u32>().ok()?, "size": 65535},
        ]);
    }
    fs::write(&file, config.to_string()).ok()?;
    let line = format!(
        "{name} --root {}/run/{name} run --bundle {} bench",
        dir.display(),
        bundle.display()
    );
    Some((name, version, words(&line)))
}

fn bubblewrap(rootfs: &Path) -> Option<(&'static str, String, Vec<String>)> {
    let version = version("bwrap --version")?;
    let line = format!(
        "bwrap --unshare-all --bind {} / --proc /proc --dev /dev /bin/true",
        rootfs.display()
    );
    Some(("bubblewrap", version, words(&line)))
}
