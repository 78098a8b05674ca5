//! `login` and `logout`: who we are to registries, and who gets to know it.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::harness::fault_proxy::FaultProxy;
use crate::harness::registry::{Door, PASSWORD, Registry, USER};
use crate::harness::{Account, Feature, Output, Sandbox, Terminal, require};
use crate::registry::tagged;

#[test]
fn a_password_is_wanted_kept_and_forgotten() {
    require!(Feature::Registry);
    let sandbox = Sandbox::with_busybox();
    let registry = Registry::start(&sandbox, Door::Password);
    let address = registry.address();
    let name = tagged(&sandbox, &registry, "priv/app:1");
    let harmless = |output: Output| {
        let text = output.stdout.clone() + &output.stderr;
        assert!(
            !text.contains(PASSWORD) && !text.contains("dGVzdGVyOnBhNTU"),
            "{output}"
        );
        output
    };
    harmless(sandbox.words(["push", &name]).fails(1).explains()).says("login");
    let wrong = sandbox
        .words(["login", "-u", USER, "-p", "wr0ng", &address])
        .fails(1);
    let wrong =
        wrong.says("WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n");
    assert!(
        !wrong.stderr.contains("wr0ng")
            && wrong
                .stderr
                .contains("doesn't accept the user name or the password"),
        "{wrong}"
    );
    let login = |server: &str| {
        let words = ["login", "-u", USER, "--password-stdin", server];
        harmless(sandbox.words(words).stdin(format!("{PASSWORD}\n")).ok())
            .prints("Login Succeeded\n")
    };
    login(&address).says("stored unencrypted in");
    let config = sandbox.dir().join("home/.docker/config.json");
    assert_eq!(
        fs::metadata(&config).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let text = fs::read_to_string(&config).unwrap();
    assert!(
        text.contains(&address) && text.contains("dGVzdGVyOnBhNTU="),
        "{text}"
    );
    sandbox
        .words(["login", &address])
        .ok()
        .prints("Authenticating with existing credentials...\nLogin Succeeded");
    harmless(sandbox.words(["push", &name]).ok());
    sandbox.words(["rmi", "-f", &name]).ok();
    harmless(sandbox.words(["pull", &name]).ok());
    let gone = format!("Removing login credentials for {address}\n");
    sandbox.words(["logout", &address]).ok().prints(&gone);
    sandbox
        .words(["logout", &address])
        .ok()
        .prints(&format!("Not logged in to {address}\n"));
    harmless(sandbox.words(["pull", &name]).fails(1).explains());
    // For a part of the registry only.
    login(&format!("{address}/priv/app"));
    sandbox.words(["pull", &name]).ok();
    let other = format!("{address}/priv/other:1");
    harmless(sandbox.words(["pull", &other]).fails(1).explains()).says("login");
    sandbox
        .words(["logout", &format!("{address}/priv/app")])
        .ok();
    // podman's file serves, too.
    let auth = format!(r#"{{"auths": {{"{address}": {{"auth": "dGVzdGVyOnBhNTU="}}}}}}"#);
    let file = sandbox.file("auth.json", auth);
    sandbox
        .words(["pull", &name])
        .env("REGISTRY_AUTH_FILE", &file)
        .ok();
    fs::write(&config, "{\"auths\": ").unwrap();
    let damaged = sandbox.words(["pull", &name]).fails(1).explains();
    damaged.says("config.json").says("mv ");
    sandbox
        .words(["login", "-u", USER, "-p", PASSWORD, &address])
        .fails(1)
        .explains();
    assert_eq!(fs::read_to_string(&config).unwrap(), "{\"auths\": ");
}

#[test]
fn a_helper_program_has_the_password() {
    require!(Feature::Registry);
    let sandbox = Sandbox::with_busybox();
    let registry = Registry::start(&sandbox, Door::Password);
    let address = registry.address();
    let name = tagged(&sandbox, &registry, "app:1");
    let program = |script: &str| {
        let path = sandbox.file(
            "bin/docker-credential-test",
            format!("#!/bin/sh\n{script}\n"),
        );
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    let rctr = |words: &[&str]| {
        let path = format!(
            "{}/bin:/usr/bin:/bin:{}/bin",
            sandbox.work().display(),
            sandbox.dir().display()
        );
        sandbox.words(words).env("PATH", path)
    };
    sandbox.home_file(".docker/config.json", r#"{"credsStore": "test"}"#);
    let kept = sandbox.work().join("bin/kept");
    program(&format!(
        "case $1 in store) cat >{0};; get) cat {0} || {{ echo credentials not found in native keychain; exit 1; }};; erase) rm {0};; esac",
        kept.display()
    ));
    Account::current().own(&sandbox.work().join("bin"));
    rctr(&["push", &name]).fails(1).explains();
    rctr(&["login", "-u", USER, "--password-stdin", &address])
        .stdin(PASSWORD)
        .ok();
    let config = fs::read_to_string(sandbox.dir().join("home/.docker/config.json")).unwrap();
    assert!(!config.contains("dGVzdGVyOnBhNTU"), "{config}");
    rctr(&["push", &name]).ok();
    sandbox.words(["rmi", "-f", &name]).ok();
    // In the namespace of a pull the program would be root: it is asked before.
    program(&format!(
        "[ $(id -u) = {} ] || exit 9; cat {}",
        Account::current().uid,
        kept.display()
    ));
    rctr(&["pull", &name]).ok();
    program("echo the key store is locked; exit 1");
    rctr(&["pull", &name])
        .fails(1)
        .explains()
        .says("docker-credential-test failed");
    sandbox.home_file(".docker/config.json", r#"{"credsStore": "none-such"}"#);
    rctr(&["pull", &name])
        .fails(1)
        .explains()
        .says("docker-credential-none-such is not installed");
}

#[test]
fn a_person_types_the_password_unseen() {
    require!(Feature::Registry);
    let sandbox = Sandbox::new();
    let registry = Registry::start(&sandbox, Door::Password);
    let mut terminal = Terminal::start(sandbox.words(["login", &registry.address()]));
    terminal.expect("Username: ");
    let before = terminal.settings();
    terminal.send("tester\n");
    terminal.expect("Password: ");
    terminal.send("pa55\n");
    terminal.expect("Login Succeeded");
    assert_eq!(terminal.wait(), 0);
    assert!(
        !terminal.screen().contains(PASSWORD),
        "{}",
        terminal.screen()
    );
    let mut terminal =
        Terminal::start(sandbox.words(["login", "-u", "other", &registry.address()]));
    terminal.expect("Password: ");
    terminal.send("\x03");
    terminal.wait();
    assert_eq!(terminal.settings(), before, "it shows again what is typed");
    let stdin = sandbox
        .words(["login", "-u", "x", &registry.address()])
        .fails(1);
    stdin.says("Cannot perform an interactive login from a non TTY device");
}

#[test]
fn credentials_are_for_their_registry_alone() {
    require!(Feature::Registry);
    let sandbox = Sandbox::new();
    let registry = Registry::start(&sandbox, Door::Password);
    let address = registry.address();
    let words = ["login", "-u", USER, "--password-stdin", &address];
    sandbox.words(words).stdin(PASSWORD).ok();
    let other = FaultProxy::before(registry.port());
    let name = format!("{}/app:1", other.address());
    sandbox.words(["pull", &name]).fails(1).explains();
    let requests = other.requests();
    assert!(!requests.is_empty());
    for request in requests {
        let sent = request.to_lowercase().contains("authorization");
        assert!(!sent, "{request}");
    }
}
