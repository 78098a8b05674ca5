//! Debian's `docker-registry` on loopback: open, with a password, or with TLS by a CA of its own.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::account::{Account, find_program};
use super::archive::sha256;
use super::sandbox::Sandbox;
use super::wait::{free_port, wait_for};

/// The one user of a registry with a password.
pub(crate) const USER: &str = "tester";
/// That user's.
pub(crate) const PASSWORD: &str = "pa55";
/// `tester:pa55` by bcrypt, the only kind that the registry reads.
const HTPASSWD: &str = "tester:$2y$05$abcdefghijklmnopqrstuudf3HefogPKF0jsklyPu4pStEPtwqax6\n";
/// What it is asked for.
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// Who may come in, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// http, everybody.
    Open,
    /// http, [`USER`] with [`PASSWORD`].
    Password,
    /// https, by a certificate of [`Registry::ca`].
    Tls,
    /// https, by one that was valid once.
    Expired,
}

/// A running registry. It ends when it is dropped.
pub(crate) struct Registry {
    child: Child,
    dir: PathBuf,
    port: u16,
}

impl Registry {
    /// Starts one whose files are in the sandbox. Needs [`super::Feature::Registry`].
    pub(crate) fn start(sandbox: &Sandbox, door: Door) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = sandbox.dir().join(format!("registry{number}"));
        Account::current().make_dir(&dir);
        let port = free_port();
        let path = dir.display();
        let mut http = format!("http:\n  addr: 127.0.0.1:{port}\n  secret: rctr\n");
        let mut auth = String::new();
        match door {
            Door::Open => {}
            Door::Password => {
                fs::write(dir.join("htpasswd"), HTPASSWD).unwrap();
                auth = format!("auth: {{htpasswd: {{realm: tests, path: {path}/htpasswd}}}}\n");
            }
            Door::Tls | Door::Expired => {
                certificates(&dir, door);
                http.push_str(&format!(
                    "  tls: {{certificate: {path}/server.pem, key: {path}/server.key}}\n"
                ));
            }
        }
        let storage = format!(
            "storage: {{filesystem: {{rootdirectory: {path}/data}}, delete: {{enabled: true}}}}\n"
        );
        let config = dir.join("config.yml");
        fs::write(
            &config,
            format!("version: 0.1\nlog: {{level: error}}\n{storage}{http}{auth}"),
        )
        .unwrap();
        for entry in fs::read_dir(&dir).unwrap() {
            Account::current().own(&entry.unwrap().path());
        }
        let log = fs::File::create(dir.join("log")).unwrap();
        let program =
            find_program("docker-registry").expect("require!(Feature::Registry) comes first");
        let child = Account::current()
            .command(&program)
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        wait_for("a registry on loopback", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Self { child, dir, port }
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The certificate of the CA that made the registry's.
    pub(crate) fn ca(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// A manifest's bytes and digest (`sha256:…`), asked for without TLS.
    pub(crate) fn manifest(&self, repository: &str, name: &str) -> (Vec<u8>, String) {
        let (head, body) = self.get(&format!("/v2/{repository}/manifests/{name}"));
        assert!(
            head.starts_with("HTTP/1.0 200"),
            "{repository}:{name}: {head}"
        );
        let digest = format!("sha256:{}", sha256(&body));
        (body, digest)
    }

    /// The answer's head and body.
    pub(crate) fn get(&self, path: &str) -> (String, Vec<u8>) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let host = self.address();
        // tester:pa55
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {host}\r\nAccept: {ACCEPT}\r\nAuthorization: Basic dGVzdGVyOnBhNTU=\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .unwrap();
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        (head, answer[end + 4..].to_vec())
    }

    /// Where it keeps a blob.
    pub(crate) fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        let data = self.dir.join("data/docker/registry/v2/blobs/sha256");
        data.join(&hex[..2]).join(hex).join("data")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// `ca.pem`, and `server.pem` with its key for 127.0.0.1 and localhost.
fn certificates(dir: &Path, door: Door) {
    let openssl = |line: &str| {
        let words = line.split(' ');
        let output = Command::new("openssl")
            .args(words)
            .current_dir(dir)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {line}: {said}");
    };
    openssl(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=tests -keyout ca.key -out ca.pem",
    );
    openssl(
        "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost -keyout server.key -out server.csr",
    );
    // Signed by `ca`, which alone can make certificates that were valid once.
    fs::write(dir.join("index.txt"), "").unwrap();
    fs::write(dir.join("serial"), "01\n").unwrap();
    let config = "[ca]\ndefault_ca = own\n[own]\ndatabase = index.txt\nserial = serial\nnew_certs_dir = .\ncertificate = ca.pem\n\
        private_key = ca.key\ndefault_md = sha256\npolicy = any\nx509_extensions = server\n[any]\ncommonName = supplied\n\
        [server]\nsubjectAltName = IP:127.0.0.1, DNS:localhost\nextendedKeyUsage = serverAuth\n";
    fs::write(dir.join("ca.cnf"), config).unwrap();
    let time = match door {
        Door::Expired => "-startdate 20200101000000Z -enddate 20200201000000Z",
        _ => "-days 30",
    };
    openssl(&format!(
        "ca -batch -notext -config ca.cnf -in server.csr -out server.pem {time}"
    ));
}
