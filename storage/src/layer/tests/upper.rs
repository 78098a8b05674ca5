//! Upper directories: as layers, and as lists of changes.

use std::ffi::OsStr;

use super::*;

fn upper(scratch: &Scratch) -> PathBuf {
    let upper = scratch.path("upper");
    fs::create_dir_all(upper.join("etc/new")).unwrap();
    fs::write(upper.join("etc/passwd"), "changed").unwrap();
    fs::write(upper.join("etc/new/file"), "new").unwrap();
    fs::hard_link(upper.join("etc/new/file"), upper.join("etc/new/second")).unwrap();
    let dir = File::open(upper.join("etc")).unwrap();
    use std::os::fd::AsFd;
    overlay::make_whiteout(dir.as_fd(), OsStr::new("shadow")).unwrap();
    overlay::set_opaque(File::open(upper.join("etc/new")).unwrap()).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(upper.join("socket")).unwrap();
    upper
}

#[test]
fn an_upper_directory_becomes_a_layer_by_copy_and_by_move() {
    let scratch = Scratch::new();
    let store = store(&scratch);
    let upper = upper(&scratch);
    let copied = store.add_upper(&upper, KeepUpper::Copy, &[]).unwrap();
    assert!(upper.exists());
    let layer = store.layer_dir(&copied.diff_id);
    assert!(is_whiteout(&layer.join("etc/shadow")) && is_opaque(&layer.join("etc/new")));
    assert!(!layer.join("socket").exists());
    let meta = |name: &str| fs::metadata(layer.join(name)).unwrap();
    assert_eq!(meta("etc/new/file").ino(), meta("etc/new/second").ino());
    assert_eq!(meta("etc/new/file").mtime_nsec(), 0);
    // Once more by moving, where the layer isn't there yet.
    let other = Store::open(&scratch.path("other")).unwrap();
    let moved = other.add_upper(&upper, KeepUpper::Move, &[]).unwrap();
    assert_eq!(moved, copied);
    assert!(!upper.exists());
    let layer = other.layer_dir(&moved.diff_id);
    assert!(is_whiteout(&layer.join("etc/shadow")));
    assert_eq!(
        fs::metadata(layer.join("etc/passwd")).unwrap().mtime_nsec(),
        0
    );
    // The moved layer gives the same tar.
    let mut out = Vec::new();
    fs::remove_file(layer.join("socket")).unwrap();
    diff::write_tar(&layer, &mut out).unwrap();
    assert_eq!(Digest::of(&out), moved.digest);
}

#[test]
fn whiteouts_of_fuse_overlayfs_are_understood() {
    let scratch = Scratch::new();
    let store = store(&scratch);
    let upper = scratch.path("upper");
    fs::create_dir_all(upper.join("dir")).unwrap();
    fs::write(upper.join(".wh.gone"), "").unwrap();
    fs::write(upper.join("dir/.wh..wh..opq"), "").unwrap();
    let blob = store.add_upper(&upper, KeepUpper::Move, &[]).unwrap();
    assert!(!upper.exists());
    let layer = store.layer_dir(&blob.diff_id);
    assert!(is_whiteout(&layer.join("gone")) && is_opaque(&layer.join("dir")));
}

#[test]
fn changes_are_listed_as_docker_lists_them() {
    let scratch = Scratch::new();
    let store = store(&scratch);
    let base = add(
        &store,
        &tar(&[
            file("etc/passwd", b""),
            file("etc/shadow", b""),
            file("etc/new/old", b""),
            file("usr/bin/x", b""),
            file("same/y", b""),
            file("twice/gone", b""),
        ]),
    )
    .unwrap();
    let middle = add(&store, &tar(&[file("twice/.wh.gone", b"")])).unwrap();
    let upper = upper(&scratch);
    let dir = |name: &str| {
        fs::create_dir(upper.join(name)).unwrap();
        File::open(upper.join(name)).unwrap()
    };
    use std::os::fd::AsFd;
    overlay::make_whiteout(dir("twice").as_fd(), OsStr::new("gone")).unwrap();
    // Copied up, but not changed.
    let same = fs::metadata(base.join("same")).unwrap();
    dir("same").set_modified(same.modified().unwrap()).unwrap();
    let mode = PermissionsExt::from_mode(same.mode());
    fs::set_permissions(upper.join("same"), mode).unwrap();
    let root = File::open(&upper).unwrap();
    overlay::make_whiteout(root.as_fd(), OsStr::new("usr")).unwrap();
    overlay::make_whiteout(root.as_fd(), OsStr::new("never-was")).unwrap();
    let lines: Vec<String> = diff::changes(&upper, &[middle, base])
        .unwrap()
        .iter()
        .map(|change| format!("{} {}", change.kind, change.path.display()))
        .collect();
    let want = [
        "C /etc",
        "C /etc/new",
        "A /etc/new/file",
        "D /etc/new/old",
        "A /etc/new/second",
        "C /etc/passwd",
        "D /etc/shadow",
        "A /socket",
        "C /twice",
        "D /usr",
    ];
    assert_eq!(lines, want);
}
