//! Images for several platforms under one name.
#![allow(missing_docs, reason = "a test")]

mod support;

use std::fs;

use rctr_storage::Store;
use rctr_storage::archive::{self, Format};
use rctr_storage::check::{Depth, Repair};
use rctr_storage::digest::Digest;
use rctr_storage::image::{Image, ImageError, NewImage};
use rctr_storage::manifest::{Descriptor, OCI_MANIFEST, Platform};
use rctr_storage::removal::{PruneScope, RemoveImage, Removed};
use support::{Sandbox, config, entries, image, layer, record, tag};

const PLAIN: RemoveImage = RemoveImage {
    force: false,
    keep_parents: false,
};

/// A platform that no test runs on.
fn other() -> Platform {
    Platform::parse("linux/s390x").unwrap()
}

fn third() -> Platform {
    Platform::parse("linux/riscv64").unwrap()
}

fn image_for(store: &Store, platform: &Platform, content: &str, tags: &[&str]) -> Image {
    let mut config = config("2024-05-01T10:00:00Z");
    config.architecture.clone_from(&platform.architecture);
    config.variant.clone_from(&platform.variant);
    let new = NewImage {
        config,
        layers: vec![layer(store, content)],
        tags: tags.iter().map(|name| tag(name)).collect(),
        parent: None,
    };
    store.create_image(new).unwrap()
}

fn for_platform(image: &Image) -> Descriptor {
    Descriptor {
        platform: Some(Platform::of(&image.config)),
        ..image.manifest.clone()
    }
}

/// An index of two images, for this machine and another.
struct House {
    sandbox: Sandbox,
    index: Descriptor,
    own: Image,
    far: Image,
}

fn house() -> House {
    let sandbox = Sandbox::new();
    let store = sandbox.other();
    let own = image_for(&store, &Platform::host(), "own", &[]);
    let far = image_for(&store, &other(), "far", &[]);
    let manifests = [for_platform(&far), for_platform(&own)];
    let index = store.put_index(&manifests, &[tag("app:1")]).unwrap();
    drop(store);
    House {
        sandbox,
        index,
        own,
        far,
    }
}

impl House {
    fn is_clean(&self) -> bool {
        let report = self.sandbox.other().check(Repair::No, Depth::Deep).unwrap();
        assert_eq!(report.problems, []);
        true
    }

    fn blobs(&self) -> usize {
        entries(&self.sandbox.root().join("blobs/sha256")).len()
    }
}

#[test]
fn a_name_stands_for_the_image_of_the_wanted_platform() {
    let house = house();
    let store = house.sandbox.other();
    assert_eq!(store.find_image("app:1").unwrap().id, house.own.id);
    let host = store.find_image_for("app:1", &Platform::host()).unwrap();
    assert_eq!(host.id, house.own.id);
    let far = store.find_image_for("app:1", &other()).unwrap();
    assert_eq!((far.id, far.tags), (house.far.id, vec![tag("app:1")]));
    let error = store.find_image_for("app:1", &third()).unwrap_err();
    assert!(error.is_wrong_platform());
    assert_eq!(
        error.to_string(),
        format!(
            "image with reference app:1 was found but does not match the specified platform: wanted linux/riscv64, actual: {}, linux/s390x",
            Platform::host()
        )
    );
    let by_id = store.find_image_for(&house.far.id.hex(), &Platform::host());
    assert!(by_id.unwrap_err().is_wrong_platform());
    let (descriptor, index) = store.find_index("app:1").unwrap().unwrap();
    assert_eq!(
        (descriptor, index.manifests.len()),
        (house.index.clone(), 2)
    );
    assert_eq!(store.find_index("nothing").unwrap(), None);
    let by_digest = format!("app@{}", house.index.digest);
    assert_eq!(store.find_image(&by_digest).unwrap().id, house.own.id);
    assert!(house.is_clean());
}

#[test]
fn without_one_for_this_machine_the_only_one_is_meant() {
    let sandbox = Sandbox::new();
    let store = sandbox.other();
    let far = image_for(&store, &other(), "far", &[]);
    let third = image_for(&store, &third(), "third", &[]);
    store
        .put_index(&[for_platform(&far)], &[tag("one")])
        .unwrap();
    assert_eq!(store.find_image("one").unwrap().id, far.id);
    let two = [for_platform(&far), for_platform(&third)];
    store.put_index(&two, &[tag("two")]).unwrap();
    let error = store.find_image("two").unwrap_err();
    assert!(matches!(error, ImageError::NoPlatform { .. }));
    let text = error.to_string();
    assert!(text.contains("linux/riscv64, linux/s390x"), "{text}");
}

#[test]
fn images_shows_the_name_once() {
    let house = house();
    let images = house.sandbox.other().images().unwrap();
    assert_eq!(images.len(), 2);
    let own = images.iter().find(|i| i.id == house.own.id).unwrap();
    assert_eq!((&own.tags[..], own.part_of), (&[tag("app:1")][..], None));
    let far = images.iter().find(|i| i.id == house.far.id).unwrap();
    assert_eq!(
        (far.tags.len(), far.part_of),
        (0, Some(house.index.digest)),
        "it isn't dangling"
    );
    let tags = house.sandbox.other().tags().unwrap();
    assert!(tags.contains(&(tag("app:1"), house.far.id)));
}

#[test]
fn manifests_of_an_index_may_be_elsewhere() {
    let sandbox = Sandbox::new();
    let own = image_for(&sandbox.other(), &Platform::host(), "own", &[]);
    let mut absent = Descriptor::new(OCI_MANIFEST, Digest::of(b"elsewhere"), 9);
    absent.platform = Some(other());
    let store = sandbox.other();
    store
        .put_index(&[absent, for_platform(&own)], &[tag("app")])
        .unwrap();
    drop(store);
    let store = sandbox.other();
    assert!(store.sweep().unwrap().blobs.is_empty());
    assert_eq!(store.find_image("app").unwrap().id, own.id);
    let error = store.find_image_for("app", &other()).unwrap_err();
    assert!(error.is_wrong_platform(), "{error}");
    let report = store.check(Repair::No, Depth::Deep).unwrap();
    assert_eq!(report.problems, []);
}

#[test]
fn an_index_goes_with_its_images() {
    let house = house();
    assert!(
        house.sandbox.other().sweep().unwrap().blobs.is_empty(),
        "all of it is of use"
    );
    let pruned = house.sandbox.other();
    let pruned = pruned.prune_images(PruneScope::Dangling, &|_| true);
    assert_eq!(pruned.unwrap().removed, []);
    let removed = house.sandbox.other().remove_image("app:1", PLAIN).unwrap();
    assert_eq!(removed[0], Removed::Untagged("app:1".to_owned()));
    for digest in [house.index.digest, house.own.id, house.far.id] {
        assert!(removed.contains(&Removed::Deleted(digest)), "{removed:?}");
    }
    assert_eq!(house.blobs(), 0);
    assert!(house.is_clean());
}

#[test]
fn an_image_with_a_name_of_its_own_outlives_the_index() {
    let house = house();
    let store = house.sandbox.other();
    store.tag(&house.far, &tag("far:1")).unwrap();
    store.remove_image("app:1", PLAIN).unwrap();
    assert_eq!(store.find_image("far:1").unwrap().id, house.far.id);
    assert!(store.find_image(&house.own.id.hex()).is_err());
    drop(store);
    assert!(house.is_clean());
}

#[test]
fn an_id_stands_for_the_index_when_it_is_removed() {
    let house = house();
    let store = house.sandbox.other();
    store.tag_named("app:1", &tag("app:2")).unwrap();
    let id = house.own.id.hex();
    let error = store.remove_image(&id, PLAIN).unwrap_err().to_string();
    assert!(error.contains("multiple repositories"), "{error}");
    store.remove_image("app:2", PLAIN).unwrap();
    store.remove_image(&id, PLAIN).unwrap();
    drop(store);
    assert_eq!(house.blobs(), 0);
}

#[test]
fn a_used_image_of_an_index_stays() {
    let house = house();
    let mut used = record("web");
    used.image = house.far.id;
    used.layers = house.far.layers.iter().map(|l| l.diff_id.0).collect();
    let store = house.sandbox.other();
    let container = store.create_container(used).unwrap();
    let error = store.remove_image("app:1", PLAIN).unwrap_err();
    assert!(matches!(error, ImageError::ReferenceInUse { .. }));
    let pruned = store.prune_images(PruneScope::Unused, &|_| true).unwrap();
    assert_eq!(pruned.removed, []);
    let force = RemoveImage {
        force: true,
        ..PLAIN
    };
    store.remove_image("app:1", force).unwrap();
    drop(container);
    drop(store);
    assert!(house.is_clean());
}

#[test]
fn tags_move_between_images_and_indexes() {
    let house = house();
    let store = house.sandbox.other();
    let new = image(&store, &["new"], &["app:1"]);
    assert_eq!(store.find_image("app:1").unwrap().id, new.id);
    assert_eq!(store.find_index("app:1").unwrap(), None);
    store
        .tag_named(&house.index.digest.to_string(), &tag("app:1"))
        .unwrap();
    assert_eq!(store.find_image("app:1").unwrap().id, house.own.id);
    let images = store.images().unwrap();
    let new = images.iter().find(|i| i.id == new.id).unwrap();
    assert!(new.tags.is_empty());
    // A nameless index is pruned.
    image(&store, &["new"], &["app:1"]);
    drop(store);
    let store = house.sandbox.other();
    let pruned = store.prune_images(PruneScope::Dangling, &|_| true).unwrap();
    let gone = Removed::Deleted(house.index.digest);
    assert!(pruned.removed.contains(&gone), "{pruned:?}");
    assert_eq!(store.images().unwrap().len(), 1);
    drop(store);
    assert!(house.is_clean());
}

#[test]
fn another_tool_lists_an_index() {
    let house = house();
    let path = house.sandbox.root().join("index.json");
    let mut index: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let listed = index["manifests"].as_array_mut().unwrap();
    listed.retain(|d| d["mediaType"].as_str().unwrap().contains("index"));
    for descriptor in listed.iter_mut() {
        let annotations = descriptor["annotations"].as_object_mut().unwrap();
        annotations.retain(|key, _| !key.starts_with("dev.rctr."));
    }
    fs::write(&path, serde_json::to_vec(&index).unwrap()).unwrap();
    let store = house.sandbox.other();
    assert_eq!(store.find_image("app:1").unwrap().id, house.own.id);
    assert_eq!(
        store.find_image_for("app:1", &other()).unwrap().id,
        house.far.id
    );
    drop(store);
    assert!(house.is_clean());
}

#[test]
fn an_index_travels_in_an_oci_archive() {
    let house = house();
    let mut whole = Vec::new();
    let store = house.sandbox.other();
    archive::save(&store, &["app:1"], Format::Oci, &mut whole).unwrap();
    let there = Sandbox::new();
    let loaded = archive::load(&there.store, whole.as_slice()).unwrap();
    assert_eq!(loaded.len(), 1);
    assert_eq!(loaded[0].id, house.own.id);
    let (descriptor, _) = there.store.find_index("app:1").unwrap().unwrap();
    assert_eq!(descriptor, house.index, "byte for byte");
    assert_eq!(
        there.store.find_image_for("app:1", &other()).unwrap().id,
        house.far.id
    );

    for (platform, format, want) in [
        (None, Format::Docker, &house.own),
        (Some(other()), Format::Docker, &house.far),
        (Some(other()), Format::Oci, &house.far),
    ] {
        let mut bytes = Vec::new();
        archive::save_for(&store, &["app:1"], format, platform.as_ref(), &mut bytes).unwrap();
        let there = Sandbox::new();
        archive::load(&there.store, bytes.as_slice()).unwrap();
        let images = there.store.images().unwrap();
        assert_eq!(images.len(), 1);
        assert_eq!(
            (images[0].id, &images[0].tags[..]),
            (want.id, &[tag("app:1")][..])
        );
    }
    let wrong = archive::save_for(
        &store,
        &["app:1"],
        Format::Docker,
        Some(&third()),
        &mut Vec::new(),
    );
    assert!(wrong.is_err());
}

#[test]
fn a_damaged_index_is_mended() {
    // Its document: the images stay.
    let house = self::house();
    fs::write(house.sandbox.store.blob_path(&house.index.digest), "{}").unwrap();
    let store = house.sandbox.other();
    store.check(Repair::Yes, Depth::Deep).unwrap();
    assert_eq!(store.images().unwrap().len(), 2);
    drop(store);
    assert!(house.is_clean());

    // A part of an image: the other stays under the name.
    for part in 0..3 {
        let house = self::house();
        let digest = match part {
            0 => house.far.id,
            1 => house.far.manifest.digest,
            _ => house.far.layers[0].digest,
        };
        let path = house.sandbox.store.blob_path(&digest);
        match part {
            2 => {
                fs::remove_file(path).unwrap();
                let layer = house.sandbox.store.layer_dir(&house.far.layers[0].diff_id);
                support::run(&["rm", "-r", layer.parent().unwrap().to_str().unwrap()]);
            }
            _ => fs::write(path, "{}").unwrap(),
        }
        let store = house.sandbox.other();
        store.check(Repair::Yes, Depth::Deep).unwrap();
        assert_eq!(store.find_image("app:1").unwrap().id, house.own.id);
        let far = store.find_image_for("app:1", &other());
        assert!(far.unwrap_err().is_wrong_platform(), "part {part}");
        drop(store);
        assert!(house.is_clean(), "part {part}");
    }

    // All that lists them.
    let house = self::house();
    fs::remove_file(house.sandbox.root().join("index.json")).unwrap();
    house
        .sandbox
        .other()
        .check(Repair::Yes, Depth::Deep)
        .unwrap();
    let store = house.sandbox.other();
    let digest = house.index.digest.to_string();
    assert!(store.find_index(&digest).unwrap().is_some());
    assert_eq!(store.images().unwrap().len(), 2);
    drop(store);
    assert!(house.is_clean());
}
