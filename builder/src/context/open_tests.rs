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
        open(
            &source,
            dockerfile,
            &self.store,
            &mut Surroundings {
                stdin: &mut stdin.as_bytes(),
            },
        )
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
    assert_eq!(context.ignore_file.as_deref(), Some(".dockerignore"));
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
    assert_eq!(context.ignore_file.as_deref(), Some(file));
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
        let around = &mut Surroundings {
            stdin: &mut io::empty(),
        };
        open(&source, &dockerfile, &place.store, around)
            .unwrap_err()
            .to_string()
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
