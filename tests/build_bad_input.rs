//! A build that can't be done says why at its line and what to do, and leaves nothing half-made.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::harness::{Feature, Sandbox, SmallDisk, archive, images, require};

/// A Dockerfile, and texts that its failure must have.
type Case<'a> = (&'a str, &'a [&'a str]);

/// Each fails with 1 and its texts, at its line, and nothing is left of it; a good build works afterwards.
fn fail_all(sandbox: &Sandbox, options: &str, cases: &[Case<'_>]) {
    for (dockerfile, texts) in cases {
        fail(sandbox, options, dockerfile.as_bytes(), texts);
    }
    assert_unharmed(sandbox);
}

fn fail(sandbox: &Sandbox, options: &str, dockerfile: &[u8], texts: &[&str]) {
    sandbox.file("ctx/Dockerfile", dockerfile);
    let words = format!("build --network none -t img {options} ctx");
    let output = sandbox.rctr(&words).fails(1);
    for text in texts {
        assert!(output.stderr.contains(text), "no '{text}': {output}");
    }
    assert!(
        output.stderr.contains("rctr: failed to solve: "),
        "{output}"
    );
    assert!(!output.stderr.contains("panicked"), "{output}");
    // However long the input.
    assert!(output.stderr.len() < 20_000, "{}", output.stderr.len());
    sandbox.rctr("image inspect img").fails(1);
}

#[track_caller]
fn assert_unharmed(sandbox: &Sandbox) {
    sandbox.assert_clean();
    sandbox.assert_nothing_left();
    sandbox.file("good/Dockerfile", "FROM busybox\nRUN echo works > /f\n");
    sandbox.rctr("build -q --network none -t good good").ok();
    let seen = sandbox.rctr("run --rm --network none good cat /f").ok();
    assert_eq!(seen.line(), "works");
}

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::with_busybox();
    sandbox.file("ctx/a", "a\n");
    sandbox
}

#[test]
fn dockerfiles_that_are_none() {
    let cases: [Case<'_>; 12] = [
        ("", &["is empty", "hint: begin it with FROM"]),
        ("# only\n\n# comments\n", &["no instructions", "hint: "]),
        ("RUN true\n", &["Dockerfile:1", "no build stage", "hint: "]),
        (
            "FROM busybox\nCOPPY a b\n",
            &["Dockerfile:2", ">>> COPPY a b", "hint: did you mean COPY?"],
        ),
        (
            "FROM busybox\nCOPY --chmo=1 a b\n",
            &[
                "Dockerfile:2",
                "unknown flag: --chmo",
                "did you mean --chmod?",
            ],
        ),
        (
            "FROM busybox\nRUN --mount=type=foo true\n",
            &["Dockerfile:2", "unsupported mount type \"foo\""],
        ),
        (
            "FROM busybox\nRUN <<EOF\necho hi\n",
            &["Dockerfile:2", "unterminated heredoc", "just EOF"],
        ),
        (
            "FROM busybox\nENV A=${B\n",
            &["Dockerfile:2", "missing '}'"],
        ),
        (
            "FROM busybox\nSHELL /bin/sh\n",
            &["Dockerfile:2", "JSON", "hint: "],
        ),
        (
            "FROM busybox\nHEALTHCHECK --interval=x CMD true\n",
            &["Dockerfile:2", "invalid duration \"x\"", "hint: "],
        ),
        (
            "FROM busybox\nRUN true\nEXPOSE 99999\n",
            &["Dockerfile:3", "99999"],
        ),
        (
            "FROM busybox\nONBUILD FROM x\n",
            &["Dockerfile:2", "ONBUILD"],
        ),
    ];
    fail_all(&sandbox(), "", &cases);
}

#[test]
fn dockerfiles_that_are_no_text() {
    let sandbox = sandbox();
    let garbage: Vec<u8> = (0..20_000_u32)
        .map(|n| 0x80 | ((n * 7919) >> 3).to_le_bytes()[0])
        .collect();
    fail(
        &sandbox,
        "",
        &garbage,
        &["Dockerfile:1", "isn't UTF-8", "hint: "],
    );
    let invalid = b"FROM busybox\nRUN echo \xff\xfe\n";
    fail(
        &sandbox,
        "",
        invalid,
        &["Dockerfile:2", "byte 0xff in column 10"],
    );
    let long = format!("FROM busybox\nRUN echo {}\n", "x".repeat(10_000_000));
    fail(
        &sandbox,
        "",
        long.as_bytes(),
        &["Dockerfile:2", "10000009 bytes", "hint: "],
    );
    let heredoc = format!("FROM busybox\nRUN <<EOF\n{}EOF\n", ":\n".repeat(1_000_000));
    let texts = [
        "Dockerfile:2",
        "Argument list too long",
        "hint: an argument has 128 KiB",
    ];
    fail(&sandbox, "", heredoc.as_bytes(), &texts);
    assert_unharmed(&sandbox);
}

#[test]
fn stages_and_images_that_are_not_there() {
    let cases: [Case<'_>; 6] = [
        (
            "FROM busybox AS a\nCOPY --from=b /x /\nFROM busybox AS b\nCOPY --from=a /x /\n",
            &["Dockerfile:2", "stage \"b\"", "defined later, at line 3"],
        ),
        (
            "FROM busybox AS a\nCOPY --from=a /x /\n",
            &["Dockerfile:2", "circular dependency"],
        ),
        (
            "FROM busybox\nCOPY --from=nosuch /x /\n",
            &["Dockerfile:2", "cannot get the image nosuch", "hint: "],
        ),
        (
            "FROM busybox\nCOPY --from=7 /x /\n",
            &["Dockerfile:2", "invalid stage index 7"],
        ),
        ("FROM nosuch:1\n", &["Dockerfile:1", "nosuch:1", "hint: "]),
        (
            "FROM Foo:::bar\n",
            &["Dockerfile:1", "invalid reference format"],
        ),
    ];
    let sandbox = sandbox();
    fail_all(&sandbox, "", &cases);
    let target: [Case<'_>; 1] = [(
        "FROM busybox AS build\n",
        &["\"buid\" could not be found", "did you mean build?"],
    )];
    fail_all(&sandbox, "--target buid", &target);
}

#[test]
fn sources_that_can_not_be_copied() {
    let sandbox = sandbox();
    let ctx = sandbox.work().join("ctx");
    sandbox.file("outside", "secret\n");
    sandbox.file("ctx/ignored", "i\n");
    sandbox.file("ctx/.dockerignore", "ignored\n");
    symlink(sandbox.work().join("outside"), ctx.join("absolute")).unwrap();
    symlink("../outside", ctx.join("relative")).unwrap();
    symlink("/", ctx.join("root")).unwrap();
    let through = format!(
        "FROM busybox\nCOPY root{} /\n",
        sandbox.work().join("outside").display()
    );
    let cases: [Case<'_>; 9] = [
        (
            "FROM busybox\nCOPY aa /\n",
            &["Dockerfile:2", "\"/aa\": not found", "did you mean \"a\"?"],
        ),
        (
            "FROM busybox\nCOPY ignored /\n",
            &["Dockerfile:2", "excluded by .dockerignore"],
        ),
        (
            "FROM busybox\nCOPY ../outside /\n",
            &["Dockerfile:2", "\"/outside\": not found"],
        ),
        (
            "FROM busybox\nCOPY absolute /\n",
            &["Dockerfile:2", "not found"],
        ),
        (
            "FROM busybox\nCOPY relative /\n",
            &["Dockerfile:2", "not found"],
        ),
        (&through, &["Dockerfile:2", "not found"]),
        (
            "FROM busybox\nCOPY --chmod=99 a /\n",
            &["Dockerfile:2", "'99'", "hint: "],
        ),
        (
            "FROM busybox\nCOPY a /etc/passwd/\n",
            &["Dockerfile:2", "non-directory: /etc/passwd", "hint: "],
        ),
        (
            "FROM busybox\nWORKDIR /etc/passwd\n",
            &["Dockerfile:2", "/etc/passwd"],
        ),
    ];
    fail_all(&sandbox, "", &cases);
    let unreadable = sandbox.file("ctx/unreadable", "u\n");
    fs::set_permissions(&unreadable, fs::Permissions::from_mode(0o0)).unwrap();
    let cases: [Case<'_>; 2] = [
        (
            "FROM busybox\nCOPY . /\n",
            &["Dockerfile:2", "cannot open unreadable", "hint: "],
        ),
        (
            "FROM busybox\nRUN --mount=type=bind,target=/c cat /c/a\n",
            &["Dockerfile:2", "cannot open unreadable"],
        ),
    ];
    fail_all(&sandbox, "", &cases);
}

/// Answers `/a` with a file and all else with 404, as long as the tests run.
fn serve() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let length = stream.read(&mut request).unwrap_or(0);
            let found = request[..length].windows(7).any(|w| w == b"/a HTTP");
            let status = if found { "200 OK" } else { "404 Not Found" };
            drop(write!(
                stream,
                "HTTP/1.0 {status}\r\nContent-Length: 2\r\n\r\na\n"
            ));
        }
    });
    port
}

#[test]
fn archives_and_urls_that_can_not_be_added() {
    let sandbox = sandbox();
    let tar = archive::Archive::new()
        .file("f", 0o644, &[7; 50_000])
        .bytes();
    sandbox.file("ctx/cut.tar", &tar[..20_000]);
    let gzip = archive::gzip(&fs::read(images::busybox()).unwrap());
    sandbox.file("ctx/cut.tar.gz", &gzip[..30_000]);
    let port = serve();
    let sum = "24454f830cdb571e2c4ad15481119c43b3cafd48dd869a9b2945d1036d1dc68d";
    let wrong = format!("FROM busybox\nADD --checksum=sha256:{sum} http://127.0.0.1:{port}/a /\n");
    let missing = format!("FROM busybox\nADD http://127.0.0.1:{port}/nosuch /\n");
    let cases: [Case<'_>; 6] = [
        (
            "FROM busybox\nADD cut.tar /x/\n",
            &["Dockerfile:2", "cannot unpack \"/cut.tar\"", "hint: "],
        ),
        (
            "FROM busybox\nADD cut.tar.gz /x/\n",
            &["Dockerfile:2", "cannot unpack \"/cut.tar.gz\"", "hint: "],
        ),
        (&wrong, &["Dockerfile:2", "wrong digest", sum, "hint: "]),
        (
            "FROM busybox\nADD --checksum=sha256:24 http://127.0.0.1:1/a /\n",
            &["Dockerfile:2", "invalid checksum"],
        ),
        (
            "FROM busybox\nADD http://127.0.0.1:1/a /\n",
            &[
                "Dockerfile:2",
                "cannot reach http://127.0.0.1:1/a",
                "hint: ",
            ],
        ),
        (&missing, &["Dockerfile:2", "404 Not Found", "hint: "]),
    ];
    fail_all(&sandbox, "", &cases);
}

#[test]
fn programs_and_users_that_are_not_there() {
    let cases: [Case<'_>; 7] = [
        (
            "FROM busybox\nUSER nobody2\nRUN true\n",
            &["Dockerfile:3", "unable to find user nobody2", "hint: "],
        ),
        (
            "FROM busybox\nCOPY --chown=nosuch a /\n",
            &["Dockerfile:2", "unable to find user nosuch", "hint: "],
        ),
        (
            "FROM busybox\nCOPY --chown=0:nosuch a /\n",
            &["Dockerfile:2", "unable to find group nosuch", "hint: "],
        ),
        (
            "FROM busybox\nRUN [\"/nosuch\"]\n",
            &["Dockerfile:2", "\"/nosuch\": no such file", "hint: "],
        ),
        (
            "FROM busybox\nRUN nosuch\n",
            &["Dockerfile:2", "exit code: 127", "nosuch: not found"],
        ),
        (
            "FROM busybox\nRUN [\"/etc\"]\n",
            &["Dockerfile:2", "is a directory", "hint: "],
        ),
        (
            "FROM busybox\nRUN [\"/etc/passwd\"]\n",
            &["Dockerfile:2", "permission denied", "hint: "],
        ),
    ];
    fail_all(&sandbox(), "", &cases);
}

#[test]
fn secrets_that_are_not_there() {
    let sandbox = sandbox();
    let file: [Case<'_>; 1] = [(
        "FROM busybox\nRUN --mount=type=secret,id=a true\n",
        &[
            "Dockerfile:2",
            "secret's file nosuch",
            "No such file",
            "hint: --secret",
        ],
    )];
    fail_all(&sandbox, "--secret id=a,src=nosuch", &file);
    let required: [Case<'_>; 1] = [(
        "FROM busybox\nRUN --mount=type=secret,id=a,required true\n",
        &[
            "Dockerfile:2",
            "secret \"a\" is required",
            "hint: give it with --secret id=a",
        ],
    )];
    fail_all(&sandbox, "", &required);
}

#[test]
fn contexts_and_flags_that_are_wrong() {
    let sandbox = sandbox();
    sandbox.file("file", "f\n");
    sandbox.file("empty/x", "");
    sandbox.file("dir/Dockerfile/x", "");
    sandbox.file("ctx/Dockerfile", "FROM busybox\n");
    for (words, code, text) in [
        ("build nosuch", 1, "path \"nosuch\" not found"),
        ("build file", 1, "file is not a directory"),
        ("build empty", 1, "No such file"),
        ("build dir", 1, "Dockerfile is a directory"),
        ("build -f nosuch ctx", 1, "open nosuch"),
        (
            "build --build-context foo=/nosuch ctx",
            1,
            "path \"/nosuch\" not found",
        ),
        ("build http://127.0.0.1:1/x.tar", 1, "cannot reach"),
        ("build -", 1, "standard input is empty"),
        ("build --no-such ctx", 125, "unknown flag: --no-such"),
        ("build --no-cach ctx", 125, "did you mean --no-cache?"),
        ("build -t 'Foo Bar' ctx", 125, "invalid reference format"),
        ("build --build-context foo ctx", 125, "want NAME=VALUE"),
        ("build --output type=nosuch ctx", 125, "type=nosuch"),
    ] {
        let output = sandbox.rctr(words).fails(code).says(text);
        assert!(output.stdout.is_empty(), "{output}");
        assert!(output.stderr.contains("rctr: "), "{output}");
    }
    assert_unharmed(&sandbox);
}

#[test]
fn full_disk_in_a_build() {
    require!(Feature::Mounts);
    let tar = fs::read(images::busybox()).unwrap();
    let mut sandbox = Sandbox::new();
    let disk = SmallDisk::new(&sandbox, 2 * tar.len() as u64 + (8 << 20));
    sandbox = sandbox.store_at(disk.path().join("store"));
    sandbox.rctr("import - busybox").stdin(tar).ok();
    sandbox.file("ctx/big", vec![7; 40 << 20]);
    let copy = b"FROM busybox\nCOPY big /\n";
    fail(&sandbox, "", copy, &["Dockerfile:2", "No space left"]);
    let run = b"FROM busybox\nRUN dd if=/dev/zero of=/fill bs=1M count=40\n";
    fail(&sandbox, "", run, &["Dockerfile:2", "No space left"]);
    sandbox.rctr("image prune -f").ok();
    assert_unharmed(&sandbox);
    drop(disk);
}
