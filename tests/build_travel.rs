//! `build --cache-to` and `--cache-from`: a build cache that travels in a directory.

use std::fs;
use std::path::Path;

use crate::harness::archive::docker_archive;
use crate::harness::{Account, Output, Sandbox, images};

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
        missing
            .stderr
            .contains("warning: cache not used: cannot read nowhere/index.json"),
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
    assert!(broken.stderr.contains("index.json is damaged"), "{broken}");
}

#[test]
fn caches_of_other_kinds_are_refused() {
    let sandbox = scene();
    for (options, why) in [
        (
            "--cache-to type=registry,ref=a/b",
            "registries are not supported yet",
        ),
        ("--cache-from a/b", "registries are not supported yet"),
        ("--cache-to type=inline", "type=inline is not supported"),
        ("--cache-from type=gha", "type=gha is not supported"),
        ("--cache-to type=s3,bucket=b", "type=s3 is not supported"),
        ("--cache-to type=local", "dest=DIRECTORY"),
        ("--cache-to type=local,dest=x,mode=most", "want min or max"),
    ] {
        let output = sandbox.rctr(&format!("build {options} ctx")).fails(125);
        assert!(output.stderr.contains(why), "{output}");
    }
}
