//! What an image or a container that means harm can't do: reach outside, see what is hidden from it, hang or fool those
//! who run it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::harness::{
    Sandbox, Terminal,
    archive::{self, Archive},
    images, wait_for,
};

/// With the image `evil`: busybox's files, and those of `layer` over them.
fn with_evil_image(layer: Archive) -> Sandbox {
    let sandbox = Sandbox::with_busybox();
    let layers = [fs::read(images::busybox()).unwrap(), layer.bytes()];
    sandbox
        .rctr("load")
        .stdin(archive::docker_archive("evil", &layers))
        .ok();
    sandbox
}

#[test]
fn pipes_for_account_files_hang_nobody() {
    let sandbox = with_evil_image(Archive::new().fifo("etc/passwd").fifo("etc/group"));
    let limit = Duration::from_secs(20);
    let ran = sandbox.rctr("run --rm --network none evil echo works");
    assert_eq!(ran.limit(limit).ok().line(), "works");
    sandbox
        .rctr("run -d --name c1 --network none evil sleep 1000")
        .limit(limit)
        .ok();
    let ran = sandbox.rctr("exec -u 7:8 c1 echo works").limit(limit);
    assert_eq!(ran.ok().line(), "works");
}

/// CVE-2019-19921: hidden below the name, /proc could be used by the place that the link leads to.
#[test]
fn what_the_kernel_shows_is_mounted_on_no_link() {
    for name in ["proc", "sys", "dev"] {
        let layer = Archive::new()
            .symlink(name, "/v/link")
            .dir("v")
            .dir("real")
            .symlink("v/link", "/real");
        let sandbox = with_evil_image(layer);
        for options in ["", "--tmpfs /v"] {
            sandbox
                .rctr(&format!(
                    "run --rm --network none {options} evil cat /real/keys"
                ))
                .fails(125)
                .says("is a symbolic link");
        }
    }
}

/// CVE-2019-16884.
#[test]
fn no_volume_covers_proc_or_the_root() {
    let layer = Archive::new()
        .symlink("top", "/")
        .symlink("data", "/proc")
        .symlink("more", "/proc/sys");
    let sandbox = with_evil_image(layer);
    for options in [
        "-v vol:/data",
        "-v vol:/more",
        "-v vol:/proc",
        "-v vol:/proc/sys/kernel",
        "-v .:/data",
        "--tmpfs /data",
        "--tmpfs /proc/sys",
    ] {
        sandbox
            .rctr(&format!("run --rm --network none {options} evil true"))
            .fails(125)
            .says("is inside /proc");
    }
    sandbox
        .rctr("run --rm --network none -v vol:/top evil true")
        .fails(125)
        .says("the root of the container");
    // As some do, to tell a container less.
    sandbox.file("meminfo", "MemTotal: 1 kB\n");
    let output = sandbox
        .rctr("run --rm --network none -v ./meminfo:/proc/meminfo evil cat /proc/meminfo")
        .ok();
    assert_eq!(output.line(), "MemTotal: 1 kB");
}

/// What `exec` starts has joined the container before it has given up its rights and descriptors.
#[test]
fn exec_is_not_open_to_the_container_before_its_program_runs() {
    let sandbox = Sandbox::with_busybox();
    let watch = "i=2; while :; do \
        if [ -d /proc/$i/root/. ]; then \
            read -r name < /proc/$i/comm; case $name in rctr*) echo seen $name;; esac; i=$((i+1)); \
        elif [ -e /proc/$((i+1)) ]; then i=$((i+1)); fi; \
        done 2> /dev/null";
    sandbox
        .words([
            "run",
            "-d",
            "--name",
            "c1",
            "--network",
            "none",
            "busybox",
            "sh",
            "-c",
            watch,
        ])
        .ok();
    for _ in 0..40 {
        sandbox.rctr("exec c1 sleep 0.02").ok();
    }
    assert_eq!(sandbox.rctr("logs c1").ok().stdout, "");
}

/// CVE-2019-5736.
#[test]
fn our_program_can_not_be_written_to() {
    let layer = Archive::new().symlink("bin/self", "/proc/self/exe").file(
        "bin/script",
        0o755,
        b"#!/proc/self/exe\n",
    );
    let sandbox = with_evil_image(layer);
    // Its own PID 1 is ours.
    let write = "{ echo >> /proc/1/exe && echo written; chmod 777 /proc/1/exe && echo changed; } 2> /dev/null; true";
    let output = sandbox
        .words([
            "run",
            "--rm",
            "--init",
            "--network",
            "none",
            "evil",
            "sh",
            "-c",
            write,
        ])
        .ok();
    assert_eq!(output.stdout, "");
    for program in ["/bin/self", "/bin/script"] {
        // Whatever becomes of it: the next one works.
        sandbox
            .words(["run", "--rm", "--network", "none", "evil", program])
            .output();
        assert_eq!(sandbox.run("--rm", "echo works").ok().line(), "works");
    }
}

/// CVE-2024-21626.
#[test]
fn no_descriptor_leads_out() {
    let sandbox = Sandbox::with_busybox();
    sandbox.run("-d --name c1", "sleep 1000").ok();
    for number in 0..16 {
        let directory = format!("/proc/self/fd/{number}");
        for start in [&["run", "--rm", "--network", "none"][..], &["exec"]] {
            let image = if start[0] == "run" { "busybox" } else { "c1" };
            let command = ["-w", &directory, image, "sh", "-c", "cd ../../../..; pwd"];
            let output = sandbox
                .words(start.iter().chain(&command).copied())
                .output();
            if output.code == 0 {
                assert_eq!(output.line(), "/", "{output}");
            }
        }
    }
    let open = sandbox.rctr("exec c1 ls /proc/1/fd").ok();
    assert_eq!(open.lines(), ["0", "1", "2"]);
}

/// CVE-2018-15664.
#[test]
fn cp_follows_no_link_that_appears_meanwhile() {
    let sandbox = Sandbox::with_busybox();
    sandbox.file("outside/canary", "untouched");
    sandbox.file("in/canary", "from the host");
    let outside = sandbox.work().join("outside");
    let swap = format!(
        "mkdir -p /a/x {0}; echo inside > /a/x/canary; ln -s {0} /a/link; echo inside > {0}/canary; \
        while :; do mv /a/x /a/y; mv /a/link /a/x; mv /a/x /a/link; mv /a/y /a/x; done",
        outside.display()
    );
    sandbox
        .words([
            "run",
            "-d",
            "--name",
            "c1",
            "--network",
            "none",
            "busybox",
            "sh",
            "-c",
            &swap,
        ])
        .ok();
    for round in 0..30 {
        // Either may fail when nothing is there at the moment.
        sandbox.rctr("cp in/canary c1:/a/x/canary").output();
        sandbox
            .words(["cp", "c1:/a/x/canary", &format!("out{round}")])
            .output();
        assert_eq!(sandbox.read("outside/canary"), "untouched");
        let got = fs::read_to_string(sandbox.work().join(format!("out{round}")));
        assert_ne!(got.unwrap_or_default(), "untouched");
    }
}

#[test]
fn names_do_not_command_the_readers_terminal() {
    let sandbox = Sandbox::with_busybox();
    let harm = "x\x1b]0;owned\x07";
    let output = sandbox
        .words([
            "run",
            "--rm",
            "--network",
            "none",
            "-u",
            harm,
            "busybox",
            "id",
        ])
        .fails(125)
        .says("x\\u{1b}]0;owned\\u{7}");
    assert!(!output.stderr.contains('\x1b'), "{output}");
    let tar = images::busybox().to_str().unwrap();
    sandbox.words(["import", "-m", harm, tar, "evil"]).ok();
    let mut terminal = Terminal::start(sandbox.rctr("history evil"));
    terminal.expect("x\\u{1b}]0;owned\\u{7}");
    assert_eq!(terminal.wait(), 0);
    // A program gets what is there.
    assert!(sandbox.rctr("history evil").ok().stdout.contains(harm));
}

#[test]
fn a_process_does_not_hide_behind_a_strange_name() {
    let sandbox = Sandbox::with_busybox();
    let rename = "printf '\\377\\033[2J' > /proc/$$/comm; echo done; while :; do sleep 1; done";
    sandbox
        .words([
            "run",
            "-d",
            "--name",
            "c1",
            "--network",
            "none",
            "busybox",
            "sh",
            "-c",
            rename,
        ])
        .ok();
    wait_for("the new name", || {
        sandbox.rctr("logs c1").ok().stdout == "done\n"
    });
    let output = sandbox.rctr("top c1 -o pid,comm").ok();
    assert!(output.stdout.contains("\u{fffd}?[2J"), "{output}");
    sandbox.rctr("exec c1 true").ok();
    sandbox.rctr("stop -t 0 c1").ok();
}

/// CVE-2021-41091: what is set-user-ID in an image would be so for everybody.
#[test]
fn the_store_is_nobody_elses() {
    let sandbox = Sandbox::new();
    sandbox.program("mkdir -m 755 ../store").ok();
    sandbox
        .words(["import", images::busybox().to_str().unwrap(), "busybox"])
        .ok();
    sandbox.run("-d --name c1", "sleep 1000").ok();
    for part in ["layers", "containers", "volumes", "blobs", "tmp"] {
        let mode = fs::metadata(sandbox.store().join(part)).unwrap();
        assert_eq!(mode.permissions().mode() & 0o777, 0o700, "{part}");
    }
    for entry in fs::read_dir(sandbox.dir().join("run")).unwrap() {
        let meta = entry.unwrap().metadata().unwrap();
        assert!(!meta.is_dir() || meta.permissions().mode() & 0o77 == 0);
    }
    // Other users of the container can still read its files.
    assert_eq!(
        sandbox
            .rctr("exec -u 99 c1 sh -c 'cat /etc/passwd > /dev/null && echo works'")
            .ok()
            .line(),
        "works"
    );
}
