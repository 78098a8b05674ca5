//! `logs`: what a container has printed, kept after its end.

use crate::harness::{Sandbox, wait_for};

#[test]
fn streams_stay_apart_and_in_order() {
    let sandbox = Sandbox::with_busybox();
    sandbox
        .run("--name c1", "sh -c 'echo one; echo two >&2; echo three'")
        .ok();
    let output = sandbox.rctr("logs c1").ok();
    assert_eq!(
        (output.stdout.as_str(), output.stderr.as_str()),
        ("one\nthree\n", "two\n")
    );
}

#[test]
fn detached_output_is_kept() {
    let sandbox = Sandbox::with_busybox();
    sandbox
        .run("-d --name c1", "sh -c 'echo kept; printf unfinished'")
        .ok();
    sandbox.rctr("wait c1").ok();
    assert_eq!(sandbox.rctr("logs c1").ok().stdout, "kept\nunfinished");
}

#[test]
fn tail_since_until_and_timestamps() {
    let sandbox = Sandbox::with_busybox();
    sandbox
        .run(
            "--name c1",
            "sh -c 'for i in 1 2 3 4 5; do echo line$i; done'",
        )
        .ok();
    assert_eq!(
        sandbox.rctr("logs --tail 2 c1").ok().stdout,
        "line4\nline5\n"
    );
    assert_eq!(sandbox.rctr("logs -n 1 c1").ok().stdout, "line5\n");
    assert_eq!(
        sandbox
            .rctr("logs --since 2100-01-01T00:00:00 c1")
            .ok()
            .stdout,
        ""
    );
    assert_eq!(
        sandbox
            .rctr("logs --until 2000-01-01T00:00:00 c1")
            .ok()
            .stdout,
        ""
    );
    assert_eq!(sandbox.rctr("logs --since 1h c1").ok().lines().len(), 5);
    let output = sandbox.rctr("logs -t --tail 1 c1").ok();
    let (time, text) = output.stdout.split_once(' ').unwrap();
    assert!(
        time.starts_with("20") && time.ends_with('Z') && time.contains('T'),
        "{time}"
    );
    assert_eq!(text, "line5\n");
}

#[test]
fn follow_goes_on_until_the_container_ends() {
    let sandbox = Sandbox::with_busybox();
    sandbox
        .run(
            "-d --name c1",
            "sh -c 'echo first; until test -e /go; do sleep 0.05; done; echo last'",
        )
        .ok();
    let mut following = sandbox.rctr("logs -f c1").spawn();
    following.expect("first");
    assert!(!following.ended());
    sandbox.rctr("exec c1 touch /go").ok();
    assert_eq!(following.wait().stdout, "first\nlast\n");
}

#[test]
fn two_followers_and_a_reader_that_leaves_do_no_harm() {
    let sandbox = Sandbox::with_busybox();
    sandbox
        .run(
            "-d --name c1",
            "sh -c 'i=0; while test $i -lt 3000; do echo line $i; i=$((i+1)); done; sleep 1000'",
        )
        .ok();
    let first = sandbox.rctr("logs -f c1").spawn();
    let second = sandbox.rctr("logs -f c1").spawn();
    first.expect("line 2999\n");
    second.expect("line 2999\n");
    first.signal(nix::sys::signal::Signal::SIGKILL);
    first.wait();
    assert_eq!(sandbox.rctr("logs c1").ok().lines().len(), 3000);
    sandbox.rctr("rm -f c1").ok();
    assert_eq!(second.wait().stdout.lines().count(), 3000);
}

#[test]
fn attach_shows_what_comes_and_returns_the_exit_code() {
    let sandbox = Sandbox::with_busybox();
    sandbox
        .run(
            "-d --name c1",
            "sh -c 'until test -e /go; do sleep 0.05; done; echo late; exit 6'",
        )
        .ok();
    let attached = sandbox.rctr("attach --no-stdin c1").spawn();
    wait_for("attach to be there", || {
        std::thread::sleep(std::time::Duration::from_millis(100));
        true
    });
    sandbox.rctr("exec c1 touch /go").ok();
    let output = attached.wait();
    assert_eq!((output.code, output.stdout.as_str()), (6, "late\n"));
}

#[test]
fn details_are_what_the_log_options_name() {
    let sandbox = Sandbox::with_busybox();
    let options =
        "--label role=web --label other=x -e 'A=1, 2' --log-opt labels=role,none --log-opt env=A";
    sandbox
        .run(&format!("--name c1 {options}"), "echo line")
        .ok();
    let output = sandbox.rctr("logs --details c1").ok();
    assert_eq!(output.stdout, "A=1%2C+2,role=web line\n");
    // Docker's blank stays when there is nothing to tell.
    sandbox.run("--name c2", "echo line").ok();
    assert_eq!(sandbox.rctr("logs --details c2").ok().stdout, " line\n");
    assert_eq!(sandbox.rctr("logs c1").ok().stdout, "line\n");
}
