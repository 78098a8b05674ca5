//! What is left when a process is killed at any moment, or the disk is full, or the store can't be written to.

mod support;

use std::fs;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rctr_storage::Store;
use rctr_storage::archive::{self, Format};
use rctr_storage::cache::{
    BuildEntry, BuildResult, CacheMountOrder, CachePolicy, LogStream, PruneCache, Sharing,
    StepRecord,
};
use rctr_storage::check::{Depth, Repair};
use rctr_storage::config::ImageConfig;
use rctr_storage::digest::Digest;
use rctr_storage::explain::Explain;
use rctr_storage::image::{Image, NewImage};
use rctr_storage::layer::{KeepUpper, LayerBlob};
use rctr_storage::removal::{PruneScope, RemoveImage};
use rctr_storage::store::StoreError;
use rctr_storage::volume::NewVolume;
use support::{Sandbox, entries, image, record, run, tag};

const ROOT: &str = "RCTR_TEST_ROOT";
/// The builds never end: what a power cut finds then is worst.
const UNSYNCED: &str = "RCTR_TEST_UNSYNCED";

/// Does everything that writes, again and again, until it is killed. Run by the test below in a process of its own.
#[test]
#[ignore = "the victim of processes_may_be_killed_at_any_moment"]
fn victim() {
    let Some(root) = std::env::var_os(ROOT) else {
        return;
    };
    let open = || Store::open(Path::new(&root)).unwrap();
    for n in 0.. {
        let store = open();
        let made = image(
            &store,
            &["shared", &format!("own {n}")],
            &["victim", "victim:2"],
        );
        let mut archived = Vec::new();
        archive::save(&store, &["victim:2"], Format::Docker, &mut archived).unwrap();
        store
            .create_volume(NewVolume {
                name: "victim".to_owned(),
                ..NewVolume::default()
            })
            .unwrap();
        let mut web = record("victim");
        web.image = made.id;
        web.layers = made.layers.iter().map(|layer| layer.diff_id.0).collect();
        // Of a victim before this one.
        for old in store.containers().unwrap() {
            if old.record.name.starts_with("victim") {
                store.remove_container(&old.record.id).unwrap();
            }
        }
        let id = store.create_container(web).unwrap().record.id;
        store
            .rename_container(&id, &format!("victim{}", n % 2))
            .unwrap();
        drop(store);
        let store = open();
        store.remove_container(&id).unwrap();
        store
            .remove_image(
                "victim",
                RemoveImage {
                    force: true,
                    keep_parents: false,
                },
            )
            .unwrap();
        store
            .remove_image(
                "victim:2",
                RemoveImage {
                    force: true,
                    keep_parents: false,
                },
            )
            .unwrap();
        store.remove_volume("victim").unwrap();
        archive::load(&open(), archived.as_slice()).unwrap();
    }
}

#[test]
fn processes_may_be_killed_at_any_moment() {
    let rounds: u64 = std::env::var("RCTR_TEST_KILLS").map_or(60, |n| n.parse().unwrap());
    let sandbox = Sandbox::new();
    let base = image(&sandbox.other(), &["shared", "base"], &["base"]);
    let mut steady = record("steady");
    steady.image = base.id;
    steady.layers = base.layers.iter().map(|layer| layer.diff_id.0).collect();
    sandbox.other().create_container(steady).unwrap();
    for round in 0..rounds {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "victim", "--ignored"])
            .env(ROOT, sandbox.root())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Past its start, at a different point each time.
        let start = Instant::now();
        let mut waited = false;
        while start.elapsed() < Duration::from_millis(20 + round * 37 % 90) {
            waited = true;
            std::thread::sleep(Duration::from_micros(300));
        }
        assert!(
            waited && child.try_wait().unwrap().is_none(),
            "the victim failed by itself"
        );
        child.kill().unwrap();
        child.wait().unwrap();
        // Readers are not disturbed.
        let store = sandbox.other();
        assert_eq!(store.find_image("base").unwrap(), base);
        assert_eq!(
            store.find_container("steady").unwrap().record.image,
            base.id
        );
        store.containers().unwrap();
        for summary in store.images().unwrap() {
            store.read_image(&summary).unwrap();
        }
        // The next command that writes clears `tmp/` and what had been pinned.
        store.temp_path("next").unwrap();
        let (blobs, layers) = (
            entries(&sandbox.root().join("blobs/sha256")),
            entries(&sandbox.root().join("layers")),
        );
        assert_eq!(entries(&sandbox.root().join("tmp")).len(), 2);
        let report = store.check(Repair::Yes, Depth::Quick).unwrap();
        assert!(report.is_clean(), "{:?}", report.problems);
        let report = sandbox.other().check(Repair::No, Depth::Deep).unwrap();
        assert_eq!(report.problems, [], "round {round}: {blobs:?} {layers:?}");
    }
}

/// Does what builds do with the store, again and again, until it is killed. Run by the test below in a process of its own,
/// and by hand in a machine whose power is cut.
#[test]
#[ignore = "the victim of builds_may_be_killed_at_any_moment"]
fn builder_victim() {
    let Some(root) = std::env::var_os(ROOT) else {
        return;
    };
    for n in 0.. {
        let store = Store::open(Path::new(&root)).unwrap();
        let log = store.build_log(BuildEntry::default()).unwrap();
        let mut layers = Vec::new();
        for step in 0..4 {
            // Most are cached after some rounds; some are always new.
            let name = match step {
                3 => format!("step {n} {}", std::process::id()),
                _ => format!("step {step} {}", n % 7),
            };
            let key = Digest::of(name.as_bytes());
            let mut go_on = |_| ControlFlow::Continue(());
            let lock = store.step_lock(&key, &mut go_on).unwrap().unwrap();
            log.write(step, LogStream::Stdout, name.as_bytes()).unwrap();
            let layer = match store.cached_step(&key).unwrap() {
                Some(record) => record.layer,
                None => build(&store, &name),
            };
            layers.push(layer);
            store.set_memo("test", &key, &key).unwrap();
            drop(lock);
        }
        use_mount(&store);
        if std::env::var_os(UNSYNCED).is_some() {
            // Only the journal goes to the disk.
            store
                .put_document(format!("document {n}").as_bytes())
                .unwrap();
            continue;
        }
        let new = NewImage {
            config: ImageConfig::default(),
            layers,
            tags: vec![tag("built")],
            parent: None,
        };
        let image = store.create_image(new).unwrap();
        store.sync_build().unwrap();
        log.finish(BuildResult::Completed, Some(image.id), None)
            .unwrap();
        // For who cuts the power: it is reported done.
        writeln!(io::stdout(), "built {}", image.id).unwrap();
        if n % 5 == 4 {
            let order = PruneCache {
                scope: PruneScope::Dangling,
                policy: CachePolicy {
                    reserved: Some(20_000),
                    ..CachePolicy::default()
                },
                wanted: &|_| true,
            };
            store.prune_cache(&order).unwrap();
            let wanted = |_: &Image| true;
            store.prune_images(PruneScope::Dangling, &wanted).unwrap();
        }
    }
}

/// A step that writes its own name, and a file of some size.
fn build(store: &Store, name: &str) -> LayerBlob {
    let upper = store.temp_path("upper").unwrap();
    fs::create_dir(&upper).unwrap();
    fs::write(upper.join("name"), name).unwrap();
    fs::write(upper.join("more"), name.repeat(500)).unwrap();
    // The same step makes the same layer whenever it is made.
    for file in ["name", "more"] {
        let file = fs::File::open(upper.join(file)).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
    }
    let layer = store.add_upper(&upper, KeepUpper::Move, &[]).unwrap();
    let record = StepRecord {
        key: Digest::of(name.as_bytes()),
        kind: "run".to_owned(),
        name: name.to_owned(),
        layer: layer.clone(),
        parent: None,
        inputs: Vec::new(),
        created: rctr_storage::timestamp::now(),
        duration_ms: 0,
        log: None,
    };
    store.remember_step(&record).unwrap();
    layer
}

fn use_mount(store: &Store) {
    let own = fs::metadata("/proc/self").unwrap();
    let order = CacheMountOrder {
        id: "mount",
        sharing: Sharing::Private,
        uid: own.uid(),
        gid: own.gid(),
        mode: 0o700,
        fill: None,
    };
    let mut go_on = |_| ControlFlow::Continue(());
    let mount = store.cache_mount(&order, &mut go_on).unwrap().unwrap();
    fs::write(mount.path.join("used"), "used").unwrap();
}

/// Whether what the cache has is what the steps have made.
fn verify_cache(store: &Store) {
    for usage in store.cache_usage().unwrap() {
        let Ok(key) = Digest::from_hex(&usage.id) else {
            panic!("{usage:?}");
        };
        let Some(record) = store.cached_step(&key).unwrap() else {
            continue;
        };
        let dir = store.layer_dir(&record.layer.diff_id);
        let content = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
        assert_eq!(content("name"), record.name);
        assert_eq!(content("more"), record.name.repeat(500));
        let blob = fs::read(store.blob_path(&record.layer.digest)).unwrap();
        assert_eq!(Digest::of(&blob), record.layer.digest);
    }
}

#[test]
fn builds_may_be_killed_at_any_moment() {
    let rounds: u64 = std::env::var("RCTR_TEST_KILLS").map_or(30, |n| n.parse().unwrap());
    let sandbox = Sandbox::new();
    for round in 0..rounds {
        let mut children: Vec<_> = (0..2).map(|_| spawn("builder_victim", &sandbox)).collect();
        std::thread::sleep(Duration::from_millis(20 + round * 37 % 90));
        for child in &mut children {
            assert!(
                child.try_wait().unwrap().is_none(),
                "the victim failed by itself"
            );
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let store = sandbox.other();
        // Killed before the first step was finished, there is nothing to read that would begin one.
        store.begin_session().unwrap();
        verify_cache(&store);
        for summary in store.images().unwrap() {
            store.read_image(&summary).unwrap();
        }
        let running = |build: &BuildEntry| build.result == BuildResult::Running;
        assert!(!store.builds().unwrap().iter().any(running));
        // The next build clears what they left, the files of locks apart.
        let report = sandbox.other().check(Repair::No, Depth::Deep).unwrap();
        assert_eq!(report.problems, [], "round {round}");
    }
}

fn spawn(test: &str, sandbox: &Sandbox) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored"])
        .env(ROOT, sandbox.root())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// What a machine whose power was cut finds when it is back: run by hand, beside `builder_victim`.
#[test]
#[ignore = "for machines whose power is cut"]
fn builder_survivor() {
    let Some(root) = std::env::var_os(ROOT) else {
        return;
    };
    let root = Path::new(&root);
    let store = Store::open(root).unwrap();
    for summary in store.images().unwrap() {
        for layer in &store.read_image(&summary).unwrap().layers {
            let blob = fs::read(store.blob_path(&layer.digest)).unwrap();
            assert_eq!(Digest::of(&blob), layer.digest);
            let dir = store.layer_dir(&layer.diff_id);
            let name = fs::read_to_string(dir.join("name")).unwrap();
            assert_eq!(
                fs::read_to_string(dir.join("more")).unwrap(),
                name.repeat(500)
            );
        }
    }
    verify_cache(&store);
    // The same steps again give the same layers: what is left of those must not stand in their way.
    for name in (0..3).flat_map(|step| (0..7).map(move |n| format!("step {step} {n}"))) {
        if store
            .cached_step(&Digest::of(name.as_bytes()))
            .unwrap()
            .is_none()
        {
            build(&store, &name);
        }
    }
    verify_cache(&store);
    store.sync_build().unwrap();
    drop(store);
    let store = Store::open(root).unwrap();
    let report = store.check(Repair::Yes, Depth::Deep).unwrap();
    assert!(report.is_clean(), "{:?}", report.problems);
    let report = Store::open(root)
        .unwrap()
        .check(Repair::No, Depth::Deep)
        .unwrap();
    assert_eq!(report.problems, []);
}

/// A file system of `size` bytes, until it is dropped.
struct Tmpfs(std::path::PathBuf);

impl Tmpfs {
    #[expect(clippy::print_stderr, reason = "a skip must be seen")]
    fn mount(dir: &Path, options: &str) -> Option<Self> {
        fs::create_dir_all(dir).unwrap();
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(dir)
            .stderr(Stdio::null())
            .status();
        if status.is_ok_and(|status| status.success()) {
            return Some(Self(dir.to_owned()));
        }
        eprintln!("SKIPPED: can't mount a tmpfs here");
        None
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_told_and_harms_nothing() {
    let sandbox = Sandbox::new();
    let Some(tmpfs) = Tmpfs::mount(&sandbox.dir.join("small"), "size=1m") else {
        return;
    };
    let root = tmpfs.0.join("store");
    let made = image(&Store::open(&root).unwrap(), &["a"], &["app"]);
    let big = "x".repeat(2 << 20);
    let other = Sandbox::new();
    image(&other.store, &[&big], &["big"]);
    let mut archived = Vec::new();
    archive::save(&other.store, &["big"], Format::Docker, &mut archived).unwrap();
    let error = archive::load(&Store::open(&root).unwrap(), archived.as_slice()).unwrap_err();
    assert!(
        error.hint().is_some_and(|hint| hint.contains("space")),
        "{error:?}: {:?}",
        error.hint()
    );
    // To the last byte.
    let filler = fs::write(tmpfs.0.join("filler"), vec![0; 2 << 20]);
    assert_eq!(filler.unwrap_err().kind(), io::ErrorKind::StorageFull);
    let store = Store::open(&root).unwrap();
    assert_eq!(store.find_image("app").unwrap(), made);
    let error = store.create_container(record("web")).unwrap_err();
    assert!(
        error.hint().is_some_and(|hint| hint.contains("space")),
        "{error:?}"
    );
    assert!(store.containers().unwrap().is_empty());
    let error = store.tag(&made, &support::tag("second")).unwrap_err();
    assert!(
        error.hint().is_some_and(|hint| hint.contains("space")),
        "{error:?}"
    );
    assert_eq!(store.find_image("app").unwrap(), made);
    fs::remove_file(tmpfs.0.join("filler")).unwrap();
    drop(store);
    let store = Store::open(&root).unwrap();
    store.create_container(record("web")).unwrap();
    drop(store);
    let report = Store::open(&root)
        .unwrap()
        .check(Repair::No, Depth::Deep)
        .unwrap();
    assert_eq!(report.problems, []);
    drop(tmpfs);
}

#[test]
fn a_read_only_store_can_be_read() {
    let sandbox = Sandbox::new();
    let Some(tmpfs) = Tmpfs::mount(&sandbox.dir.join("small"), "size=4m") else {
        return;
    };
    let root = tmpfs.0.join("store");
    let store = Store::open(&root).unwrap();
    let made = image(&store, &["a"], &["app"]);
    store.create_container(record("web")).unwrap();
    drop(store);
    run(&["mount", "-o", "remount,ro", tmpfs.0.to_str().unwrap()]);
    let store = Store::open(&root).unwrap();
    assert_eq!(store.images().unwrap().len(), 1);
    assert_eq!(store.find_image("app").unwrap(), made);
    assert_eq!(store.find_container("web").unwrap().record.name, "web");
    assert!(store.volumes().unwrap().is_empty());
    archive::save(&store, &["app"], Format::Docker, io::sink()).unwrap();
    assert_eq!(store.check(Repair::No, Depth::Deep).unwrap().problems, []);
    for error in [
        store.create_container(record("other")).unwrap_err().hint(),
        store
            .tag(&made, &support::tag("second"))
            .unwrap_err()
            .hint(),
        store
            .create_volume(NewVolume::default())
            .unwrap_err()
            .hint(),
        store
            .remove_image("app", RemoveImage::default())
            .unwrap_err()
            .hint(),
    ] {
        assert!(
            error
                .as_ref()
                .is_some_and(|hint| hint.contains("read-only")),
            "{error:?}"
        );
    }
    drop(store);
    let error = Store::open(&tmpfs.0.join("new")).unwrap_err();
    assert!(error.hint().is_some_and(|hint| hint.contains("read-only")));
    drop(tmpfs);
}

#[test]
fn a_store_where_none_can_be_is_told() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.dir.join("file"), "").unwrap();
    let error = Store::open(&sandbox.dir.join("file/store")).unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }));
}
