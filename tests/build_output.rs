//! `build`: what comes out of it. Reproducible images, `--output` in all forms, the files that name the result.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use serde_json::Value;

use crate::harness::archive::docker_archive;
use crate::harness::{Account, Feature, Output, Sandbox, images, require};

/// A sandbox with the image `base:1`, the same bytes each time, and a Dockerfile in `ctx`.
fn scene(dockerfile: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    load_base(&sandbox);
    sandbox.file("ctx/Dockerfile", dockerfile);
    sandbox
}

fn load_base(sandbox: &Sandbox) {
    let layer = fs::read(images::busybox()).unwrap();
    sandbox
        .rctr("load")
        .stdin(docker_archive("base:1", &[layer]))
        .ok();
}

fn build(sandbox: &Sandbox, options: &str) -> Output {
    sandbox
        .rctr(&format!("build --progress plain {options} ctx"))
        .ok()
}

fn id(sandbox: &Sandbox, name: &str) -> String {
    let words = ["image", "inspect", "--format", "{{.Id}}", name];
    sandbox.words(words).ok().line()
}

#[test]
fn same_inputs_and_a_fixed_time_give_the_same_image_also_with_run() {
    let make = |how: &dyn Fn(&Sandbox) -> String| {
        let sandbox = scene(
            "ARG SOURCE_DATE_EPOCH\nFROM base:1\nWORKDIR /new/dir\nCOPY a sub/\n\
             RUN mkdir -p /made/deep && date > /dev/null && echo x > /made/deep/f && ln -s f /made/deep/l && rm /etc/group \
             && echo more >> /etc/passwd && mkfifo /made/p\n",
        );
        sandbox.file("ctx/a", "x");
        how(&sandbox)
    };
    let by_argument = |sandbox: &Sandbox| {
        build(sandbox, "-t img --build-arg SOURCE_DATE_EPOCH=1600000000");
        let seen = sandbox
            .rctr("run --rm --network none img stat -c %Y /made/deep/f /made/deep /made /new/dir");
        assert_eq!(seen.ok().lines(), ["1600000000"; 4]);
        id(sandbox, "img")
    };
    let by_environment = |sandbox: &Sandbox| {
        // What was built before without a fixed time doesn't serve.
        build(sandbox, "-t other");
        let command = sandbox.rctr("build --progress plain -t img ctx");
        command.env("SOURCE_DATE_EPOCH", "1600000000").ok();
        id(sandbox, "img")
    };
    let by_file = |sandbox: &Sandbox| {
        let text = sandbox.read("ctx/Dockerfile");
        let text = text.replace("ARG SOURCE_DATE_EPOCH", "ARG SOURCE_DATE_EPOCH=1600000000");
        sandbox.file("ctx/Dockerfile", text);
        build(sandbox, "-t img");
        id(sandbox, "img")
    };
    let first = make(&by_argument);
    assert_eq!(make(&by_environment), first);
    assert_eq!(make(&by_file), first);
}

const FILES: &str = "FROM base:1 AS make\nRUN mkdir /out && echo hi > /out/f && chmod 4755 /out/f && ln -s f /out/l \
    && echo s > /out/secret && chmod 600 /out/secret && chown 1000:1000 /out/secret && mkdir -m 1777 /out/d\n\
    FROM scratch\nCOPY --from=make /out /\n";

#[test]
fn local_output_belongs_to_the_caller_and_keeps_modes() {
    let sandbox = scene(FILES);
    for (options, place) in [
        ("-o out", "out"),
        ("--output type=local,dest=new/er", "new/er"),
    ] {
        build(&sandbox, options);
        let top = sandbox.work().join(place);
        let stat = |name: &str| fs::symlink_metadata(top.join(name)).unwrap();
        for name in ["f", "l", "secret", "d"] {
            let owner = (stat(name).uid(), stat(name).gid());
            assert_eq!(
                owner,
                (Account::current().uid, Account::current().gid),
                "{name}"
            );
        }
        let mode = |name: &str| stat(name).permissions().mode() & 0o7777;
        assert_eq!(
            (mode("f"), mode("secret"), mode("d")),
            (0o4755, 0o600, 0o1777)
        );
        assert_eq!(fs::read_link(top.join("l")).unwrap(), Path::new("f"));
        assert_eq!(sandbox.read(&format!("{place}/f")), "hi\n");
    }
    // No image was made.
    let listed = sandbox.rctr("images -q").ok();
    assert_eq!(listed.lines().len(), 1);
    sandbox.assert_clean();
}

#[test]
fn tar_output_goes_to_a_file_or_to_standard_output() {
    let sandbox = scene(FILES);
    build(&sandbox, "-o type=tar,dest=files.tar");
    let stdout = build(&sandbox, "-o -").bytes;
    let names = |bytes: &[u8]| -> Vec<String> {
        let mut archive = tar::Archive::new(bytes);
        let entries = archive.entries().unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        names.sort();
        names
    };
    let file = fs::read(sandbox.work().join("files.tar")).unwrap();
    assert_eq!(names(&file), names(&stdout));
    for name in ["f", "l", "secret"] {
        assert!(
            names(&file)
                .iter()
                .any(|n| n.trim_start_matches("./") == name),
            "{:?}",
            names(&file)
        );
    }
    // A device takes it, too, and stays one.
    build(&sandbox, "-o type=tar,dest=/dev/null");
    // With -q nothing else is on standard output.
    assert_eq!(build(&sandbox, "-q -o type=tar").bytes, stdout);
}

#[test]
fn archives_of_images_are_read_by_others() {
    let sandbox = scene("FROM base:1\nRUN echo made > /f\nCMD [\"cat\", \"/f\"]\n");
    build(
        &sandbox,
        "-t img:1 -o type=oci,dest=oci.tar -o type=docker,dest=docker.tar --iidfile id",
    );
    let made = sandbox.read("id");
    sandbox.rctr("image inspect img:1").fails(1);
    for archive in ["oci.tar", "docker.tar"] {
        let other = Sandbox::new();
        other
            .words(["load", "-i", sandbox.work().join(archive).to_str().unwrap()])
            .ok();
        assert_eq!(id(&other, "img:1"), made);
        assert_eq!(
            other.rctr("run --rm --network none img:1").ok().line(),
            "made"
        );
    }
    // To standard output as well.
    let piped = build(&sandbox, "-t img:1 -o type=oci").bytes;
    assert_eq!(piped, fs::read(sandbox.work().join("oci.tar")).unwrap());
    require!(Feature::Tool("skopeo"));
    for kind in ["oci-archive:oci.tar", "docker-archive:docker.tar"] {
        let config = sandbox
            .program(&format!("skopeo inspect --config {kind}"))
            .ok();
        let config: Value = serde_json::from_str(&config.stdout).unwrap();
        assert_eq!(
            config["config"]["Cmd"],
            serde_json::json!(["cat", "/f"]),
            "{kind}"
        );
    }
}

#[test]
fn several_outputs_and_the_files_that_name_the_result() {
    let sandbox = scene("FROM base:1\nRUN echo made > /f\n");
    let output = build(
        &sandbox,
        "-q -t img:1 -o type=image -o out -o type=tar,dest=o.tar -o type=oci,dest=i.tar --iidfile id --metadata-file meta",
    );
    assert_eq!(output.line(), id(&sandbox, "img:1"));
    assert_eq!(output.stderr, "");
    assert_eq!(sandbox.read("id"), output.line());
    assert_eq!(sandbox.read("out/f"), "made\n");
    assert!(sandbox.work().join("o.tar").is_file() && sandbox.work().join("i.tar").is_file());
    let meta: Value = serde_json::from_str(&sandbox.read("meta")).unwrap();
    assert_eq!(meta["containerimage.config.digest"], output.line());
    assert_eq!(meta["image.name"], "img:1");
    assert!(
        meta["containerimage.digest"]
            .as_str()
            .unwrap()
            .starts_with("sha256:")
    );
    // The same for each output alone.
    for options in [
        "-o out2",
        "-o type=tar,dest=o2.tar",
        "-o type=oci,dest=i2.tar",
        "-o type=cacheonly",
    ] {
        let quiet = build(
            &sandbox,
            &format!("-q {options} --iidfile id2 --metadata-file meta2"),
        );
        assert_eq!(quiet.line(), output.line(), "{options}");
        assert_eq!(sandbox.read("id2"), output.line(), "{options}");
        let meta: Value = serde_json::from_str(&sandbox.read("meta2")).unwrap();
        assert_eq!(
            meta["containerimage.config.digest"],
            output.line(),
            "{options}"
        );
    }
    sandbox.assert_clean();
}

#[test]
fn an_output_that_cannot_be_meant_or_written_is_told() {
    let sandbox = scene("FROM base:1\nRUN true\n");
    for (options, why) in [
        ("-o type=zip,dest=x", "want type="),
        ("-o type=local", "dest=DIRECTORY"),
        ("-o type=tar -o type=oci", "standard output already"),
        ("--output type=oci,push=true", "only images are pushed"),
    ] {
        let output = sandbox.rctr(&format!("build {options} ctx")).fails(125);
        assert!(output.stderr.contains(why), "{output}");
    }
    sandbox.file("plain", "");
    let output = sandbox.rctr("build -o type=tar,dest=plain/x ctx").fails(1);
    assert!(output.stderr.contains("plain/x"), "{output}");
    let output = sandbox
        .rctr("build -o type=oci,dest=missing/x ctx")
        .fails(1);
    assert!(output.stderr.contains("missing/x"), "{output}");
}

#[test]
fn squash_makes_one_layer_of_all_steps() {
    let sandbox = scene(
        "FROM base:1\nRUN mkdir -p /d/e && echo one > /d/one && echo gone > /gone && rm -r /home && rm /etc/group\n\
         RUN echo two > /d/two && rm /gone /d/one && mkdir /home && touch /home/new && echo g > /etc/group\n\
         WORKDIR /d\nCMD [\"true\"]\n",
    );
    build(&sandbox, "-t plain");
    build(&sandbox, "-t img --squash");
    let inspect = |name: &str| sandbox.inspect(name);
    let layers = |name: &str| inspect(name)["RootFS"]["Layers"].as_array().unwrap().len();
    assert_eq!(
        (layers("base:1"), layers("plain"), layers("img")),
        (1, 4, 2)
    );
    let files = |name: &str| {
        let list = "cd / && find . -xdev ! -path './proc*' ! -path './sys*' ! -path './dev*' | sort && cat /d/two /etc/group";
        let command = ["run", "--rm", "--network", "none", name, "sh", "-c", list];
        sandbox.words(command).ok().stdout
    };
    assert_eq!(files("img"), files("plain"));
    let history = sandbox
        .rctr("history --no-trunc --format '{{.Size}} {{.Comment}}' img")
        .ok();
    assert!(history.lines()[0].contains("merge sha256:"), "{history}");
    // What was added and taken away again is in no layer.
    build(&sandbox, "--squash -o type=oci,dest=oci.tar");
    let archive = fs::read(sandbox.work().join("oci.tar")).unwrap();
    let has = |word: &str| {
        archive
            .windows(word.len())
            .any(|window| window == word.as_bytes())
    };
    assert!(has("d/two\0") && !has("d/one\0") && !has(".wh.gone"));
    // The second time it is served from the cache.
    let first = id(&sandbox, "img");
    build(&sandbox, "-t img --squash");
    assert_eq!(id(&sandbox, "img"), first);
    sandbox.assert_clean();
}
