//! `build`: its options one by one, the build checks, and the ways to show a build.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;

use serde_json::Value;

use crate::harness::{Account, Output, Sandbox, Terminal};

fn scene(dockerfile: &str) -> Sandbox {
    let sandbox = Sandbox::with_busybox();
    sandbox.file("ctx/Dockerfile", dockerfile);
    sandbox
}

fn build(sandbox: &Sandbox, options: &str) -> Output {
    sandbox
        .rctr(&format!("build --progress plain -t img {options} ctx"))
        .ok()
}

fn run(sandbox: &Sandbox, command: &str) -> String {
    sandbox
        .rctr(&format!("run --rm --network none img {command}"))
        .ok()
        .stdout
}

/// All files below `dir` that have these bytes.
fn files_with(dir: &Path, bytes: &[u8], found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files_with(&entry.path(), bytes, found);
        } else if kind.is_file() {
            let content = fs::read(entry.path()).unwrap();
            if content.windows(bytes.len()).any(|window| window == bytes) {
                found.push(entry.path().display().to_string());
            }
        }
    }
}

#[test]
fn secrets_reach_steps_and_nothing_else() {
    let sandbox = scene(
        "FROM busybox\nRUN --mount=type=secret,id=file --mount=type=secret,id=env,env=TOKEN \
         sha256sum < /run/secrets/file > /sum && test \"$TOKEN\" = from-the-environment-81723\nRUN test ! -s /run/secrets/file\n",
    );
    sandbox.file("token", "hidden-in-a-file-93841");
    let command =
        "build --progress plain -t img --secret id=file,src=token --secret id=env,env=MY_TOKEN ctx";
    sandbox
        .rctr(command)
        .env("MY_TOKEN", "from-the-environment-81723")
        .ok();
    let sum = crate::harness::archive::sha256(b"hidden-in-a-file-93841");
    assert!(run(&sandbox, "cat /sum").starts_with(&sum));
    let mut found = Vec::new();
    files_with(sandbox.store(), b"hidden-in-a-file-93841", &mut found);
    assert_eq!(found, [""; 0]);
    // This one stands in the Dockerfile itself, and so in history; the value is never taken from the secret.
    sandbox.file(
        "ctx/Dockerfile",
        "FROM busybox\nRUN --mount=type=secret,id=env,env=TOKEN test -n \"$TOKEN\"\n",
    );
    let build = sandbox.rctr("build --progress plain --secret id=env,env=MY_TOKEN ctx");
    build.env("MY_TOKEN", "never-written-down-5521").ok();
    files_with(sandbox.store(), b"never-written-down-5521", &mut found);
    assert_eq!(found, [""; 0]);
    // The search does find what is there.
    files_with(sandbox.store(), b"from-the-environment-81723", &mut found);
    assert!(!found.is_empty());
}

#[test]
fn ssh_gives_a_step_the_socket_of_the_agent() {
    let sandbox = scene(
        "FROM busybox\nRUN --mount=type=ssh test -S \"$SSH_AUTH_SOCK\" && echo yes > /seen\nRUN test -z \"$SSH_AUTH_SOCK\"\n",
    );
    let socket = sandbox.work().join("agent");
    let _agent = UnixListener::bind(&socket).unwrap();
    Account::current().own(&socket);
    build(&sandbox, "--ssh default=agent");
    assert_eq!(run(&sandbox, "cat /seen"), "yes\n");
}

#[test]
fn steps_get_hosts_limits_and_shared_memory() {
    let sandbox = scene(
        "FROM busybox\nRUN grep db.test /etc/hosts > /hosts; ulimit -n > /files; df -k /dev/shm | tail -n 1 | awk '{print $2}' > /shm\n",
    );
    build(
        &sandbox,
        "--add-host db.test:10.1.2.3 --ulimit nofile=123:456 --shm-size 8m",
    );
    let seen = run(&sandbox, "cat /hosts /files /shm");
    let words: Vec<&str> = seen.split_whitespace().collect();
    assert_eq!(words, ["10.1.2.3", "db.test", "123", "8192"]);
}

#[test]
fn network_none_and_host_are_as_they_say() {
    let sandbox = scene(
        "FROM busybox\nRUN ls /sys/class/net | sort | tr '\\n' ' ' > /nets; cat /proc/net/dev | wc -l > /lines\n",
    );
    build(&sandbox, "--network none");
    assert_eq!(run(&sandbox, "cat /lines").trim(), "3");
    build(&sandbox, "--network host");
    let host = fs::read_to_string("/proc/net/dev").unwrap().lines().count();
    assert_eq!(run(&sandbox, "cat /lines").trim(), host.to_string());
}

#[test]
fn no_cache_filter_runs_one_stage_again() {
    let sandbox = scene(
        "FROM busybox AS one\nRUN cat /proc/uptime > /one\nFROM busybox AS two\nRUN cat /proc/uptime > /two\n\
         FROM busybox\nCOPY --from=one /one /\nCOPY --from=two /two /\n",
    );
    build(&sandbox, "");
    let before = run(&sandbox, "cat /one /two");
    let (one, two) = before.split_once('\n').unwrap();
    build(&sandbox, "--no-cache-filter two");
    let after = run(&sandbox, "cat /one /two");
    let (new_one, new_two) = after.split_once('\n').unwrap();
    assert_eq!(new_one, one);
    assert_ne!(new_two, two);
    // What stands on it is run again as well.
    sandbox.file(
        "ctx/Dockerfile",
        "FROM busybox AS two\nRUN cat /proc/uptime > /two\nFROM two\nRUN cp /two /copy\n",
    );
    build(&sandbox, "--no-cache-filter two");
    let seen = run(&sandbox, "cat /two /copy");
    let (two, copy) = seen.split_once('\n').unwrap();
    assert_eq!(copy.trim(), two);
    build(&sandbox, "--no-cache-filter two");
    let seen = run(&sandbox, "cat /two /copy");
    let (two, copy) = seen.split_once('\n').unwrap();
    assert_eq!(copy.trim(), two);
}

#[test]
fn target_and_labels() {
    let sandbox = scene("FROM busybox AS a\nLABEL a=file b=file\nFROM a AS b\nRUN exit 1\n");
    build(&sandbox, "--target a --label b=given --label c=d=e");
    let config = &sandbox.inspect("img")["Config"];
    let labels = &config["Labels"];
    assert_eq!(
        (&labels["a"], &labels["b"], &labels["c"]),
        (&"file".into(), &"given".into(), &"d=e".into())
    );
    let wrong = sandbox.rctr("build --target c ctx").fails(1);
    assert!(wrong.stderr.contains("\"c\" could not be found"), "{wrong}");
}

#[test]
fn build_contexts_are_directories_or_images() {
    let sandbox = scene("FROM base\nCOPY --from=more f /f\nCOPY --from=tools /etc/passwd /p\n");
    sandbox.file("other/f", "from another directory");
    build(
        &sandbox,
        "--build-context more=other --build-context base=docker-image://busybox --build-context tools=docker-image://busybox",
    );
    assert_eq!(run(&sandbox, "cat /f"), "from another directory");
    assert!(run(&sandbox, "cat /p").contains("root:"));
}

#[test]
fn one_job_runs_one_step_at_a_time() {
    let stage = |name: &str| {
        format!("FROM busybox AS {name}\nRUN date +%s%N > /begin; sleep 0.3; date +%s%N > /end\n")
    };
    let file = stage("a")
        + &stage("b")
        + "FROM busybox\nCOPY --from=a /etc/passwd /a\nCOPY --from=b /etc/passwd /b\n";
    // busybox's date has no nanoseconds: the lock of a shared cache mount tells.
    let file = file.replace(
        "RUN date +%s%N > /begin; sleep 0.3; date +%s%N > /end",
        "RUN --mount=type=cache,target=/c mkdir /c/busy && sleep 2 && rmdir /c/busy",
    );
    let sandbox = scene(&file);
    build(&sandbox, "--jobs 1 --no-cache");
    // The test itself: with two at once one of them finds the directory.
    let both = sandbox.rctr("build --jobs 2 --no-cache ctx").output();
    assert_eq!(both.code, 1, "{both}");
}

const CHECKED: &str = "FROM busybox as base\nMAINTAINER me\nRUN true\n";

#[test]
fn checks_show_lines_and_end_with_1() {
    let sandbox = scene(CHECKED);
    for words in ["--check", "--call check", "--call=check -q"] {
        let output = sandbox.rctr(&format!("build {words} ctx")).fails(1);
        for text in [
            "2 warnings have been found",
            "WARNING: FromAsCasing",
            "WARNING: MaintainerDeprecated",
            "Dockerfile:2",
            "   2 | >>> MAINTAINER me",
        ] {
            assert!(output.stdout.contains(text), "{text}: {output}");
        }
    }
    sandbox.file("ctx/Dockerfile", "FROM busybox\nRUN exit 1\n");
    let fine = sandbox.rctr("build --check ctx").ok();
    assert_eq!(fine.line(), "Check complete, no warnings found.");
}

#[test]
fn warnings_are_told_after_a_build_or_fail_it() {
    let sandbox = scene(CHECKED);
    let output = build(&sandbox, "");
    assert!(
        output
            .stderr
            .contains("\n 2 warnings found (--check shows the lines):\n"),
        "{output}"
    );
    assert!(
        output.stderr.contains(" - MaintainerDeprecated: ") && output.stderr.contains("(line 2)")
    );
    sandbox.file("ctx/Dockerfile", format!("# check=error=true\n{CHECKED}"));
    let refused = sandbox.rctr("build ctx").fails(1);
    for text in ["lint violation found", ">>> MAINTAINER me", "Dockerfile:3"] {
        assert!(refused.stderr.contains(text), "{text}: {refused}");
    }
    sandbox
        .rctr("build --check ctx")
        .fails(1)
        .prints("MaintainerDeprecated");
}

const SHOWN: &str = "FROM busybox\nRUN echo 'a <b> & \"c\"'\nWORKDIR /w\nRUN echo two\n";

/// Whether every tag is closed, in order.
fn is_well_formed(page: &str) -> bool {
    let mut open = Vec::new();
    for part in page.split('<').skip(1) {
        let Some((tag, text)) = part.split_once('>') else {
            return false;
        };
        let name = tag.split([' ', '/']).next().unwrap_or_default();
        if text.contains('>') || tag.starts_with('!') && !open.is_empty() {
            return false;
        }
        match tag.strip_prefix('/') {
            Some(name) if open.pop() != Some(name) => return false,
            Some(_) => {}
            None if tag.ends_with('/') || tag.starts_with('!') || name == "meta" => {}
            None => open.push(name),
        }
    }
    open.is_empty()
}

#[test]
fn trace_is_a_page_with_every_step() {
    assert!(!is_well_formed("<a><b></a></b>") && is_well_formed("<a x=\"1\"><b/></a>"));
    let sandbox = scene(SHOWN);
    build(&sandbox, "--trace out.html");
    let page = sandbox.read("out.html");
    assert!(is_well_formed(&page), "{page}");
    for step in [
        "RUN echo 'a &lt;b&gt; &amp; &quot;c&quot;'",
        "[3/4] WORKDIR /w",
        "[4/4] RUN echo two",
    ] {
        assert!(page.contains(step), "{step}: {page}");
    }
}

#[test]
fn rawjson_is_an_object_a_line() {
    let sandbox = scene(SHOWN);
    let output = sandbox.rctr("build --progress rawjson -t img ctx").ok();
    let lines: Vec<Value> = output
        .stderr
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect();
    assert!(lines.len() > 5 && lines.iter().all(Value::is_object));
    for step in ["[2/4] RUN", "[3/4] WORKDIR /w", "[4/4] RUN echo two"] {
        assert!(output.stderr.contains(step), "{step}: {output}");
    }
}

#[test]
fn the_terminal_shows_every_step_at_the_end() {
    let sandbox = scene(SHOWN);
    let mut terminal = Terminal::start(sandbox.rctr("build -t img ctx"));
    terminal.expect("[+] Building ");
    terminal.expect(" FINISHED");
    for step in [
        "[2/4] RUN echo",
        "[3/4] WORKDIR /w",
        "[4/4] RUN echo two",
        "exporting to image",
    ] {
        terminal.expect(&format!("=> {step}"));
    }
    assert_eq!(terminal.wait(), 0);
}
