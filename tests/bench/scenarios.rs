//! What is timed: jobs that users do.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::build;
use crate::engine::{Engine, Engines};
use crate::measure::{Contender, Runs, in_turn, run};
use crate::memory;
use crate::report::{Budget, table, verdict};
use crate::transfer;

/// A scenario.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// Gives the report.
    pub(crate) run: fn(&Engines) -> String,
}

const fn scenario(
    name: &'static str,
    about: &'static str,
    run: fn(&Engines) -> String,
) -> Scenario {
    Scenario { name, about, run }
}

/// All of them, in the order of the report.
pub(crate) const ALL: &[Scenario] = &[
    scenario("size", "the programs' files", size),
    scenario(
        "version",
        "start of the program, beside a static `true`",
        version,
    ),
    scenario("start", "`run --rm --network none busybox true`", start),
    scenario(
        "start-private",
        "`run --rm busybox true`, private network",
        start_private,
    ),
    scenario("exec", "`exec` of `true` in a running container", exec),
    scenario("ps", "`ps -a` with 50 containers, 10 of them running", ps),
    scenario("images", "`images` with 50 images", images),
    scenario(
        "import",
        "a Debian root file system from a tar, beside its parts",
        import,
    ),
    scenario("save", "`save` of that image", save),
    scenario("load", "`load` of a saved image", load),
    scenario(
        "pull",
        "`pull` of Debian and of 1 GB in 20,000 files from a registry on loopback",
        transfer::pull,
    ),
    scenario("push", "`push` of these images", transfer::push),
    scenario("commit", "`commit` of 2,000 new files (8 MB)", commit),
    scenario(
        "build-cached",
        "ten COPY and RUN steps, all cached",
        build::cached,
    ),
    scenario(
        "build-cached-20k",
        "ten steps, all cached, with a context of 20,000 files",
        build::cached_many,
    ),
    scenario(
        "build-run",
        "ten steps `RUN true`, none cached, without a network and with a private one",
        build::run,
    ),
    scenario(
        "build-parallel",
        "four independent stages of `sleep 2`",
        build::parallel,
    ),
    scenario(
        "build-copy",
        "COPY of 20,000 files (200 MB), not cached, beside `cp -a`",
        build::copy,
    ),
    scenario(
        "memory",
        "helpers of one running container",
        memory::helpers,
    ),
];

/// How long a command may take that only reads or only starts a process.
const SMALL: Duration = Duration::from_millis(5);

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|w| (*w).to_owned()).collect()
}

/// The same line for each engine.
fn each(engines: &Engines, line: &str) -> impl Iterator<Item = Contender> {
    engines
        .engines
        .iter()
        .map(move |e| Contender::new(e.name, e.words(line)))
}

fn size(engines: &Engines) -> String {
    let limit_kib = 12_000_000 / 1024;
    let mut report = String::from("| program | KiB | budget |\n|---|---:|---|\n");
    let found = |name: &str| {
        std::env::split_paths(&std::env::var_os("PATH")?)
            .map(|dir| dir.join(name))
            .find(|path| path.exists())
    };
    let own = engines.engines[0].program().to_owned();
    let others = ["podman", "conmon", "crun", "runc", "dockerd"];
    for path in std::iter::once(own.into()).chain(others.into_iter().filter_map(found)) {
        let kib = fs::metadata(&path).map_or(0, |m| m.len() / 1024);
        let name = path.file_name().map(Path::new).unwrap_or(&path).display();
        let budget = if report.lines().count() == 2 {
            format!("≤ {limit_kib} KiB: {}", verdict(kib <= limit_kib))
        } else {
            String::new()
        };
        let _ = writeln!(report, "| {name} | {kib} | {budget} |");
    }
    report
}

fn version(engines: &Engines) -> String {
    let busybox = engines.dir.join("rootfs/bin/busybox");
    let busybox = busybox.to_str().expect("plain path");
    let mut contenders = vec![Contender::new("static true", words(&[busybox, "true"]))];
    let within = Budget::Within(Duration::from_millis(2));
    contenders.extend(each(engines, "--version").map(|c| c.budget(within.clone())));
    table(&in_turn(Runs::many(), contenders))
}

/// In two groups: rctr and the floor by themselves, then rctr among its peers. A program with many threads leaves this
/// kind of machine (virtual processors that the host wakes) waking its processors slowly for a while, and that would be in the
/// figures of whoever comes next.
fn start(engines: &Engines) -> String {
    let line = "run --rm --network none busybox true";
    let floor = beside_floor(engines, line, Budget::Times(2.0, &["kernel floor"]));
    let tenth = Budget::Times(0.1, &["podman"]);
    let mut peers: Vec<_> = each(engines, line)
        .map(|c| c.budget(tenth.clone()))
        .collect();
    peers.extend(
        engines
            .runtimes
            .iter()
            .map(|(name, _, command)| Contender::new(&format!("{name} bare"), command.clone())),
    );
    format!("{floor}\n{}", table(&in_turn(Runs::many(), peers)))
}

fn start_private(engines: &Engines) -> String {
    let line = "run --rm busybox true";
    let floor = beside_floor(engines, line, Budget::Within(Duration::from_millis(25)));
    let peers = each(engines, line).collect();
    format!("{floor}\n{}", table(&in_turn(Runs::many(), peers)))
}

/// The kernel floor and rctr, in turn.
fn beside_floor(engines: &Engines, line: &str, budget: Budget) -> String {
    let floor = engines.floor.iter();
    let mut pair: Vec<_> = floor
        .map(|floor| Contender::new("kernel floor", floor.clone()))
        .collect();
    pair.extend(
        each(engines, line)
            .take(1)
            .map(|c| c.budget(budget.clone())),
    );
    table(&in_turn(Runs::many(), pair))
}

fn exec(engines: &Engines) -> String {
    for engine in &engines.engines {
        engine.run("run -d --network none --name exec busybox sleep 1000");
    }
    let report = beside_process_start(engines, "exec exec true");
    for engine in &engines.engines {
        engine.remove("exec");
    }
    report
}

/// A line that may take [`SMALL`] longer than `rctr --version`.
fn beside_process_start(engines: &Engines, line: &str) -> String {
    const START: &str = "rctr --version";
    let mut contenders = vec![Contender::new(START, engines.engines[0].words("--version"))];
    contenders.extend(each(engines, line).map(|c| c.budget(Budget::Above(SMALL, START))));
    table(&in_turn(Runs::many(), contenders))
}

fn ps(engines: &Engines) -> String {
    let names: Vec<_> = (0..50).map(|n| format!("ps{n}")).collect();
    for engine in &engines.engines {
        for (n, name) in names.iter().enumerate() {
            let verb = if n % 5 == 0 { "run -d" } else { "create" };
            engine.run(&format!(
                "{verb} --network none --name {name} busybox sleep 1000"
            ));
        }
    }
    let report = beside_process_start(engines, "ps -a");
    for engine in &engines.engines {
        engine.remove(&names.join(" "));
    }
    report
}

fn images(engines: &Engines) -> String {
    // One small file each, so that no two are the same image.
    for n in 0..50 {
        let file = engines.dir.join("number");
        fs::write(&file, n.to_string()).expect("BENCH_DIR is ours");
        let tar = engines.dir.join("number.tar");
        let made = run(&words(&[
            "tar",
            "-C",
            engines.dir.to_str().expect("plain path"),
            "-cf",
            tar.to_str().expect("plain path"),
            "number",
        ]));
        made.expect("tar works");
        for engine in &engines.engines {
            engine.run(&format!("import {} many:{n}", tar.display()));
        }
    }
    let report = beside_process_start(engines, "images");
    let names: Vec<_> = (0..50).map(|n| format!("many:{n}")).collect();
    for engine in &engines.engines {
        engine.run(&format!("rmi {}", names.join(" ")));
    }
    report
}

/// `rctr` first, then the other engines, as import, save and load want them: with Debian in the store.
fn with_debian(engines: &Engines, report: impl Fn(&str, &[Engine]) -> String) -> String {
    let Some(tar) = &engines.debian else {
        return "Not measured: there is no Debian image here.\n".to_owned();
    };
    report(tar.to_str().expect("plain path"), &engines.engines)
}

/// What nobody can do without when he takes in `tar`: reading the archive into files, and hashing it.
fn parts(engines: &Engines, tar: &str) -> Vec<Contender> {
    let out = engines.dir.join("untar");
    let out = out.to_str().expect("plain path");
    let remove = || words(&["rm", "-rf", out]);
    let make = || {
        words(&[
            "sh",
            "-c",
            &format!("rm -rf {out}; mkdir {out}; sync -f {out}"),
        ])
    };
    // An ordinary user's tar can't make device nodes.
    let untar = words(&["tar", "--exclude=./dev/*", "-xf", tar, "-C", out]);
    vec![
        Contender::new("tar x", untar)
            .before(make())
            .after(remove()),
        Contender::new("sha256sum", words(&["sha256sum", tar])),
    ]
}

/// Of taking in an archive.
const AS_ITS_PARTS: Budget = Budget::Times(1.3, &["tar x", "sha256sum"]);

fn import(engines: &Engines) -> String {
    with_debian(engines, |tar, all| {
        let mut contenders = parts(engines, tar);
        contenders.extend(all.iter().map(|e| {
            Contender::new(e.name, e.words(&format!("import {tar} debian:bench")))
                .after(e.words("rmi debian:bench"))
                .budget(AS_ITS_PARTS)
        }));
        table(&in_turn(Runs::few(), contenders))
    })
}

fn save(engines: &Engines) -> String {
    with_debian(engines, |tar, all| {
        let copy = engines.dir.join("copy.tar");
        let copy = copy.to_str().expect("plain path");
        let mut contenders = vec![
            Contender::new(
                "cp of the tar",
                words(&["cp", "--reflink=never", tar, copy]),
            )
            .before(words(&["rm", "-f", copy])),
        ];
        contenders.extend(all.iter().map(|e| {
            e.run(&format!("import {tar} debian:bench"));
            let file = engines.dir.join(format!("saved-{}.tar", e.name));
            let file = file.to_str().expect("plain path");
            Contender::new(e.name, e.words(&format!("save -o {file} debian:bench")))
                .before(words(&["rm", "-f", file]))
        }));
        let report = table(&in_turn(Runs::few(), contenders));
        for engine in all {
            engine.run("rmi debian:bench");
        }
        report
    })
}

fn load(engines: &Engines) -> String {
    with_debian(engines, |tar, all| {
        let saved = engines.dir.join("load.tar");
        let saved = saved.to_str().expect("plain path");
        all[0].run(&format!("import {tar} debian:bench"));
        all[0].run(&format!("save -o {saved} debian:bench"));
        all[0].run("rmi debian:bench");
        let mut contenders = parts(engines, tar);
        contenders.extend(all.iter().map(|e| {
            Contender::new(e.name, e.words(&format!("load -i {saved}")))
                .after(e.words("rmi debian:bench"))
                .budget(AS_ITS_PARTS)
        }));
        table(&in_turn(Runs::few(), contenders))
    })
}

fn commit(engines: &Engines) -> String {
    let script = "i=0; mkdir /files; while [ $i -lt 2000 ]; do head -c 4096 /dev/urandom > /files/$i; i=$((i+1)); done";
    for engine in &engines.engines {
        let mut words = engine.words("run --network none --name commit busybox sh -c");
        words.push(script.to_owned());
        drop(run(&words));
    }
    let contenders: Vec<_> = engines
        .engines
        .iter()
        .map(|e| {
            Contender::new(e.name, e.words("commit commit committed:1"))
                .after(e.words("rmi committed:1"))
        })
        .collect();
    let report = table(&in_turn(Runs::few(), contenders));
    for engine in &engines.engines {
        engine.run("rm -f commit");
    }
    report
}
