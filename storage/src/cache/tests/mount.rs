use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::sync::mpsc;
use std::thread;

use super::*;

fn order(sharing: Sharing) -> CacheMountOrder<'static> {
    let own = fs::metadata("/proc/self").unwrap();
    CacheMountOrder {
        id: "/var/cache/apt",
        sharing,
        uid: own.uid(),
        gid: own.gid(),
        mode: 0o751,
        fill: None,
    }
}

/// Without waiting.
fn take(store: &Store, sharing: Sharing) -> Option<CacheMount> {
    let mut never = |_| ControlFlow::Break(());
    store.cache_mount(&order(sharing), &mut never).unwrap()
}

#[test]
fn shared_mounts_are_one_directory_that_stays() {
    let scratch = Scratch::new();
    let store = store(&scratch);
    let one = take(&store, Sharing::Shared).unwrap();
    let two = take(&store, Sharing::Shared).unwrap();
    assert_eq!(one.path, two.path);
    assert_eq!(fs::metadata(&one.path).unwrap().mode() & 0o7777, 0o751);
    fs::write(one.path.join("x"), "kept").unwrap();
    let path = one.path.clone();
    drop((one, two));
    let store = reopened(store);
    let again = take(&store, Sharing::Shared).unwrap();
    assert_eq!(again.path, path);
    assert_eq!(fs::read_to_string(again.path.join("x")).unwrap(), "kept");
}

#[test]
fn a_locked_mount_is_waited_for() {
    let scratch = Scratch::new();
    let store = store(&scratch);
    let held = take(&store, Sharing::Locked).unwrap();
    assert!(take(&store, Sharing::Locked).is_none());
    assert!(take(&store, Sharing::Shared).is_none());
    let (send, receive) = mpsc::channel();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let mut waiting = |holder: Option<i32>| {
                let _ = send.send(holder);
                ControlFlow::Continue(())
            };
            store.cache_mount(&order(Sharing::Locked), &mut waiting)
        });
        let holder = receive.recv().unwrap();
        assert_eq!(holder, i32::try_from(std::process::id()).ok());
        drop(held);
        assert!(waiter.join().unwrap().unwrap().is_some());
    });
    let shared = take(&store, Sharing::Shared).unwrap();
    assert!(take(&store, Sharing::Locked).is_none());
    drop(shared);
}

#[test]
fn a_second_private_mount_is_a_fresh_one_which_is_kept() {
    let scratch = Scratch::new();
    let store = store(&scratch);
    let first = take(&store, Sharing::Private).unwrap();
    fs::write(first.path.join("x"), "first").unwrap();
    let second = take(&store, Sharing::Private).unwrap();
    assert_ne!(first.path, second.path);
    assert_eq!(entries(&second.path).unwrap(), [""; 0]);
    fs::write(second.path.join("x"), "second").unwrap();
    drop((first, second));
    let first = take(&store, Sharing::Private).unwrap();
    let second = take(&store, Sharing::Private).unwrap();
    let content = |mount: &CacheMount| fs::read_to_string(mount.path.join("x")).unwrap();
    assert_eq!([content(&first), content(&second)], ["first", "second"]);
    let kinds: Vec<_> = store.cache_usage().unwrap();
    assert_eq!(kinds.len(), 2);
    assert!(
        kinds
            .iter()
            .all(|usage| usage.in_use && usage.kind == UsageKind::Mount)
    );
}

#[test]
fn a_new_mount_gets_its_first_content_once() {
    let scratch = Scratch::new();
    let store = store(&scratch);
    let calls = std::cell::Cell::new(0);
    let fill = |dir: &Path| {
        calls.set(calls.get() + 1);
        fs::write(dir.join("seed"), "from")
    };
    let mut never = |_| ControlFlow::Break(());
    for _ in 0..2 {
        let mut order = order(Sharing::Shared);
        order.fill = Some(&fill);
        let mount = store.cache_mount(&order, &mut never).unwrap().unwrap();
        assert_eq!(fs::read_to_string(mount.path.join("seed")).unwrap(), "from");
    }
    assert_eq!(calls.get(), 1);
    // One that can't be filled isn't made.
    let fails = |_: &Path| Err(io::Error::other("no"));
    let mut order = order(Sharing::Shared);
    order.id = "other";
    order.fill = Some(&fails);
    assert!(store.cache_mount(&order, &mut never).is_err());
    assert_eq!(store.cache_usage().unwrap().len(), 1);
}

#[test]
fn many_at_once_make_one_mount() {
    let scratch = Scratch::new();
    let store = store(&scratch);
    let paths: Vec<PathBuf> = thread::scope(|scope| {
        let takers: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| take(&store, Sharing::Shared).unwrap().path.clone()))
            .collect();
        takers
            .into_iter()
            .map(|taker| taker.join().unwrap())
            .collect()
    });
    assert!(paths.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(store.cache_usage().unwrap().len(), 1);
}
