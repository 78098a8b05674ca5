//! Pulls that are killed, that run at once, and what is left of them.

#[path = "support/place.rs"]
mod place;
#[path = "support/served.rs"]
mod served;
mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use place::{Fault, Log, Place};
use rctr_storage::Store;
use rctr_storage::digest::Digest;
use rctr_storage::removal::PruneScope;
use rctr_storage::transfer::{self, PushOptions, Silent, Step};
use served::{Served, assert_whole, options, pull, remove, serve};
use support::{Sandbox, entries, image, tag};

const ROOT: &str = "RCTR_TEST_ROOT";

fn slow(sizes: &[usize]) -> Served {
    let mut served = serve(sizes);
    served.place.slowness = Duration::from_millis(5);
    served
}

const SIZES: [usize; 2] = [50_000, 3_000_000];

/// Pulls until it is killed. Run by the test below in a process of its own.
#[test]
#[ignore = "the victim of a_pull_that_was_killed_is_taken_up"]
fn victim() {
    if let Some(root) = std::env::var_os(ROOT) {
        let store = Store::open(Path::new(&root)).unwrap();
        pull(&store, &slow(&SIZES).place).unwrap();
    }
}

fn spawn_victim(sandbox: &Sandbox) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "victim"])
        .env(ROOT, sandbox.root())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Waits until so many bytes of the blob are here.
fn wait_for(sandbox: &Sandbox, digest: &Digest, bytes: u64) {
    let path = sandbox.root().join("partial").join(digest.hex());
    let start = Instant::now();
    while fs::metadata(&path).map_or(0, |meta| meta.len()) < bytes {
        assert!(start.elapsed() < Duration::from_secs(30), "nothing comes");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_pull_that_was_killed_is_taken_up() {
    let sandbox = Sandbox::new();
    let served = serve(&SIZES);
    let mut killed = spawn_victim(&sandbox);
    wait_for(&sandbox, &served.layers[1], 1_000_000);
    killed.kill().unwrap();
    killed.wait().unwrap();

    // The first layer was done, though nothing refers to it, and a sweep of the dead session takes it.
    let store = sandbox.other();
    store.begin_session().unwrap();
    assert!(store.images().unwrap().is_empty());
    pull(&store, &served.place).unwrap();
    assert_whole(&store, &served);
    let blobs = served.place.blobs.lock().unwrap();
    let all: u64 = blobs.values().map(|blob| blob.len() as u64).sum();
    let first = blobs[&served.layers[0]].len() as u64;
    assert!(
        served.place.given() <= all - first - 1_000_000,
        "{}",
        served.place.given()
    );
}

#[test]
fn two_processes_that_pull_the_same_share_the_work() {
    let sandbox = Sandbox::new();
    let served = serve(&SIZES);
    let mut other = spawn_victim(&sandbox);
    wait_for(&sandbox, &served.layers[1], 100_000);
    let log = Log::default();
    let pulled = transfer::pull(
        &sandbox.store,
        &served.place,
        &tag("app:1"),
        &options(),
        &log,
    );
    pulled.unwrap();
    assert!(other.wait().unwrap().success());
    assert_whole(&sandbox.store, &served);
    assert!(log.has(&served.layers[1], |step| *step == Step::Shared));
    assert!(log.has(&served.layers[1], |step| *step == Step::Exists));
    // Only the config, if anything.
    assert!(served.place.given() < 1000, "{}", served.place.given());
}

#[test]
fn threads_that_pull_the_same_share_the_work() {
    let sandbox = Sandbox::new();
    let served = slow(&[200_000, 300_000, 10]);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| pull(&sandbox.other(), &served.place).unwrap());
        }
    });
    assert_whole(&sandbox.store, &served);
    let blobs = served.place.blobs.lock().unwrap();
    let layers: u64 = served.layers.iter().map(|l| blobs[l].len() as u64).sum();
    assert!(
        served.place.given() < layers + 10_000,
        "{}",
        served.place.given()
    );
}

#[test]
fn the_second_takes_over_when_the_first_fails() {
    let sandbox = Sandbox::new();
    let served = slow(&[300_000]);
    // The first comes to half of it and is refused then.
    let faults = [Fault::Cut(150_000), Fault::Refused];
    served.place.fault(served.layers[0], &faults);
    let results = std::thread::scope(|scope| {
        let pulls = [0, 1].map(|_| scope.spawn(|| pull(&sandbox.other(), &served.place).is_ok()));
        pulls.map(|pull| pull.join().unwrap())
    });
    assert_eq!(results.iter().filter(|done| **done).count(), 1);
    assert_whole(&sandbox.store, &served);
}

#[test]
fn many_faults_end_right_or_in_an_error() {
    let mut state = 7_u64;
    let mut random = |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) % below
    };
    let sandbox = Sandbox::new();
    let mut failed = 0;
    for _ in 0..60 {
        let served = serve(&[200_000, 90_000]);
        for layer in &served.layers {
            let faults = (0..random(6)).map(|_| match random(8) {
                0 => Fault::Cut(random(200_000)),
                1 => Fault::End(random(200_000)),
                2 => Fault::Stall(random(200_000)),
                3 => Fault::Wrong(random(90_000)),
                4 => Fault::Overloaded,
                5 => Fault::FromStart,
                6 => Fault::FromStartCut(random(200_000)),
                _ => Fault::TooLong,
            });
            served.place.fault(*layer, &faults.collect::<Vec<_>>());
        }
        if pull(&sandbox.store, &served.place).is_err() {
            failed += 1;
            assert!(sandbox.store.images().unwrap().is_empty());
            served.place.faults.lock().unwrap().clear();
            pull(&sandbox.store, &served.place).unwrap();
        }
        assert_whole(&sandbox.store, &served);
        remove(&sandbox.store, "app:1");
    }
    assert!(failed > 5, "only {failed} failed");
    assert!(failed < 55, "{failed} failed");
}

#[test]
fn what_broken_pulls_have_left_is_swept_when_it_is_old() {
    let sandbox = Sandbox::new();
    let dir = sandbox.root().join("partial");
    fs::create_dir(&dir).unwrap();
    let (old, new) = (Digest::of(b"old").hex(), Digest::of(b"new").hex());
    fs::write(dir.join(&old), vec![0; 1000]).unwrap();
    fs::write(dir.join(&new), vec![0; 500]).unwrap();
    let file = fs::File::options()
        .write(true)
        .open(dir.join(&old))
        .unwrap();
    let long_ago = SystemTime::now() - Duration::from_secs(8 * 24 * 60 * 60);
    file.set_modified(long_ago).unwrap();
    assert_eq!(sandbox.store.sweep().unwrap().bytes, 1000);
    assert_eq!(entries(&dir), [new]);
    let pruned = sandbox
        .store
        .prune_images(PruneScope::Dangling, &|_| true)
        .unwrap();
    assert_eq!(pruned.bytes, 500);
    assert!(entries(&dir).is_empty());
}

#[test]
fn layers_are_mounted_from_repositories_that_have_them() {
    let sandbox = Sandbox::new();
    let made = image(&sandbox.store, &["one"], &["app:1"]);
    let first = Place {
        name: Some(tag("registry.test/app:1")),
        ..Place::default()
    };
    let options = PushOptions::default();
    transfer::push(&sandbox.store, &made, &first, &options, &Silent).unwrap();
    let blobs = first.blobs.lock().unwrap().keys().copied().collect();
    let from = rctr_storage::reference::Reference {
        tag: None,
        ..tag("registry.test/app")
    };
    let push_to = |name| {
        let second = Place {
            name: Some(tag(name)),
            others: [(from.clone(), blobs)].into(),
            ..Place::default()
        };
        let image = sandbox.store.find_image("app:1").unwrap();
        let log = Log::default();
        transfer::push(&sandbox.store, &image, &second, &options, &log).unwrap();
        let mounted = log.has(&image.layers[0].digest, |s| {
            *s == Step::Mounted(from.clone())
        });
        (mounted, second.received.load(Ordering::SeqCst))
    };
    let (mounted, received) = push_to("registry.test/second:1");
    let config = fs::metadata(sandbox.store.blob_path(&made.id))
        .unwrap()
        .len();
    assert!(mounted);
    assert_eq!(received, config);
}

#[test]
fn a_compression_that_makes_other_bytes_than_before_is_noticed() {
    let sandbox = Sandbox::new();
    let made = image(&sandbox.store, &["one"], &["app:1"]);
    let options = PushOptions::default();
    let push = |target: &Place| transfer::push(&sandbox.store, &made, target, &options, &Silent);
    let first = Place::default();
    let pushed = push(&first).unwrap();
    // As if another version had made it.
    let memos = sandbox.root().join("cache/memo");
    let kind = entries(&memos)
        .into_iter()
        .find(|name| name.starts_with("packed"))
        .unwrap();
    let memo = memos.join(kind).join(made.layers[0].diff_id.0.hex());
    fs::remove_file(&memo).unwrap();
    let other = format!("{}-77", Digest::of(b"other").hex());
    std::os::unix::fs::symlink(other, &memo).unwrap();
    let second = Place::default();
    assert_eq!(push(&second).unwrap(), pushed);
    assert!(*first.blobs.lock().unwrap() == *second.blobs.lock().unwrap());
}
