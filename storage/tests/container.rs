//! Containers' records, names and locks on a real file system.

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Barrier;
use std::thread;

use rctr_storage::atomic::Durability;
use rctr_storage::container::ContainerError;
use rctr_storage::digest::Digest;
use rctr_storage::record::{ContainerState, Status};
use support::{Sandbox, entries, record};

#[test]
fn a_container_is_found_by_name_id_and_prefix() {
    let sandbox = Sandbox::new();
    let store = &sandbox.store;
    let made = store.create_container(record("web")).unwrap();
    let id = made.record.id.clone();
    for name in ["web", "/web", &id, &id[..12], &id[..1]] {
        assert_eq!(store.find_container(name).unwrap(), made, "{name}");
    }
    for name in ["", "we", "g", "web2", "../web", &"0".repeat(64)] {
        assert!(
            matches!(
                store.find_container(name),
                Err(ContainerError::NotFound { .. })
            ),
            "{name}"
        );
    }
    assert_eq!(store.containers().unwrap(), [made]);
    assert!(
        entries(&sandbox.root().join("tmp")).len() <= 2,
        "only the session is left"
    );
}

#[test]
fn the_beginning_of_two_ids_is_ambiguous() {
    let sandbox = Sandbox::new();
    for (name, last) in [("one", 'a'), ("two", 'b')] {
        let mut record = record(name);
        record.id = format!("{}{last}", "c".repeat(63));
        sandbox.store.create_container(record).unwrap();
    }
    let error = sandbox.store.find_container("cc").unwrap_err();
    assert!(matches!(error, ContainerError::Ambiguous { count: 2, .. }));
}

#[test]
fn a_taken_name_is_refused_and_leaves_nothing() {
    let sandbox = Sandbox::new();
    let first = sandbox.store.create_container(record("web")).unwrap();
    let error = sandbox.store.create_container(record("web")).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "Conflict. The container name \"/web\" is already in use by container \"{}\"",
            first.record.id
        )
    );
    assert_eq!(entries(&sandbox.root().join("containers")).len(), 1);
    for name in ["", "a", "-a", "a b", "a/b", "é1"] {
        let error = sandbox.store.create_container(record(name)).unwrap_err();
        assert!(
            matches!(error, ContainerError::InvalidName { .. }),
            "{name}"
        );
    }
}

#[test]
fn one_of_many_gets_the_name() {
    let sandbox = Sandbox::new();
    let barrier = Barrier::new(8);
    let won: usize = thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let store = sandbox.other();
                    barrier.wait();
                    usize::from(store.create_container(record("web")).is_ok())
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).sum()
    });
    assert_eq!(won, 1);
    assert_eq!(sandbox.store.containers().unwrap().len(), 1);
    assert!(entries(&sandbox.root().join("tmp")).len() <= 2);
}

#[test]
fn a_name_that_a_crash_left_can_be_taken() {
    let sandbox = Sandbox::new();
    symlink("0".repeat(64), sandbox.root().join("names/web")).unwrap();
    let made = sandbox.store.create_container(record("web")).unwrap();
    symlink(&made.record.id, sandbox.root().join("names/other")).unwrap();
    assert!(sandbox.store.find_container("other").is_err());
    sandbox.store.create_container(record("other")).unwrap();
    symlink(&made.record.id, sandbox.root().join("names/third")).unwrap();
    sandbox
        .store
        .rename_container(&made.record.id, "third")
        .unwrap();
    assert_eq!(
        sandbox.store.find_container("third").unwrap().record.id,
        made.record.id
    );
    assert_eq!(entries(&sandbox.root().join("names")), ["other", "third"]);
}

#[test]
fn a_missing_layer_is_told() {
    let sandbox = Sandbox::new();
    let mut wanted = record("web");
    wanted.layers = vec![Digest::of(b"gone")];
    let error = sandbox.store.create_container(wanted).unwrap_err();
    assert!(matches!(error, ContainerError::LayerMissing { .. }));
    assert!(entries(&sandbox.root().join("names")).is_empty());
}

#[test]
fn a_killed_monitor_shows_as_exited_137_and_is_repaired_by_the_next_writer() {
    let sandbox = Sandbox::new();
    let store = &sandbox.store;
    let id = store.create_container(record("web")).unwrap().record.id;
    let state = ContainerState {
        status: Status::Running,
        pid: 42,
        ..ContainerState::default()
    };
    let monitor = store.take_monitor_lock(&id).unwrap();
    store.write_state(&id, &state, Durability::None).unwrap();
    assert!(store.monitor_alive(&id));
    assert_eq!(store.find_container("web").unwrap().state, state);
    assert!(matches!(
        store.take_monitor_lock(&id),
        Err(ContainerError::Running { .. })
    ));
    assert!(matches!(
        store.remove_container(&id),
        Err(ContainerError::Running { .. })
    ));
    drop(monitor);
    assert!(!store.monitor_alive(&id));
    let shown = store.find_container("web").unwrap().state;
    // The PID stays until somebody has made sure that the process is gone: it may have outlived its monitor.
    assert_eq!(
        (shown.status, shown.exit_code, shown.pid),
        (Status::Exited, 137, 42)
    );
    let path = sandbox
        .root()
        .join("containers")
        .join(&id)
        .join("state.json");
    assert!(
        fs::read_to_string(&path).unwrap().contains("running"),
        "readers write nothing"
    );
    drop(store.lock_container(&id).unwrap());
    assert!(fs::read_to_string(&path).unwrap().contains("exited"));
}

#[test]
fn removing_frees_name_and_files() {
    let sandbox = Sandbox::new();
    let store = &sandbox.store;
    let made = store.create_container(record("web")).unwrap();
    fs::write(made.dir.join("upper/file"), "x").unwrap();
    store.remove_container(&made.record.id).unwrap();
    assert!(matches!(
        store.remove_container(&made.record.id),
        Err(ContainerError::NotFound { .. })
    ));
    assert!(store.containers().unwrap().is_empty());
    assert!(entries(&sandbox.root().join("names")).is_empty());
    let again = store.create_container(record("web")).unwrap();
    let monitor = store.take_monitor_lock(&again.record.id).unwrap();
    let retired = store.retire_own_container(&monitor).unwrap();
    store.delete_retired(&retired).unwrap();
    assert!(store.containers().unwrap().is_empty());
}

#[test]
fn a_torn_state_is_an_exited_container() {
    let sandbox = Sandbox::new();
    let made = sandbox.store.create_container(record("web")).unwrap();
    fs::write(made.dir.join("state.json"), "").unwrap();
    let state = sandbox.store.find_container("web").unwrap().state;
    assert_eq!((state.status, state.exit_code), (Status::Exited, 137));
}

/// Prints what `ps` costs here; run with `--ignored --nocapture`, best with the `fast` profile.
#[test]
#[ignore = "a measurement"]
#[expect(clippy::print_stdout, reason = "a measurement")]
fn listing_fifty_containers_is_fast() {
    let sandbox = Sandbox::new();
    let mut monitors = Vec::new();
    for n in 0..50 {
        let mut record = record(&format!("c{n}"));
        record.config.env =
            vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin".to_owned(); 4];
        let id = sandbox.store.create_container(record).unwrap().record.id;
        monitors.push(sandbox.store.take_monitor_lock(&id).unwrap());
        let state = ContainerState {
            status: Status::Running,
            ..ContainerState::default()
        };
        sandbox
            .store
            .write_state(&id, &state, Durability::None)
            .unwrap();
    }
    for _ in 0..5 {
        let start = std::time::Instant::now();
        assert_eq!(sandbox.other().containers().unwrap().len(), 50);
        println!("50 containers: {:?}", start.elapsed());
    }
    let start = std::time::Instant::now();
    let store = sandbox.other();
    store.create_container(record("one-more")).unwrap();
    println!("create, durable: {:?}", start.elapsed());
    let start = std::time::Instant::now();
    let store = sandbox.other();
    let mut rm = record("rm");
    rm.host_config.auto_remove = true;
    let made = store.create_container(rm).unwrap();
    println!("create, --rm: {:?}", start.elapsed());
    let start = std::time::Instant::now();
    store.remove_container(&made.record.id).unwrap();
    drop(store);
    println!("remove: {:?}", start.elapsed());
}
