//! Images for several platforms, and what is no image, from place to place.

#[path = "support/place.rs"]
mod place;
#[path = "support/served.rs"]
mod served;
mod support;

use place::{Fault, Place};
use rctr_storage::digest::Digest;
use rctr_storage::explain::Explain;
use rctr_storage::manifest::Platform;
use rctr_storage::transfer::{
    self, Compression, CopyOptions, PullOptions, PushOptions, Silent, TransferError,
};
use serde_json::{Value, json};
use served::{noise, options, pull, serve, serve_for};
use support::{Sandbox, image, tag, tar_of};

/// An index of images for the platforms, and an attestation.
fn serve_index(platforms: &[&str]) -> (Place, Digest, Vec<Digest>) {
    let place = Place {
        name: Some(tag("registry.test/app:1")),
        ..Place::default()
    };
    let mut images = Vec::new();
    let mut listed = Vec::new();
    for (text, seed) in platforms.iter().zip(1..) {
        let platform = Platform::parse(text).unwrap();
        let tars = [
            tar_of(&[("base", b"shared")]),
            tar_of(&[("own", &noise(seed, 1000 * seed as usize))]),
        ];
        let digest = serve_for(&place, &tars, platform.clone());
        images.push(digest);
        listed.push(json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": digest,
            "size": place.manifests.lock().unwrap()[&digest].bytes.len(),
            "platform": platform,
        }));
    }
    let attestation = serve_attestation(&place);
    listed.push(attestation);
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": listed,
    });
    let digest = place.put_named(serde_json::to_vec_pretty(&index).unwrap());
    (place, digest, images)
}

/// As BuildKit makes them.
fn serve_attestation(place: &Place) -> Value {
    let statement = b"{\"_type\":\"https://in-toto.io/Statement/v0.1\"}".to_vec();
    let size = statement.len();
    let layer = place.put(statement);
    let config = json!({
        "architecture": "unknown", "os": "unknown",
        "rootfs": {"type": "layers", "diff_ids": [layer]},
    });
    let config = serde_json::to_vec(&config).unwrap();
    let config_size = config.len();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": place.put(config), "size": config_size,
        },
        "layers": [{"mediaType": "application/vnd.in-toto+json", "digest": layer, "size": size}],
    });
    let bytes = serde_json::to_vec(&manifest).unwrap();
    let size = bytes.len();
    json!({
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": place.put_manifest_bytes(bytes),
        "size": size,
        "platform": {"architecture": "unknown", "os": "unknown"},
    })
}

fn for_platform(text: &str) -> PullOptions {
    PullOptions {
        platform: Some(Platform::parse(text).unwrap()),
        ..options()
    }
}

fn all() -> PullOptions {
    PullOptions {
        all_platforms: true,
        ..options()
    }
}

/// Everything of `from` is in `to`, with the same digests.
fn assert_same(from: &Place, to: &Place) {
    assert!(*from.blobs.lock().unwrap() == *to.blobs.lock().unwrap());
    let documents = |place: &Place| -> Vec<Digest> {
        place.manifests.lock().unwrap().keys().copied().collect()
    };
    assert_eq!(documents(from), documents(to));
    assert_eq!(*from.named.lock().unwrap(), *to.named.lock().unwrap());
}

#[test]
fn the_image_for_the_platform_is_pulled() {
    let (place, index, images) = serve_index(&["linux/amd64", "linux/arm64", "linux/arm/v6"]);
    for (wanted, number) in [
        ("linux/amd64", 0),
        ("linux/arm64/v8", 1),
        ("linux/arm/v7", 2),
    ] {
        let sandbox = Sandbox::new();
        let name = tag("app:1");
        let wanted = for_platform(wanted);
        let pulled = transfer::pull(&sandbox.store, &place, &name, &wanted, &Silent).unwrap();
        assert_eq!(pulled.image.manifest.digest, images[number]);
        assert_eq!(pulled.digest, index);
        // Both digests name it, with its tag and without.
        for digest in [index, images[number]] {
            let name = format!("registry.test/app@{digest}");
            assert_eq!(sandbox.store.find_image(&name).unwrap().id, pulled.image.id);
        }
        let again = transfer::pull(&sandbox.store, &place, &name, &wanted, &Silent).unwrap();
        assert!(!again.changed);
    }
}

#[test]
fn a_platform_that_is_missing_is_told_with_those_that_are_there() {
    let sandbox = Sandbox::new();
    let (place, ..) = serve_index(&["linux/amd64", "linux/arm64"]);
    let pull = |place, wanted| {
        let pulled = transfer::pull(
            &sandbox.store,
            place,
            &tag("a:1"),
            &for_platform(wanted),
            &Silent,
        );
        let error = pulled.unwrap_err();
        (error.to_string(), error.hint().unwrap())
    };
    let (error, hint) = pull(&place, "linux/riscv64");
    assert_eq!(
        error,
        "no matching manifest for linux/riscv64 in memory: it is for linux/amd64, linux/arm64"
    );
    assert!(hint.contains("--platform linux/amd64"), "{hint}");
    let (error, _) = pull(&serve(&[10]).place, "linux/riscv64");
    assert!(
        error.starts_with("no matching manifest for linux/riscv64"),
        "{error}"
    );
}

#[test]
fn an_index_is_pulled_and_pushed_whole() {
    let sandbox = Sandbox::new();
    let (place, index, images) = serve_index(&["linux/amd64", "linux/arm64"]);
    let pulled = transfer::pull(&sandbox.store, &place, &tag("app:1"), &all(), &Silent).unwrap();
    assert_eq!((pulled.digest, pulled.changed), (index, true));
    sandbox.store.sweep().unwrap();
    for (text, digest) in ["linux/amd64", "linux/arm64"].iter().zip(&images) {
        let platform = Platform::parse(text).unwrap();
        let image = sandbox.store.find_image_for("app:1", &platform).unwrap();
        assert_eq!(image.manifest.digest, *digest);
    }
    place.forget_given();
    let again = transfer::pull(&sandbox.store, &place, &tag("app:1"), &all(), &Silent).unwrap();
    assert!(!again.changed);

    // Also what nobody has unpacked, after all sessions have ended.
    let other = sandbox.other();
    other.abandon().unwrap();
    let target = Place::default();
    let whole = PushOptions {
        all_platforms: true,
        ..PushOptions::default()
    };
    let pushed = transfer::push(&other, &pulled.image, &target, &whole, &Silent).unwrap();
    assert_eq!(pushed.digest, index);
    assert_same(&place, &target);

    let zstd = PushOptions {
        compression: Some((Compression::Zstd, None)),
        ..whole
    };
    let target = Place::default();
    let pushed = transfer::push(&other, &pulled.image, &target, &zstd, &Silent).unwrap();
    assert_ne!(pushed.digest, index);
    let third = Sandbox::new();
    let back = transfer::pull(&third.store, &target, &tag("app:1"), &all(), &Silent).unwrap();
    assert_eq!(
        (back.digest, back.image.id),
        (pushed.digest, pulled.image.id)
    );
}

#[test]
fn an_image_without_an_index_has_no_other_platforms() {
    let sandbox = Sandbox::new();
    let made = image(&sandbox.store, &["one"], &["app:1"]);
    let whole = PushOptions {
        all_platforms: true,
        ..PushOptions::default()
    };
    let pushed = transfer::push(&sandbox.store, &made, &Place::default(), &whole, &Silent);
    assert_eq!(
        pushed.unwrap_err().to_string(),
        "app:1 is an image for one platform, no index"
    );
}

#[test]
fn an_index_is_copied_whole_or_one_of_it() {
    let (place, index, images) = serve_index(&["linux/amd64", "linux/arm64"]);
    let options = CopyOptions {
        all_platforms: true,
        patience: options().patience,
        ..CopyOptions::default()
    };
    let target = Place::default();
    let copied = transfer::copy(&place, &target, &options, &Silent).unwrap();
    assert_eq!(copied.digest, index);
    assert_same(&place, &target);

    let one = CopyOptions {
        all_platforms: false,
        platform: Some(Platform::parse("linux/arm64").unwrap()),
        ..options
    };
    let target = Place::default();
    assert_eq!(
        transfer::copy(&place, &target, &one, &Silent)
            .unwrap()
            .digest,
        images[1]
    );
    assert_eq!(target.manifests.lock().unwrap().len(), 1);
}

#[test]
fn what_breaks_in_a_copy_is_taken_up_and_what_is_wrong_told() {
    let options = CopyOptions {
        patience: options().patience,
        ..CopyOptions::default()
    };
    for fault in [
        Fault::Cut(70_000),
        Fault::End(1000),
        Fault::Stall(0),
        Fault::FromStart,
    ] {
        let served = serve(&[300_000]);
        served.place.fault(served.layers[0], &[fault]);
        let target = Place::default();
        transfer::copy(&served.place, &target, &options, &Silent).unwrap();
        assert_same(&served.place, &target);
    }
    for fault in [
        Fault::Wrong(150_000),
        Fault::Wrong(11),
        Fault::TooLong,
        Fault::Refused,
    ] {
        let served = serve(&[300_000]);
        served
            .place
            .fault(served.layers[0], std::slice::from_ref(&fault));
        let target = Place::default();
        let error = transfer::copy(&served.place, &target, &options, &Silent).unwrap_err();
        let expected = match fault {
            Fault::Wrong(_) => matches!(error, TransferError::Digest { .. }),
            Fault::TooLong => matches!(error, TransferError::TooLong { .. }),
            _ => matches!(error, TransferError::Blob { .. }),
        };
        assert!(expected, "{error}");
        assert!(!target.blobs.lock().unwrap().contains_key(&served.layers[0]));
        assert!(target.named.lock().unwrap().is_none());
    }
    // An upload that goes on in the middle.
    let served = serve(&[300_000]);
    let target = Place::default();
    target.fault(served.layers[0], &[Fault::Cut(100_000)]);
    transfer::copy(&served.place, &target, &options, &Silent).unwrap();
    assert_same(&served.place, &target);
    assert_eq!(
        served
            .place
            .opened
            .load(std::sync::atomic::Ordering::SeqCst),
        2
    );
}

/// A manifest with such fields in place of its own.
fn pull_manifest(change: impl Fn(&mut Value)) -> String {
    let sandbox = Sandbox::new();
    let served = serve(&[10]);
    let mut manifest: Value = {
        let manifests = served.place.manifests.lock().unwrap();
        serde_json::from_slice(&manifests[&served.manifest].bytes).unwrap()
    };
    change(&mut manifest);
    served
        .place
        .put_named(serde_json::to_vec(&manifest).unwrap());
    let error = pull(&sandbox.store, &served.place).unwrap_err();
    assert!(sandbox.store.images().unwrap().is_empty());
    error.to_string()
}

#[test]
fn what_is_no_image_is_told_as_what_it_is() {
    let error = pull_manifest(|m| {
        m["config"]["mediaType"] = "application/vnd.cncf.helm.config.v1+json".into()
    });
    assert_eq!(
        error,
        "memory is no container image, it is an artifact of type application/vnd.cncf.helm.config.v1+json"
    );
    let error = pull_manifest(|m| {
        m["config"]["mediaType"] = "application/vnd.oci.empty.v1+json".into();
        m["artifactType"] = "application/x-sbom".into();
    });
    assert!(
        error.ends_with("an artifact of type application/x-sbom"),
        "{error}"
    );
    let error = pull_manifest(|m| m["layers"][0]["mediaType"] = "application/x-cake".into());
    assert!(
        error.ends_with("is of the unknown type application/x-cake"),
        "{error}"
    );
    let error = pull_manifest(|m| m["layers"] = vec![m["layers"][0].clone(); 10_000].into());
    assert_eq!(
        error,
        "memory has 10000 layers, more than the 1000 that an image may have"
    );
    let error = pull_manifest(|m| m["layers"] = json!([]));
    assert_eq!(
        error,
        "memory has 0 layers in its manifest and 1 in its config"
    );
    let error = pull_manifest(|m| *m = json!({"schemaVersion": 1, "fsLayers": []}));
    assert!(error.contains("schema 1"), "{error}");
    let error = pull_manifest(|m| *m = json!({"errors": []}));
    assert!(error.contains("is no valid document"), "{error}");
    let error = pull_manifest(|m| m["config"]["size"] = (1_u64 << 40).into());
    assert!(
        error.contains("more than a manifest or config may have"),
        "{error}"
    );
    let error = pull_manifest(|m| m["layers"][0]["size"] = 7.into());
    assert!(error.contains("is larger than the 7 bytes"), "{error}");
}

#[test]
fn an_image_may_have_no_layer() {
    let sandbox = Sandbox::new();
    let served = serve(&[]);
    assert!(
        pull(&sandbox.store, &served.place)
            .unwrap()
            .image
            .layers
            .is_empty()
    );
}
