//! `kill -9` of any of our processes at any moment loses nothing that was reported done and leaves nothing behind.

use std::env;
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use crate::harness::{Process, Sandbox};

/// Small, good enough, and the same again for the same seed.
pub(crate) struct Dice(u64);

impl Dice {
    /// With a seed from the clock, or RCTR_KILL_SEED.
    pub(crate) fn new() -> Self {
        let clock = || {
            SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap()
                .as_nanos() as u64
        };
        Self(
            env::var("RCTR_KILL_SEED")
                .ok()
                .and_then(|s| s.parse().ok())
                .unwrap_or_else(clock)
                | 1,
        )
    }

    /// What gives the same rolls again from here.
    pub(crate) fn seed(&self) -> u64 {
        self.0
    }

    /// 0 to `sides` - 1.
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

fn rounds() -> u32 {
    env::var("RCTR_KILL_ROUNDS")
        .ok()
        .and_then(|r| r.parse().ok())
        .unwrap_or(30)
}

/// What is going on while something is killed; `victim` is its container.
const COMMANDS: &[&str] = &[
    "run -d --network none --name victim busybox sleep 1000",
    "run --rm --network none --name victim busybox sh -c 'echo x > /x; sleep 0.02'",
    "run -i --network none --name victim -v /anon busybox cat",
    "create --network none --name victim busybox true",
    "commit bystander1 crash:1",
    "import busybox.tar crash:2",
    "load -i app.tar",
    "save -o out.tar app:1",
    "rmi app:1",
    "exec bystander2 sh -c 'echo y > /y; sleep 0.02'",
    "rm -f victim0",
    "stop -t 0 victim0",
    "restart -t 0 victim0",
    "cp busybox.tar bystander1:/tmp/copy",
    "volume create --label a=b crashed",
    "tag app:1 app:2",
];

#[test]
fn killing_anything_at_any_moment_loses_nothing() {
    let sandbox = Sandbox::with_busybox();
    sandbox.file(
        "busybox.tar",
        std::fs::read(crate::harness::images::busybox()).unwrap(),
    );
    sandbox
        .run(
            "-d --name bystander1",
            "sh -c 'echo mine1 > /mine; exec sleep 100000'",
        )
        .ok();
    sandbox
        .run(
            "-d --name bystander2",
            "sh -c 'echo mine2 > /mine; exec sleep 100000'",
        )
        .ok();
    sandbox.run("--name made", "sh -c 'echo app > /app'").ok();
    sandbox.rctr("commit made app:1").ok();
    sandbox.rctr("save -o app.tar app:1").ok();
    let bystanders = sandbox.processes();
    let only = env::var("RCTR_KILL_ONLY").unwrap_or_default();
    let commands: Vec<_> = COMMANDS.iter().filter(|c| c.starts_with(&only)).collect();
    let mut dice = Dice::new();
    for round in 0..rounds() {
        let seed = dice.seed();
        let command = commands[dice.roll(commands.len() as u64) as usize];
        let what = format!("round {round} (RCTR_KILL_SEED={seed}): {command}");
        sandbox.run("-d --name victim0", "sleep 1000").ok();
        let mut running = sandbox.rctr(command).stdin_open().spawn();
        sleep(Duration::from_micros(dice.roll(40_000)));
        let victim = pick(&sandbox, &bystanders, &mut dice);
        if let Some(victim) = &victim {
            victim.kill();
        } else {
            running.signal_if_alive();
        }
        sleep(Duration::from_millis(dice.roll(30)));
        running.signal_if_alive();
        running.abandon();
        let what = format!("{what}; killed {victim:?}");
        assert_survived(&sandbox, &what);
    }
    sandbox.rctr("rm -f bystander1 bystander2 made").ok();
    sandbox.assert_nothing_left();
    sandbox.assert_clean();
}

/// One of the processes that the command or `victim0` has now, at random.
fn pick(sandbox: &Sandbox, bystanders: &[Process], dice: &mut Dice) -> Option<Process> {
    let mut processes = sandbox.processes();
    processes.retain(|p| !bystanders.contains(p));
    let count = processes.len() as u64;
    (count > 0).then(|| processes.swap_remove(dice.roll(count) as usize))
}

/// At most one repair is needed, then every image and every other container works.
#[track_caller]
fn assert_survived(sandbox: &Sandbox, what: &str) {
    sandbox.rctr("ps -a").ok();
    sandbox.rctr("images").ok();
    let removals = ["rm -f -v victim", "rm -f victim0"].map(|rm| sandbox.rctr(rm).output());
    if sandbox.rctr("system check").output().code != 0 {
        sandbox.rctr("system check --repair").output();
        let output = sandbox.rctr("system check").output();
        assert_eq!(output.code, 0, "not clean after a repair, {what}\n{output}");
    }
    let names = sandbox.rctr("ps -a --format '{{.Names}}'").ok();
    let mut names = names.lines();
    names.sort_unstable();
    assert_eq!(
        names,
        ["bystander1", "bystander2", "made"],
        "{what}\n{}{}",
        removals[0],
        removals[1]
    );
    for n in ["1", "2"] {
        let output = sandbox
            .rctr(&format!("exec bystander{n} cat /mine"))
            .output();
        assert_eq!(output.line(), format!("mine{n}"), "{what}\n{output}");
    }
    let output = sandbox.run("--rm", "echo works").output();
    assert_eq!(output.line(), "works", "{what}\n{output}");
    if sandbox.rctr("image inspect app:1").output().code != 0 {
        // `rmi` was one of the commands.
        sandbox.rctr("load -i app.tar").ok();
    }
    let output = sandbox
        .rctr("run --rm --network none app:1 cat /app")
        .output();
    assert_eq!(output.line(), "app", "{what}\n{output}");
}

#[test]
fn dead_monitor_is_seen_at_once() {
    let sandbox = Sandbox::with_busybox();
    sandbox.run("-d --name c1", "sleep 1000").ok();
    let monitor = sandbox
        .processes()
        .into_iter()
        .find(|p| p.command.contains("monitor"));
    monitor.expect("a monitor is named so in ps").kill();
    crate::harness::wait_for("the end to be seen", || {
        sandbox.rctr("ps -q").ok().stdout.is_empty()
    });
    assert_eq!(
        sandbox.field("c1", "{{.State.Status}} {{.State.ExitCode}}"),
        "exited 137"
    );
    sandbox.rctr("start c1").ok();
    assert_eq!(sandbox.field("c1", "{{.State.Status}}"), "running");
    sandbox.rctr("rm -f c1").ok();
    sandbox.assert_nothing_left();
}

#[test]
fn container_outlives_its_client() {
    let sandbox = Sandbox::with_busybox();
    let running = sandbox
        .run("--name c1", "sh -c 'echo up; exec sleep 1000'")
        .spawn();
    running.expect("up");
    running.signal(nix::sys::signal::Signal::SIGKILL);
    running.wait();
    assert_eq!(sandbox.field("c1", "{{.State.Status}}"), "running");
    assert_eq!(sandbox.rctr("exec c1 echo alive").ok().line(), "alive");
}

#[test]
fn rm_force_waits_for_a_container_that_is_about_to_run() {
    let sandbox = Sandbox::with_busybox();
    for pause in 0..20 {
        let mut running = sandbox
            .run("-i --name c1 --network none", "cat")
            .stdin_open()
            .spawn();
        sleep(Duration::from_millis(pause));
        running.signal_if_alive();
        running.abandon();
        let output = sandbox.rctr("rm -f c1").output();
        let names = sandbox.rctr("ps -aq").ok();
        assert_eq!(names.stdout, "", "after {pause} ms\n{output}");
    }
    sandbox.assert_nothing_left();
}

#[test]
fn rm_container_of_a_killed_monitor_is_removed() {
    let sandbox = Sandbox::with_busybox();
    sandbox.run("-d --rm --name c1 -v /anon", "sleep 1000").ok();
    let processes = sandbox.processes();
    let monitor = processes.iter().find(|p| p.command.contains("monitor"));
    monitor.expect("a monitor is named so in ps").kill();
    crate::harness::wait_for("the end to be seen", || {
        sandbox.rctr("ps -q").ok().stdout.is_empty()
    });
    // Its name is free again.
    sandbox.run("--rm --name c1", "true").ok();
    assert_eq!(sandbox.rctr("ps -aq").ok().stdout, "");
    assert_eq!(sandbox.rctr("volume ls -q").ok().stdout, "");
    sandbox.assert_nothing_left();
}

#[test]
fn program_that_outlived_monitor_and_guard_is_ended() {
    let sandbox = Sandbox::with_busybox();
    // Changing the user clears the signal at the parent's death.
    sandbox
        .run(
            "-d --name c1 -u 0",
            "su -s /bin/sh daemon -c 'exec sleep 1000'",
        )
        .ok();
    let pid = sandbox.field("c1", "{{.State.Pid}}");
    for process in sandbox.processes() {
        if process.command.contains("monitor") {
            process.kill();
        }
    }
    crate::harness::wait_for("the end to be seen", || {
        sandbox.rctr("ps -q").ok().stdout.is_empty()
    });
    assert_ne!(pid, "0");
    assert_eq!(sandbox.field("c1", "{{.State.Pid}}"), "0");
    sandbox.rctr("system check --repair").ok();
    crate::harness::wait_for("the program to end", || sandbox.processes().is_empty());
    sandbox.assert_clean();
    sandbox.rctr("rm c1").ok();
    sandbox.assert_nothing_left();
}
