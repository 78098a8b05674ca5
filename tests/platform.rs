//! `--platform`: images for several processors, programs of another one, and files that no processor runs.
//!
//! The foreign processor is arm64. On an arm64 host its programs are the host's own, and what is said of emulation isn't tested.

use std::io::Read;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Feature, Sandbox, archive, images, require, wait_for};

/// With the image `arm` for arm64, and no other.
fn with_arm() -> Sandbox {
    let sandbox = Sandbox::new();
    let tar = images::busybox_arm64().unwrap().to_str().unwrap();
    sandbox
        .words(["import", "--platform", "linux/arm64", tar, "arm"])
        .ok();
    sandbox
}

/// A `PATH` that has the programs that map ids, and no qemu.
fn path_without_qemu(sandbox: &Sandbox) -> String {
    let dir = sandbox.work().join("no-qemu");
    let made = sandbox.program(&format!("mkdir -p {}", dir.display()));
    made.ok();
    for name in ["newuidmap", "newgidmap"] {
        let link = format!("ln -sf /usr/bin/{name} {}/{name}", dir.display());
        sandbox.program(&link).ok();
    }
    dir.display().to_string()
}

fn is_registered_for_all() -> bool {
    let entries = std::fs::read_dir("/proc/sys/fs/binfmt_misc");
    entries.is_ok_and(|entries| {
        entries
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().contains("aarch64"))
    })
}

#[test]
fn programs_of_another_processor_run() {
    require!(Feature::Arm64);
    let sandbox = with_arm();
    let output = sandbox
        .rctr("run --rm --network none --platform linux/arm64 arm sh -c 'uname -m; sh -c \"uname -m\"; /bin/busybox id -u'")
        .ok();
    assert_eq!(output.lines(), ["aarch64", "aarch64", "0"]);
    assert_eq!(output.stderr, "", "it was asked for");
    // As another user, without new privileges, and below our own PID 1.
    let output = sandbox
        .rctr("run --rm --network none --platform arm64 -u 1000 --init --read-only --security-opt no-new-privileges arm uname -m")
        .ok();
    assert_eq!(output.line(), "aarch64");
}

#[test]
fn exec_and_restart_keep_the_emulation() {
    require!(Feature::Arm64);
    let sandbox = with_arm();
    sandbox
        .rctr("run -d --network none --platform arm64 --name c1 --health-cmd 'uname -m' --health-interval 200ms arm sleep 1000")
        .ok();
    let uname = || sandbox.rctr("exec c1 sh -c 'uname -m'").ok().line();
    assert_eq!(uname(), "aarch64");
    wait_for("the health check", || {
        sandbox.field("c1", "{{.State.Health.Status}}") == "healthy"
    });
    sandbox.rctr("restart -t 0 c1").ok();
    assert_eq!(uname(), "aarch64");
    sandbox.rctr("rm -f c1").ok();
}

#[test]
fn a_container_neither_sees_nor_changes_the_handler() {
    require!(Feature::Arm64);
    let sandbox = with_arm();
    let output = sandbox
        .rctr("run --rm --network none --platform arm64 arm sh -c 'ls /proc/sys/fs/binfmt_misc | wc -l; mkdir /b; mount -t binfmt_misc b /b; grep -c binfmt /proc/mounts'")
        .output();
    assert_eq!(output.lines(), ["0", "0"], "{output:?}");
    if !is_registered_for_all() {
        let entries = std::fs::read_dir("/proc/sys/fs/binfmt_misc");
        let seen = entries.map_or(0, |entries| {
            entries
                .flatten()
                .filter(|entry| entry.file_name().to_string_lossy().starts_with("rctr-"))
                .count()
        });
        assert_eq!(seen, 0, "the host hears nothing of it");
    }
}

#[test]
fn images_of_another_processor_are_built_upon() {
    require!(Feature::Arm64);
    let sandbox = with_arm();
    sandbox.file(
        "ctx/Dockerfile",
        "FROM arm\nARG TARGETARCH TARGETPLATFORM\nRUN uname -m > /machine; echo $TARGETARCH $TARGETPLATFORM >> /machine\n\
         RUN --mount=type=tmpfs,target=/t echo more >> /machine\nCMD [\"cat\", \"/machine\"]\n",
    );
    sandbox
        .rctr("build --network none --platform linux/arm64 -t app ctx")
        .ok();
    let output = sandbox
        .rctr("run --rm --network none --platform linux/arm64 app")
        .ok();
    assert_eq!(output.lines(), ["aarch64", "arm64 linux/arm64", "more"]);
    let platform = sandbox
        .rctr("image inspect -f {{.Os}}/{{.Architecture}} app")
        .ok();
    assert_eq!(platform.line(), "linux/arm64");
    // Committed, it is still what it was.
    sandbox
        .rctr("run --network none --platform arm64 --name c1 app true")
        .ok();
    sandbox.rctr("commit c1 app:2").ok();
    let platform = sandbox
        .rctr("image inspect -f {{.Architecture}} app:2")
        .ok();
    assert_eq!(platform.line(), "arm64");
}

#[test]
fn stages_of_two_processors_work_together() {
    require!(Feature::Arm64);
    if std::env::consts::ARCH == "aarch64" {
        return;
    }
    let sandbox = with_arm();
    let tar = images::busybox().to_str().unwrap();
    sandbox.words(["import", tar, "busybox"]).ok();
    sandbox.file(
        "ctx/Dockerfile",
        "FROM --platform=$BUILDPLATFORM busybox AS tools\nRUN uname -m > /built-on\n\
         FROM arm\nCOPY --from=tools /built-on /\nRUN uname -m >> /built-on\nCMD [\"cat\", \"/built-on\"]\n",
    );
    sandbox
        .rctr("build --network none --platform linux/arm64 -t app ctx")
        .ok();
    let output = sandbox
        .rctr("run --rm --network none --platform arm64 app")
        .ok();
    assert_eq!(output.lines(), [std::env::consts::ARCH, "aarch64"]);
}

#[test]
fn a_platform_that_nobody_asked_for_is_told() {
    require!(Feature::Arm64);
    if std::env::consts::ARCH == "aarch64" {
        return;
    }
    let sandbox = with_arm();
    let output = sandbox.rctr("run --rm --network none arm uname -m").ok();
    assert_eq!(output.line(), "aarch64");
    let warning = "WARNING: The requested image's platform (linux/arm64) does not match the detected host platform (linux/amd64/v";
    assert!(output.stderr.starts_with(warning), "{}", output.stderr);
    assert!(
        output
            .stderr
            .ends_with(") and no specific platform was requested\n"),
        "{}",
        output.stderr
    );
    sandbox
        .rctr("run --rm --pull never --platform linux/amd64 arm true")
        .fails(125)
        .says("image with reference arm was found but does not match the specified platform: wanted linux/amd64, actual: linux/arm64");
    sandbox
        .rctr("create --platform a/b/c/d arm")
        .fails(125)
        .says("\"a/b/c/d\" is an invalid platform");
}

#[test]
fn without_qemu_the_program_is_explained() {
    require!(Feature::Arm64);
    if std::env::consts::ARCH == "aarch64" || is_registered_for_all() {
        return;
    }
    let sandbox = with_arm();
    let path = path_without_qemu(&sandbox);
    let reason = "exec format error: it is a program for arm64, and this host is amd64";
    let hint = "hint: apt-get install qemu-user-static";
    sandbox
        .rctr("run --rm --network none --platform arm64 arm uname -m")
        .env("PATH", &path)
        .fails(126)
        .says(&format!("exec: \"uname\": {reason}"))
        .says(hint);
    sandbox.file("ctx/Dockerfile", "FROM arm\nRUN uname -m\n");
    sandbox
        .rctr("build --network none --platform arm64 ctx")
        .env("PATH", &path)
        .output()
        .says(&format!("exec: \"/bin/sh\": {reason}"))
        .says(hint);
}

#[test]
fn doctor_tells_of_emulation() {
    if std::env::consts::ARCH == "aarch64" || is_registered_for_all() {
        return;
    }
    let sandbox = Sandbox::new();
    let path = path_without_qemu(&sandbox);
    let told = sandbox.rctr("doctor").env("PATH", &path).output();
    told.prints("no static qemu for arm64 in $PATH")
        .prints("fix:   apt install qemu-user-static");
    require!(Feature::Arm64);
    let told = sandbox.rctr("doctor").output();
    told.prints("arm64 programs run by /");
}

#[test]
fn files_that_cannot_run_are_explained() {
    let sandbox = Sandbox::with_busybox();
    sandbox.file("ctx/Dockerfile", "FROM busybox\nCOPY --chmod=755 . /x/\n");
    for (name, content) in [
        ("text", "echo hello\n"),
        ("empty", ""),
        ("lost", "#!/opt/none -x\n"),
        ("chain", "#!/x/text\n"),
        ("exe", "MZ\u{1}\u{0}"),
    ] {
        sandbox.file(&format!("ctx/{name}"), content);
    }
    sandbox.rctr("build -t bad ctx").ok();
    sandbox
        .rctr("run -d --network none --name c1 bad sleep 1000")
        .ok();
    for (name, code, reason, hint) in [
        (
            "text",
            126,
            "exec format error: it is a text without a #! line",
            "#!/bin/sh, or name its interpreter: sh /x/text",
        ),
        (
            "empty",
            126,
            "exec format error: it is an empty file",
            "hint: ",
        ),
        (
            "lost",
            127,
            "it needs /opt/none: no such file or directory",
            "install what brings /opt/none",
        ),
        (
            "chain",
            126,
            "exec format error: it is a script for \"/x/text\", which is a text without a #! line",
            "sh /x/text",
        ),
        (
            "exe",
            126,
            "exec format error: it is a program for Windows",
            "build it for linux/",
        ),
    ] {
        let message = format!("exec: \"/x/{name}\": {reason}");
        for line in [
            format!("run --rm --network none bad /x/{name}"),
            format!("exec c1 /x/{name}"),
        ] {
            sandbox.rctr(&line).fails(code).says(&message).says(hint);
        }
        sandbox.file("run/Dockerfile", format!("FROM bad\nRUN [\"/x/{name}\"]\n"));
        sandbox
            .rctr("build --network none run")
            .output()
            .says(&message)
            .says(hint);
    }
    sandbox.rctr("rm -f c1").ok();
}

/// A program for the 32-bit processor that amd64 was: it ends with 42.
fn program_for_386() -> Vec<u8> {
    let code = [0xb8, 1, 0, 0, 0, 0xbb, 42, 0, 0, 0, 0xcd, 0x80];
    let length = 84 + code.len() as u32;
    let mut bytes = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    for half in [2u16, 3] {
        bytes.extend(half.to_le_bytes());
    }
    for word in [1u32, 0x0804_8054, 52, 0, 0] {
        bytes.extend(word.to_le_bytes());
    }
    for half in [52u16, 32, 1, 0, 0, 0] {
        bytes.extend(half.to_le_bytes());
    }
    for word in [1, 0, 0x0804_8000, 0x0804_8000, length, length, 5, 0x1000] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(code);
    bytes
}

#[test]
fn images_for_386_are_amd64s_own() {
    if std::env::consts::ARCH != "x86_64" {
        return;
    }
    let sandbox = Sandbox::new();
    let tar = archive::Archive::new().file("prog", 0o755, &program_for_386());
    sandbox
        .rctr("import --platform linux/386 - old")
        .stdin(tar.bytes())
        .ok();
    let output = sandbox
        .rctr("run --rm --network none old /prog")
        .env("PATH", path_without_qemu(&sandbox))
        .output();
    // A kernel without CONFIG_IA32_EMULATION says so.
    match output.code {
        42 => assert_eq!(output.stderr, ""),
        _ => drop(output.says("this kernel runs no 32-bit programs")),
    }
}

/// An OCI archive of one index, of all the images in `saved`.
fn as_index(saved: &[u8], name: &str) -> Vec<u8> {
    let mut out = archive::Archive::new();
    let mut manifests = Vec::new();
    for entry in tar::Archive::new(saved).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().into_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        if path == Path::new("index.json") {
            let index: Value = serde_json::from_slice(&content).unwrap();
            manifests.clone_from(index["manifests"].as_array().unwrap());
        } else if entry.header().entry_type().is_file() {
            out = out.file(path.to_str().unwrap(), 0o644, &content);
        }
    }
    for manifest in &mut manifests {
        manifest.as_object_mut().unwrap().remove("annotations");
    }
    let kind = "application/vnd.oci.image.index.v1+json";
    let index = json!({"schemaVersion": 2, "mediaType": kind, "manifests": manifests});
    let bytes = serde_json::to_vec(&index).unwrap();
    let digest = archive::sha256(&bytes);
    let top = json!({"schemaVersion": 2, "manifests": [{
        "mediaType": kind, "digest": format!("sha256:{digest}"), "size": bytes.len(),
        "annotations": {"org.opencontainers.image.ref.name": name},
    }]});
    out.file(&format!("blobs/sha256/{digest}"), 0o644, &bytes)
        .file("index.json", 0o644, &serde_json::to_vec(&top).unwrap())
        .bytes()
}

#[test]
fn one_name_stands_for_several_platforms() {
    require!(Feature::Arm64);
    if std::env::consts::ARCH == "aarch64" {
        return;
    }
    let sandbox = with_arm();
    let tar = images::busybox().to_str().unwrap();
    sandbox.words(["import", tar, "busybox"]).ok();
    let saved = sandbox
        .rctr("save --format oci-archive arm busybox")
        .ok()
        .bytes;
    sandbox.rctr("rmi arm busybox").ok();
    let loaded = sandbox.rctr("load").stdin(as_index(&saved, "multi:1")).ok();
    assert_eq!(loaded.line(), "Loaded image: multi:1");
    assert_eq!(sandbox.rctr("images -q").ok().lines().len(), 1);
    let run = |flags: &str| {
        let line = format!("run --rm --network none {flags} multi:1 uname -m");
        let output = sandbox.rctr(&line).ok();
        assert_eq!(output.stderr, "");
        output.line()
    };
    assert_eq!(run(""), "x86_64");
    assert_eq!(run("--platform linux/arm64"), "aarch64");
    assert_eq!(run("--platform linux/amd64"), "x86_64");
    sandbox
        .rctr("run --rm --pull never --platform linux/s390x multi:1 true")
        .fails(125)
        .says("wanted linux/s390x, actual: linux/amd64, linux/arm64");
    let tree = sandbox.rctr("images --tree").ok();
    let labels: Vec<&str> = tree
        .lines()
        .iter()
        .map(|l| l.split("  ").next().unwrap_or_default())
        .collect();
    assert_eq!(labels[1..], ["multi:1", "├─ linux/arm64", "└─ linux/amd64"]);
    for (flag, want) in [("", "amd64"), ("--platform arm64", "arm64")] {
        let line =
            format!("image inspect {flag} -f {{{{.Architecture}}}}{{{{.RepoTags}}}} multi:1");
        let shown = sandbox.rctr(&line).ok();
        assert_eq!(shown.line(), format!("{want}[multi:1]"));
    }
    // A container of it is shown by the name, whichever it is of.
    sandbox
        .rctr("run -d --network none --platform arm64 --name c1 multi:1 sleep 1000")
        .ok();
    let shown = sandbox.rctr("ps --format {{.Image}}").ok();
    assert_eq!(shown.line(), "multi:1");
    sandbox.rctr("rmi multi:1").fails(1).says("container");
    sandbox.rctr("rm -f c1").ok();
    // FROM takes the wanted one.
    sandbox.file(
        "ctx/Dockerfile",
        "FROM multi:1\nRUN uname -m > /m\nCMD cat /m\n",
    );
    for (platform, want) in [("linux/arm64", "aarch64"), ("linux/amd64", "x86_64")] {
        let line = format!("build -q --network none --platform {platform} -t app ctx");
        sandbox.rctr(&line).ok();
        let line = format!("run --rm --network none --platform {platform} app");
        assert_eq!(sandbox.rctr(&line).ok().line(), want);
    }
    sandbox.rctr("rmi app").ok();
    // It travels whole, and goes whole.
    let again = sandbox.rctr("save --format oci-archive multi:1").ok().bytes;
    sandbox.rctr("image rm multi:1").ok();
    sandbox.rctr("builder prune -af").ok();
    sandbox.rctr("image prune -f").ok();
    assert!(sandbox.rctr("images -qa").ok().lines().is_empty());
    sandbox.rctr("load").stdin(again).ok();
    assert_eq!(run("--platform linux/arm64"), "aarch64");
    let one = sandbox
        .rctr("save --platform linux/arm64 multi:1")
        .ok()
        .bytes;
    sandbox.rctr("rmi multi:1").ok();
    sandbox.rctr("load").stdin(one).ok();
    let shown = sandbox
        .rctr("image inspect -f {{.Architecture}} multi:1")
        .ok();
    assert_eq!(shown.line(), "arm64");
    sandbox.rctr("system check").ok();
}
