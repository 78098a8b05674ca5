//! What a power cut leaves, made by hand: another boot's ID in a layer's mark.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::check::{Depth, Repair};
use crate::digest::DiffId;
use crate::layer::unsynced::Lasting;

fn mark(store: &Store, diff_id: &DiffId, boot: &str) {
    let dir = store.path("layers").join(diff_id.0.hex());
    fs::write(dir.join("boot"), boot).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o1755)).unwrap();
}

#[test]
fn a_step_s_layer_lasts_after_the_sync_at_the_end() {
    let scratch = Scratch::new();
    let store = store(&scratch);
    let made = step(&store, "a", None, 0);
    let diff_id = made.layer.diff_id;
    assert_eq!(store.lasting(&diff_id), Lasting::NotYet);
    // It is used before that, by this build and by others.
    let other = Store::open(store.root()).unwrap();
    assert!(other.cached_step(&made.key).unwrap().is_some());
    store.sync_build().unwrap();
    assert_eq!(store.lasting(&diff_id), Lasting::Yes);
    assert_eq!(
        entries(&store.path("layers").join(diff_id.0.hex())).unwrap(),
        ["fs", "size"]
    );
}

#[test]
fn a_build_that_uses_what_a_killed_one_made_makes_it_last() {
    let scratch = Scratch::new();
    let made = step(&store(&scratch), "a", None, 0);
    let store = store(&scratch);
    assert!(store.cached_step(&made.key).unwrap().is_some());
    store.sync_build().unwrap();
    assert_eq!(store.lasting(&made.layer.diff_id), Lasting::Yes);
}

#[test]
fn an_image_lists_only_layers_that_last() {
    let scratch = Scratch::new();
    let made = step(&store(&scratch), "a", None, 0);
    let store = store(&scratch);
    image(&store, std::slice::from_ref(&made.layer));
    assert_eq!(store.lasting(&made.layer.diff_id), Lasting::Yes);
}

#[test]
fn what_a_power_cut_has_left_of_a_layer_is_absent_and_is_made_anew() {
    for boot in ["another", ""] {
        let scratch = Scratch::new();
        let made = step(&store(&scratch), "a", None, 0);
        let store = store(&scratch);
        let file = store.layer_dir(&made.layer.diff_id).join("file");
        fs::write(&file, "").unwrap();
        fs::write(store.blob_path(&made.layer.digest), vec![0; 2048]).unwrap();
        mark(&store, &made.layer.diff_id, boot);
        assert_eq!(store.cached_step(&made.key).unwrap(), None);
        store.remember_step(&record(&store, "a", None)).unwrap();
        assert_eq!(
            store.cached_step(&made.key).unwrap().unwrap().layer,
            made.layer
        );
        assert_eq!(fs::read_to_string(&file).unwrap(), "a");
        store.sync_build().unwrap();
        let report = store.check(Repair::No, Depth::Deep).unwrap();
        assert_eq!(report.problems, []);
    }
}

#[test]
fn a_lost_layer_is_replaced_by_whoever_adds_it() {
    let scratch = Scratch::new();
    let made = step(&store(&scratch), "a", None, 0);
    let store = store(&scratch);
    let file = store.layer_dir(&made.layer.diff_id).join("file");
    let blob = fs::read(store.blob_path(&made.layer.digest)).unwrap();
    for expected in [
        crate::layer::Expected::default(),
        crate::layer::Expected {
            digest: Some(made.layer.digest),
            diff_id: Some(made.layer.diff_id),
            size: None,
        },
    ] {
        fs::write(&file, "").unwrap();
        mark(&store, &made.layer.diff_id, "another");
        let added = store
            .add_layer(&*blob, &expected, crate::layer::StoreAs::Verbatim)
            .unwrap();
        assert_eq!(added, made.layer);
        assert_eq!(fs::read_to_string(&file).unwrap(), "a");
        assert_eq!(store.lasting(&made.layer.diff_id), Lasting::Yes);
    }
}

#[test]
fn a_mark_whose_removal_was_lost_harms_no_image() {
    let scratch = Scratch::new();
    let made = step(&store(&scratch), "a", None, 0);
    image(&store(&scratch), std::slice::from_ref(&made.layer));
    let store = store(&scratch);
    mark(&store, &made.layer.diff_id, "another");
    let inode = |store: &Store| {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(store.layer_dir(&made.layer.diff_id))
            .unwrap()
            .ino()
    };
    let before = inode(&store);
    // A container may run on it by now: it must stay what it is.
    assert!(store.cached_step(&made.key).unwrap().is_some());
    assert_eq!(layer(&store, "a"), made.layer);
    assert_eq!(
        (inode(&store), store.lasting(&made.layer.diff_id)),
        (before, Lasting::Yes)
    );
}

#[test]
fn a_check_finds_what_a_power_cut_has_left() {
    let scratch = Scratch::new();
    let (a, b) = {
        let store = store(&scratch);
        (step(&store, "a", None, 0), step(&store, "b", None, 0))
    };
    let store = store(&scratch);
    mark(&store, &a.layer.diff_id, "another");
    let path = store.step_path(&b.key);
    let half = fs::read(&path).unwrap();
    fs::write(&path, &half[..half.len() / 2]).unwrap();
    let found = store.check(Repair::No, Depth::Quick).unwrap();
    assert!(!found.is_clean() && !found.problems.is_empty());
    let mended = store.check(Repair::Yes, Depth::Quick).unwrap();
    assert!(mended.is_clean(), "{:?}", mended.problems);
    let again = store.check(Repair::No, Depth::Quick).unwrap();
    assert_eq!(again.problems, []);
    assert_eq!((again.layers, again.blobs), (0, 0));
}
