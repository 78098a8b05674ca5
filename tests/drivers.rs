//! The three ways to put a root file system together: the same for the user, whatever the host allows.

use crate::harness::{
    Feature, OverlayDisk, Sandbox, SmallDisk, archive, images, require, wait_for,
};

const OVERLAY: &str = "overlay";
const FUSE: &str = "fuse-overlayfs";
const COPY: &str = "copy";

/// What a container does to the files of its image: all ways in which a tree can change.
const CHANGES: &str = "sh -c '
    echo new > /new; echo more >> /etc/passwd; rm /etc/group
    rm -r /var; echo file > /var
    rm /etc/os-release; mkdir -p /etc/os-release/sub; echo x > /etc/os-release/sub/x
    rm -r /usr/sbin; mkdir /usr/sbin; echo x > /usr/sbin/x
    mkdir -p /deep/er; chown 1000:33 /deep/er; chmod 2750 /deep/er
    ln /new /again; ln -s /new /link; mkfifo /pipe; truncate -s 100M /sparse; chmod 4755 /bin/busybox
    mv /home /moved'";

fn sandbox(driver: &'static str) -> Sandbox {
    Sandbox::with_busybox().driver(driver)
}

/// Everything that a container of the image would see, but times.
fn files(sandbox: &Sandbox, image: &str) -> Vec<String> {
    let id = sandbox.rctr(&format!("create {image} true")).ok().line();
    sandbox.rctr(&format!("export -o {image}.tar {id}")).ok();
    let listing = sandbox
        .program(&format!("tar --numeric-owner -tvf {image}.tar"))
        .ok();
    let mut lines: Vec<_> = listing
        .lines()
        .into_iter()
        .map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            [&words[..3], &words[5..]].concat().join(" ")
        })
        .collect();
    lines.sort();
    sandbox.rctr(&format!("rm {id}")).ok();
    lines
}

/// A container's life, from `run` to `rm`.
fn lives(driver: &'static str) {
    let sandbox = sandbox(driver);
    sandbox.run("--name c1", CHANGES).ok();
    assert_eq!(sandbox.field("c1", "{{.Driver}}"), driver);
    let diff = sandbox.rctr("diff c1").ok();
    for line in [
        "A /new",
        "C /etc/passwd",
        "D /etc/group",
        "C /var",
        "C /etc/os-release",
        "A /etc/os-release/sub/x",
        "A /usr/sbin/x",
        "D /home",
        "A /moved",
        "A /link",
    ] {
        assert!(diff.lines().contains(&line), "{line} is missing: {diff}");
    }
    assert!(!diff.stdout.contains("/bin/sh"), "{diff}");

    sandbox.rctr("commit c1 changed").ok();
    let seen = sandbox
        .rctr("run --rm --network none changed sh -c 'cat /new /var /usr/sbin/x; ls /usr/sbin /etc/os-release; tail -n 1 /etc/passwd; stat -c %u:%g:%a /deep/er; stat -c %h /again; test -e /etc/group || echo gone'")
        .ok();
    let want = [
        "new",
        "file",
        "x",
        "/etc/os-release:",
        "sub",
        "",
        "/usr/sbin:",
        "x",
        "more",
        "1000:33:2750",
        "2",
        "gone",
    ];
    assert_eq!(seen.lines(), want);

    sandbox.file("in", "content");
    sandbox.rctr("cp in c1:/deep/in").ok();
    sandbox.rctr("cp c1:/deep/in out").ok();
    assert_eq!(sandbox.read("out"), "content");
    sandbox.rctr("export -o all.tar c1").ok();
    let listing = sandbox.program("tar tf all.tar").ok();
    assert!(listing.lines().contains(&"deep/in"), "{listing}");
    assert!(!listing.stdout.contains("etc/group"), "{listing}");

    sandbox.rctr("rm c1").ok();
    let left: Vec<_> = std::fs::read_dir(sandbox.store().join("containers"))
        .unwrap()
        .collect();
    assert!(left.is_empty(), "{left:?}");
    sandbox.rctr("system check").ok();
}

#[test]
fn container_lives_on_overlay() {
    lives(OVERLAY);
}

#[test]
fn container_lives_on_fuse_overlayfs() {
    require!(Feature::Fuse);
    lives(FUSE);
}

#[test]
fn container_lives_on_a_copy() {
    lives(COPY);
}

#[test]
fn same_changes_give_the_same_image_with_every_driver() {
    require!(Feature::Fuse);
    let mut all = [OVERLAY, FUSE, COPY].map(|driver| {
        let sandbox = sandbox(driver);
        sandbox.run("--name c1", CHANGES).ok();
        sandbox.rctr("commit c1 changed").ok();
        // A second layer, over a first one with whiteouts.
        sandbox
            .rctr("run --network none --name c2 changed sh -c 'rm -r /etc/os-release /var; mkdir /var; echo y > /var/y; rm /again; echo g > /etc/group'")
            .ok();
        sandbox.rctr("commit c2 twice").ok();
        (driver, files(&sandbox, "changed"), files(&sandbox, "twice"))
    });
    all.sort();
    for pair in all.windows(2) {
        let names = format!("{} and {}", pair[0].0, pair[1].0);
        assert_eq!(pair[0].1, pair[1].1, "one layer: {names}");
        assert_eq!(pair[0].2, pair[1].2, "two layers: {names}");
    }
}

/// podman refuses such layers: "duplicates of file paths not supported".
fn layers_have_no_path_twice(driver: &'static str) {
    let sandbox = sandbox(driver);
    sandbox.run("--name c1", CHANGES).ok();
    sandbox.rctr("commit c1 once").ok();
    sandbox
        .rctr("run --network none --name c2 once sh -c 'rm -r /deep /usr/sbin; mkdir -p /deep/er /usr/sbin; echo y > /deep/y; rm /again'")
        .ok();
    sandbox.rctr("commit c2 twice").ok();
    sandbox.rctr("save -o saved.tar twice").ok();
    sandbox.program("tar xf saved.tar").ok();
    let manifest: serde_json::Value = serde_json::from_str(&sandbox.read("manifest.json")).unwrap();
    let layers = manifest[0]["Layers"].as_array().unwrap();
    assert_eq!(layers.len(), 3);
    for layer in layers {
        let listing = sandbox
            .program(&format!("tar tf {}", layer.as_str().unwrap()))
            .ok();
        let mut seen = std::collections::HashSet::new();
        for path in listing.lines() {
            assert!(
                seen.insert(path.trim_end_matches('/')),
                "{path} is there twice: {listing}"
            );
        }
    }
    let listed = sandbox
        .rctr("run --rm --network none twice sh -c 'ls -A /deep /usr/sbin'")
        .ok();
    assert_eq!(
        listed.lines(),
        ["/deep:", "er", "y", "", "/usr/sbin:"],
        "{listed}"
    );
}

#[test]
fn layers_made_on_overlay_have_no_path_twice() {
    layers_have_no_path_twice(OVERLAY);
}

#[test]
fn layers_made_on_fuse_overlayfs_have_no_path_twice() {
    require!(Feature::Fuse);
    layers_have_no_path_twice(FUSE);
}

#[test]
fn layers_made_of_a_copy_have_no_path_twice() {
    layers_have_no_path_twice(COPY);
}

/// Files stay when the container is stopped; while it runs, they are seen from outside.
fn keeps_files(driver: &'static str) {
    let sandbox = sandbox(driver);
    sandbox.file("seed", "seed\n");
    sandbox
        .rctr("create --network none --name c1 -v vol:/etc busybox sh -c 'cat /seed; echo run >> /runs; wc -l < /runs; sleep 1000'")
        .ok();
    // Before it was ever started.
    assert_eq!(sandbox.rctr("diff c1").ok().stdout, "");
    sandbox.rctr("cp seed c1:/seed").ok();
    for count in 1..=2 {
        sandbox.rctr("start c1").ok();
        wait_for("the program's output", || {
            let logs = sandbox.rctr("logs c1").ok();
            logs.lines().len() == 2 * count
        });
        assert_eq!(
            sandbox.rctr("exec c1 wc -l /runs").ok().line(),
            format!("{count} /runs")
        );
        sandbox.rctr("commit c1 live").ok();
        sandbox.rctr("export -o live.tar c1").ok();
        let listing = sandbox.program("tar tf live.tar").ok();
        assert!(listing.lines().contains(&"runs"), "{listing}");
        // What is mounted in it isn't its own.
        assert!(!listing.stdout.contains("proc/self"), "{listing}");
        sandbox.rctr("kill c1").ok();
        sandbox.rctr("wait c1").ok();
    }
    // The volume was filled from the image.
    assert!(
        sandbox
            .run("--rm -v vol:/v", "cat /v/passwd")
            .ok()
            .stdout
            .contains("www-data")
    );
    let size = sandbox.rctr("ps -a -s --format {{.Size}}").ok().line();
    assert!(!size.starts_with("0B"), "{size}");
    sandbox.rctr("rm c1").ok();
}

#[test]
fn files_are_kept_on_overlay() {
    keeps_files(OVERLAY);
}

#[test]
fn files_are_kept_on_fuse_overlayfs() {
    require!(Feature::Fuse);
    keeps_files(FUSE);
}

#[test]
fn files_are_kept_in_a_copy() {
    keeps_files(COPY);
}

#[test]
fn unchanged_copy_has_no_size_and_no_changes() {
    let sandbox = sandbox(COPY);
    sandbox.run("--name c1 --read-only", "true").ok();
    assert_eq!(sandbox.rctr("diff c1").ok().stdout, "");
    let size = sandbox.rctr("ps -a -s --format {{.Size}}").ok().line();
    assert!(size.starts_with("0B"), "{size}");
    sandbox
        .run("--rm --read-only", "sh -c 'echo x > /x'")
        .fails(1)
        .says("Read-only");
}

#[test]
fn container_keeps_the_driver_that_it_was_made_with() {
    let sandbox = sandbox(COPY);
    sandbox
        .run("--name c1", "sh -c 'echo x >> /x; wc -l /x'")
        .ok();
    let output = sandbox.rctr("start -a c1").env("RCTR_DRIVER", OVERLAY).ok();
    assert_eq!(output.line(), "2 /x");
    assert_eq!(sandbox.field("c1", "{{.Driver}}"), COPY);
}

#[test]
fn only_what_rm_will_remove_is_volatile() {
    let sandbox = sandbox(OVERLAY);
    let root = "sh -c 'grep \" / overlay \" /proc/mounts'";
    let options = |more: &str| sandbox.run(more, root).ok().line();
    assert!(options("--rm").contains("volatile"));
    assert!(!options("--name kept").contains("volatile"));
}

/// Overlay refuses to mount again what was volatile.
#[test]
fn files_of_an_rm_container_whose_monitor_was_killed_can_be_copied() {
    let sandbox = sandbox(OVERLAY);
    let command = "sh -c 'echo kept >/file; exec sleep 1000'";
    sandbox.run("-d --rm --name c1", command).ok();
    wait_for("the file", || {
        sandbox.rctr("exec c1 cat /file").output().stdout == "kept\n"
    });
    let processes = sandbox.processes();
    let monitor = processes.iter().find(|p| p.command.contains("monitor"));
    monitor.expect("a monitor is named so in ps").kill();
    wait_for("the end to be seen", || {
        sandbox.rctr("ps -q").ok().stdout.is_empty()
    });
    let target = sandbox.work().join("file");
    sandbox
        .rctr(&format!("cp c1:/file {}", target.display()))
        .ok();
    assert_eq!(std::fs::read_to_string(target).unwrap(), "kept\n");
}

#[test]
fn driver_can_be_asked_for() {
    let sandbox = Sandbox::with_busybox();
    let info = |driver| {
        let info = sandbox.rctr("info --format {{.Driver}}");
        info.env("RCTR_DRIVER", driver).ok().line()
    };
    assert_eq!(info(COPY), COPY);
    assert_eq!(info(FUSE), FUSE);
    let run = sandbox
        .rctr("create busybox true")
        .env("RCTR_DRIVER", "zfs");
    run.fails(125).explains().says("RCTR_DRIVER=zfs").says(FUSE);
}

#[test]
fn store_that_overlay_refuses_has_another_driver() {
    require!(Feature::Mounts);
    let mut sandbox = Sandbox::new();
    let disk = OverlayDisk::new(&sandbox);
    sandbox = sandbox.store_at(disk.path().join("store")).best_driver();
    sandbox
        .words(["import", images::busybox().to_str().unwrap(), "busybox"])
        .ok();
    // Not FUSE either: there is no whiteout that it would understand.
    let driver = sandbox.rctr("info --format {{.Driver}}").ok().line();
    assert_eq!(driver, COPY);
    sandbox
        .run("--name c1", "sh -c 'echo x > /x; rm /etc/group'")
        .ok();
    assert_eq!(sandbox.field("c1", "{{.Driver}}"), driver);
    sandbox.rctr("commit c1 img").ok();
    sandbox
        .rctr("run --rm --network none img sh -c 'test -e /x -a ! -e /etc/group'")
        .ok();
    sandbox.rctr("doctor").output().prints("full copy");
    sandbox.rctr("rm c1").ok();
    drop(disk);
}

#[test]
fn copy_that_does_not_fit_leaves_nothing() {
    require!(Feature::Mounts);
    let tar = std::fs::read(images::busybox()).unwrap();
    let mut sandbox = Sandbox::new();
    let disk = SmallDisk::new(&sandbox, 4 * tar.len() as u64);
    sandbox = sandbox.store_at(disk.path().join("store")).driver(COPY);
    sandbox.rctr("import - busybox").stdin(tar).ok();
    sandbox
        .rctr("create --network none --name c1 busybox true")
        .ok();
    let ballast = disk.path().join("ballast");
    sandbox
        .program(&format!("dd if=/dev/zero of={} bs=64k", ballast.display()))
        .fails(1);
    // Enough for all but the copy.
    let file = std::fs::File::options().write(true).open(&ballast).unwrap();
    let size = file.metadata().unwrap().len();
    file.set_len(size - (512 << 10)).unwrap();
    drop(file);
    let output = sandbox.rctr("start c1").output();
    assert_ne!(output.code, 0, "{output}");
    output.says("space left");
    sandbox.rctr("system check").ok();
    std::fs::remove_file(&ballast).unwrap();
    sandbox.rctr("start -a c1").ok();
    sandbox.rctr("rm c1").ok();
    drop(disk);
}

#[test]
fn killed_copy_is_made_anew() {
    let sandbox = sandbox(COPY);
    let mut many = archive::Archive::new();
    for number in 0..5000 {
        many = many.file(&format!("many/{number}"), 0o644, b"x");
    }
    sandbox.rctr("import - many").stdin(many.bytes()).ok();
    sandbox.run("--name c1", "true").ok();
    sandbox
        .rctr("create --network none --name c2 many true")
        .ok();
    let tmp = sandbox.store().join("tmp");
    let under_way = || {
        let sessions = std::fs::read_dir(&tmp).unwrap().flatten();
        sessions
            .into_iter()
            .any(|session| session.path().join("flat-0/fs/many/1").exists())
    };
    let start = sandbox.rctr("start c2").spawn();
    wait_for("the copying", under_way);
    let killed = sandbox
        .processes()
        .into_iter()
        .filter(|process| process.command.contains("monitor"))
        .map(|monitor| monitor.kill())
        .count();
    assert_eq!(killed, 1);
    assert_ne!(start.wait().code, 0);
    sandbox.rctr("export -o c2.tar c2").ok();
    let listing = sandbox.program("tar tf c2.tar").ok();
    assert_eq!(listing.lines().len(), 5001);
    assert_eq!(sandbox.rctr("diff c2").ok().stdout, "");
    assert!(!under_way());
    sandbox.rctr("rm c2").ok();
}

/// Once the harness, when it tidied up after a test with a disk of its own, killed what other tests had running.
#[test]
fn mounted_disk_makes_no_process_of_others_ours() {
    require!(Feature::Mounts);
    let (ours, theirs) = (Sandbox::new(), Sandbox::new());
    let disk = SmallDisk::new(&ours, 1 << 20);
    let pipe = format!("{}/pipe", theirs.dir().display());
    let looking = theirs
        .program(&format!(
            "unshare --user --map-root-user --mount sh -c 'mkfifo {pipe}; read line <{pipe}'"
        ))
        .spawn();
    wait_for("the process", || !theirs.processes().is_empty());
    wait_for("its namespace", || {
        let of = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
        let pid = theirs.processes()[0].pid.to_string();
        of(&pid) != of("self")
    });
    assert_eq!(ours.processes(), []);
    theirs.processes()[0].kill();
    looking.wait();
    drop(disk);
}
