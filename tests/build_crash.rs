//! `kill -9` of any process of a build at any moment: the next build completes, what was finished serves it, and nothing
//! is left behind.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::crash::Dice;
use crate::harness::{Process, Sandbox};

const DOCKERFILE: &str = "FROM busybox AS a\n\
    RUN echo a > /a; cat /proc/uptime > /early\n\
    ARG ROUND\n\
    COPY file /file\n\
    RUN --mount=type=cache,target=/c echo $ROUND > /c/round; echo $ROUND > /b; sleep 0.05\n\
    FROM busybox AS b\n\
    ARG ROUND\n\
    WORKDIR /made/$ROUND\n\
    RUN --network=none sleep 0.1; echo $ROUND > /late\n\
    FROM busybox\n\
    COPY --from=a /a /b /file /\n\
    COPY --from=b /late /\n\
    RUN cat /a /b /file /late > /all\n";

fn rounds() -> u64 {
    let rounds = env::var("RCTR_KILL_ROUNDS").ok();
    rounds.and_then(|r| r.parse().ok()).unwrap_or(20)
}

/// The steps that have run, and those that came from the cache, as `--progress plain` tells.
fn steps(told: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut names, mut done, mut cached) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
    for line in told.lines() {
        let Some((number, rest)) = line.split_once(' ') else {
            continue;
        };
        if rest.starts_with('[') {
            names.insert(number, rest);
        }
        let is_step = |name: &&&str| !name.contains("FROM") && !name.contains("[internal]");
        let Some(name) = names.get(number).filter(is_step) else {
            continue;
        };
        if rest.starts_with("DONE") {
            done.insert((*name).to_owned());
        } else if rest == "CACHED" {
            cached.insert((*name).to_owned());
        }
    }
    (done, cached)
}

/// One of the processes that there are now, at random.
fn pick(sandbox: &Sandbox, dice: &mut Dice) -> Option<Process> {
    let mut processes = sandbox.processes();
    let count = processes.len() as u64;
    (count > 0).then(|| processes.swap_remove(dice.roll(count) as usize))
}

#[test]
fn killing_anything_in_a_build_loses_nothing() {
    let sandbox = Sandbox::with_busybox();
    sandbox.file("ctx/file", "from the context\n");
    sandbox.file("ctx/Dockerfile", DOCKERFILE);
    let build = |round: u64| {
        sandbox.rctr(&format!(
            "build --progress plain -t img --build-arg ROUND={round} ctx"
        ))
    };
    let began = Instant::now();
    build(u64::MAX).ok();
    let lasts = began.elapsed().as_micros() as u64;
    sandbox.rctr("rmi img").ok();
    let mut dice = Dice::new();
    for round in 0..rounds() {
        let seed = dice.seed();
        let running = build(round).spawn();
        sleep(Duration::from_micros(dice.roll(lasts)));
        let victim = pick(&sandbox, &mut dice);
        if let Some(victim) = &victim {
            victim.kill();
        }
        let killed = running.wait();
        let what = format!(
            "round {round} (RCTR_KILL_SEED={seed}), killed {victim:?}, which gave {killed}"
        );
        assert_survived(
            &sandbox,
            round,
            &killed.stderr,
            &what,
            &build(round).output(),
        );
    }
    // Of a killed step its files may be kept.
    let kept = sandbox.rctr("images -q --filter dangling=true").ok();
    assert!(kept.lines().len() <= 3, "{kept}");
    sandbox.rctr("image prune -f").ok();
    sandbox.assert_nothing_left();
    sandbox.assert_clean();
}

#[track_caller]
fn assert_survived(
    sandbox: &Sandbox,
    round: u64,
    before: &str,
    what: &str,
    next: &crate::harness::Output,
) {
    assert_eq!(next.code, 0, "the next build failed: {next}\n{what}");
    let (done, _) = steps(before);
    let (_, cached) = steps(&next.stderr);
    let lost: Vec<_> = done.difference(&cached).collect();
    assert!(lost.is_empty(), "{lost:?} were lost: {next}\n{what}");
    assert!(cached.contains("[a 2/4] RUN echo a > /a; cat /proc/uptime > /early"));
    let seen = sandbox
        .rctr("run --rm --network none img cat /all")
        .output();
    let right = format!("a\n{round}\nfrom the context\n{round}\n");
    assert_eq!(seen.stdout, right, "{seen}\n{what}");
    if sandbox.rctr("system check").output().code != 0 {
        sandbox.rctr("system check --repair").output();
        let output = sandbox.rctr("system check").output();
        assert_eq!(output.code, 0, "not clean after a repair: {output}\n{what}");
    }
    // The next round moves the name: without it this image would be there for ever.
    sandbox.rctr("rmi img").ok();
    let left = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        sandbox.assert_nothing_left();
    }));
    assert!(left.is_ok(), "something is left: {what}");
}
