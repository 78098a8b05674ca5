//! `system check` on stores that were damaged in every way we could think of.

mod support;

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use rctr_storage::Store;
use rctr_storage::atomic::Durability;
use rctr_storage::check::{Depth, Outcome, Repair};
use rctr_storage::image::Image;
use rctr_storage::record::{ContainerState, MountPoint, Status};
use rctr_storage::volume::NewVolume;
use support::{Sandbox, entries, image, record, run};

/// A store with two images that share a layer, a container with a volume, and a nameless volume.
struct House {
    sandbox: Sandbox,
    image: Image,
    id: String,
}

fn house() -> House {
    let sandbox = Sandbox::new();
    let store = sandbox.other();
    let image = image(&store, &["base", "a"], &["app:1", "app:2"]);
    support::image(&store, &["base", "b"], &["other"]);
    store
        .create_volume(NewVolume {
            name: "data".to_owned(),
            ..NewVolume::default()
        })
        .unwrap();
    store.create_volume(NewVolume::default()).unwrap();
    let mut web = record("web");
    web.image = image.id;
    web.layers = image.layers.iter().map(|layer| layer.diff_id.0).collect();
    web.mounts.push(MountPoint {
        kind: "volume".to_owned(),
        name: "data".to_owned(),
        ..MountPoint::default()
    });
    let id = store.create_container(web).unwrap().record.id;
    drop(store);
    House { sandbox, image, id }
}

impl House {
    fn path(&self, part: &str) -> PathBuf {
        self.sandbox.root().join(part.replace("ID", &self.id))
    }

    fn layer(&self, n: usize) -> PathBuf {
        self.path("layers")
            .join(self.image.layers[n].diff_id.0.hex())
    }

    fn blob(&self, n: usize) -> PathBuf {
        self.sandbox.store.blob_path(&self.image.layers[n].digest)
    }

    /// One damage, one problem or more; a repair; then nothing more to tell. Returns what was told in the repair.
    fn mends(&self, wanted: &str) -> Vec<String> {
        let open = || Store::open_damaged(&self.sandbox.root()).unwrap();
        let found = open().check(Repair::No, Depth::Deep).unwrap();
        let told = |problem: &rctr_storage::check::Problem| {
            format!("{} {}", problem.subject, problem.problem)
        };
        let list: Vec<String> = found.problems.iter().map(told).collect();
        assert!(
            list.iter().any(|line| line.contains(wanted)),
            "{wanted}: {list:?}"
        );
        assert!(!found.is_clean());
        let repaired = open().check(Repair::Yes, Depth::Deep).unwrap();
        let again = open().check(Repair::No, Depth::Deep).unwrap();
        assert_eq!(
            again.problems,
            [],
            "{wanted}: after {:?}",
            repaired.problems
        );
        let outcome = |problem: rctr_storage::check::Problem| match problem.outcome {
            Outcome::Repaired(how) => how,
            other => panic!("{other:?}"),
        };
        repaired.problems.into_iter().map(outcome).collect()
    }
}

#[test]
fn a_whole_store_is_clean() {
    let house = house();
    let report = house
        .sandbox
        .other()
        .check(Repair::No, Depth::Deep)
        .unwrap();
    assert_eq!(report.problems, []);
    assert_eq!(
        (report.images, report.containers, report.volumes),
        (2, 1, 2)
    );
    assert_eq!((report.layers, report.blobs), (3, 7));
}

#[test]
fn the_layout_is_mended() {
    for part in ["tmp", "names", "locks", "oci-layout"] {
        let house = house();
        run(&["rm", "-rf", house.path(part).to_str().unwrap()]);
        house.mends(part);
        assert!(
            house.sandbox.other().find_container("web").is_ok(),
            "{part}"
        );
    }
    let house = house();
    fs::write(house.path("store.json"), "{").unwrap();
    assert!(Store::open(&house.sandbox.root()).is_err());
    Store::open_damaged(&house.sandbox.root()).unwrap();
    fs::write(house.path("oci-layout"), "").unwrap();
    house.mends("oci-layout");
}

#[test]
fn a_lost_index_is_rebuilt_without_tags() {
    for content in [None, Some(""), Some("{"), Some("[]")] {
        let house = house();
        match content {
            None => fs::remove_file(house.path("index.json")).unwrap(),
            Some(text) => fs::write(house.path("index.json"), text).unwrap(),
        }
        house.mends("index.json");
        let images = house.sandbox.other().images().unwrap();
        assert_eq!(images.len(), 2);
        assert_eq!(
            house
                .sandbox
                .other()
                .find_image(&house.image.id.hex())
                .unwrap()
                .layers
                .len(),
            2
        );
    }
}

#[test]
fn leftovers_are_removed() {
    let house = house();
    fs::create_dir_all(house.path("tmp/7-dead/x")).unwrap();
    fs::write(house.path("tmp/7-dead.lock"), "").unwrap();
    fs::write(house.path("tmp/stray"), "").unwrap();
    house.mends("tmp/stray");
    assert!(entries(&house.path("tmp")).is_empty());
    let old = house.path("containers/ID/state.json.new");
    fs::write(&old, "{").unwrap();
    let then = SystemTime::now() - Duration::from_secs(100);
    File::options()
        .write(true)
        .open(&old)
        .unwrap()
        .set_modified(then)
        .unwrap();
    house.mends("state.json.new");
    fs::write(house.path("blobs/sha256/stray"), "kept").unwrap();
    house.mends("stray");
    assert_eq!(
        fs::read(house.path("lost/blobs-sha256-stray")).unwrap(),
        b"kept"
    );
    fs::write(
        house
            .sandbox
            .store
            .blob_path(&rctr_storage::digest::Digest::of(b"x")),
        "x",
    )
    .unwrap();
    house.mends("of no use");
}

#[test]
fn containers_are_mended_or_put_aside() {
    for content in ["", "{", "{}"] {
        let house = house();
        fs::write(house.path("containers/ID/record.json"), content).unwrap();
        fs::write(house.path("containers/ID/upper/work"), "mine").unwrap();
        house.mends("record is missing or damaged");
        let lost = house.path("lost/containers-ID/upper/work");
        assert_eq!(fs::read(lost).unwrap(), b"mine");
        assert!(
            house
                .sandbox
                .other()
                .create_container(record("web"))
                .is_ok()
        );
    }
    let house = house();
    fs::remove_file(house.path("containers/ID/record.json")).unwrap();
    house.mends("record is missing or damaged");

    let house = self::house();
    fs::write(house.path("containers/ID/state.json"), "{").unwrap();
    assert!(house.sandbox.store.find_container("web").is_err());
    house.mends("state is damaged");
    assert_eq!(
        house
            .sandbox
            .store
            .find_container("web")
            .unwrap()
            .state
            .status,
        Status::Exited
    );
    fs::remove_dir(house.path("containers/ID/work")).unwrap();
    house.mends("work directory is missing");
    let state = ContainerState {
        status: Status::Running,
        ..ContainerState::default()
    };
    house
        .sandbox
        .store
        .write_state(&house.id, &state, Durability::None)
        .unwrap();
    house.mends("its monitor was killed");
}

#[test]
fn what_rm_should_have_removed_is_removed() {
    let house = house();
    let store = house.sandbox.other();
    let mut gone = record("gone");
    gone.host_config.auto_remove = true;
    let id = store.create_container(gone).unwrap().record.id;
    let state = ContainerState {
        status: Status::Running,
        ..ContainerState::default()
    };
    store.write_state(&id, &state, Durability::None).unwrap();
    drop(store);
    house.mends("should be gone");
    assert!(house.sandbox.store.find_container("gone").is_err());
}

#[test]
fn names_are_mended() {
    let house = house();
    fs::remove_file(house.path("names/web")).unwrap();
    house.mends("its name isn't reserved");
    symlink("0".repeat(64), house.path("names/stale")).unwrap();
    house.mends("name stale");
    symlink(&house.id, house.path("names/second")).unwrap();
    house.mends("name second");
    fs::create_dir(house.path("names/dir")).unwrap();
    house.mends("names/dir");
    // Two containers of one name.
    fs::remove_file(house.path("names/web")).unwrap();
    let other = house
        .sandbox
        .other()
        .create_container(record("web"))
        .unwrap()
        .record
        .id;
    house.mends("its name isn't reserved");
    let store = house.sandbox.other();
    let names: Vec<_> = [&other, &house.id]
        .map(|id| store.find_container(id).unwrap().record.name)
        .into();
    assert!(
        names.contains(&"web".to_owned()) && names[0] != names[1],
        "{names:?}"
    );
}

#[test]
fn volumes_are_mended() {
    let house = house();
    fs::remove_file(house.path("volumes/data/volume.json")).unwrap();
    house.mends("description is missing");
    fs::write(house.path("volumes/data/volume.json"), "{").unwrap();
    house.mends("description is missing");
    fs::remove_dir(house.path("volumes/data/_data")).unwrap();
    house.mends("content is missing");
    run(&["rm", "-r", house.path("volumes/data").to_str().unwrap()]);
    house.mends("a container wants it");
    fs::write(house.path("volumes/x"), "").unwrap();
    house.mends("it is no volume");
}

#[test]
fn a_lost_layer_is_unpacked_again() {
    for part in ["fs", ""] {
        let house = house();
        run(&["rm", "-r", house.layer(0).join(part).to_str().unwrap()]);
        let outcomes = house.mends("isn't unpacked");
        assert!(
            outcomes.iter().all(|how| how == "unpacked from its blob"),
            "{outcomes:?}"
        );
        assert!(house.layer(0).join("fs/file").is_file());
    }
    // Also for a container whose image has gone.
    let house = house();
    run(&["rm", "-r", house.layer(1).to_str().unwrap()]);
    house.mends("isn't unpacked");
}

#[test]
fn a_damaged_blob_leaves_a_runnable_image_until_it_is_loaded_again() {
    for damage in ["missing", "short", "flipped"] {
        let house = house();
        let whole = {
            let mut out = Vec::new();
            rctr_storage::archive::save(
                &house.sandbox.store,
                &["app"],
                rctr_storage::archive::Format::Oci,
                &mut out,
            )
            .unwrap();
            out
        };
        let blob = house.blob(1);
        let mut bytes = fs::read(&blob).unwrap();
        match damage {
            "missing" => fs::remove_file(&blob).unwrap(),
            "short" => fs::write(&blob, &bytes[..700]).unwrap(),
            _ => {
                bytes[600] ^= 1;
                fs::write(&blob, &bytes).unwrap();
            }
        }
        let report = house
            .sandbox
            .other()
            .check(Repair::Yes, Depth::Deep)
            .unwrap();
        assert!(!report.is_clean(), "{damage}");
        assert!(
            matches!(&report.problems[0].outcome, Outcome::Unrepaired(advice) if advice.contains("can be run"))
        );
        assert!(house.sandbox.other().find_image("app:1").is_ok());
        rctr_storage::archive::load(&house.sandbox.other(), whole.as_slice()).unwrap();
        let report = house
            .sandbox
            .other()
            .check(Repair::No, Depth::Deep)
            .unwrap();
        assert_eq!(report.problems, [], "{damage}");
    }
}

#[test]
fn an_image_that_is_of_no_use_goes() {
    let house = house();
    run(&["rm", "-r", house.layer(1).to_str().unwrap()]);
    fs::remove_file(house.blob(1)).unwrap();
    let store = house.sandbox.other();
    let report = store.check(Repair::Yes, Depth::Quick).unwrap();
    drop(store);
    assert!(
        report
            .problems
            .iter()
            .any(|p| matches!(&p.outcome, Outcome::Repaired(how) if how.starts_with("removed")))
    );
    let images = house.sandbox.other().images().unwrap();
    assert_eq!(images.len(), 1, "the other image stays");
    // The container has lost a layer: that can be told, not mended.
    let report = house
        .sandbox
        .other()
        .check(Repair::No, Depth::Quick)
        .unwrap();
    assert_eq!(report.problems.len(), 1);
    assert_eq!(report.problems[0].subject, "container web");

    for digest in [
        |image: &Image| image.id,
        |image: &Image| image.manifest.digest,
    ] {
        for content in [None, Some("{}"), Some("")] {
            let house = self::house();
            house.sandbox.other().remove_container(&house.id).unwrap();
            let path = house.sandbox.store.blob_path(&digest(&house.image));
            match content {
                None => fs::remove_file(path).unwrap(),
                Some(text) => fs::write(path, text).unwrap(),
            }
            house.mends("image app:1");
            assert_eq!(house.sandbox.other().images().unwrap().len(), 1);
        }
    }
}
