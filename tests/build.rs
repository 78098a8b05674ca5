//! `build`: the everyday ways of it.

use serde_json::Value;

use crate::harness::{Output, Sandbox};

/// Builds the Dockerfile in the sandbox's directory as `img`.
fn build(sandbox: &Sandbox, options: &str, dockerfile: &str) -> Output {
    context(sandbox, dockerfile);
    sandbox
        .rctr(&format!("build --progress plain -t img {options} ctx"))
        .ok()
}

fn context(sandbox: &Sandbox, dockerfile: &str) {
    std::fs::create_dir_all(sandbox.work().join("ctx")).unwrap();
    sandbox.file("ctx/Dockerfile", dockerfile);
}

fn run(sandbox: &Sandbox, command: &str) -> String {
    sandbox
        .rctr(&format!("run --rm --network none img {command}"))
        .ok()
        .stdout
}

fn image(sandbox: &Sandbox, name: &str) -> Value {
    let text = sandbox.words(["image", "inspect", name]).ok().stdout;
    serde_json::from_str::<Value>(&text).unwrap()[0].clone()
}

#[test]
fn instructions_make_an_image() {
    let sandbox = Sandbox::with_busybox();
    context(&sandbox, "");
    sandbox.file("ctx/a.txt", "from the context\n");
    build(
        &sandbox,
        "--label extra=yes",
        "FROM busybox\nENV A=1 B=\"two words\"\nWORKDIR /srv/app\nCOPY a.txt sub/\nRUN echo $B > b.txt && id -u >> b.txt\n\
         EXPOSE 80\nUSER 1000:1000\nLABEL l=v\nCMD [\"cat\", \"sub/a.txt\", \"b.txt\"]\n",
    );
    let output = sandbox.rctr("run --rm --network none img").ok();
    assert_eq!(output.lines(), ["from the context", "two words", "0"]);
    let image = image(&sandbox, "img");
    let config = &image["Config"];
    assert_eq!(config["WorkingDir"], "/srv/app");
    assert_eq!(config["User"], "1000:1000");
    assert_eq!(config["Labels"]["extra"], "yes");
    assert!(config["ExposedPorts"]["80/tcp"].is_object());
    // Base, WORKDIR, COPY, RUN.
    assert_eq!(image["RootFS"]["Layers"].as_array().unwrap().len(), 4);
    sandbox
        .rctr("history --no-trunc img")
        .ok()
        .prints("# buildkit");
    sandbox.assert_clean();
}

#[test]
fn second_build_is_served_from_the_cache_and_gives_the_same_image() {
    let sandbox = Sandbox::with_busybox();
    context(&sandbox, "");
    sandbox.file("ctx/a.txt", "one");
    let dockerfile = "FROM busybox\nRUN cat /proc/uptime > /first\nCOPY a.txt /\nRUN cat /proc/uptime > /second\n";
    build(&sandbox, "", dockerfile);
    let first = image(&sandbox, "img")["Id"].clone();
    let stamps = run(&sandbox, "cat /first /second");
    let again = build(&sandbox, "", dockerfile);
    assert_eq!(again.stderr.matches("CACHED").count(), 3, "{again}");
    assert_eq!(image(&sandbox, "img")["Id"], first);
    // The content counts, not its time.
    sandbox.program("touch -d 2001-01-01 ctx/a.txt").ok();
    assert_eq!(
        build(&sandbox, "", dockerfile)
            .stderr
            .matches("CACHED")
            .count(),
        3
    );
    sandbox.file("ctx/a.txt", "two");
    let changed = build(&sandbox, "--explain", dockerfile);
    assert_eq!(changed.stderr.matches("CACHED").count(), 1, "{changed}");
    assert!(changed.stderr.contains("a.txt"), "{changed}");
    let then = run(&sandbox, "cat /first /second");
    assert_eq!(then.lines().next(), stamps.lines().next());
    assert_ne!(then.lines().last(), stamps.lines().last());
    build(&sandbox, "--no-cache", dockerfile);
    assert_ne!(
        run(&sandbox, "cat /first").lines().next(),
        stamps.lines().next()
    );
}

#[test]
fn failing_step_shows_its_lines_its_output_and_its_code() {
    let sandbox = Sandbox::with_busybox();
    context(
        &sandbox,
        "FROM busybox\nRUN echo fine > /before\nRUN echo this is why; \\\n  exit 42\nCMD true\n",
    );
    let output = sandbox.rctr("build -t img ctx").fails(1);
    for text in [
        "Dockerfile:3",
        ">>> RUN echo this is why",
        ">>>   exit 42",
        "this is why",
        "exit code: 42",
    ] {
        assert!(output.stderr.contains(text), "{text}: {output}");
    }
    sandbox.rctr("image inspect img").fails(1);
    // Its files are there to be looked at, as the message says.
    let words: Vec<&str> = output.stderr.split_whitespace().collect();
    let at = words
        .windows(2)
        .position(|w| w == ["rctr", "run"])
        .expect("a command to look around");
    let image = words[at..]
        .iter()
        .find(|w| w.len() == 12)
        .expect("an image");
    let seen = sandbox
        .rctr(&format!("run --rm --network none {image} cat /before"))
        .ok();
    assert_eq!(seen.line(), "fine");
    sandbox.rctr("builder logs").ok().prints("this is why");
}

#[test]
fn stages_are_built_when_they_are_needed_and_at_once() {
    let sandbox = Sandbox::with_busybox();
    let dockerfile = "FROM busybox AS unused\nRUN exit 1\n\
        FROM busybox AS a\nRUN sleep 3; echo a > /out\nFROM busybox AS b\nRUN sleep 3; echo b > /out\n\
        FROM busybox AS c\nRUN sleep 3; echo c > /out\nFROM busybox\n\
        COPY --from=a /out /a\nCOPY --from=b /out /b\nCOPY --from=2 /a /never\nCOPY --from=c /out /c\n";
    let dockerfile = dockerfile.replace("COPY --from=2 /a /never\n", "COPY --from=3 /out /d\n");
    let began = std::time::Instant::now();
    build(&sandbox, "", &dockerfile);
    let lasted = began.elapsed();
    assert_eq!(run(&sandbox, "cat /a /b /c /d"), "a\nb\nc\nc\n");
    assert!(lasted.as_secs_f64() < 8.0, "{lasted:?}");
    let again = build(&sandbox, "", &dockerfile);
    assert_eq!(again.stderr.matches("CACHED").count(), 7, "{again}");
}

#[test]
fn stage_that_comes_out_the_same_changes_nothing_above_it() {
    let sandbox = Sandbox::with_busybox();
    let dockerfile = |word: &str| {
        format!(
            "FROM busybox AS a\nRUN echo same > /out; echo {word} > /other\nFROM busybox\nCOPY --from=a /out /out\nRUN cat /proc/uptime > /stamp\n"
        )
    };
    build(&sandbox, "", &dockerfile("one"));
    let stamp = run(&sandbox, "cat /stamp");
    build(&sandbox, "", &dockerfile("two"));
    assert_eq!(run(&sandbox, "cat /stamp"), stamp);
}

#[test]
fn build_arguments_reach_steps_and_their_cache() {
    let sandbox = Sandbox::with_busybox();
    let dockerfile =
        "ARG TAG=none\nFROM ${TAG}\nARG V=default\nRUN echo $V > /v; cat /proc/uptime > /stamp\n";
    build(&sandbox, "--build-arg TAG=busybox", dockerfile);
    assert_eq!(run(&sandbox, "cat /v"), "default\n");
    let stamp = run(&sandbox, "cat /stamp");
    build(
        &sandbox,
        "--build-arg TAG=busybox --build-arg V=other",
        dockerfile,
    );
    assert_eq!(run(&sandbox, "cat /v"), "other\n");
    build(&sandbox, "--build-arg TAG=busybox", dockerfile);
    assert_eq!(run(&sandbox, "cat /stamp"), stamp);
    let output = sandbox.rctr("build ctx").fails(1);
    assert!(
        output.stderr.contains("Dockerfile:2") && output.stderr.contains("none"),
        "{output}"
    );
}

#[test]
fn same_inputs_and_a_fixed_time_give_the_same_image() {
    let id = || {
        let sandbox = Sandbox::with_busybox();
        context(&sandbox, "");
        sandbox.file("ctx/a", "x");
        build(
            &sandbox,
            "--no-cache --build-arg SOURCE_DATE_EPOCH=1000000000",
            "FROM scratch\nCOPY a /d/\nWORKDIR /new\n",
        );
        image(&sandbox, "img")["Id"].as_str().unwrap().to_owned()
    };
    assert_eq!(id(), id());
}
