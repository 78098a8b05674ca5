//! The registry client with Debian's docker-registry, a process per test.

#![allow(missing_docs, reason = "tests")]

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rctr_storage::digest::Digest;
use rctr_storage::explain::Explain;
use rctr_storage::manifest::{Descriptor, OCI_CONFIG, OCI_LAYER, OCI_MANIFEST};
use rctr_storage::reference::Reference;
use rctr_storage::registry::{
    Access, Client, Credential, CredentialError, Credentials, RegistryError, Repository, Secret,
    Settings,
};
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
        Self::start_with(test, extra, |_| ())
    }

    /// DIR in `extra`, which is in the section `http`, is the directory; `prepare` puts files there.
    fn start_with(test: &str, extra: &str, prepare: impl FnOnce(&Path)) -> Option<Self> {
        let dir = std::env::temp_dir().join(format!(
            "rctr-registry-{}",
            rctr_storage::random::hex::<6>()
        ));
        fs::create_dir(&dir).unwrap();
        prepare(&dir);
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

#[test]
fn tags_are_listed_and_manifests_deleted() {
    let Some(registry) = Registry::start("tags_are_listed_and_manifests_deleted", "") else {
        return;
    };
    let client = client();
    for tag in ["1", "2", "latest"] {
        let name = registry.name(&format!("a/b:{tag}"));
        let repository = client.repository(&name, Access::Push).unwrap();
        push(&repository, tag.as_bytes());
    }
    let mut tags = client.tags(&registry.name("a/b")).unwrap();
    tags.sort();
    assert_eq!(tags, ["1", "2", "latest"]);
    let hits = client.search(&registry.address, "b", 10).unwrap();
    assert_eq!(hits[0].name, "a/b");
    let repository = client
        .repository(&registry.name("a/b:1"), Access::Delete)
        .unwrap();
    repository.delete_manifest().unwrap();
    let name = registry.name("a/b:1");
    let error = repository.manifest(None).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("manifest for {name} not found: manifest unknown")
    );
    let unknown = client.tags(&registry.name("none")).unwrap_err();
    assert!(
        matches!(unknown, RegistryError::NoRepository { .. }),
        "{unknown}"
    );
}

#[test]
fn blobs_go_in_chunks_and_are_mounted() {
    let Some(registry) = Registry::start("blobs_go_in_chunks_and_are_mounted", "") else {
        return;
    };
    let client = Client::new(Settings {
        chunk: 1 << 20,
        ..Settings::default()
    });
    let first = registry.name("first:1");
    let repository = client.repository(&first, Access::Push).unwrap();
    let bytes = noise((5 << 20) + 17);
    let (descriptor, what) = put(&repository, &bytes, &[]);
    assert_eq!(what, Put::Sent);
    assert_eq!(read(&repository, &descriptor, 0), bytes);
    let second = registry.name("second:1");
    let repository = client.repository(&second, Access::Push).unwrap();
    let from = [registry.name("none"), first.clone()];
    assert_eq!(put(&repository, &bytes, &from).1, Put::Mounted(first));
    assert_eq!(read(&repository, &descriptor, 1 << 20), bytes[1 << 20..]);
}

/// Passes on what comes from either side, and breaks connections: the first `faults` of them after some bytes.
fn breaking(to: &str, faults: u64) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let to = to.to_owned();
    thread::spawn(move || {
        for (number, from) in listener.incoming().enumerate() {
            let (from, to) = (from.unwrap(), TcpStream::connect(&to).unwrap());
            let number = number as u64;
            // Spread over heads and bodies, up and down.
            let limit = match number < faults {
                true => (number * 7919 + 13) % 7 * 60_000 + number * 37,
                false => u64::MAX,
            };
            for (reader, mut writer) in [
                (from.try_clone().unwrap(), to.try_clone().unwrap()),
                (to, from),
            ] {
                thread::spawn(move || {
                    let _ = io::copy(&mut (&reader).take(limit), &mut writer);
                    let _ = reader.shutdown(Shutdown::Both);
                    let _ = writer.shutdown(Shutdown::Both);
                });
            }
        }
    });
    address
}

#[test]
fn connections_that_break_lose_nothing() {
    let Some(registry) = Registry::start("connections_that_break_lose_nothing", "") else {
        return;
    };
    let mut settings = Settings {
        chunk: 256 << 10,
        ..Settings::default()
    };
    // More than there are faults.
    settings.retries.attempts = 30;
    settings.retries.first_wait = Duration::from_millis(1);
    settings.retries.longest_wait = Duration::from_millis(20);
    let client = Client::new(settings);
    let bytes = noise(3 << 20);
    let through = |faults| {
        let name = format!("{}/a:1", breaking(&registry.address, faults));
        let name = Reference::parse(&name).unwrap();
        client.repository(&name, Access::Push).unwrap()
    };
    let (descriptor, what) = put(&through(25), &bytes, &[]);
    assert_eq!(what, Put::Sent);
    let repository = through(25);
    let (mut got, mut broken) = (Vec::new(), 0);
    while got.len() < bytes.len() {
        let mut stream = repository.blob(&descriptor, got.len() as u64).unwrap();
        assert_eq!(stream.offset, got.len() as u64);
        // What comes before it breaks counts.
        broken += usize::from(stream.bytes.read_to_end(&mut got).is_err());
        assert!(broken < 50);
    }
    assert!(broken > 0 && got == bytes, "{broken}");
}

struct Me(&'static str);

impl Credentials for Me {
    fn find(&self, _: &str, _: &str) -> Result<Option<Credential>, CredentialError> {
        Ok(Some(me(self.0)))
    }
}

fn me(password: &str) -> Credential {
    Credential::Basic {
        user: "me".to_owned(),
        password: Secret::new(password),
    }
}

#[test]
fn passwords_are_checked() {
    // bcrypt of "pass word".
    let users = "me:$2b$04$7o8/JOqG841Nbk1Sqricruwz.4f9yt/AgWoXtjwKqkDVqUC2qDpN6\n";
    let conf = "auth:\n  htpasswd: {realm: test, path: DIR/users}\n";
    let started = Registry::start_with("passwords_are_checked", conf, |dir| {
        fs::write(dir.join("users"), users).unwrap();
    });
    let Some(registry) = started else {
        return;
    };
    let with = |password| {
        Client::new(Settings {
            credentials: Arc::new(Me(password)),
            ..Settings::default()
        })
    };
    let name = registry.name("private:1");
    let good = with("pass word");
    let pushed = push(
        &good.repository(&name, Access::Push).unwrap(),
        &noise(100_000),
    );
    let repository = good.repository(&name, Access::Pull).unwrap();
    assert_eq!(repository.manifest(None).unwrap(), pushed);
    for (refused, want) in [
        (
            with("wrong"),
            "doesn't accept the user name or the password",
        ),
        (
            client(),
            "or may require 'rctr login': authentication required",
        ),
    ] {
        let repository = refused.repository(&name, Access::Pull).unwrap();
        let error = repository.manifest(None).unwrap_err();
        assert!(error.to_string().ends_with(want), "{error}");
    }
    let client = client();
    client
        .ping(&registry.address, Some(&me("pass word")))
        .unwrap();
    let error = client
        .ping(&registry.address, Some(&me("wrong")))
        .unwrap_err();
    assert!(
        matches!(error, RegistryError::WrongPassword { .. }),
        "{error}"
    );
    let error = client.ping(&registry.address, None).unwrap_err();
    assert!(
        matches!(error, RegistryError::LoginWanted { .. }),
        "{error}"
    );
}

/// An authority and what it has signed: the server's `NAME.pem`, `NAME.key`.
struct Authority<'d>(&'d Path);

impl<'d> Authority<'d> {
    fn new(dir: &'d Path) -> Self {
        openssl(
            dir,
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=test-authority",
        );
        Self(dir)
    }

    fn sign(&self, name: &str, days: &str) {
        openssl(
            self.0,
            &format!(
                "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name} -addext subjectAltName=IP:127.0.0.1"
            ),
        );
        openssl(
            self.0,
            &format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out {name}.pem -days {days} -copy_extensions copy"
            ),
        );
    }
}

fn openssl(dir: &Path, arguments: &str) {
    let output = Command::new("openssl")
        .current_dir(dir)
        .args(arguments.split(' '))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

fn with_certs(registry: &Registry, put: impl FnOnce(&Path)) -> Client {
    let certs = registry.dir.join("certs.d");
    let dir = certs.join(&registry.address);
    fs::create_dir_all(&dir).unwrap();
    put(&dir);
    Client::new(Settings {
        certs_dirs: vec![certs],
        ..Settings::default()
    })
}

fn ping(registry: &Registry, client: &Client) -> Result<(), (String, String)> {
    let pinged = client.ping(&registry.address, None);
    pinged.map_err(|error| (error.to_string(), error.hint().unwrap_or_default()))
}

#[test]
fn private_authorities_are_trusted_for_their_registry() {
    let test = "private_authorities_are_trusted_for_their_registry";
    let conf = "  tls: {certificate: DIR/leaf.pem, key: DIR/leaf.key, clientcas: [DIR/ca.pem]}\n";
    let started = Registry::start_with(test, conf, |dir| {
        let authority = Authority::new(dir);
        authority.sign("leaf", "2");
        authority.sign("client", "2");
    });
    let Some(registry) = started else {
        return;
    };
    let unknown = with_certs(&registry, |_| ());
    let (message, hint) = ping(&registry, &unknown).unwrap_err();
    assert!(
        message.ends_with(": its certificate is signed by an authority that isn't known here"),
        "{message}"
    );
    let place = format!("certs.d/{}/ca.crt", registry.address);
    assert!(hint.ends_with(&place), "{hint}");
    let file = |name: &str| registry.dir.join(name);
    let nobody = with_certs(&registry, |dir| {
        fs::copy(file("ca.pem"), dir.join("ca.crt")).unwrap();
    });
    let (message, hint) = ping(&registry, &nobody).unwrap_err();
    assert!(
        message.ends_with(": it wants a client certificate"),
        "{message}"
    );
    assert!(hint.contains("client.cert"), "{hint}");
    let client = with_certs(&registry, |dir| {
        fs::copy(file("client.pem"), dir.join("client.cert")).unwrap();
        fs::copy(file("client.key"), dir.join("client.key")).unwrap();
    });
    ping(&registry, &client).unwrap();
    let name = registry.name("a:1");
    let repository = client.repository(&name, Access::Push).unwrap();
    let pushed = push(&repository, &noise(3 << 20));
    assert_eq!(repository.manifest(None).unwrap(), pushed);
    with_certs(&registry, |dir| {
        fs::write(dir.join("ca.crt"), "rubbish").unwrap();
    });
    let broken = Client::new(Settings {
        certs_dirs: vec![registry.dir.join("certs.d")],
        ..Settings::default()
    });
    let (message, _) = ping(&registry, &broken).unwrap_err();
    assert!(
        message.starts_with("cannot use the certificates for 127.0.0.1:"),
        "{message}"
    );
}

#[test]
fn expired_certificates_are_said() {
    let conf = "  tls: {certificate: DIR/leaf.pem, key: DIR/leaf.key}\n";
    let started = Registry::start_with("expired_certificates_are_said", conf, |dir| {
        Authority::new(dir).sign("leaf", "-1");
    });
    let Some(registry) = started else {
        return;
    };
    let client = with_certs(&registry, |dir| {
        fs::copy(registry.dir.join("ca.pem"), dir.join("ca.crt")).unwrap();
    });
    let (message, hint) = ping(&registry, &client).unwrap_err();
    assert!(
        message.ends_with(": its certificate has expired"),
        "{message}"
    );
    assert!(hint.contains("renew"), "{hint}");
    let insecure = Client::new(Settings {
        tls_verify: Some(false),
        ..Settings::default()
    });
    ping(&registry, &insecure).unwrap();
}
