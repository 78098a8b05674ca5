//! Archives: round trips, other tools' archives, and bad ones.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::path::Path;

use rctr_storage::Store;
use rctr_storage::archive::{self, ArchiveError, Format, ImportOptions};
use rctr_storage::check::{Depth, Repair};
use rctr_storage::digest::Digest;
use rctr_storage::explain::Explain;
use rctr_storage::image::NewImage;
use rctr_storage::removal::RemoveImage;
use rctr_storage::tarfile::{Entry, Kind, Reader, Writer};
use support::{Sandbox, entries, have, image, run, tag, tar_of};

fn save(store: &Store, names: &[&str], format: Format) -> Vec<u8> {
    let mut out = Vec::new();
    archive::save(store, names, format, &mut out).unwrap();
    out
}

fn names(store: &Store, bytes: &[u8]) -> Vec<String> {
    let loaded = archive::load(store, bytes).unwrap();
    let name = |l: &archive::Loaded| {
        l.name
            .as_ref()
            .map_or(l.id.to_string(), ToString::to_string)
    };
    loaded.iter().map(name).collect()
}

fn refusal(sandbox: &Sandbox, bytes: &[u8]) -> ArchiveError {
    let error = archive::load(&sandbox.store, bytes).unwrap_err();
    assert!(sandbox.store.images().unwrap().is_empty());
    for part in ["blobs/sha256", "layers"] {
        assert!(
            entries(&sandbox.root().join(part)).is_empty(),
            "{error:?} leaves {part}"
        );
    }
    error
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn what_only_dockers_format_has_is_listed_twice_and_comes_back_the_same() {
    let one = Sandbox::new();
    let mut config = support::config("2024-05-01T10:00:00Z");
    config.config.shell = Some(vec!["/bin/sh".to_owned()]);
    one.store
        .create_image(NewImage {
            config,
            layers: vec![support::layer(&one.store, "a")],
            tags: vec![tag("app:1")],
            parent: None,
        })
        .unwrap();
    let two = Sandbox::new();
    for (format, entries) in [(Format::Docker, 2), (Format::Oci, 1)] {
        let first = save(&one.store, &["app"], format);
        let digest = one.store.find_image("app:1").unwrap().manifest.digest;
        let path = Path::new("index.json");
        let mut tar = tar::Archive::new(&first[..]);
        let index = tar.entries().unwrap().map(Result::unwrap);
        let mut index = index.filter(|entry| entry.path().unwrap() == path);
        let mut text = String::new();
        index.next().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text.matches(&digest.to_string()).count(), entries);
        assert_eq!(names(&two.store, &first), ["app:1"]);
        assert_eq!(save(&two.store, &["app"], format), first);
    }
}

fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let options = lzma_rust2::XzOptions::with_preset(1);
    let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn every_compression_is_read() {
    let one = Sandbox::new();
    image(&one.store, &["base", "a"], &["app:1"]);
    let plain = save(&one.store, &["app:1"], Format::Docker);
    let zstd = zstd::encode_all(&plain[..], 1).unwrap();
    for bytes in [gzip(&plain), bzip2(&plain), xz(&plain), zstd] {
        let two = Sandbox::new();
        assert_eq!(names(&two.store, &bytes), ["app:1"]);
        assert_eq!(save(&two.store, &["app:1"], Format::Docker), plain);
        // Cut: in the checksum, in the middle.
        for len in [bytes.len() - 2, bytes.len() / 2] {
            refusal(&Sandbox::new(), &bytes[..len]);
        }
    }
    // A root file system, and a layer within a docker archive: layers themselves can't be compressed so.
    let root = tar_of(&[("etc/passwd", b"root")]);
    let digest = Digest::of(&root);
    for bytes in [bzip2(&root), xz(&root)] {
        let two = Sandbox::new();
        let image = archive::import(&two.store, &bytes[..], ImportOptions::default()).unwrap();
        assert_eq!(image.layers[0].digest, digest);
        let config = format!(
            r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{digest}"]}}}}"#
        );
        let manifest = br#"[{"Config":"c.json","RepoTags":["x:1"],"Layers":["l.tar"]}]"#;
        let files = [
            ("c.json", config.as_bytes()),
            ("manifest.json", &manifest[..]),
            ("l.tar", &bytes),
        ];
        let three = Sandbox::new();
        assert_eq!(names(&three.store, &tar_of(&files)), ["x:1"]);
        assert_eq!(
            three.store.find_image("x:1").unwrap().layers[0].digest,
            digest
        );
    }
}

#[test]
fn save_load_save_gives_identical_bytes() {
    let one = Sandbox::new();
    image(
        &one.store,
        &["base", "a"],
        &["app:1", "app:2", "localhost:5000/app:x"],
    );
    image(&one.store, &["base", "b"], &["other"]);
    for format in [Format::Docker, Format::Oci] {
        let wanted = ["app", "other", "localhost:5000/app:x"];
        let first = save(&one.store, &wanted, format);
        let two = Sandbox::new();
        let loaded = names(&two.store, &first);
        assert_eq!(
            loaded,
            ["app:1", "app:2", "localhost:5000/app:x", "other:latest"]
        );
        assert_eq!(first, save(&two.store, &wanted, format));
        assert_eq!(
            one.store.find_image("app:1").unwrap().manifest,
            two.store.find_image("app:1").unwrap().manifest
        );
        // Once more, over what is there.
        assert_eq!(names(&two.store, &first).len(), 4);
        assert_eq!(entries(&two.root().join("layers")).len(), 3);
    }
}

#[test]
fn compressed_archives_are_read() {
    let one = Sandbox::new();
    image(&one.store, &["a"], &["app"]);
    let plain = save(&one.store, &["app"], Format::Docker);
    for bytes in [gzip(&plain), zstd::encode_all(plain.as_slice(), 1).unwrap()] {
        let two = Sandbox::new();
        assert_eq!(names(&two.store, &bytes), ["app:latest"]);
    }
}

#[test]
fn an_id_is_saved_without_a_name() {
    let one = Sandbox::new();
    let id = image(&one.store, &["a"], &["app"]).id;
    let bytes = save(&one.store, &[&id.hex()[..12]], Format::Docker);
    let two = Sandbox::new();
    assert_eq!(names(&two.store, &bytes), [id.to_string()]);
    assert!(two.store.images().unwrap()[0].tags.is_empty());
}

#[test]
fn a_loaded_tag_moves() {
    let one = Sandbox::new();
    image(&one.store, &["a"], &["app"]);
    let bytes = save(&one.store, &["app"], Format::Docker);
    let two = Sandbox::new();
    let old = image(&two.store, &["b"], &["app"]);
    names(&two.store, &bytes);
    assert_ne!(two.store.find_image("app").unwrap().id, old.id);
    assert!(two.store.find_image(&old.id.hex()).unwrap().tags.is_empty());
}

/// As docker 1.10 to 24 wrote it: `<id>/layer.tar`, a layer that is there already as a symbolic link.
fn old_docker(files: &[(&str, &[u8])], links: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (path, target) in links {
        let mut entry = Entry::new(*path, Kind::Symlink, 0o777);
        entry.link = (*target).into();
        writer.begin(&entry).unwrap();
    }
    for (path, content) in files {
        let mut entry = Entry::new(*path, Kind::File, 0o644);
        entry.size = content.len() as u64;
        writer.begin(&entry).unwrap();
        writer.write_data(content).unwrap();
    }
    writer.finish().unwrap()
}

fn old_docker_image() -> (Vec<u8>, Vec<u8>, String) {
    let layer = tar_of(&[("file", b"a")]);
    let diff_id = Digest::of(&layer);
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{}},"container":"x","rootfs":{{"type":"layers","diff_ids":["{diff_id}","{diff_id}"]}}}}"#
    );
    let hex = Digest::of(config.as_bytes()).hex();
    let manifest = format!(
        r#"[{{"Config":"{hex}.json","RepoTags":["app:1"],"Layers":["one/layer.tar","two/layer.tar"]}}]"#
    );
    (layer, config.into_bytes(), manifest)
}

#[test]
fn archives_of_old_docker_are_read() {
    let (layer, config, manifest) = old_docker_image();
    let hex = Digest::of(&config).hex();
    let config_path = format!("{hex}.json");
    let files: [(&str, &[u8]); 5] = [
        (&config_path, &config),
        ("one/VERSION", b"1.0"),
        ("one/json", b"{}"),
        ("one/layer.tar", &layer),
        ("manifest.json", manifest.as_bytes()),
    ];
    let links = [("two/layer.tar", "../one/layer.tar")];
    let sandbox = Sandbox::new();
    assert_eq!(
        names(&sandbox.store, &old_docker(&files, &links)),
        ["app:1"]
    );
    let found = sandbox.store.find_image("app:1").unwrap();
    assert_eq!((found.id.hex(), found.layers.len()), (hex, 2));
    assert_eq!(found.config.extra["container"], "x");
}

#[test]
fn bad_archives_are_refused_and_leave_nothing() {
    let (layer, config, manifest) = old_docker_image();
    let config_path = format!("{}.json", Digest::of(&config).hex());
    let sandbox = Sandbox::new();
    let two: (&str, &[u8]) = ("two/layer.tar", &layer);
    let base: [(&str, &[u8]); 3] = [
        (&config_path, &config),
        ("one/layer.tar", &layer),
        ("manifest.json", manifest.as_bytes()),
    ];
    // A file missing, a link out of the archive, a link to itself.
    let error = refusal(&sandbox, &old_docker(&base, &[]));
    assert_eq!(
        error.to_string(),
        "two/layer.tar is missing from the archive"
    );
    for target in ["../../../etc/passwd", "/etc/passwd"] {
        let error = refusal(&sandbox, &old_docker(&base, &[("two/layer.tar", target)]));
        assert!(matches!(error, ArchiveError::Missing { .. }), "{error:?}");
    }
    let error = refusal(
        &sandbox,
        &old_docker(&base, &[("two/layer.tar", "layer.tar")]),
    );
    assert!(matches!(error, ArchiveError::Link { .. }));
    // Another layer than the config wants.
    let other = tar_of(&[("file", b"b")]);
    let files = [base[0], base[1], ("two/layer.tar", &other), base[2]];
    assert!(matches!(
        refusal(&sandbox, &old_docker(&files, &[])),
        ArchiveError::DiffId { .. }
    ));
    // No tar at all as a layer.
    let files = [base[0], base[1], ("two/layer.tar", &b"no tar"[..]), base[2]];
    assert!(matches!(
        refusal(&sandbox, &old_docker(&files, &[])),
        ArchiveError::Layer { .. }
    ));
    let files = [
        base[0],
        base[1],
        ("two/layer.tar", &b"\x1f\x8bno gzip"[..]),
        base[2],
    ];
    assert!(matches!(
        refusal(&sandbox, &old_docker(&files, &[])),
        ArchiveError::Layer { .. }
    ));
    // Broken documents.
    let files = [base[0], base[1], two, ("manifest.json", &b"[{"[..])];
    assert!(matches!(
        refusal(&sandbox, &old_docker(&files, &[])),
        ArchiveError::Document { .. }
    ));
    let bad = manifest.replace("app:1", "App:1");
    let files = [base[0], base[1], two, ("manifest.json", bad.as_bytes())];
    assert!(matches!(
        refusal(&sandbox, &old_docker(&files, &[])),
        ArchiveError::Name { .. }
    ));
    let one_layer = manifest.replace(r#","two/layer.tar""#, "");
    let files = [
        base[0],
        base[1],
        two,
        ("manifest.json", one_layer.as_bytes()),
    ];
    assert!(matches!(
        refusal(&sandbox, &old_docker(&files, &[])),
        ArchiveError::Layers { .. }
    ));
    // A manifest of 17 MiB.
    let huge = vec![b' '; 17 << 20];
    let files = [base[0], base[1], two, ("manifest.json", &huge)];
    assert!(matches!(
        refusal(&sandbox, &old_docker(&files, &[])),
        ArchiveError::TooLarge { .. }
    ));
    // A root file system.
    let error = refusal(&sandbox, &tar_of(&[("etc/passwd", b"root")]));
    assert!(error.hint().unwrap().contains("rctr import"));
    let paths: Vec<String> = (0..1100).map(|n| format!("usr/bin/{n}")).collect();
    let many: Vec<(&str, &[u8])> = paths
        .iter()
        .map(|path| (path.as_str(), &b"x"[..]))
        .collect();
    assert!(matches!(
        refusal(&sandbox, &tar_of(&many)),
        ArchiveError::NoImage
    ));
    // Something else.
    assert!(matches!(refusal(&sandbox, b"hello"), ArchiveError::Tar(_)));
    assert!(matches!(
        refusal(&sandbox, b""),
        ArchiveError::Tar(_) | ArchiveError::NoImage
    ));
    for damaged in [
        &b"BZh91AY&SY"[..],
        b"\xfd7zXZ\0\0\x04....",
        b"\x1f\x8b\x08.",
    ] {
        let error = refusal(&sandbox, damaged);
        assert!(
            matches!(
                error,
                ArchiveError::Decompress { .. } | ArchiveError::Tar(_)
            ),
            "{error:?}"
        );
    }
}

#[test]
fn an_archive_cut_anywhere_is_refused() {
    let one = Sandbox::new();
    image(&one.store, &["a", "b"], &["app"]);
    let plain = save(&one.store, &["app"], Format::Docker);
    let zipped = gzip(&plain);
    let sandbox = Sandbox::new();
    // The last 1024 bytes are the end mark, which may be missing; before it the padding of `repositories`.
    for len in (0..plain.len() - 1536).step_by(1000) {
        refusal(&sandbox, &plain[..len]);
    }
    for len in (0..zipped.len() - 1).step_by(97) {
        refusal(&sandbox, &zipped[..len]);
    }
}

#[test]
fn a_flipped_bit_in_a_blob_is_found() {
    let one = Sandbox::new();
    let made = image(&one.store, &["content"], &["app"]);
    let plain = save(&one.store, &["app"], Format::Oci);
    let sandbox = Sandbox::new();
    for digest in [made.id, made.manifest.digest, made.layers[0].digest] {
        let mut reader = Reader::new(plain.as_slice());
        let mut writer = Writer::new(Vec::new());
        while let Some(entry) = reader.next_entry().unwrap() {
            writer.begin(&entry).unwrap();
            let hit = entry.path.ends_with(digest.hex().as_bytes());
            loop {
                let mut data = reader.data().unwrap().to_vec();
                if data.is_empty() {
                    break;
                }
                if hit
                    && let Some(byte) = data
                        .iter_mut()
                        .rev()
                        .find(|byte| byte.is_ascii_alphanumeric())
                {
                    *byte ^= 1;
                }
                writer.write_data(&data).unwrap();
                reader.consume(data.len());
            }
        }
        let error = refusal(&sandbox, &writer.finish().unwrap());
        assert!(
            matches!(
                error,
                ArchiveError::Digest { .. } | ArchiveError::Layer { .. }
            ),
            "{error:?}"
        );
    }
}

#[test]
fn import_makes_an_image_of_one_layer() {
    let sandbox = Sandbox::new();
    let tar = tar_of(&[("etc/hostname", b"x\n")]);
    let options = || ImportOptions {
        reference: Some(tag("base:1")),
        message: "Imported from -".to_owned(),
        created: Some("2024-05-01T10:00:00Z".to_owned()),
        ..ImportOptions::default()
    };
    let made = archive::import(&sandbox.store, tar.as_slice(), options()).unwrap();
    assert_eq!(made.config.comment.as_deref(), Some("Imported from -"));
    assert_eq!((made.config.history.len(), made.layers.len()), (1, 1));
    let again = archive::import(&sandbox.store, tar.as_slice(), options()).unwrap();
    assert_eq!(again.id, made.id);
    let other = Sandbox::new();
    let zipped = gzip(&tar);
    let from_zip = archive::import(&other.store, zipped.as_slice(), options()).unwrap();
    assert_eq!(
        from_zip.id, made.id,
        "the config doesn't depend on the compression"
    );
    let bad = Sandbox::new();
    let error = archive::import(&bad.store, &zipped[..zipped.len() / 2], options()).unwrap_err();
    assert!(matches!(error, ArchiveError::Import { .. }));
    assert!(entries(&bad.root().join("layers")).is_empty());
    assert!(entries(&bad.root().join("blobs/sha256")).is_empty());
}

fn load_file(path: &Path) -> (Sandbox, Vec<String>) {
    let sandbox = Sandbox::new();
    let bytes = fs::read(path).unwrap();
    let names = names(&sandbox.store, &bytes);
    (sandbox, names)
}

#[test]
fn skopeo_and_we_read_each_other() {
    if !have("skopeo") {
        return;
    }
    let one = Sandbox::new();
    let made = image(&one.store, &["a", "b"], &["app:1", "app:2"]);
    let file = one.dir.join("app.tar");
    for format in [Format::Docker, Format::Oci] {
        fs::write(&file, save(&one.store, &["app"], format)).unwrap();
        let mut sources = vec![format!("oci-archive:{}:app:1", file.display())];
        if format == Format::Docker {
            sources.push(format!("docker-archive:{}:app:1", file.display()));
        }
        for source in sources {
            for kind in ["docker-archive", "oci-archive"] {
                let out = one.dir.join("out.tar");
                let _ = fs::remove_file(&out);
                let target = format!("{kind}:{}:new/name:3", out.display());
                run(&["skopeo", "copy", "-q", &source, &target]);
                let (two, names) = load_file(&out);
                assert_eq!(names, ["new/name:3"]);
                let found = two.store.find_image("new/name:3").unwrap();
                let diff_ids = |i: &rctr_storage::image::Image| i.config.rootfs.diff_ids.clone();
                assert_eq!(diff_ids(&found), diff_ids(&made), "{source} {kind}");
            }
        }
    }
}

#[test]
fn podman_and_we_read_each_other() {
    if !have("podman") {
        return;
    }
    let one = Sandbox::new();
    image(&one.store, &["a", "b"], &["app:1", "app:2"]);
    image(&one.store, &["c"], &["other"]);
    let root = one.dir.join("podman");
    let root = root.to_str().unwrap();
    let podman = |args: &[&str]| {
        let flags = [
            "podman",
            "--root",
            root,
            "--runroot",
            root,
            "--storage-driver",
            "vfs",
        ];
        run(&[&flags, args].concat())
    };
    let file = one.dir.join("app.tar");
    let path = file.to_str().unwrap();
    for (names, format) in [
        (&["app:1"][..], Format::Docker),
        (&["app", "other"], Format::Docker),
        (&["app:1"], Format::Oci),
    ] {
        fs::write(&file, save(&one.store, names, format)).unwrap();
        podman(&["rmi", "-af"]);
        podman(&["load", "-q", "-i", path]);
        let list = podman(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
        let listed = |name: &str| list.lines().any(|line| line.ends_with(name));
        assert!(listed("/app:1"), "{names:?}: {list}");
        assert!(
            names.len() == 1 || listed("/app:2") && listed("/other:latest"),
            "{list}"
        );
        let full = list.lines().find(|line| line.ends_with("/app:1")).unwrap();
        // A docker archive's `app:1` is podman's `localhost/app:1`, whoever wrote it.
        let short = full.strip_prefix("docker.io/library/").unwrap_or(full);
        for kind in ["docker-archive", "oci-archive"] {
            let out = one.dir.join("out.tar");
            let _ = fs::remove_file(&out);
            podman(&[
                "save",
                "-q",
                "--format",
                kind,
                "-o",
                out.to_str().unwrap(),
                full,
            ]);
            let (two, names) = load_file(&out);
            assert!(names.contains(&short.to_owned()), "{kind}: {names:?}");
            assert_eq!(two.store.find_image(short).unwrap().layers.len(), 2);
        }
    }
}

/// Prints what the ways of an image take; RCTR_TEST_TAR names a root file system's tar. Run with `--ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
#[expect(clippy::print_stdout, reason = "a measurement")]
fn import_save_and_load_are_fast() {
    let Some(tar) = std::env::var_os("RCTR_TEST_TAR") else {
        return;
    };
    let timed = |what: &str, work: &dyn Fn()| {
        let start = std::time::Instant::now();
        work();
        println!("{what}: {:?}", start.elapsed());
    };
    for _ in 0..3 {
        let one = Sandbox::new();
        let (file, plain) = (one.dir.join("app.tar"), one.dir.join("plain"));
        fs::create_dir(&plain).unwrap();
        let tar = tar.to_str().unwrap();
        timed("tar x", &|| {
            _ = run(&["tar", "xf", tar, "-C", plain.to_str().unwrap()])
        });
        timed("sha256sum", &|| _ = run(&["sha256sum", tar]));
        let options = || ImportOptions {
            reference: Some(tag("app")),
            ..ImportOptions::default()
        };
        timed("import", &|| {
            let source = fs::File::open(tar).unwrap();
            archive::import(&one.other(), source, options()).unwrap();
        });
        timed("save", &|| {
            let out = fs::File::create(&file).unwrap();
            archive::save(&one.store, &["app"], Format::Docker, out).unwrap();
        });
        timed("load over it", &|| {
            archive::load(&one.other(), fs::File::open(&file).unwrap()).unwrap();
        });
        timed("check", &|| {
            let report = one.other().check(Repair::No, Depth::Quick).unwrap();
            assert_eq!(report.problems, []);
        });
        timed("rmi", &|| {
            _ = one
                .other()
                .remove_image("app", RemoveImage::default())
                .unwrap()
        });
        timed("load", &|| {
            archive::load(&one.other(), fs::File::open(&file).unwrap()).unwrap();
        });
    }
}
