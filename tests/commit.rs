//! `commit`, `diff` and what becomes of a changed container.

use crate::harness::Sandbox;
use serde_json::Value;

fn image(sandbox: &Sandbox, name: &str) -> Value {
    let text = sandbox.words(["image", "inspect", name]).ok().stdout;
    serde_json::from_str::<Value>(&text).unwrap()[0].clone()
}

#[test]
fn changes_are_in_the_new_image_and_nowhere_else() {
    let sandbox = Sandbox::with_busybox();
    sandbox.run("--name c1", "sh -c 'echo new > /new; rm /etc/group; mkdir -p /d/e; chown 1000:1000 /d; chmod 750 /d; ln -s /new /link'").ok();
    let id = sandbox
        .rctr("commit -m why -a who c1 changed:1")
        .ok()
        .line();
    assert!(id.starts_with("sha256:") && id.len() == 71, "{id}");
    let output = sandbox.rctr("run --rm --network none changed:1 sh -c 'cat /new /link; test -e /etc/group || echo gone; stat -c %u:%g:%a /d; test -d /d/e && echo dir'").ok();
    assert_eq!(
        output.lines(),
        ["new", "new", "gone", "1000:1000:750", "dir"]
    );
    sandbox
        .run("--rm", "sh -c 'test ! -e /new -a -e /etc/group'")
        .ok();
    let image = image(&sandbox, "changed:1");
    assert_eq!(
        (image["Comment"].as_str(), image["Author"].as_str()),
        (Some("why"), Some("who"))
    );
    assert_eq!(image["RootFS"]["Layers"].as_array().unwrap().len(), 2);
    sandbox.rctr("history changed:1").ok().prints("why");
}

#[test]
fn run_options_become_the_images_config() {
    let sandbox = Sandbox::with_busybox();
    sandbox.rctr("run --network none --name c1 -e A=1 -w /tmp --expose 80 --label l=v busybox sh -c 'echo hi'").ok();
    sandbox
        .rctr("commit -c 'ENV B=2' -c 'EXPOSE 443' -c 'CMD [\"echo\",\"changed\"]' c1 img")
        .ok();
    let config = &image(&sandbox, "img")["Config"];
    let env = config["Env"].as_array().unwrap();
    assert!(
        env.contains(&"A=1".into()) && env.contains(&"B=2".into()),
        "{config}"
    );
    assert!(
        config["ExposedPorts"]["80/tcp"].is_object()
            && config["ExposedPorts"]["443/tcp"].is_object(),
        "{config}"
    );
    assert_eq!(
        (&config["WorkingDir"], &config["Labels"]["l"]),
        (&"/tmp".into(), &"v".into())
    );
    assert_eq!(
        sandbox.rctr("run --rm --network none img").ok().line(),
        "changed"
    );
}

#[test]
fn running_container_can_be_committed() {
    let sandbox = Sandbox::with_busybox();
    sandbox
        .run("-d --name c1", "sh -c 'echo x > /x; exec sleep 1000'")
        .ok();
    sandbox
        .rctr("exec c1 sh -c 'until test -e /x; do sleep 0.01; done'")
        .ok();
    sandbox.rctr("commit c1 live").ok();
    assert_eq!(sandbox.field("c1", "{{.State.Status}}"), "running");
    assert_eq!(
        sandbox
            .rctr("run --rm --network none live cat /x")
            .ok()
            .line(),
        "x"
    );
}

#[test]
fn volumes_stay_out_of_the_image() {
    let sandbox = Sandbox::with_busybox();
    sandbox
        .run(
            "--name c1 -v vol:/v",
            "sh -c 'echo secret > /v/s; echo in > /in'",
        )
        .ok();
    sandbox.rctr("commit c1 img").ok();
    sandbox
        .rctr("run --rm --network none img sh -c 'test ! -e /v/s -a -e /in'")
        .ok();
}

#[test]
fn special_files_and_hard_links_survive() {
    let sandbox = Sandbox::with_busybox();
    sandbox.run("--name c1", "sh -c 'mkfifo /fifo; echo a > /a; ln /a /b; truncate -s 1G /sparse; chmod 4755 /a; touch /...; mkdir -m 0 /closed'").ok();
    sandbox.rctr("commit c1 img").ok();
    let output = sandbox.rctr("run --rm --network none img sh -c 'test -p /fifo && stat -c %h:%a /a; stat -c %s /sparse; du -k /sparse | cut -f1; stat -c %a /closed'").ok();
    assert_eq!(output.lines(), ["2:4755", "1073741824", "0", "0"]);
}

#[test]
fn same_changes_give_the_same_layer() {
    let sandbox = Sandbox::with_busybox();
    for name in ["aa", "bb"] {
        sandbox
            .run(
                &format!("--name {name}"),
                "sh -c 'echo same > /same; touch -d 202001010000.00 /same / /etc'",
            )
            .ok();
        sandbox.rctr(&format!("commit {name} img-{name}")).ok();
    }
    let layers = |name| image(&sandbox, name)["RootFS"]["Layers"].clone();
    assert_eq!(layers("img-aa"), layers("img-bb"));
}

#[test]
fn diff_tells_added_changed_deleted() {
    let sandbox = Sandbox::with_busybox();
    sandbox
        .run(
            "--name c1",
            "sh -c 'echo x > /etc/new; echo y >> /etc/passwd; rm /etc/group'",
        )
        .ok();
    let output = sandbox.rctr("diff c1").ok();
    assert_eq!(
        output.lines(),
        ["C /etc", "D /etc/group", "A /etc/new", "C /etc/passwd"]
    );
}

#[test]
fn mount_points_are_no_changes() {
    let sandbox = Sandbox::with_busybox();
    sandbox.run("--name c1", "true").ok();
    let output = sandbox.rctr("diff c1").ok();
    assert!(
        !output.stdout.contains("resolv") && !output.stdout.contains("hosts"),
        "{output}"
    );
}

/// Two files that a program always changes together, a moment apart.
const PAIR: &str =
    "sh -c 'n=0; while :; do n=$((n+1)); echo $n > /first; usleep 20000; echo $n > /second; done'";

#[test]
fn container_stands_still_while_it_is_committed() {
    let sandbox = Sandbox::with_busybox();
    sandbox.run("-d --name c1", PAIR).ok();
    sandbox
        .rctr("exec c1 sh -c 'until test -e /second; do sleep 0.01; done; truncate -s 2G /large; yes | head -c 60000000 > /much'")
        .ok();
    let commit = sandbox.rctr("commit c1 live").spawn();
    crate::harness::wait_for("the container to stand still", || {
        states(&sandbox).iter().any(|state| state == "T")
    });
    commit.wait();
    crate::harness::wait_for("the container to go on", || {
        states(&sandbox).iter().all(|state| state != "T")
    });
    let first = sandbox.rctr("exec c1 cat /first").ok().line();
    crate::harness::wait_for("the program to work", || {
        sandbox.rctr("exec c1 cat /first").ok().line() != first
    });
    sandbox.rctr("commit --pause=false c1 moving").ok();
}

#[test]
fn killed_commit_lets_the_container_go_on() {
    let sandbox = Sandbox::with_busybox();
    sandbox.run("-d --name c1", PAIR).ok();
    sandbox
        .rctr("exec c1 sh -c 'yes | head -c 60000000 > /much'")
        .ok();
    let commit = sandbox.rctr("commit c1 live").spawn();
    crate::harness::wait_for("the container to stand still", || {
        states(&sandbox).iter().any(|state| state == "T")
    });
    commit.signal(nix::sys::signal::Signal::SIGKILL);
    commit.wait();
    crate::harness::wait_for("the container to go on", || {
        states(&sandbox).iter().all(|state| state != "T")
    });
}

/// Of the processes of `c1`.
fn states(sandbox: &Sandbox) -> Vec<String> {
    let output = sandbox.rctr("top c1 -o stat").ok();
    output.lines()[1..]
        .iter()
        .map(|s| (*s).to_owned())
        .collect()
}

#[test]
fn mount_points_of_ours_are_not_in_the_image() {
    let sandbox = Sandbox::with_busybox();
    sandbox.run("--name c1", "sh -c 'echo x > /etc/mine'").ok();
    sandbox.rctr("commit c1 img").ok();
    let layers = image(&sandbox, "img")["RootFS"]["Layers"].clone();
    let top = layers.as_array().unwrap().last().unwrap().as_str().unwrap();
    let hex = top.strip_prefix("sha256:").unwrap();
    let etc = sandbox.store().join("layers").join(hex).join("fs/etc");
    assert!(etc.join("mine").exists());
    for file in ["hosts", "hostname", "resolv.conf"] {
        assert!(!etc.join(file).exists(), "{file} is in the layer");
    }
}
