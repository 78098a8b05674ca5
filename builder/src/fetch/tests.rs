//! Fetching from a small server on loopback.

use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rctr_storage::explain::Explain;
use rctr_storage::web::{TlsFault, WebError};

use super::*;
use crate::testing::Scratch;

/// Answers requests by their path, one connection each, until the process ends.
struct Server {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

type Answer = fn(&str) -> Vec<u8>;

impl Server {
    fn start(answer: Answer) -> Self {
        Self::start_with(answer, |stream, serve| serve(&mut { stream }))
    }

    fn start_tls(answer: Answer) -> Self {
        let config = tls_config();
        let config = Box::leak(Box::new(config));
        Self::start_with(answer, |stream, serve| {
            let session = rustls::ServerConnection::new(Arc::clone(config)).unwrap();
            let mut tls = rustls::StreamOwned::new(session, stream);
            serve(&mut tls);
            tls.conn.send_close_notify();
            // The client may have left already.
            let _ = tls.flush();
        })
    }

    fn start_with(
        answer: Answer,
        wrap: impl Fn(TcpStream, &mut dyn FnMut(&mut dyn ReadWrite)) + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming() {
                wrap(stream.unwrap(), &mut |stream| {
                    // A client that doesn't trust us breaks off; one that comes through us as a proxy asks twice.
                    while let Some(request) = request_line(stream) {
                        let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
                        let last = !request.starts_with("CONNECT");
                        log.lock().unwrap().push(request);
                        let _ = stream.write_all(&answer(&path));
                        let _ = stream.flush();
                        if last {
                            break;
                        }
                    }
                });
            }
        });
        Self { address, asked }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

fn request_line(stream: &mut dyn ReadWrite) -> Option<String> {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        bytes.push(byte[0]);
    }
    let text = String::from_utf8(bytes).unwrap();
    Some(text.lines().next()?.to_owned())
}

fn tls_config() -> Arc<rustls::ServerConfig> {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let certificate = CertificateDer::from_pem_slice(include_bytes!("testdata/leaf.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("testdata/leaf.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    Arc::new(config)
}

fn ok(headers: &str, body: &str) -> Vec<u8> {
    let len = body.len();
    format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\nConnection: close\r\n{headers}\r\n{body}")
        .into()
}

fn redirect(to: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
    .into()
}

fn answers(path: &str) -> Vec<u8> {
    match path {
        "/a/file%20name.txt" => ok("Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\n", "hello"),
        "/named?x=1" => ok("Content-Disposition: attachment; filename=\"../../etc/x.tar\"\r\n", "tar"),
        "/" => ok("", "root"),
        "/to/abs" => redirect("/a/file%20name.txt"),
        "/to/rel" => redirect("abs"),
        "/circle" => redirect("circle"),
        "/ftp" => redirect("ftp://x/y"),
        "/short" => b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\nConnection: close\r\n\r\nabc".to_vec(),
        "/chunked" => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n".to_vec(),
        "/secret" => b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec(),
        "/silent" => {
            thread::sleep(Duration::from_secs(2));
            Vec::new()
        }
        _ => b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec(),
    }
}

fn with(web: web::Settings) -> Settings {
    Settings {
        web,
        ..Settings::default()
    }
}

fn get(
    settings: Settings,
    url: &str,
    expected: Option<Digest>,
) -> Result<(Fetched, Vec<u8>), FetchError> {
    let scratch = Scratch::new();
    let into = scratch.path("file");
    let got = Client::new(settings).get(url, expected, &into, &mut |_, _| {});
    assert_eq!(got.is_ok(), into.exists());
    got.map(|fetched| (fetched, fs::read(into).unwrap()))
}

fn error(url: &str) -> FetchError {
    get(Settings::default(), url, None).unwrap_err()
}

#[test]
fn file_with_name_time_and_digest() {
    let server = Server::start(answers);
    let digest = Digest::of(b"hello");
    let url = server.url("/a/file%20name.txt#part");
    let (fetched, bytes) = get(Settings::default(), &url, Some(digest)).unwrap();
    assert_eq!(bytes, b"hello");
    let want = Fetched {
        digest,
        file_name: "file name.txt".to_owned(),
        last_modified: Some(1_445_412_480),
        bytes: 5,
    };
    assert_eq!(fetched, want);
}

#[test]
fn names_cannot_lead_anywhere() {
    let server = Server::start(answers);
    for (path, want) in [
        ("/named?x=1", "x.tar"),
        ("/", "download"),
        ("/chunked", "chunked"),
    ] {
        let (fetched, _) = get(Settings::default(), &server.url(path), None).unwrap();
        assert_eq!(fetched.file_name, want);
    }
    for bad in [
        "http://h/a/%2e%2e",
        "http://h/..",
        "http://h/a%2Fb",
        "http://h/%00",
    ] {
        assert_eq!(web::last_name(&Url::parse(bad).unwrap()), None, "{bad}");
    }
}

#[test]
fn redirects_are_followed_some_times() {
    let server = Server::start(answers);
    let (fetched, bytes) = get(Settings::default(), &server.url("/to/rel"), None).unwrap();
    assert_eq!(
        (&*bytes, &*fetched.file_name),
        (&b"hello"[..], "file name.txt")
    );
    let circle = error(&server.url("/circle"));
    assert!(
        circle.to_string().ends_with("more than 10 redirects"),
        "{circle}"
    );
    let other = error(&server.url("/ftp"));
    assert_eq!(other.to_string(), "\"ftp://x/y\" is no http or https URL");
}

#[test]
fn progress_counts_the_bytes() {
    let server = Server::start(answers);
    let scratch = Scratch::new();
    let mut told = Vec::new();
    let client = Client::new(Settings::default());
    let url = server.url("/a/file%20name.txt");
    client
        .get(&url, None, &scratch.path("f"), &mut |now, total| {
            told.push((now, total))
        })
        .unwrap();
    assert_eq!(told.last(), Some(&(5, Some(5))));
}

#[test]
fn refusals_are_clear() {
    let server = Server::start(answers);
    let missing = error(&server.url("/none"));
    let want = format!(
        "cannot get {}: the server answered 404 Not Found",
        server.url("/none")
    );
    assert_eq!(missing.to_string(), want);
    assert!(
        error(&server.url("/secret"))
            .hint()
            .unwrap()
            .contains("isn't public")
    );
    let short = error(&server.url("/short"));
    assert!(
        short.to_string().ends_with("broke off after 3 bytes"),
        "{short}"
    );
    let wrong = get(
        Settings::default(),
        &server.url("/"),
        Some(Digest::of(b"x")),
    )
    .unwrap_err();
    assert!(matches!(wrong, FetchError::Digest { .. }), "{wrong}");
    let password = format!("http://user:pass@{}/none", server.address);
    assert!(!error(&password).to_string().contains("pass"));
    for bad in [
        "ftp://x/",
        "http://",
        "file:///etc/passwd",
        "http:///x",
        "x",
        "",
    ] {
        assert!(
            matches!(error(bad), FetchError::Web(WebError::BadUrl { .. })),
            "{bad}"
        );
    }
}

#[test]
fn too_large_is_refused_with_a_length_and_without() {
    let server = Server::start(answers);
    for path in ["/a/file%20name.txt", "/chunked"] {
        let settings = Settings {
            limit: 4,
            ..Settings::default()
        };
        let error = get(settings, &server.url(path), None).unwrap_err();
        assert!(
            error.to_string().ends_with("has more than 4 bytes"),
            "{error}"
        );
    }
}

#[test]
fn nobody_there() {
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let refused = error(&format!("http://{closed}/"));
    assert!(
        matches!(refused, FetchError::Web(WebError::Unreachable { .. })),
        "{refused}"
    );
    assert!(refused.hint().unwrap().contains("HTTP_PROXY"));

    let server = Server::start(answers);
    let settings = with(web::Settings {
        read_timeout: Duration::from_millis(200),
        ..web::Settings::default()
    });
    let silent = get(settings, &server.url("/silent"), None).unwrap_err();
    assert!(
        matches!(silent, FetchError::Web(WebError::Timeout { .. })),
        "{silent:?}"
    );
}

#[test]
fn certificates_decide_who_is_trusted() {
    let server = Server::start_tls(answers);
    let port = server.address.rsplit_once(':').unwrap().1;
    let scratch = Scratch::new();
    let ca_file = scratch.path("ca.pem");
    fs::write(&ca_file, include_bytes!("testdata/ca.pem")).unwrap();
    let trusting = with(web::Settings {
        ca_file: Some(ca_file),
        ..web::Settings::default()
    });
    for host in ["localhost", "127.0.0.1"] {
        let url = format!("https://{host}:{port}/");
        let (_, bytes) = get(trusting.clone(), &url, None).unwrap();
        assert_eq!(bytes, b"root");
    }
    let url = format!("https://localhost:{port}/");
    let none = scratch.path("none.pem");
    fs::write(&none, "").unwrap();
    let settings = with(web::Settings {
        ca_file: Some(none),
        ..web::Settings::default()
    });
    let error = get(settings, &url, None).unwrap_err();
    assert!(
        matches!(error, FetchError::Web(WebError::NoCertificates { .. })),
        "{error}"
    );
    let other = scratch.path("other.pem");
    fs::write(&other, include_bytes!("testdata/other.pem")).unwrap();
    let settings = with(web::Settings {
        ca_file: Some(other),
        ..web::Settings::default()
    });
    let error = get(settings, &url, None).unwrap_err();
    assert!(
        matches!(
            error,
            FetchError::Web(WebError::Tls {
                fault: TlsFault::UnknownAuthority,
                ..
            })
        ),
        "{error:?}"
    );
    assert!(error.hint().unwrap().contains("update-ca-certificates"));
}

#[test]
fn proxy_gets_what_is_meant_for_it() {
    let proxy = Server::start(|_| ok("", "by proxy"));
    let settings = |no_proxy: &str| {
        with(web::Settings {
            http_proxy: Some(format!("http://me:p%40ss@{}", proxy.address)),
            no_proxy: no_proxy.to_owned(),
            ..web::Settings::default()
        })
    };
    let (_, bytes) = get(settings("internal.test"), "http://example.test/x", None).unwrap();
    assert_eq!(bytes, b"by proxy");
    // Not CONNECT, which proxies allow for https only.
    let asked = ["GET http://example.test/x HTTP/1.1"];
    assert_eq!(*proxy.asked.lock().unwrap(), asked);
    // Names of .invalid lead nowhere (RFC 6761).
    let direct = get(settings("nowhere.invalid"), "http://nowhere.invalid/", None);
    assert!(matches!(
        direct,
        Err(FetchError::Web(
            WebError::UnknownHost { .. } | WebError::Unreachable { .. }
        ))
    ));
    assert_eq!(*proxy.asked.lock().unwrap(), asked);
}
