use std::ops::ControlFlow;

use super::*;
use crate::removal::PruneScope;

fn prune(store: &Store, scope: PruneScope, policy: CachePolicy) -> Vec<String> {
    let order = PruneCache {
        scope,
        policy,
        wanted: &|_| true,
    };
    names(&store.prune_cache(&order).unwrap())
}

fn names(collected: &Collected) -> Vec<String> {
    let names = collected
        .removed
        .iter()
        .map(|usage| usage.description.clone());
    names.collect()
}

#[test]
fn dangling_cache_is_what_no_image_has() {
    let scratch = Scratch::new();
    let (a, b) = {
        let store = store(&scratch);
        let made = (step(&store, "a", None, 0), step(&store, "b", Some("a"), 0));
        image(&store, std::slice::from_ref(&made.0.layer));
        made
    };
    let store = store(&scratch);
    let nothing = CachePolicy::default();
    assert_eq!(prune(&store, PruneScope::Dangling, nothing), ["RUN b"]);
    assert!(!store.has_layer(&b.layer.diff_id) && !store.has_blob(&b.layer.digest));
    assert!(store.has_layer(&a.layer.diff_id));
    assert_eq!(prune(&store, PruneScope::Unused, nothing), ["RUN a"]);
    // The image has it still.
    assert!(store.has_layer(&a.layer.diff_id));
    assert!(store.cached_step(&a.key).unwrap().is_none());
}

#[test]
fn what_a_running_build_uses_stays() {
    let scratch = Scratch::new();
    let made = step(&store(&scratch), "a", None, 0);
    step(&store(&scratch), "b", None, 0);
    let building = store(&scratch);
    building.cached_step(&made.key).unwrap().unwrap();
    let own = std::os::unix::fs::MetadataExt::uid(&fs::metadata("/proc/self").unwrap());
    let order = CacheMountOrder {
        id: "x",
        sharing: Sharing::Shared,
        uid: own,
        gid: std::os::unix::fs::MetadataExt::gid(&fs::metadata("/proc/self").unwrap()),
        mode: 0o755,
        fill: None,
    };
    let mount = building
        .cache_mount(&order, &mut |_| ControlFlow::Break(()))
        .unwrap()
        .unwrap();
    let store = store(&scratch);
    let removed = prune(&store, PruneScope::Unused, CachePolicy::default());
    assert_eq!(removed, ["RUN b"]);
    assert!(mount.path.is_dir());
    drop((mount, building));
    let mut removed = prune(&store, PruneScope::Unused, CachePolicy::default());
    removed.sort();
    assert_eq!(removed, ["RUN a", "cached mount x"]);
    assert_eq!(entries(&store.path("cache/mounts")).unwrap(), [""; 0]);
    assert!(store.cache_usage().unwrap().is_empty());
}

#[test]
fn the_oldest_goes_first_and_a_chain_from_its_end() {
    let scratch = Scratch::new();
    {
        let store = store(&scratch);
        // `base` is old itself, but `new` stands upon it.
        step(&store, "base", None, 90);
        step(&store, "old", Some("base"), 50);
        step(&store, "older", Some("old"), 60);
        step(&store, "new", Some("base"), 1);
    }
    let store = store(&scratch);
    let usage = store.cache_usage().unwrap();
    let one = usage[0].bytes;
    assert!(
        usage.iter().all(|usage| usage.bytes.abs_diff(one) < 10),
        "{usage:?}"
    );
    let keep = |steps: u64| CachePolicy {
        reserved: Some(steps * one + one / 2),
        ..CachePolicy::default()
    };
    assert_eq!(prune(&store, PruneScope::Unused, keep(9)), [""; 0]);
    assert_eq!(prune(&store, PruneScope::Unused, keep(3)), ["RUN older"]);
    assert_eq!(
        prune(&store, PruneScope::Unused, keep(1)),
        ["RUN old", "RUN new"]
    );
    assert_eq!(store.cache_usage().unwrap().len(), 1);
}

#[test]
fn filters_decide() {
    let scratch = Scratch::new();
    {
        let store = store(&scratch);
        step(&store, "a", None, 0);
        step(&store, "b", None, 0);
    }
    let store = store(&scratch);
    let order = PruneCache {
        scope: PruneScope::Unused,
        policy: CachePolicy::default(),
        wanted: &|usage| usage.id == key("b").hex(),
    };
    assert_eq!(names(&store.prune_cache(&order).unwrap()), ["RUN b"]);
}

#[test]
fn two_steps_with_the_same_layer_free_it_with_the_last() {
    let scratch = Scratch::new();
    let made = {
        let store = store(&scratch);
        let mut made = step(&store, "a", None, 5);
        let layer = made.layer.clone();
        made.key = key("same");
        made.name = "RUN same".to_owned();
        store.remember_step(&made).unwrap();
        layer
    };
    let store = store(&scratch);
    let usage = store.cache_usage().unwrap();
    assert_eq!(total(&usage), usage[0].bytes);
    let order = PruneCache {
        scope: PruneScope::Unused,
        policy: CachePolicy::default(),
        wanted: &|usage| usage.id == key("a").hex(),
    };
    let collected = store.prune_cache(&order).unwrap();
    assert_eq!(
        (names(&collected), collected.bytes),
        (vec!["RUN a".to_owned()], 0)
    );
    assert!(store.has_layer(&made.diff_id));
    prune(&store, PruneScope::Unused, CachePolicy::default());
    assert!(!store.has_layer(&made.diff_id));
}

#[test]
fn a_build_keeps_the_cache_below_the_limit() {
    let scratch = Scratch::new();
    {
        let store = store(&scratch);
        step(&store, "old", None, 50);
        step(&store, "a", None, 2);
    }
    let store = store(&scratch);
    let bytes = store.cache_usage().unwrap()[0].bytes;
    let limit = |steps: u64| {
        Some(CachePolicy {
            max_used: Some(steps * bytes + bytes / 2),
            ..CachePolicy::default()
        })
    };
    // A build that made nothing.
    assert!(names(&store.collect_cache(limit(0)).unwrap()).is_empty());
    step(&store, "b", None, 0);
    assert!(names(&store.collect_cache(limit(5)).unwrap()).is_empty());
    // Estimated without a look at the records.
    step(&store, "c", None, 0);
    assert!(names(&store.collect_cache(limit(5)).unwrap()).is_empty());
    step(&store, "d", None, 0);
    let removed = names(&store.collect_cache(limit(4)).unwrap());
    assert_eq!(removed.first().map(String::as_str), Some("RUN old"));
    // What this build has made is in use.
    for made in ["b", "c", "d"] {
        assert!(store.cached_step(&key(made)).unwrap().is_some(), "{made}");
    }
}

#[test]
fn limits_as_buildkit_reckons_them() {
    let policy = |max_used, reserved, min_free| CachePolicy {
        max_used,
        reserved,
        min_free,
    };
    for (policy, want) in [
        (policy(None, None, None), 0),
        (policy(None, Some(30), None), 30),
        (policy(Some(60), None, None), 60),
        (policy(Some(60), Some(80), None), 80),
        (policy(None, None, Some(10)), 100),
        (policy(None, None, Some(70)), 80),
        (policy(Some(60), None, Some(70)), 60),
        (policy(Some(90), Some(85), Some(70)), 85),
    ] {
        assert_eq!(policy.kept(100, 50), want, "{policy:?}");
    }
}

#[test]
fn pruning_everything_forgets_what_was_learned() {
    let scratch = Scratch::new();
    let store = store(&scratch);
    store.set_memo("copy", &key("a"), &key("b")).unwrap();
    let hashes = store.file_hashes_path(Path::new("/src"));
    atomic_write(&hashes);
    assert_eq!(
        prune(&store, PruneScope::Dangling, CachePolicy::default()),
        [""; 0]
    );
    assert!(hashes.exists() && store.memo("copy", &key("a")).is_some());
    assert_eq!(
        prune(&store, PruneScope::Unused, CachePolicy::default()).len(),
        1
    );
    assert!(!hashes.exists() && store.memo("copy", &key("a")).is_none());
}

fn atomic_write(path: &Path) {
    crate::atomic::write(path, b"hashes", Durability::None).unwrap();
}
