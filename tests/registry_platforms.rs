//! Images for several platforms under one name, and places that are no registry.

use serde_json::Value;

use crate::harness::registry::{Door, Registry};
use crate::harness::{Feature, Output, Sandbox, images, require};
use crate::registry::digest_of;

/// A store with `ADDRESS/app:amd64` and `:arm64`, which are an index `ADDRESS/app:1` in the registry, too.
struct Scene {
    sandbox: Sandbox,
    registry: Registry,
    digest: String,
}

impl Scene {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let registry = Registry::start(&sandbox, Door::Open);
        let app = format!("{}/app", registry.address());
        let tar = images::busybox().to_str().unwrap();
        for architecture in ["amd64", "arm64"] {
            let platform = format!("linux/{architecture}");
            let name = format!("{app}:{architecture}");
            sandbox
                .words(["import", "--platform", &platform, tar, &name])
                .ok();
        }
        let [list, amd64, arm64] = ["1", "amd64", "arm64"].map(|tag| format!("{app}:{tag}"));
        let created = sandbox
            .words(["manifest", "create", &list, &amd64, &arm64])
            .ok();
        assert_eq!(created.line(), format!("Created manifest list {list}"));
        let digest = sandbox.words(["manifest", "push", &list]).ok();
        let digest = digest.lines().last().unwrap().to_string();
        Self {
            sandbox,
            registry,
            digest,
        }
    }

    fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.registry.address())
    }
}

fn architecture(sandbox: &Sandbox, name: &str) -> String {
    let words = ["image", "inspect", "-f", "{{.Architecture}}", name];
    sandbox.words(words).ok().line()
}

fn platforms(output: &Output) -> Vec<String> {
    let index: Value = serde_json::from_str(&output.stdout).unwrap();
    let manifests = index["manifests"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    manifests
        .map(|m| text(&m["platform"]["architecture"]) + &text(&m["platform"]["variant"]))
        .collect()
}

#[test]
fn an_index_is_made_and_pushed() {
    require!(Feature::Registry);
    let scene = Scene::new();
    let (list, sandbox) = (scene.name("app:1"), &scene.sandbox);
    assert_eq!(scene.registry.manifest("app", "1").1, scene.digest);
    let here = sandbox.words(["manifest", "inspect", &list]).ok();
    assert_eq!(platforms(&here), ["amd64", "arm64"]);
    let other = Sandbox::new();
    let there = other.words(["manifest", "inspect", &list]).ok();
    assert_eq!(platforms(&there), ["amd64", "arm64"]);
    let verbose = other.words(["manifest", "inspect", "-v", &list]).ok();
    let verbose: Value = serde_json::from_str(&verbose.stdout).unwrap();
    assert_eq!(
        verbose[1]["Descriptor"]["platform"]["architecture"],
        "arm64"
    );
    assert!(verbose[1]["OCIManifest"]["layers"].is_array(), "{verbose}");
    assert_eq!(
        other.rctr("images -q").ok().stdout,
        "",
        "nothing was pulled"
    );
    let arm64 = scene.name("app:arm64");
    sandbox
        .words(["manifest", "annotate", "--variant", "v8", &list, &arm64])
        .ok();
    let here = sandbox.words(["manifest", "inspect", &list]).ok();
    assert_eq!(platforms(&here), ["amd64", "arm64v8"]);
    let again = sandbox
        .words(["manifest", "create", &list, &arm64])
        .fails(1);
    again
        .says("refusing to amend an existing manifest list")
        .explains();
    sandbox
        .words(["manifest", "create", "-a", &list, &arm64])
        .ok();
    sandbox.words(["manifest", "rm", &list]).ok().prints(&list);
    sandbox
        .words(["manifest", "push", &list])
        .fails(1)
        .explains();
    assert_eq!(architecture(sandbox, &arm64), "arm64", "images stay");
    sandbox
        .words(["manifest", "inspect", &scene.name("none:1")])
        .fails(1)
        .explains();
}

#[test]
fn a_platform_is_pulled_or_all() {
    require!(Feature::Registry);
    let scene = Scene::new();
    let list = scene.name("app:1");
    let puller = Sandbox::new();
    let pulled = puller
        .words(["pull", "--platform", "linux/arm64", &list])
        .ok();
    assert_eq!(digest_of(&pulled), scene.digest, "that of the name");
    assert_eq!(architecture(&puller, &list), "arm64");
    let missing = puller
        .words(["pull", "--platform", "linux/riscv64", &list])
        .fails(1);
    missing.explains().says("linux/amd64, linux/arm64");
    let both = puller.words(["pull", "--all-platforms", &list]).ok();
    assert_eq!(digest_of(&both), scene.digest);
    let shown = puller.words(["manifest", "inspect", &list]).ok();
    assert_eq!(platforms(&shown), ["amd64", "arm64"]);
    // The whole index goes on, byte for byte.
    let copy = scene.name("copy:1");
    puller.words(["tag", &list, &copy]).ok();
    assert_eq!(digest_of(&puller.words(["push", &copy]).ok()), scene.digest);
    assert_eq!(scene.registry.manifest("copy", "1").1, scene.digest);
    let one = scene.name("one:1");
    puller.words(["tag", &list, &one]).ok();
    let one = puller
        .words(["push", "--platform", "linux/arm64", &one])
        .ok();
    assert_ne!(digest_of(&one), scene.digest);
}

#[test]
fn an_image_elsewhere_is_inspected() {
    require!(Feature::Registry);
    let scene = Scene::new();
    let name = format!("docker://{}", scene.name("app:1"));
    let other = Sandbox::new();
    let inspect = |options: &[&str]| {
        let words = ["image", "inspect"]
            .into_iter()
            .chain(options.iter().copied());
        other.words(words.chain([&name[..]])).ok()
    };
    inspect(&["-f", "{{.RepoDigests}}"]).prints(&scene.digest);
    let arm64 = inspect(&["--platform", "linux/arm64", "-f", "{{.Architecture}}"]);
    assert_eq!(arm64.line(), "arm64");
    assert_eq!(other.rctr("images -q").ok().stdout, "");
}

#[test]
fn images_are_copied_between_places() {
    require!(Feature::Registry);
    let scene = Scene::new();
    let sandbox = Sandbox::new();
    let from = format!("docker://{}", scene.name("app:1"));
    let to = format!("docker://{}", scene.name("back:1"));
    for place in ["oci:layout:1", "oci-archive:image.tar:1", "dir:plain"] {
        let out = sandbox
            .words(["image", "cp", "-q", "--all-platforms", &from, place])
            .ok();
        assert_eq!(out.line(), scene.digest, "{place}");
        let back = sandbox
            .words(["image", "cp", "-q", "--all-platforms", place, &to])
            .ok();
        assert_eq!(back.line(), scene.digest, "{place}");
    }
    assert_eq!(scene.registry.manifest("back", "1").1, scene.digest);
    sandbox
        .rctr("image cp oci:layout:1 here:1")
        .ok()
        .prints("Digest: sha256:");
    sandbox.rctr("run --rm --network none here:1 true").ok();
    for place in ["docker-archive:d.tar:here:1", "oci-archive:o.tar:here:1"] {
        sandbox.rctr(&format!("push here:1 {place}")).ok();
        sandbox.rctr("rmi -f here:1").ok();
        let pulled = sandbox.rctr(&format!("pull {place}")).ok();
        pulled.prints("here:1");
        sandbox.rctr("run --rm --network none here:1 true").ok();
    }
    sandbox.rctr("image cp here:1 there:1").fails(1).explains();
    sandbox.rctr("pull oci:none").fails(1).explains();
    sandbox.rctr("pull dir:plain").fails(1).explains();
    sandbox.rctr("push here:1 oci:").fails(1).explains();
}
