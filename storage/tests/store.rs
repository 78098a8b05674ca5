//! The store's layout, its locks and sessions.

mod support;

use std::fs;
use std::io::Write;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use rctr_storage::Store;
use rctr_storage::blob::BlobError;
use rctr_storage::digest::Digest;
use rctr_storage::explain::Explain;
use rctr_storage::store::StoreError;
use support::{Sandbox, entries};

#[test]
fn a_new_store_is_an_oci_layout() {
    let sandbox = Sandbox::new();
    let names = entries(&sandbox.root());
    for name in [
        "oci-layout",
        "index.json",
        "store.json",
        "blobs",
        "layers",
        "tmp",
    ] {
        assert!(names.iter().any(|n| n == name), "{name}");
    }
    let before = names.len();
    drop(sandbox.other());
    assert_eq!(entries(&sandbox.root()).len(), before);
}

#[test]
fn many_may_make_the_store_at_once() {
    let sandbox = Sandbox::new();
    let root = sandbox.dir.join("new/store");
    let barrier = Barrier::new(8);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                barrier.wait();
                Store::open(&root).unwrap();
            });
        }
    });
    assert!(
        fs::read_to_string(root.join("index.json"))
            .unwrap()
            .contains("manifests")
    );
    assert!(!entries(&root).iter().any(|name| name.ends_with(".new")));
}

#[test]
fn a_store_of_a_newer_rctr_is_left_alone() {
    let sandbox = Sandbox::new();
    let marker = sandbox.root().join("store.json");
    fs::write(&marker, r#"{"format":2}"#).unwrap();
    let error = Store::open(&sandbox.root()).unwrap_err();
    assert!(matches!(error, StoreError::UnknownFormat { found: 2, .. }));
    assert!(error.hint().is_some());
    fs::write(&marker, r#"{"format":1,"incompatible":["zip"]}"#).unwrap();
    assert!(matches!(
        Store::open(&sandbox.root()),
        Err(StoreError::UnknownFeatures { .. })
    ));
    fs::write(&marker, r#"{"format":1,"compatible":["zip"],"more":1}"#).unwrap();
    Store::open(&sandbox.root()).unwrap();
    fs::write(&marker, "{").unwrap();
    assert!(matches!(
        Store::open(&sandbox.root()),
        Err(StoreError::Damaged { .. })
    ));
}

#[test]
fn the_exclusive_lock_excludes() {
    let sandbox = Sandbox::new();
    let held = sandbox.store.lock().unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| sandbox.other().lock_shared().map(|_| ()));
        thread::sleep(Duration::from_millis(50));
        assert!(!waiting.is_finished());
        drop(held);
        waiting.join().unwrap().unwrap();
    });
}

#[test]
fn blobs_are_verified() {
    let sandbox = Sandbox::new();
    let store = &sandbox.store;
    let digest = store.put_document(b"{}").unwrap();
    assert_eq!(store.read_document(&digest).unwrap(), b"{}");
    let mut writer = store.blob_writer().unwrap();
    writer.write_all(b"other").unwrap();
    let error = writer.finish(Some(&digest)).unwrap_err();
    assert!(matches!(error, BlobError::Mismatch { .. }));
    assert!(!store.has_blob(&Digest::of(b"other")));
    fs::write(store.blob_path(&digest), b"[]").unwrap();
    assert!(matches!(
        store.read_document(&digest),
        Err(BlobError::Mismatch { .. })
    ));
    assert!(matches!(
        store.read_document(&Digest::of(b"nothing")),
        Err(BlobError::Missing { .. })
    ));
}

#[test]
fn what_a_dead_session_left_goes_with_the_next_write() {
    let sandbox = Sandbox::new();
    let tmp = sandbox.root().join("tmp");
    fs::create_dir_all(tmp.join("1-dead/layer-0/deep")).unwrap();
    fs::write(tmp.join("1-dead.lock"), "").unwrap();
    let alive = sandbox.other();
    let kept = alive.temp_path("kept").unwrap();
    fs::write(&kept, "x").unwrap();
    assert!(!tmp.join("1-dead").exists() && !tmp.join("1-dead.lock").exists());
    sandbox.store.temp_path("x").unwrap();
    assert!(kept.exists(), "a living session keeps its files");
    drop(alive);
    assert!(!kept.exists());
}
