use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;

use super::*;
use crate::removal::RemoveImage;

#[test]
fn a_step_is_remembered_with_its_inputs() {
    let scratch = Scratch::new();
    let store = store(&scratch);
    assert_eq!(store.cached_step(&key("a")).unwrap(), None);
    let made = record(&store, "a", None);
    store.remember_step(&made).unwrap();
    assert_eq!(store.step_with_inputs(&key("a")), Some(made.clone()));
    let mut cached = made.clone();
    cached.inputs.clear();
    assert_eq!(store.cached_step(&key("a")).unwrap(), Some(cached.clone()));
    // A record whose first line is longer than the first read.
    let mut long = made;
    long.name = "x".repeat(100_000);
    store.remember_step(&long).unwrap();
    cached.name.clone_from(&long.name);
    assert_eq!(store.cached_step(&key("a")).unwrap(), Some(cached));
    assert_eq!(store.step_with_inputs(&key("a")), Some(long));
}

#[test]
fn a_hit_notes_the_use() {
    let scratch = Scratch::new();
    let store = store(&scratch);
    step(&store, "a", None, 100);
    let used = || {
        fs::metadata(store.step_path(&key("a")))
            .unwrap()
            .modified()
            .unwrap()
    };
    let before = used();
    store.cached_step(&key("a")).unwrap().unwrap();
    assert!(used() > before + Duration::from_secs(3600));
}

#[test]
fn a_damaged_record_is_absent_wherever_it_is_damaged() {
    let scratch = Scratch::new();
    let store = store(&scratch);
    store.remember_step(&record(&store, "a", None)).unwrap();
    let path = store.step_path(&key("a"));
    let whole = fs::read(&path).unwrap();
    let head_end = {
        let mut ends = whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        ends.nth(1).unwrap().0 + 1
    };
    for cut in 0..whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        assert_eq!(store.step_with_inputs(&key("a")), None, "{cut}");
        let cached = store.cached_step(&key("a")).unwrap();
        assert_eq!(cached.is_some(), cut >= head_end, "{cut}");
    }
    for at in 0..head_end {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert_eq!(store.cached_step(&key("a")).unwrap(), None, "{at}");
    }
    fs::write(&path, vec![0; whole.len()]).unwrap();
    assert_eq!(store.cached_step(&key("a")).unwrap(), None);
    // One of another step, put there by hand.
    store.remember_step(&record(&store, "b", None)).unwrap();
    fs::copy(store.step_path(&key("b")), &path).unwrap();
    assert_eq!(store.cached_step(&key("a")).unwrap(), None);
}

#[test]
fn a_step_without_its_layer_or_blob_is_absent() {
    let scratch = Scratch::new();
    let store = store(&scratch);
    let (a, b) = (step(&store, "a", None, 0), step(&store, "b", None, 0));
    crate::tree::remove_tree(&store.path("layers").join(a.layer.diff_id.0.hex())).unwrap();
    fs::write(store.blob_path(&b.layer.digest), "short").unwrap();
    for record in [a, b] {
        assert_eq!(store.cached_step(&record.key).unwrap(), None);
        store
            .remember_step(&self::record(&store, &record.name[4..], None))
            .unwrap();
        assert!(store.cached_step(&record.key).unwrap().is_some());
    }
}

#[test]
fn the_cache_keeps_layers_when_their_image_is_removed() {
    let scratch = Scratch::new();
    let store = store(&scratch);
    let made = step(&store, "a", None, 0);
    image(&store, std::slice::from_ref(&made.layer));
    let store = reopened(store);
    let removed = store.remove_image("app", RemoveImage::default()).unwrap();
    // As docker: the image is deleted, the layer isn't.
    let words: Vec<String> = removed.iter().map(ToString::to_string).collect();
    assert_eq!(words.len(), 2, "{words:?}");
    assert!(words[0].starts_with("Untagged: ") && words[1].starts_with("Deleted: "));
    assert!(store.has_layer(&made.layer.diff_id) && store.has_blob(&made.layer.digest));
    assert!(store.cached_step(&made.key).unwrap().is_some());
}

#[test]
fn memos_and_places() {
    let scratch = Scratch::new();
    let store = store(&scratch);
    assert_eq!(store.memo("copy", &key("a")), None);
    for value in ["1", "1", "2"] {
        store.set_memo("copy", &key("a"), &key(value)).unwrap();
        assert_eq!(store.memo("copy", &key("a")), Some(key(value)));
        assert_eq!(store.memo("other", &key("a")), None);
    }
    let made = step(&store, "a", None, 0);
    assert_eq!(store.last_like("/src/Dockerfile##0"), None);
    store.note_like("/src/Dockerfile##0", &key("a")).unwrap();
    assert_eq!(store.last_like("/src/Dockerfile##0"), Some(made));
    // Threads and processes may do it at once.
    thread::scope(|scope| {
        for n in 0..8 {
            let store = &store;
            scope.spawn(move || {
                for _ in 0..50 {
                    store
                        .set_memo("copy", &key("b"), &key(&n.to_string()))
                        .unwrap();
                    assert!(store.memo("copy", &key("b")).is_some());
                }
            });
        }
    });
}

#[test]
fn one_makes_a_step_and_the_others_know_who() {
    let scratch = Scratch::new();
    let store = store(&scratch);
    let TryStepLock::Held(lock) = store.try_step_lock(&key("a")).unwrap() else {
        panic!("nobody has it");
    };
    let own = i32::try_from(std::process::id()).unwrap();
    let tried = store.try_step_lock(&key("a")).unwrap();
    assert!(matches!(tried, TryStepLock::Busy { pid: Some(pid) } if pid == own));
    assert!(matches!(
        store.try_step_lock(&key("b")).unwrap(),
        TryStepLock::Held(_)
    ));
    // Ctrl-C ends a wait.
    let gave_up = store.step_lock(&key("a"), &mut |pid| {
        assert_eq!(pid, Some(own));
        ControlFlow::Break(())
    });
    assert!(gave_up.unwrap().is_none());
    let (send, receive) = mpsc::channel();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            store.step_lock(&key("a"), &mut |_| {
                let _ = send.send(());
                ControlFlow::Continue(())
            })
        });
        receive.recv().unwrap();
        drop(lock);
        let lock = waiter.join().unwrap().unwrap().unwrap();
        assert!(matches!(
            store.try_step_lock(&key("a")).unwrap(),
            TryStepLock::Busy { .. }
        ));
        drop(lock);
    });
    let left: Vec<_> = entries(&store.path("locks")).unwrap();
    assert!(
        !left.iter().any(|name| name.starts_with("step-")),
        "{left:?}"
    );
    // What a killed holder left hinders nobody, and is cleared.
    fs::write(
        store.path("locks").join(format!("step-{}", key("a").hex())),
        "1\n",
    )
    .unwrap();
    store.clear_step_locks().unwrap();
    let left: Vec<_> = entries(&store.path("locks")).unwrap();
    assert!(
        !left.iter().any(|name| name.starts_with("step-")),
        "{left:?}"
    );
}

#[test]
fn the_lock_of_a_step_excludes_under_stress() {
    let scratch = Scratch::new();
    let store = store(&scratch);
    let inside = std::sync::atomic::AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..100 {
                    let lock = store.step_lock(&key("a"), &mut |_| ControlFlow::Continue(()));
                    let lock = lock.unwrap().unwrap();
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    inside.fetch_sub(1, Ordering::SeqCst);
                    drop(lock);
                }
            });
        }
    });
}
