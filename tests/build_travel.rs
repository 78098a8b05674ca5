//! `build --cache-to` and `--cache-from`: a build cache that travels in a directory, a registry, or an image.

use std::fs;
use std::path::Path;

use crate::harness::archive::docker_archive;
use crate::harness::registry::{Door, PASSWORD, Registry, USER};
use crate::harness::{Account, Feature, Output, Sandbox, images, require};

const DOCKERFILE: &str = "FROM base:1 AS make\nRUN cat /proc/uptime > /out\nFROM base:1\nWORKDIR /w\nCOPY --from=make /out /made\n\
    COPY a /a\nRUN cat /proc/uptime > /stamp\n";

fn scene() -> Sandbox {
    let sandbox = Sandbox::new();
    let layer = fs::read(images::busybox()).unwrap();
    let archive = docker_archive("base:1", &[layer]);
    sandbox.rctr("load").stdin(archive).ok();
    sandbox.file("ctx/Dockerfile", DOCKERFILE);
    sandbox.file("ctx/a", "a");
    sandbox
}

fn build(sandbox: &Sandbox, options: &str) -> Output {
    sandbox
        .rctr(&format!("build --progress plain -t img {options} ctx"))
        .ok()
}

fn id(sandbox: &Sandbox) -> String {
    sandbox
        .words(["image", "inspect", "--format", "{{.Id}}", "img"])
        .ok()
        .line()
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_cache_in_a_directory_serves_another_store() {
    let (first, second) = (scene(), scene());
    Account::current().make_dir(&first.work().join("shared"));
    let cache = first.work().join("shared/cache");
    let to = format!("--cache-to type=local,dest={},mode=max", cache.display());
    build(&first, &to);
    let blobs = names(&cache.join("blobs/sha256"));
    // Five steps' layers, their records, the manifest.
    assert_eq!(blobs.len(), 7, "{blobs:?}");
    assert_eq!(names(&cache), ["blobs", "index.json", "oci-layout"]);
    let from = format!("--cache-from type=local,src={}", cache.display());
    let served = build(&second, &format!("{from} --fail-on-miss"));
    assert_eq!(served.stderr.matches("CACHED").count(), 5, "{served}");
    assert_eq!(id(&second), id(&first));
    // Again, from there and to there: nothing changes.
    build(&second, &format!("{from} {to}"));
    assert_eq!(names(&cache.join("blobs/sha256")), blobs);
    second.assert_clean();
}

#[test]
fn a_small_cache_has_the_steps_of_the_target() {
    let sandbox = scene();
    build(&sandbox, "--cache-to type=local,dest=cache");
    assert_eq!(names(&sandbox.work().join("cache/blobs/sha256")).len(), 6);
}

#[test]
fn a_damaged_or_missing_cache_is_a_warning() {
    let (first, second) = (scene(), scene());
    build(&first, "--cache-to type=local,dest=cache,mode=max");
    let missing = build(&second, "--cache-from type=local,src=nowhere");
    assert!(
        missing.stderr.contains("warning: cache not used: cannot"),
        "{missing}"
    );
    assert_eq!(missing.stderr.matches("CACHED").count(), 0);
    let cache = first.work().join("cache");
    // Every layer is another one of the same size.
    for name in names(&cache.join("blobs/sha256")) {
        let path = cache.join("blobs/sha256").join(name);
        let mut bytes = fs::read(&path).unwrap();
        if bytes[0] != b'{' {
            bytes[0] ^= 1;
            fs::write(&path, bytes).unwrap();
        }
    }
    let third = scene();
    let from = format!("--cache-from type=local,src={}", cache.display());
    let damaged = build(&third, &from);
    assert!(
        damaged.stderr.contains("warning: cache not used"),
        "{damaged}"
    );
    assert_eq!(damaged.stderr.matches("CACHED").count(), 0, "{damaged}");
    third.assert_clean();
    fs::write(cache.join("index.json"), "{").unwrap();
    let broken = build(&third, &format!("{from} --no-cache"));
    assert!(
        broken.stderr.contains("warning: cache not used"),
        "{broken}"
    );
}

#[test]
fn a_cache_in_a_registry_serves_an_empty_store() {
    require!(Feature::Registry);
    let (first, second) = (scene(), scene());
    let registry = Registry::start(&first, Door::Password);
    for sandbox in [&first, &second] {
        sandbox
            .words(["login", "-u", USER, "-p", PASSWORD, &registry.address()])
            .ok();
    }
    let place = format!("{}/team/cache:main", registry.address());
    let built = build(
        &first,
        &format!("--cache-to type=registry,ref={place},mode=max"),
    );
    assert!(
        built
            .stderr
            .contains(&format!("exporting cache to {place}")),
        "{built}"
    );
    let served = build(&second, &format!("--cache-from {place} --fail-on-miss"));
    assert_eq!(served.stderr.matches("CACHED").count(), 5, "{served}");
    assert_eq!(id(&second), id(&first));
    second.assert_clean();

    // Another Dockerfile's steps come to those that are there.
    first.file("ctx/Other", "FROM base:1\nRUN cat /proc/uptime > /other\n");
    build(
        &first,
        &format!("-f ctx/Other --cache-to type=registry,ref={place},mode=max"),
    );
    let third = scene();
    third
        .words(["login", "-u", USER, "-p", PASSWORD, &registry.address()])
        .ok();
    third.file("ctx/Other", "FROM base:1\nRUN cat /proc/uptime > /other\n");
    let from = format!("--cache-from type=registry,ref={place} --fail-on-miss");
    assert_eq!(build(&third, &from).stderr.matches("CACHED").count(), 5);
    assert_eq!(
        build(&third, &format!("-f ctx/Other {from}"))
            .stderr
            .matches("CACHED")
            .count(),
        1
    );
}

#[test]
fn a_pushed_image_carries_its_cache() {
    require!(Feature::Registry);
    let (first, second) = (scene(), scene());
    let registry = Registry::start(&first, Door::Open);
    let name = format!("{}/app:1", registry.address());
    build(&first, &format!("-t {name} --cache-to type=inline"));
    first.words(["push", &name]).ok();
    // The first stage isn't in the image, but what was copied from it is.
    let from = format!("--cache-from {name}");
    let served = build(&second, &from);
    assert_eq!(served.stderr.matches("CACHED").count(), 1, "{served}");
    let alone = "FROM base:1\nRUN cat /proc/uptime > /stamp\n";
    first.file("ctx/Dockerfile", alone);
    build(&first, &format!("-t {name} --cache-to type=inline"));
    first.words(["push", &name]).ok();
    let third = scene();
    third.file("ctx/Dockerfile", alone);
    build(&third, &format!("{from} --fail-on-miss"));
}

/// `mounts=true`: a package manager's cache is warm on another machine.
#[test]
fn cache_mounts_travel_on_request() {
    let (first, second, third) = (scene(), scene(), scene());
    Account::current().make_dir(&first.work().join("shared"));
    let [with, without] = ["with", "without"].map(|name| first.work().join("shared").join(name));
    let file = "FROM base:1\nARG N\nRUN --mount=type=cache,target=/c echo $N >> /c/seen && cat /c/seen && cp /c/seen /seen\n";
    for sandbox in [&first, &second, &third] {
        sandbox.file("ctx/Dockerfile", file);
    }
    let to = |dir: &Path, more: &str| format!("type=local,dest={}{more}", dir.display());
    build(
        &first,
        &format!(
            "--build-arg N=one --cache-to {} --cache-to {}",
            to(&with, ",mounts=true"),
            to(&without, "")
        ),
    );
    let from = |dir: &Path| {
        format!(
            "--build-arg N=two --cache-from type=local,src={}",
            dir.display()
        )
    };
    let seen = |sandbox: &Sandbox| sandbox.rctr("run --rm img cat /seen").ok().stdout;
    build(&second, &from(&with));
    assert_eq!(seen(&second), "one\ntwo\n");
    build(&third, &from(&without));
    assert_eq!(seen(&third), "two\n");
}

#[test]
fn caches_of_other_kinds_are_refused() {
    let sandbox = scene();
    for (options, why) in [
        ("--cache-to type=registry", "needs ref=NAME"),
        ("--cache-from type=inline", "type=registry,ref=NAME"),
        ("--cache-from type=gha", "type=gha is not supported"),
        ("--cache-to type=s3,bucket=b", "unexpected key"),
        ("--cache-to type=s3", "type=s3 is not supported"),
        ("--cache-to type=local", "dest=DIRECTORY"),
        ("--cache-to type=local,dest=x,mode=most", "want min or max"),
        (
            "--cache-to type=local,dest=x,compression=lzma",
            "want uncompressed, gzip or zstd",
        ),
        ("--cache-to type=local,dest=x,max-size=much", "invalid size"),
        ("--cache-to type=registry,ref=UPPER", "lowercase"),
    ] {
        let output = sandbox.rctr(&format!("build {options} ctx")).fails(125);
        assert!(output.stderr.contains(why), "{output}");
    }
}
