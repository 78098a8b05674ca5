//! `push`, `pull`, `run`, `build` with a registry on loopback: open, with a password, with TLS.

use std::fs;
use std::time::Duration;

use crate::harness::archive::docker_archive;
use crate::harness::fault_proxy::{Fault, FaultProxy, Random};
use crate::harness::registry::{Door, PASSWORD, Registry, USER};
use crate::harness::{Feature, Output, Sandbox, Terminal, images, require};

/// The image of layers with bytes that nothing compresses; nobody runs it.
pub(crate) fn load_random(sandbox: &Sandbox, name: &str, layers: u64, bytes: usize) {
    let layer = |seed| {
        let mut random = Random::new(seed);
        let content: Vec<u8> = (0..bytes).map(|_| random.below(256) as u8).collect();
        let file = format!("file{seed}");
        crate::harness::archive::Archive::new()
            .file(&file, 0o644, &content)
            .bytes()
    };
    let layers: Vec<_> = (1..=layers).map(layer).collect();
    sandbox
        .rctr("load")
        .stdin(docker_archive(name, &layers))
        .ok();
}

/// The `sha256:…` after `digest: ` or `Digest: `.
pub(crate) fn digest_of(output: &Output) -> String {
    let (_, rest) = output
        .stdout
        .split_once("igest: ")
        .unwrap_or_else(|| panic!("no digest: {output}"));
    rest.split([' ', '\n']).next().unwrap().to_owned()
}

/// `busybox` under a name in that registry.
pub(crate) fn tagged(sandbox: &Sandbox, registry: &Registry, name: &str) -> String {
    let name = format!("{}/{name}", registry.address());
    sandbox.words(["tag", "busybox", &name]).ok();
    name
}

fn id(sandbox: &Sandbox, name: &str) -> String {
    sandbox
        .words(["image", "inspect", "-f", "{{.Id}}", name])
        .ok()
        .line()
}

#[test]
fn what_is_pushed_is_pulled() {
    require!(Feature::Registry);
    let sandbox = Sandbox::with_busybox();
    let registry = Registry::start(&sandbox, Door::Open);
    let name = tagged(&sandbox, &registry, "team/app:1");
    let id_before = id(&sandbox, &name);
    let pushed = sandbox.words(["push", &name]).ok();
    let head = format!(
        "The push refers to repository [{}/team/app]\n",
        registry.address()
    );
    assert!(pushed.stdout.starts_with(&head), "{pushed}");
    assert_eq!(pushed.stdout.matches(": Pushed\n").count(), 1, "{pushed}");
    let (manifest, digest) = registry.manifest("team/app", "1");
    let last = format!("1: digest: {digest} size: {}", manifest.len());
    assert_eq!(pushed.lines().last(), Some(&&last[..]));
    let again = sandbox
        .words(["push", &name])
        .ok()
        .prints(": Layer already exists\n");
    assert_eq!(digest_of(&again), digest);
    sandbox.rctr("rmi -f busybox").ok();
    sandbox.words(["rmi", "-f", &name]).ok();
    let pulled = sandbox.words(["pull", &name]).ok();
    let lines = pulled.lines();
    assert_eq!(lines[0], "1: Pulling from team/app");
    assert!(
        lines[1].ends_with(": Pull complete") && lines[1].find(':') == Some(12),
        "{pulled}"
    );
    let status = format!("Status: Downloaded newer image for {name}");
    assert_eq!(
        lines[2..],
        [&format!("Digest: {digest}"), &status[..], &name]
    );
    assert_eq!(id(&sandbox, &name), id_before);
    sandbox
        .words(["run", "--rm", "--network", "none", &name, "true"])
        .ok();
    let again = sandbox.words(["pull", &name]).ok();
    again.prints(&format!("Status: Image is up to date for {name}"));
    // What was pulled goes as it came.
    let copy = format!("{}/other/app:2", registry.address());
    sandbox.words(["tag", &name, &copy]).ok();
    let pushed = sandbox
        .words(["push", &copy])
        .ok()
        .prints(": Mounted from team/app\n");
    assert_eq!(digest_of(&pushed), digest);
    assert_eq!(registry.manifest("other/app", "2").0, manifest);
    let digests = sandbox
        .words(["image", "inspect", "-f", "{{.RepoDigests}}", &name])
        .ok();
    digests.prints(&format!("/team/app@{digest}"));
}

#[test]
fn images_are_pulled_by_digest() {
    require!(Feature::Registry);
    let sandbox = Sandbox::with_busybox();
    let registry = Registry::start(&sandbox, Door::Open);
    let name = tagged(&sandbox, &registry, "app:1");
    let digest = digest_of(&sandbox.words(["push", &name]).ok());
    sandbox.words(["rmi", "-f", &name]).ok();
    let repository = format!("{}/app", registry.address());
    let by_digest = format!("{repository}@{digest}");
    let pulled = sandbox.words(["pull", &by_digest]).ok();
    pulled
        .prints(&format!("{digest}: Pulling from app\n"))
        .prints(&format!("\n{by_digest}\n"));
    sandbox
        .words(["run", "--rm", "--network", "none", &by_digest, "true"])
        .ok();
    sandbox
        .words(["pull", &format!("{repository}:1@{digest}")])
        .ok();
    let other = format!("{repository}@sha256:{}", "5".repeat(64));
    sandbox.words(["pull", &other]).fails(1).explains();
}

#[test]
fn all_tags_and_only_names() {
    require!(Feature::Registry);
    let sandbox = Sandbox::with_busybox();
    let registry = Registry::start(&sandbox, Door::Open);
    let repository = format!("{}/app", registry.address());
    for tag in ["1", "2", "latest"] {
        tagged(&sandbox, &registry, &format!("app:{tag}"));
    }
    let pushed = sandbox.words(["push", "-a", &repository]).ok();
    assert_eq!(
        pushed.stdout.matches(": digest: sha256:").count(),
        3,
        "{pushed}"
    );
    for tag in ["1", "2", "latest"] {
        sandbox.words(["rmi", &format!("{repository}:{tag}")]).ok();
    }
    let pulled = sandbox.words(["pull", "-a", &repository]).ok();
    assert_eq!(
        pulled.stdout.matches(": Pulling from app").count(),
        3,
        "{pulled}"
    );
    assert_eq!(pulled.lines().last(), Some(&&repository[..]));
    let quiet = sandbox.words(["pull", "-q", &repository]).ok();
    assert_eq!(
        (quiet.line(), &quiet.stderr[..]),
        (format!("{repository}:latest"), "")
    );
    let quiet = sandbox.words(["push", "-q", &repository]).ok();
    assert_eq!(
        (quiet.line(), &quiet.stderr[..]),
        (format!("{repository}:latest"), "")
    );
    let pulled = sandbox.words(["image", "pull", &repository]).ok();
    assert_eq!(pulled.lines()[0], "Using default tag: latest");
    for verb in ["push", "pull"] {
        let both = sandbox
            .words([verb, "-a", &format!("{repository}:1")])
            .fails(1);
        both.says("tag can't be used with --all-tags/-a");
    }
    let none = sandbox
        .words(["push", &format!("{repository}:9")])
        .fails(1)
        .explains();
    none.says("An image does not exist locally with the tag: ");
}

#[test]
fn tls_wants_a_certificate_that_is_trusted() {
    require!(Feature::Registry);
    let sandbox = Sandbox::with_busybox();
    let registry = Registry::start(&sandbox, Door::Tls);
    let name = tagged(&sandbox, &registry, "app:1");
    let ca = fs::read(registry.ca()).unwrap();
    let refused = sandbox
        .words(["push", "--tls-verify=true", &name])
        .fails(1)
        .explains();
    refused.says("certificate");
    let file = sandbox.file("ca.pem", &ca);
    sandbox
        .words(["push", &name])
        .env("SSL_CERT_FILE", &file)
        .ok();
    sandbox.words(["rmi", "-f", &name]).ok();
    sandbox.words(["pull", "--tls-verify=false", &name]).ok();
    sandbox.home_file(
        &format!(".config/rctr/certs.d/{}/ca.crt", registry.address()),
        &ca,
    );
    sandbox.words(["pull", &name]).ok();
    sandbox
        .words(["login", "-u", "any", "-p", "thing", &registry.address()])
        .ok();
}

#[test]
fn an_expired_certificate_is_told() {
    require!(Feature::Registry);
    let sandbox = Sandbox::with_busybox();
    let registry = Registry::start(&sandbox, Door::Expired);
    let name = tagged(&sandbox, &registry, "app:1");
    sandbox.home_file(
        &format!(".config/rctr/certs.d/{}/ca.crt", registry.address()),
        fs::read(registry.ca()).unwrap(),
    );
    sandbox
        .words(["push", "--tls-verify=true", &name])
        .fails(1)
        .explains()
        .says("expired");
}

#[test]
fn what_is_not_there_is_told() {
    require!(Feature::Registry);
    let sandbox = Sandbox::with_busybox();
    let registry = Registry::start(&sandbox, Door::Open);
    let address = registry.address();
    let name = tagged(&sandbox, &registry, "app:1");
    sandbox.words(["push", &name]).ok();
    let missing = sandbox
        .words(["pull", &format!("{address}/app:nope")])
        .fails(1)
        .explains();
    missing.says("app:nope");
    sandbox
        .words(["pull", &format!("{address}/none:1")])
        .fails(1)
        .explains();
    let foreign = sandbox
        .words(["pull", "--platform", "linux/s390x", &name])
        .fails(1)
        .explains();
    foreign.says("linux/s390x");
    sandbox
        .words(["pull", "--platform", "a/b/c/d", &name])
        .fails(125);
    let nobody = format!("127.0.0.1:{}/app:1", crate::harness::free_port());
    let nobody = sandbox.words(["pull", &nobody]).fails(1).explains();
    nobody.says("127.0.0.1");
    let no_host = sandbox
        .words(["pull", "no-such-host.invalid/app:1"])
        .fails(1)
        .explains();
    no_host.says("no-such-host.invalid");
    sandbox.words(["pull", "UPPER/x"]).fails(1);
    sandbox
        .words(["pull", "busybox"])
        .fails(1)
        .explains()
        .says("blocked");
}

#[test]
fn run_pulls_what_is_missing() {
    require!(Feature::Registry);
    let sandbox = Sandbox::with_busybox();
    let registry = Registry::start(&sandbox, Door::Open);
    let name = tagged(&sandbox, &registry, "app:1");
    sandbox.words(["push", "-q", &name]).ok();
    let remove = || drop(sandbox.words(["rmi", "-f", &name]).ok());
    let run = |options: &str| {
        let options = options.split_ascii_whitespace();
        let words = ["run", "--rm", "--network", "none"]
            .into_iter()
            .chain(options);
        sandbox.words(words.chain([&name[..], "echo", "ran"]))
    };
    remove();
    run("--pull never").fails(125).explains();
    let pulled = run("").ok();
    assert_eq!(pulled.stdout, "ran\n");
    assert!(
        pulled.stderr.starts_with(&format!(
            "Unable to find image '{name}' locally\n1: Pulling from app\n"
        )),
        "{pulled}"
    );
    assert_eq!(run("").ok().stderr, "");
    run("--pull always").ok().says("Image is up to date");
    remove();
    assert_eq!(run("-q").ok().stderr, "");
    assert_eq!(run("--pull newer").ok().stderr, "");
    remove();
    sandbox
        .words(["create", &name, "true"])
        .ok()
        .says("Pulling from app");
    let missing = format!("{}/none:1", registry.address());
    let failed = sandbox
        .words(["run", "--rm", &missing, "true"])
        .fails(125)
        .explains();
    failed.says(&format!("Unable to find image '{missing}' locally"));
    drop(registry);
    run("--pull newer").ok().says("cannot look for a newer");
    run("--pull always").fails(125).explains();
}

#[test]
fn builds_pull_what_is_missing() {
    require!(Feature::Registry);
    let sandbox = Sandbox::with_busybox();
    let registry = Registry::start(&sandbox, Door::Open);
    let name = tagged(&sandbox, &registry, "base:1");
    sandbox.words(["push", "-q", &name]).ok();
    sandbox.words(["rmi", "-f", &name, "busybox"]).ok();
    sandbox.file(
        "ctx/Dockerfile",
        format!("FROM {name} AS x\nFROM x\nRUN echo built >/made\nCMD cat /made\n"),
    );
    let build =
        |options: &str| sandbox.rctr(&format!("build --progress plain -t img {options} ctx"));
    let built = build("").ok();
    built
        .says(&format!("[internal] pull {name}"))
        .says(&format!("load metadata for {name}"))
        .says("sha256:");
    sandbox
        .rctr("run --rm --network none img")
        .ok()
        .prints("built\n");
    let again = build("").ok();
    assert!(!again.stderr.contains("[internal] pull"), "{again}");
    // Another one of that name.
    let other = Sandbox::new();
    other
        .words([
            "import",
            "-c",
            "ENV new=yes",
            images::busybox().to_str().unwrap(),
            &name,
        ])
        .ok();
    other.words(["push", "-q", &name]).ok();
    build("").ok();
    let env = || {
        sandbox
            .rctr("image inspect -f {{.Config.Env}} img")
            .ok()
            .line()
    };
    assert!(!env().contains("new=yes"));
    build("--pull")
        .ok()
        .says(&format!("[internal] pull {name}"));
    assert!(env().contains("new=yes"));
    let missing = format!("{}/none:1", registry.address());
    sandbox.file("ctx/Dockerfile", format!("FROM {missing}\n"));
    build("").fails(1).explains().says("none:1");
}

#[test]
fn builds_push() {
    require!(Feature::Registry);
    let sandbox = Sandbox::with_busybox();
    let registry = Registry::start(&sandbox, Door::Password);
    let address = registry.address();
    sandbox.file("ctx/Dockerfile", "FROM busybox\nRUN echo built >/made\n");
    let build = |options: &str| sandbox.rctr(&format!("build --progress plain {options} ctx"));
    let name = format!("{address}/made:1");
    build(&format!("--push -t {name}"))
        .fails(1)
        .explains()
        .says("login");
    let words = ["login", "-u", USER, "--password-stdin", &address];
    sandbox.words(words).stdin(PASSWORD).ok();
    let built = build(&format!("--push -t {name}")).ok();
    let (_, digest) = registry.manifest("made", "1");
    built.says(&format!("pushed {name}@{digest}"));
    build(&format!("-o type=registry,name={address}/other:2")).ok();
    registry.manifest("other", "2");
    build("--push")
        .fails(1)
        .explains()
        .says("tag is needed when pushing to registry");
}

#[test]
fn layers_have_bars_on_a_terminal() {
    require!(Feature::Registry);
    let sandbox = Sandbox::new();
    load_random(&sandbox, "bars:1", 3, 3_000_000);
    let registry = Registry::start(&sandbox, Door::Open);
    let name = format!("{}/bars:1", registry.address());
    sandbox.words(["tag", "bars:1", &name]).ok();
    let mut terminal = Terminal::start(sandbox.words(["push", &name]));
    terminal.expect(": Pushed");
    terminal.expect("1: digest: sha256:");
    assert_eq!(terminal.wait(), 0);
    sandbox.words(["rmi", "-f", "bars:1", &name]).ok();
    let mut terminal = Terminal::start(sandbox.words(["pull", &name]));
    terminal.expect("1: Pulling from bars");
    terminal.expect(": Pull complete");
    terminal.expect("Status: Downloaded newer image");
    assert_eq!(terminal.wait(), 0);
}

#[test]
fn registries_conf_sends_elsewhere_and_is_told_when_damaged() {
    require!(Feature::Registry);
    let sandbox = Sandbox::with_busybox();
    let registry = Registry::start(&sandbox, Door::Open);
    let name = tagged(&sandbox, &registry, "mirror/app:1");
    sandbox.words(["push", &name]).ok();
    let conf = |text: &str| sandbox.home_file(".config/containers/registries.conf", text);
    let mirror = format!("{}/mirror", registry.address());
    conf(&format!(
        "[[registry]]\nprefix = \"docker.io/library\"\nlocation = \"{mirror}\"\ninsecure = true\n"
    ));
    sandbox
        .rctr("pull app:1")
        .ok()
        .prints("docker.io/library/app:1");
    sandbox.rctr("run --rm --network none app:1 true").ok();
    conf("[[registry]\n");
    sandbox
        .rctr("pull app:1")
        .fails(1)
        .explains()
        .says("registries.conf");
}

#[test]
fn an_alias_of_a_short_name_is_used() {
    require!(Feature::Registry);
    let sandbox = Sandbox::with_busybox();
    let registry = Registry::start(&sandbox, Door::Open);
    let conf = |sandbox: &Sandbox| {
        let aliases = format!("[aliases]\ntool = \"{}/team/app\"\n", registry.address());
        sandbox.home_file(".config/containers/registries.conf", aliases);
    };
    conf(&sandbox);
    sandbox.words(["tag", "busybox", "tool:1"]).ok();
    let pushed = sandbox.rctr("push tool:1").ok();
    pushed.prints(&format!("[{}/team/app]", registry.address()));
    registry.manifest("team/app", "1");
    let other = Sandbox::new();
    conf(&other);
    let run = other.rctr("run --rm --network none tool:1 echo here").ok();
    assert_eq!(run.line(), "here");
    let further = Sandbox::new();
    conf(&further);
    further.file("ctx/Dockerfile", "FROM tool:1\nWORKDIR /w\n");
    further.rctr("build -t img ctx").ok();
    // It is called as it was asked for.
    assert_eq!(id(&further, "tool:1"), id(&other, "tool:1"));
    // A name in full is what it says.
    let full = format!("{}/library/tool:1", registry.address());
    further.words(["pull", &full]).fails(1);
}

#[test]
fn a_pull_on_a_terminal_is_interrupted() {
    require!(Feature::Registry);
    let sandbox = Sandbox::new();
    load_random(&sandbox, "slow:1", 2, 500_000);
    let registry = Registry::start(&sandbox, Door::Open);
    let proxy = FaultProxy::before(registry.port());
    let name = format!("{}/slow:1", proxy.address());
    sandbox.words(["tag", "slow:1", &name]).ok();
    sandbox.words(["push", &name]).ok();
    sandbox.words(["rmi", "-f", "slow:1", &name]).ok();
    proxy.spoil([(); 2].map(|()| Fault::Stall(Duration::from_secs(30))));
    let mut terminal = Terminal::start(sandbox.words(["pull", &name]));
    terminal.expect("Downloading [");
    terminal.send("\x03");
    terminal.wait();
    proxy.relent();
    let before = proxy.downloaded();
    sandbox.words(["pull", &name]).ok();
    let (after, whole) = (proxy.downloaded(), 2 * 500_000);
    assert!(after < whole + whole / 5, "{before}, {after} of {whole}");
}

#[test]
fn a_registry_is_searched() {
    require!(Feature::Registry);
    let sandbox = Sandbox::with_busybox();
    let registry = Registry::start(&sandbox, Door::Open);
    for name in ["team/app:1", "team/application:1", "other:1"] {
        let name = tagged(&sandbox, &registry, name);
        sandbox.words(["push", "-q", &name]).ok();
    }
    let address = registry.address();
    let search =
        |options: &str, term: &str| sandbox.rctr(&format!("search {options} {address}/{term}"));
    let found = search("", "app").ok();
    let lines = found.lines();
    assert!(
        lines[0].starts_with("NAME") && lines[0].contains("STARS"),
        "{found}"
    );
    assert_eq!(lines.len(), 3, "{found}");
    let names = search("--format {{.Name}} --limit 1", "app").ok();
    assert!(names.line().ends_with("team/app"), "{names}");
    assert_eq!(search("--filter stars=1", "app").ok().lines().len(), 1);
    search("--limit 0", "app").fails(125);
    search("--filter colour=red", "app").fails(1).explains();
}
