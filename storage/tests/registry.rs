//! The registry client with Debian's docker-registry, a process per test.

#![allow(missing_docs, reason = "tests")]

use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rctr_storage::digest::Digest;
use rctr_storage::manifest::{Descriptor, OCI_CONFIG, OCI_LAYER, OCI_MANIFEST};
use rctr_storage::reference::Reference;
use rctr_storage::registry::{Access, Client, Repository, Settings};
use rctr_storage::transfer::{BlobContent, Put, RawManifest, Source, Target};

/// docker-registry on a free port of loopback, in a directory of its own.
struct Registry {
    child: Child,
    dir: PathBuf,
    address: String,
}

impl Registry {
    /// `None`: it isn't installed, and `test` is skipped, which is said loudly.
    fn start(test: &str, extra: &str) -> Option<Self> {
        let dir = std::env::temp_dir().join(format!(
            "rctr-registry-{}",
            rctr_storage::random::hex::<6>()
        ));
        fs::create_dir(&dir).unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let address = format!("127.0.0.1:{port}");
        let data = dir.join("data");
        let conf = format!(
            "version: 0.1\nlog: {{level: warn}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n  delete: {{enabled: true}}\nhttp:\n  addr: {address}\n{}",
            data.display(),
            extra.replace("DIR", &dir.display().to_string()),
        );
        fs::write(dir.join("config.yml"), conf).unwrap();
        let spawned = Command::new("docker-registry")
            .arg("serve")
            .arg(dir.join("config.yml"))
            .stdout(Stdio::null())
            .stderr(fs::File::create(dir.join("log")).unwrap())
            .spawn();
        let child = match spawned {
            Ok(child) => child,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::remove_dir_all(&dir).unwrap();
                skip(test, "docker-registry isn't installed");
                return None;
            }
            Err(error) => panic!("docker-registry: {error}"),
        };
        let registry = Self {
            child,
            dir,
            address,
        };
        let end = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(&registry.address).is_err() {
            assert!(Instant::now() < end, "docker-registry doesn't listen");
            thread::sleep(Duration::from_millis(20));
        }
        Some(registry)
    }

    fn name(&self, rest: &str) -> Reference {
        Reference::parse(&format!("{}/{rest}", self.address)).unwrap()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Not with `eprintln!`, which the test harness hides.
fn skip(test: &str, reason: &str) {
    let line = format!("SKIPPED {test}: {reason}\n");
    io::stderr().write_all(line.as_bytes()).unwrap();
    if let Some(path) = std::env::var_os("RCTR_TEST_SKIPS") {
        let file = fs::OpenOptions::new().append(true).create(true).open(path);
        file.unwrap().write_all(line.as_bytes()).unwrap();
    }
}

/// Bytes in memory.
struct Bytes(Vec<u8>);

impl BlobContent for Bytes {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn open(&self, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        let rest = self.0[usize::try_from(offset).unwrap()..].to_vec();
        Ok(Box::new(io::Cursor::new(rest)))
    }
}

fn put(repository: &Repository, bytes: &[u8], from: &[Reference]) -> (Descriptor, Put) {
    let descriptor = Descriptor::new(OCI_LAYER, Digest::of(bytes), bytes.len() as u64);
    let told = AtomicU64::new(0);
    let sent = |count| told.store(count, Ordering::Relaxed);
    let content = Bytes(bytes.to_vec());
    let put = repository
        .put_blob(&descriptor, &content, from, &sent)
        .unwrap();
    if put == Put::Sent {
        assert_eq!(told.into_inner(), bytes.len() as u64);
    }
    (descriptor, put)
}

/// An image of one layer.
fn push(repository: &Repository, layer: &[u8]) -> RawManifest {
    let (layer, _) = put(repository, layer, &[]);
    let (mut config, _) = put(repository, b"{}", &[]);
    config.media_type = OCI_CONFIG.to_owned();
    let bytes = serde_json::to_vec(&serde_json::json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [layer],
    }))
    .unwrap();
    let manifest = RawManifest {
        digest: Digest::of(&bytes),
        media_type: OCI_MANIFEST.to_owned(),
        bytes,
    };
    repository.put_manifest(&manifest, true).unwrap();
    manifest
}

fn read(repository: &Repository, descriptor: &Descriptor, offset: u64) -> Vec<u8> {
    let mut stream = repository.blob(descriptor, offset).unwrap();
    assert_eq!(stream.offset, offset);
    let mut bytes = Vec::new();
    stream.bytes.read_to_end(&mut bytes).unwrap();
    bytes
}

/// What doesn't repeat itself.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn client() -> Client {
    Client::new(Settings::default())
}

#[test]
fn what_is_pushed_is_pulled() {
    let Some(registry) = Registry::start("what_is_pushed_is_pulled", "") else {
        return;
    };
    let client = client();
    let repository = client
        .repository(&registry.name("a/b:1"), Access::Push)
        .unwrap();
    let layer = noise(100_000);
    let pushed = push(&repository, &layer);
    let pulling = client
        .repository(&registry.name("a/b:1"), Access::Pull)
        .unwrap();
    assert_eq!(pulling.manifest(None).unwrap(), pushed);
    assert_eq!(pulling.manifest(Some(&pushed.digest)).unwrap(), pushed);
    assert_eq!(pulling.digest().unwrap(), Some(pushed.digest));
    let (descriptor, again) = put(&repository, &layer, &[]);
    assert_eq!(again, Put::Present);
    assert_eq!(read(&pulling, &descriptor, 0), layer);
    assert_eq!(read(&pulling, &descriptor, 99_000), layer[99_000..]);
}
