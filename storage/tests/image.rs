//! Images in the store, and how other tools see it.

mod support;

use std::fs;

use rctr_storage::check::{Depth, Repair};
use rctr_storage::image::{ImageError, NewImage};
use rctr_storage::record::{ContainerRecord, ContainerState, Status};
use rctr_storage::removal::{PruneScope, RemoveImage, Removed};
use support::{Sandbox, config, entries, have, image, layer, record, run, tag};

const PLAIN: RemoveImage = RemoveImage {
    force: false,
    keep_parents: false,
};
const FORCE: RemoveImage = RemoveImage {
    force: true,
    keep_parents: false,
};

fn untagged(name: &str) -> Removed {
    Removed::Untagged(name.to_owned())
}

/// A build from the cache names the same image again, and must not wait for the disk.
#[test]
fn an_image_that_is_made_again_leaves_the_list_as_it_was() {
    let sandbox = Sandbox::new();
    let first = image(&sandbox.store, &["a"], &["app:1"]);
    std::thread::sleep(std::time::Duration::from_millis(5));
    let again = image(&sandbox.store, &["a"], &["app:1"]);
    assert_eq!(again, first);
    std::thread::sleep(std::time::Duration::from_millis(5));
    let taken = image(&sandbox.store, &["b"], &["app:1"]);
    assert_ne!(taken.id, first.id);
    let back = image(&sandbox.store, &["a"], &["app:1"]);
    assert_ne!(back.tagged, first.tagged);
    assert_eq!(sandbox.store.find_image("app:1").unwrap().id, first.id);
}

#[test]
fn an_image_is_found_by_tag_id_prefix_and_digest() {
    let sandbox = Sandbox::new();
    let made = image(&sandbox.store, &["a"], &["app:1", "localhost:5000/app"]);
    let id = made.id.to_string();
    let digest = format!("app@{}", made.manifest.digest);
    for name in [
        "app:1",
        "docker.io/library/app:1",
        "localhost:5000/app:latest",
        "localhost:5000/app",
        &id,
        &id[7..],
        &id[7..19],
        &id[7..8],
        &id[..20],
        &digest,
    ] {
        assert_eq!(sandbox.store.find_image(name).unwrap(), made, "{name}");
    }
    let other = format!("other@{}", made.manifest.digest);
    for name in ["app", "app:2", "", "APP", &"0".repeat(64), "zz", &other] {
        let error = sandbox.store.find_image(name).unwrap_err();
        assert!(matches!(error, ImageError::NotFound { .. }), "{name}");
    }
    let error = sandbox.store.find_image("nothing").unwrap_err();
    assert_eq!(error.to_string(), "No such image: nothing:latest");
    let list = sandbox.store.images().unwrap();
    assert_eq!(list.len(), 1);
    assert_eq!(
        (list[0].id, list[0].tags.len(), list[0].layers),
        (made.id, 2, 1)
    );
    assert_eq!(sandbox.store.snapshot(&made).len(), 1);
}

#[test]
fn the_same_input_gives_the_same_image() {
    let (one, two) = (Sandbox::new(), Sandbox::new());
    let made = image(&one.store, &["a", "b"], &["x"]);
    assert_eq!(made, {
        let mut other = image(&two.store, &["a", "b"], &["x"]);
        other.tagged.clone_from(&made.tagged);
        other
    });
    assert_eq!(image(&one.store, &["a", "b"], &[]).tags, [tag("x")]);
    assert_eq!(one.store.images().unwrap().len(), 1);
}

#[test]
fn a_tag_moves_and_leaves_a_dangling_image() {
    let sandbox = Sandbox::new();
    let old = image(&sandbox.store, &["a"], &["app"]);
    let new = image(&sandbox.store, &["b"], &["app"]);
    assert_eq!(sandbox.store.find_image("app").unwrap().id, new.id);
    assert!(
        sandbox
            .store
            .find_image(&old.id.hex())
            .unwrap()
            .tags
            .is_empty()
    );
    sandbox.store.tag(&old, &tag("app")).unwrap();
    assert_eq!(sandbox.store.find_image("app").unwrap().id, old.id);
    let error = sandbox
        .store
        .tag(&old, &tag(&format!("a@{}", old.id)))
        .unwrap_err();
    assert!(matches!(error, ImageError::NotATag { .. }));
}

#[test]
fn removing_the_last_tag_removes_the_image_and_its_layers() {
    let sandbox = Sandbox::new();
    image(&sandbox.other(), &["base", "a"], &["app:1", "app:2"]);
    image(&sandbox.other(), &["base", "b"], &["other"]);
    let store = &sandbox.store;
    let id = store.find_image("app:1").unwrap().id;
    assert_eq!(
        store.remove_image("app:1", PLAIN).unwrap(),
        [untagged("app:1")]
    );
    let removed = store.remove_image("app:2", PLAIN).unwrap();
    assert_eq!(removed[..2], [untagged("app:2"), Removed::Deleted(id)]);
    assert_eq!(
        removed.len(),
        3,
        "one layer is shared and stays: {removed:?}"
    );
    assert_eq!(entries(&sandbox.root().join("layers")).len(), 2);
    assert_eq!(entries(&sandbox.root().join("blobs/sha256")).len(), 4);
    store.remove_image("other", PLAIN).unwrap();
    assert!(entries(&sandbox.root().join("layers")).is_empty());
    assert!(entries(&sandbox.root().join("blobs/sha256")).is_empty());
    assert!(
        store
            .remove_image("other", PLAIN)
            .unwrap_err()
            .is_not_found()
    );
}

#[test]
fn an_id_with_several_tags_must_be_forced() {
    let sandbox = Sandbox::new();
    let made = image(&sandbox.other(), &["a"], &["app:1", "other:1"]);
    let hex = made.id.hex();
    let error = sandbox.store.remove_image(&hex[..12], PLAIN).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "conflict: unable to delete {} (must be forced) - image is referenced in multiple repositories",
            &hex[..12]
        )
    );
    let removed = sandbox.store.remove_image(&hex[..12], FORCE).unwrap();
    assert_eq!(
        removed[..3],
        [
            untagged("app:1"),
            untagged("other:1"),
            Removed::Deleted(made.id)
        ]
    );
    assert!(sandbox.store.images().unwrap().is_empty());
}

fn container_of_store(
    store: &rctr_storage::Store,
    name: &str,
    image: &rctr_storage::image::Image,
) -> ContainerRecord {
    let mut record = record(name);
    record.image = image.id;
    record.layers = image.layers.iter().map(|layer| layer.diff_id.0).collect();
    store.create_container(record).unwrap().record
}

fn container_of(
    sandbox: &Sandbox,
    name: &str,
    image: &rctr_storage::image::Image,
) -> ContainerRecord {
    container_of_store(&sandbox.store, name, image)
}

#[test]
fn an_image_in_use_stays() {
    let sandbox = Sandbox::new();
    let made = image(&sandbox.other(), &["a"], &["app"]);
    let container = container_of(&sandbox, "web", &made);
    let (store, hex) = (sandbox.other(), made.id.hex());
    let short = &container.id[..12];
    assert_eq!(
        store.remove_image("app", PLAIN).unwrap_err().to_string(),
        format!(
            "conflict: unable to remove repository reference \"app:latest\" (must force) - container {short} is using its referenced image {}",
            &hex[..12]
        )
    );
    let error = store.remove_image(&hex, PLAIN).unwrap_err().to_string();
    assert!(error.ends_with(&format!(
        "(must be forced) - image is being used by stopped container {short}"
    )));
    // Running: nothing deletes it.
    let monitor = store.take_monitor_lock(&container.id).unwrap();
    let state = ContainerState {
        status: Status::Running,
        ..ContainerState::default()
    };
    store
        .write_state(
            &container.id,
            &state,
            rctr_storage::atomic::Durability::None,
        )
        .unwrap();
    let error = store.remove_image(&hex, FORCE).unwrap_err().to_string();
    assert!(error.ends_with(&format!(
        "(cannot be forced) - image is being used by running container {short}"
    )));
    assert_eq!(
        store.remove_image("app", FORCE).unwrap(),
        [untagged("app:latest")]
    );
    assert!(
        store
            .prune_images(PruneScope::Unused, &|_| true)
            .unwrap()
            .removed
            .is_empty()
    );
    drop(monitor);
    // Stopped: force deletes the image; what the container stands on stays.
    let removed = store.remove_image(&hex, FORCE).unwrap();
    assert_eq!(removed, [Removed::Deleted(made.id)]);
    assert!(store.has_layer(&made.layers[0].diff_id));
    assert!(store.read_config(&made.id).is_ok());
    store.remove_container(&container.id).unwrap();
    store.sweep().unwrap();
    assert!(!store.has_layer(&made.layers[0].diff_id));
}

#[test]
fn children_keep_their_parents() {
    let sandbox = Sandbox::new();
    let parent = image(&sandbox.other(), &["a"], &["base"]);
    let child = {
        let store = sandbox.other();
        let layers = vec![parent.layers[0].clone(), layer(&store, "b")];
        let new = NewImage {
            config: config("2024-05-02T10:00:00Z"),
            layers,
            tags: vec![tag("app")],
            parent: Some(parent.id),
        };
        store.create_image(new).unwrap()
    };
    let store = &sandbox.store;
    let error = store
        .remove_image(&parent.id.hex(), FORCE)
        .unwrap_err()
        .to_string();
    assert!(error.ends_with("(cannot be forced) - image has dependent child images"));
    assert_eq!(
        store.remove_image("base", PLAIN).unwrap(),
        [untagged("base:latest")]
    );
    assert!(
        store
            .prune_images(PruneScope::Dangling, &|_| true)
            .unwrap()
            .removed
            .is_empty()
    );
    let removed = store.remove_image("app", PLAIN).unwrap();
    assert_eq!(
        removed[..3],
        [
            untagged("app:latest"),
            Removed::Deleted(child.id),
            Removed::Deleted(parent.id)
        ],
        "the nameless parent goes too"
    );
    assert!(entries(&sandbox.root().join("blobs/sha256")).is_empty());
}

#[test]
fn prune_takes_the_nameless_or_all_that_is_unused() {
    let sandbox = Sandbox::new();
    {
        let store = sandbox.other();
        image(&store, &["a"], &["app"]);
        image(&store, &["b"], &["app"]);
        image(&store, &["c"], &["used"]);
    }
    let used = sandbox.store.find_image("used").unwrap();
    container_of(&sandbox, "web", &used);
    let store = sandbox.other();
    assert!(
        store
            .prune_images(PruneScope::Dangling, &|_| false)
            .unwrap()
            .removed
            .is_empty()
    );
    let pruned = store.prune_images(PruneScope::Dangling, &|_| true).unwrap();
    assert!(pruned.bytes > 0);
    assert_eq!(store.images().unwrap().len(), 2);
    store.prune_images(PruneScope::Unused, &|_| true).unwrap();
    assert_eq!(store.images().unwrap().len(), 1);
    assert!(store.find_image("used").is_ok());
}

#[test]
fn what_is_being_added_is_not_swept() {
    let sandbox = Sandbox::new();
    let adder = sandbox.other();
    let blob = layer(&adder, "new");
    assert!(sandbox.store.sweep().unwrap().blobs.is_empty());
    assert!(adder.has_layer(&blob.diff_id) && adder.has_blob(&blob.digest));
    drop(adder);
    let freed = sandbox.store.sweep().unwrap();
    assert_eq!((freed.blobs.len(), freed.layers.len()), (1, 1));
}

/// Everybody adds, uses and removes at once; nobody may lose what is theirs.
#[test]
fn concurrent_writers_do_not_disturb_each_other() {
    let sandbox = Sandbox::new();
    image(&sandbox.other(), &["shared", "base"], &["base"]);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let sandbox = &sandbox;
            scope.spawn(move || {
                for round in 0..15 {
                    let name = format!("app{thread}");
                    let own = format!("{thread} {round}");
                    let adder = sandbox.other();
                    let made = image(&adder, &["shared", &own], &[&name]);
                    let record = container_of_store(&adder, &format!("c{thread}"), &made);
                    drop(adder);
                    let store = sandbox.other();
                    assert_eq!(store.find_image(&name).unwrap().id, made.id);
                    let lowers = store.lowers(made.layers.iter().map(|l| l.diff_id));
                    assert!(lowers.iter().all(|dir| dir.exists()));
                    store.remove_container(&record.id).unwrap();
                    store.remove_image(&name, PLAIN).unwrap();
                    store.sweep().unwrap();
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..60 {
                let store = sandbox.other();
                store.find_image("base").unwrap();
                store.containers().unwrap();
                let pruned = store.prune_images(PruneScope::Dangling, &|_| true);
                assert!(pruned.unwrap().removed.is_empty());
            }
        });
    });
    assert_eq!(sandbox.other().images().unwrap().len(), 1);
    let report = sandbox.other().check(Repair::No, Depth::Deep).unwrap();
    assert_eq!(report.problems, []);
    assert!(entries(&sandbox.root().join("tmp")).is_empty());
}

#[test]
fn what_a_killed_adder_left_goes_with_the_next_write() {
    let sandbox = Sandbox::new();
    let adder = sandbox.other();
    let blob = layer(&adder, "new");
    std::mem::forget(adder); // Its lock stays taken, so:
    let names = entries(&sandbox.root().join("tmp"));
    let lock = names.iter().find(|name| name.ends_with(".lock")).unwrap();
    let pins = fs::read(sandbox.root().join("tmp").join(lock)).unwrap();
    fs::write(sandbox.root().join("tmp/1-dead.lock"), pins).unwrap();
    fs::remove_file(sandbox.root().join("tmp").join(lock)).unwrap();
    sandbox.store.temp_path("x").unwrap();
    assert!(!sandbox.store.has_blob(&blob.digest));
    assert!(!sandbox.root().join("tmp/1-dead.lock").exists());
}

#[test]
fn skopeo_and_umoci_read_the_store() {
    let sandbox = Sandbox::new();
    image(
        &sandbox.store,
        &["a"],
        &["app:1", "app:2", "localhost/x/y:z"],
    );
    image(&sandbox.store, &["b"], &["app:1"]);
    let root = sandbox.root();
    let root = root.to_str().unwrap();
    if have("skopeo") {
        for name in ["app:1", "app:2", "localhost/x/y:z"] {
            let to = sandbox.dir.join("copy").join(name.replace(['/', ':'], "-"));
            fs::create_dir_all(&to).unwrap();
            run(&[
                "skopeo",
                "copy",
                &format!("oci:{root}:{name}"),
                &format!("dir:{}", to.display()),
            ]);
        }
        let a = fs::read(sandbox.dir.join("copy/app-1/manifest.json")).unwrap();
        let b = fs::read(sandbox.dir.join("copy/app-2/manifest.json")).unwrap();
        assert_ne!(a, b);
    }
    if have("umoci") {
        let list = run(&["umoci", "list", "--layout", root]);
        assert!(list.lines().any(|line| line == "app:1"), "{list}");
        run(&["umoci", "stat", "--image", &format!("{root}:app:1")]);
        run(&[
            "umoci",
            "unpack",
            "--rootless",
            "--image",
            &format!("{root}:app:2"),
            sandbox.dir.join("bundle").to_str().unwrap(),
        ]);
        assert_eq!(
            fs::read_to_string(sandbox.dir.join("bundle/rootfs/file")).unwrap(),
            "a"
        );
    }
}

/// Prints what `images` costs; run with `--ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
#[expect(clippy::print_stdout, reason = "a measurement")]
fn listing_fifty_images_is_fast() {
    let sandbox = Sandbox::new();
    for n in 0..50 {
        image(&sandbox.store, &[&format!("{n}")], &[&format!("app:{n}")]);
    }
    for _ in 0..5 {
        let start = std::time::Instant::now();
        assert_eq!(sandbox.other().images().unwrap().len(), 50);
        println!("50 images: {:?}", start.elapsed());
        let start = std::time::Instant::now();
        sandbox.other().find_image("app:7").unwrap();
        println!("find one: {:?}", start.elapsed());
    }
}
