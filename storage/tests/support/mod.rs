//! A store of its own for each test, and records to put into it.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "each test uses a part"
)]

use std::fs;
use std::path::{Path, PathBuf};

use rctr_storage::Store;
use rctr_storage::config::ImageConfig;
use rctr_storage::digest::Digest;
use rctr_storage::image::{Image, NewImage};
use rctr_storage::layer::{Expected, LayerBlob, StoreAs};
use rctr_storage::record::{ContainerRecord, HostConfig, RECORD_VERSION};
use rctr_storage::reference::Reference;
use rctr_storage::tarfile::{Entry, Kind, Writer};

pub struct Sandbox {
    pub dir: PathBuf,
    pub store: Store,
}

impl Sandbox {
    pub fn new() -> Self {
        let dir =
            std::env::temp_dir().join(format!("rctr-test-{}", rctr_storage::random::hex::<6>()));
        fs::create_dir(&dir).unwrap();
        let store = Store::open(&dir.join("store")).unwrap();
        Self { dir, store }
    }

    /// The same store as another process sees it.
    pub fn other(&self) -> Store {
        Store::open(&self.root()).unwrap()
    }

    pub fn root(&self) -> PathBuf {
        self.dir.join("store")
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

pub fn record(name: &str) -> ContainerRecord {
    ContainerRecord {
        version: RECORD_VERSION,
        id: rctr_storage::random::container_id(),
        name: name.to_owned(),
        created: rctr_storage::timestamp::now(),
        path: "sh".to_owned(),
        args: vec!["-c".to_owned(), "true".to_owned()],
        image: Digest::of(b"image"),
        layers: Vec::new(),
        platform: "linux/amd64".to_owned(),
        driver: "overlay".to_owned(),
        config: Default::default(),
        host_config: HostConfig::default(),
        mounts: Vec::new(),
    }
}

pub fn entries(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A tar with regular files.
pub fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (path, content) in files {
        let mut entry = Entry::new(*path, Kind::File, 0o644);
        entry.size = content.len() as u64;
        writer.begin(&entry).unwrap();
        writer.write_data(content).unwrap();
    }
    writer.finish().unwrap()
}

pub fn layer(store: &Store, content: &str) -> LayerBlob {
    let tar = tar_of(&[("file", content.as_bytes())]);
    store
        .add_layer(tar.as_slice(), &Expected::default(), StoreAs::Verbatim)
        .unwrap()
}

pub fn tag(name: &str) -> Reference {
    Reference::parse(name).unwrap()
}

pub fn config(created: &str) -> ImageConfig {
    ImageConfig {
        architecture: rctr_storage::manifest::Platform::host().architecture,
        os: "linux".to_owned(),
        created: Some(created.to_owned()),
        ..ImageConfig::default()
    }
}

/// An image of one layer for each of `contents`.
pub fn image(store: &Store, contents: &[&str], tags: &[&str]) -> Image {
    store
        .create_image(NewImage {
            config: config("2024-05-01T10:00:00Z"),
            layers: contents
                .iter()
                .map(|content| layer(store, content))
                .collect(),
            tags: tags.iter().map(|name| tag(name)).collect(),
            parent: None,
        })
        .unwrap()
}

/// Says loudly that a test was skipped for want of a program.
#[expect(clippy::print_stderr, reason = "a skip must be seen")]
pub fn have(program: &str) -> bool {
    let found = std::process::Command::new(program)
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success());
    if !found {
        eprintln!("SKIPPED: {program} is missing");
    }
    found
}

/// Runs a command line and returns its output.
pub fn run(words: &[&str]) -> String {
    let output = std::process::Command::new(words[0])
        .args(&words[1..])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{words:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}
