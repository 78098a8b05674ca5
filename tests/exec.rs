//! `exec`: a second process in a running container.

use crate::harness::{Sandbox, wait_for};

fn with_container() -> Sandbox {
    let sandbox = Sandbox::with_busybox();
    sandbox
        .run("-d --name c1 -e FROM_RUN=yes -w /tmp", "sleep 1000")
        .ok();
    sandbox
}

#[test]
fn sees_the_containers_world() {
    let sandbox = with_container();
    let output = sandbox.rctr("exec c1 sh -c 'echo $FROM_RUN; pwd; hostname; ps | grep -c \"sleep 1000\"; readlink /proc/self/ns/pid'").ok();
    let lines = output.lines();
    assert_eq!(&lines[..2], ["yes", "/tmp"]);
    assert_eq!(lines[2], &sandbox.field("c1", "{{.Id}}")[..12]);
    let pid = sandbox.field("c1", "{{.State.Pid}}");
    let namespace = std::fs::read_link(format!("/proc/{pid}/ns/pid")).unwrap();
    assert_eq!(lines[4], namespace.to_str().unwrap());
}

#[test]
fn exit_code_and_streams_are_the_commands_own() {
    let sandbox = with_container();
    let output = sandbox
        .rctr("exec c1 sh -c 'echo out; echo err >&2; exit 5'")
        .fails(5);
    assert_eq!(
        (output.stdout.as_str(), output.stderr.as_str()),
        ("out\n", "err\n")
    );
}

#[test]
fn stdin_is_fed_with_i() {
    let sandbox = with_container();
    assert_eq!(
        sandbox.rctr("exec -i c1 cat").stdin("hello").ok().stdout,
        "hello"
    );
    assert_eq!(sandbox.rctr("exec c1 cat").stdin("ignored").ok().stdout, "");
}

#[test]
fn user_environment_and_directory_are_as_asked() {
    let sandbox = with_container();
    let output = sandbox
        .rctr("exec -u www-data -e X=1 -w / c1 sh -c 'id -un; echo $X; pwd'")
        .ok();
    assert_eq!(output.lines(), ["www-data", "1", "/"]);
}

#[test]
fn detached_returns_at_once() {
    let sandbox = with_container();
    sandbox
        .rctr("exec -d c1 sh -c 'sleep 0.3; echo done > /tmp/mark'")
        .ok();
    wait_for("the detached command", || {
        sandbox.rctr("exec c1 test -e /tmp/mark").output().code == 0
    });
}

#[test]
fn has_no_more_rights_than_the_container() {
    let sandbox = Sandbox::with_busybox();
    sandbox
        .run("-d --name c1 --cap-drop ALL", "sleep 1000")
        .ok();
    let output = sandbox
        .rctr("exec c1 grep -E 'CapEff|CapBnd|Seccomp:' /proc/self/status")
        .ok();
    assert_eq!(
        output.stdout.matches("0000000000000000").count(),
        2,
        "{output}"
    );
    assert!(output.stdout.contains("Seccomp:\t2"), "{output}");
}

#[test]
fn ends_with_its_container() {
    let sandbox = with_container();
    let running = sandbox.rctr("exec c1 sleep 1000").spawn();
    wait_for("the second process", || {
        sandbox
            .rctr("top c1")
            .ok()
            .stdout
            .matches("sleep 1000")
            .count()
            == 2
    });
    sandbox.rctr("kill c1").ok();
    assert_eq!(running.wait().code, 137);
}

#[test]
fn in_a_stopped_container_is_refused() {
    let sandbox = with_container();
    sandbox.rctr("kill c1").ok();
    sandbox.rctr("wait c1").ok();
    sandbox.rctr("exec c1 true").fails(1).says("is not running");
}

#[test]
fn missing_command_is_127_and_directory_126() {
    let sandbox = with_container();
    sandbox.rctr("exec c1 no-such-command").fails(127);
    sandbox.rctr("exec c1 /tmp").fails(126);
}
