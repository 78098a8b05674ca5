//! What steps print: all of it is shown and kept, however it comes.

use std::time::Duration;

use crate::harness::{Output, Sandbox, Terminal};

const LIMIT: Duration = Duration::from_secs(30);

fn build(sandbox: &Sandbox, step: &str) -> Output {
    sandbox.file("ctx/Dockerfile", format!("FROM busybox\nRUN {step}\n"));
    sandbox
        .rctr("build --progress plain --no-cache -t img ctx")
        .limit(LIMIT)
        .ok()
}

#[test]
fn processes_in_the_background_end_with_their_step() {
    let sandbox = Sandbox::with_busybox();
    let output = build(
        &sandbox,
        "sleep 1000 & (setsid nohup sleep 1000 > /dev/null 2>&1 &) ; echo fi''ne",
    );
    output.says("fine");
    sandbox.assert_nothing_left();
}

#[test]
fn step_that_closes_its_output_goes_on() {
    let sandbox = Sandbox::with_busybox();
    build(&sandbox, "exec >&- 2>&-; sleep 0.3; touch /done");
    sandbox.rctr("run --rm --network none img ls /done").ok();
}

#[test]
fn output_without_a_line_s_end_is_shown() {
    let sandbox = Sandbox::with_busybox();
    build(&sandbox, "printf 'no e''nd'").says("no end\n");
    let log = sandbox.rctr("builder logs").ok();
    log.prints("no end");
}

#[test]
fn hundred_thousand_lines_are_all_there() {
    let sandbox = Sandbox::with_busybox();
    let is_line = |line: &&str| {
        line.rsplit(' ')
            .next()
            .is_some_and(|n| n.parse::<u32>().is_ok())
    };
    let shown = build(&sandbox, "seq 100000");
    let numbers = |text: &str| {
        let lines = text.lines().filter(|line| !line.contains("RUN"));
        let lines: Vec<u32> = lines
            .filter(is_line)
            .map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
            .collect();
        lines
    };
    let all: Vec<u32> = (1..=100_000).collect();
    assert!(numbers(&shown.stderr) == all);
    let log = sandbox.rctr("builder logs").ok();
    assert!(numbers(&log.stdout) == all);
    // Drawn on a terminal it is no slower than the step.
    let mut terminal = Terminal::start(sandbox.rctr("build --no-cache ctx"));
    terminal.expect("FINISHED");
    assert_eq!(terminal.wait(), 0);
}

#[test]
fn megabytes_of_output_are_kept_whole() {
    let sandbox = Sandbox::with_busybox();
    build(
        &sandbox,
        "yes 0123456789abcdefghijklmnopqrstuvwxyz | head -n 140000",
    );
    let log = sandbox.rctr("builder logs").ok();
    let whole = |line: &&str| line.ends_with(" 0123456789abcdefghijklmnopqrstuvwxyz");
    assert_eq!(log.stdout.lines().filter(whole).count(), 140_000);
    // One line of five megabytes.
    build(&sandbox, "head -c 5000000 /dev/zero | tr '\\0' x");
    let log = sandbox.rctr("builder logs").ok();
    let whole = |line: &str| line.matches('x').count() == 5_000_000;
    assert!(log.stdout.lines().any(whole));
}

#[test]
fn binary_output_is_kept_as_it_is() {
    let sandbox = Sandbox::with_busybox();
    build(
        &sandbox,
        "printf '\\000\\001\\377\\033[31m\\r\\200tail\\n'; head -c 300000 /dev/urandom >&2; echo; echo fi''ne",
    )
    .says("fine");
    let log = sandbox.rctr("builder logs").ok();
    let line = b"\0\x01\xff\x1b[31m\r\x80tail\n";
    assert!(log.bytes.windows(line.len()).any(|window| window == line));
    assert!(log.bytes.len() > 300_000);
}

#[test]
fn what_is_read_of_the_context_is_told() {
    let sandbox = Sandbox::new();
    let loaded = |output: &Output, what: &str| -> String {
        let title = format!("[internal] load {what}");
        let mut lines = output.stderr.lines();
        let line = lines.find(|line| line.ends_with(&title)).unwrap();
        let number = line.split_once(' ').unwrap().0.to_owned() + " transferring context: ";
        let told = output.stderr.lines().find_map(|l| l.strip_prefix(&number));
        told.unwrap_or_else(|| panic!("{title}: {output}"))
            .split(' ')
            .next()
            .unwrap()
            .to_owned()
    };
    let build = |sandbox: &Sandbox| sandbox.rctr("build --progress plain ctx").ok();
    sandbox.file("ctx/Dockerfile", "FROM scratch\nCOPY a b /\n");
    sandbox.file("ctx/a", "a".repeat(1000));
    sandbox.file("ctx/b", "b".repeat(230));
    sandbox.file("ctx/c", "c".repeat(500));
    let first = build(&sandbox);
    assert_eq!(loaded(&first, ".dockerignore"), "2B");
    assert_eq!(loaded(&first, "build context"), "1.23kB");
    sandbox.file("ctx/.dockerignore", "c\n# all but this\n");
    assert_eq!(loaded(&build(&sandbox), ".dockerignore"), "17B");
    // No step reads it.
    sandbox.file("ctx/Dockerfile", "FROM scratch\nWORKDIR /w\n");
    let none = build(&sandbox);
    assert!(!none.stderr.contains("load build context"), "{none}");
}
