//! ADD of archives.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;

use rctr_builder::copy::{CopyError, Remote, RemoteFile};
use rctr_builder::plan::{CopyStep, PlannedSource};
use rctr_storage::digest::Digest;
use rctr_storage::explain::Explain;
use rctr_storage::tarfile::{Entry, Kind, Time, Writer};

use crate::harness::{Place, add, link, list, step, time, write};

/// An archive of (path, kind, link target or content).
fn tar(entries: &[(&str, Kind, &str)]) -> Vec<u8> {
    let mut out = Writer::new(Vec::new());
    for (path, kind, text) in entries {
        let mut entry = Entry::new(*path, *kind, 0o4755);
        (entry.uid, entry.gid) = (12, 13);
        entry.mtime = Time {
            seconds: 1_000_000_000,
            nanos: 0,
        };
        match kind {
            Kind::File => entry.size = text.len() as u64,
            _ => entry.link = text.as_bytes().to_vec(),
        }
        out.begin(&entry).unwrap();
        if *kind == Kind::File {
            out.write_data(text.as_bytes()).unwrap();
        }
    }
    out.finish().unwrap()
}

fn put(place: &Place, name: &str, bytes: &[u8]) {
    fs::write(place.context_path().join(name), bytes).unwrap();
}

pub(crate) fn archives_of_all_compressions(place: &Place) {
    use Kind::{Directory, File, HardLink, Symlink};
    let plain = tar(&[
        ("./", Directory, ""),
        ("./app/", Directory, ""),
        ("./app/f", File, "content"),
        ("./app/h", HardLink, "./app/f"),
        ("./app/l", Symlink, "/data"),
        ("./app/fifo", Kind::Fifo, ""),
    ]);
    let want = [
        "x/ 755 0:0",
        "x/app/ 4755 12:13",
        "x/app/f 4755 12:13 \"content\"",
        "x/app/h 4755 12:13 \"content\"",
        "x/app/l -> /data 12:13",
    ];
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bzip2.write_all(&plain).unwrap();
    let mut xz =
        lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(1)).unwrap();
    xz.write_all(&plain).unwrap();
    for (name, bytes) in [
        ("a.tar", plain.clone()),
        // The name tells nothing.
        ("a.txt", gzip.finish().unwrap()),
        ("a.bz2", bzip2.finish().unwrap()),
        ("a.xz", xz.finish().unwrap()),
        ("a.zst", zstd::encode_all(&plain[..], 1).unwrap()),
    ] {
        put(place, name, &bytes);
        let upper = place.run(&add(&[name], "/x"), &[]).unwrap();
        assert_eq!(list(&upper), want, "{name}");
        assert_eq!(time(&upper.join("x/app")), 1_000_000_000);
        assert_eq!(time(&upper.join("x/app/l")), 1_000_000_000);
    }
    let owned = CopyStep {
        chown: Some("3:4".to_owned()),
        ..add(&["a.tar"], "/x")
    };
    assert_eq!(place.makes(&owned)[2], "x/app/f 4755 3:4 \"content\"");
    // COPY unpacks nothing, nor does ADD what is no archive.
    assert_eq!(
        list(&place.run(&step(&["a.tar"], "/x"), &[]).unwrap()).len(),
        1
    );
    let mut other = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    other.write_all(b"text").unwrap();
    put(place, "a.gz", &other.finish().unwrap());
    put(place, "empty.tar", &[0; 10240]);
    put(place, "short", b"BZh");
    for name in ["a.gz", "empty.tar", "short"] {
        let upper = place.run(&add(&[name], "/x"), &[]).unwrap();
        assert!(upper.join("x").is_file(), "{name}");
    }
}

pub(crate) fn broken_archives(place: &Place) {
    let plain = tar(&[
        ("a", Kind::File, &"x".repeat(100_000)),
        ("b", Kind::File, "y"),
    ]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    gzip.write_all(&plain).unwrap();
    let mut gzip = gzip.finish().unwrap();
    let cut = gzip.len() / 2;
    let mut damaged = plain.clone();
    damaged[101_000..101_400].fill(7);
    for (name, bytes) in [
        ("cut.tar", plain[..50_000].to_vec()),
        ("cut.tgz", gzip[..cut].to_vec()),
        ("damaged.tar", damaged),
    ] {
        put(place, name, &bytes);
        let error = place.run(&add(&[name], "/x"), &[]).unwrap_err();
        assert!(matches!(error, CopyError::Unpack { .. }), "{name}: {error}");
        assert_eq!(error.to_string(), format!("cannot unpack \"/{name}\""));
        assert!(error.hint().is_some());
    }
    // A wrong checksum at the very end.
    let end = gzip.len() - 6;
    gzip[end] ^= 1;
    put(place, "sum.tgz", &gzip);
    assert!(place.run(&add(&["sum.tgz"], "/x"), &[]).is_err());
}

pub(crate) fn archives_replace_what_is_in_the_way(place: &Place) {
    let bytes = tar(&[
        ("o/file", Kind::Directory, ""),
        ("o/file/in", Kind::File, "1"),
        ("o/dir", Kind::File, "2"),
        ("o/kept", Kind::Directory, ""),
        ("o/kept/new", Kind::File, "3"),
        ("o/hard", Kind::HardLink, "o/low"),
        ("o/twice", Kind::Directory, ""),
        ("o/twice/x", Kind::File, ""),
        ("o/twice", Kind::File, "4"),
    ]);
    put(place, "a.tar", &bytes);
    let base = place.new_dir();
    write(&base.join("o/file"), "old");
    write(&base.join("o/dir/x"), "old");
    write(&base.join("o/kept/old"), "old");
    write(&base.join("o/low"), "low");
    let lowers = [base];
    let upper = place.run(&add(&["a.tar"], "/"), &lowers).unwrap();
    assert_eq!(
        list(&upper),
        [
            "o/ 750 0:0",
            "o/dir 4755 12:13 \"2\"",
            "o/file/ 4755 12:13",
            "o/file/in 4755 12:13 \"1\"",
            "o/hard 4755 12:13 \"low\"",
            "o/kept/ 4755 12:13",
            "o/kept/new 4755 12:13 \"3\"",
            "o/twice 4755 12:13 \"4\"",
        ]
    );
    let opaque = fs::File::open(upper.join("o/file")).unwrap();
    let fd = std::os::fd::AsFd::as_fd(&opaque);
    assert!(rctr_runtime::sys::has_xattr(fd, c"user.overlay.opaque"));
}

pub(crate) fn archives_stay_in_their_place(place: &Place) {
    let outside = place.top.join("outside");
    fs::create_dir(&outside).unwrap();
    let target = outside.display().to_string();
    for (name, entries) in [
        ("dots.tar", vec![("../../outside/f", Kind::File, "x")]),
        (
            "hard.tar",
            vec![("h", Kind::HardLink, "../../../etc/passwd")],
        ),
    ] {
        put(place, name, &tar(&entries));
        let error = place.run(&add(&[name], "/x"), &[]).unwrap_err();
        assert!(matches!(error, CopyError::Unpack { .. }), "{name}: {error}");
    }
    put(
        place,
        "links.tar",
        &tar(&[
            ("l", Kind::Symlink, &target),
            ("l/f", Kind::File, "x"),
            ("up", Kind::Symlink, "../../../../.."),
            ("up/g", Kind::File, "x"),
        ]),
    );
    let base = place.new_dir();
    link("/etc", &base.join("x/there"));
    let upper = place.run(&add(&["links.tar"], "/x"), &[base]).unwrap();
    // The directory that is unpacked into is the root of its links.
    let made = upper
        .join("x")
        .join(target.trim_start_matches('/'))
        .join("f");
    assert_eq!(fs::metadata(made).unwrap().size(), 1);
    assert!(upper.join("x/g").is_file());
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

pub(crate) fn urls_and_repositories(place: &Place) {
    let bytes = tar(&[("f", Kind::File, "x")]);
    let path = place.top.join("fetched");
    fs::write(&path, &bytes).unwrap();
    let tree = place.top.join("checkout");
    write(&tree.join("src/main.c"), "c");
    write(&tree.join("README"), "r");
    place.remotes.borrow_mut().extend([
        Remote::File(RemoteFile {
            path,
            name: "a.tar".to_owned(),
            digest: Digest::of(&bytes),
            last_modified: Some(1_000_000_000),
        }),
        Remote::Tree(tree),
    ]);
    let mut both = add(&[], "/x/");
    both.sources = vec![
        PlannedSource::Url("http://localhost/a.tar".to_owned()),
        PlannedSource::Git("http://localhost/r.git".to_owned()),
    ];
    both.exclude = vec!["README".to_owned()];
    let upper = place.run(&both, &[]).unwrap();
    assert_eq!(
        list(&upper)[2..],
        ["x/src/ 750 0:0", "x/src/main.c 644 0:0 \"c\""]
    );
    let meta = fs::metadata(upper.join("x/a.tar")).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.mtime()), (0o600, 1_000_000_000));
    let first = place.digest(&both).unwrap();
    both.unpack_remote = true;
    assert_eq!(
        list(&place.run(&both, &[]).unwrap())[1],
        "x/f 4755 12:13 \"x\""
    );
    place.remotes.borrow_mut().swap(0, 1);
    assert_ne!(place.digest(&both).unwrap(), first);
    place.remotes.borrow_mut().pop();
    assert!(place.error(&both, &[]).contains("not fetched"));
}
