//! Pulls and pushes through a bad network: each ends right or in a clear error, never with a wrong byte, and what has come
//! need not come again.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::fault_proxy::{Fault, FaultProxy, Random};
use crate::harness::registry::{Door, Registry};
use crate::harness::{Feature, Output, Sandbox, require, wait_for};
use crate::registry::{digest_of, load_random};

const LAYERS: u64 = 3;
const BYTES: usize = 400_000;

/// A registry behind a proxy, and a store with an image.
struct Scene {
    sandbox: Sandbox,
    proxy: FaultProxy,
    registry: Registry,
}

impl Scene {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let registry = Registry::start(&sandbox, Door::Open);
        let proxy = FaultProxy::before(registry.port());
        load_random(&sandbox, "random:1", LAYERS, BYTES);
        Self {
            sandbox,
            proxy,
            registry,
        }
    }

    fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.proxy.address())
    }

    fn tag(&self, name: &str) -> String {
        let name = self.name(name);
        self.sandbox.words(["tag", "random:1", &name]).ok();
        name
    }

    fn run(&self, verb: &str, name: &str) -> Output {
        self.sandbox
            .words([verb, name])
            .limit(Duration::from_secs(180))
            .output()
    }

    /// Right, or one sentence and a hint.
    fn judge(&self, output: Output, digest: &str) -> bool {
        match output.code {
            0 => assert_eq!(
                digest_of(&output),
                digest,
                "{output}\n{:?}",
                self.proxy.faults()
            ),
            1 => drop(output.explains()),
            _ => panic!("{output}\n{:?}", self.proxy.faults()),
        }
        true
    }
}

/// Faults of the two kinds of transfer, half of them each.
fn random_faults(seed: u64, wanted: usize) {
    let scene = Scene::new();
    let name = scene.tag("right/app:1");
    let pushed = scene.run("push", &name);
    let digest = digest_of(&pushed);
    let (mut faults, mut random) = (0, Random::new(seed));
    let mut round = 0;
    while faults < wanted {
        round += 1;
        let seed = random.below(u64::from(u32::MAX));
        scene.proxy.behave();
        if round % 2 == 0 {
            let name = scene.tag(&format!("app{round}:1"));
            scene.proxy.spoil_at_random(seed, 25);
            let output = scene.run("push", &name);
            faults += scene.proxy.faults().len();
            scene.judge(output, &digest);
            scene.proxy.behave();
            let again = scene.run("push", &name);
            assert_eq!(
                (again.code, digest_of(&again)),
                (0, digest.clone()),
                "seed {seed}: {again}"
            );
            assert_eq!(
                scene.registry.manifest(&format!("app{round}"), "1").1,
                digest
            );
            scene.sandbox.words(["rmi", &name]).ok();
        } else {
            let puller = Sandbox::new();
            scene.proxy.spoil_at_random(seed, 25);
            let output = puller
                .words(["pull", &name])
                .limit(Duration::from_secs(180))
                .output();
            let done = scene.proxy.faults();
            faults += done.len();
            scene.judge(output, &digest);
            scene.proxy.behave();
            let again = puller.words(["pull", &name]).ok();
            assert_eq!(digest_of(&again), digest, "seed {seed}: {done:?}");
            let check = puller.rctr("system check").output();
            assert_eq!(check.code, 0, "seed {seed}: {done:?}\n{check}");
        }
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "shown when it fails")]
fn two_hundred_random_faults_make_no_wrong_byte() {
    require!(Feature::Registry);
    let seed = std::env::var("RCTR_TEST_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    // RCTR_TEST_SEED makes it the same again.
    println!("seed {seed}");
    std::thread::scope(|scope| {
        for part in 0..4 {
            scope.spawn(move || random_faults(seed.wrapping_add(part), 50));
        }
    });
}

#[test]
fn a_broken_pull_goes_on_where_it_was() {
    require!(Feature::Registry);
    let scene = Scene::new();
    let name = scene.tag("app:1");
    let digest = digest_of(&scene.run("push", &name));
    let whole = LAYERS * BYTES as u64;
    for fault in [
        Fault::Cut(300_000),
        Fault::Reset(200_000),
        Fault::Status(503),
    ] {
        scene.proxy.behave();
        scene
            .proxy
            .spoil([fault.clone(), fault.clone(), fault.clone()]);
        let puller = Sandbox::new();
        let output = puller
            .words(["pull", &name])
            .limit(Duration::from_secs(180))
            .output();
        scene.judge(output, &digest);
        puller.words(["pull", &name]).ok();
        let bytes = scene.proxy.downloaded();
        // What the client had not read yet goes with a reset.
        let lost = match fault {
            Fault::Reset(bytes) => 3 * bytes,
            _ => 0,
        };
        let limit = whole + whole / 5 + lost;
        assert!(bytes < limit, "{fault:?}: {bytes} of {whole}");
        assert!(bytes >= whole, "{fault:?}: {bytes} of {whole}");
    }
}

#[test]
fn an_interrupted_pull_goes_on_where_it_was() {
    require!(Feature::Registry);
    let scene = Scene::new();
    let name = scene.tag("app:1");
    let digest = digest_of(&scene.run("push", &name));
    let whole = LAYERS * BYTES as u64;
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGKILL] {
        scene.proxy.behave();
        let stall = Fault::Stall(Duration::from_secs(30));
        scene.proxy.spoil([stall.clone(), stall.clone(), stall]);
        let puller = Sandbox::new();
        let pull = puller.words(["pull", &name]).spawn();
        wait_for("half of a layer", || scene.proxy.downloaded() >= whole / 6);
        // It has what the proxy has given when it has read it.
        std::thread::sleep(Duration::from_millis(500));
        scene.proxy.relent();
        pull.signal(signal);
        assert_eq!(pull.wait().code, 128 + signal as i32);
        let again = puller.words(["pull", &name]).ok();
        assert_eq!(digest_of(&again), digest);
        let bytes = scene.proxy.downloaded();
        assert!(bytes < whole + whole / 5, "{signal}: {bytes} of {whole}");
        puller.rctr("system check").ok();
    }
}

#[test]
fn two_pulls_of_one_image_share_the_work() {
    require!(Feature::Registry);
    let scene = Scene::new();
    let name = scene.tag("app:1");
    let digest = digest_of(&scene.run("push", &name));
    scene.proxy.behave();
    scene.proxy.spoil([
        Fault::Stall(Duration::from_secs(1)),
        Fault::Stall(Duration::from_secs(1)),
    ]);
    let puller = Sandbox::new();
    let pulls = [(); 3].map(|()| puller.words(["pull", &name]).spawn());
    for pull in pulls {
        let output = pull.wait();
        assert_eq!(
            (output.code, digest_of(&output)),
            (0, digest.clone()),
            "{output}"
        );
    }
    let whole = LAYERS * BYTES as u64;
    let bytes = scene.proxy.downloaded();
    assert!(bytes < whole + whole / 5, "{bytes} of {whole}");
}

#[test]
fn a_broken_push_sends_no_layer_twice() {
    require!(Feature::Registry);
    let scene = Scene::new();
    let name = scene.tag("app:1");
    scene.proxy.spoil([
        Fault::Status(503),
        Fault::CutUpload(100_000),
        Fault::LostAnswer,
    ]);
    let output = scene.run("push", &name);
    let again = scene.run("push", &name);
    assert_eq!(again.code, 0, "{output}{again}");
    let whole = LAYERS * BYTES as u64;
    let bytes = scene.proxy.uploaded();
    assert!(bytes < 2 * whole, "{bytes} of {whole}");
    let pulled = Sandbox::new().words(["pull", &name]).ok();
    assert_eq!(digest_of(&pulled), digest_of(&again));
}

#[test]
fn what_is_here_is_not_fetched_again() {
    require!(Feature::Registry);
    let scene = Scene::new();
    let name = scene.tag("app:1");
    scene.run("push", &name);
    let puller = Sandbox::new();
    puller.words(["pull", &name]).ok();
    scene.proxy.behave();
    puller.words(["pull", &name]).ok();
    let requests = scene.proxy.requests();
    let blobs = requests
        .iter()
        .filter(|request| request.contains("/blobs/"));
    assert_eq!(
        (requests.is_empty(), blobs.count()),
        (false, 0),
        "{requests:?}"
    );
}

#[test]
fn a_wrong_layer_is_refused() {
    require!(Feature::Registry);
    let scene = Scene::new();
    let name = scene.tag("app:1");
    let pushed = scene.run("push", &name);
    let (manifest, _) = scene.registry.manifest("app", "1");
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let blob = scene
        .registry
        .blob(manifest["layers"][1]["digest"].as_str().unwrap());
    let right = std::fs::read(&blob).unwrap();
    let mut wrong = right.clone();
    wrong[1000] ^= 1;
    std::fs::write(&blob, wrong).unwrap();
    let puller = Sandbox::new();
    puller
        .words(["pull", &name])
        .limit(Duration::from_secs(120))
        .fails(1)
        .explains();
    assert_eq!(puller.rctr("images -q").ok().stdout, "");
    std::fs::write(&blob, right).unwrap();
    let pulled = puller.words(["pull", &name]).ok();
    assert_eq!(digest_of(&pulled), digest_of(&pushed));
    puller.rctr("system check").ok();
}
