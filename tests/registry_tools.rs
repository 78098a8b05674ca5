//! Images between us, skopeo and podman, by way of a registry: digests stay.

use crate::harness::registry::{Door, Registry};
use crate::harness::{Feature, Sandbox, require};
use crate::registry::digest_of;

#[test]
fn skopeo_sees_what_we_push() {
    require!(Feature::Registry, Feature::Tool("skopeo"));
    let sandbox = Sandbox::with_busybox();
    let registry = Registry::start(&sandbox, Door::Open);
    let address = registry.address();
    for (tag, options) in [
        ("plain", ""),
        ("zstd", "--compression zstd"),
        ("gzip9", "--compression gzip --compression-level 9"),
    ] {
        let name = format!("{address}/app:{tag}");
        sandbox.words(["tag", "busybox", &name]).ok();
        let pushed = sandbox.rctr(&format!("push {options} {name}")).ok();
        let digest = digest_of(&pushed);
        let seen = sandbox.program(&format!(
            "skopeo inspect --tls-verify=false --format {{{{.Digest}}}} docker://{name}"
        ));
        assert_eq!(seen.ok().line(), digest);
        // It verifies each blob.
        let copy = format!(
            "skopeo copy --src-tls-verify=false --dest-tls-verify=false --preserve-digests docker://{name} docker://{address}/copy:{tag}"
        );
        sandbox.program(&copy).ok();
        let pulled = sandbox
            .words(["pull", &format!("{address}/copy:{tag}")])
            .ok();
        assert_eq!(digest_of(&pulled), digest);
        let copied = format!("{address}/copy:{tag}");
        sandbox
            .words(["run", "--rm", "--network", "none", &copied, "true"])
            .ok();
    }
}

#[test]
fn we_run_what_skopeo_pushes() {
    require!(Feature::Registry, Feature::Tool("skopeo"));
    let sandbox = Sandbox::with_busybox();
    let registry = Registry::start(&sandbox, Door::Open);
    let address = registry.address();
    sandbox.rctr("save -o image.tar busybox").ok();
    sandbox.rctr("rmi -f busybox").ok();
    for format in ["oci", "v2s2"] {
        let name = format!("{address}/app:{format}");
        let copy = format!(
            "skopeo --insecure-policy copy -f {format} --dest-tls-verify=false docker-archive:image.tar docker://{name}"
        );
        sandbox.program(&copy).ok();
        let (bytes, digest) = registry.manifest("app", format);
        let pulled = sandbox.words(["pull", &name]).ok();
        assert_eq!(digest_of(&pulled), digest);
        sandbox
            .words(["run", "--rm", "--network", "none", &name, "true"])
            .ok();
        // And it goes back as it came.
        let back = format!("{address}/back:{format}");
        sandbox.words(["tag", &name, &back]).ok();
        assert_eq!(digest_of(&sandbox.words(["push", &back]).ok()), digest);
        assert_eq!(registry.manifest("back", format).0, bytes);
        sandbox.words(["rmi", "-f", &name, &back]).ok();
    }
}

#[test]
fn podman_pulls_what_we_push() {
    require!(Feature::Registry, Feature::Tool("podman"));
    let sandbox = Sandbox::with_busybox();
    let registry = Registry::start(&sandbox, Door::Open);
    let name = format!("{}/app:1", registry.address());
    sandbox.words(["tag", "busybox", &name]).ok();
    let digest = digest_of(&sandbox.words(["push", &name]).ok());
    let store = sandbox.dir().join("podman");
    let podman = |words: &str| {
        let store = store.display();
        let line =
            format!("podman --storage-driver vfs --root {store} --runroot {store}-run {words}");
        // It leaves a process that holds its namespaces: known by this variable, it ends with the sandbox.
        sandbox.program(&line).env("PATH", sandbox.search_path())
    };
    podman(&format!("pull --tls-verify=false {name}")).ok();
    let seen = podman(&format!("image inspect --format {{{{.Digest}}}} {name}")).ok();
    assert_eq!(seen.line(), digest);
    podman(&format!(
        "push --tls-verify=false {name} docker://{}/back:1",
        registry.address()
    ))
    .ok();
    sandbox.words(["rmi", "-f", &name]).ok();
    let back = format!("{}/back:1", registry.address());
    sandbox.words(["pull", &back]).ok();
    sandbox
        .words(["run", "--rm", "--network", "none", &back, "true"])
        .ok();
}
