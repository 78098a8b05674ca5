//! How builds end that don't just succeed: ^C, signals, another build at once, a full disk, removals meanwhile, steps
//! that fail.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::harness::{Feature, Invocation, Sandbox, SmallDisk, Terminal, images, require};

fn dockerfile(sandbox: &Sandbox, text: &str) {
    sandbox.file("ctx/Dockerfile", text);
}

fn build(sandbox: &Sandbox, options: &str) -> Invocation {
    sandbox.rctr(&format!("build --progress plain {options} ctx"))
}

/// A step that takes for ever. What it says isn't in its name.
const ENDLESS: &str = "FROM busybox\nRUN cat /proc/uptime > /first\n\
    RUN echo be''gun; sleep 1000 & trap '' TERM INT; sleep 1000; sleep 1000\n";

#[track_caller]
fn assert_first_step_is_cached(sandbox: &Sandbox) {
    dockerfile(sandbox, "FROM busybox\nRUN cat /proc/uptime > /first\n");
    let output = build(sandbox, "-t img").ok();
    assert_eq!(output.stderr.matches("CACHED").count(), 1, "{output}");
}

#[test]
fn signals_end_a_build_at_once() {
    let sandbox = Sandbox::with_busybox();
    for (signal, code) in [
        (Signal::SIGINT, 130),
        (Signal::SIGTERM, 143),
        (Signal::SIGHUP, 129),
    ] {
        dockerfile(&sandbox, ENDLESS);
        let running = build(&sandbox, "-t img").spawn();
        running.expect("begun");
        let began = Instant::now();
        running.signal(signal);
        let output = running.wait();
        let lasted = began.elapsed();
        assert_eq!(output.code, code, "{output}");
        // It would never end by itself; a busy disk may take its time.
        assert!(lasted < Duration::from_secs(10), "{lasted:?}");
        let output = output.says("interrupted").says("CANCELED");
        assert!(!output.stderr.contains("ERROR"), "{output}");
        sandbox.rctr("image inspect img").fails(1);
        sandbox.assert_nothing_left();
        sandbox.assert_clean();
        sandbox
            .rctr("builder history --format '{{.Status}}'")
            .ok()
            .prints("Canceled");
        assert_first_step_is_cached(&sandbox);
        sandbox.rctr("rmi img").ok();
    }
}

#[test]
fn ctrl_c_leaves_the_terminal_sane() {
    let sandbox = Sandbox::with_busybox();
    dockerfile(&sandbox, ENDLESS);
    let mut terminal = Terminal::start(sandbox.rctr("build -t img ctx"));
    let before = terminal.settings();
    terminal.expect("begun");
    terminal.send("\x03");
    assert_eq!(terminal.wait(), 130);
    assert_eq!(terminal.settings(), before);
    let shown = terminal.screen();
    assert!(shown.contains("CANCELED"), "{shown}");
    assert!(shown.contains("interrupted"), "{shown}");
    assert!(!shown.contains("FINISHED"), "{shown}");
    assert!(
        shown.rfind("\x1b[?25h") > shown.rfind("\x1b[?25l"),
        "{shown}"
    );
    sandbox.assert_nothing_left();
    sandbox.assert_clean();
}

#[test]
fn two_builds_at_once_share_their_work() {
    let sandbox = Sandbox::with_busybox();
    dockerfile(
        &sandbox,
        "FROM busybox\nRUN --mount=type=cache,target=/c echo x >> /c/count; echo be''gun; sleep 1\n\
         RUN --mount=type=cache,target=/c cat /c/count > /count; cat /proc/uptime > /stamp\n",
    );
    let first = build(&sandbox, "-t one").spawn();
    first.expect("begun");
    let second = build(&sandbox, "-t two").spawn();
    second.expect(&format!(
        "waiting for another build that runs this step (process {})",
        first.pid()
    ));
    for running in [first, second] {
        assert_eq!(running.wait().code, 0);
    }
    let id = |name: &str| {
        let line = format!("image inspect --format '{{{{.Id}}}}' {name}");
        sandbox.rctr(&line).ok().stdout
    };
    assert_eq!(id("one"), id("two"));
    let count = sandbox.rctr("run --rm --network none two cat /count").ok();
    assert_eq!(count.stdout, "x\n");
    sandbox.assert_nothing_left();
    sandbox.assert_clean();
}

#[test]
fn who_waits_is_shown_on_a_terminal_too() {
    let sandbox = Sandbox::with_busybox();
    dockerfile(&sandbox, ENDLESS);
    let first = build(&sandbox, "").spawn();
    first.expect("begun");
    let mut second = Terminal::start(sandbox.rctr("build ctx"));
    second.expect("waiting for another build");
    second.send("\x03");
    assert_eq!(second.wait(), 130);
    first.signal(Signal::SIGTERM);
    first.wait();
}

#[test]
fn build_that_waits_goes_on_when_the_other_is_killed_or_fails() {
    let sandbox = Sandbox::with_busybox();
    let step = "FROM busybox\nRUN --mount=type=cache,target=/c [ -e /c/WAY ] && exit 0; touch /c/WAY; echo be''gun; ";
    for (way, end) in [("killed", "sleep 1000"), ("failed", "sleep 1; exit 3")] {
        let step = step.replace("WAY", way);
        dockerfile(&sandbox, &format!("{step}{end}\n"));
        let first = build(&sandbox, "").spawn();
        first.expect("begun");
        let second = build(&sandbox, "").spawn();
        second.expect("waiting for another build");
        if way == "killed" {
            first.signal(Signal::SIGKILL);
        }
        assert_ne!(first.wait().code, 0);
        let began = Instant::now();
        let output = second.wait();
        assert_eq!(output.code, 0, "{output}");
        assert!(began.elapsed() < Duration::from_secs(30));
    }
    sandbox.rctr("image prune -f").ok();
    sandbox.assert_nothing_left();
    sandbox.assert_clean();
}

#[test]
fn full_disk_fails_a_build_and_loses_nothing() {
    require!(Feature::Mounts);
    let mut sandbox = Sandbox::new();
    let tar = fs::read(images::busybox()).unwrap();
    let disk = SmallDisk::new(&sandbox, 2 * tar.len() as u64 + (44 << 20));
    sandbox = sandbox.store_at(disk.path().join("store"));
    sandbox.rctr("import - busybox").stdin(tar).ok();
    let ballast = disk.path().join("ballast");
    fs::write(&ballast, vec![1; 32 << 20]).unwrap();
    sandbox.file("ctx/file", vec![0; 14 << 20]);
    for (number, step) in [
        "RUN dd if=/dev/zero of=/big bs=1M count=14",
        "COPY file /big",
    ]
    .iter()
    .enumerate()
    {
        let before = format!("FROM busybox\nRUN echo {number} > /first\n");
        dockerfile(&sandbox, &format!("{before}{step}\n"));
        for _ in 0..2 {
            let output = build(&sandbox, "-t img").fails(1);
            let output = output
                .says("No space left on device")
                .says("hint: free space in the store")
                .says("Dockerfile:3");
            assert!(!output.stderr.contains("rctr run -it"), "{output}");
            sandbox.assert_nothing_left();
            sandbox.assert_clean();
            let run = sandbox.run("--rm", "echo works").ok();
            assert_eq!(run.line(), "works");
        }
    }
    fs::remove_file(&ballast).unwrap();
    let output = build(&sandbox, "-t img").ok();
    assert_eq!(output.stderr.matches("CACHED").count(), 1, "{output}");
    let size = sandbox.rctr("run --rm --network none img stat -c %s /big");
    assert_eq!(size.ok().line(), (14 << 20).to_string());
    sandbox.assert_nothing_left();
    sandbox.assert_clean();
    drop(disk);
}

#[test]
fn removals_meanwhile_do_no_harm_to_a_build() {
    let sandbox = Sandbox::with_busybox();
    sandbox.file("ctx/file", "x");
    let text = |end: &str| {
        format!(
            "FROM busybox\nRUN echo first > /first\nRUN touch /go; echo be''gun; sleep 1.5; cat /first\n\
             COPY file /file\nRUN cat /first /file; {end}\n"
        )
    };
    dockerfile(&sandbox, "FROM busybox\nRUN echo first > /first\n");
    build(&sandbox, "").ok();
    for end in ["true", "exit 3"] {
        sandbox
            .words(["import", images::busybox().to_str().unwrap(), "busybox"])
            .ok();
        dockerfile(&sandbox, &text(end));
        let running = build(&sandbox, "-t img").spawn();
        running.expect("begun");
        sandbox.rctr("rmi busybox").ok();
        for command in [
            "builder prune -a -f",
            "image prune -a -f",
            "builder prune -a -f",
        ] {
            sandbox.rctr(command).ok();
        }
        let output = running.wait();
        assert_eq!(output.code, i32::from(end != "true"), "{output}");
        if end == "true" {
            let seen = sandbox.rctr("run --rm --network none img cat /first /file");
            assert_eq!(seen.ok().stdout, "first\nx");
            sandbox.assert_clean();
            sandbox.rctr("rmi img").ok();
            sandbox.rctr("builder prune -a -f").ok();
        }
        sandbox.rctr("image prune -a -f").ok();
        sandbox.assert_clean();
        sandbox.assert_nothing_left();
    }
}

#[test]
fn builder_prune_frees_what_images_do_not_need() {
    let sandbox = Sandbox::with_busybox();
    dockerfile(
        &sandbox,
        "FROM busybox AS a\nRUN dd if=/dev/urandom of=/big bs=1M count=3; echo small > /small\n\
         FROM busybox\nCOPY --from=a /small /\n",
    );
    build(&sandbox, "-t img").ok();
    let freed = sandbox.rctr("builder prune -f").ok();
    freed.prints("MB");
    let again = sandbox.rctr("builder prune -f").ok();
    again.prints("Total:\t0B");
    let seen = "run --rm --network none img cat /small";
    assert_eq!(sandbox.rctr(seen).ok().line(), "small");
    build(&sandbox, "-t img").ok();
    sandbox.rctr("builder prune -a -f").ok();
    assert_eq!(sandbox.rctr(seen).ok().line(), "small");
    build(&sandbox, "-t img").ok();
    assert_eq!(sandbox.rctr(seen).ok().line(), "small");
    sandbox.assert_clean();
    sandbox.assert_nothing_left();
}

#[test]
fn shell_is_opened_where_a_step_failed() {
    let sandbox = Sandbox::with_busybox();
    dockerfile(
        &sandbox,
        "FROM busybox\nWORKDIR /here\nENV A=b\nRUN echo $((40+2))x > mine; exit 3\n",
    );
    let mut terminal = Terminal::start(sandbox.rctr("build --on-error=shell ctx"));
    terminal.expect("/here #");
    terminal.send("cat mine; echo [$A]\n");
    terminal.expect("42x");
    terminal.expect("[b]");
    // As the message of the build says it.
    let shown = terminal.screen();
    let kept = sandbox.rctr("images -q --filter dangling=true").ok().line();
    assert!(!kept.is_empty(), "{shown}");
    terminal.send("exit\n");
    assert_eq!(terminal.wait(), 1);
    let shown = terminal.screen();
    let command = format!("rctr run -it --rm {kept}");
    assert!(shown.contains(&command), "{command}: {shown}");
    let mut terminal = Terminal::start(sandbox.rctr(&format!("run -it --rm {kept} sh")));
    terminal.expect("/here #");
    terminal.send("cat mine; exit\n");
    terminal.expect("42x");
    assert_eq!(terminal.wait(), 0);
    sandbox.rctr("image prune -f").ok();
    sandbox.assert_nothing_left();
    sandbox.assert_clean();
}

#[test]
fn files_of_failed_steps_do_not_pile_up() {
    let sandbox = Sandbox::with_busybox();
    let kept = || {
        let output = sandbox.rctr("images -q --filter dangling=true").ok();
        output.lines().len()
    };
    let failing = |word: &str| {
        dockerfile(
            &sandbox,
            &format!("FROM busybox\nRUN echo {word} > /word; exit 1\n"),
        );
        build(&sandbox, "").fails(1)
    };
    for word in ["one", "two", "three"] {
        failing(word);
        assert_eq!(kept(), 1);
    }
    // A name makes it the user's.
    let id = sandbox.rctr("images -q --filter dangling=true").ok().line();
    sandbox.rctr(&format!("tag {id} mine")).ok();
    failing("four");
    let mine = sandbox.rctr("run --rm --network none mine cat /word").ok();
    assert_eq!(mine.line(), "three");
    // So does a container.
    let id = sandbox.rctr("images -q --filter dangling=true").ok().line();
    sandbox
        .rctr(&format!("create --network none --name c1 {id} cat /word"))
        .ok();
    failing("five");
    assert_eq!(sandbox.rctr("start -a c1").ok().line(), "four");
    sandbox.rctr("rm c1").ok();
    sandbox.rctr(&format!("rmi {id}")).ok();
    assert_eq!(kept(), 1);
    // A build that comes from the cache as a whole removes it, too.
    for _ in 0..2 {
        dockerfile(&sandbox, "FROM busybox\nRUN echo fine\n");
        build(&sandbox, "-t img").ok();
        assert_eq!(kept(), 0);
        failing("six");
        assert_eq!(kept(), 1);
    }
    dockerfile(&sandbox, "FROM busybox\nRUN echo fine\n");
    build(&sandbox, "-t img").ok();
    assert_eq!(kept(), 0);
    sandbox.assert_nothing_left();
    sandbox.assert_clean();
}
