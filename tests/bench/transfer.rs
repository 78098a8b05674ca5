//! Images from and to a registry of the bench's own: Debian's `docker-registry` on loopback.

use std::fmt::Write;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use crate::engine::{Engine, Engines};
use crate::measure::{Contender, Runs, in_turn, run};
use crate::report::{Budget, table, verdict};

/// The large image: five layers of 4,000 files of 50,000 bytes, 1 GB in all.
const LAYERS: usize = 5;
const FILES: usize = 4_000;
const FILE_BYTES: usize = 50_000;
/// What a pull or a push may have in memory at most.
const MEMORY_KIB: u64 = 64 << 10;

/// A registry that ends with us.
struct Registry {
    child: Child,
    data: PathBuf,
    address: String,
}

impl Registry {
    /// With its storage in `dir`, which need not be there. `None`: it isn't installed, or doesn't start.
    fn start(dir: &Path) -> Option<Self> {
        let data = dir.join("data");
        fs::create_dir_all(&data).ok()?;
        // The port is free again when the registry asks for it.
        let port = TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?;
        let address = port.to_string();
        let config = dir.join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{address}'}}\n",
            data.display()
        );
        fs::write(&config, text).ok()?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "docker-registry", "serve"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let registry = Self {
            child,
            data,
            address,
        };
        (0..100)
            .any(|_| {
                sleep(Duration::from_millis(50));
                TcpStream::connect(&registry.address).is_ok()
            })
            .then_some(registry)
    }

    /// The files of an image's layers; none when it doesn't have the image.
    fn layers(&self, name: &str) -> Option<Vec<String>> {
        let root = self.data.join("docker/registry/v2");
        let blob = |digest: &str| {
            let hex = digest.trim_start_matches("sha256:");
            let dir = root.join("blobs/sha256").join(hex.get(..2)?).join(hex);
            Some(dir.join("data"))
        };
        let link = format!("repositories/{name}/_manifests/tags/transfer/current/link");
        let manifest = blob(&fs::read_to_string(root.join(link)).ok()?)?;
        let manifest: Value = serde_json::from_slice(&fs::read(manifest).ok()?).ok()?;
        let layers = manifest["layers"].as_array()?.iter();
        let digests = layers.map(|layer| layer["digest"].as_str());
        digests.map(|digest| Some(text(&blob(digest?)?))).collect()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn text(path: &Path) -> String {
    path.to_str().expect("plain path").to_owned()
}

fn shell(script: String) -> Vec<String> {
    vec!["sh".to_owned(), "-c".to_owned(), script]
}

/// This program as one of the parts: see [`crate::parts`].
fn part(name: &str, more: &[String]) -> Vec<String> {
    let own = std::env::current_exe().expect("there is /proc");
    [text(&own), name.to_owned()]
        .into_iter()
        .chain(more.iter().cloned())
        .collect()
}

/// `debian` and `many`, those that can be had, as archives that every engine loads: name and file.
fn archives(engines: &Engines) -> Vec<(&'static str, String)> {
    let rctr = &engines.engines[0];
    let mut names = Vec::new();
    if let Some(tar) = &engines.debian {
        rctr.run(&format!("import {} debian:transfer", tar.display()));
        names.push("debian");
    }
    if let Err(problem) = build_many(engines) {
        eprintln!("no large image: {problem}");
    } else {
        names.push("many");
    }
    let archive = |name| {
        let file = text(&engines.dir.join(format!("transfer-{name}.tar")));
        rctr.run(&format!("save -o {file} {name}:transfer"));
        rctr.run(&format!("rmi {name}:transfer"));
        (name, file)
    };
    let all = names.into_iter().map(archive).collect();
    rctr.run("builder prune -af");
    all
}

/// Builds `many:transfer`. Half of each file is noise and half is text, so that it compresses as images do.
fn build_many(engines: &Engines) -> Result<(), String> {
    let dir = engines.dir.join("many");
    let failed = |error: std::io::Error| error.to_string();
    let mut dockerfile = "FROM scratch\n".to_owned();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for layer in 0..LAYERS {
        let _ = writeln!(dockerfile, "COPY layer{layer} /layer{layer}");
        for number in 0..FILES {
            let part = dir.join(format!("layer{layer}/{}", number / 100));
            if number % 100 == 0 {
                fs::create_dir_all(&part).map_err(failed)?;
            }
            let mut content = Vec::with_capacity(FILE_BYTES + 64);
            while content.len() < FILE_BYTES {
                // xorshift
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                if content.len() < FILE_BYTES / 2 {
                    content.extend(state.to_le_bytes());
                } else {
                    let line = format!("the value of item {} is {}\n", state % 997, state % 89);
                    content.extend(line.into_bytes());
                }
            }
            content.truncate(FILE_BYTES);
            fs::write(part.join(format!("file{number}")), content).map_err(failed)?;
        }
    }
    fs::write(dir.join("Dockerfile"), dockerfile).map_err(failed)?;
    let built = engines.engines[0].attempt(&format!("build -q -t many:transfer {}", dir.display()));
    drop(fs::remove_dir_all(dir));
    built.map(drop)
}

/// `push` or `pull` by an engine.
fn transfer(engine: &Engine, verb: &str, image: &str) -> Vec<String> {
    let plain = match engine.name {
        "podman" => " --tls-verify=false",
        _ => "",
    };
    engine.words(&format!("{verb}{plain} {image}"))
}

fn has_skopeo() -> bool {
    run(&["skopeo".to_owned(), "--version".to_owned()]).is_ok()
}

/// Peak memory of the command; its row of a table.
fn memory(what: &str, command: &[String]) -> String {
    let row = run(&part("rss", command)).and_then(|kib| kib.parse::<u64>().map_err(|_| kib));
    match row {
        Ok(kib) => format!(
            "| {what} | {kib} | ≤ {MEMORY_KIB} KiB: {} |\n",
            verdict(kib <= MEMORY_KIB)
        ),
        Err(problem) => format!("| {what} | failed: {problem} | |\n"),
    }
}

const MEMORY_HEAD: &str = "\nPeak memory of rctr:\n\n| command | KiB | budget |\n|---|---:|---|\n";

/// What is said when something is lacking.
const NO_REGISTRY: &str = "Not measured: there is no docker-registry here.\n";

pub(crate) fn pull(engines: &Engines) -> String {
    let dir = engines.dir.join("registry");
    let Some(registry) = Registry::start(&dir) else {
        return NO_REGISTRY.to_owned();
    };
    let mut report = "Decompression: by the library that rctr has (zlib-rs), into nothing, one layer after the other and on all cores; \
        hashing: sha256 of the plain bytes by rctr's library (ring), likewise; tar x: the plain layers into files. \
        The budget is about one layer after the other.\n\n"
        .to_owned();
    let mut memories = MEMORY_HEAD.to_owned();
    for (name, archive) in archives(engines) {
        let rctr = &engines.engines[0];
        let image = format!("{}/{name}:transfer", registry.address);
        rctr.run(&format!("load -i {archive}"));
        drop(fs::remove_file(archive));
        rctr.run(&format!("tag {name}:transfer {image}"));
        rctr.run(&format!("push -q {image}"));
        rctr.run(&format!("rmi {name}:transfer {image}"));
        let Some(layers) = registry.layers(name) else {
            let _ = writeln!(report, "{name}: not measured: rctr didn't push it\n");
            continue;
        };
        let _ = writeln!(report, "{name}, {} layers:\n", layers.len());
        report.push_str(&pull_one(engines, &image, &layers));
        report.push('\n');
        let _ = run(&clean(engines, rctr, &image));
        memories.push_str(&memory(
            &format!("pull {name}"),
            &transfer(rctr, "pull", &image),
        ));
        for engine in &engines.engines {
            drop(run(&clean(engines, engine, &image)));
        }
    }
    drop(registry);
    drop(fs::remove_dir_all(dir));
    report + &memories
}

/// Before a pull: the image goes, and nobody has to write what others have left to be written.
fn clean(engines: &Engines, engine: &Engine, image: &str) -> Vec<String> {
    let remove = engine.words(&format!("rmi {image}")).join(" ");
    shell(format!(
        "{remove} >/dev/null 2>&1; sync -f {}",
        engines.dir.display()
    ))
}

fn pull_one(engines: &Engines, image: &str, layers: &[String]) -> String {
    let plain: Vec<String> = (0..layers.len())
        .map(|number| text(&engines.dir.join(format!("plain{number}"))))
        .collect();
    for (layer, plain) in layers.iter().zip(&plain) {
        if let Err(problem) = run(&shell(format!("gzip -dc {layer} >{plain}"))) {
            return format!("Not measured: {problem}\n");
        }
    }
    let out = text(&engines.dir.join("untarred"));
    let fresh = format!("rm -rf {out}; mkdir {out}; sync -f {out}");
    let untar = plain
        .iter()
        .map(|file| format!("tar --exclude=./dev/* -xf {file} -C {out}"));
    let untar: Vec<String> = untar.collect();
    let one = |name: &str, files: &[String]| part(name, &[&["1".to_owned()], files].concat());
    let all = |name: &str, files: &[String]| part(name, &[&["0".to_owned()], files].concat());
    let mut contenders = vec![
        Contender::new("decompression", one("gunzip", layers)),
        Contender::new("hashing", one("sha256", &plain)),
        Contender::new("decompression, all cores", all("gunzip", layers)),
        Contender::new("hashing, all cores", all("sha256", &plain)),
        Contender::new("tar x", shell(untar.join(" && ")))
            .before(shell(fresh.clone()))
            .after(shell(format!("rm -rf {out}"))),
    ];
    contenders.extend(engines.engines.iter().map(|engine| {
        Contender::new(engine.name, transfer(engine, "pull", image))
            .before(clean(engines, engine, image))
            .budget(Budget::Times(1.3, &["decompression", "hashing"]))
    }));
    if has_skopeo() {
        let copy = format!("skopeo copy -q --src-tls-verify=false docker://{image} dir:{out}");
        contenders.push(
            Contender::new("skopeo to dir:", shell(format!("exec {copy}")))
                .before(shell(fresh))
                .after(shell(format!("rm -rf {out}"))),
        );
    }
    let report = table(&in_turn(Runs::few(), contenders));
    for file in plain {
        drop(fs::remove_file(file));
    }
    report
}

pub(crate) fn push(engines: &Engines) -> String {
    let dir = engines.dir.join("registry");
    let Some(registry) = Registry::start(&dir) else {
        return NO_REGISTRY.to_owned();
    };
    let mut report = "The layers are plain and go with gzip, each engine at its own usual level; \
        the registry has nothing before each run. Skopeo sends what `rctr save` wrote.\n\n"
        .to_owned();
    let mut memories = MEMORY_HEAD.to_owned();
    for (name, archive) in archives(engines) {
        let image = format!("{}/{name}:transfer", registry.address);
        // All that it has, under its feet: it keeps nothing in memory.
        let empty = shell(format!(
            "rm -rf {}/docker; sync -f {}",
            registry.data.display(),
            engines.dir.display()
        ));
        for engine in &engines.engines {
            engine.run(&format!("load -i {archive}"));
            let from = match engine.name {
                "podman" => "localhost/",
                _ => "",
            };
            // What was saved has docker's full name or none.
            let tag = |from: &str| engine.attempt(&format!("tag {from}{name}:transfer {image}"));
            if tag("").is_err() && tag(from).is_err() {
                eprintln!("{}: cannot tag {name}", engine.name);
            }
        }
        let each = engines.engines.iter().map(|engine| {
            Contender::new(engine.name, transfer(engine, "push", &image)).before(empty.clone())
        });
        let mut contenders: Vec<_> = each.collect();
        if has_skopeo() {
            let copy = format!(
                "exec skopeo copy -q --dest-tls-verify=false docker-archive:{archive} docker://{image}"
            );
            contenders.push(Contender::new("skopeo", shell(copy)).before(empty.clone()));
        }
        let timed = table(&in_turn(Runs::few(), contenders));
        let _ = writeln!(report, "{name}:\n\n{timed}");
        let rctr = &engines.engines[0];
        for (what, option) in [
            ("", ""),
            (" --compression zstd", " --compression zstd"),
            (
                " --compression zstd:19",
                " --compression zstd --compression-level 19",
            ),
        ] {
            // The highest levels take minutes for a GB.
            if name != "debian" && option.contains("19") {
                continue;
            }
            drop(run(&empty));
            let command = rctr.words(&format!("push -q{option} {image}"));
            memories.push_str(&memory(&format!("push{what} {name}"), &command));
        }
        for engine in &engines.engines {
            drop(engine.attempt(&format!("rmi {name}:transfer")));
            drop(engine.attempt(&format!("rmi {image}")));
        }
        drop(fs::remove_file(archive));
    }
    drop(registry);
    drop(fs::remove_dir_all(dir));
    report + &memories
}
