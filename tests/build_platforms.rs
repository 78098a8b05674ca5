//! `build --platform` with several: one index of images that were built by one build.

use std::fs;

use serde_json::Value;

use crate::harness::archive::sha256;
use crate::harness::registry::{Door, Registry};
use crate::harness::{Feature, Output, Sandbox, require};

const BOTH: &str = "--platform linux/amd64,linux/arm64";

/// Nothing of it runs, so any platform can be built.
const DOCKERFILE: &str = "FROM scratch AS files\n\
    ARG TARGETARCH\n\
    ARG TARGETPLATFORM\n\
    ARG BUILDPLATFORM\n\
    COPY all /\n\
    COPY $TARGETARCH /own\n\
    FROM files\n\
    ENV FOR=$TARGETARCH\n\
    ARG TARGETPLATFORM\n\
    ARG BUILDPLATFORM\n\
    LABEL for=$TARGETPLATFORM on=$BUILDPLATFORM\n\
    WORKDIR /made\n";

fn scene() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.file("ctx/Dockerfile", DOCKERFILE);
    sandbox.file("ctx/all", "all\n");
    sandbox.file("ctx/amd64", "one\n");
    sandbox.file("ctx/arm64", "two\n");
    sandbox
}

fn build(sandbox: &Sandbox, options: &str) -> Output {
    sandbox
        .rctr(&format!("build --progress plain {BOTH} {options} ctx"))
        .output()
}

fn inspect(sandbox: &Sandbox, platform: &str) -> Value {
    let words = ["image", "inspect", "--platform", platform, "img:1"];
    let text = sandbox.words(words).ok().stdout;
    serde_json::from_str::<Value>(&text).unwrap()[0].clone()
}

#[test]
fn several_platforms_make_one_index() {
    let sandbox = scene();
    let first = build(&sandbox, "-t img:1 --iidfile id --metadata-file meta");
    assert_eq!(first.code, 0, "{first}");
    for name in [
        "[linux/amd64 files 1/2] COPY all /",
        "[linux/arm64 files 2/2] COPY arm64 /own",
        "[linux/arm64 stage-1 1/1] WORKDIR /made",
    ] {
        assert!(first.stderr.contains(name), "{name}: {first}");
    }
    // What is the same for both is made once.
    assert_eq!(first.stderr.matches(" CACHED").count(), 1, "{first}");
    for (arch, platform) in [("amd64", "linux/amd64"), ("arm64", "linux/arm64")] {
        let image = inspect(&sandbox, platform);
        assert_eq!(image["Architecture"], arch);
        let labels = &image["Config"]["Labels"];
        assert_eq!(labels["for"], platform);
        assert_ne!(labels["on"], Value::Null);
        assert_eq!(image["RootFS"]["Layers"].as_array().unwrap().len(), 3);
    }
    let id = fs::read_to_string(sandbox.work().join("id")).unwrap();
    let meta = fs::read_to_string(sandbox.work().join("meta")).unwrap();
    let meta: Value = serde_json::from_str(&meta).unwrap();
    assert_eq!(meta["containerimage.digest"], id.as_str());
    let kind = "application/vnd.oci.image.index.v1+json";
    assert_eq!(meta["containerimage.descriptor"]["mediaType"], kind);
    assert!(meta["image.name"].as_str().unwrap().ends_with("img:1"));
    // Again from the cache, with the same result.
    let again = build(&sandbox, "-t img:1 --iidfile id2");
    assert_eq!(again.stderr.matches(" CACHED").count(), 6, "{again}");
    assert_eq!(fs::read_to_string(sandbox.work().join("id2")).unwrap(), id);
    let names = sandbox.rctr("images -q --filter dangling=true").ok().stdout;
    assert_eq!(names, "");
    sandbox.assert_clean();
}

#[test]
fn directories_hold_one_for_each_platform() {
    let sandbox = scene();
    let built = build(&sandbox, "-o out");
    assert_eq!(built.code, 0, "{built}");
    let read = |path: &str| fs::read_to_string(sandbox.work().join("out").join(path)).unwrap();
    assert_eq!(read("linux_amd64/own"), "one\n");
    assert_eq!(read("linux_arm64/own"), "two\n");
    assert_eq!(sandbox.rctr("images -q").ok().stdout, "");
    sandbox.assert_clean();
}

#[test]
fn a_platform_that_fails_leaves_no_index() {
    let sandbox = scene();
    fs::remove_file(sandbox.work().join("ctx/arm64")).unwrap();
    let failed = build(&sandbox, "-t img:1");
    assert_eq!(failed.code, 1, "{failed}");
    assert!(failed.stderr.contains("COPY $TARGETARCH /own"), "{failed}");
    assert_eq!(sandbox.rctr("images -q").ok().stdout, "");
    for options in ["-o type=tar,dest=o.tar", "-o type=docker,dest=o.tar"] {
        let refused = build(&sandbox, options);
        assert_eq!(refused.code, 1, "{refused}");
        assert!(refused.stderr.contains("hint: "), "{refused}");
    }
    sandbox.assert_clean();
}

#[test]
fn an_index_is_pushed_by_its_build() {
    require!(Feature::Registry);
    let sandbox = scene();
    let registry = Registry::start(&sandbox, Door::Open);
    let name = format!("{}/team/app:1", registry.address());
    for options in [
        format!("-t {name} --push --metadata-file meta"),
        // Again, by the other way: the same.
        format!("-o type=registry,name={name} --metadata-file meta"),
    ] {
        let built = build(&sandbox, &options);
        assert_eq!(built.code, 0, "{built}");
        let (bytes, digest) = registry.manifest("team/app", "1");
        assert!(
            built.stderr.contains(&format!("pushed {name}@{digest}")),
            "{digest}: {built}"
        );
        let meta = fs::read_to_string(sandbox.work().join("meta")).unwrap();
        let meta: Value = serde_json::from_str(&meta).unwrap();
        assert_eq!(meta["containerimage.digest"], digest.as_str());
        assert_eq!(meta["containerimage.descriptor"]["size"], bytes.len());
        let index: Value = serde_json::from_slice(&bytes).unwrap();
        let architectures: Vec<_> = index["manifests"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| m["platform"]["architecture"].as_str().unwrap())
            .collect();
        assert_eq!(architectures, ["amd64", "arm64"]);
    }
    // Whoever pulls it has the same, and keeps its digest when it goes on.
    let (_, digest) = registry.manifest("team/app", "1");
    let other = Sandbox::new();
    other.words(["pull", "--all-platforms", &name]).ok();
    let further = format!("{}/team/further:1", registry.address());
    other.words(["tag", &name, &further]).ok();
    other.words(["push", &further]).ok();
    assert_eq!(registry.manifest("team/further", "1").1, digest);
    sandbox.assert_clean();
}

#[test]
fn one_archive_holds_the_index() {
    let sandbox = scene();
    let options = "-o type=oci,dest=o.tar,name=img:1 -o type=image --iidfile id";
    let built = build(&sandbox, options);
    assert_eq!(built.code, 0, "{built}");
    let id = fs::read_to_string(sandbox.work().join("id")).unwrap();
    let other = Sandbox::new();
    let archive = fs::read(sandbox.work().join("o.tar")).unwrap();
    other.rctr("load").stdin(archive.clone()).ok();
    for platform in ["linux/amd64", "linux/arm64"] {
        let (there, here) = (inspect(&other, platform), inspect(&sandbox, platform));
        assert_eq!(there["Id"], here["Id"]);
    }
    // Without an image in the store: the same bytes.
    let alone = build(
        &sandbox,
        "-o type=oci,dest=alone.tar,name=img:1 --iidfile id2",
    );
    assert_eq!(alone.code, 0, "{alone}");
    let again = fs::read(sandbox.work().join("alone.tar")).unwrap();
    assert_eq!(sha256(&again), sha256(&archive));
    assert_eq!(fs::read_to_string(sandbox.work().join("id2")).unwrap(), id);
    other.assert_clean();
    sandbox.assert_clean();
}

#[test]
fn a_cache_holds_the_steps_of_all_platforms() {
    let (first, second) = (scene(), scene());
    let written = build(&first, "-t img:1 --cache-to type=local,dest=cache,mode=max");
    assert_eq!(written.code, 0, "{written}");
    let cache = first.work().join("cache");
    let from = format!("--cache-from type=local,src={}", cache.display());
    let served = build(&second, &format!("-t img:1 {from} --fail-on-miss"));
    assert_eq!(served.code, 0, "{served}");
    assert_eq!(served.stderr.matches(" CACHED").count(), 6, "{served}");
    for platform in ["linux/amd64", "linux/arm64"] {
        let (there, here) = (inspect(&second, platform), inspect(&first, platform));
        assert_eq!(there["Id"], here["Id"]);
    }
    second.assert_clean();
}

#[test]
fn one_platform_of_several_is_not_removed_by_itself() {
    let sandbox = scene();
    assert_eq!(build(&sandbox, "-t img:1").code, 0);
    let refused = sandbox.rctr("rmi --platform linux/arm64 img:1").fails(1);
    refused.says("removed together").explains();
    inspect(&sandbox, "linux/arm64");
    sandbox
        .rctr("build --platform linux/arm64 -t one:1 ctx")
        .ok();
    let other = sandbox.rctr("rmi --platform linux/s390x one:1").fails(1);
    other.says("linux/s390x");
    sandbox.rctr("rmi --platform linux/arm64 one:1").ok();
    sandbox.rctr("rmi img:1").ok();
    assert_eq!(sandbox.rctr("images -q").ok().stdout, "");
}
