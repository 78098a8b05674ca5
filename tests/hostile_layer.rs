//! Layers by people who mean harm touch nothing outside their own directory.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::harness::{
    Sandbox,
    archive::{self, Archive},
    images,
};

/// A sandbox with a file outside the store that attackers aim at.
fn with_target() -> Sandbox {
    let sandbox = Sandbox::with_busybox();
    sandbox.file("outside/canary", "untouched");
    sandbox
}

/// Imports the layer, and loads it on top of another one; both may be refused, neither may do harm.
#[track_caller]
fn attack(sandbox: &Sandbox, layer: &[u8]) {
    let before = tree(&sandbox.work());
    let base = Archive::new()
        .dir("etc")
        .file("etc/base", 0o644, b"base")
        .bytes();
    let image = archive::docker_archive("evil:2", &[base, layer.to_vec()]);
    for (command, input) in [("import - evil:1", layer), ("load", &image)] {
        let output = sandbox.rctr(command).stdin(input).output();
        if output.code != 0 {
            assert_eq!(output.code, 1, "{output}");
            output.explains();
        }
        assert_eq!(tree(&sandbox.work()), before, "after {command}");
        assert_eq!(sandbox.read("outside/canary"), "untouched");
    }
    // Nor when the container runs on it, or is removed.
    for name in ["evil:1", "evil:2"] {
        sandbox
            .words(["run", "--rm", "--network", "none", name, "/none"])
            .output();
        sandbox.words(["rmi", "-f", name]).output();
    }
    assert_eq!(tree(&sandbox.work()), before);
    assert_eq!(sandbox.read("outside/canary"), "untouched");
    assert_eq!(sandbox.run("--rm", "echo works").ok().line(), "works");
    sandbox.assert_clean();
}

/// All paths below `dir`.
fn tree(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir)
            .into_iter()
            .flatten()
            .filter_map(Result::ok)
        {
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                todo.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

#[test]
fn dot_dot_in_names() {
    let sandbox = with_target();
    let up = "../".repeat(30);
    let outside = sandbox.work().join("outside");
    let absolute = outside.to_str().unwrap();
    for name in [
        format!("{up}{}/pwned", &absolute[1..]),
        format!("etc/{up}{}/pwned", &absolute[1..]),
        "../pwned".to_owned(),
        "../../../../work/outside/pwned".to_owned(),
        "..".to_owned(),
    ] {
        attack(
            &sandbox,
            &Archive::new().file(&name, 0o644, b"pwned").bytes(),
        );
        attack(&sandbox, &Archive::new().dir(&name).bytes());
    }
}

#[test]
fn absolute_names_stay_inside() {
    let sandbox = with_target();
    let name = sandbox.work().join("outside/canary");
    attack(
        &sandbox,
        &Archive::new()
            .file(name.to_str().unwrap(), 0o644, b"pwned")
            .bytes(),
    );
}

#[test]
fn symlinked_parents() {
    let sandbox = with_target();
    let outside = sandbox.work().join("outside");
    let outside = outside.to_str().unwrap();
    let relative = format!("{}{}", "../".repeat(30), &outside[1..]);
    for target in [
        outside,
        &relative,
        "/",
        "..",
        "/proc/self/cwd",
        "/proc/self/root",
    ] {
        let layer = Archive::new()
            .symlink("link", target)
            .file("link/pwned", 0o644, b"pwned")
            .file("link/canary", 0o644, b"pwned")
            .dir("link/dir")
            .symlink("link/second", "/")
            .hard_link("link/hard", "link/canary");
        attack(&sandbox, &layer.bytes());
    }
}

#[test]
fn symlink_of_a_lower_layer_as_parent() {
    let sandbox = with_target();
    let outside = sandbox.work().join("outside");
    let lower = Archive::new()
        .symlink("link", outside.to_str().unwrap())
        .bytes();
    let upper = Archive::new()
        .file("link/pwned", 0o644, b"pwned")
        .file("link/.wh.canary", 0o644, b"")
        .bytes();
    sandbox
        .rctr("load")
        .stdin(archive::docker_archive("evil:1", &[lower, upper]))
        .output();
    sandbox
        .rctr("run --rm --network none evil:1 /none")
        .output();
    assert_eq!(tree(&outside), [outside.join("canary")]);
    sandbox.assert_clean();
}

#[test]
fn files_written_through_a_link_to_a_file() {
    let sandbox = with_target();
    let canary = sandbox.work().join("outside/canary");
    let layer = Archive::new()
        .symlink("f", canary.to_str().unwrap())
        .file("f", 0o644, b"pwned");
    attack(&sandbox, &layer.bytes());
}

#[test]
fn hard_links_to_the_outside() {
    let sandbox = with_target();
    let canary = sandbox.work().join("outside/canary");
    let canary = canary.to_str().unwrap();
    let relative = format!("{}{}", "../".repeat(30), &canary[1..]);
    for target in [
        canary,
        &relative,
        "/etc/passwd",
        "../../../../work/outside/canary",
    ] {
        attack(
            &sandbox,
            &Archive::new()
                .hard_link("hard", target)
                .file("hard", 0o666, b"pwned")
                .bytes(),
        );
        let layer = Archive::new()
            .symlink("link", "/")
            .hard_link("hard", &format!("link/{target}"));
        attack(&sandbox, &layer.bytes());
    }
    assert_eq!(fs::metadata(canary).unwrap().nlink(), 1);
}

#[test]
fn devices_do_not_become_devices() {
    let sandbox = with_target();
    let layer = Archive::new()
        .device("mem", 1, 1)
        .device("dev/null", 1, 3)
        .bytes();
    sandbox.rctr("import - devices").stdin(layer.clone()).ok();
    for path in tree(&sandbox.store().join("layers")) {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let device =
            metadata.file_type().is_char_device() || metadata.file_type().is_block_device();
        assert!(
            !device || metadata.rdev() == 0,
            "a device node: {}",
            path.display()
        );
    }
    sandbox.rctr("rmi devices").ok();
    attack(&sandbox, &layer);
}

#[test]
fn setuid_files_are_out_of_reach_of_other_users() {
    let sandbox = with_target();
    let layer = Archive::new()
        .file("setuid", 0o6755, b"#!/bin/sh\n")
        .bytes();
    sandbox.rctr("import - evil:1").stdin(layer).ok();
    let found = tree(&sandbox.store().join("layers"))
        .into_iter()
        .find(|p| p.ends_with("setuid"))
        .unwrap();
    let closed = found
        .ancestors()
        .take_while(|p| p.starts_with(sandbox.store()))
        .any(|dir| fs::symlink_metadata(dir).unwrap().mode() & 0o077 == 0);
    assert!(closed, "everyone can reach {}", found.display());
}

#[test]
fn whiteouts_of_everything() {
    let sandbox = with_target();
    for name in [
        ".wh.",
        ".wh..",
        ".wh...",
        ".wh./",
        "etc/.wh...",
        ".wh..wh..opq",
        "/.wh..wh..opq",
        "../.wh.store",
        ".wh./etc",
        "a/.wh.../../.wh.x",
    ] {
        attack(&sandbox, &Archive::new().file(name, 0o644, b"").bytes());
    }
}

#[test]
fn overlay_attributes_are_not_taken_from_a_layer() {
    let sandbox = with_target();
    // A redirect would show another directory of the store in place of this one.
    let mut builder = tar::Builder::new(Vec::new());
    let attributes = [
        (
            "SCHILY.xattr.user.overlay.redirect",
            &b"/../../../../work/outside"[..],
        ),
        ("SCHILY.xattr.user.overlay.opaque", b"y"),
        ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
    ];
    builder.append_pax_extensions(attributes).unwrap();
    let layer = [
        strip_end(builder.into_inner().unwrap()),
        Archive::new().dir("etc").bytes(),
    ]
    .concat();
    let base = Archive::new()
        .dir("etc")
        .file("etc/base", 0o644, b"base")
        .bytes();
    let busybox = fs::read(images::busybox()).unwrap();
    sandbox
        .rctr("load")
        .stdin(archive::docker_archive(
            "evil:1",
            &[busybox, base, layer.clone()],
        ))
        .ok();
    let output = sandbox.rctr("run --rm --network none evil:1 ls /etc").ok();
    assert!(
        output.stdout.contains("base") && !output.stdout.contains("canary"),
        "{output}"
    );
    attack(&sandbox, &layer);
}

/// Without the two empty blocks at the end of a tar.
fn strip_end(mut tar: Vec<u8>) -> Vec<u8> {
    tar.truncate(tar.len() - 1024);
    tar
}

#[test]
fn hundred_thousand_nested_directories() {
    let sandbox = with_target();
    let deep = format!("{}f", "d/".repeat(100_000));
    attack(
        &sandbox,
        &Archive::new().file(&deep, 0o644, b"deep").bytes(),
    );
    let mut archive = Archive::new();
    let mut name = String::new();
    for _ in 0..1_500 {
        name.push_str("d/");
        archive = archive.dir(&name);
    }
    attack(&sandbox, &archive.bytes());
    sandbox.rctr("image prune -f").ok();
}

#[test]
fn gigabyte_of_zeros_in_a_megabyte() {
    let sandbox = with_target();
    let mut layer = Vec::new();
    {
        // Streamed: the test itself must not hold the gigabyte.
        let encoder = flate2::write::GzEncoder::new(&mut layer, flate2::Compression::best());
        let mut builder = tar::Builder::new(encoder);
        let mut header = tar::Header::new_gnu();
        header.set_path("zeros").unwrap();
        header.set_mode(0o644);
        header.set_size(1 << 30);
        header.set_cksum();
        builder
            .append(&header, std::io::Read::take(std::io::repeat(0), 1 << 30))
            .unwrap();
        builder.into_inner().unwrap().finish().unwrap();
    }
    assert!(layer.len() < 2 << 20);
    let output = sandbox.rctr("import - zeros").stdin(layer).output();
    if output.code == 0 {
        sandbox.rctr("rmi zeros").ok();
    } else {
        output.explains();
    }
    sandbox.assert_clean();
    let used: u64 = tree(sandbox.store())
        .iter()
        .map(|p| fs::symlink_metadata(p).map_or(0, |m| m.blocks() * 512))
        .sum();
    assert!(used < 20 << 20, "{used} bytes are left");
}
