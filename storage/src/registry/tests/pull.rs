//! Manifests and blobs.

use super::*;
use crate::blob::DOCUMENT_LIMIT;

#[test]
fn a_manifest_is_asked_for_in_all_formats_and_checked() {
    let server = Server::start(|_| {
        manifest().with(
            "Docker-Content-Digest",
            Digest::of(MANIFEST.as_bytes()).to_string(),
        )
    });
    let repository = pulling(&server);
    let got = repository.manifest(None).unwrap();
    assert_eq!(
        (got.media_type.as_str(), got.digest),
        (OCI_MANIFEST, Digest::of(MANIFEST.as_bytes()))
    );
    let accept = server.last().header("accept").to_owned();
    for word in [
        "oci.image.index.v1",
        "oci.image.manifest.v1",
        "manifest.list.v2",
        "manifest.v2",
    ] {
        assert!(accept.contains(word), "{accept}");
    }
    repository.manifest(Some(&got.digest)).unwrap();
    let line = format!("GET /v2/a/manifests/{}", got.digest);
    assert_eq!(server.last().line(), line);
    assert_eq!(repository.digest().unwrap(), Some(got.digest));
    assert_eq!(server.last().line(), "HEAD /v2/a/manifests/1");
}

#[test]
fn wrong_digests_are_refused() {
    let lying = Server::start(|_| {
        manifest().with("Docker-Content-Digest", Digest::of(b"other").to_string())
    });
    let honest = Server::start(|_| manifest());
    let asked = Digest::of(b"other");
    for (server, digest) in [(&lying, None), (&honest, Some(&asked))] {
        let error = pulling(server).manifest(digest).unwrap_err();
        assert!(
            error.to_string().contains("has the wrong digest"),
            "{error}"
        );
        assert!(!error.is_transient() && !error.is_not_found());
    }
    // Of an algorithm that isn't known here.
    let other = Server::start(|_| manifest().with("Docker-Content-Digest", "sha512:00"));
    pulling(&other).manifest(None).unwrap();
}

#[test]
fn a_huge_manifest_is_refused_without_reading_it() {
    let said = Server::start(|_| reply(200, vec![b' '; 100 << 20]).cut(1000));
    let endless = Server::start(|_| Reply::Endless);
    for server in [&said, &endless] {
        let error = pulling(server).manifest(None).unwrap_err();
        let want = format!("{}/a:1 has a manifest of more than 16 MiB", server.address);
        assert_eq!(error.to_string(), want);
    }
    // What the kernel holds on its way is more than was read.
    assert!(*endless.sent.lock().unwrap() < DOCUMENT_LIMIT + (32 << 20));
}

#[test]
fn schema_1_is_refused() {
    let by_type = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    let by_type = Server::start(move |_| reply(200, "{}").with("Content-Type", by_type));
    let by_field = Server::start(|_| reply(200, r#"{"schemaVersion":1}"#));
    for server in [by_type, by_field] {
        let (message, hint) = said(&*pulling(&server).manifest(None).unwrap_err());
        assert!(message.contains("old format \"schema 1\""), "{message}");
        assert!(hint.contains("push the image again"), "{hint}");
    }
}

#[test]
fn what_is_not_there_is_not_found() {
    let server = Server::start(|request| match request.path.as_str() {
        "/v2/a/manifests/1" => refusal(404, "MANIFEST_UNKNOWN"),
        _ => refusal(404, "BLOB_UNKNOWN"),
    });
    let repository = pulling(&server);
    let error = repository.manifest(None).unwrap_err();
    let name = format!("{}/a:1", server.address);
    assert_eq!(
        error.to_string(),
        format!("manifest for {name} not found: manifest unknown")
    );
    assert!(error.is_not_found());
    let Err(error) = repository.blob(&descriptor(b"x"), 0) else {
        panic!("it is there");
    };
    assert!(
        error.is_not_found() && error.to_string().starts_with("blob sha256:"),
        "{error}"
    );
    let nothing = Server::start(|_| refusal(404, "NAME_UNKNOWN"));
    let error = pulling(&nothing).manifest(None).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("repository {}/a not found", nothing.address)
    );
    let denied = Server::start(|_| refusal(403, "DENIED"));
    let error = pulling(&denied).manifest(None).unwrap_err();
    assert!(
        error.to_string().starts_with("pull access denied for "),
        "{error}"
    );
}

#[test]
fn blobs_begin_where_they_broke_off() {
    const BLOB: &[u8] = b"0123456789";
    let knows = Server::start(|request| match request.header("range") {
        "" => reply(200, BLOB),
        "bytes=4-" => reply(206, &BLOB[4..]).with("Content-Range", "bytes 4-9/10"),
        "bytes=6-" => reply(206, &BLOB[5..]).with("Content-Range", "bytes 5-9/10"),
        "bytes=7-" => reply(206, &BLOB[8..]).with("Content-Range", "bytes 8-9/10"),
        "bytes=8-" => reply(206, &BLOB[8..]),
        _ => reply(416, ""),
    });
    let repository = pulling(&knows);
    let wanted = descriptor(BLOB);
    for (offset, want) in [(0, 0), (4, 4), (6, 5), (10, 0)] {
        let got = read(repository.blob(&wanted, offset).unwrap()).unwrap();
        assert_eq!(got, (want, BLOB[usize::try_from(want).unwrap()..].to_vec()));
    }
    for offset in [7, 8] {
        let Err(error) = repository.blob(&wanted, offset) else {
            panic!("it begins elsewhere");
        };
        assert!(error.to_string().contains("sends another part"), "{error}");
    }
    let ignores = Server::start(|_| reply(200, BLOB));
    let got = read(pulling(&ignores).blob(&wanted, 4).unwrap()).unwrap();
    assert_eq!(got, (0, BLOB.to_vec()));
}

#[test]
fn other_servers_are_not_told_who_we_are() {
    let other = Server::start(|request| match request.path.as_str() {
        "/signed?x=y" => reply(200, "blob"),
        _ => refusal(401, "X").with("WWW-Authenticate", "Basic realm=\"give it to me\""),
    });
    let to = other.address.clone();
    let server = Server::start(move |request| {
        let path = request.path.as_str();
        match request.header("authorization") {
            "" => refusal(401, "X").with("WWW-Authenticate", "Basic realm=\"x\""),
            _ if path.contains(&Digest::of(b"evil").hex()) => {
                reply(307, "").with("Location", format!("http://{to}/evil"))
            }
            _ if path == "/here" => {
                reply(307, "").with("Location", format!("http://{to}/signed?x=y"))
            }
            _ => reply(302, "").with("Location", "/here"),
        }
    });
    let (settings, kept) = logged_in(Some(user("me", "pw")));
    let repository = repository(settings, &server, Access::Pull);
    let got = read(repository.blob(&descriptor(b"blob"), 0).unwrap()).unwrap();
    assert_eq!(got.1, b"blob");
    // Not even when they ask.
    assert!(repository.blob(&descriptor(b"evil"), 0).is_err());
    let asked = other.asked.lock().unwrap();
    assert_eq!(asked.len(), 2);
    assert!(
        asked
            .iter()
            .all(|request| request.header("authorization").is_empty())
    );
    assert_eq!(server.last().header("authorization"), "Basic bWU6cHc=");
    assert_eq!(kept.asked.lock().unwrap().len(), 1);
}

#[test]
fn circles_end() {
    let server = Server::start(|_| reply(307, "").with("Location", "/circle"));
    let error = pulling(&server).manifest(None).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("is redirected more than 10 times"),
        "{error}"
    );
    assert_eq!(server.lines().len(), 11);
}

#[test]
fn foreign_layers_come_from_elsewhere() {
    let elsewhere = Server::start(|request| match request.path.as_str() {
        "/layer" => reply(200, "foreign"),
        _ => reply(500, ""),
    });
    let server = Server::start(|_| refusal(404, "BLOB_UNKNOWN"));
    let mut wanted = descriptor(b"foreign");
    let urls = [
        "ftp://x/".to_owned(),
        format!("http://{}/layer", elsewhere.address),
    ];
    wanted
        .extra
        .insert("urls".to_owned(), serde_json::json!(urls));
    let got = read(pulling(&server).blob(&wanted, 0).unwrap()).unwrap();
    assert_eq!(got.1, b"foreign");
}

#[test]
fn mirrors_are_tried_first() {
    let with_tag = Server::start(|_| manifest());
    let without = Server::start(|_| refusal(404, "MANIFEST_UNKNOWN"));
    let broken = Server::start(|_| Reply::Hangup);
    let registry = Server::start(|_| manifest());
    let pull = |mirrors: &[&Server]| {
        let mirrors: String = mirrors
            .iter()
            .map(|mirror| {
                format!(
                    "[[registry.mirror]]\nlocation = \"{}/sub\"\n",
                    mirror.address
                )
            })
            .collect();
        let scratch = crate::testing::Scratch::new();
        let file = scratch.path("registries.conf");
        let text = format!(
            "[[registry]]\nlocation = \"{}\"\n{mirrors}",
            registry.address
        );
        std::fs::write(&file, text).unwrap();
        let settings = Settings {
            conf: RegistriesConf::load(&[file]).unwrap(),
            ..settings()
        };
        let repository = repository(settings, &registry, Access::Pull);
        repository.manifest(None).unwrap();
        repository.manifest(None).unwrap();
    };
    pull(&[&without, &broken, &with_tag]);
    assert_eq!(with_tag.lines(), ["GET /v2/sub/a/manifests/1"; 2]);
    // The good one is asked at once from then on.
    assert_eq!(without.lines().len(), 1);
    assert!(registry.lines().is_empty());
    pull(&[&without]);
    assert_eq!(registry.lines(), ["GET /v2/a/manifests/1"; 2]);
}

#[test]
fn all_pages_of_tags() {
    let server = Server::start(|request| match request.path.as_str() {
        "/v2/a/tags/list?n=1000" => reply(200, r#"{"name":"a","tags":["1","2"]}"#)
            .with("Link", "</v2/a/tags/list?n=1000&last=2>; rel=\"next\""),
        "/v2/a/tags/list?n=1000&last=2" => {
            reply(200, r#"{"tags":["3"]}"#).with("Link", "<http://127.0.0.1:1/v2/>; rel=\"next\"")
        }
        "/v2/b/tags/list?n=1000" => reply(200, r#"{"tags":null}"#),
        "/v2/c/tags/list?n=1000" => reply(200, "<html>"),
        _ => refusal(404, "NAME_UNKNOWN"),
    });
    let tags = |name: &str| {
        let name = Reference::parse(&format!("{}/{name}", server.address)).unwrap();
        Client::new(settings()).tags(&name)
    };
    assert_eq!(tags("a").unwrap(), ["1", "2", "3"]);
    assert!(tags("b").unwrap().is_empty());
    assert!(matches!(tags("c"), Err(RegistryError::Protocol { .. })));
    assert!(matches!(tags("d"), Err(RegistryError::NoRepository { .. })));
}

#[test]
fn a_list_without_an_end_is_refused() {
    let server = Server::start(|request| {
        let turn = if request.path.ends_with('a') {
            'b'
        } else {
            'a'
        };
        let tags = r#""t","#.repeat(9999);
        reply(200, format!(r#"{{"tags":[{tags}"t"]}}"#))
            .with("Link", format!("</v2/a/tags/list?{turn}>; rel=next"))
    });
    let name = Reference::parse(&format!("{}/a", server.address)).unwrap();
    let error = Client::new(settings()).tags(&name).unwrap_err();
    assert!(error.to_string().ends_with("a list has no end"), "{error}");
}

#[test]
fn searches() {
    let hub = Server::start(|request| match request.path.as_str() {
        "/v1/search?q=a%20b&n=2" => reply(
            200,
            r#"{"results":[{"name":"x","description":null,"star_count":7,"is_official":true},{"name":"y"},{"name":"z"}]}"#,
        ),
        _ => reply(404, ""),
    });
    let client = Client::new(settings());
    let hits = client.search(&hub.address, "a b", 2).unwrap();
    let names: Vec<_> = hits.iter().map(|hit| hit.name.as_str()).collect();
    assert_eq!(
        (names, hits[0].star_count, hits[0].is_official),
        (vec!["x", "y"], 7, true)
    );
    let plain = Server::start(|request| match request.path.as_str() {
        "/v2/_catalog?n=1000" => reply(200, r#"{"repositories":["base","app/base"]}"#)
            .with("Link", "</v2/_catalog?n=1000&last=x>; rel=\"next\""),
        "/v2/_catalog?n=1000&last=x" => reply(200, r#"{"repositories":["other","basement"]}"#),
        _ => reply(404, ""),
    });
    let hits = client.search(&plain.address, "base", 25).unwrap();
    let names: Vec<_> = hits.iter().map(|hit| hit.name.as_str()).collect();
    assert_eq!(names, ["base", "app/base", "basement"]);
    let neither = Server::start(|_| reply(404, ""));
    let error = client.search(&neither.address, "x", 25).unwrap_err();
    assert!(matches!(error, RegistryError::NoSearch { .. }), "{error}");
}
