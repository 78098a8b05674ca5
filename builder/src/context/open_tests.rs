//! Contexts of every kind.

use std::os::unix::fs::symlink;

use rctr_storage::explain::Explain;

use super::*;
use crate::testing::Scratch;

struct Place {
    scratch: Scratch,
    store: Store,
}

impl Place {
    /// A context of these files.
    fn with(files: &[(&str, &str)]) -> Self {
        let scratch = Scratch::new();
        let store = Store::open(&scratch.path("store")).unwrap();
        fs::create_dir(scratch.path("ctx")).unwrap();
        let place = Self { scratch, store };
        for (name, text) in files {
            place.write(&format!("ctx/{name}"), text);
        }
        place
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.scratch.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn open(
        &self,
        dockerfile: &DockerfileSource,
        stdin: &str,
    ) -> Result<(Context, Vec<u8>, String), ContextError> {
        let source = ContextSource::Directory(self.scratch.path("ctx"));
        self.open_source(&source, dockerfile, stdin.as_bytes())
    }

    fn open_source(
        &self,
        source: &ContextSource,
        dockerfile: &DockerfileSource,
        mut stdin: &[u8],
    ) -> Result<(Context, Vec<u8>, String), ContextError> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let around = &mut Surroundings {
            stdin: &mut stdin,
            web: &fetch::Client::default(),
            git: &git::Settings {
                program: "git".into(),
                env: vec![("PATH".into(), path)],
            },
            progress: &mut |_, _| {},
        };
        open(source, dockerfile, &self.store, around)
    }

    fn open_named(&self, name: &str) -> Result<(Context, Vec<u8>, String), ContextError> {
        self.open(&DockerfileSource::InContext(name.to_owned()), "")
    }
}

fn excluded(context: &Context, path: &str) -> bool {
    context.ignore.excludes(Path::new(path), false)
}

#[test]
fn directory_with_its_dockerfile() {
    let place = Place::with(&[("Dockerfile", "FROM a"), (".dockerignore", "*.log")]);
    let (context, bytes, name) = place.open_named("Dockerfile").unwrap();
    assert_eq!((&*bytes, &*name), (&b"FROM a"[..], "Dockerfile"));
    assert_eq!(context.ignore_file.as_ref().unwrap().name, ".dockerignore");
    assert!(excluded(&context, "a.log"));
    assert!(!excluded(&context, "a.txt"));
}

#[test]
fn ignored_dockerfile_is_read_all_the_same() {
    let place = Place::with(&[("Dockerfile", "FROM a"), (".dockerignore", "*")]);
    let (context, bytes, _) = place.open_named("Dockerfile").unwrap();
    assert_eq!(bytes, b"FROM a");
    assert!(excluded(&context, "Dockerfile") && excluded(&context, ".dockerignore"));
}

#[test]
fn the_dockerfiles_own_ignore_file_wins() {
    let place = Place::with(&[
        ("sub/Dev.Dockerfile", "FROM b"),
        ("sub/Dev.Dockerfile.dockerignore", "secret"),
        (".dockerignore", "*"),
    ]);
    let (context, bytes, _) = place.open_named("sub/Dev.Dockerfile").unwrap();
    assert_eq!(bytes, b"FROM b");
    let file = "sub/Dev.Dockerfile.dockerignore";
    assert_eq!(context.ignore_file.as_ref().unwrap().name, file);
    assert!(excluded(&context, "secret") && !excluded(&context, "a"));
}

#[test]
fn dockerfile_outside_brings_its_ignore_file() {
    let place = Place::with(&[(".dockerignore", "inner")]);
    place.write("out/D", "FROM c");
    let path = place.scratch.path("out/D");
    let file = DockerfileSource::File(path.clone());
    let (context, bytes, name) = place.open(&file, "").unwrap();
    assert_eq!(
        (&*bytes, name),
        (&b"FROM c"[..], path.display().to_string())
    );
    assert!(excluded(&context, "inner"));
    place.write("out/D.dockerignore", "outer");
    let (context, ..) = place.open(&file, "").unwrap();
    assert!(excluded(&context, "outer") && !excluded(&context, "inner"));
}

#[test]
fn dockerfile_from_stdin() {
    let place = Place::with(&[(".dockerignore", "x")]);
    let (context, bytes, name) = place.open(&DockerfileSource::Stdin, "FROM d").unwrap();
    assert_eq!((&*bytes, &*name), (&b"FROM d"[..], "Dockerfile"));
    assert!(excluded(&context, "x"));
}

#[test]
fn missing_dockerfile_tells_what_is_there() {
    let place = Place::with(&[("Containerfile", ""), ("notes", "")]);
    let error = place.open_named("Dockerfile").unwrap_err();
    assert_eq!(
        error.to_string(),
        "failed to read the Dockerfile: open Dockerfile"
    );
    assert_eq!(error.hint().unwrap(), "did you mean -f Containerfile?");
    place.write("ctx/sub/dev.dockerfile", "");
    let error = place.open_named("sub/Dockerfile").unwrap_err();
    assert_eq!(error.hint().unwrap(), "did you mean -f sub/dev.dockerfile?");
    fs::remove_file(place.scratch.path("ctx/Containerfile")).unwrap();
    let hint = place.open_named("Dockerfile").unwrap_err().hint().unwrap();
    assert_eq!(hint, "write one there, or name another with -f FILE");
}

#[test]
fn dockerfile_that_is_none() {
    let place = Place::with(&[("Dockerfile/x", "")]);
    let error = place.open_named("Dockerfile").unwrap_err();
    let want = "failed to read the Dockerfile: Dockerfile is a directory";
    assert_eq!(error.to_string(), want);
    let path = place.scratch.path("ctx/Dockerfile");
    let error = place.open(&DockerfileSource::File(path), "").unwrap_err();
    assert!(error.to_string().ends_with("is a directory"), "{error}");
    nix::unistd::mkfifo(
        &place.scratch.path("ctx/pipe"),
        nix::sys::stat::Mode::S_IRWXU,
    )
    .unwrap();
    let error = place.open_named("pipe").unwrap_err();
    assert!(error.to_string().contains("neither a file"), "{error}");
    let big = fs::File::create(place.scratch.path("ctx/big")).unwrap();
    big.set_len((16 << 20) + 1).unwrap();
    let error = place.open_named("big").unwrap_err();
    assert!(
        error.to_string().contains("more than 16777216 bytes"),
        "{error}"
    );
}

#[test]
fn links_are_followed_within_the_context_only() {
    let place = Place::with(&[("real", "FROM in")]);
    place.write("outside", "FROM out");
    let link = |to: &Path, name: &str| symlink(to, place.scratch.path("ctx").join(name)).unwrap();
    link(Path::new("/real"), "absolute");
    link(Path::new("../outside"), "up");
    link(&place.scratch.path("outside"), "Dockerfile");
    let (_, bytes, _) = place.open_named("absolute").unwrap();
    assert_eq!(bytes, b"FROM in");
    for name in ["up", "Dockerfile"] {
        let error = place.open_named(name).unwrap_err();
        assert!(
            error.hint().unwrap().contains("within the context only"),
            "{error}"
        );
    }
    place.open_named("../outside").unwrap_err();
}

#[test]
fn bad_ignore_files_stop_the_build() {
    let place = Place::with(&[("Dockerfile", "FROM a"), (".dockerignore", "ok\n[")]);
    let error = place.open_named("Dockerfile").unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(error.to_string(), "cannot use .dockerignore");
    assert!(cause.starts_with("line 2: "), "{cause}");

    let ignore = place.scratch.path("ctx/.dockerignore");
    fs::remove_file(&ignore).unwrap();
    fs::create_dir(&ignore).unwrap();
    let error = place.open_named("Dockerfile").unwrap_err();
    assert_eq!(error.to_string(), "cannot read .dockerignore");
}

#[test]
fn contexts_that_are_none() {
    let place = Place::with(&[("file", "")]);
    let open = |path: &str| {
        let source = ContextSource::Directory(place.scratch.path(path));
        let dockerfile = DockerfileSource::InContext("Dockerfile".to_owned());
        let opened = place.open_source(&source, &dockerfile, b"");
        opened.unwrap_err().to_string()
    };
    let missing = open("none");
    assert!(
        missing.starts_with("unable to prepare context: path \""),
        "{missing}"
    );
    assert!(missing.ends_with("none\" not found"), "{missing}");
    let file = open("ctx/file");
    assert!(file.ends_with("ctx/file is not a directory"), "{file}");
}

#[test]
fn named_context_has_its_own_ignore_file() {
    let place = Place::with(&[(".dockerignore", "x")]);
    let context = Context::directory(&place.scratch.path("ctx"), &place.store).unwrap();
    assert!(excluded(&context, "x"));
}

/// A tar of a Dockerfile and more, somebody else's.
fn a_tar() -> Vec<u8> {
    use rctr_storage::tarfile::{Entry, Kind, Writer};
    let mut writer = Writer::new(Vec::new());
    let mut file = |path: &str, text: &str| {
        let mut entry = Entry::new(path, Kind::File, 0o644);
        entry.size = text.len() as u64;
        entry.uid = 4_000_000;
        writer.begin(&entry).unwrap();
        writer.write_data(text.as_bytes()).unwrap();
    };
    file("Dockerfile", "FROM tar");
    file("./sub/Other", "FROM other");
    file(".dockerignore", "*.o");
    writer.finish().unwrap()
}

fn compressed(tar: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    use std::io::Write;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(tar).unwrap();
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bzip2.write_all(tar).unwrap();
    vec![
        ("plain", tar.to_vec()),
        ("gzip", gzip.finish().unwrap()),
        ("bzip2", bzip2.finish().unwrap()),
        ("zstd", zstd::encode_all(tar, 1).unwrap()),
    ]
}

#[test]
fn tar_on_stdin_in_any_compression() {
    let place = Place::with(&[]);
    for (name, tar) in compressed(&a_tar()) {
        let dockerfile = DockerfileSource::InContext("Dockerfile".to_owned());
        let opened = place.open_source(&ContextSource::Stdin, &dockerfile, &tar);
        let (context, bytes, _) = opened.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(bytes, b"FROM tar", "{name}");
        assert!(excluded(&context, "a.o"));
        let root = context.root.clone();
        assert!(root.join("sub/Other").is_file());
        drop(context);
        assert!(!root.exists(), "{name}");
    }
    let other = DockerfileSource::InContext("sub/Other".to_owned());
    let (_, bytes, name) = place
        .open_source(&ContextSource::Stdin, &other, &a_tar())
        .unwrap();
    assert_eq!((&*bytes, &*name), (&b"FROM other"[..], "sub/Other"));
}

#[test]
fn xz_is_read_too() {
    let place = Place::with(&[]);
    // printf hello > Dockerfile; tar -c --format=ustar Dockerfile | xz
    let tar = include_bytes!("testdata/hello.tar.xz");
    let dockerfile = DockerfileSource::InContext("Dockerfile".to_owned());
    let (_, bytes, _) = place
        .open_source(&ContextSource::Stdin, &dockerfile, tar)
        .unwrap();
    assert_eq!(bytes, b"hello");
}

#[test]
fn dockerfile_alone_on_stdin() {
    let place = Place::with(&[]);
    let dockerfile = DockerfileSource::InContext("Dockerfile".to_owned());
    let (context, bytes, name) = place
        .open_source(&ContextSource::Stdin, &dockerfile, b"FROM x\n")
        .unwrap();
    assert_eq!((&*bytes, &*name), (&b"FROM x\n"[..], "Dockerfile"));
    assert_eq!(fs::read_dir(&context.root).unwrap().count(), 0);
}

#[test]
fn stdin_that_is_no_context() {
    let place = Place::with(&[("D", "FROM x")]);
    let in_context = DockerfileSource::InContext("Dockerfile".to_owned());
    let file = DockerfileSource::File(place.scratch.path("ctx/D"));
    let gzip = &compressed(b"no tar, but text")[1].1;
    let mut broken = a_tar();
    broken.truncate(700);
    for (dockerfile, stdin, want) in [
        (
            &DockerfileSource::Stdin,
            &b"FROM x"[..],
            "standard input can't be both the context and the Dockerfile",
        ),
        (
            &in_context,
            b"",
            "the context from standard input is empty: want a tar, or a Dockerfile",
        ),
        (
            &file,
            b"FROM x",
            "the context from standard input is a Dockerfile: want a tar",
        ),
        (
            &in_context,
            gzip,
            "the context from standard input is compressed, but no tar: want a tar",
        ),
        (
            &in_context,
            &gzip[..8],
            "cannot read the context from standard input",
        ),
        (
            &in_context,
            &broken,
            "cannot unpack the context from standard input",
        ),
    ] {
        let error = place
            .open_source(&ContextSource::Stdin, dockerfile, stdin)
            .unwrap_err();
        assert_eq!(error.to_string(), want);
    }
}

#[test]
fn sources_by_their_look() {
    for (argument, want) in [
        ("-", ContextSource::Stdin),
        (".", ContextSource::Directory(".".into())),
        ("a:b", ContextSource::Directory("a:b".into())),
        (
            "https://h/r.git#x",
            ContextSource::Git("https://h/r.git#x".to_owned()),
        ),
        (
            "HTTP://h/x.tar",
            ContextSource::Http("HTTP://h/x.tar".to_owned()),
        ),
    ] {
        assert_eq!(ContextSource::of(argument), want);
    }
}

/// Serves `body` at every path, once.
fn serve(body: Vec<u8>) -> String {
    use std::io::Write;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        assert!(stream.read(&mut request).unwrap() > 0);
        let len = body.len();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n");
        stream
            .write_all(&[head.as_bytes(), &body].concat())
            .unwrap();
    });
    format!("http://{address}/context.tar")
}

#[test]
fn tar_and_dockerfile_from_the_web() {
    let place = Place::with(&[]);
    let dockerfile = DockerfileSource::InContext("Dockerfile".to_owned());
    for (body, want, files) in [
        (a_tar(), &b"FROM tar"[..], 3),
        (b"FROM web".to_vec(), b"FROM web", 0),
    ] {
        let url = serve(body);
        let source = ContextSource::of(&url);
        let (context, bytes, _) = place.open_source(&source, &dockerfile, b"").unwrap();
        assert_eq!(bytes, want);
        assert_eq!(context.name, url);
        assert_eq!(fs::read_dir(&context.root).unwrap().count(), files);
    }
}

#[test]
fn directory_of_a_repository() {
    let place = Place::with(&[("sub/Dockerfile", "FROM git"), (".dockerignore", "top")]);
    place.write("ctx/sub/.dockerignore", "own");
    let script =
        "git init -q . && git add -A && git -c user.name=t -c user.email=t@t commit -q -m x";
    let status = std::process::Command::new("sh")
        .args(["-c", script])
        .current_dir(place.scratch.path("ctx"))
        .status();
    assert!(status.unwrap().success());
    let text = format!("{}#:sub", place.scratch.path("ctx/.git").display());
    let source = ContextSource::of(&text);
    assert!(matches!(source, ContextSource::Git(_)));
    let dockerfile = DockerfileSource::InContext("Dockerfile".to_owned());
    let (context, bytes, _) = place.open_source(&source, &dockerfile, b"").unwrap();
    assert_eq!(bytes, b"FROM git");
    assert!(excluded(&context, "own") && !excluded(&context, "top"));
    assert_eq!(context.commit.as_ref().map(String::len), Some(40));
    let top = context.root.parent().unwrap().to_owned();
    drop(context);
    assert!(!top.exists());
}
