//! Which proxy is asked, and URLs.

use super::*;

#[test]
fn hosts_without_a_proxy() {
    for (no_proxy, host, port, want) in [
        ("", "example.com", 80, false),
        ("", "localhost", 80, true),
        ("", "127.0.0.9", 80, true),
        ("", "::1", 80, true),
        ("*", "example.com", 80, true),
        ("example.com", "example.com", 80, true),
        ("example.com", "a.example.com", 80, true),
        ("example.com", "anexample.com", 80, false),
        (".example.com", "example.com", 80, false),
        (".example.com", "a.example.com", 80, true),
        ("*.example.com", "a.example.com", 80, true),
        ("x, EXAMPLE.com ,", "example.com", 80, true),
        ("example.com:8080", "example.com", 80, false),
        ("example.com:8080", "example.com", 8080, true),
        ("10.0.0.0/8", "10.1.2.3", 80, true),
        ("10.0.0.0/8", "11.1.2.3", 80, false),
        ("0.0.0.0/0", "11.1.2.3", 80, true),
        ("10.1.2.3:81", "10.1.2.3", 80, false),
        ("10.1.2.3", "10.1.2.3", 80, true),
        ("fd00::/8", "fd12::1", 80, true),
        ("[fd12::1]:80", "fd12::1", 80, true),
        ("10.0.0.0/99", "10.1.2.3", 80, false),
    ] {
        assert_eq!(
            proxy::is_direct(no_proxy, host, port),
            want,
            "{host}:{port} with {no_proxy:?}"
        );
    }
}

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

#[test]
fn urls_are_joined() {
    let base = url("http://u:p@host:5000/v2/a/uploads/1?state=x");
    for (location, want) in [
        ("https://other/x?y", "https://other/x?y"),
        ("//other/x", "http://other/x"),
        ("/v2/b", "http://host:5000/v2/b"),
        ("2", "http://host:5000/v2/a/uploads/2"),
        ("?state=y", "http://host:5000/v2/a/uploads/1?state=y"),
        ("/x?to=http://y/#end", "http://host:5000/x?to=http://y/"),
    ] {
        assert_eq!(base.join(location).unwrap().to_string(), want, "{location}");
    }
    assert!(base.join("ftp://x/y").is_err());
    let parameter = base.with_parameter("digest", "sha256:a b").unwrap();
    assert_eq!(
        parameter.to_string(),
        "http://host:5000/v2/a/uploads/1?state=x&digest=sha256%3Aa%20b"
    );
}

#[test]
fn servers_are_told_by_scheme_host_and_port() {
    assert!(url("http://A/x").same_server(&url("http://a:80/y")));
    for other in ["https://a/x", "http://a:81/x", "http://b/x"] {
        assert!(!url("http://a/x").same_server(&url(other)), "{other}");
    }
}

#[test]
fn passwords_are_not_shown() {
    let url = url("https://user:secret@host/x");
    assert_eq!(
        (url.to_string(), format!("{url:?}")),
        ("https://host/x".into(), "https://host/x".into())
    );
    let error = Url::parse("ftp://user:secret@host/").unwrap_err();
    assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
}

#[test]
fn plain_http_asks_the_proxy_in_absolute_form() {
    for (proxy, want) in [
        (
            "http://proxy:3128",
            "http://proxy:3128/http://host:81/a?b=c",
        ),
        ("proxy:3128", "http://proxy:3128/http://host:81/a?b=c"),
        (
            "https://me:p%40ss@proxy",
            "https://proxy/http://host:81/a?b=c",
        ),
    ] {
        let (uri, login) = proxy::absolute(proxy, &url("http://u:v@host:81/a?b=c")).unwrap();
        assert_eq!(uri.to_string(), want);
        assert_eq!(uri.path(), "/http://host:81/a");
        let me = proxy
            .contains('@')
            .then(|| ("me".to_owned(), "p@ss".to_owned()));
        assert_eq!(login, me);
    }
    for bad in ["http://", "http:///x", "a b"] {
        assert!(proxy::absolute(bad, &url("http://host/")).is_err(), "{bad}");
    }
}

/// A proxy that answers three requests on one connection; what it got.
fn proxied(send: impl FnOnce(&Web)) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let settings = Settings {
        http_proxy: Some(listener.local_addr().unwrap().to_string()),
        ..Settings::default()
    };
    let proxy = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut got = Vec::new();
        for _ in 0..3 {
            let mut buffer = [0; 4096];
            // A head and a body may come apart.
            std::thread::sleep(std::time::Duration::from_millis(50));
            let count = stream.read(&mut buffer).unwrap();
            got.extend_from_slice(&buffer[..count]);
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            std::io::Write::write_all(&mut stream, answer).unwrap();
        }
        String::from_utf8(got).unwrap()
    });
    send(&Web::new(settings));
    proxy.join().unwrap()
}

#[test]
fn only_the_first_line_of_a_request_is_made_absolute() {
    const BODY: &[u8] = b"GET /http://body HTTP/1.1\r\n";
    let got = proxied(|web| {
        for payload in [Payload::None, Payload::Bytes(BODY), Payload::None] {
            let method = match payload {
                Payload::None => Method::GET,
                _ => Method::POST,
            };
            let headers = [(header::AUTHORIZATION, "Bearer x")];
            let url = url("http://host.test:81/a?b=/http://c");
            let answer = web.send(method, &url, &headers, payload).unwrap();
            assert_eq!(answer.into_body().read_to_string().unwrap(), "ok");
        }
    });
    let lines: Vec<_> = got
        .lines()
        .filter(|line| line.ends_with("HTTP/1.1"))
        .collect();
    assert_eq!(
        lines,
        [
            "GET http://host.test:81/a?b=/http://c HTTP/1.1",
            "POST http://host.test:81/a?b=/http://c HTTP/1.1",
            "GET /http://body HTTP/1.1",
            "GET http://host.test:81/a?b=/http://c HTTP/1.1",
        ]
    );
    let got = got.to_lowercase();
    for header in ["\nhost: host.test:81\r", "\nauthorization: bearer x\r"] {
        assert_eq!(got.matches(header).count(), 3, "{got}");
    }
}
