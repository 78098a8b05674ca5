//! Real containers under real monitors: attaching, logs, signals, restarts, removal. Without the cli: this executable
//! plays its part, and is started again as monitor, init and foreground client.
//!
//! Wants /bin/busybox (static) and a host where this user may map IDs; without them it says so and passes.
#![expect(
    clippy::print_stdout,
    reason = "a test program with its own main reports by itself"
)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rctr_runtime::attach::message::Streams;
use rctr_runtime::attach::{Client, Outcome, RelayOptions, keys};
use rctr_runtime::control::{self, Target};
use rctr_runtime::log::{self, ReadOptions};
use rctr_runtime::monitor::{self, MonitorOrder};
use rctr_runtime::net::{Mode, NetworkPlan};
use rctr_runtime::plan::{
    Driver, LaunchPlan, Namespace, Namespaces, ProcessPlan, RootfsPlan, Seccomp,
};
use rctr_storage::Store;
use rctr_storage::config::{ContainerConfig, Healthcheck};
use rctr_storage::digest::Digest;
use rctr_storage::record::{
    ContainerRecord, ContainerState, HostConfig, LogConfig, RestartPolicy, Status,
};
use serde::{Deserialize, Serialize};

/// What a test asks for.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Spec {
    top: PathBuf,
    id: String,
    argv: Vec<String>,
    tty: bool,
    open_stdin: bool,
    stdin_once: bool,
    attach: Option<(bool, bool, bool)>,
    rm: bool,
    restart: RestartPolicy,
    health: Option<Healthcheck>,
    log: BTreeMap<String, String>,
    network: Option<NetworkPlan>,
}

fn main() {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let word = |n: usize| {
        arguments
            .get(n)
            .and_then(|a| a.to_str())
            .unwrap_or_default()
    };
    match word(0) {
        "init" => rctr_runtime::init::main(),
        "exec-init" => rctr_runtime::init::exec_main(),
        monitor::VERB => {
            let path = std::env::var("PATH").unwrap_or_default();
            std::process::exit(monitor::main(&arguments[1..], &path).into());
        }
        monitor::RELAY_VERB => std::process::exit(rctr_runtime::net::relay::run()),
        "run" => std::process::exit(run(&serde_json::from_str(word(1)).unwrap())),
        "attach" => std::process::exit(attach(&serde_json::from_str(word(1)).unwrap())),
        filter => tests(filter),
    }
}

// ---- the cli's part

fn relay_options(spec: &Spec) -> RelayOptions {
    let (stdin, stdout, stderr) = spec.attach.unwrap_or((spec.open_stdin, true, !spec.tty));
    RelayOptions {
        streams: Streams {
            stdin,
            stdout,
            stderr,
        },
        tty: spec.tty,
        detach_keys: keys::parse(keys::DEFAULT).unwrap(),
        sig_proxy: true,
    }
}

fn code_of(outcome: Outcome) -> i32 {
    match outcome {
        Outcome::Exited(code) => code,
        Outcome::Detached => 200,
        Outcome::Interrupted(_) => 201,
        Outcome::OutputClosed => 141,
        Outcome::GivenUp => 1,
    }
}

/// `run` (with `attach`: in the foreground).
fn run(spec: &Spec) -> i32 {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let prepared = monitor::prepare(true, &path).unwrap();
    let store = Store::open(&spec.top.join("store")).unwrap();
    if store.find_container(&spec.id).is_err() {
        store.create_container(record(spec)).unwrap();
    }
    let options = relay_options(spec);
    match prepared.start(order(spec, &store), spec.attach.map(|_| &options)) {
        Ok(started) => started
            .client
            .map_or(0, |client| code_of(client.relay(&options).unwrap())),
        Err(error) => {
            println!("{error} {:?}", rctr_storage::explain::Explain::hint(&error));
            error.exit_code().into()
        }
    }
}

fn attach(spec: &Spec) -> i32 {
    let options = relay_options(spec);
    let client = Client::connect(&spec.top.join("run"), &spec.id, &options).unwrap();
    code_of(client.relay(&options).unwrap())
}

fn layer() -> Digest {
    Digest::from_hex(&"ab".repeat(32)).unwrap()
}

fn record(spec: &Spec) -> ContainerRecord {
    ContainerRecord {
        version: rctr_storage::record::RECORD_VERSION,
        id: spec.id.clone(),
        name: format!("n{}", &spec.id[..12]),
        created: rctr_storage::timestamp::now(),
        path: String::new(),
        args: Vec::new(),
        image: layer(),
        layers: vec![layer()],
        platform: String::new(),
        driver: "overlay".to_owned(),
        config: ContainerConfig::default(),
        host_config: HostConfig {
            auto_remove: spec.rm,
            ..HostConfig::default()
        },
        mounts: Vec::new(),
    }
}

fn order(spec: &Spec, store: &Store) -> MonitorOrder {
    let dir = store.container_dir(&spec.id);
    let merged = dir.join("merged");
    let _ = fs::create_dir(&merged);
    let new = Namespace::Private;
    MonitorOrder {
        store: store.root().to_owned(),
        run: spec.top.join("run"),
        plan: LaunchPlan {
            container_id: spec.id.clone(),
            namespaces: Namespaces {
                user: new.clone(),
                pid: new.clone(),
                net: new.clone(),
                ipc: new.clone(),
                uts: new.clone(),
                cgroup: new,
            },
            rootfs: RootfsPlan {
                driver: Driver::Overlay,
                lowers: vec![layer_dir(&spec.top)],
                upper: dir.join("upper"),
                work: dir.join("work"),
                merged,
                read_only: false,
            },
            mounts: Vec::new(),
            devices: Vec::new(),
            shm_size: 1 << 20,
            sysctls: BTreeMap::new(),
            default_sysctls: BTreeMap::new(),
            masked_paths: Vec::new(),
            readonly_paths: Vec::new(),
            privileged: false,
            hostname: "test".to_owned(),
            domainname: String::new(),
            process: ProcessPlan {
                argv: spec.argv.clone(),
                env: vec!["PATH=/bin".to_owned()],
                cwd: "/".into(),
                create_cwd: false,
                user: String::new(),
                additional_groups: Vec::new(),
                capabilities: ["CAP_SETUID", "CAP_SETGID", "CAP_KILL"]
                    .map(str::to_owned)
                    .to_vec(),
                rlimits: Vec::new(),
                no_new_privileges: false,
                seccomp: Seccomp::Default,
                tty: spec.tty,
                oom_score_adj: None,
            },
            init: false,
        },
        network: spec.network.clone().unwrap_or(NetworkPlan {
            mode: Mode::None,
            ..NetworkPlan::default()
        }),
        open_stdin: spec.open_stdin,
        stdin_once: spec.stdin_once,
        log: LogConfig {
            config: spec.log.clone(),
            ..LogConfig::default()
        },
        auto_remove: spec.rm,
        restart: spec.restart.clone(),
        stop_signal: 15,
        stop_timeout: 10,
        health: spec.health.clone(),
        attach: None,
        size: None,
    }
}

// ---- the harness

fn layer_dir(top: &Path) -> PathBuf {
    top.join("store/layers").join(layer().hex()).join("fs")
}

struct Sandbox {
    top: PathBuf,
    store: Store,
    next: std::cell::Cell<u32>,
}

impl Sandbox {
    fn new() -> Self {
        let base = std::env::var_os("RCTR_TEST_TMP").map_or_else(std::env::temp_dir, PathBuf::from);
        let top = base.join(format!("rctr-monitor-{}", std::process::id()));
        let store = Store::open(&top.join("store")).unwrap();
        let root = layer_dir(&top);
        for dir in ["bin", "etc", "proc", "sys", "dev", "tmp"] {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
        for applet in [
            "sh", "cat", "sleep", "true", "echo", "yes", "head", "stty", "seq", "dd", "wc", "test",
            "printf",
        ] {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        fs::write(
            root.join("etc/passwd"),
            "root:x:0:0::/:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n",
        )
        .unwrap();
        Self {
            top,
            store,
            next: std::cell::Cell::new(1),
        }
    }

    fn spec(&self, line: &str) -> Spec {
        let n = self.next.get();
        self.next.set(n + 1);
        Spec {
            top: self.top.clone(),
            id: format!("{n:012x}{:052x}", std::process::id()),
            argv: ["sh", "-c", line].map(str::to_owned).to_vec(),
            ..Spec::default()
        }
    }

    fn command(&self, verb: &str, spec: &Spec) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg(verb).arg(serde_json::to_string(spec).unwrap());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs `verb` to its end: exit code, stdout, stderr.
    fn output(&self, verb: &str, spec: &Spec, input: &[u8]) -> (i32, String, String) {
        let mut command = self.command(verb, spec);
        command.stdin(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.code().unwrap_or(-1),
            text(&output.stdout),
            text(&output.stderr),
        )
    }

    fn detached(&self, spec: &Spec) {
        let (code, out, err) = self.output("run", spec, b"");
        assert_eq!(code, 0, "{out} {err}");
    }

    fn state(&self, spec: &Spec) -> ContainerState {
        self.store.read_container(&spec.id).unwrap().state
    }

    fn until(&self, what: &str, mut is: impl FnMut() -> bool) {
        let end = Instant::now() + Duration::from_secs(10);
        while !is() {
            assert!(Instant::now() < end, "never: {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn log(&self, spec: &Spec, options: &ReadOptions) -> String {
        let mut text = String::new();
        let path = log::path(&self.store.container_dir(&spec.id));
        log::read(&path, options, &mut || false, &mut |entry| {
            text.push_str(entry.text);
            Ok(())
        })
        .unwrap();
        text
    }

    fn control<T>(&self, spec: &Spec, act: impl FnOnce(&Target<'_>) -> T) -> T {
        let state = self.state(spec);
        let run = self.top.join("run");
        act(&Target {
            store: &self.store,
            run: &run,
            id: &spec.id,
            state: &state,
        })
    }

    fn ended(&self, spec: &Spec) -> ContainerState {
        self.until("end", || {
            self.state(spec).status == Status::Exited && !self.store.monitor_alive(&spec.id)
        });
        self.state(spec)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.top);
    }
}

type Test = (&'static str, fn(&Sandbox));

fn tests(filter: &str) {
    if !Path::new("/bin/busybox").exists() {
        println!("skipped: /bin/busybox is missing");
        return;
    }
    let path = std::env::var("PATH").unwrap_or_default();
    if let Err(error) = rctr_runtime::identity::detect(&path) {
        println!("skipped: {error}");
        return;
    }
    let all: &[Test] = &[
        ("exit_codes_and_streams", exit_codes_and_streams),
        ("stdin_reaches_the_program", stdin_reaches_the_program),
        ("large_streams_lose_nothing", large_streams_lose_nothing),
        ("removal_on_exit", removal_on_exit),
        ("failures_have_dockers_codes", failures_have_dockers_codes),
        ("the_log_is_dockers", the_log_is_dockers),
        ("logs_rotate", logs_rotate),
        ("logs_are_followed", logs_are_followed),
        ("stop_kills_after_its_time", stop_kills_after_its_time),
        ("signals_arrive", signals_arrive),
        ("wait_gives_the_code", wait_gives_the_code),
        ("restart_policies", restart_policies),
        (
            "a_killed_monitor_takes_the_container_along",
            a_killed_monitor_takes_the_container_along,
        ),
        (
            "a_process_that_changed_its_user_dies_as_well",
            a_process_that_changed_its_user_dies_as_well,
        ),
        ("a_killed_client_hurts_nobody", a_killed_client_hurts_nobody),
        ("a_stopped_client_is_left_out", a_stopped_client_is_left_out),
        ("several_clients_see_the_same", several_clients_see_the_same),
        (
            "closed_output_ends_the_client_only",
            closed_output_ends_the_client_only,
        ),
        (
            "signals_to_the_client_are_forwarded",
            signals_to_the_client_are_forwarded,
        ),
        (
            "terminals_have_size_and_detach_keys",
            terminals_have_size_and_detach_keys,
        ),
        ("health_is_checked", health_is_checked),
        ("published_ports_are_served", published_ports_are_served),
        ("latency", latency),
        ("an_idle_monitor_is_small", an_idle_monitor_is_small),
    ];
    let sandbox = Sandbox::new();
    for (name, test) in all.iter().filter(|(name, _)| name.contains(filter)) {
        let began = Instant::now();
        test(&sandbox);
        println!("ok {name} ({} ms)", began.elapsed().as_millis());
    }
}

// ---- the tests

fn exit_codes_and_streams(s: &Sandbox) {
    let mut spec = s.spec("echo out; echo err >&2; exit 7");
    spec.attach = Some((false, true, true));
    assert_eq!(
        s.output("run", &spec, b""),
        (7, "out\n".to_owned(), "err\n".to_owned())
    );
    let state = s.state(&spec);
    assert_eq!(
        (state.status, state.exit_code, state.pid),
        (Status::Exited, 7, 0)
    );
    assert!(state.finished_at > state.started_at);
    let mut spec = s.spec("kill -TERM $$; sleep 1; kill -KILL $$; echo never");
    spec.argv = ["sh", "-c", "sh -c 'kill -9 $$'; exit $?"]
        .map(str::to_owned)
        .to_vec();
    spec.attach = Some((false, true, true));
    assert_eq!(s.output("run", &spec, b"").0, 137);
    // Again: the same record.
    assert_eq!(s.output("run", &spec, b"").0, 137);
}

fn stdin_reaches_the_program(s: &Sandbox) {
    let mut spec = s.spec("cat");
    (spec.open_stdin, spec.stdin_once) = (true, true);
    spec.attach = Some((true, true, true));
    assert_eq!(s.output("run", &spec, b"hello").1, "hello");
    let mut spec = s.spec("cat; echo end");
    spec.attach = Some((false, true, true));
    assert_eq!(s.output("run", &spec, b"unheard").1, "end\n");
    // It doesn't read its input.
    let mut spec = s.spec("exit 3");
    (spec.open_stdin, spec.stdin_once) = (true, true);
    spec.attach = Some((true, true, true));
    assert_eq!(s.output("run", &spec, &vec![b'x'; 1 << 20]).0, 3);
}

fn large_streams_lose_nothing(s: &Sandbox) {
    let data: Vec<u8> = (0..20_000_000_u32).map(|n| (n % 251) as u8).collect();
    let mut spec = s.spec("cat");
    (spec.open_stdin, spec.stdin_once) = (true, true);
    spec.attach = Some((true, true, true));
    let mut child = s
        .command("run", &spec)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let copy = data.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&copy).unwrap());
    let mut got = Vec::new();
    // A slow reader first: the foreground waits for it.
    std::thread::sleep(Duration::from_millis(300));
    child.stdout.take().unwrap().read_to_end(&mut got).unwrap();
    writer.join().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(got == data, "{} of {} bytes", got.len(), data.len());
}

fn removal_on_exit(s: &Sandbox) {
    let mut spec = s.spec("echo x > /tmp/file; exit 5");
    spec.rm = true;
    spec.attach = Some((false, true, true));
    assert_eq!(s.output("run", &spec, b"").0, 5);
    // At once, not a moment later.
    assert!(s.store.find_container(&spec.id).is_err());
    let run = s.top.join("run").join(&spec.id[..12]);
    assert!(!run.exists());
    s.until("empty tmp", || {
        walk(&s.top.join("store/tmp"))
            .iter()
            .all(|p| !p.to_string_lossy().contains("upper"))
    });
}

fn walk(top: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(top).into_iter().flatten().flatten() {
        all.extend(walk(&entry.path()));
        all.push(entry.path());
    }
    all
}

fn failures_have_dockers_codes(s: &Sandbox) {
    for (program, code) in [("nothing", 127), ("/etc", 126), ("/etc/passwd", 126)] {
        let mut spec = s.spec("");
        spec.argv = vec![program.to_owned()];
        let (got, out, _) = s.output("run", &spec, b"");
        assert_eq!(got, code, "{program}: {out}");
        let state = s.state(&spec);
        assert_eq!((state.status, state.exit_code), (Status::Created, code));
        assert!(!state.error.is_empty());
        spec = s.spec("");
        spec.argv = vec![program.to_owned()];
        spec.rm = true;
        assert_eq!(s.output("run", &spec, b"").0, code);
        assert!(s.store.find_container(&spec.id).is_err());
    }
}

fn the_log_is_dockers(s: &Sandbox) {
    let spec =
        s.spec(r#"printf 'a"<b>\tc\n\n'; echo err >&2; printf '\377x'; seq 1 5000 | tr '\n' ' '"#);
    let mut spec = Spec {
        attach: None,
        ..spec
    };
    spec.argv[2] = r#"printf 'a"<b>\tc\n\n'; sleep 0.1; echo err >&2; sleep 0.1; printf '\377x'; sleep 0.1; dd if=/dev/zero bs=20000 count=1 2>/dev/null"#.to_owned();
    s.detached(&spec);
    s.ended(&spec);
    let path = log::path(&s.store.container_dir(&spec.id));
    let text = fs::read_to_string(&path).unwrap();
    let starts = [
        r#"{"log":"a\"\u003cb\u003e\u0009c\n","stream":"stdout","time":"20"#,
        r#"{"log":"\n","stream":"stdout","time":"20"#,
        r#"{"log":"err\n","stream":"stderr","time":"20"#,
        r#"{"log":"\ufffdx\u0000\u0000"#,
    ];
    for (line, start) in text.lines().zip(starts) {
        assert!(
            line.starts_with(start) && line.ends_with("Z\"}"),
            "{line:.200}"
        );
    }
    let pieces: Vec<_> = text
        .lines()
        .skip(3)
        .map(|l| l.matches("\\u0000").count())
        .collect();
    assert_eq!(pieces, [16384 - 2, 20000 - 16384 + 2]);
    let tail = ReadOptions {
        tail: Some(3),
        ..ReadOptions::default()
    };
    assert!(s.log(&spec, &tail).starts_with("err\n\u{fffd}x"));
}

fn logs_rotate(s: &Sandbox) {
    let mut spec = s.spec("seq 1 2000");
    spec.log = [("max-size", "20k"), ("max-file", "3")]
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .into();
    s.detached(&spec);
    s.ended(&spec);
    let files = walk(&s.store.container_dir(&spec.id));
    let logs = files
        .iter()
        .filter(|f| f.file_name().unwrap().to_string_lossy().starts_with("log"));
    let sizes: Vec<_> = logs.map(|f| fs::metadata(f).unwrap().len()).collect();
    assert_eq!(sizes.len(), 3);
    assert!(sizes.iter().all(|n| *n <= 20 * 1024 + 200), "{sizes:?}");
    let all = s.log(&spec, &ReadOptions::default());
    let lines: Vec<u32> = all.lines().map(|l| l.parse().unwrap()).collect();
    assert_eq!(lines.last(), Some(&2000));
    assert!(lines.windows(2).all(|w| w[0] + 1 == w[1]));
    let tail = ReadOptions {
        tail: Some(400),
        ..ReadOptions::default()
    };
    assert_eq!(s.log(&spec, &tail).lines().next(), Some("1601"));
}

fn logs_are_followed(s: &Sandbox) {
    let spec = s.spec("for i in 1 2 3 4 5; do echo $i; sleep 0.1; done; printf end");
    s.detached(&spec);
    let path = log::path(&s.store.container_dir(&spec.id));
    let options = ReadOptions {
        follow: true,
        ..ReadOptions::default()
    };
    let (mut text, mut first) = (String::new(), None);
    let began = Instant::now();
    let mut alive = || s.store.monitor_alive(&spec.id);
    log::read(&path, &options, &mut alive, &mut |entry| {
        first.get_or_insert(began.elapsed());
        text.push_str(entry.text);
        Ok(())
    })
    .unwrap();
    assert_eq!(text, "1\n2\n3\n4\n5\nend");
    assert!(first.unwrap() < Duration::from_millis(300));
}

fn stop_kills_after_its_time(s: &Sandbox) {
    // Process 1 doesn't hear SIGTERM without a handler.
    let spec = s.spec("exec sleep 60");
    s.detached(&spec);
    let began = Instant::now();
    let code = s
        .control(&spec, |t| {
            control::stop(t, 15, Some(Duration::from_millis(300)))
        })
        .unwrap();
    assert_eq!(code, 137);
    assert!(
        began.elapsed() >= Duration::from_millis(300) && began.elapsed() < Duration::from_secs(2)
    );
    let state = s.state(&spec);
    assert!(state.stopped_by_user && state.status == Status::Exited);
    assert!(!s.store.monitor_alive(&spec.id));
    let spec = s.spec("trap 'exit 9' TERM; while :; do sleep 0.05; done");
    s.detached(&spec);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(s.control(&spec, |t| control::stop(t, 15, None)).unwrap(), 9);
    assert_eq!(s.control(&spec, |t| control::stop(t, 15, None)).unwrap(), 9);
}

fn signals_arrive(s: &Sandbox) {
    let spec =
        s.spec("trap 'echo usr1' USR1; trap 'exit 4' INT; echo up; while :; do sleep 0.02; done");
    s.detached(&spec);
    s.until("up", || s.log(&spec, &ReadOptions::default()) == "up\n");
    s.control(&spec, |t| control::signal(t, libc::SIGUSR1))
        .unwrap();
    s.until("usr1", || {
        s.log(&spec, &ReadOptions::default()) == "up\nusr1\n"
    });
    s.control(&spec, |t| control::signal(t, libc::SIGINT))
        .unwrap();
    assert_eq!(s.ended(&spec).exit_code, 4);
    assert!(
        s.control(&spec, |t| control::signal(t, libc::SIGINT))
            .is_err()
    );
}

fn wait_gives_the_code(s: &Sandbox) {
    let mut spec = s.spec("sleep 0.2; exit 11");
    spec.rm = true;
    s.detached(&spec);
    assert_eq!(s.control(&spec, control::wait).unwrap(), 11);
    assert!(s.store.find_container(&spec.id).is_err());
}

fn restart_policies(s: &Sandbox) {
    let mut spec = s.spec("echo run; exit 6");
    spec.restart = RestartPolicy {
        name: "on-failure".to_owned(),
        maximum_retry_count: 2,
    };
    s.detached(&spec);
    let state = s.ended(&spec);
    assert_eq!((state.exit_code, state.restart_count), (6, 2));
    assert_eq!(s.log(&spec, &ReadOptions::default()), "run\nrun\nrun\n");
    let mut spec = s.spec("echo run; sleep 0.05");
    spec.restart.name = "always".to_owned();
    s.detached(&spec);
    s.until("restarts", || s.state(&spec).restart_count >= 2);
    s.control(&spec, |t| {
        control::stop(t, 15, Some(Duration::from_millis(100)))
    })
    .unwrap();
    let state = s.ended(&spec);
    assert!(state.stopped_by_user);
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(s.state(&spec).status, Status::Exited);
}

fn exists(pid: i32) -> bool {
    // A zombie has ended as well; whoever reaps it is not ours to care for.
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|t| !t.contains(") Z "))
}

fn a_killed_monitor_takes_the_container_along(s: &Sandbox) {
    let spec = s.spec("trap '' TERM HUP INT; sleep 60 & wait; sleep 60");
    s.detached(&spec);
    let state = s.state(&spec);
    assert!(exists(state.pid));
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(state.monitor_pid),
        nix::sys::signal::SIGKILL,
    )
    .unwrap();
    s.until("the container's death", || !exists(state.pid));
    let state = s.state(&spec);
    assert_eq!((state.status, state.exit_code), (Status::Exited, 137));
    // And it can be started again.
    s.detached(&spec);
    assert_eq!(s.state(&spec).status, Status::Running);
    s.control(&spec, |t| control::stop(t, 9, None)).unwrap();
}

fn a_process_that_changed_its_user_dies_as_well(s: &Sandbox) {
    let mut spec = s.spec("");
    spec.argv = [
        "busybox",
        "start-stop-daemon",
        "-S",
        "-c",
        "user",
        "-x",
        "/bin/sleep",
        "--",
        "60",
    ]
    .map(str::to_owned)
    .to_vec();
    s.detached(&spec);
    std::thread::sleep(Duration::from_millis(500));
    let state = s.state(&spec);
    assert_eq!(
        state.status,
        Status::Running,
        "{}",
        s.log(&spec, &ReadOptions::default())
    );
    let status = fs::read_to_string(format!("/proc/{}/status", state.pid)).unwrap();
    assert!(
        status.contains("sleep") && !status.contains("Uid:\t0"),
        "{status}"
    );
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(state.monitor_pid),
        nix::sys::signal::SIGKILL,
    )
    .unwrap();
    s.until("the container's death", || !exists(state.pid));
    assert!(!s.store.monitor_alive(&spec.id));
}

fn spawn_up(s: &Sandbox, verb: &str, spec: &Spec) -> Child {
    let child = s.command(verb, spec).stdin(Stdio::piped()).spawn().unwrap();
    s.until("running", || {
        s.store
            .read_container(&spec.id)
            .is_ok_and(|c| c.state.status == Status::Running)
    });
    child
}

fn a_killed_client_hurts_nobody(s: &Sandbox) {
    let mut spec = s.spec("for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.1; done");
    spec.attach = Some((false, true, true));
    let mut child = spawn_up(s, "run", &spec);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(s.ended(&spec).exit_code, 0);
    assert!(s.log(&spec, &ReadOptions::default()).ends_with("8\n"));
}

fn a_stopped_client_is_left_out(s: &Sandbox) {
    let spec = s.spec("sleep 0.5; yes 0123456789abcdef | head -c 3000000; echo; echo done");
    s.detached(&spec);
    let mut attached = s.command("attach", &spec).spawn().unwrap();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(attached.id()).unwrap());
    std::thread::sleep(Duration::from_millis(200));
    nix::sys::signal::kill(pid, nix::sys::signal::SIGSTOP).unwrap();
    s.until_for("the end of the log", Duration::from_secs(20), || {
        let tail = ReadOptions {
            tail: Some(1),
            ..ReadOptions::default()
        };
        s.log(&spec, &tail) == "done\n"
    });
    nix::sys::signal::kill(pid, nix::sys::signal::SIGKILL).unwrap();
    attached.wait().unwrap();
    assert_eq!(s.ended(&spec).exit_code, 0);
    assert_eq!(
        s.log(&spec, &ReadOptions::default()).len(),
        3_000_000 + 1 + 5
    );
}

impl Sandbox {
    fn until_for(&self, what: &str, time: Duration, mut is: impl FnMut() -> bool) {
        let end = Instant::now() + time;
        while !is() {
            assert!(Instant::now() < end, "never: {what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn several_clients_see_the_same(s: &Sandbox) {
    let mut spec =
        s.spec("while read line; do echo \"got $line\"; test $line = end && exit 2; done");
    spec.open_stdin = true;
    s.detached(&spec);
    let mut clients: Vec<_> = (0..3)
        .map(|_| {
            s.command("attach", &spec)
                .stdin(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    std::thread::sleep(Duration::from_millis(200));
    for (n, client) in clients.iter_mut().enumerate() {
        client
            .stdin
            .as_mut()
            .unwrap()
            .write_all(format!("{n}\n").as_bytes())
            .unwrap();
        std::thread::sleep(Duration::from_millis(50));
    }
    // The end of one client's input isn't the end of the program's.
    drop(clients[0].stdin.take());
    std::thread::sleep(Duration::from_millis(50));
    clients[1]
        .stdin
        .as_mut()
        .unwrap()
        .write_all(b"end\n")
        .unwrap();
    for client in clients {
        let output = client.wait_with_output().unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "got 0\ngot 1\ngot 2\ngot end\n"
        );
        assert_eq!(output.status.code(), Some(2));
    }
}

fn closed_output_ends_the_client_only(s: &Sandbox) {
    let mut spec = s.spec("for i in 1 2 3 4 5; do echo $i; sleep 0.1; done; exit 3");
    spec.attach = Some((false, true, true));
    let mut child = spawn_up(s, "run", &spec);
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(141));
    assert_eq!(s.ended(&spec).exit_code, 3);
}

fn signals_to_the_client_are_forwarded(s: &Sandbox) {
    let mut spec = s.spec("trap 'echo term; exit 8' TERM; echo up; while :; do sleep 0.02; done");
    spec.attach = Some((false, true, true));
    let child = spawn_up(s, "run", &spec);
    s.until("up", || s.log(&spec, &ReadOptions::default()) == "up\n");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::SIGTERM).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), output.stdout.as_slice()),
        (Some(8), &b"up\nterm\n"[..])
    );
}

fn terminals_have_size_and_detach_keys(s: &Sandbox) {
    let size = nix::pty::Winsize {
        ws_row: 33,
        ws_col: 77,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let pty = nix::pty::openpty(Some(&size), None).unwrap();
    let before = nix::sys::termios::tcgetattr(&pty.slave).unwrap();
    let mut spec =
        s.spec("stty size; test -t 0 && echo tty; while read x; do echo \"<$x>\"; stty size; done");
    (spec.tty, spec.open_stdin) = (true, true);
    spec.attach = Some((true, true, false));
    let slave = || Stdio::from(pty.slave.try_clone().unwrap());
    let mut child = s
        .command("run", &spec)
        .stdin(slave())
        .stdout(slave())
        .stderr(slave())
        .spawn()
        .unwrap();
    let mut master = File::from(pty.master);
    let mut seen = String::new();
    let mut expect = |master: &mut File, text: &str| {
        let end = Instant::now() + Duration::from_secs(5);
        let mut buffer = [0; 1024];
        while !seen.contains(text) {
            assert!(Instant::now() < end, "never {text:?} in {seen:?}");
            let length = master.read(&mut buffer).unwrap();
            seen.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
        seen.clear();
    };
    expect(&mut master, "33 77\r\ntty\r\n");
    rctr_runtime::sys::set_terminal_size(std::os::fd::AsFd::as_fd(&master), 40, 100).unwrap();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::SIGWINCH).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    master.write_all(b"a\x10b\n").unwrap();
    expect(&mut master, "<a\u{10}b>\r\n40 100\r\n");
    master.write_all(b"\x10\x11").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(200));
    let after = nix::sys::termios::tcgetattr(&pty.slave).unwrap();
    assert_eq!(
        (before.local_flags, before.input_flags),
        (after.local_flags, after.input_flags)
    );
    assert_eq!(s.state(&spec).status, Status::Running);
    // Once more, now by attach, until the end.
    let mut child = s
        .command("attach", &spec)
        .stdin(slave())
        .stdout(slave())
        .stderr(slave())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(150));
    master.write_all(b"again\n").unwrap();
    expect(&mut master, "<again>");
    master.write_all(b"\x04").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(s.ended(&spec).exit_code, 0);
}

fn health_is_checked(s: &Sandbox) {
    let mut spec = s.spec("sleep 0.5; echo > /tmp/ok; sleep 60");
    spec.health = Some(Healthcheck {
        test: vec![
            "CMD-SHELL".to_owned(),
            "echo checked; test -e /tmp/ok".to_owned(),
        ],
        interval: 100_000_000,
        retries: 2,
        ..Healthcheck::default()
    });
    s.detached(&spec);
    let status = || s.state(&spec).health.map(|h| h.status).unwrap_or_default();
    assert_eq!(status(), "starting");
    s.until("unhealthy", || status() == "unhealthy");
    s.until("healthy", || status() == "healthy");
    let health = s.state(&spec).health.unwrap();
    assert_eq!(health.log.last().unwrap().output, "checked\n");
    s.control(&spec, |t| control::stop(t, 9, None)).unwrap();
}

fn published_ports_are_served(s: &Sandbox) {
    let plan = NetworkPlan {
        ports: rctr_runtime::net::parse_publish("127.0.0.1::80").unwrap(),
        ..NetworkPlan::default()
    };
    if let Err(error) = rctr_runtime::net::find_helper(None) {
        println!("   skipped: {error}");
        return;
    }
    let mut spec = s.spec("while :; do echo hello | busybox nc -l -p 80; done");
    spec.network = Some(plan);
    s.detached(&spec);
    let ports = s.state(&spec).ports;
    let port = &ports["80/tcp"].as_ref().unwrap()[0].host_port;
    s.until("an answer", || {
        let mut text = String::new();
        let connected = std::net::TcpStream::connect(format!("127.0.0.1:{port}"));
        connected
            .and_then(|mut c| c.read_to_string(&mut text))
            .is_ok()
            && text == "hello\n"
    });
    // A taken port refuses the start.
    let mut second = s.spec("exit 0");
    let word = format!("127.0.0.1:{port}:80");
    second.network = Some(NetworkPlan {
        ports: rctr_runtime::net::parse_publish(&word).unwrap(),
        ..NetworkPlan::default()
    });
    let (code, out, _) = s.output("run", &second, b"");
    assert_eq!(code, 125);
    assert!(out.contains(port.as_str()), "{out}");
    s.control(&spec, |t| control::stop(t, 9, None)).unwrap();
    assert!(s.ended(&spec).ports.is_empty());
}

/// Prints, judges nothing: see scripts/bench.
fn latency(s: &Sandbox) {
    let mut times = Vec::new();
    for _ in 0..30 {
        let mut spec = s.spec("");
        spec.argv = vec!["true".to_owned()];
        spec.attach = Some((false, true, true));
        spec.rm = true;
        let mut command = s.command("run", &spec);
        let began = Instant::now();
        assert!(command.status().unwrap().success());
        times.push(began.elapsed());
    }
    times.sort();
    println!(
        "   run --rm true: median {:?}, best {:?}",
        times[15], times[0]
    );
}

fn an_idle_monitor_is_small(s: &Sandbox) {
    let spec = s.spec("echo up; exec sleep 60");
    s.detached(&spec);
    std::thread::sleep(Duration::from_millis(600));
    let pid = s.state(&spec).monitor_pid;
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = rollup.lines().find(|l| l.starts_with("Rss:")).unwrap();
    let size: u32 = line
        .trim_start_matches("Rss:")
        .trim_end_matches("kB")
        .trim()
        .parse()
        .unwrap();
    let guards = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    println!("   {size} KiB resident, shared ones included; children: {guards}");
    for child in guards
        .split_ascii_whitespace()
        .filter(|c| **c != *s.state(&spec).pid.to_string())
    {
        let rollup = fs::read_to_string(format!("/proc/{child}/smaps_rollup")).unwrap_or_default();
        println!(
            "   guard: {}",
            rollup
                .lines()
                .find(|l| l.starts_with("Pss:"))
                .unwrap_or_default()
        );
    }
    // A debug build has four times the text.
    assert!(cfg!(debug_assertions) || size < 500);
    s.control(&spec, |t| control::stop(t, 9, None)).unwrap();
}
