mod random;
mod upper;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::*;
use crate::sys;
use crate::tarfile::{Entry, Kind, Time, Writer};
use crate::testing::{Scratch, can_give_away, has_all_ids};

fn store(scratch: &Scratch) -> Store {
    Store::open(&scratch.path("store")).unwrap()
}

fn file(path: &str, content: &[u8]) -> (Entry, Vec<u8>) {
    let mut entry = mine(Entry::new(path, Kind::File, 0o644));
    entry.size = content.len() as u64;
    (entry, content.to_vec())
}

fn other(path: &str, kind: Kind, link: &str) -> (Entry, Vec<u8>) {
    let mut entry = mine(Entry::new(path, kind, 0o755));
    entry.link = link.as_bytes().to_vec();
    (entry, Vec::new())
}

/// Owned by who runs the test, who may be nobody special.
fn mine(mut entry: Entry) -> Entry {
    entry.uid = nix::unistd::geteuid().as_raw();
    entry.gid = nix::unistd::getegid().as_raw();
    entry.mtime.seconds = 1_000_000_000;
    entry
}

fn tar(entries: &[(Entry, Vec<u8>)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (entry, content) in entries {
        writer.begin(entry).unwrap();
        writer.write_data(content).unwrap();
    }
    writer.finish().unwrap()
}

fn add(store: &Store, tar: &[u8]) -> Result<PathBuf, LayerError> {
    let blob = store.add_layer(tar, &Expected::default(), StoreAs::Verbatim)?;
    assert_eq!(blob.digest, Digest::of(tar));
    assert_eq!(fs::read(store.blob_path(&blob.digest)).unwrap(), tar);
    Ok(store.layer_dir(&blob.diff_id))
}

fn is_whiteout(path: &Path) -> bool {
    let dir = File::open(path.parent().unwrap()).unwrap();
    use std::os::fd::AsFd;
    overlay::is_whiteout(dir.as_fd(), path.file_name().unwrap()).unwrap()
}

fn is_opaque(path: &Path) -> bool {
    overlay::is_opaque(File::open(path).unwrap()).unwrap()
}

/// Nothing of a failed layer stays.
fn assert_nothing_left(store: &Store) {
    for part in ["blobs/sha256", "layers"] {
        let left: Vec<_> = fs::read_dir(store.path(part)).unwrap().collect();
        assert!(left.is_empty(), "{part}: {left:?}");
    }
    for session in fs::read_dir(store.path("tmp")).unwrap() {
        let path = session.unwrap().path();
        if path.is_dir() {
            assert_eq!(fs::read_dir(path).unwrap().count(), 0);
        }
    }
}

#[test]
fn a_layer_of_everything_is_unpacked() {
    let scratch = Scratch::new();
    let store = store(&scratch);
    let mut setuid = file("bin/su", b"#!");
    setuid.0.mode = 0o4755;
    setuid.0.mtime = Time {
        seconds: 12345,
        nanos: 678,
    };
    setuid.0.xattrs = vec![
        (b"user.note".to_vec(), b"kept".to_vec()),
        (b"user.overlay.opaque".to_vec(), b"y".to_vec()),
        (b"user.rctr.device".to_vec(), b"c:1:1".to_vec()),
    ];
    let mut device = other("dev/null", Kind::CharDevice, "");
    device.0.device = (1, 3);
    device.0.mode = 0o666;
    let mut tmp = other("tmp/", Kind::Directory, "");
    tmp.0.mode = 0o1777;
    let mut locked = other("locked/", Kind::Directory, "");
    locked.0.mode = 0o555;
    let bytes = tar(&[
        other("./", Kind::Directory, ""),
        other("bin/", Kind::Directory, ""),
        setuid,
        other("bin/sudo", Kind::HardLink, "bin/su"),
        other("bin/link", Kind::Symlink, "../../../etc/passwd"),
        device,
        other("fifo", Kind::Fifo, ""),
        tmp,
        locked,
        file("locked/in", b"x"),
    ]);
    let fs_dir = add(&store, &bytes).unwrap();
    let meta = |path: &str| fs::symlink_metadata(fs_dir.join(path)).unwrap();
    assert_eq!(meta("bin/su").mode() & 0o7777, 0o4755);
    assert_eq!(
        (meta("bin/su").mtime(), meta("bin/su").mtime_nsec()),
        (12345, 678)
    );
    assert_eq!(meta("bin/su").ino(), meta("bin/sudo").ino());
    let su = File::open(fs_dir.join("bin/su")).unwrap();
    assert_eq!(
        sys::fgetxattr(&su, c"user.note").unwrap().as_deref(),
        Some(&b"kept"[..])
    );
    assert_eq!(sys::fgetxattr(&su, c"user.overlay.opaque").unwrap(), None);
    assert_eq!(sys::fgetxattr(&su, c"user.rctr.device").unwrap(), None);
    assert_eq!(meta("bin").mtime(), 1_000_000_000);
    assert_eq!(meta("").mtime(), 1_000_000_000);
    assert_eq!(
        fs::read_link(fs_dir.join("bin/link")).unwrap(),
        Path::new("../../../etc/passwd")
    );
    let null = File::open(fs_dir.join("dev/null")).unwrap();
    assert_eq!(
        sys::fgetxattr(&null, c"user.rctr.device")
            .unwrap()
            .as_deref(),
        Some(&b"c:1:3"[..])
    );
    assert!(meta("dev/null").is_file() && meta("dev/null").mode() & 0o777 == 0o666);
    assert!(meta("fifo").file_type().is_fifo());
    assert_eq!(meta("tmp").mode() & 0o7777, 0o1777);
    assert_eq!(meta("locked").mode() & 0o7777, 0o555);
    // And back again, byte for byte but for what is below a second.
    let mut out = Vec::new();
    diff::write_tar(&fs_dir, &mut out).unwrap();
    let mut again = Vec::new();
    diff::write_tar(&fs_dir, &mut again).unwrap();
    assert_eq!(out, again);
    let second = add(&store, &out).unwrap();
    let mut third = Vec::new();
    diff::write_tar(&second, &mut third).unwrap();
    assert_eq!(out, third);
}

#[test]
fn whiteouts_become_overlays_own() {
    let scratch = Scratch::new();
    let store = store(&scratch);
    let bytes = tar(&[
        file("etc/.wh.gone", b""),
        file("etc/before", b"1"),
        file("etc/.wh..wh..opq", b""),
        file("etc/after", b"2"),
        file("etc/.wh.late", b""),
        file("var/.wh.cache", b""),
        file("var/cache/new", b"3"),
        file("var/lib/kept", b"4"),
        file("var/.wh.lib", b""),
        file("var/.wh.log", b""),
        file("var/log", b"a file again"),
        file("var/run", b"stays"),
        file("var/.wh.run", b""),
        file(".wh..wh.plnk/1.2", b"aufs"),
        file("usr/.wh.bin", b""),
    ]);
    let layer = add(&store, &bytes).unwrap();
    assert!(is_opaque(&layer.join("etc")));
    let mut names: Vec<_> = fs::read_dir(layer.join("etc"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["after", "before"]);
    assert!(is_opaque(&layer.join("var/cache")) && is_opaque(&layer.join("var/lib")));
    assert_eq!(fs::read(layer.join("var/log")).unwrap(), b"a file again");
    assert_eq!(fs::read(layer.join("var/run")).unwrap(), b"stays");
    assert!(is_whiteout(&layer.join("usr/bin")));
    assert!(!layer.join(".wh..wh.plnk").exists());
    let mut out = Vec::new();
    diff::write_tar(&layer, &mut out).unwrap();
    let text = String::from_utf8_lossy(&out);
    for mark in ["etc/.wh..wh..opq", "var/cache/.wh..wh..opq", "usr/.wh.bin"] {
        assert!(text.contains(mark), "{mark}");
    }
}

#[test]
fn an_opaque_root_hides_all_layers_below() {
    let scratch = Scratch::new();
    let store = store(&scratch);
    let bytes = tar(&[file(".wh..wh..opq", b""), file("a", b"")]);
    let blob = store
        .add_layer(&bytes[..], &Expected::default(), StoreAs::Verbatim)
        .unwrap();
    assert!(store.hides_lower(&blob.diff_id));
}

#[test]
fn later_entries_replace_earlier_ones() {
    let scratch = Scratch::new();
    let store = store(&scratch);
    let bytes = tar(&[
        file("a", b"first"),
        file("a", b"second"),
        other("b/", Kind::Directory, ""),
        file("b/x", b""),
        other("b/sub/", Kind::Directory, ""),
        file("b", b"now a file"),
        file("c", b"a file"),
        other("c/", Kind::Directory, ""),
        file("c/y", b"in it"),
        other("d", Kind::Symlink, "c"),
        other("d/", Kind::Directory, ""),
        other("e/", Kind::Directory, ""),
        other("e", Kind::Symlink, "c"),
        file("e/z", b"through the link"),
        other("a", Kind::HardLink, "a"),
    ]);
    let layer = add(&store, &bytes).unwrap();
    assert_eq!(fs::read(layer.join("a")).unwrap(), b"second");
    assert_eq!(fs::read(layer.join("b")).unwrap(), b"now a file");
    assert_eq!(fs::read(layer.join("c/y")).unwrap(), b"in it");
    assert!(fs::symlink_metadata(layer.join("d")).unwrap().is_dir());
    assert_eq!(fs::read(layer.join("c/z")).unwrap(), b"through the link");
}

/// Nothing outside of the layer is touched, whatever the tar says.
#[test]
fn hostile_names_stay_inside() {
    let scratch = Scratch::new();
    let outside = scratch.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "s").unwrap();
    let outside_text = outside.to_str().unwrap();
    let up = format!("{}{}", "../".repeat(30), &outside_text[1..]);
    let refused = |entries: &[(Entry, Vec<u8>)]| {
        let scratch = Scratch::new();
        let store = store(&scratch);
        let error = add(&store, &tar(entries)).unwrap_err();
        assert!(matches!(error, LayerError::Unpack { .. }), "{error}");
        assert_nothing_left(&store);
    };
    refused(&[file("../x", b"")]);
    refused(&[file("a/../../x", b"")]);
    refused(&[file(&format!("{up}/x"), b"")]);
    refused(&[file("", b"")]);
    refused(&[file(".", b"")]);
    refused(&[other("/", Kind::Symlink, "x")]);
    refused(&[file(".wh.", b"")]);
    refused(&[file(".wh..", b"")]);
    refused(&[file("a/.wh...", b"")]);
    refused(&[file(".wh.a/b", b"")]);
    refused(&[other("l", Kind::HardLink, &format!("{up}/secret"))]);
    refused(&[other("l", Kind::HardLink, "not/there")]);
    refused(&[other("l", Kind::HardLink, "")]);
    refused(&[file(".wh.w", b""), other("l", Kind::HardLink, "w")]);
    refused(&[other("a", Kind::Symlink, "a"), file("a/b", b"")]);
    refused(&[file("f", b""), file("f/x", b"")]);
    refused(&[file(&"n".repeat(256), b"")]);
    refused(&[file(&"d/".repeat(100_000), b"")]);
    refused(&[file(&format!("{}x", "d/".repeat(100_000)), b"")]);

    let store = store(&scratch);
    let layer = add(
        &store,
        &tar(&[
            file(&format!("{outside_text}/absolute"), b"1"),
            other("abs", Kind::Symlink, outside_text),
            file("abs/through", b"2"),
            file("abs/.wh.secret", b""),
            other("rel", Kind::Symlink, &up),
            file("rel/through2", b"3"),
            other("rel/made/", Kind::Directory, ""),
            other("dangling", Kind::Symlink, "/new/place/../dir"),
            file("dangling/in", b"4"),
            other("loop", Kind::Symlink, &format!("{outside_text}/secret")),
            other("loop2", Kind::HardLink, "loop"),
            file("loop", b"replaced, not written through"),
        ]),
    )
    .unwrap();
    let inside = layer.join(&outside_text[1..]);
    for (name, content) in [("absolute", "1"), ("through", "2"), ("through2", "3")] {
        assert_eq!(fs::read_to_string(inside.join(name)).unwrap(), content);
        assert!(!outside.join(name).exists());
    }
    assert!(is_whiteout(&inside.join("secret")));
    assert_eq!(fs::read_to_string(layer.join("new/dir/in")).unwrap(), "4");
    assert_eq!(fs::read_to_string(outside.join("secret")).unwrap(), "s");
    assert!(!outside.join("made").exists());
    assert_eq!(fs::metadata(outside.join("secret")).unwrap().nlink(), 1);
}

#[test]
fn damaged_truncated_and_foreign_bytes_leave_nothing() {
    let scratch = Scratch::new();
    let store = store(&scratch);
    let bytes = tar(&[file("a", &[1; 100_000]), file("b", &[2; 300_000])]);
    let try_add = |bytes: &[u8]| store.add_layer(bytes, &Expected::default(), StoreAs::Verbatim);
    assert!(matches!(try_add(b""), Err(LayerError::Empty)));
    for len in [
        1,
        511,
        512,
        1000,
        50_000,
        100_863,
        101_000,
        bytes.len() - 1025,
    ] {
        let error = try_add(&bytes[..len]).unwrap_err();
        assert!(matches!(error, LayerError::Unpack { .. }), "{len}: {error}");
        assert_nothing_left(&store);
    }
    assert!(matches!(
        try_add(&bytes[..bytes.len() - 1024]),
        Err(LayerError::NoEnd)
    ));
    // Between two entries.
    assert!(matches!(try_add(&bytes[..100_864]), Err(LayerError::NoEnd)));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&bytes).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::encode_all(&bytes[..], 1).unwrap();
    for packed in [&gzip, &zstd] {
        for len in [10, 40, packed.len() / 2, packed.len() - 1] {
            let error = try_add(&packed[..len]).unwrap_err();
            assert!(
                matches!(error, LayerError::Decompress { .. }),
                "{len}: {error}"
            );
            assert_nothing_left(&store);
        }
    }
    // zstd has a checksum only where its writer wanted one.
    let mut flipped = gzip.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x10;
    assert!(try_add(&flipped).is_err());
    assert_nothing_left(&store);
    let foreign = b"BZh91AY&SY".to_vec();
    for (bytes, name) in [(foreign, "bzip2"), (b"\xfd7zXZ\0\0\0".to_vec(), "xz")] {
        let error = try_add(&bytes).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
        assert!(error.hint().unwrap().contains(name));
    }
    let error = try_add(b"hello, this is no tar").unwrap_err();
    assert!(matches!(error, LayerError::Unpack { .. }));
    assert_nothing_left(&store);
}

#[test]
fn what_is_expected_is_verified() {
    let scratch = Scratch::new();
    let store = store(&scratch);
    let bytes = tar(&[file("a", b"1")]);
    let zstd = zstd::encode_all(&bytes[..], 1).unwrap();
    let wrong = Digest::of(b"wrong");
    let add = |expected: Expected| store.add_layer(&zstd[..], &expected, StoreAs::Verbatim);
    let expected = |digest, diff_id, size| Expected {
        digest,
        diff_id: Option::map(diff_id, DiffId),
        size,
    };
    assert!(matches!(
        add(expected(Some(wrong), None, None)),
        Err(LayerError::Digest { .. })
    ));
    assert!(matches!(
        add(expected(None, Some(wrong), None)),
        Err(LayerError::DiffId { .. })
    ));
    assert!(matches!(
        add(expected(None, None, Some(3))),
        Err(LayerError::Size { .. })
    ));
    assert_nothing_left(&store);
    let right = expected(
        Some(Digest::of(&zstd)),
        Some(Digest::of(&bytes)),
        Some(zstd.len() as u64),
    );
    let blob = add(right).unwrap();
    assert_eq!(
        blob.media_type,
        "application/vnd.oci.image.layer.v1.tar+zstd"
    );
    // Everything is there: the source isn't needed.
    let again = store
        .add_layer(&b""[..], &right, StoreAs::Verbatim)
        .unwrap();
    assert_eq!(again, blob);
    let plain = store
        .add_layer(&zstd[..], &right, StoreAs::Decompressed)
        .unwrap();
    assert_eq!(plain.digest, Digest::of(&bytes));
    assert_eq!(plain.size, bytes.len() as u64);
    assert_eq!(plain.media_type, MEDIA_TYPE);
    assert_eq!(fs::read(store.blob_path(&plain.digest)).unwrap(), bytes);
}

#[test]
fn gzip_of_several_members_is_one_tar() {
    let scratch = Scratch::new();
    let store = store(&scratch);
    let bytes = tar(&[file("a", &[5; 5000])]);
    let mut packed = Vec::new();
    for part in bytes.chunks(2000) {
        let mut gzip = flate2::write::GzEncoder::new(&mut packed, flate2::Compression::fast());
        gzip.write_all(part).unwrap();
        gzip.finish().unwrap();
    }
    let blob = store
        .add_layer(&packed[..], &Expected::default(), StoreAs::Verbatim)
        .unwrap();
    assert_eq!(blob.diff_id.0, Digest::of(&bytes));
    assert_eq!(blob.digest, Digest::of(&packed));
    let layer = store.layer_dir(&blob.diff_id);
    assert_eq!(fs::read(layer.join("a")).unwrap(), [5; 5000]);
}

#[test]
fn the_same_layer_may_be_added_by_many_at_once() {
    let scratch = Scratch::new();
    let store = store(&scratch);
    let bytes = tar(&[file("a", &vec![3; 1 << 20])]);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| add(&store, &bytes).unwrap());
        }
    });
    assert_eq!(fs::read_dir(store.path("layers")).unwrap().count(), 1);
}

#[test]
fn zeros_become_holes_and_content_stays() {
    let scratch = Scratch::new();
    let store = store(&scratch);
    let mut content = vec![0; 8 << 20];
    content[0] = 1;
    content[3_000_001] = 2;
    *content.last_mut().unwrap() = 3;
    let mut sparse = file("sparse", b"headtail");
    sparse.0.size = 1 << 34;
    sparse.0.sparse = Some(vec![
        crate::tarfile::Segment {
            offset: 12345,
            len: 4,
        },
        crate::tarfile::Segment {
            offset: (1 << 33) + 1,
            len: 4,
        },
    ]);
    let ends_in_zeros = file("zeros", &vec![0; 1 << 20]);
    let layer = add(
        &store,
        &tar(&[file("big", &content), sparse, ends_in_zeros]),
    )
    .unwrap();
    assert_eq!(fs::read(layer.join("big")).unwrap(), content);
    let meta = |name: &str| fs::metadata(layer.join(name)).unwrap();
    assert!(meta("big").blocks() * 512 < 1 << 20);
    assert_eq!(meta("zeros").len(), 1 << 20);
    assert!(meta("zeros").blocks() * 512 < 1 << 16);
    assert_eq!(meta("sparse").len(), 1 << 34);
    assert!(meta("sparse").blocks() * 512 < 1 << 20);
    // Back as a sparse entry, fast, and the same again.
    let mut out = Vec::new();
    diff::write_tar(&layer, &mut out).unwrap();
    assert!(out.len() < 10 << 20);
    let again = add(&store, &out).unwrap();
    use std::os::unix::fs::FileExt;
    let file = File::open(again.join("sparse")).unwrap();
    let mut four = [0; 4];
    file.read_exact_at(&mut four, 12345).unwrap();
    assert_eq!(&four, b"head");
    file.read_exact_at(&mut four, (1 << 33) + 1).unwrap();
    assert_eq!(&four, b"tail");
}

#[test]
fn owners_and_capabilities_come_back() {
    if can_give_away("owners_and_capabilities_come_back") {
        owner_comes_back(1234, 5678);
    }
}

#[test]
fn large_ids_come_back() {
    if has_all_ids("large_ids_come_back") {
        owner_comes_back(3_000_000, 4_000_000_000);
    }
}

fn owner_comes_back(uid: u32, gid: u32) {
    let scratch = Scratch::new();
    let store = store(&scratch);
    let mut ping = file("ping", b"elf");
    ping.0.uid = uid;
    ping.0.gid = gid;
    ping.0.mode = 0o6755;
    // Revision 2: in a user namespace the kernel keeps revision 3.
    let caps = [&[1, 0, 0, 2, 0, 0x20, 0, 0], &[0; 12][..]].concat();
    ping.0.xattrs = vec![(b"security.capability".to_vec(), caps)];
    let bytes = tar(&[ping]);
    let layer = add(&store, &bytes).unwrap();
    let meta = fs::metadata(layer.join("ping")).unwrap();
    assert_eq!((meta.uid(), meta.gid()), (uid, gid));
    assert_eq!(meta.mode() & 0o7777, 0o6755);
    let mut out = Vec::new();
    diff::write_tar(&layer, &mut out).unwrap();
    assert_eq!(out, bytes);
}

#[test]
fn an_owner_without_a_place_here_is_explained() {
    if nix::unistd::geteuid().is_root() {
        return;
    }
    let scratch = Scratch::new();
    let store = store(&scratch);
    let mut foreign = file("f", b"");
    foreign.0.uid += 1;
    let error = add(&store, &tar(&[foreign])).unwrap_err();
    assert!(error.hint().unwrap().contains("subordinate ids"));
    assert_nothing_left(&store);
}
