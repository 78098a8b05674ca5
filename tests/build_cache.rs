//! The build cache as `builder` shows and prunes it, and the logs of builds.

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::{Duration, SystemTime};

use rctr_storage::Store;
use rctr_storage::cache::{
    BuildEntry, BuildResult, CacheMountOrder, LogStream, Sharing, StepRecord,
};
use rctr_storage::config::ImageConfig;
use rctr_storage::digest::Digest;
use rctr_storage::image::NewImage;
use rctr_storage::layer::KeepUpper;
use rctr_storage::reference::Reference;

use crate::harness::{Account, Invocation, Sandbox};

/// What builds leave is made here, by the test's own process.
fn with_cache(make: impl FnOnce(&Store)) -> Sandbox {
    let sandbox = Sandbox::new();
    let store = Store::open(sandbox.store()).unwrap();
    make(&store);
    store.sync_build().unwrap();
    drop(store);
    if Account::current().tests_are_root() {
        let account = Account::current();
        let owner = format!("{}:{}", account.uid, account.gid);
        let mut chown = Command::new("chown");
        let status = chown.args(["-Rh", &owner]).arg(sandbox.store()).status();
        assert!(status.unwrap().success());
    }
    sandbox
}

fn step(store: &Store, name: &str, hours: u64) -> StepRecord {
    let upper = store.temp_path("upper").unwrap();
    fs::create_dir(&upper).unwrap();
    fs::write(upper.join("file"), name.repeat(1000)).unwrap();
    let record = StepRecord {
        key: Digest::of(name.as_bytes()),
        kind: "run".to_owned(),
        name: format!("RUN {name}"),
        layer: store.add_upper(&upper, KeepUpper::Move, &[]).unwrap(),
        parent: None,
        inputs: Vec::new(),
        created: "2024-05-01T10:00:00Z".to_owned(),
        duration_ms: 3,
        log: None,
    };
    store.remember_step(&record).unwrap();
    let hex = record.key.hex();
    let path = store.path(format!("cache/steps/{}/{hex}.json", &hex[..2]));
    let used = SystemTime::now() - Duration::from_secs(hours * 3600);
    fs::File::open(path).unwrap().set_modified(used).unwrap();
    record
}

/// A step that the image `app` has, an old one that it hasn't, and a cache mount.
fn three() -> Sandbox {
    with_cache(|store| {
        let kept = step(store, "kept", 0);
        let new = NewImage {
            config: ImageConfig::default(),
            layers: vec![kept.layer],
            tags: vec![Reference::parse("app").unwrap()],
            parent: None,
        };
        store.create_image(new).unwrap();
        step(store, "old", 72);
        let own = fs::metadata("/proc/self").unwrap();
        let order = CacheMountOrder {
            id: "/root/.cache",
            sharing: Sharing::Shared,
            uid: own.uid(),
            gid: own.gid(),
            mode: 0o755,
            fill: None,
        };
        let mount = store.cache_mount(&order, &mut |_| ControlFlow::Break(()));
        let mount = mount.unwrap().unwrap();
        fs::write(mount.path.join("big"), vec![7; 100_000]).unwrap();
    })
}

fn lines(command: Invocation) -> Vec<String> {
    command
        .ok()
        .lines()
        .into_iter()
        .map(str::to_owned)
        .collect()
}

fn short(name: &str) -> String {
    Digest::of(name.as_bytes()).hex()[..12].to_owned()
}

fn row(lines: &[String], start: &str) -> Vec<String> {
    let line = lines.iter().find(|line| line.starts_with(start));
    let line = line.unwrap_or_else(|| panic!("no {start} in {lines:#?}"));
    line.split("  ")
        .map(str::trim)
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

fn df(sandbox: &Sandbox) -> String {
    let format = "{{.Type}} {{.TotalCount}} {{.Active}}";
    let lines = lines(sandbox.words(["system", "df", "--format", format]));
    lines.last().unwrap().clone()
}

#[test]
fn an_empty_build_cache_is_shown_and_pruned() {
    let sandbox = Sandbox::new();
    let shown = lines(sandbox.rctr("builder du"));
    assert_eq!(shown[1..], ["Reclaimable:\t0B", "Total:\t\t0B"]);
    assert_eq!(sandbox.rctr("builder prune -f").ok().line(), "Total:\t0B");
    assert_eq!(sandbox.rctr("buildx prune -af").ok().line(), "Total:\t0B");
    sandbox
        .rctr("builder logs")
        .fails(1)
        .says("nothing was built yet");
    assert_eq!(sandbox.rctr("builder history -q").ok().stdout, "");
}

#[test]
fn build_cache_is_listed_with_what_it_takes() {
    let sandbox = three();
    let shown = lines(sandbox.rctr("builder du"));
    assert_eq!(
        row(&shown, "ID"),
        ["ID", "RECLAIMABLE", "SIZE", "LAST ACCESSED", "NAME"]
    );
    assert_eq!(
        row(&shown, &short("old"))[1..],
        ["true", "7.608kB", "3 days ago", "RUN old"]
    );
    // An image has it, too.
    assert!(row(&shown, &short("kept"))[2].ends_with("kB*"));
    assert!(
        shown.iter().any(|line| line.contains("100kB")),
        "{shown:#?}"
    );
    assert!(
        shown.contains(&"Reclaimable:\t107.6kB".to_owned()),
        "{shown:#?}"
    );
    let verbose = sandbox
        .rctr("buildx du --verbose --filter type=exec.cachemount")
        .ok();
    assert!(
        verbose
            .stdout
            .contains("Description:    cached mount /root/.cache\n")
    );
    assert!(!verbose.stdout.contains("RUN"));
    let words = [
        "builder",
        "du",
        "--format",
        "{{.Description}} {{.Shared}}",
        "--filter",
        "unused-for=24h",
    ];
    assert_eq!(lines(sandbox.words(words)), ["RUN old false"]);
    assert_eq!(df(&sandbox), "Build Cache 3 0");
    let tables = sandbox.rctr("system df -v").ok().stdout;
    assert!(tables.contains("Build cache usage: 107.6kB\n"), "{tables}");
    assert!(tables.contains(&short("old")));
}

#[test]
fn builder_prune_asks_and_spares_what_images_have() {
    let sandbox = three();
    sandbox
        .rctr("builder prune")
        .stdin("n\n")
        .fails(1)
        .explains();
    assert_eq!(df(&sandbox), "Build Cache 3 0");
    let filtered = lines(sandbox.rctr("builder prune -f --filter until=24h"));
    assert_eq!(row(&filtered, &short("old"))[1], "true");
    assert_eq!(filtered.last().unwrap(), "Total:\t7.608kB");
    let pruned = sandbox.rctr("builder prune").stdin("y\n").ok();
    assert!(
        pruned.stdout.contains("- all dangling build cache"),
        "{}",
        pruned.stdout
    );
    assert!(
        pruned.stdout.ends_with("Total:\t100kB\n"),
        "{}",
        pruned.stdout
    );
    assert_eq!(df(&sandbox), "Build Cache 1 0");
    let all = lines(sandbox.rctr("builder prune -af"));
    assert_eq!(row(&all, &short("kept"))[1], "true");
    assert_eq!(all.last().unwrap(), "Total:\t0B");
    sandbox.rctr("image inspect app").ok();
    sandbox.rctr("system check --deep").ok();
}

#[test]
fn rmi_leaves_the_build_cache() {
    let sandbox = three();
    let removed = lines(sandbox.rctr("rmi app"));
    assert_eq!(removed.len(), 2, "{removed:?}");
    assert_eq!(removed[0], "Untagged: app:latest");
    sandbox.rctr("image prune -af").ok();
    assert_eq!(df(&sandbox), "Build Cache 3 0");
    sandbox
        .rctr("system check --deep")
        .ok()
        .prints("2 cached build steps: all is well");
    let pruned = sandbox.rctr("system prune -f").ok().stdout;
    assert!(
        pruned.contains("Deleted build cache objects:\n"),
        "{pruned}"
    );
    assert_eq!(df(&sandbox), "Build Cache 0 0");
}

#[test]
fn keep_storage_keeps_the_newest() {
    let sandbox = three();
    sandbox.rctr("rmi app").ok();
    let pruned = lines(sandbox.rctr("builder prune -f --keep-storage 110kb"));
    assert_eq!(row(&pruned, &short("old"))[1], "true");
    assert_eq!(df(&sandbox), "Build Cache 2 0");
}

#[test]
fn wrong_filters_and_sizes_are_told() {
    let sandbox = Sandbox::new();
    for line in [
        "builder prune -f --filter until=tomorrow",
        "builder prune -f --filter type=planet",
        "builder prune -f --filter nosuch=1",
        "builder prune -f --filter inuse=maybe",
        "builder du --filter x",
        "builder history rm",
        "builder logs nosuch",
    ] {
        let output = sandbox.rctr(line).output();
        assert_ne!(output.code, 0, "{line}");
        output.explains();
    }
    sandbox
        .rctr("builder prune --keep-storage much")
        .fails(125)
        .says("invalid size");
    sandbox
        .rctr("builder nosuch")
        .fails(1)
        .says("unknown command: rctr builder nosuch")
        .explains();
}

#[test]
fn logs_of_builds_are_whole_and_stay() {
    let long = "x".repeat(3_000_000);
    let sandbox = with_cache(|store| {
        let log = store
            .build_log(BuildEntry {
                id: "0123456789ab".to_owned(),
                dockerfile: "Dockerfile".to_owned(),
                tags: vec!["docker.io/library/app:1".to_owned()],
                ..BuildEntry::default()
            })
            .unwrap();
        log.write(1, LogStream::Step, b"[1/2] RUN one").unwrap();
        log.write(1, LogStream::Stdout, b"half ").unwrap();
        log.write(2, LogStream::Stderr, format!("{long}\n").as_bytes())
            .unwrap();
        log.write(1, LogStream::Stdout, b"line\nno end \xff")
            .unwrap();
        log.finish(BuildResult::Failed, None, Some("exit code: 7".to_owned()))
            .unwrap();
        // One that was killed.
        store
            .build_log(BuildEntry {
                id: "9999".to_owned(),
                ..BuildEntry::default()
            })
            .unwrap();
    });
    let format = "{{.ID}} {{.Name}} {{.Status}}";
    assert_eq!(
        lines(sandbox.words(["builder", "history", "--format", format])),
        [
            "9999  () Killed",
            "0123456789ab docker.io/library/app:1 Error"
        ]
    );
    for name in ["0123", "app:1"] {
        let lines = lines(sandbox.words(["builder", "logs", name]));
        assert_eq!(lines[0], "#1 [1/2] RUN one");
        assert!(
            lines
                .iter()
                .any(|line| line.starts_with("#2 ") && line.ends_with(&long))
        );
        assert!(
            lines
                .iter()
                .any(|line| line.starts_with("#1 ") && line.ends_with(" half line"))
        );
        assert!(lines.iter().any(|line| line.contains("no end ")));
        assert_eq!(lines.last().unwrap(), "ERROR: exit code: 7");
    }
    assert_eq!(sandbox.rctr("builder logs").ok().line(), "KILLED");
    assert_eq!(sandbox.rctr("builder history rm 9999").ok().line(), "9999");
    assert_eq!(sandbox.rctr("builder ls -q").ok().line(), "0123456789ab");
}

#[test]
fn a_build_that_runs_steps_keeps_the_cache_below_its_limit() {
    // More than any disk has, as its record says: no test needs so much room.
    let sandbox = with_cache(|store| {
        let mut huge = step(store, "huge", 72);
        huge.layer.size = 1 << 60;
        store.remember_step(&huge).unwrap();
        step(store, "small", 0);
    });
    let names = || lines(sandbox.words(["builder", "du", "--format", "{{.Name}}"]));
    assert!(names().contains(&"RUN huge".to_owned()));
    sandbox.file("ctx/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    sandbox.rctr("build -q ctx").ok();
    let left = names();
    assert!(!left.contains(&"RUN huge".to_owned()), "{left:?}");
    assert!(left.contains(&"RUN small".to_owned()), "{left:?}");
    assert!(left.contains(&"COPY Dockerfile /".to_owned()), "{left:?}");
    sandbox.rctr("system check").ok();
}

#[test]
fn logs_show_what_a_cached_step_wrote_when_it_ran() {
    let sandbox = Sandbox::with_busybox();
    let dockerfile =
        "FROM busybox\nRUN echo first | tr f F\nRUN echo to stderr >&2; printf 'no end'\nRUN :\n";
    sandbox.file("ctx/Dockerfile", dockerfile);
    sandbox.rctr("build -q ctx").ok();
    let first = sandbox.rctr("builder ls -q").ok().line().to_owned();
    // Of a build of which all is cached, and of one of which that was cached.
    for _ in 0..2 {
        sandbox.rctr("build -q ctx").ok();
        let shown = lines(sandbox.rctr("builder logs"));
        let starts = |start: &str, end: &str| {
            let found = |line: &&String| line.starts_with(start) && line.ends_with(end);
            assert_eq!(
                shown.iter().filter(found).count(),
                1,
                "{start}…{end} in {shown:#?}"
            );
        };
        let number = |name: &str| {
            let line = shown.iter().find(|line| line.ends_with(name)).unwrap();
            line.split(' ').next().unwrap().to_owned() + " "
        };
        let (one, two) = (number("| tr f F"), number("'no end'"));
        starts(&one, "CACHED");
        starts(&one, &format!("in build {first} it wrote:"));
        starts(&one, " First");
        starts(&two, " to stderr");
        starts(&two, " no end");
        let silent = number("RUN :");
        assert!(!shown.contains(&format!("{silent}in build {first} it wrote:")));
    }
    let format = "{{.Steps}} {{.Cached}}";
    let counts = lines(sandbox.words(["builder", "history", "--format", format]));
    assert_eq!(counts, ["3 3", "3 3", "3 0"]);
    sandbox.words(["builder", "history", "rm", &first]).ok();
    let shown = lines(sandbox.rctr("builder logs"));
    let gone = format!("the log of build {first}, in which it was run, is no longer there");
    assert!(shown.iter().any(|line| line.ends_with(&gone)), "{shown:#?}");
}
