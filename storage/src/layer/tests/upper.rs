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

/// Large ones are packed with threads, small ones without: the tar is the same.
#[test]
fn a_large_upper_directory_becomes_the_same_layer_by_copy_and_by_move() {
    for files in [63, 64, 65, 200] {
        let scratch = Scratch::new();
        let store = store(&scratch);
        let upper = scratch.path("upper");
        fs::create_dir_all(upper.join("dir")).unwrap();
        for number in 1..files {
            fs::write(upper.join(format!("dir/{number}")), vec![b'x'; number * 10]).unwrap();
        }
        let copied = store.add_upper(&upper, KeepUpper::Copy, &[]).unwrap();
        let other = Store::open(&scratch.path("other")).unwrap();
        let moved = other.add_upper(&upper, KeepUpper::Move, &[]).unwrap();
        assert_eq!(moved, copied, "{files}");
        let blob = fs::read(other.blob_path(&moved.digest)).unwrap();
        assert_eq!(Digest::of(&blob), moved.digest, "{files}");
    }
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

/// The paths of a tar, which has none twice, however they are written.
fn paths(tar: &[u8]) -> Vec<String> {
    let mut reader = crate::tarfile::Reader::new(tar);
    let mut paths = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        let path = String::from_utf8(entry.path).unwrap();
        let path = path.trim_start_matches("./").trim_end_matches('/');
        assert!(!paths.iter().any(|p| p == path), "{path} is there twice");
        paths.push(path.to_owned());
    }
    paths
}

#[test]
fn no_path_is_twice_in_a_layer_though_a_whiteout_is_told_twice() {
    use std::os::fd::AsFd;
    let scratch = Scratch::new();
    let upper = scratch.path("upper");
    let place = |name: &str| upper.join(name);
    let whiteout = |dir: &str, name: &str| {
        let dir = File::open(place(dir)).unwrap();
        overlay::make_whiteout(dir.as_fd(), OsStr::new(name)).unwrap();
    };
    for dir in ["fuse", "native", "native/in", "named", "twice/.wh.dir"] {
        fs::create_dir_all(place(dir)).unwrap();
    }
    // As fuse-overlayfs 1.10 replaces a directory.
    let fuse = File::open(place("fuse")).unwrap();
    sys::fsetxattr(&fuse, c"user.fuseoverlayfs.opaque", b"y").unwrap();
    fs::write(place("fuse/.wh..wh..opq"), "").unwrap();
    whiteout("fuse", ".wh..opq");
    fs::write(place("fuse/.wh.gone"), "").unwrap();
    fs::write(place("fuse/kept"), "").unwrap();
    // The kernel's form, and beside it what a program in the container wrote.
    overlay::set_opaque(File::open(place("native")).unwrap()).unwrap();
    fs::write(place("native/.wh..wh..opq"), "").unwrap();
    fs::write(place("named/.wh..wh..opq"), "").unwrap();
    for name in ["device", "dir", "file"] {
        whiteout("twice", name);
    }
    fs::write(place("twice/.wh.file"), "").unwrap();
    fs::write(place("twice/first"), "").unwrap();
    fs::hard_link(place("twice/first"), place("twice/second")).unwrap();
    // Gone and here again.
    fs::write(place("twice/.wh.new"), "").unwrap();
    fs::write(place("twice/new"), "").unwrap();
    let long = "n".repeat(255);
    whiteout("twice", &long);
    // The root too.
    overlay::set_opaque(File::open(&upper).unwrap()).unwrap();
    fs::write(place(".wh..wh..opq"), "").unwrap();

    let mut tar = Vec::new();
    diff::write_tar(&upper, &mut tar).unwrap();
    let want = [
        ".wh..wh..opq",
        "fuse",
        "fuse/.wh..wh..opq",
        "fuse/kept",
        "named",
        "named/.wh..wh..opq",
        "native",
        "native/.wh..wh..opq",
        "native/in",
        "twice",
        "twice/.wh.dir",
        "twice/.wh.file",
        "twice/.wh.new",
        "twice/.wh.device",
        "twice/first",
        "twice/new",
        &format!("twice/.wh.{long}"),
        "twice/second",
    ];
    assert_eq!(paths(&tar), want);
    for keep in [KeepUpper::Copy, KeepUpper::Move] {
        let blob = store(&scratch).add_upper(&upper, keep, &[]).unwrap();
        assert_eq!(blob.digest, Digest::of(&tar));
    }
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
