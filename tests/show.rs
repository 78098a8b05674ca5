//! Looking at what is there: `ps`, `images`, `inspect`, `port`, `system df`, `--help`, their filters and formats.

use crate::harness::Sandbox;

/// A sandbox with one container that runs, one that ended and one that was never started.
fn three() -> Sandbox {
    let sandbox = Sandbox::with_busybox();
    sandbox
        .run("-d --name up --label role=web", "sleep 1000")
        .ok();
    sandbox
        .run("--name ended --label role=job", "sh -c 'exit 3'")
        .fails(3);
    sandbox
        .rctr("create --name fresh --label role=job --expose 80 busybox sleep 1000")
        .ok();
    sandbox
}

#[test]
fn ps_filters_choose() {
    let sandbox = three();
    let names = |filters: &str| {
        let words = ["ps", "-a", "--format", "{{.Names}}"].map(str::to_owned);
        let filters = filters.split_whitespace().map(|f| format!("--filter={f}"));
        let output = sandbox.words(words.into_iter().chain(filters)).ok();
        output.lines().join(" ")
    };
    assert_eq!(names(""), "fresh ended up");
    for (filters, want) in [
        ("name=e", "fresh ended"),
        ("name=^e", "ended"),
        ("label=role=job", "fresh ended"),
        ("label=role=job name=f", "fresh"),
        ("status=running", "up"),
        ("status=running status=exited", "ended up"),
        ("exited=3", "ended"),
        ("exited=0", ""),
        ("before=ended", "up"),
        ("since=ended", "fresh"),
        ("ancestor=busybox", "fresh ended up"),
        ("ancestor=nosuch", ""),
        ("network=none", "ended up"),
        ("health=none", "fresh ended up"),
    ] {
        assert_eq!(names(filters), want, "{filters}");
    }
    sandbox
        .rctr("ps --filter colour=red")
        .fails(1)
        .says("invalid filter 'colour'")
        .explains();
}

#[test]
fn ps_shows_what_was_asked_for() {
    let sandbox = three();
    assert_eq!(sandbox.rctr("ps -q").ok().line().len(), 12);
    assert_eq!(sandbox.rctr("ps -q --no-trunc").ok().line().len(), 64);
    assert_eq!(sandbox.rctr("ps -aq").ok().lines().len(), 3);
    assert_eq!(sandbox.rctr("ps -aqn2").ok().lines().len(), 2);
    let table = sandbox
        .words([
            "ps",
            "-l",
            "--format",
            r"table {{.Names}}\t{{.State}}\t{{.Label `role`}}",
        ])
        .ok();
    assert_eq!(
        table.lines(),
        ["NAMES     STATE     role", "fresh     created   job"]
    );
    let json = sandbox.words(["ps", "--format", "json"]).ok().line();
    let row: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&row["Names"], &row["State"]),
        (&"up".into(), &"running".into())
    );
    let ended = sandbox.rctr("ps -a --filter name=ended").ok();
    assert!(ended.lines()[1].contains("Exited (3)"), "{}", ended.stdout);
    let size = sandbox.words(["ps", "--format", "{{.Size}}"]).ok().line();
    assert!(size.contains("(virtual "), "{size}");
}

#[test]
fn a_container_of_an_untagged_image_shows_its_id() {
    let sandbox = three();
    let image = |name: &str| {
        let filter = format!("name={name}");
        let words = ["ps", "-a", "--format", "{{.Image}}", "--filter", &filter];
        sandbox.words(words).ok().line()
    };
    assert_eq!(image("up"), "busybox");
    sandbox.rctr("tag busybox other").ok();
    sandbox.rctr("rmi busybox").ok();
    let id = sandbox.field("other", "{{.Id}}");
    assert_eq!(format!("sha256:{}", image("up")), id[..19]);
}

#[test]
fn templates_fail_with_their_place() {
    let sandbox = three();
    for (template, message) in [
        (
            "{{.Nosuch}}",
            r#"template: :1:2: executing "" at <.Nosuch>: map has no entry for key "Nosuch""#,
        ),
        (
            "{{.State.Health.Status}}",
            r#"map has no entry for key "Health""#,
        ),
        ("{{nosuch .Id}}", r#"function "nosuch" not defined"#),
        ("{{.Id", "unclosed action"),
    ] {
        sandbox
            .words(["inspect", "-f", template, "up"])
            .fails(1)
            .says("template parsing error: template: :1")
            .says(message)
            .explains();
    }
    let template = "{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}";
    assert_eq!(sandbox.field("up", template), "none");
}

#[test]
fn inspect_finds_containers_images_and_volumes() {
    let sandbox = three();
    sandbox.rctr("volume create vol").ok();
    let all = sandbox.rctr("inspect up busybox vol").ok().stdout;
    let all: Vec<serde_json::Value> = serde_json::from_str(&all).unwrap();
    assert_eq!(all[0]["Name"], "/up");
    assert_eq!(all[1]["RepoTags"][0], "busybox:latest");
    assert_eq!(all[2]["Driver"], "local");
    let some = sandbox
        .rctr("inspect up nosuch")
        .fails(1)
        .says("No such object: nosuch");
    let some: Vec<serde_json::Value> = serde_json::from_str(&some.stdout).unwrap();
    assert_eq!(some.len(), 1);
    let none = sandbox.rctr("inspect nosuch").fails(1);
    assert_eq!(none.line(), "[]");
    sandbox
        .rctr("inspect --type image up")
        .fails(1)
        .says("No such image: up");
    sandbox.rctr("inspect --type planet up").fails(1).explains();
}

#[test]
fn disk_usage_counts_what_is_there() {
    let sandbox = three();
    let words = [
        "system",
        "df",
        "--format",
        "{{.Type}} {{.TotalCount}} {{.Active}}",
    ];
    assert_eq!(
        sandbox.words(words).ok().lines(),
        [
            "Images 1 1",
            "Containers 3 1",
            "Local Volumes 0 0",
            "Build Cache 0 0"
        ]
    );
}

#[test]
fn prune_asks_first_and_spares_what_runs() {
    let sandbox = three();
    sandbox
        .rctr("container prune")
        .stdin("n\n")
        .fails(1)
        .explains();
    assert_eq!(sandbox.rctr("ps -aq").ok().lines().len(), 3);
    let pruned = sandbox.rctr("container prune").stdin("y\n").ok();
    assert!(
        pruned.stdout.contains("Deleted Containers:\n"),
        "{}",
        pruned.stdout
    );
    assert!(pruned.stdout.contains("\nTotal reclaimed space: "));
    assert_eq!(sandbox.rctr("ps -aq").ok().lines().len(), 1);
    assert_eq!(sandbox.field("up", "{{.State.Running}}"), "true");
}

#[test]
fn help_is_everywhere() {
    let sandbox = Sandbox::new();
    for line in [
        "--help",
        "help",
        "ps --help",
        "help ps",
        "container --help",
        "container ls --help",
        "run --help",
    ] {
        let output = sandbox.rctr(line).ok();
        assert!(
            output.stdout.starts_with("Usage:  rctr "),
            "{line}: {}",
            output.stdout
        );
    }
    sandbox
        .rctr("ps --nosuch")
        .fails(125)
        .says("unknown flag: --nosuch")
        .explains();
    sandbox.rctr("nosuch").fails(1).explains();
    sandbox.rctr("imags").fails(1).says("did you mean 'images'");
}

#[test]
fn disk_usage_lists_each_thing_with_v() {
    let sandbox = three();
    sandbox
        .run(
            "--name writer -v vol:/v",
            "dd if=/dev/zero of=/f bs=1000 count=5",
        )
        .ok();
    sandbox.rctr("commit writer child:1").ok();
    let text = sandbox.rctr("system df -v").ok().stdout;
    let columns = |start: &str| -> Vec<String> {
        let line = text.lines().find(|line| line.starts_with(start));
        let line = line.unwrap_or_else(|| panic!("no {start:?} in {text}"));
        line.split("  ")
            .map(str::trim)
            .filter(|w| !w.is_empty())
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(
        columns("REPOSITORY"),
        [
            "REPOSITORY",
            "TAG",
            "IMAGE ID",
            "CREATED",
            "SIZE",
            "SHARED SIZE",
            "UNIQUE SIZE",
            "CONTAINERS"
        ]
    );
    let busybox = columns("busybox");
    assert_eq!(
        (&busybox[4], busybox[6].as_str(), busybox[7].as_str()),
        (&busybox[5], "0B", "4")
    );
    let child = columns("child");
    assert_eq!((child[6].as_str(), child[7].as_str()), ("5kB", "0"));
    let writer = text.lines().find(|line| line.ends_with("writer")).unwrap();
    assert!(
        writer.contains("   5kB   ") && !writer.contains("virtual"),
        "{writer}"
    );
    assert_eq!(columns("vol "), ["vol", "1", "0B"]);
    assert!(text.contains("Build cache usage: 0B\n\nCACHE ID"));
    sandbox
        .rctr("system df -v --format json")
        .fails(125)
        .says("exclude each other");
}

#[test]
fn images_tree_shows_platform_and_use() {
    let sandbox = three();
    sandbox
        .rctr("import - unused:1")
        .stdin(crate::harness::archive::Archive::new().bytes())
        .ok();
    let output = sandbox.rctr("images --tree").ok();
    let lines: Vec<Vec<&str>> = output
        .lines()
        .iter()
        .map(|line| {
            line.split("  ")
                .map(str::trim)
                .filter(|w| !w.is_empty())
                .collect()
        })
        .collect();
    assert_eq!(lines[0], ["IMAGE", "ID", "DISK USAGE", "IN USE"]);
    let place = |name: &str| lines.iter().position(|l| l[0] == name).unwrap();
    let (used, unused) = (place("busybox:latest"), place("unused:1"));
    assert_eq!(lines[used][3], "U");
    assert!(lines[used + 1][0].starts_with("└─ linux/"), "{lines:?}");
    assert_eq!(
        lines[used + 1][1],
        &sandbox.field("busybox", "{{.Id}}")["sha256:".len()..][..12]
    );
    assert_eq!(lines[unused].len(), 3);
    sandbox
        .rctr("images --tree -q")
        .fails(125)
        .says("--tree excludes");
}
