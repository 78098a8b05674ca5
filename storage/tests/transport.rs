//! Layouts, archives and directories as places: skopeo reads what we write and the reverse, and bad ones are refused.

mod support;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rctr_storage::Store;
use rctr_storage::archive::{self, Format};
use rctr_storage::digest::Digest;
use rctr_storage::manifest::{DOCKER_MANIFEST, Descriptor, Document, Index, OCI_INDEX, Platform};
use rctr_storage::transfer::{BlobContent, PlaceError, Put, RawManifest, Source, Target};
use rctr_storage::transport::{Opened, Place, TransportError};
use support::{Sandbox, have, image, run};

/// The bytes of a blob.
struct Bytes(Vec<u8>);

impl BlobContent for Bytes {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn open(&self, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        let rest = self.0[usize::try_from(offset).unwrap()..].to_vec();
        Ok(Box::new(io::Cursor::new(rest)))
    }
}

fn place(text: &str) -> Place {
    Place::parse(text).unwrap()
}

impl Sandbox {
    fn at(&self, text: &str) -> Place {
        let (transport, rest) = text.split_once(':').unwrap();
        place(&format!("{transport}:{}/{rest}", self.dir.display()))
    }

    fn open(&self, text: &str) -> Opened {
        self.at(text).open_source(&self.dir).unwrap().unwrap()
    }

    fn refusal(&self, text: &str) -> TransportError {
        let opened = self.at(text).open_source(&self.dir);
        opened.err().unwrap_or_else(|| panic!("{text} is opened"))
    }

    fn target(&self, text: &str) -> Box<dyn Target> {
        self.at(text).open_target().unwrap().unwrap()
    }

    fn saved(&self, names: &[&str], format: Format, file: &str) {
        let out = File::create(self.dir.join(file)).unwrap();
        archive::save(&self.store, names, format, out).unwrap();
    }

    /// An image saved by us, for skopeo to carry on.
    fn image(&self) -> Digest {
        let made = image(&self.store, &["base", "top"], &["app:1", "app:2"]);
        self.saved(&["app:1"], Format::Docker, "saved.tar");
        made.id
    }
}

fn read(source: &dyn Source, blob: &Descriptor) -> Result<Vec<u8>, PlaceError> {
    let stream = source.blob(blob, 0)?;
    assert_eq!(stream.offset, 0);
    let mut bytes = Vec::new();
    stream.bytes.take(1 << 20).read_to_end(&mut bytes).unwrap();
    Ok(bytes)
}

/// All of an image: its documents and blobs, each verified.
fn everything(source: &dyn Source) -> BTreeMap<Digest, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut manifests = vec![source.manifest(None).unwrap()];
    while let Some(manifest) = manifests.pop() {
        assert_eq!(Digest::of(&manifest.bytes), manifest.digest);
        match Document::parse(&manifest.bytes).unwrap() {
            Document::Index(index) => {
                let inner = index.manifests.iter();
                manifests.extend(inner.map(|d| source.manifest(Some(&d.digest)).unwrap()));
            }
            Document::Manifest(inner) => {
                for blob in inner.layers.iter().chain([&inner.config]) {
                    let bytes = read(source, blob).unwrap();
                    assert_eq!(Digest::of(&bytes), blob.digest);
                    all.insert(blob.digest, bytes);
                }
            }
        }
        all.insert(manifest.digest, manifest.bytes);
    }
    all
}

fn put(target: &dyn Target, bytes: &[u8]) -> Result<Put, PlaceError> {
    let blob = Descriptor::new("", Digest::of(bytes), bytes.len() as u64);
    target.put_blob(&blob, &Bytes(bytes.to_vec()), &[], &|_| {})
}

fn copy(source: &dyn Source, target: &dyn Target) {
    let top = source.manifest(None).unwrap();
    let documents = |manifest: &RawManifest| match Document::parse(&manifest.bytes).unwrap() {
        Document::Index(index) => index.manifests.iter().map(|d| d.digest).collect(),
        Document::Manifest(_) => Vec::new(),
    };
    let inner = documents(&top);
    for (digest, bytes) in everything(source) {
        if digest != top.digest && !inner.contains(&digest) {
            put(target, &bytes).unwrap();
        }
    }
    for digest in inner {
        let manifest = source.manifest(Some(&digest)).unwrap();
        target.put_manifest(&manifest, false).unwrap();
    }
    target.put_manifest(&top, true).unwrap();
    target.finish().unwrap();
}

const PLACES: &[&str] = &[
    "oci:layout:app:1",
    "oci-archive:oci.tar:app:1",
    "docker-archive:docker.tar:app:1",
    "dir:dir",
];

#[test]
fn skopeo_reads_what_we_write() {
    if !have("skopeo") {
        return;
    }
    let one = Sandbox::new();
    let id = one.image();
    let source = one.open("docker-archive:saved.tar").source;
    let manifest = source.manifest(None).unwrap().digest;
    assert_eq!(
        manifest,
        one.store.find_image("app:1").unwrap().manifest.digest
    );
    for text in PLACES {
        copy(&*source, &*one.target(text));
        let shown = one.at(text).to_string();
        let raw = run(&["skopeo", "inspect", "--raw", &shown]);
        if !text.starts_with("docker-archive") {
            assert_eq!(Digest::of(raw.as_bytes()), manifest, "{text}");
        }
        assert!(raw.contains(&id.hex()), "{text}: {raw}");
        let out = one.dir.join("copied");
        let to = format!("dir:{}", out.display());
        run(&["skopeo", "--insecure-policy", "copy", "-q", &shown, &to]);
        assert!(out.join(id.hex()).is_file(), "{text}");
        fs::remove_dir_all(out).unwrap();
        // And so do we.
        let again = one.open(text).source;
        assert_eq!(everything(&*again), everything(&*source), "{text}");
    }
}

#[test]
fn what_skopeo_writes_is_read() {
    if !have("skopeo") {
        return;
    }
    let one = Sandbox::new();
    let id = one.image();
    let from = one.at("docker-archive:saved.tar").to_string();
    for text in PLACES {
        let shown = one.at(text).to_string();
        run(&["skopeo", "--insecure-policy", "copy", "-q", &from, &shown]);
        let opened = one.open(text);
        let all = everything(&*opened.source);
        let raw = run(&["skopeo", "inspect", "--raw", &shown]);
        let top = opened.source.manifest(None).unwrap();
        if text.starts_with("docker-archive") {
            // It has no manifest: what we make of it is what `load` makes.
            assert_eq!(
                top.digest,
                one.store.find_image("app:1").unwrap().manifest.digest
            );
        } else {
            assert_eq!(top.digest, Digest::of(raw.as_bytes()), "{text}");
        }
        // skopeo makes another config for an OCI layout.
        if !text.starts_with("oci") {
            assert!(all.contains_key(&id), "{text}");
        }
        let names: Vec<_> = opened.names.iter().map(ToString::to_string).collect();
        let wanted: &[&str] = if text.starts_with("dir") {
            &[]
        } else {
            &["app:1"]
        };
        assert_eq!(names, wanted, "{text}");
    }
}

#[test]
fn an_index_travels_whole() {
    let one = Sandbox::new();
    let mut index = Index::default();
    let target = one.target("oci:layout:all");
    for (content, architecture) in [("a", "amd64"), ("b", "arm64")] {
        let image = image(&one.store, &[content], &["part"]);
        one.saved(&["part"], Format::Oci, "part.tar");
        let source = one.open("oci-archive:part.tar:part:latest").source;
        let manifest = source.manifest(None).unwrap();
        for (digest, bytes) in everything(&*source) {
            if digest != manifest.digest {
                put(&*target, &bytes).unwrap();
            }
        }
        target.put_manifest(&manifest, false).unwrap();
        index.manifests.push(Descriptor {
            platform: Some(Platform {
                architecture: architecture.to_owned(),
                os: "linux".to_owned(),
                ..Platform::default()
            }),
            ..image.manifest
        });
    }
    let bytes = serde_json::to_vec(&index).unwrap();
    let index = RawManifest {
        digest: Digest::of(&bytes),
        media_type: OCI_INDEX.to_owned(),
        bytes,
    };
    target.put_manifest(&index, true).unwrap();
    target.finish().unwrap();
    let source = one.open("oci:layout").source;
    assert_eq!(source.manifest(None).unwrap(), index);
    for text in ["oci-archive:all.tar", "dir:all"] {
        copy(&*source, &*one.target(text));
        assert_eq!(everything(&*one.open(text).source), everything(&*source));
        if have("skopeo") {
            let to = format!("dir:{}/copied", one.dir.display());
            let from = one.at(text).to_string();
            run(&[
                "skopeo",
                "--insecure-policy",
                "copy",
                "-q",
                "--all",
                &from,
                &to,
            ]);
            assert_eq!(
                everything(&*one.open("dir:copied").source),
                everything(&*source)
            );
        }
    }
    let docker = one.target("docker-archive:all.tar2");
    let error = docker.put_manifest(&index, true).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a docker archive holds no image of several platforms"
    );
    drop(docker);
    assert!(!one.dir.join("all.tar2").exists());
}

#[test]
fn images_are_chosen_by_name_and_number() {
    let one = Sandbox::new();
    let app = image(&one.store, &["a"], &["app:1", "localhost:5000/app:2"]);
    let other = image(&one.store, &["b"], &["other"]);
    one.saved(
        &["app:1", "localhost:5000/app:2", "other"],
        Format::Docker,
        "all.tar",
    );
    for transport in ["docker-archive", "oci-archive"] {
        let id = |name: &str| {
            let source = one.open(&format!("{transport}:all.tar:{name}")).source;
            let Document::Manifest(manifest) =
                Document::parse(&source.manifest(None).unwrap().bytes).unwrap()
            else {
                panic!("an index");
            };
            manifest.config.digest
        };
        for (name, want) in [
            ("app:1", app.id),
            ("docker.io/library/app:1", app.id),
            ("localhost:5000/app:2", app.id),
            ("other:latest", other.id),
            ("other", other.id),
            ("@0", app.id),
        ] {
            assert_eq!(id(name), want, "{transport} {name}");
        }
        let error = one.refusal(&format!("{transport}:all.tar"));
        assert!(
            matches!(error, TransportError::WhichImage { .. }),
            "{error}"
        );
        for name in ["none:1", "@9"] {
            let error = one.refusal(&format!("{transport}:all.tar:{name}"));
            assert!(matches!(error, TransportError::NoImage { .. }), "{error}");
        }
    }
    let names = one.open("docker-archive:all.tar:app:1").names;
    assert_eq!(names.len(), 2);
}

#[test]
fn compressed_archives_and_pipes_are_read() {
    let one = Sandbox::new();
    one.image();
    let bytes = fs::read(one.dir.join("saved.tar")).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&bytes).unwrap();
    fs::write(one.dir.join("saved.tar.gz"), gzip.finish().unwrap()).unwrap();
    let zstd = zstd::encode_all(&bytes[..], 1).unwrap();
    fs::write(one.dir.join("saved.tar.zst"), zstd).unwrap();
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bzip2.write_all(&bytes).unwrap();
    fs::write(one.dir.join("saved.tar.bz2"), bzip2.finish().unwrap()).unwrap();
    let wanted = everything(&*one.open("docker-archive:saved.tar").source);
    for file in ["saved.tar.gz", "saved.tar.zst", "saved.tar.bz2"] {
        let source = one.open(&format!("docker-archive:{file}")).source;
        assert_eq!(everything(&*source), wanted);
    }
    let fifo = one.dir.join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let writer = std::thread::spawn(move || fs::write(fifo, bytes).unwrap());
    let source = one.open("oci-archive:fifo").source;
    writer.join().unwrap();
    assert_eq!(everything(&*source), wanted);
    // Nothing is left of it.
    assert!(
        support::entries(&one.dir)
            .iter()
            .all(|name| !name.starts_with("spool"))
    );
}

#[test]
fn links_in_a_layout_dont_lead_out_of_it() {
    let one = Sandbox::new();
    one.image();
    copy(
        &*one.open("docker-archive:saved.tar").source,
        &*one.target("oci:layout"),
    );
    let layout = one.dir.join("layout");
    let source = one.open("oci:layout").source;
    let manifest = source.manifest(None).unwrap();
    let blob = layout.join("blobs/sha256").join(manifest.digest.hex());
    // Within the layout a link is as good as a file.
    fs::rename(&blob, layout.join("elsewhere")).unwrap();
    symlink("../../elsewhere", &blob).unwrap();
    assert_eq!(source.manifest(None).unwrap(), manifest);
    fs::rename(layout.join("elsewhere"), one.dir.join("outside")).unwrap();
    for target in [
        "../../../outside",
        one.dir.join("outside").to_str().unwrap(),
    ] {
        fs::remove_file(&blob).unwrap();
        symlink(target, &blob).unwrap();
        let error = source.manifest(None).unwrap_err();
        assert!(error.to_string().ends_with("is no plain file"), "{error}");
    }
    fs::remove_file(&blob).unwrap();
    nix::unistd::mkfifo(&blob, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let error = source.manifest(None).unwrap_err();
    assert!(error.to_string().ends_with("is no plain file"), "{error}");
    // Nor is anything written through one.
    fs::remove_dir_all(layout.join("blobs")).unwrap();
    symlink(&one.dir, layout.join("blobs")).unwrap();
    assert!(one.at("oci:layout").open_target().is_err());
}

#[test]
fn links_in_an_archive_lead_to_its_own_files_only() {
    let one = Sandbox::new();
    fs::write(one.dir.join("secret"), "[]").unwrap();
    let secret = one.dir.join("secret");
    for (link, want) in [
        (secret.to_str().unwrap(), "missing"),
        ("../../../../../../../etc/hostname", "missing"),
        ("manifest.json", "no plain file"),
    ] {
        let mut tar = tar::Builder::new(File::create(one.dir.join("x.tar")).unwrap());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, "manifest.json", link).unwrap();
        tar.into_inner().unwrap();
        let error = one.refusal("docker-archive:x.tar").to_string();
        assert!(error.contains(want), "{link}: {error}");
    }
}

#[test]
fn damaged_places_are_refused() {
    let one = Sandbox::new();
    one.image();
    let bytes = fs::read(one.dir.join("saved.tar")).unwrap();
    let write = |bytes: &[u8]| fs::write(one.dir.join("x.tar"), bytes).unwrap();
    // Cut within a content, within a header, and what is no tar at all.
    for bytes in [
        &bytes[..3000],
        &bytes[..700],
        b"no tar at all",
        b"",
        b"\x1f\x8b\x08no",
    ] {
        write(bytes);
        for transport in ["docker-archive", "oci-archive"] {
            one.refusal(&format!("{transport}:x.tar"));
        }
    }
    // A digit of a document.
    let at = bytes
        .windows(10)
        .position(|w| w == b"\"rootfs\":{")
        .unwrap();
    let mut changed = bytes.clone();
    changed[at + 3] = b'x';
    write(&changed);
    let source = one.open("oci-archive:x.tar").source;
    let Document::Manifest(manifest) =
        Document::parse(&source.manifest(None).unwrap().bytes).unwrap()
    else {
        panic!("an index");
    };
    assert_ne!(
        Digest::of(&read(&*source, &manifest.config).unwrap()),
        manifest.config.digest
    );
    // A blob that isn't as long as the manifest says.
    let longer = Descriptor {
        size: manifest.config.size + 1,
        ..manifest.config.clone()
    };
    assert!(source.blob(&longer, 0).is_err());
    let none = Descriptor::new("", Digest::of(b"none"), 4);
    assert!(source.blob(&none, 0).err().unwrap().is_not_found());
    one.refusal("docker-archive:none.tar");
    one.refusal("oci:x.tar");
    one.refusal("oci-archive:store");
    fs::create_dir(one.dir.join("empty")).unwrap();
    assert!(matches!(
        one.refusal("oci:empty"),
        TransportError::Missing { .. }
    ));
    let source = one.open("dir:empty").source;
    assert!(source.manifest(None).unwrap_err().is_not_found());
    // A document of 17 MiB.
    let large = File::create(one.dir.join("empty/manifest.json")).unwrap();
    large.set_len(17 << 20).unwrap();
    let error = source.manifest(None).unwrap_err().to_string();
    assert!(error.contains("has 17825792 bytes"), "{error}");
}

/// Content that breaks off the first time.
struct Weak(Vec<u8>, AtomicBool);

impl BlobContent for Weak {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn open(&self, _offset: u64) -> io::Result<Box<dyn Read + Send>> {
        let whole = io::Cursor::new(self.0.clone());
        match self.1.swap(true, Ordering::Relaxed) {
            true => Ok(Box::new(whole)),
            false => Ok(Box::new(whole.take(5000))),
        }
    }
}

#[test]
fn blobs_that_break_off_are_written_anew() {
    let one = Sandbox::new();
    one.image();
    let source = one.open("docker-archive:saved.tar").source;
    let top = source.manifest(None).unwrap();
    for text in PLACES {
        let target = one.target(text);
        for (digest, bytes) in everything(&*source) {
            if digest == top.digest {
                continue;
            }
            let blob = Descriptor::new("", digest, bytes.len() as u64);
            let weak = Weak([bytes, vec![0; 9000]].concat(), AtomicBool::new(false));
            // Too long, and not what it should be.
            assert!(
                target.put_blob(&blob, &weak, &[], &|_| {}).is_err(),
                "{text}"
            );
            let again = target.put_blob(&blob, &weak, &[], &|_| {});
            assert!(again.is_err(), "{text}");
            let bytes = Bytes(weak.0[..usize::try_from(blob.size).unwrap()].to_vec());
            let put = target.put_blob(&blob, &bytes, &[], &|_| {}).unwrap();
            assert_eq!(put, Put::Sent);
            assert_eq!(
                target.put_blob(&blob, &bytes, &[], &|_| {}).unwrap(),
                Put::Present
            );
        }
        target.put_manifest(&top, true).unwrap();
        target.finish().unwrap();
        assert_eq!(
            everything(&*one.open(text).source),
            everything(&*source),
            "{text}"
        );
    }
}

#[test]
fn what_isnt_finished_replaces_nothing() {
    let one = Sandbox::new();
    one.image();
    let before = support::entries(&one.dir);
    fs::write(one.dir.join("x.tar"), "precious").unwrap();
    let target = one.target("docker-archive:x.tar:x");
    put(&*target, b"bytes").unwrap();
    drop(target);
    assert_eq!(fs::read(one.dir.join("x.tar")).unwrap(), b"precious");
    assert_eq!(support::entries(&one.dir).len(), before.len() + 1);
    // Nor is a directory of other things taken.
    fs::create_dir(one.dir.join("photos")).unwrap();
    fs::write(one.dir.join("photos/cat"), "").unwrap();
    for text in ["oci:photos", "dir:photos"] {
        let error = one.at(text).open_target().err().unwrap();
        assert!(
            matches!(error, TransportError::OtherDirectory { .. }),
            "{error}"
        );
    }
    assert_eq!(support::entries(&one.dir.join("photos")), ["cat"]);
}

#[test]
fn a_name_moves_to_the_image_that_got_it_last() {
    let one = Sandbox::new();
    let layout = |store: &Store| {
        archive::save(
            store,
            &["app"],
            Format::Oci,
            File::create(one.dir.join("a.tar")).unwrap(),
        )
        .unwrap();
        copy(
            &*one.open("oci-archive:a.tar").source,
            &*one.target("oci:layout:x"),
        );
        one.open("oci:layout:x")
            .source
            .manifest(None)
            .unwrap()
            .digest
    };
    image(&one.store, &["a"], &["app"]);
    let first = layout(&one.store);
    assert_eq!(layout(&one.store), first);
    image(&one.store, &["b"], &["app"]);
    assert_ne!(layout(&one.store), first);
    let index: Index =
        serde_json::from_slice(&fs::read(one.dir.join("layout/index.json")).unwrap()).unwrap();
    assert_eq!(index.manifests.len(), 2);
    // A directory has one image: the former's files go.
    copy(&*one.open("oci:layout:@0").source, &*one.target("dir:dir"));
    copy(&*one.open("oci:layout:@1").source, &*one.target("dir:dir"));
    assert_eq!(support::entries(&one.dir.join("dir")).len(), 4);
}

#[test]
fn schema_2_keeps_its_bytes() {
    let one = Sandbox::new();
    one.image();
    copy(
        &*one.open("docker-archive:saved.tar").source,
        &*one.target("dir:dir"),
    );
    let path = one.dir.join("dir/manifest.json");
    let text = fs::read_to_string(&path).unwrap();
    let text = text
        .replace(
            "application/vnd.oci.image.manifest.v1+json",
            DOCKER_MANIFEST,
        )
        .replace(
            "application/vnd.oci.image.config.v1+json",
            "application/vnd.docker.container.image.v1+json",
        )
        .replace(
            "application/vnd.oci.image.layer.v1.tar",
            "application/vnd.docker.image.rootfs.diff.tar",
        );
    fs::write(&path, &text).unwrap();
    let source = one.open("dir:dir").source;
    let manifest = source.manifest(None).unwrap();
    assert_eq!(manifest.media_type, DOCKER_MANIFEST);
    for text in [
        "oci:layout",
        "oci-archive:oci.tar",
        "docker-archive:docker.tar",
    ] {
        copy(&*source, &*one.target(text));
        assert_eq!(one.open(text).source.manifest(None).unwrap(), manifest);
        if have("skopeo") {
            let shown = one.at(text).to_string();
            let raw = run(&["skopeo", "inspect", "--raw", &shown]);
            assert!(raw.contains(DOCKER_MANIFEST), "{text}: {raw}");
        }
    }
}

#[test]
fn an_archive_goes_into_a_pipe() {
    let one = Sandbox::new();
    one.image();
    let fifo = one.dir.join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        File::open(Path::new(&fifo))
            .unwrap()
            .read_to_end(&mut bytes)
            .unwrap();
        bytes
    });
    let source = one.open("docker-archive:saved.tar").source;
    copy(&*source, &*one.target("docker-archive:fifo:app:1"));
    fs::write(one.dir.join("x.tar"), reader.join().unwrap()).unwrap();
    assert_eq!(
        everything(&*one.open("docker-archive:x.tar").source),
        everything(&*source)
    );
}
