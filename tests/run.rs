//! `run` and `create`: what a container's first process sees, and how its end is told.

use crate::harness::{Sandbox, wait_for};
use nix::sys::signal::Signal;

#[test]
fn output_streams_stay_apart() {
    let sandbox = Sandbox::with_busybox();
    let output = sandbox.run("--rm", "sh -c 'echo out; echo err >&2'").ok();
    assert_eq!(
        (output.stdout.as_str(), output.stderr.as_str()),
        ("out\n", "err\n")
    );
}

#[test]
fn exit_code_is_the_commands_own() {
    let sandbox = Sandbox::with_busybox();
    sandbox.run("--rm", "sh -c 'exit 3'").fails(3);
}

#[test]
fn exit_code_of_signal_is_128_plus_n() {
    let sandbox = Sandbox::with_busybox();
    let running = sandbox
        .run("--rm --name victim", "sh -c 'echo up; exec sleep 100'")
        .spawn();
    running.expect("up");
    sandbox.rctr("kill victim").ok();
    assert_eq!(running.wait().code, 137);
}

#[test]
fn stdin_is_read_to_its_end() {
    let sandbox = Sandbox::with_busybox();
    let output = sandbox
        .run("--rm -i", "wc -c")
        .stdin(vec![b'x'; 300_000])
        .ok();
    assert_eq!(output.line().trim(), "300000");
}

#[test]
fn without_i_stdin_is_empty() {
    let sandbox = Sandbox::with_busybox();
    let output = sandbox.run("--rm", "wc -c").stdin("ignored").ok();
    assert_eq!(output.line().trim(), "0");
}

#[test]
fn binary_output_is_not_changed() {
    let sandbox = Sandbox::with_busybox();
    let output = sandbox
        .run(
            "--rm",
            "sh -c 'head -c 1000000 /dev/zero; printf \"\\001\\377\"'",
        )
        .ok();
    assert_eq!(output.bytes.len(), 1_000_002);
    assert_eq!(output.bytes[1_000_000..], [1, 255]);
}

#[test]
fn detached_prints_the_full_id() {
    let sandbox = Sandbox::with_busybox();
    let id = sandbox.run("-d", "sleep 100").ok().line();
    assert!(
        id.len() == 64 && id.chars().all(|c| c.is_ascii_hexdigit()),
        "{id}"
    );
    assert_eq!(sandbox.rctr("ps -q --no-trunc").ok().line(), id);
}

#[test]
fn rm_leaves_nothing() {
    let sandbox = Sandbox::with_busybox();
    sandbox.run("--rm", "true").ok();
    sandbox.run("--rm", "sh -c 'exit 8'").fails(8);
    assert_eq!(sandbox.rctr("ps -aq").ok().stdout, "");
    sandbox.assert_nothing_left();
}

#[test]
fn environment_user_and_working_directory_are_as_asked() {
    let sandbox = Sandbox::with_busybox();
    sandbox.file("vars", "# comment\nFROM_FILE=two words\n");
    let output = sandbox
        .run(
            "--rm -e A=1 -e HOSTVAR --env-file vars -u 1000:1000 -w /made/here",
            "sh -c 'echo $A,$HOSTVAR,$FROM_FILE; id -u; id -g; pwd'",
        )
        .env("HOSTVAR", "from host")
        .ok();
    assert_eq!(
        output.lines(),
        ["1,from host,two words", "1000", "1000", "/made/here"]
    );
}

#[test]
fn named_user_and_groups_come_from_the_images_files() {
    let sandbox = Sandbox::with_busybox();
    let output = sandbox
        .run(
            "--rm -u www-data --group-add staff",
            "sh -c 'id -un; id -Gn; echo $HOME'",
        )
        .ok();
    assert_eq!(output.lines(), ["www-data", "www-data staff", "/var/www"]);
}

#[test]
fn hostname_is_set_and_resolves() {
    let sandbox = Sandbox::with_busybox();
    let output = sandbox
        .run(
            "--rm -h box --add-host other:10.9.8.7",
            "sh -c 'hostname; cat /etc/hostname; cat /etc/hosts'",
        )
        .ok();
    assert_eq!(&output.lines()[..2], ["box", "box"]);
    assert!(output.stdout.contains("10.9.8.7\tother"), "{output}");
}

#[test]
fn process_one_is_the_command_and_no_other_process_is_seen() {
    let sandbox = Sandbox::with_busybox();
    let output = sandbox
        .run("--rm", "sh -c 'echo $$; ls -d /proc/[0-9]* | wc -l'")
        .ok();
    assert_eq!(output.lines()[0], "1");
    assert!(
        output.lines()[1].trim().parse::<u32>().unwrap() <= 3,
        "{output}"
    );
}

#[test]
fn init_reaps_orphans_and_forwards_signals() {
    let sandbox = Sandbox::with_busybox();
    let script =
        "sh -c 'trap \"echo got-term; exit 9\" TERM; echo up $$; while :; do sleep 0.1; done'";
    let running = sandbox.run("--rm --init --name init", script).spawn();
    running.expect("up");
    assert!(!running.stdout().contains("up 1\n"));
    sandbox.rctr("stop init").ok();
    running.expect("got-term");
    assert_eq!(running.wait().code, 9);
}

#[test]
fn signals_to_the_client_reach_the_command() {
    let sandbox = Sandbox::with_busybox();
    let script = "sh -c 'trap \"echo got-int; exit 11\" INT; echo up; while :; do sleep 0.1; done'";
    let running = sandbox.run("--rm", script).spawn();
    running.expect("up");
    running.signal(Signal::SIGINT);
    assert_eq!(running.wait().code, 11);
}

#[test]
fn root_of_the_container_is_not_root_outside() {
    let sandbox = Sandbox::with_busybox();
    let dir = sandbox.work();
    sandbox
        .run(
            &format!("--rm -v {}:/w", dir.display()),
            "sh -c 'id -u; echo made > /w/made'",
        )
        .ok()
        .prints("0\n");
    let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(dir.join("made")).unwrap());
    let user = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(&dir).unwrap());
    assert_eq!(owner, user);
    assert_ne!(owner, 0);
}

#[test]
fn default_capabilities_are_dockers_fourteen() {
    let sandbox = Sandbox::with_busybox();
    let mask = |options: &str| {
        let output = sandbox.run(options, "grep CapEff /proc/self/status").ok();
        u64::from_str_radix(output.line().split_whitespace().last().unwrap(), 16).unwrap()
    };
    assert_eq!(mask("--rm"), 0xa804_25fb);
    assert_eq!(mask("--rm --cap-drop ALL"), 0);
    assert_eq!(mask("--rm --cap-drop ALL --cap-add CHOWN"), 1);
    assert_eq!(mask("--rm --cap-add SYS_PTRACE"), 0xa804_25fb | 1 << 19);
}

#[test]
fn seccomp_filter_and_no_new_privileges_are_on() {
    let sandbox = Sandbox::with_busybox();
    sandbox
        .run("--rm", "grep Seccomp: /proc/self/status")
        .ok()
        .prints("2");
    sandbox
        .run(
            "--rm --security-opt seccomp=unconfined",
            "grep Seccomp: /proc/self/status",
        )
        .ok()
        .prints("0");
    sandbox
        .run(
            "--rm --security-opt no-new-privileges",
            "grep NoNewPrivs /proc/self/status",
        )
        .ok()
        .prints("1");
    // unshare of a user namespace is what the default profile refuses.
    sandbox
        .run("--rm", "unshare -U true")
        .output()
        .says("Operation not permitted");
}

#[test]
fn kernel_settings_are_hidden_and_read_only() {
    let sandbox = Sandbox::with_busybox();
    sandbox
        .run("--rm", "sh -c 'echo 1 > /proc/sys/kernel/domainname'")
        .fails(1);
    sandbox
        .run(
            "--rm",
            "sh -c 'cat /proc/kcore /proc/keys /proc/timer_list | wc -c'",
        )
        .output()
        .prints("0\n");
    sandbox.run("--rm", "sh -c 'mkdir /sys/x'").fails(1);
}

#[test]
fn device_nodes_work() {
    let sandbox = Sandbox::with_busybox();
    let script = "sh -c 'for d in null zero full random urandom tty ptmx; do test -c /dev/$d || echo no $d; done; \
        test -d /dev/shm -a -d /dev/pts -a -d /dev/mqueue || echo no dirs; \
        for l in stdin stdout stderr fd; do test -L /dev/$l || echo no $l; done; \
        head -c 4 /dev/zero | wc -c; echo x > /dev/null; ls -A /dev/shm'";
    assert_eq!(sandbox.run("--rm", script).ok().line().trim(), "4");
}

#[test]
fn shm_size_and_tmpfs_options_count() {
    let sandbox = Sandbox::with_busybox();
    let output = sandbox
        .run(
            "--rm --shm-size 8m --tmpfs /t:size=4m,mode=1777",
            "sh -c 'df -k /dev/shm /t | tail -n 2; stat -c %a /t'",
        )
        .ok();
    let sizes: Vec<_> = output
        .lines()
        .iter()
        .take(2)
        .map(|l| l.split_whitespace().nth(1).unwrap().to_owned())
        .collect();
    assert_eq!(sizes, ["8192", "4096"]);
    assert_eq!(output.lines()[2], "1777");
}

#[test]
fn ulimits_and_sysctls_are_set() {
    let sandbox = Sandbox::with_busybox();
    let output = sandbox
        .run(
            "--rm --ulimit nofile=300:400 --sysctl net.ipv4.ip_unprivileged_port_start=0",
            "sh -c 'ulimit -Sn; ulimit -Hn; cat /proc/sys/net/ipv4/ip_unprivileged_port_start'",
        )
        .ok();
    assert_eq!(output.lines(), ["300", "400", "0"]);
}

#[test]
fn read_only_root_refuses_writes_but_volumes_take_them() {
    let sandbox = Sandbox::with_busybox();
    sandbox
        .run("--rm --read-only", "touch /x")
        .fails(1)
        .says("Read-only");
    sandbox
        .run(
            "--rm --read-only -v data:/data --tmpfs /tmp",
            "sh -c 'touch /data/x /tmp/x'",
        )
        .ok();
}

#[test]
fn entrypoint_replaces_and_drops_the_images_command() {
    let sandbox = Sandbox::with_busybox();
    assert_eq!(
        sandbox.run("--rm --entrypoint echo", "a b").ok().line(),
        "a b"
    );
    assert_eq!(
        sandbox
            .rctr("run --rm --network none --entrypoint pwd busybox")
            .ok()
            .line(),
        "/"
    );
}

#[test]
fn cidfile_holds_the_id_and_is_never_overwritten() {
    let sandbox = Sandbox::with_busybox();
    let id = sandbox.run("-d --cidfile cid", "true").ok().line();
    assert_eq!(sandbox.read("cid"), id);
    sandbox.run("-d --cidfile cid", "true").fails(125);
}

#[test]
fn layers_are_shared_between_containers() {
    let sandbox = Sandbox::with_busybox();
    sandbox.run("-d --name aa", "sleep 100").ok();
    sandbox.run("-d --name bb", "sleep 100").ok();
    sandbox.rctr("exec aa sh -c 'echo only-a > /mark'").ok();
    sandbox.rctr("exec bb test -e /mark").fails(1);
    let layers = std::fs::read_dir(sandbox.store().join("layers"))
        .unwrap()
        .count();
    assert_eq!(layers, 1);
}

#[test]
fn privileged_has_all_capabilities_of_its_namespace() {
    let sandbox = Sandbox::with_busybox();
    sandbox
        .run(
            "--rm --privileged",
            "sh -c 'mkdir /m; mount -t tmpfs none /m && echo mounted'",
        )
        .ok()
        .prints("mounted");
}

#[test]
fn host_binary_is_out_of_reach() {
    let sandbox = Sandbox::with_busybox();
    // CVE-2019-5736: /proc/1/exe is the container's program, never rctr; CVE-2024-21626: no open directory of the host.
    let output = sandbox
        .run(
            "--rm",
            "sh -c 'readlink /proc/1/exe; ls -l /proc/self/fd; ls -l /proc/1/fd'",
        )
        .ok();
    assert!(!output.stdout.contains("rctr"), "{output}");
    assert!(
        !output.stdout.contains(sandbox.dir().to_str().unwrap()),
        "{output}"
    );
}

#[test]
fn created_container_waits_for_start() {
    let sandbox = Sandbox::with_busybox();
    sandbox
        .rctr("create --network none --name c1 busybox sh -c 'echo att; exit 4'")
        .ok();
    assert_eq!(sandbox.field("c1", "{{.State.Status}}"), "created");
    sandbox.rctr("start -a c1").fails(4).prints("att");
    sandbox.rctr("start c1").ok().prints("c1\n");
    wait_for("the second run's end", || {
        sandbox.field("c1", "{{.State.Status}}") == "exited"
    });
    assert_eq!(sandbox.rctr("logs c1").ok().stdout, "att\natt\n");
}
