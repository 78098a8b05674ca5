use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant, UNIX_EPOCH};

use nix::fcntl::openat;
use nix::sys::stat::{Mode, mkdirat};

use super::*;
use crate::sys;
use crate::tarfile::{Entry, Kind, Reader, Writer};
use crate::testing::{Scratch, can_give_away};

fn packed(root: &Path, path: &str, options: &PackOptions) -> Result<Vec<u8>, TreeError> {
    let mut out = Vec::new();
    pack(root, path, options, &mut out).map(|()| out)
}

fn names(tar: &[u8]) -> Vec<String> {
    let mut reader = Reader::new(tar);
    let mut names = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        names.push(String::from_utf8_lossy(&entry.path).into_owned());
    }
    names
}

fn named(name: &str) -> PackOptions {
    PackOptions {
        name: name.to_owned(),
        ..PackOptions::default()
    }
}

fn sample(root: &Path) {
    fs::create_dir_all(root.join("etc/sub")).unwrap();
    fs::write(root.join("etc/passwd"), "root").unwrap();
    fs::hard_link(root.join("etc/passwd"), root.join("etc/sub/again")).unwrap();
    symlink("/etc/sub", root.join("link")).unwrap();
    symlink("../../../../etc", root.join("up")).unwrap();
    symlink("link", root.join("etc/self")).unwrap();
    fs::write(root.join("a"), "a").unwrap();
    let old = UNIX_EPOCH + Duration::new(1_000_000, 999);
    for path in ["etc/sub", "etc", "a"] {
        File::open(root.join(path))
            .unwrap()
            .set_modified(old)
            .unwrap();
    }
}

#[test]
fn export_has_everything_but_the_root() {
    let scratch = Scratch::new();
    let root = scratch.path("root");
    sample(&root);
    let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    let tar = packed(&root, "/", &PackOptions::default()).unwrap();
    let want = [
        "a",
        "etc/",
        "etc/passwd",
        "etc/self",
        "etc/sub/",
        "etc/sub/again",
        "link",
        "up",
    ];
    assert_eq!(names(&tar), want);
    assert_eq!(packed(&root, ".", &PackOptions::default()).unwrap(), tar);
}

#[test]
fn a_part_is_packed_under_the_wanted_name() {
    let scratch = Scratch::new();
    let root = scratch.path("root");
    sample(&root);
    let list =
        |path: &str, options: &PackOptions| packed(&root, path, options).map(|tar| names(&tar));
    assert_eq!(
        list("/etc/sub", &named("new")).unwrap(),
        ["new/", "new/again"]
    );
    assert_eq!(list("/etc/sub/.", &named("")).unwrap(), ["again"]);
    assert_eq!(list("etc/passwd", &named("")).unwrap(), ["passwd"]);
    assert_eq!(list("etc/passwd", &named("x")).unwrap(), ["x"]);
    // Links lead where they lead in the tree, and only at the end when asked.
    assert_eq!(list("link/again", &named("x")).unwrap(), ["x"]);
    assert_eq!(list("up/passwd", &named("x")).unwrap(), ["x"]);
    let tar = packed(&root, "link", &named("x")).unwrap();
    let entry = Reader::new(&tar[..]).next_entry().unwrap().unwrap();
    assert_eq!(
        (entry.kind, &entry.link[..]),
        (Kind::Symlink, &b"/etc/sub"[..])
    );
    let follow = PackOptions {
        follow: Follow::Yes,
        ..named("x")
    };
    assert_eq!(list("link", &follow).unwrap(), ["x/", "x/again"]);
    assert_eq!(list("link/", &named("x")).unwrap(), ["x/", "x/again"]);
    for path in [
        "nothing",
        "etc/passwd/",
        "etc/self/x",
        "../../../etc/hostname",
    ] {
        assert!(list(path, &named("x")).is_err(), "{path}");
    }
}

#[test]
fn what_is_packed_unpacks_to_the_same() {
    let scratch = Scratch::new();
    let (root, to) = (scratch.path("root"), scratch.path("to"));
    sample(&root);
    fs::create_dir(&to).unwrap();
    let tar = packed(&root, "/", &PackOptions::default()).unwrap();
    unpack(&to, "some/where", &mut &tar[..], &UnpackOptions::default()).unwrap();
    assert_eq!(
        packed(&to, "some/where/.", &PackOptions::default()).unwrap(),
        tar
    );
    // Once more over what is there.
    unpack(&to, "some/where", &mut &tar[..], &UnpackOptions::default()).unwrap();
    assert_eq!(
        packed(&to, "some/where/.", &PackOptions::default()).unwrap(),
        tar
    );
}

fn tar_of(entries: &[(&str, Kind, &str)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (path, kind, text) in entries {
        let mut entry = Entry::new(*path, *kind, 0o755);
        entry.uid = nix::unistd::geteuid().as_raw();
        entry.gid = nix::unistd::getegid().as_raw();
        match kind {
            Kind::File => entry.size = text.len() as u64,
            _ => entry.link = text.as_bytes().to_vec(),
        }
        writer.begin(&entry).unwrap();
        if *kind == Kind::File {
            writer.write_data(text.as_bytes()).unwrap();
        }
    }
    writer.finish().unwrap()
}

#[test]
fn unpacking_never_overwrites_a_directory_with_something_else() {
    let scratch = Scratch::new();
    let root = scratch.path("root");
    sample(&root);
    let into = |entries| {
        let tar = tar_of(entries);
        unpack(&root, "/", &mut &tar[..], &UnpackOptions::default())
    };
    let error = into(&[("etc", Kind::File, "x")]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot overwrite directory etc with non-directory"
    );
    let error = into(&[("a/", Kind::Directory, "")]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot overwrite non-directory a with directory"
    );
    into(&[("a", Kind::File, "new"), ("etc/", Kind::Directory, "")]).unwrap();
    assert_eq!(fs::read(root.join("a")).unwrap(), b"new");
    assert_eq!(fs::read(root.join("etc/passwd")).unwrap(), b"root");
    // Names that only layers know mean nothing here.
    into(&[(".wh.a", Kind::File, "")]).unwrap();
    assert!(root.join(".wh.a").exists() && root.join("a").exists());
}

#[test]
fn unpacking_stays_in_the_tree() {
    let scratch = Scratch::new();
    let outside = scratch.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "s").unwrap();
    let root = scratch.path("root");
    fs::create_dir_all(root.join("dir")).unwrap();
    let far = outside.to_str().unwrap();
    symlink(far, root.join("abs")).unwrap();
    symlink("../../../outside", root.join("rel")).unwrap();
    let into = |dir: &str, entries: &[(&str, Kind, &str)]| {
        let tar = tar_of(entries);
        unpack(&root, dir, &mut &tar[..], &UnpackOptions::default())
    };
    assert!(into("dir", &[("../../x", Kind::File, "")]).is_err());
    assert!(into("dir", &[("../x", Kind::File, "")]).is_err());
    assert!(into("dir", &[("l", Kind::HardLink, "../a")]).is_err());
    let secret = format!("{far}/secret");
    assert!(into("/", &[("l", Kind::HardLink, &secret)]).is_err());
    into("abs", &[("one", Kind::File, "1")]).unwrap();
    into("/", &[("rel/two", Kind::File, "2")]).unwrap();
    assert_eq!(fs::read(root.join(&far[1..]).join("one")).unwrap(), b"1");
    assert_eq!(fs::read(root.join("outside/two")).unwrap(), b"2");
    let left: Vec<_> = fs::read_dir(&outside)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(left, ["secret"]);
}

#[test]
fn unpacking_gives_everything_to_the_wanted_owner() {
    if !can_give_away("unpacking_gives_everything_to_the_wanted_owner") {
        return;
    }
    let scratch = Scratch::new();
    let root = scratch.path("root");
    fs::create_dir(&root).unwrap();
    let tar = tar_of(&[
        ("d/", Kind::Directory, ""),
        ("d/f", Kind::File, "x"),
        ("d/l", Kind::Symlink, "f"),
        ("d/p", Kind::Fifo, ""),
    ]);
    let options = UnpackOptions {
        owner: Some((1234, 5678)),
    };
    unpack(&root, "/", &mut &tar[..], &options).unwrap();
    for name in ["d", "d/f", "d/l", "d/p"] {
        let meta = fs::symlink_metadata(root.join(name)).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (1234, 5678), "{name}");
    }
    let mode = fs::symlink_metadata(root.join("d/p")).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o755);
}

#[test]
fn copying_keeps_everything() {
    let scratch = Scratch::new();
    let (root, to) = (scratch.path("root"), scratch.path("to"));
    sample(&root);
    let sparse = File::create(root.join("sparse")).unwrap();
    sparse.set_len(1 << 30).unwrap();
    sparse.write_all_at(b"middle", 1 << 29).unwrap();
    sys::fsetxattr(&sparse, c"user.note", b"kept").unwrap();
    fs::set_permissions(root.join("a"), fs::Permissions::from_mode(0o4751)).unwrap();
    nix::unistd::mkfifo(&root.join("fifo"), Mode::from_bits_truncate(0o600)).unwrap();
    fs::set_permissions(&root, fs::Permissions::from_mode(0o1770)).unwrap();
    fs::create_dir(&to).unwrap();
    copy_up(&root, &to).unwrap();
    let meta = |path: &str| fs::symlink_metadata(to.join(path)).unwrap();
    assert_eq!(meta("").mode() & 0o7777, 0o1770);
    assert_eq!(meta("a").mode() & 0o7777, 0o4751);
    assert_eq!(
        (meta("a").mtime(), meta("a").mtime_nsec()),
        (1_000_000, 999)
    );
    assert_eq!(
        (meta("etc").mtime(), meta("etc").mtime_nsec()),
        (1_000_000, 999)
    );
    assert_eq!(meta("etc/passwd").ino(), meta("etc/sub/again").ino());
    assert!(meta("fifo").file_type().is_fifo());
    assert_eq!(meta("sparse").len(), 1 << 30);
    assert!(meta("sparse").blocks() < 1000);
    let copy = File::open(to.join("sparse")).unwrap();
    let mut six = [0; 6];
    copy.read_exact_at(&mut six, 1 << 29).unwrap();
    assert_eq!(&six, b"middle");
    assert_eq!(
        sys::fgetxattr(&copy, c"user.note").unwrap().as_deref(),
        Some(&b"kept"[..])
    );
    assert_eq!(size(&root).unwrap(), size(&to).unwrap());
    let links = ["/etc/sub", "../../../../etc", "link"];
    let links: u64 = links.iter().map(|link| link.len() as u64).sum();
    assert_eq!(size(&to).unwrap(), (1 << 30) + 4 + 1 + links);
}

#[test]
fn a_marked_file_is_a_device_in_a_tar() {
    let scratch = Scratch::new();
    let root = scratch.path("root");
    fs::create_dir(&root).unwrap();
    let file = File::create(root.join("null")).unwrap();
    sys::fsetxattr(&file, c"user.rctr.device", b"c:1:3").unwrap();
    // Not empty: no device.
    fs::write(root.join("odd"), "content").unwrap();
    let odd = File::open(root.join("odd")).unwrap();
    sys::fsetxattr(&odd, c"user.rctr.device", b"c:1:3").unwrap();
    let tar = packed(&root, "/", &PackOptions::default()).unwrap();
    let mut reader = Reader::new(&tar[..]);
    let entry = reader.next_entry().unwrap().unwrap();
    assert_eq!((entry.kind, entry.device), (Kind::CharDevice, (1, 3)));
    assert_eq!(reader.next_entry().unwrap().unwrap().kind, Kind::File);
    let tar = packed(&root, "null", &PackOptions::default()).unwrap();
    let entry = Reader::new(&tar[..]).next_entry().unwrap().unwrap();
    assert_eq!(entry.kind, Kind::CharDevice);
}

/// Directories in each other, made without their paths, which would be too long.
fn make_deep(top: &Path, depth: usize) {
    fs::create_dir_all(top).unwrap();
    let mut here: OwnedFd = open_root(top).unwrap();
    for _ in 0..depth {
        mkdirat(&here, "d", Mode::S_IRWXU).unwrap();
        here = openat(&here, "d", walk::DIRECTORY, Mode::empty()).unwrap();
    }
}

#[test]
fn a_hundred_thousand_directories_deep() {
    // On a disk with a journal, making and deleting a directory takes 1 ms: what is tested is ours, not that.
    let Some(scratch) = Scratch::in_memory("a_hundred_thousand_directories_deep") else {
        return;
    };
    let top = scratch.path("deep");
    make_deep(&top, 100_000);
    let start = Instant::now();
    assert_eq!(size(&top).unwrap(), 0);
    let error = packed(&top, "/", &PackOptions::default()).unwrap_err();
    assert!(matches!(error, TreeError::BadPath { .. }), "{error}");
    remove_tree(&top).unwrap();
    assert!(!top.exists());
    assert!(start.elapsed() < Duration::from_secs(60));
}

#[test]
fn removing_needs_no_modes_and_follows_nothing() {
    let scratch = Scratch::new();
    let outside = scratch.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("kept"), "").unwrap();
    let top = scratch.path("top");
    for at in 0..200 {
        fs::create_dir_all(top.join(format!("a/b{at}/c"))).unwrap();
        fs::write(top.join(format!("a/b{at}/c/file")), "").unwrap();
    }
    symlink(&outside, top.join("a/link")).unwrap();
    for path in ["a/b1/c", "a/b1", "a", ""] {
        let none = fs::Permissions::from_mode(0o000);
        fs::set_permissions(top.join(path), none).unwrap();
    }
    remove_tree(&top).unwrap();
    assert!(!top.exists() && outside.join("kept").exists());
    remove_tree(&top).unwrap();
    symlink(&outside, &top).unwrap();
    remove_tree(&top).unwrap();
    assert!(outside.join("kept").exists() && fs::symlink_metadata(&top).is_err());
}

#[test]
fn a_wide_and_deep_tree_is_walked_in_order() {
    let scratch = Scratch::new();
    let root = scratch.path("root");
    // Deeper than the directories that are kept open, with names on both sides of the way down.
    let mut path = root.clone();
    for _ in 0..150 {
        path.push("m");
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("a"), "").unwrap();
        fs::write(path.join("z"), "").unwrap();
    }
    let tar = packed(&root, "/", &PackOptions::default()).unwrap();
    let names = names(&tar);
    assert_eq!(names.len(), 450);
    let mut sorted = names.clone();
    sorted.sort_by(|a, b| a.split('/').cmp(b.split('/')));
    assert_eq!(names, sorted);
}
