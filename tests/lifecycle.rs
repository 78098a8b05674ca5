//! From `create` to `rm`: states, names, and the commands that change and show them.

use crate::harness::{Sandbox, wait_for};

#[test]
fn stop_asks_first_and_kills_after_the_timeout() {
    let sandbox = Sandbox::with_busybox();
    sandbox
        .run(
            "-d --name polite",
            "sh -c 'trap \"exit 0\" TERM; echo up; while :; do sleep 0.05; done'",
        )
        .ok();
    wait_for("the trap", || {
        sandbox.rctr("logs polite").ok().stdout.contains("up")
    });
    assert_eq!(sandbox.rctr("stop polite").ok().line(), "polite");
    assert_eq!(
        sandbox.field("polite", "{{.State.Status}} {{.State.ExitCode}}"),
        "exited 0"
    );
    // Process 1 ignores what it does not handle: only SIGKILL ends this one.
    sandbox.run("-d --name deaf", "sleep 1000").ok();
    sandbox.rctr("stop -t 1 deaf").ok();
    assert_eq!(
        sandbox.field("deaf", "{{.State.Status}} {{.State.ExitCode}}"),
        "exited 137"
    );
    sandbox.rctr("stop deaf").ok();
}

#[test]
fn stop_signal_of_the_container_is_used() {
    let sandbox = Sandbox::with_busybox();
    sandbox
        .run(
            "-d --name c1 --stop-signal USR1 --stop-timeout 20",
            "sh -c 'trap \"exit 7\" USR1; echo up; while :; do sleep 0.05; done'",
        )
        .ok();
    wait_for("the trap", || {
        sandbox.rctr("logs c1").ok().stdout.contains("up")
    });
    sandbox.rctr("stop c1").ok();
    assert_eq!(sandbox.field("c1", "{{.State.ExitCode}}"), "7");
}

#[test]
fn start_again_keeps_the_files() {
    let sandbox = Sandbox::with_busybox();
    sandbox
        .run("--name c1", "sh -c 'echo x >> /count; wc -l < /count'")
        .ok();
    assert_eq!(sandbox.rctr("start -a c1").ok().line().trim(), "2");
    assert_eq!(sandbox.rctr("start -a c1").ok().line().trim(), "3");
}

#[test]
fn restart_gives_a_new_process() {
    let sandbox = Sandbox::with_busybox();
    sandbox.run("-d --name c1", "sleep 1000").ok();
    let before = sandbox.field("c1", "{{.State.Pid}}");
    assert_eq!(sandbox.rctr("restart -t 0 c1").ok().line(), "c1");
    assert_eq!(sandbox.field("c1", "{{.State.Running}}"), "true");
    assert_ne!(sandbox.field("c1", "{{.State.Pid}}"), before);
}

#[test]
fn wait_prints_each_exit_code() {
    let sandbox = Sandbox::with_busybox();
    sandbox
        .run("-d --name aa", "sh -c 'sleep 0.3; exit 6'")
        .ok();
    sandbox.run("-d --name bb", "sh -c 'exit 7'").ok();
    assert_eq!(sandbox.rctr("wait aa bb").ok().lines(), ["6", "7"]);
}

#[test]
fn kill_sends_the_named_signal() {
    let sandbox = Sandbox::with_busybox();
    sandbox
        .run(
            "-d --name c1",
            "sh -c 'trap \"echo hup\" HUP; echo up; while :; do sleep 0.05; done'",
        )
        .ok();
    wait_for("the trap", || {
        sandbox.rctr("logs c1").ok().stdout.contains("up")
    });
    sandbox.rctr("kill -s HUP c1").ok();
    wait_for("the signal", || {
        sandbox.rctr("logs c1").ok().stdout.contains("hup")
    });
    sandbox.rctr("kill c1").ok();
    sandbox.rctr("wait c1").ok().prints("137");
    sandbox.rctr("kill c1").fails(1).says("is not running");
}

#[test]
fn rm_refuses_a_running_container_unless_forced() {
    let sandbox = Sandbox::with_busybox();
    sandbox.run("-d --name c1", "sleep 1000").ok();
    sandbox
        .rctr("rm c1")
        .fails(1)
        .says("cannot remove container")
        .explains();
    assert_eq!(sandbox.field("c1", "{{.State.Running}}"), "true");
    assert_eq!(sandbox.rctr("rm -f c1").ok().line(), "c1");
    sandbox.assert_nothing_left();
    sandbox.assert_clean();
}

#[test]
fn name_is_free_again_after_rm_and_rename() {
    let sandbox = Sandbox::with_busybox();
    sandbox.run("--name first", "true").ok();
    sandbox.rctr("rename first second").ok();
    sandbox.run("--name first", "true").ok();
    sandbox.rctr("rename first second").fails(1);
    sandbox.rctr("rm first second").ok();
    sandbox.run("--name first", "true").ok();
}

#[test]
fn several_names_fail_one_by_one() {
    let sandbox = Sandbox::with_busybox();
    sandbox.run("--name aa", "true").ok();
    sandbox.run("--name bb", "true").ok();
    let output = sandbox
        .rctr("rm aa nope bb")
        .fails(1)
        .says("No such container: nope");
    assert_eq!(output.lines(), ["aa", "bb"]);
}

#[test]
fn ps_tells_state_command_and_name() {
    let sandbox = Sandbox::with_busybox();
    sandbox.run("-d --name up", "sleep 1000").ok();
    sandbox.run("--name ended", "sh -c 'exit 3'").fails(3);
    sandbox
        .rctr("create --network none --name made busybox true")
        .ok();
    let output = sandbox.rctr("ps").ok();
    assert_eq!(output.lines().len(), 2);
    for word in [
        "CONTAINER ID",
        "IMAGE",
        "COMMAND",
        "CREATED",
        "STATUS",
        "PORTS",
        "NAMES",
    ] {
        assert!(output.lines()[0].contains(word), "{output}");
    }
    assert!(
        output.lines()[1].contains("\"sleep 1000\"") && output.lines()[1].contains("Up "),
        "{output}"
    );
    let all = sandbox
        .rctr("ps -a --format '{{.Names}}|{{.State}}|{{.Status}}'")
        .ok();
    assert_eq!(all.lines()[0], "made|created|Created");
    assert!(
        all.lines()[1].starts_with("ended|exited|Exited (3) "),
        "{all}"
    );
    assert!(all.lines()[2].starts_with("up|running|Up "), "{all}");
    assert_eq!(
        sandbox
            .rctr("ps -aq --filter status=exited --filter name=end")
            .ok()
            .lines()
            .len(),
        1
    );
    assert_eq!(sandbox.rctr("ps -lq").ok().lines().len(), 1);
}

#[test]
fn short_id_is_enough_and_an_ambiguous_one_is_refused() {
    let sandbox = Sandbox::with_busybox();
    let id = sandbox.run("-d", "sleep 1000").ok().line();
    assert_eq!(sandbox.field(&id[..12], "{{.Id}}"), id);
    assert_eq!(sandbox.field(&id[..4], "{{.Id}}"), id);
    sandbox.rctr("inspect zzz").fails(1).says("No such");
}

#[test]
fn inspect_has_dockers_shape() {
    let sandbox = Sandbox::with_busybox();
    sandbox
        .run("-d --name c1 -e A=1 --label l=v", "sleep 1000")
        .ok();
    let c = sandbox.inspect("c1");
    assert_eq!(
        (&c["Name"], &c["Path"], &c["Args"][0]),
        (&"/c1".into(), &"sleep".into(), &"1000".into())
    );
    assert_eq!(
        (&c["State"]["Status"], &c["State"]["Running"]),
        (&"running".into(), &true.into())
    );
    assert_eq!(
        (&c["Config"]["Image"], &c["Config"]["Labels"]["l"]),
        (&"busybox".into(), &"v".into())
    );
    assert!(c["Image"].as_str().unwrap().starts_with("sha256:"));
    for key in [
        "Id",
        "Created",
        "HostConfig",
        "Mounts",
        "NetworkSettings",
        "LogPath",
        "RestartCount",
        "Driver",
        "GraphDriver",
    ] {
        assert!(!c[key].is_null(), "no {key}");
    }
    let pid = &c["State"]["Pid"];
    assert!(std::path::Path::new(&format!("/proc/{pid}")).exists());
    assert_eq!(
        sandbox
            .field("c1", "{{range .Config.Env}}{{println .}}{{end}}")
            .lines()
            .filter(|l| *l == "A=1")
            .count(),
        1
    );
    assert_eq!(
        sandbox.field("c1", "{{json .Config.Cmd}}"),
        "[\"sleep\",\"1000\"]"
    );
}

#[test]
fn top_shows_the_processes() {
    let sandbox = Sandbox::with_busybox();
    sandbox.run("-d --name c1", "sleep 1000").ok();
    sandbox
        .rctr("top c1")
        .ok()
        .prints("PID")
        .prints("sleep 1000");
}

#[test]
fn reading_commands_leave_no_trace_in_an_empty_home() {
    let sandbox = Sandbox::new();
    assert_eq!(sandbox.rctr("ps -q").ok().stdout, "");
    assert_eq!(sandbox.rctr("images -q").ok().stdout, "");
    sandbox.rctr("info").ok();
    sandbox.rctr("version").ok();
    sandbox.rctr("doctor").output();
}

#[test]
fn group_forms_mean_the_same() {
    let sandbox = Sandbox::with_busybox();
    sandbox
        .rctr("container run -d --network none --name c1 busybox sleep 1000")
        .ok();
    for list in [
        "container ls -q",
        "container ps -q",
        "ps -q",
        "container list -q",
    ] {
        assert_eq!(sandbox.rctr(list).ok().lines().len(), 1, "{list}");
    }
    assert_eq!(
        sandbox.rctr("image ls -q").ok().stdout,
        sandbox.rctr("images -q").ok().stdout
    );
    sandbox.rctr("container rm -f c1").ok();
}
