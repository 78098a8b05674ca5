//! The build cache: records, pruning, and what a power cut leaves.

mod collect;
mod log;
mod mount;
mod power;
mod step;

use std::fs;
use std::time::{Duration, SystemTime};

use super::*;
use crate::atomic::Durability;
use crate::config::ImageConfig;
use crate::image::NewImage;
use crate::layer::{KeepUpper, LayerBlob};
use crate::testing::Scratch;
use crate::timestamp;

fn store(scratch: &Scratch) -> Store {
    Store::open(&scratch.path("store")).unwrap()
}

fn key(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

/// The layer that a step with this output leaves.
fn layer(store: &Store, text: &str) -> LayerBlob {
    let upper = store.temp_path("upper").unwrap();
    fs::create_dir(&upper).unwrap();
    fs::write(upper.join("file"), text).unwrap();
    // The same content is the same layer whenever it was made.
    let file = fs::File::open(upper.join("file")).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    store.add_upper(&upper, KeepUpper::Move, &[]).unwrap()
}

fn record(store: &Store, name: &str, parent: Option<&str>) -> StepRecord {
    StepRecord {
        key: key(name),
        kind: "run".to_owned(),
        name: format!("RUN {name}"),
        layer: layer(store, name),
        parent: parent.map(key),
        inputs: vec![StepInput {
            what: "command".to_owned(),
            value: name.to_owned(),
        }],
        created: timestamp::now(),
        duration_ms: 12,
        log: None,
    }
}

/// Makes a step that was last used `hours` ago.
fn step(store: &Store, name: &str, parent: Option<&str>, hours: u64) -> StepRecord {
    let record = record(store, name, parent);
    store.remember_step(&record).unwrap();
    let used = SystemTime::now() - Duration::from_secs(hours * 3600);
    let file = fs::File::open(store.step_path(&record.key)).unwrap();
    file.set_modified(used).unwrap();
    record
}

fn image(store: &Store, layers: &[LayerBlob]) {
    let new = NewImage {
        config: ImageConfig::default(),
        layers: layers.to_vec(),
        tags: vec!["app".parse().unwrap()],
        parent: None,
    };
    store.create_image(new).unwrap();
}

/// Has the store forgotten what this process has under way?
fn reopened(store: Store) -> Store {
    let root = store.root().to_owned();
    drop(store);
    Store::open(&root).unwrap()
}
