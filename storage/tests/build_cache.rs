//! A build cache that travels in a directory: whole, in another compression, with cache mounts, within a size, inside an image.

mod support;

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rctr_storage::Store;
use rctr_storage::cache::{CacheMountOrder, Sharing, StepInput, StepRecord};
use rctr_storage::config::ImageConfig;
use rctr_storage::digest::Digest;
use rctr_storage::image::NewImage;
use rctr_storage::layer::{KeepUpper, LayerBlob};
use rctr_storage::transfer::cache::{BuildCache, CacheOptions, write_cache, write_inline};
use rctr_storage::transfer::{self, Compression, PushOptions, Silent, TransferError};
use rctr_storage::transport::{Place, sweep_layout};
use support::Sandbox;

fn key(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

fn layer(store: &Store, text: &str) -> LayerBlob {
    let upper = store.temp_path("upper").unwrap();
    fs::create_dir(&upper).unwrap();
    fs::write(upper.join("file"), text).unwrap();
    let file = fs::File::open(upper.join("file")).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    store.add_upper(&upper, KeepUpper::Move, &[]).unwrap()
}

fn step(store: &Store, name: &str, parent: Option<&str>) -> StepRecord {
    let record = StepRecord {
        key: key(name),
        kind: "run".to_owned(),
        name: format!("RUN {name}"),
        layer: layer(store, name),
        parent: parent.map(key),
        inputs: vec![StepInput {
            what: "command".to_owned(),
            value: name.to_owned(),
        }],
        created: "2026-01-01T00:00:00Z".to_owned(),
        duration_ms: 12,
        log: None,
    };
    store.remember_step(&record).unwrap();
    record
}

fn place(dir: &Path) -> Place {
    Place::parse(&format!("oci:{}:latest", dir.display())).unwrap()
}

fn open(dir: &Path) -> Result<BuildCache, TransferError> {
    let opened = place(dir).open_source(dir).unwrap().unwrap();
    BuildCache::open(opened.source)
}

fn options(keys: &[Digest]) -> CacheOptions<'_> {
    CacheOptions {
        keys,
        memos: &[],
        mounts: &[],
        compression: None,
        before: None,
        max_size: u64::MAX,
    }
}

fn write(store: &Store, dir: &Path, options: &CacheOptions<'_>) {
    let target = place(dir).open_target().unwrap().unwrap();
    write_cache(store, &*target, options).unwrap();
}

#[test]
fn steps_come_out_as_they_went_in() {
    for compression in [
        None,
        Some((Compression::Gzip, None)),
        Some((Compression::Zstd, Some(5))),
    ] {
        let (here, there) = (Sandbox::new(), Sandbox::new());
        let dir = here.dir.join("cache");
        let made = [
            step(&here.store, "one", None),
            step(&here.store, "two", Some("one")),
        ];
        let keys = made.each_ref().map(|record| record.key);
        write(
            &here.store,
            &dir,
            &CacheOptions {
                compression,
                ..options(&keys)
            },
        );
        let cache = open(&dir).unwrap();
        for record in &made {
            let taken = cache.take(&there.store, &record.key).unwrap().unwrap();
            assert_eq!(taken.layer.diff_id, record.layer.diff_id);
            assert_eq!(taken.inputs, record.inputs);
            let served = there.store.cached_step(&record.key).unwrap().unwrap();
            assert_eq!((&served.name, served.layer), (&record.name, taken.layer));
        }
        assert_eq!(cache.take(&there.store, &key("three")).unwrap(), None);
    }
}

/// What BuildKit wants of a cache: its own lists of layers and records, and each layer's diffID.
#[test]
fn the_config_has_buildkits_form() {
    let here = Sandbox::new();
    let dir = here.dir.join("cache");
    step(&here.store, "one", None);
    step(&here.store, "two", Some("one"));
    write(&here.store, &dir, &options(&[key("one"), key("two")]));
    let opened = place(&dir).open_source(&dir).unwrap().unwrap();
    let manifest = opened.source.manifest(None).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest.bytes).unwrap();
    let config = &manifest["config"];
    assert_eq!(
        config["mediaType"],
        "application/vnd.buildkit.cacheconfig.v0"
    );
    let hex = config["digest"]
        .as_str()
        .unwrap()
        .trim_start_matches("sha256:");
    let config = fs::read(dir.join("blobs/sha256").join(hex)).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    assert_eq!(config["layers"][0]["parent"], -1);
    assert_eq!(config["layers"][1]["parent"], 0);
    assert_eq!(config["layers"][1]["blob"], manifest["layers"][1]["digest"]);
    assert_eq!(config["records"][1]["results"][0]["layer"], 1);
    assert_eq!(config["records"][1]["inputs"][0][0]["link"], 0);
    let annotation = &manifest["layers"][0]["annotations"]["containerd.io/uncompressed"];
    assert!(annotation.as_str().unwrap().starts_with("sha256:"));
}

/// Builds on many machines write to one place: what others have made stays, as far as there is room, each blob once.
#[test]
fn what_was_there_stays_while_there_is_room() {
    let (one, two, reader) = (Sandbox::new(), Sandbox::new(), Sandbox::new());
    let dir = one.dir.join("cache");
    let old = step(&one.store, "old", None);
    write(&one.store, &dir, &options(&[old.key]));
    let new = step(&two.store, "new", None);
    let before = open(&dir).unwrap();
    let merged = CacheOptions {
        before: Some(&before),
        ..options(std::slice::from_ref(&new.key))
    };
    write(&two.store, &dir, &merged);
    let cache = open(&dir).unwrap();
    assert!(cache.take(&reader.store, &old.key).unwrap().is_some());
    assert!(cache.take(&reader.store, &new.key).unwrap().is_some());

    let newest = step(&two.store, "newest", None);
    let before = open(&dir).unwrap();
    let small = CacheOptions {
        before: Some(&before),
        max_size: newest.layer.size + new.layer.size,
        ..options(std::slice::from_ref(&newest.key))
    };
    write(&two.store, &dir, &small);
    let count = || fs::read_dir(dir.join("blobs/sha256")).unwrap().count();
    let all = count();
    // Somebody may be writing.
    sweep_layout(&dir, Duration::from_secs(3600)).unwrap();
    assert_eq!(count(), all);
    sweep_layout(&dir, Duration::ZERO).unwrap();
    assert_eq!(count(), 4, "manifest, config and two layers");
    let cache = open(&dir).unwrap();
    let empty = Sandbox::new();
    assert!(cache.take(&empty.store, &newest.key).unwrap().is_some());
    assert!(cache.take(&empty.store, &new.key).unwrap().is_some());
    assert_eq!(cache.take(&empty.store, &old.key).unwrap(), None);
}

#[test]
fn cache_mounts_go_along() {
    let (here, there) = (Sandbox::new(), Sandbox::new());
    let dir = here.dir.join("cache");
    let order = CacheMountOrder {
        id: "/root/.cache",
        sharing: Sharing::Shared,
        uid: nix::unistd::getuid().as_raw(),
        gid: nix::unistd::getgid().as_raw(),
        mode: 0o755,
        fill: None,
    };
    let mount = here
        .store
        .cache_mount(&order, &mut |_| ControlFlow::Break(()));
    let mount = mount.unwrap().unwrap();
    fs::create_dir(mount.path.join("deep")).unwrap();
    fs::write(mount.path.join("deep/file"), "kept").unwrap();
    drop(mount);
    let mounts = [order.id.to_owned(), "never used".to_owned()];
    let with = CacheOptions {
        mounts: &mounts,
        ..options(&[])
    };
    write(&here.store, &dir, &with);
    let cache = open(&dir).unwrap();
    let into = there.dir.join("into");
    fs::create_dir(&into).unwrap();
    assert!(cache.fill_mount(&there.store, order.id, &into).unwrap());
    assert_eq!(fs::read_to_string(into.join("deep/file")).unwrap(), "kept");
    assert!(!cache.fill_mount(&there.store, "never used", &into).unwrap());

    // A build that has not touched it leaves it there.
    let before = open(&dir).unwrap();
    let without = CacheOptions {
        before: Some(&before),
        ..options(&[])
    };
    write(&here.store, &dir, &without);
    let cache = open(&dir).unwrap();
    assert!(cache.fill_mount(&there.store, order.id, &into).unwrap());
}

#[test]
fn an_image_carries_its_cache_inside() {
    let (here, there) = (Sandbox::new(), Sandbox::new());
    let made = [
        step(&here.store, "one", None),
        step(&here.store, "two", Some("one")),
    ];
    let image = || {
        let mut new = NewImage {
            config: ImageConfig::default(),
            layers: made.iter().map(|record| record.layer.clone()).collect(),
            tags: vec!["app".parse().unwrap()],
            parent: None,
        };
        let steps = made.iter();
        let steps = steps.map(|r| (r.key, r.kind.as_str(), r.name.as_str(), r.layer.diff_id));
        write_inline(&mut new.config, steps);
        here.store.create_image(new).unwrap()
    };
    assert_eq!(image().id, image().id, "the same steps, the same image");
    let dir = here.dir.join("image");
    let target = place(&dir).open_target().unwrap().unwrap();
    transfer::push(
        &here.store,
        &image(),
        &*target,
        &PushOptions::default(),
        &Silent,
    )
    .unwrap();
    let cache = open(&dir).unwrap();
    for record in &made {
        let taken = cache.take(&there.store, &record.key).unwrap().unwrap();
        assert_eq!(taken.layer.diff_id, record.layer.diff_id);
    }
}

#[test]
fn what_is_no_cache_says_so() {
    let here = Sandbox::new();
    let dir = here.dir.join("image");
    let image = here.store.create_image(NewImage {
        config: ImageConfig::default(),
        layers: vec![layer(&here.store, "plain")],
        tags: Vec::new(),
        parent: None,
    });
    let target = place(&dir).open_target().unwrap().unwrap();
    let options = PushOptions::default();
    transfer::push(&here.store, &image.unwrap(), &*target, &options, &Silent).unwrap();
    let error = open(&dir).err().unwrap();
    assert!(matches!(error, TransferError::NoCache { .. }), "{error}");
}

#[test]
fn a_damaged_layer_is_not_taken() {
    let (here, there) = (Sandbox::new(), Sandbox::new());
    let dir = here.dir.join("cache");
    let made = step(&here.store, "one", None);
    write(&here.store, &dir, &options(&[made.key]));
    let blob = dir.join("blobs/sha256").join(made.layer.digest.hex());
    let mut bytes = fs::read(&blob).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&blob, bytes).unwrap();
    let cache = open(&dir).unwrap();
    assert!(cache.take(&there.store, &made.key).is_err());
    assert_eq!(there.store.cached_step(&made.key).unwrap(), None);
}
