//! Builds: rctr beside docker's BuildKit, podman and buildah. Budgets: docs/architecture.md.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::engine::{Engine, Engines};
use crate::measure::{Contender, Runs, in_turn};
use crate::report::{Budget, table};

/// Files of the large context, and bytes of each: 200 MB in all.
const FILES: usize = 20_000;
const FILE_BYTES: usize = 10_000;
/// Of a directory.
const FILES_EACH: usize = 100;

/// An empty directory for a context.
fn directory(engines: &Engines, name: &str) -> PathBuf {
    let path = engines.dir.join(name);
    // What a scenario before has left.
    drop(fs::remove_dir_all(&path));
    fs::create_dir(&path).expect("BENCH_DIR is ours");
    path
}

fn put(dir: &Path, name: &str, content: impl AsRef<[u8]>) {
    fs::write(dir.join(name), content).expect("BENCH_DIR is ours");
}

/// `build OPTIONS DIR` for one engine. buildah keeps no layers unless it is told to.
fn command(engine: &Engine, options: &str, dir: &Path) -> Vec<String> {
    let layers = match engine.name {
        "buildah" => " --layers",
        _ => "",
    };
    engine.words(&format!("build{layers} {options} {}", dir.display()))
}

/// The same build for each engine.
fn each(engines: &Engines, options: &str, dir: &Path) -> impl Iterator<Item = Contender> {
    engines
        .builders()
        .map(move |engine| Contender::new(engine.name, command(engine, options, dir)))
}

/// Takes away what a build has left: image and cache.
fn forget(engine: &Engine, tag: &str) -> Vec<String> {
    let words = |line: &str| engine.words(line).join(" ");
    let prune = match engine.name {
        "rctr" | "docker" => words("builder prune -af"),
        "podman" => words("image prune -f"),
        _ => "true".to_owned(),
    };
    [
        "sh",
        "-c",
        &format!("{}; {prune}", words(&format!("rmi {tag}"))),
    ]
    .map(str::to_owned)
    .to_vec()
}

/// The large context: its files in `files/`.
fn many_files(engines: &Engines, name: &str) -> PathBuf {
    let dir = directory(engines, name);
    // Not compressible, and no two alike: xorshift.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut content = vec![0; FILE_BYTES];
    for number in 0..FILES {
        let part = dir.join(format!("files/{}", number / FILES_EACH));
        if number % FILES_EACH == 0 {
            fs::create_dir_all(&part).expect("BENCH_DIR is ours");
        }
        for word in content.chunks_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes()[..word.len()]);
        }
        put(&part, &format!("file{number}"), &content);
    }
    dir
}

pub(crate) fn cached(engines: &Engines) -> String {
    let dir = directory(engines, "build-cached");
    let mut text = "FROM busybox\n".to_owned();
    for number in 0..5 {
        put(&dir, &format!("file{number}"), number.to_string());
        text += &format!("COPY file{number} /srv/\nRUN echo {number} > /srv/made{number}\n");
    }
    put(&dir, "Dockerfile", text);
    let within = Budget::Within(Duration::from_millis(15));
    let contenders =
        each(engines, "--network none -t cached:1", &dir).map(|c| c.budget(within.clone()));
    table(&in_turn(Runs::many(), contenders.collect()))
}

pub(crate) fn cached_many(engines: &Engines) -> String {
    let dir = many_files(engines, "build-cached-20k");
    let mut text = "FROM busybox\nCOPY files /files\n".to_owned();
    for number in 0..9 {
        text += &format!("RUN echo {number} > /made{number}\n");
    }
    put(&dir, "Dockerfile", text);
    let within = Budget::Within(Duration::from_millis(100));
    let contenders =
        each(engines, "--network none -t cached:2", &dir).map(|c| c.budget(within.clone()));
    let report = table(&in_turn(Runs::few(), contenders.collect()));
    fs::remove_dir_all(dir).expect("BENCH_DIR is ours");
    report
}

/// Ten steps that do nothing may take ten times 15 ms more than a build that has none.
pub(crate) fn run(engines: &Engines) -> String {
    const NO_RUN: &str = "no RUN";
    let dir = directory(engines, "build-run");
    put(
        &dir,
        "Dockerfile",
        format!("FROM busybox\n{}", "RUN true\n".repeat(10)),
    );
    let empty = directory(engines, "build-run-none");
    put(&empty, "Dockerfile", "FROM busybox\nLABEL a=b\n");
    let budget = Budget::Above(Duration::from_millis(150), NO_RUN);
    let mut contenders = vec![Contender::new(
        NO_RUN,
        command(&engines.engines[0], "--no-cache -t run:0", &empty),
    )];
    contenders.extend(each(engines, "--no-cache --network none -t run:1", &dir));
    // Docker's daemon has no bridge here.
    for engine in engines.builders().filter(|e| e.name != "docker") {
        contenders.push(Contender::new(
            &format!("{} private", engine.name),
            command(engine, "--no-cache -t run:1", &dir),
        ));
    }
    let contenders = contenders.into_iter().map(|c| c.budget(budget.clone()));
    table(&in_turn(Runs::few(), contenders.collect()))
}

pub(crate) fn parallel(engines: &Engines) -> String {
    let dir = directory(engines, "build-parallel");
    let mut text = String::new();
    for number in 0..4 {
        text += &format!("FROM busybox AS s{number}\nRUN sleep 2; echo > /made{number}\n");
    }
    text += "FROM busybox\n";
    for number in 0..4 {
        text += &format!("COPY --from=s{number} /made{number} /\n");
    }
    put(&dir, "Dockerfile", text);
    let within = Budget::Within(Duration::from_millis(2200));
    let contenders = engines.builders().map(|engine| {
        let jobs = match engine.name {
            "podman" | "buildah" => " --jobs 4",
            _ => "",
        };
        let options = format!("--no-cache --network none{jobs} -t parallel:1");
        Contender::new(engine.name, command(engine, &options, &dir)).budget(within.clone())
    });
    table(&in_turn(Runs::few(), contenders.collect()))
}

/// Beside `cp -a`, which neither hashes nor packs nor gives anything to the disk.
pub(crate) fn copy(engines: &Engines) -> String {
    let dir = many_files(engines, "build-copy");
    put(&dir, "Dockerfile", "FROM busybox\nCOPY files /files\n");
    let to = engines.dir.join("copied");
    let (from, to) = (dir.join("files"), to.display().to_string());
    let words = |line: &str| ["sh", "-c", line].map(str::to_owned).to_vec();
    let copy = format!("cp -a {} {to}", from.display());
    let remove = || words(&format!("rm -rf {to}"));
    let mut contenders = vec![
        Contender::new("cp -a", words(&copy)).after(remove()),
        Contender::new("cp -a, sync", words(&format!("{copy} && sync -f {to}"))).after(remove()),
    ];
    contenders.extend(engines.builders().map(|engine| {
        let command = command(engine, "--no-cache -t copy:1", &dir);
        Contender::new(engine.name, command)
            .after(forget(engine, "copy:1"))
            .budget(Budget::Times(1.0, &["cp -a, sync"]))
            .budget(Budget::Times(1.5, &["cp -a"]))
    }));
    let report = table(&in_turn(Runs::few(), contenders));
    fs::remove_dir_all(dir).expect("BENCH_DIR is ours");
    report
}
