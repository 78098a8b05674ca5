//! Uploads.

use super::*;

/// A registry that takes uploads as the protocol says, and makes trouble as `trouble` says: it gets the request and how
/// many came before.
struct Depot {
    blob: Mutex<Vec<u8>>,
    count: AtomicUsize,
}

fn depot(
    trouble: impl Fn(&Request, usize) -> Option<Reply> + Send + Sync + 'static,
) -> (Server, Arc<Depot>) {
    let depot = Arc::new(Depot {
        blob: Mutex::default(),
        count: AtomicUsize::new(0),
    });
    let shared = Arc::clone(&depot);
    let server = Server::start(move |request| {
        let mut blob = shared.blob.lock().unwrap();
        if let Some(reply) = trouble(request, shared.count.fetch_add(1, Ordering::Relaxed)) {
            // What came before it broke.
            if request.method == "PATCH" {
                let half = request.body.len() / 2;
                blob.extend(&request.body[..half]);
            }
            return reply;
        }
        let range = match blob.len() {
            0 => "0-0".to_owned(),
            length => format!("0-{}", length - 1),
        };
        match (request.method.as_str(), request.path.as_str()) {
            ("HEAD", _) => reply(404, ""),
            ("POST", _) => reply(202, "").with("Location", "/upload/1?state=a"),
            ("GET", "/upload/1?state=a") => reply(204, "")
                .with("Location", "/upload/1?state=a")
                .with("Range", range),
            ("PATCH", "/upload/1?state=a") => {
                let begin = format!("{}-", blob.len());
                if !request.header("content-range").starts_with(&begin) {
                    return reply(416, "").with("Range", range);
                }
                blob.extend(&request.body);
                let range = format!("0-{}", blob.len() - 1);
                reply(202, "")
                    .with("Location", "/upload/1?state=a")
                    .with("Range", range)
            }
            ("PUT", path) if path.starts_with("/upload/1?state=a&digest=") => {
                blob.extend(&request.body);
                match path.ends_with(&Digest::of(&blob).hex()) {
                    true => reply(201, ""),
                    false => refusal(400, "DIGEST_INVALID"),
                }
            }
            _ => refusal(404, "NOT_FOUND"),
        }
    });
    (server, depot)
}

const BLOB: &[u8] = b"the quick brown fox jumps over the lazy dog";

fn put(repository: &Repository, from: &[Reference]) -> Result<(Put, Vec<u64>), RegistryErrorText> {
    let told = Mutex::new(Vec::new());
    let sent = |count| told.lock().unwrap().push(count);
    let put = repository.put_blob(&descriptor(BLOB), &Bytes(BLOB.to_vec()), from, &sent);
    let put = put.map_err(|error| error.to_string())?;
    Ok((put, told.into_inner().unwrap()))
}

type RegistryErrorText = String;

fn chunked(server: &Server, chunk: u64) -> Repository {
    let settings = Settings {
        chunk,
        ..settings()
    };
    repository(settings, server, Access::Push)
}

#[test]
fn a_small_blob_goes_in_one_piece() {
    let (server, depot) = depot(|_, _| None);
    let (what, told) = put(&pushing(&server), &[]).unwrap();
    assert_eq!(
        (what, *told.last().unwrap()),
        (Put::Sent, BLOB.len() as u64)
    );
    assert_eq!(*depot.blob.lock().unwrap(), BLOB);
    let methods: Vec<_> = server
        .lines()
        .iter()
        .map(|line| line[..4].to_owned())
        .collect();
    assert_eq!(methods, ["HEAD", "POST", "PUT "]);
}

#[test]
fn a_large_blob_goes_in_chunks() {
    let (server, depot) = depot(|_, _| None);
    put(&chunked(&server, 10), &[]).unwrap();
    assert_eq!(*depot.blob.lock().unwrap(), BLOB);
    assert_eq!(server.count("PATCH"), 5);
    let ranges: Vec<_> = server
        .asked
        .lock()
        .unwrap()
        .iter()
        .map(|r| r.header("content-range").to_owned())
        .collect();
    assert_eq!(ranges[2..7], ["0-9", "10-19", "20-29", "30-39", "40-42"]);
}

#[test]
fn chunks_are_as_long_as_the_registry_wants() {
    let (server, _) = depot(|request, _| {
        (request.method == "POST").then(|| {
            reply(202, "")
                .with("Location", "/upload/1?state=a")
                .with("OCI-Chunk-Min-Length", "25")
        })
    });
    put(&chunked(&server, 10), &[]).unwrap();
    assert_eq!(server.count("PATCH"), 2);
}

#[test]
fn chunks_that_break_off_go_on_where_they_were() {
    for failing in [
        reply(500, ""),
        Reply::Hangup,
        reply(429, "").with("Retry-After", "0"),
    ] {
        let (server, depot) = depot(move |request, count| {
            let is_failing = request.method == "PATCH" && [3, 6].contains(&count);
            is_failing.then(|| failing.clone())
        });
        put(&chunked(&server, 10), &[]).unwrap();
        assert_eq!(*depot.blob.lock().unwrap(), BLOB);
        assert_eq!(server.count("GET /upload"), 2);
        assert_eq!(server.count("POST"), 1);
        // Half of what broke off had come, and isn't sent again.
        let bodies = server.asked.lock().unwrap();
        let sent: usize = bodies.iter().map(|request| request.body.len()).sum();
        assert!(sent <= BLOB.len() + 10, "{sent}");
    }
}

#[test]
fn an_upload_that_is_forgotten_begins_anew() {
    let (server, depot) = depot(|request, count| match (request.method.as_str(), count) {
        ("PUT", 2) => Some(reply(503, "")),
        ("GET", _) => Some(refusal(404, "BLOB_UPLOAD_UNKNOWN")),
        _ => None,
    });
    put(&pushing(&server), &[]).unwrap();
    assert_eq!(*depot.blob.lock().unwrap(), BLOB);
    assert_eq!(server.count("POST"), 2);
}

#[test]
fn an_upload_that_never_works_ends() {
    let (server, _) = depot(|request, _| (request.method == "PUT").then_some(Reply::Hangup));
    let error = put(&pushing(&server), &[]).unwrap_err();
    assert!(error.starts_with("cannot reach http://"), "{error}");
    assert_eq!(server.count("PUT"), 5);
    let (server, _) =
        depot(|request, _| (request.method == "PUT").then(|| refusal(400, "DIGEST_INVALID")));
    let error = put(&pushing(&server), &[]).unwrap_err();
    assert!(error.ends_with("said DIGEST_INVALID"), "{error}");
    assert_eq!(server.count("PUT"), 1);
}

#[test]
fn a_registry_that_counts_wrong_is_refused() {
    let (server, _) = depot(|request, _| {
        (request.method == "PATCH").then(|| {
            reply(202, "")
                .with("Location", "/upload/1?state=a")
                .with("Range", "0-0")
        })
    });
    let error = put(&chunked(&server, 10), &[]).unwrap_err();
    assert!(error.contains("doesn't follow the protocol"), "{error}");
    let (server, _) = depot(|request, _| (request.method == "POST").then(|| reply(202, "")));
    let error = put(&pushing(&server), &[]).unwrap_err();
    assert!(
        error.ends_with("an upload's answer has no Location"),
        "{error}"
    );
}

#[test]
fn an_upload_elsewhere_gets_no_credentials() {
    let elsewhere = Server::start(|_| reply(201, ""));
    let to = format!("http://{}/up?signature=x", elsewhere.address);
    let server = Server::start(move |request| {
        match (request.header("authorization"), request.method.as_str()) {
            ("", _) => refusal(401, "X").with("WWW-Authenticate", "Basic realm=\"x\""),
            (_, "HEAD") => reply(404, ""),
            _ => reply(202, "").with("Location", to.clone()),
        }
    });
    let (settings, _) = logged_in(Some(user("me", "pw")));
    let repository = repository(settings, &server, Access::Push);
    put(&repository, &[]).unwrap();
    let last = elsewhere.last();
    assert_eq!(
        last.path,
        format!("/up?signature=x&digest=sha256%3A{}", Digest::of(BLOB).hex())
    );
    assert_eq!(
        (last.header("authorization"), last.body.as_slice()),
        ("", BLOB)
    );
}

#[test]
fn blobs_that_are_there_are_not_sent() {
    let server = Server::start(|request| match request.method.as_str() {
        "HEAD" => reply(200, ""),
        _ => reply(500, ""),
    });
    assert_eq!(put(&pushing(&server), &[]).unwrap().0, Put::Present);
}

/// Signed URLs are for GET only, with some.
#[test]
fn a_storage_that_refuses_to_say_is_no_refusal() {
    let storage = Server::start(|_| reply(403, ""));
    let to = format!("http://{}/signed", storage.address);
    let (server, depot) = depot(move |request, _| {
        (request.method == "HEAD").then(|| reply(307, "").with("Location", to.clone()))
    });
    assert_eq!(put(&pushing(&server), &[]).unwrap().0, Put::Sent);
    assert_eq!(*depot.blob.lock().unwrap(), BLOB);
}

#[test]
fn blobs_of_other_repositories_are_mounted() {
    let server = Server::knowing(|address| {
        let challenge = format!(r#"Bearer realm="http://{address}/token""#);
        move |request: &Request| match request.line().as_str() {
            line if line.starts_with("GET /token") => reply(200, r#"{"token":"good"}"#),
            _ if request.header("authorization") != "Bearer good" => {
                refusal(401, "X").with("WWW-Authenticate", challenge.clone())
            }
            line if line.starts_with("HEAD") => reply(404, ""),
            line if line.ends_with("&from=has") => reply(201, ""),
            line if line.ends_with("&from=denied") => refusal(403, "DENIED"),
            line if line.starts_with("DELETE /unused") => reply(204, ""),
            line if line.starts_with("POST") => reply(202, "").with("Location", "/unused"),
            _ => reply(500, ""),
        }
    });
    let from = |name: &str| Reference::parse_bare(&format!("{}/{name}", server.address)).unwrap();
    let elsewhere = Reference::parse_bare("other.test/x").unwrap();
    let sources = [
        from("a"),
        elsewhere,
        from("denied"),
        from("hasnt"),
        from("has"),
    ];
    let (what, told) = put(&pushing(&server), &sources).unwrap();
    assert_eq!(
        (what, told.as_slice()),
        (Put::Mounted(from("has")), &[][..])
    );
    assert_eq!(server.count("POST"), 3);
    let both = "scope=repository%3Aa%3Apull%2Cpush&scope=repository%3Ahas%3Apull&client_id=rctr";
    assert!(
        server.lines().iter().any(|line| line.ends_with(both)),
        "{:?}",
        server.lines()
    );
}

#[test]
fn a_mount_that_is_refused_is_an_upload() {
    let (server, depot) = depot(|_, _| None);
    let from = Reference::parse_bare(&format!("{}/b", server.address)).unwrap();
    assert_eq!(put(&pushing(&server), &[from]).unwrap().0, Put::Sent);
    assert_eq!(*depot.blob.lock().unwrap(), BLOB);
    assert_eq!(server.count("POST"), 1);
}

#[test]
fn manifests_go_under_the_tag_or_the_digest() {
    let server = Server::start(|request| {
        let digest = Digest::of(&request.body).to_string();
        reply(201, "").with("Docker-Content-Digest", digest)
    });
    let manifest = RawManifest {
        bytes: MANIFEST.into(),
        media_type: OCI_MANIFEST.to_owned(),
        digest: Digest::of(MANIFEST.as_bytes()),
    };
    let repository = pushing(&server);
    repository.put_manifest(&manifest, true).unwrap();
    repository.put_manifest(&manifest, false).unwrap();
    let digest = manifest.digest;
    assert_eq!(
        server.lines(),
        [
            "PUT /v2/a/manifests/1".to_owned(),
            format!("PUT /v2/a/manifests/{digest}")
        ]
    );
    let last = server.last();
    assert_eq!(
        (last.header("content-type"), last.text().as_str()),
        (OCI_MANIFEST, MANIFEST)
    );
    let other = Server::start(|_| {
        reply(201, "").with("Docker-Content-Digest", Digest::of(b"").to_string())
    });
    let error = pushing(&other).put_manifest(&manifest, true).unwrap_err();
    assert!(error.to_string().contains("wrong digest"), "{error}");
    let denied = Server::start(|_| refusal(403, "DENIED"));
    let error = pushing(&denied).put_manifest(&manifest, true).unwrap_err();
    assert!(
        error.to_string().starts_with("push access denied for "),
        "{error}"
    );
}

#[test]
fn content_that_cannot_be_read_is_our_fault() {
    struct Broken;
    impl BlobContent for Broken {
        fn size(&self) -> u64 {
            BLOB.len() as u64
        }

        fn open(&self, _: u64) -> io::Result<Box<dyn Read + Send>> {
            struct Fails;
            impl Read for Fails {
                fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                    Err(io::Error::from_raw_os_error(5))
                }
            }
            Ok(Box::new(Fails))
        }
    }
    let (server, _) = depot(|_, _| None);
    let error = pushing(&server)
        .put_blob(&descriptor(BLOB), &Broken, &[], &|_| ())
        .unwrap_err();
    assert_eq!(error.to_string(), "cannot read what is to be sent");
    assert!(!error.is_transient());
}
