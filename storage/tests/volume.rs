//! Volumes on a real file system.

mod support;

use std::fs;

use rctr_storage::record::MountPoint;
use rctr_storage::volume::{NewVolume, VolumeError, VolumeScope};
use support::{Sandbox, entries, record};

fn named(name: &str) -> NewVolume {
    NewVolume {
        name: name.to_owned(),
        ..NewVolume::default()
    }
}

#[test]
fn a_volume_is_made_once() {
    let sandbox = Sandbox::new();
    let store = &sandbox.store;
    let mut labelled = named("data");
    labelled.labels.insert("a".to_owned(), "b".to_owned());
    let made = store.create_volume(labelled).unwrap();
    assert_eq!(store.create_volume(named("data")).unwrap(), made);
    assert_eq!(store.find_volume("data").unwrap(), made);
    assert!(made.mountpoint.is_dir());
    let anonymous = store.create_volume(named("")).unwrap();
    assert!(anonymous.is_anonymous() && anonymous.name.len() == 64);
    assert_eq!(store.volumes().unwrap().len(), 2);
    for name in ["a", "../x", "-x", "a/b", ".."] {
        assert!(matches!(
            store.create_volume(named(name)),
            Err(VolumeError::InvalidName { .. })
        ));
        assert!(matches!(
            store.find_volume(name),
            Err(VolumeError::NotFound { .. })
        ));
    }
    let mut nfs = named("nfs");
    nfs.driver = "nfs".to_owned();
    assert!(matches!(
        store.create_volume(nfs),
        Err(VolumeError::Driver { .. })
    ));
}

#[test]
fn a_volume_in_use_stays() {
    let sandbox = Sandbox::new();
    let store = sandbox.other();
    store.create_volume(named("data")).unwrap();
    store.create_volume(named("idle")).unwrap();
    let anonymous = store.create_volume(named("")).unwrap().name;
    let mut user = record("web");
    user.mounts.push(MountPoint {
        kind: "volume".to_owned(),
        name: "data".to_owned(),
        ..MountPoint::default()
    });
    let id = store.create_container(user).unwrap().record.id;
    let error = store.remove_volume("data").unwrap_err().to_string();
    assert!(
        error.contains("volume is in use") && error.contains(&id),
        "{error}"
    );
    let (none, _) = sandbox
        .store
        .prune_volumes(VolumeScope::All, &|_| true)
        .unwrap();
    assert!(none.is_empty(), "those of a living session stay");
    drop(store);
    fs::write(sandbox.store.volume_data("idle").join("file"), "12345").unwrap();
    let (names, _) = sandbox
        .store
        .prune_volumes(VolumeScope::Anonymous, &|_| true)
        .unwrap();
    assert_eq!(names, [anonymous]);
    let (names, bytes) = sandbox
        .store
        .prune_volumes(VolumeScope::All, &|_| true)
        .unwrap();
    assert_eq!(
        (names.as_slice(), bytes >= 5),
        (&["idle".to_owned()][..], true)
    );
    sandbox.store.remove_container(&id).unwrap();
    sandbox.store.remove_volume("data").unwrap();
    assert!(matches!(
        sandbox.store.remove_volume("data"),
        Err(VolumeError::NotFound { .. })
    ));
    assert!(entries(&sandbox.root().join("volumes")).is_empty());
}
