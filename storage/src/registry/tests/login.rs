//! Who we are.

use super::*;

/// A registry that wants the token `good` for everything, and gives it to those who ask `/token` well.
fn with_tokens(give: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Server {
    Server::knowing(|address| {
        let challenge = format!(
            r#"Bearer realm="http://{address}/token?x=1",service="the registry",scope="repository:a:pull""#
        );
        move |request| match request.path.as_str() {
            path if path.starts_with("/token") => give(request),
            _ if request.header("authorization") == "Bearer good" => manifest(),
            _ => refusal(401, "UNAUTHORIZED").with("WWW-Authenticate", challenge.clone()),
        }
    })
}

fn good() -> Reply {
    reply(200, r#"{"token":"good","expires_in":300}"#)
}

#[test]
fn tokens_are_asked_for_by_scope_and_kept() {
    let server = with_tokens(|_| good());
    let (settings, kept) = logged_in(Some(user("me", "p:w")));
    let repository = repository(settings, &server, Access::Push);
    for _ in 0..3 {
        assert_eq!(
            repository.manifest(None).unwrap().bytes,
            MANIFEST.as_bytes()
        );
    }
    let asked = server.asked.lock().unwrap();
    let token: Vec<_> = asked
        .iter()
        .filter(|r| r.path.starts_with("/token"))
        .collect();
    assert_eq!(token.len(), 1);
    assert_eq!(
        token[0].path,
        "/token?x=1&service=the%20registry&scope=repository%3Aa%3Apull%2Cpush&account=me&client_id=rctr"
    );
    // base64 of me:p:w
    assert_eq!(token[0].header("authorization"), "Basic bWU6cDp3");
    assert_eq!(asked[0].header("authorization"), "");
    assert_eq!(
        *kept.asked.lock().unwrap(),
        [format!("{} a", server.address)]
    );
}

#[test]
fn threads_share_a_token() {
    let server = with_tokens(|_| {
        std::thread::sleep(Duration::from_millis(100));
        good()
    });
    let repository = pulling(&server);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| repository.manifest(None).unwrap());
        }
    });
    assert_eq!(server.count("GET /token"), 1);
}

#[test]
fn nobody_is_asked_for_credentials_that_are_not_wanted() {
    let server = Server::start(|_| manifest());
    let (settings, kept) = logged_in(Some(user("me", "pw")));
    let repository = repository(settings, &server, Access::Pull);
    repository.manifest(None).unwrap();
    assert!(kept.asked.lock().unwrap().is_empty());
    assert_eq!(server.last().header("authorization"), "");
}

#[test]
fn an_expired_token_is_replaced_before_it_is_shown() {
    let server = with_tokens(|_| reply(200, r#"{"access_token":"good","expires_in":1}"#));
    let repository = pulling(&server);
    repository.manifest(None).unwrap();
    std::thread::sleep(Duration::from_millis(700));
    repository.manifest(None).unwrap();
    assert_eq!(server.count("GET /token"), 2);
    assert_eq!(server.count("GET /v2/"), 3);
}

#[test]
fn a_token_that_is_revoked_in_the_middle_is_replaced() {
    let revoked = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&revoked);
    let server = Server::knowing(move |address| {
        let challenge = format!(r#"Bearer realm="http://{address}/token""#);
        let given = AtomicUsize::new(0);
        move |request: &Request| {
            if request.path.starts_with("/token") {
                let number = given.fetch_add(1, Ordering::Relaxed);
                return reply(200, format!(r#"{{"token":"t{number}"}}"#));
            }
            let wanted = format!("Bearer t{}", seen.load(Ordering::Relaxed));
            match request.header("authorization") == wanted {
                true => manifest(),
                false => refusal(401, "UNAUTHORIZED").with("WWW-Authenticate", challenge.clone()),
            }
        }
    });
    let repository = pulling(&server);
    repository.manifest(None).unwrap();
    revoked.store(1, Ordering::Relaxed);
    repository.manifest(None).unwrap();
    assert_eq!(server.count("GET /token"), 2);
}

#[test]
fn an_identity_token_is_posted() {
    let server = with_tokens(|request| match request.method.as_str() {
        "POST" => good(),
        _ => refusal(400, "X"),
    });
    let (settings, _) = logged_in(Some(Credential::IdentityToken(Secret::new("re&fresh"))));
    repository(settings, &server, Access::Pull)
        .manifest(None)
        .unwrap();
    let asked = server.asked.lock().unwrap();
    let post = asked
        .iter()
        .find(|request| request.method == "POST")
        .unwrap();
    assert_eq!(post.path, "/token?x=1");
    assert_eq!(post.header("authorization"), "");
    assert_eq!(
        post.text(),
        "grant_type=refresh_token&client_id=rctr&refresh_token=re%26fresh&service=the%20registry&scope=repository%3Aa%3Apull"
    );
}

fn with_basic() -> Server {
    Server::start(|request| match request.header("authorization") {
        // base64 of me:pw
        "Basic bWU6cHc=" => manifest(),
        _ => refusal(401, "UNAUTHORIZED").with("WWW-Authenticate", "Basic realm=\"x\""),
    })
}

#[test]
fn passwords_go_with_each_request() {
    let server = with_basic();
    let (settings, kept) = logged_in(Some(user("me", "pw")));
    let repository = repository(settings, &server, Access::Pull);
    repository.manifest(None).unwrap();
    repository.manifest(None).unwrap();
    assert_eq!(server.lines().len(), 3);
    assert_eq!(kept.asked.lock().unwrap().len(), 1);
}

#[test]
fn a_wrong_password_is_said() {
    let server = with_basic();
    let (settings, _) = logged_in(Some(user("me", "wrong")));
    let error = repository(settings, &server, Access::Pull)
        .manifest(None)
        .unwrap_err();
    let (message, hint) = said(&*error);
    assert_eq!(
        message,
        format!(
            "{} doesn't accept the user name or the password",
            server.address
        )
    );
    assert_eq!(hint, format!("run `rctr login {}`", server.address));
    assert_eq!(server.lines().len(), 2);
}

#[test]
fn logins_are_tried() {
    for server in [
        with_basic(),
        with_tokens(|request| match request.header("authorization") {
            "Basic bWU6cHc=" => good(),
            _ => refusal(401, "UNAUTHORIZED"),
        }),
    ] {
        let client = Client::new(settings());
        let ping = |credential: Option<&Credential>| client.ping(&server.address, credential);
        ping(Some(&user("me", "pw"))).unwrap();
        let wrong = ping(Some(&user("me", "wrong"))).unwrap_err();
        let want = format!(
            "{} doesn't accept the user name or the password",
            server.address
        );
        assert_eq!(wrong.to_string(), want);
        assert!(!format!("{wrong:?}").contains("wrong"), "{wrong:?}");
        let none = ping(None).unwrap_err();
        assert!(
            matches!(none, RegistryError::LoginWanted { .. }),
            "{none:?}"
        );
    }
}

#[test]
fn denied_access_says_whether_a_login_may_help() {
    let server = with_tokens(|_| reply(200, r#"{"token":"bad"}"#));
    for (credential, hint) in [(None, "rctr login"), (Some(user("me", "pw")), "has access")] {
        let (settings, _) = logged_in(credential);
        let error = repository(settings, &server, Access::Pull)
            .manifest(None)
            .unwrap_err();
        let (message, advice) = said(&*error);
        let want = format!(
            "pull access denied for {}/a, repository does not exist or may require 'rctr login': said UNAUTHORIZED",
            server.address
        );
        assert_eq!(message, want);
        assert!(advice.contains(hint), "{advice}");
    }
}

#[test]
fn a_token_server_that_talks_rubbish() {
    for body in ["", "{}", "[]", r#"{"token":"a\nb"}"#, r#"{"token":5}"#] {
        let server = with_tokens(move |_| reply(200, body));
        let error = pulling(&server).manifest(None).unwrap_err();
        assert!(error.to_string().contains("has no token"), "{error}");
    }
}

#[test]
fn credentials_that_cannot_be_had_are_said() {
    struct Broken;
    impl Credentials for Broken {
        fn find(&self, _: &str, _: &str) -> Result<Option<Credential>, CredentialError> {
            Err(CredentialError {
                message: "the helper failed".to_owned(),
                hint: Some("mend it".to_owned()),
                source: None,
            })
        }
    }
    let server = with_basic();
    let settings = Settings {
        credentials: Arc::new(Broken),
        ..settings()
    };
    let error = repository(settings, &server, Access::Pull)
        .manifest(None)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot get the credentials for {}", server.address)
    );
    assert_eq!(error.source().unwrap().to_string(), "the helper failed");
    assert_eq!(error.hint().as_deref(), Some("mend it"));
}
