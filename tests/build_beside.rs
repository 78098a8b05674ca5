//! Layers that are packed and hashed while the next step runs.

use crate::harness::{Output, Sandbox};

fn build(sandbox: &Sandbox, options: &str, dockerfile: &str) -> Output {
    sandbox.file("ctx/Dockerfile", dockerfile);
    let words = format!("build --progress plain --network none -t img {options} ctx");
    sandbox.rctr(&words).output()
}

fn run(sandbox: &Sandbox, image: &str, command: &str) -> Vec<String> {
    let words = [
        "run",
        "--rm",
        "--network",
        "none",
        image,
        "sh",
        "-c",
        command,
    ];
    let output = sandbox.words(words).ok();
    output.lines().into_iter().map(str::to_owned).collect()
}

/// Twenty megabytes whose packing takes a while.
const BIG: &str = "head -c 20000000 /dev/zero";

#[test]
fn steps_stand_on_layers_that_are_still_packed() {
    let sandbox = Sandbox::with_busybox();
    sandbox.file("ctx/file", "copied\n");
    let dockerfile = format!(
        "FROM busybox AS made\n\
         RUN mkdir /d && {BIG} > /d/one\n\
         RUN stat -c %y /d/one | cut -d . -f 2 > /time; cat /d/one | wc -c > /size; {BIG} > /d/two\n\
         COPY file /d/three\n\
         WORKDIR /d/four\n\
         RUN rm /d/one && mv /d/two /d/five && cat ../three > out\n\
         RUN {BIG} > /same && touch -d @1000 /same\n\
         RUN {BIG} > /same && touch -d @1000 /same\n\
         RUN cat /same | wc -c >> /size\n\
         FROM made\n\
         RUN ls /d > /list\n\
         COPY --from=made /size /d/three /\n"
    );
    let first = build(&sandbox, "", &dockerfile);
    assert_eq!(first.code, 0, "{first}");
    let seen = run(
        &sandbox,
        "img",
        "cat /list /size /three /time /d/four/out; ls -A /d",
    );
    let want = "five four three 20000000 20000000 copied 000000000 +0000 copied five four three";
    assert_eq!(seen.join(" "), want);
    let again = build(&sandbox, "", &dockerfile);
    assert_eq!(again.stderr.matches(" CACHED").count(), 10, "{again}");
    assert_eq!(
        again.stderr.matches(" DONE").count(),
        first.stderr.matches(" DONE").count() - 10
    );
    sandbox.assert_clean();
}

#[test]
fn what_is_packed_when_the_next_step_fails_is_in_the_cache_and_in_the_kept_image() {
    let sandbox = Sandbox::with_busybox();
    let dockerfile = format!("FROM busybox\nRUN {BIG} > /big\nRUN echo half > /half; exit 3\n");
    let failed = build(&sandbox, "", &dockerfile);
    assert_eq!(failed.code, 1, "{failed}");
    let kept = sandbox
        .rctr("images -q --filter dangling=true")
        .ok()
        .line()
        .to_owned();
    assert_eq!(
        run(&sandbox, &kept, "cat /half; cat /big | wc -c"),
        ["half", "20000000"]
    );
    let again = build(&sandbox, "", &dockerfile);
    assert_eq!(again.stderr.matches(" CACHED").count(), 1, "{again}");
    sandbox.assert_clean();
}

#[test]
fn large_layers_come_out_the_same_beside_and_alone() {
    let sandbox = Sandbox::with_busybox();
    let steps = format!(
        "FROM busybox\nRUN {BIG} > /one; ln /one /two; mkfifo /pipe; ln -s one /link; rm /bin/touch\nRUN :\n"
    );
    let digest = |options: &str, dockerfile: &str| {
        let output = build(&sandbox, options, dockerfile);
        assert_eq!(output.code, 0, "{output}");
        let format = "{{index .RootFS.Layers 1}}";
        sandbox
            .words(["inspect", "-f", format, "img"])
            .ok()
            .line()
            .to_owned()
    };
    let epoch = "--build-arg SOURCE_DATE_EPOCH=1000 --no-cache";
    let beside = digest(epoch, &steps);
    // The last step of a stage is packed by its own thread.
    let alone = digest(epoch, steps.strip_suffix("RUN :\n").unwrap());
    assert_eq!(beside, alone);
}
