//! Servers and networks that fail.

use super::*;
use std::time::Instant;

/// Answers with these first, then as it should.
fn after(troubles: Vec<Reply>) -> Server {
    let next = AtomicUsize::new(0);
    Server::start(move |_| {
        let number = next.fetch_add(1, Ordering::Relaxed);
        troubles.get(number).cloned().unwrap_or_else(manifest)
    })
}

#[test]
fn passing_trouble_passes() {
    for trouble in [
        reply(500, ""),
        reply(502, ""),
        reply(503, ""),
        reply(504, ""),
        reply(429, ""),
        Reply::Hangup,
    ] {
        let server = after(vec![trouble; 3]);
        pulling(&server).manifest(None).unwrap();
        assert_eq!(server.lines().len(), 4);
    }
}

#[test]
fn lasting_trouble_is_an_error() {
    let server = Server::start(|_| refusal(503, "UNAVAILABLE"));
    let error = pulling(&server).manifest(None).unwrap_err();
    let want = format!(
        "{} answered 503 to GET /v2/a/manifests/1: said UNAVAILABLE",
        server.address
    );
    assert_eq!(error.to_string(), want);
    assert!(error.is_transient());
    assert_eq!(server.lines().len(), 5);
    // What isn't trouble but an answer is asked for once.
    let server = Server::start(|_| refusal(400, "UNSUPPORTED"));
    assert!(!pulling(&server).manifest(None).unwrap_err().is_transient());
    assert_eq!(server.lines().len(), 1);
}

#[test]
fn a_server_that_wants_us_to_wait_is_obeyed() {
    let server = after(vec![reply(429, "").with("Retry-After", "1")]);
    let begin = Instant::now();
    pulling(&server).manifest(None).unwrap();
    assert!(begin.elapsed() >= Duration::from_secs(1));
    let server = Server::start(|_| refusal(429, "TOOMANYREQUESTS").with("Retry-After", "3600"));
    let error = pulling(&server).manifest(None).unwrap_err();
    // Nobody is to try it again in a moment.
    assert!(!error.is_transient());
    let (message, hint) = said(&*error);
    let want = format!(
        "{} gets too many requests: said TOOMANYREQUESTS",
        server.address
    );
    assert_eq!(
        (message.as_str(), hint.as_str()),
        (want.as_str(), "try again in 3600 seconds")
    );
    assert_eq!(server.lines().len(), 1);
}

#[test]
fn a_token_server_may_be_busy_too() {
    let troubles = AtomicUsize::new(0);
    let server = Server::knowing(|address| {
        let challenge = format!(r#"Bearer realm="http://{address}/token""#);
        move |request: &Request| match request.path.as_str() {
            path if path.starts_with("/token") => match troubles.fetch_add(1, Ordering::Relaxed) {
                0 => reply(503, ""),
                1 => reply(429, ""),
                2 => Reply::Hangup,
                _ => reply(200, r#"{"token":"good"}"#),
            },
            _ if request.header("authorization") == "Bearer good" => manifest(),
            _ => refusal(401, "X").with("WWW-Authenticate", challenge.clone()),
        }
    });
    pulling(&server).manifest(None).unwrap();
    assert_eq!(server.count("GET /token"), 4);
}

#[test]
fn silence_ends() {
    let server = Server::start(|_| Reply::Silence(Duration::from_secs(3)));
    let mut settings = settings();
    settings.web.read_timeout = Duration::from_millis(200);
    settings.retries.attempts = 2;
    let error = repository(settings, &server, Access::Pull)
        .manifest(None)
        .unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("/v2/a/manifests/1 doesn't answer"),
        "{error}"
    );
    assert!(error.is_transient());
}

#[test]
fn what_breaks_off_is_an_error() {
    let server = Server::start(|_| reply(200, vec![b'x'; 1000]).cut(500));
    let repository = pulling(&server);
    let error = repository.manifest(None).unwrap_err();
    assert!(error.to_string().ends_with("broke off"), "{error}");
    assert!(error.is_transient());
    let stream = repository.blob(&descriptor(b"x"), 0).unwrap();
    assert!(read(stream).is_err());
}

#[test]
fn nobody_there() {
    let address = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let client = Client::new(settings());
    for (name, want) in [
        (
            format!("{address}/a:1"),
            format!("cannot reach http://{address}/v2/"),
        ),
        // Names of .invalid lead nowhere (RFC 6761).
        (
            "nowhere.invalid/a:1".to_owned(),
            "cannot reach https://nowhere.invalid/".to_owned(),
        ),
    ] {
        let name = Reference::parse(&name).unwrap();
        let error = client
            .repository(&name, Access::Pull)
            .unwrap()
            .manifest(None)
            .unwrap_err();
        let (message, hint) = said(&*error);
        assert!(message.starts_with(&want), "{message}");
        assert!(hint.contains("check the name and the network"), "{hint}");
    }
}

#[test]
fn plain_http_is_for_those_where_it_is_allowed() {
    let server = Server::start(|_| manifest());
    let verified = Settings {
        tls_verify: Some(true),
        ..settings()
    };
    let error = repository(verified, &server, Access::Pull)
        .manifest(None)
        .unwrap_err();
    let (message, hint) = said(&*error);
    assert_eq!(
        message,
        format!("{} speaks http and not https", server.address)
    );
    assert!(hint.contains("insecure = true"), "{hint}");
    assert!(server.lines().is_empty());
    let insecure = Settings {
        tls_verify: Some(false),
        ..settings()
    };
    repository(insecure, &server, Access::Pull)
        .manifest(None)
        .unwrap();
    for (name, want) in [
        ("localhost", true),
        ("localhost:5000", true),
        ("127.1.2.3:5000", true),
        ("[::1]:5000", true),
        ("localhost.example.com", false),
        ("10.0.0.1:5000", false),
        ("docker.io", false),
    ] {
        assert_eq!(is_loopback(name), want, "{name}");
    }
}

/// Which a local registry speaks isn't decided by a connection that broke.
#[test]
fn a_broken_connection_is_not_taken_for_plain_http() {
    let next = AtomicUsize::new(0);
    let tls = Server::start_tls(|_| manifest());
    let to = tls.address.clone();
    let proxy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = proxy.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in proxy.incoming() {
            let stream = stream.unwrap();
            if next.fetch_add(1, Ordering::Relaxed) < 3 {
                continue;
            }
            server::relay(stream, &to);
        }
    });
    let name = Reference::parse(&format!("{address}/a:1")).unwrap();
    let client = Client::new(server::trusting(settings()));
    let repository = client.repository(&name, Access::Pull).unwrap();
    repository.manifest(None).unwrap();
}

#[test]
fn nothing_goes_from_https_to_http() {
    let plain = Server::start(|_| reply(200, r#"{"token":"good"}"#));
    let to = plain.address.clone();
    let realm = format!("Bearer realm=\"http://{to}/token\"");
    let tls = Server::start_tls(move |request| match request.path.as_str() {
        "/v2/a/manifests/1" => reply(307, "").with("Location", format!("http://{to}/x?secret")),
        _ => refusal(401, "X").with("WWW-Authenticate", realm.clone()),
    });
    let (settings, _) = logged_in(Some(user("me", "pw")));
    let repository = repository(server::trusting(settings), &tls, Access::Push);
    let error = repository.manifest(None).unwrap_err();
    let address = &plain.address;
    assert!(
        error.to_string().ends_with(&format!(
            "is redirected to http://{address}/x, which isn't encrypted"
        )),
        "{error}"
    );
    let error = repository.has_blob(&Digest::of(b"x")).unwrap_err();
    let want = format!(
        "{} wants its password sent to http://{address}/token, which isn't encrypted",
        tls.address
    );
    assert_eq!(error.to_string(), want);
    assert!(plain.lines().is_empty());
}
