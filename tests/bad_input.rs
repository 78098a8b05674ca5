//! What goes wrong is told in one sentence with a hint and docker's exit code, and nothing is lost or half-made.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use crate::harness::{Feature, Sandbox, SmallDisk, archive, images, require};

/// The store is clean and works.
#[track_caller]
fn assert_unharmed(sandbox: &Sandbox) {
    sandbox.assert_clean();
    assert_eq!(sandbox.run("--rm", "echo works").ok().line(), "works");
    sandbox.assert_nothing_left();
}

fn saved() -> Vec<u8> {
    let sandbox = Sandbox::with_busybox();
    sandbox.rctr("save busybox").ok().bytes
}

#[test]
fn no_archive_at_all() {
    let sandbox = Sandbox::with_busybox();
    let garbage = "this is no archive ".repeat(1000);
    sandbox
        .rctr("load")
        .stdin(garbage.clone())
        .fails(1)
        .explains();
    sandbox
        .rctr("import - x")
        .stdin(garbage)
        .fails(1)
        .explains();
    sandbox.rctr("load").fails(1).explains();
    assert_unharmed(&sandbox);
}

#[test]
fn truncated_archives() {
    let sandbox = Sandbox::with_busybox();
    let archive = saved();
    let tar = std::fs::read(images::busybox()).unwrap();
    for length in [100, 513, 5_000, archive.len() / 2, archive.len() - 20_000] {
        sandbox
            .rctr("load")
            .stdin(&archive[..length])
            .fails(1)
            .explains();
        sandbox
            .rctr("import - x")
            .stdin(&tar[..length.min(tar.len() - 20_000)])
            .fails(1)
            .explains();
    }
    assert_eq!(sandbox.rctr("images -q").ok().lines().len(), 1);
    assert_unharmed(&sandbox);
}

#[test]
fn truncated_and_corrupt_gzip() {
    let sandbox = Sandbox::with_busybox();
    let mut gzip = archive::gzip(&std::fs::read(images::busybox()).unwrap());
    let middle = gzip.len() / 2;
    sandbox
        .rctr("import - x")
        .stdin(&gzip[..middle])
        .fails(1)
        .explains();
    for byte in &mut gzip[middle..middle + 64] {
        *byte ^= 0x55;
    }
    sandbox
        .rctr("import - x")
        .stdin(gzip.clone())
        .fails(1)
        .explains();
    sandbox.rctr("load").stdin(gzip).fails(1).explains();
    assert_unharmed(&sandbox);
}

#[test]
fn wrong_digest() {
    let sandbox = Sandbox::with_busybox();
    let layer = archive::Archive::new().file("f", 0o644, b"content").bytes();
    let mut image = archive::docker_archive("evil:1", &[layer]);
    let at = image.windows(7).position(|w| w == b"content").unwrap();
    image[at] = b'C';
    let output = sandbox.rctr("load").stdin(image).fails(1).explains();
    assert!(output.stderr.contains("sha256:"), "{output}");
    sandbox.rctr("image inspect evil:1").fails(1);
    assert_unharmed(&sandbox);
}

#[test]
fn missing_image() {
    let sandbox = Sandbox::with_busybox();
    sandbox
        .rctr("run --rm nosuch:1 true")
        .fails(125)
        .says("nosuch:1")
        .explains();
    sandbox.rctr("create nosuch:1 true").fails(125).explains();
    sandbox
        .rctr("image inspect nosuch:1")
        .fails(1)
        .says("No such image: nosuch:1");
    sandbox
        .rctr("rmi nosuch:1")
        .fails(1)
        .says("No such image: nosuch:1")
        .explains();
    sandbox.rctr("save -o x.tar nosuch:1").fails(1).explains();
    assert!(!sandbox.work().join("x.tar").exists());
    sandbox
        .rctr("tag nosuch:1 other")
        .fails(1)
        .says("No such image");
    assert_unharmed(&sandbox);
}

#[test]
fn taken_name() {
    let sandbox = Sandbox::with_busybox();
    sandbox.run("-d --name taken", "sleep 1000").ok();
    sandbox
        .run("--name taken", "true")
        .fails(125)
        .says("already in use")
        .says("taken")
        .explains();
    assert_eq!(sandbox.rctr("ps -aq").ok().lines().len(), 1);
    sandbox.rctr("rm -f taken").ok();
    assert_unharmed(&sandbox);
}

#[test]
fn taken_port() {
    require!(Feature::PrivateNetwork);
    let sandbox = Sandbox::with_busybox();
    let listener = TcpListener::bind(("0.0.0.0", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let command = format!("run -d --name c1 -p {port}:80 busybox sleep 1000");
    let output = sandbox
        .rctr(&command)
        .fails(125)
        .says(&port.to_string())
        .explains();
    assert!(
        output.stderr.contains("in use") || output.stderr.contains("allocated"),
        "{output}"
    );
    assert_eq!(sandbox.rctr("ps -q").ok().stdout, "");
    drop(listener);
    sandbox.rctr("rm -f c1").output();
    sandbox.rctr(&command).ok();
    sandbox.rctr("rm -f c1").ok();
    assert_unharmed(&sandbox);
}

#[test]
fn bad_names() {
    let sandbox = Sandbox::with_busybox();
    for name in ["a/b", "-x", "ä", "a b", ".", "../x", "x"] {
        sandbox
            .words([
                "create",
                "--network",
                "none",
                &format!("--name={name}"),
                "busybox",
            ])
            .fails(125);
    }
    sandbox
        .run("--name a/b", "true")
        .fails(125)
        .says("[a-zA-Z0-9][a-zA-Z0-9_.-]")
        .explains();
    sandbox
        .rctr("run UPPER true")
        .fails(125)
        .says("must be lowercase")
        .explains();
    sandbox
        .rctr("run 'bad reference' true")
        .fails(125)
        .says("invalid reference format")
        .explains();
    sandbox.rctr("volume create ../x").fails(1).explains();
    assert_unharmed(&sandbox);
}

#[test]
fn unknown_user() {
    let sandbox = Sandbox::with_busybox();
    sandbox
        .run("--rm -u nobody-here", "true")
        .fails(125)
        .says("nobody-here")
        .explains();
    assert_unharmed(&sandbox);
}

#[test]
fn no_such_command() {
    let sandbox = Sandbox::with_busybox();
    sandbox
        .run("--rm", "no-such-command")
        .fails(127)
        .says("no-such-command")
        .explains();
    sandbox.run("--rm", "/no/such/path").fails(127).explains();
    assert_unharmed(&sandbox);
}

#[test]
fn directory_or_plain_file_as_command() {
    let sandbox = Sandbox::with_busybox();
    sandbox
        .run("--rm", "/etc")
        .fails(126)
        .says("/etc")
        .explains();
    sandbox
        .run("--rm", "/etc/passwd")
        .fails(126)
        .says("/etc/passwd")
        .explains();
    assert_unharmed(&sandbox);
}

#[test]
fn bad_options() {
    let sandbox = Sandbox::with_busybox();
    sandbox.run("--no-such-flag", "true").fails(125).explains();
    sandbox.run("--memory nonsense", "true").fails(125);
    sandbox
        .run("-v a:b:c:d:e", "true")
        .fails(125)
        .says("invalid volume specification")
        .explains();
    sandbox
        .run("-v xx:/same -v yy:/same", "true")
        .fails(125)
        .says("Duplicate mount point");
    sandbox
        .rctr("run -p nonsense busybox true")
        .fails(125)
        .explains();
    sandbox.rctr("run -p 99999:80 busybox true").fails(125);
    sandbox
        .rctr("run --network container:nope busybox true")
        .fails(125)
        .says("No such container: nope");
    sandbox.run("--cap-add NOT_A_CAP", "true").fails(125);
    sandbox
        .run("--security-opt seccomp=/no/such/file", "true")
        .fails(125)
        .explains();
    sandbox
        .run("--env-file /no/such/file", "true")
        .fails(125)
        .explains();
    sandbox.run("--pull sometimes", "true").fails(125);
    sandbox.rctr("run").fails(1);
    assert_unharmed(&sandbox);
}

#[test]
fn unknown_verbs_get_a_suggestion() {
    let sandbox = Sandbox::new();
    sandbox
        .rctr("exce x")
        .fails(1)
        .says("did you mean 'exec'")
        .explains();
    sandbox.rctr("container frobnicate").fails(1).explains();
    let output = sandbox.rctr("foo").fails(1).explains();
    assert!(!output.stderr.contains("did you mean"), "{}", output.stderr);
}

#[test]
fn dockers_missing_verbs_are_not_taken_for_typos() {
    let sandbox = Sandbox::new();
    sandbox.rctr("swarm init").fails(1).says("docker has it");
    let output = sandbox.rctr("context ls").fails(1).explains();
    assert!(!output.stderr.contains("did you mean"), "{}", output.stderr);
    sandbox
        .rctr("--frobnicate ps")
        .fails(125)
        .says("unknown flag: --frobnicate");
}

#[test]
fn missing_arguments_show_the_usage() {
    let sandbox = Sandbox::new();
    sandbox.rctr("cp x").fails(1).says("usage: rctr cp ");
    sandbox.rctr("exec c1").fails(1).says("CONTAINER COMMAND");
}

#[test]
fn rename_to_its_own_name_advises_no_removal() {
    let sandbox = Sandbox::with_busybox();
    sandbox.rctr("create --name c1 busybox true").ok();
    let output = sandbox.rctr("rename c1 c1").fails(1).explains();
    assert!(!output.stderr.contains("rctr rm"), "{}", output.stderr);
}

#[test]
fn full_disk() {
    require!(Feature::Mounts);
    let tar = std::fs::read(images::busybox()).unwrap();
    let mut sandbox = Sandbox::new();
    let disk = SmallDisk::new(&sandbox, 2 * tar.len() as u64 + (6 << 20));
    sandbox = sandbox.store_at(disk.path().join("store"));
    sandbox.rctr("import - busybox").stdin(tar).ok();
    let big = archive::Archive::new()
        .file("big", 0o644, &vec![7; 40 << 20])
        .bytes();
    let space = |text: &str| text.contains("space") || text.contains("full");
    let output = sandbox
        .rctr("import - big")
        .stdin(big.clone())
        .fails(1)
        .explains();
    assert!(space(&output.stderr), "{output}");
    let output = sandbox
        .rctr("load")
        .stdin(archive::docker_archive("big:1", &[big]))
        .fails(1)
        .explains();
    assert!(space(&output.stderr), "{output}");
    assert_eq!(sandbox.rctr("images").ok().lines().len(), 2);
    // A container fills the rest; the engine survives it.
    sandbox
        .run(
            "--name filler",
            "sh -c 'dd if=/dev/zero of=/fill bs=1M count=100'",
        )
        .fails(1);
    sandbox.rctr("commit filler filled").fails(1).explains();
    sandbox.rctr("ps -a").ok();
    sandbox.rctr("rm -f filler").ok();
    assert_unharmed(&sandbox);
    sandbox.rctr("rmi busybox").ok();
    drop(disk);
}

#[test]
fn read_only_store() {
    require!(Feature::Mounts);
    let mut sandbox = Sandbox::new();
    let disk = SmallDisk::new(&sandbox, 64 << 20);
    sandbox = sandbox.store_at(disk.path().join("store"));
    sandbox
        .words(["import", images::busybox().to_str().unwrap(), "busybox"])
        .ok();
    disk.make_read_only();
    sandbox.rctr("images").ok().prints("busybox");
    sandbox.rctr("ps -a").ok();
    sandbox.rctr("image inspect busybox").ok();
    for command in ["run --rm busybox true", "create busybox true"] {
        let output = sandbox.rctr(command).fails(125).explains();
        assert!(
            output.stderr.to_lowercase().contains("read-only"),
            "{output}"
        );
    }
    for command in ["tag busybox x", "volume create vol", "rmi busybox"] {
        sandbox.rctr(command).fails(1).explains();
    }
    drop(disk);
}

#[test]
fn unwritable_home() {
    let sandbox = Sandbox::new();
    let command = |line: &str| {
        let invocation = sandbox
            .rctr(line)
            .without_env("RCTR_ROOT")
            .without_env("RCTR_RUN");
        invocation.env("HOME", "/proc/nowhere")
    };
    command("volume create vol")
        .fails(1)
        .says("/proc/nowhere")
        .explains();
    command("run busybox true").fails(125).explains();
    command("images").fails(1).explains();
    sandbox
        .rctr("images")
        .without_env("RCTR_ROOT")
        .without_env("HOME")
        .fails(1)
        .says("HOME")
        .explains();
}

#[test]
fn missing_newuidmap() {
    let sandbox = Sandbox::with_busybox();
    let output = sandbox
        .run("--rm", "true")
        .env("PATH", "/nowhere")
        .fails(125)
        .explains();
    assert!(output.stderr.contains("newuidmap"), "{output}");
    assert!(
        output.stderr.contains("uidmap"),
        "the hint names the package: {output}"
    );
    assert_unharmed(&sandbox);
}

/// A map that is refused once the record is there: `--rm` means that nothing stays.
#[test]
fn refused_id_map_leaves_no_container() {
    let sandbox = Sandbox::with_busybox();
    let refused = "#!/bin/sh\necho no map for you >&2\nexit 1\n";
    for name in ["newuidmap", "newgidmap"] {
        let helper = sandbox.file(name, refused);
        std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    // The driver is known by now: it isn't probed again.
    sandbox.run("--rm", "true").ok();
    let path = format!("{}:/usr/bin:/bin", sandbox.work().display());
    sandbox
        .run("--rm", "true")
        .env("PATH", &path)
        .fails(125)
        .explains();
    assert_eq!(sandbox.rctr("ps -aq").ok().stdout, "");
    assert_unharmed(&sandbox);
}
