use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::*;

/// A home of its own.
struct Home {
    dir: PathBuf,
}

impl Home {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("rctr-keys-{}-{name}", std::process::id()));
        fs::create_dir_all(dir.join("bin")).unwrap();
        Self { dir }
    }

    fn keys(&self) -> Keys {
        let dir = self.dir.clone();
        Keys::new(move |name| match name {
            "HOME" => Some(dir.clone().into()),
            "PATH" => Some(format!("{}/bin:/usr/bin:/bin", dir.display()).into()),
            _ => None,
        })
    }

    fn config(&self) -> PathBuf {
        self.dir.join(".docker/config.json")
    }

    fn write(&self, path: &str, text: &str) -> &Self {
        let path = self.dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn helper(&self, name: &str, script: &str) -> &Self {
        let path = format!("bin/docker-credential-{name}");
        self.write(&path, &format!("#!/bin/sh\n{script}\n"));
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(self.dir.join(path), mode).unwrap();
        self
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.dir));
    }
}

fn login(user: &str, secret: &str) -> Login {
    Login {
        user: user.to_owned(),
        secret: secret.to_owned(),
    }
}

fn found(home: &Home, registry: &str, repository: &str) -> Option<Login> {
    home.keys().login(registry, repository).unwrap()
}

#[test]
fn the_longest_key_counts_and_schemes_mean_nothing() {
    let home = Home::new("keys");
    // a:1, b:2, c:3, d:x:4
    let auths = r#"{"auths": {"https://index.docker.io/v1/": {"auth": "YTox"}, "http://h:5000/v2/": {"auth": "Yjoy"},
        "h:5000/team": {"auth": "Yzoz"}, "tok.example": {"auth": "", "identitytoken": "T"}, "up": {"username": "u", "password": "p"},
        "h:5000/team/app": {"auth": "ZDp4OjQ="}, "empty": {}}}"#;
    home.write(".docker/config.json", auths);
    for (registry, repository, expected) in [
        ("docker.io", "library/debian", Some(login("a", "1"))),
        ("h:5000", "other/x", Some(login("b", "2"))),
        ("h:5000", "team/x", Some(login("c", "3"))),
        ("h:5000", "teams/x", Some(login("b", "2"))),
        ("h:5000", "team/app", Some(login("d", "x:4"))),
        ("tok.example", "x", Some(login("", "T"))),
        ("up", "x", Some(login("u", "p"))),
        ("empty", "x", None),
        ("h:5001", "team", None),
    ] {
        assert_eq!(
            found(&home, registry, repository),
            expected,
            "{registry}/{repository}"
        );
    }
}

#[test]
fn the_files_of_containers_come_second() {
    let home = Home::new("second");
    home.write(
        ".config/containers/auth.json",
        r#"{"auths": {"h": {"auth": "YTox"}, "i": {"auth": "YTox"}}}"#,
    );
    assert_eq!(found(&home, "h", "x"), Some(login("a", "1")));
    home.write(
        ".docker/config.json",
        r#"{"auths": {"h": {"auth": "Yjoy"}}}"#,
    );
    assert_eq!(found(&home, "h", "x"), Some(login("b", "2")));
    assert_eq!(found(&home, "i", "x"), Some(login("a", "1")));
    assert!(home.keys().elsewhere("i").is_some() && home.keys().elsewhere("j").is_none());
}

#[test]
fn a_damaged_file_is_told_and_left() {
    let home = Home::new("damaged");
    for (text, what) in [
        ("{\"auths\": ", "no valid JSON"),
        ("[]", "must be a JSON object"),
        ("{\"auths\": []}", "\"auths\" must be a JSON object"),
        (
            "{\"auths\": {\"h\": {\"auth\": \"***\"}}}",
            "the entry of h",
        ),
        ("{\"credsStore\": 1}", "must be a string"),
    ] {
        home.write(".docker/config.json", text);
        let error = home.keys().login("h", "x").unwrap_err();
        assert!(error.to_string().contains(what), "{error}");
        assert!(error.to_string().contains("config.json") && error.hint().unwrap().contains("mv "));
        if what != "the entry of h" {
            assert!(home.keys().store("h", &login("a", "b")).is_err());
        }
        assert!(home.keys().erase("i").is_err() || text.contains("***"));
        assert_eq!(fs::read_to_string(home.config()).unwrap(), text);
    }
}

#[test]
fn a_login_changes_its_entry_only() {
    let home = Home::new("login");
    let text = r#"{"z": 1, "auths": {"b": {"auth": "YTox"}, "a": {}}, "detachKeys": "ctrl-x", "HttpHeaders": {"y": "1", "x": "2"}}"#;
    home.write(".docker/config.json", text);
    let path = home.keys().store("h:1", &login("me", "s3cret")).unwrap();
    assert_eq!(path, Some(home.config()));
    let new = fs::read_to_string(home.config()).unwrap();
    let value: Value = serde_json::from_str(&new).unwrap();
    let names: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
    assert_eq!(names, ["z", "auths", "detachKeys", "HttpHeaders"]);
    assert_eq!(
        value["auths"].to_string(),
        r#"{"b":{"auth":"YTox"},"a":{},"h:1":{"auth":"bWU6czNjcmV0"}}"#
    );
    assert_eq!(
        fs::metadata(home.config()).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(found(&home, "h:1", "x"), Some(login("me", "s3cret")));
    assert!(home.keys().erase("h:1").unwrap());
    assert!(!home.keys().erase("h:1").unwrap());
    let names: Vec<_> = fs::read_dir(home.dir.join(".docker")).unwrap().collect();
    assert_eq!(names.len(), 1, "no half-written file stays");
}

#[test]
fn programs_keep_credentials() {
    let home = Home::new("helper");
    let keep = format!(
        "cd {}; case $1 in store) cat >kept;; get) read s; echo asked $s >>asked; [ -e kept ] && cat kept || {{ echo credentials not found in native keychain; exit 1; }};; erase) rm kept;; esac",
        home.dir.display()
    );
    home.helper("x", &keep);
    home.write(".docker/config.json", r#"{"credsStore": "x"}"#);
    assert_eq!(found(&home, "docker.io", "library/x"), None);
    let keys = home.keys();
    assert_eq!(
        keys.store(DOCKER_HUB, &login("me", "s3cret")).unwrap(),
        None
    );
    let text = fs::read_to_string(home.config()).unwrap();
    assert!(
        !text.contains("s3cret") && text.contains(DOCKER_HUB),
        "{text}"
    );
    for _ in 0..2 {
        let known = keys.login("docker.io", "library/x").unwrap();
        assert_eq!(known, Some(login("me", "s3cret")));
    }
    let asked = fs::read_to_string(home.dir.join("asked")).unwrap();
    assert_eq!(
        asked,
        format!("asked {DOCKER_HUB}\nasked {DOCKER_HUB}\n"),
        "once a process"
    );
    assert!(home.keys().erase(DOCKER_HUB).unwrap());
    assert!(!home.keys().erase(DOCKER_HUB).unwrap());
}

#[test]
fn programs_that_fail_are_told() {
    let home = Home::new("failing");
    home.helper("fails", "echo 'key store is locked'; exit 3")
        .helper("silent", "exit 4")
        .helper("mad", "echo '<html>'")
        .helper("half", "echo '{\"Username\": \"a\"}'");
    for (name, what) in [
        ("fails", "failed (exit status: 3): key store is locked"),
        ("silent", "failed (exit status: 4)"),
        ("mad", "no JSON"),
        ("half", "without Username and Secret"),
        ("none", "is not installed"),
    ] {
        home.write(
            ".docker/config.json",
            &format!(r#"{{"credHelpers": {{"h": "{name}"}}}}"#),
        );
        let error = home.keys().login("h", "x").unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains(what) && text.contains(name) && error.hint().is_some(),
            "{text}"
        );
        assert_eq!(
            found(&home, "i", "x"),
            None,
            "other registries have nothing to do with it"
        );
    }
}

#[test]
fn a_program_that_hangs_is_ended() {
    let home = Home::new("hangs");
    home.helper("slow", "sleep 77 & sleep 78");
    let path = home.dir.join("bin");
    let path = format!("{}:/usr/bin:/bin", path.display());
    let began = Instant::now();
    let helper = Helper::new("slow", &path).limit(Duration::from_millis(300));
    let error = helper.get("h").unwrap_err();
    assert!(
        error.to_string().contains("did not answer within"),
        "{error}"
    );
    assert!(began.elapsed() < Duration::from_secs(10));
    assert!(!processes_with(&path), "what it has started has ended, too");
}

/// Whether a process has this PATH.
fn processes_with(path: &str) -> bool {
    let environ = |pid: &Path| fs::read(pid.join("environ")).unwrap_or_default();
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let mut environs = entries.map(|entry| environ(&entry.path()));
    environs.any(|environ| {
        environ
            .windows(path.len())
            .any(|part| part == path.as_bytes())
    })
}
