//! RUN --mount.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rctr_builder::context::Context;
use rctr_builder::engine::run::{ResolvedMount, Source};
use rctr_builder::plan::{HeredocFile, RunMount, RunMountFrom, RunStep, Sharing};
use rctr_builder::request::SecretSource;
use rctr_runtime::plan::Driver;

use crate::scene::{Scene, shell, walk};

pub(crate) fn bind(source: &str, target: &str, writable: bool) -> RunMount {
    RunMount::Bind {
        from: RunMountFrom::Context,
        source: source.to_owned(),
        target: PathBuf::from(target),
        writable,
    }
}

pub(crate) fn from(layers: &[&Path]) -> ResolvedMount {
    ResolvedMount::Bind(Source {
        layers: layers.iter().map(|layer| (*layer).to_owned()).collect(),
        shown: "the test".to_owned(),
    })
}

pub(crate) fn bind_mounts(scene: &Scene) {
    let context = scene.tree("context", &[("a/file", "1"), ("b", "2")]);
    std::os::unix::fs::symlink("/a", context.join("link")).unwrap();
    std::os::unix::fs::symlink("/etc/shadow", context.join("out")).unwrap();
    let ran = scene.mounted(
        "cat a/file b",
        bind("", "/src/deep", false),
        from(&[&context]),
    );
    assert_ne!(ran.code(), 0, "not in the working directory");
    let cat = "cat /src/deep/a/file /src/deep/b";
    let ran = scene.mounted(cat, bind("/", "/src/deep", false), from(&[&context]));
    assert_eq!(ran.ok(), "12");
    assert_eq!(
        ran.left(),
        [""; 0],
        "the mount point is gone, with its parent"
    );
    // A file; a directory through a link, which leads no further than the context.
    let ran = scene.mounted("cat /f", bind("b", "/f", false), from(&[&context]));
    assert_eq!(ran.ok(), "2");
    let ran = scene.mounted("ls /d", bind("link", "/d", false), from(&[&context]));
    assert_eq!(ran.ok(), "file\n");
    let ran = scene.mounted("true", bind("out", "/d", false), from(&[&context]));
    let error = ran.result.unwrap_err().to_string();
    assert!(
        error.contains("find the source of a mount (/out of the test)"),
        "{error}"
    );
    // Read-only, or written to in vain.
    let write = "echo x >/src/b && rm -r /src/a && touch /src/new && cat /src/b";
    let ran = scene.mounted(write, bind("", "/src", false), from(&[&context]));
    assert_ne!(ran.code(), 0);
    let ran = scene.mounted(write, bind("", "/src", true), from(&[&context]));
    assert_eq!(ran.ok(), "x\n");
    assert_eq!(ran.left(), [""; 0]);
    assert_eq!(fs::read(context.join("b")).unwrap(), b"2");
    assert!(context.join("a/file").exists() && !context.join("new").exists());
    let ran = scene.mounted(
        "echo y >>/f && cat /f",
        bind("b", "/f", true),
        from(&[&context]),
    );
    assert_eq!(ran.ok(), "2y\n");
    // Layers of a stage, one over the other; nothing at all.
    let top = scene.tree("top", &[("b", "over"), ("c", "3")]);
    let ran = scene.mounted(
        "cat /s/*; cat /s/a/file",
        bind("", "/s", false),
        from(&[&top, &context]),
    );
    assert_eq!(ran.out, "over31", "{}", ran.err);
    let ran = scene.mounted("touch /s/x && ls /s", bind("", "/s", true), from(&[]));
    assert_eq!(ran.ok(), "x\n");
    let ran = scene.mounted("ls /s", bind("", "/s", false), from(&[]));
    assert_eq!(ran.ok(), "");
}

pub(crate) fn ignored_files_are_not_mounted(scene: &Scene) {
    let files = [
        ("a/keep", "1"),
        ("a/log", "2"),
        ("b/deep/keep", "3"),
        ("b/deep/x", "4"),
        ("b/other/x", "5"),
        ("c/x", "6"),
        (".dockerignore", "**/log\nb\n!b/deep/keep\nc\n"),
    ];
    let root = scene.tree("ignoring", &files);
    fs::set_permissions(root.join("a"), fs::Permissions::from_mode(0o750)).unwrap();
    let context = Context::directory(&root, &scene.store).unwrap();
    let place = scene.store.temp_path("mask").unwrap();
    let source = Source::context(&context, "the build context", &place).unwrap();
    assert_eq!(source.layers.len(), 2);
    let find = "cd /s && find . -mindepth 1 | sort; cat b/deep/keep; stat -c ' %a' a; touch b/x";
    let ran = scene.mounted(
        find,
        bind("", "/s", true),
        ResolvedMount::Bind(source.clone()),
    );
    let want = "./.dockerignore\n./a\n./a/keep\n./b\n./b/deep\n./b/deep/keep\n3 750\n";
    assert_eq!(ran.ok(), want, "{}", ran.err);
    let ran = scene.mounted(
        "cat /s",
        bind("c/x", "/s", false),
        ResolvedMount::Bind(source),
    );
    let error = ran.result.unwrap_err().to_string();
    assert!(error.contains("(/c/x of the build context)"), "{error}");
    // Without anything to hide, it is the directory itself.
    fs::write(root.join(".dockerignore"), "none\n").unwrap();
    let context = Context::directory(&root, &scene.store).unwrap();
    let place = scene.store.temp_path("mask").unwrap();
    assert_eq!(
        Source::context(&context, "", &place).unwrap().layers,
        [root]
    );
}

/// Hosts without overlay.
pub(crate) fn other_drivers(scene: &Scene) {
    let context = scene.tree("plain", &[("f", "1")]);
    let top = scene.tree("over", &[("g", "2")]);
    let found = || from(&[&top, &context]);
    for driver in [Driver::Copy, Driver::FuseOverlayfs] {
        if driver == Driver::FuseOverlayfs && !Path::new("/usr/bin/fuse-overlayfs").exists() {
            crate::say("skipped: fuse-overlayfs is missing");
            continue;
        }
        scene.driver.set(driver);
        let line = "cat /s/f /s/g && echo x >/s/f && cat /s/f && rm /etc/passwd && touch /tmp/x";
        let ran = scene.mounted(line, bind("", "/s", true), found());
        assert_eq!(ran.ok(), "12x\n", "{driver:?}");
        assert_eq!(
            ran.left(),
            ["etc", "etc/passwd", "tmp", "tmp/x"],
            "{driver:?}"
        );
        assert_eq!(fs::read(context.join("f")).unwrap(), b"1");
        let ran = scene.mounted("echo x >/s/f", bind("", "/s", false), found());
        assert_eq!(ran.code(), 1, "{driver:?}");
        assert_eq!(scene.sh("true").left(), [""; 0], "{driver:?}");
    }
}

pub(crate) fn cache_mounts(scene: &Scene) {
    let path = scene.tree("cache", &[]);
    let seed = scene.tree("seed", &[("pkg/one", "1")]);
    let mount = |read_only, from: Option<&str>| RunMount::Cache {
        id: "c".to_owned(),
        target: PathBuf::from("/var/cache/c"),
        read_only,
        sharing: Sharing::Shared,
        from: from.map(|source| (RunMountFrom::Scratch, source.to_owned())),
        mode: 0o755,
        uid: 0,
        gid: 0,
    };
    let found = |seed: Option<&PathBuf>| ResolvedMount::Cache {
        path: path.clone(),
        seed: seed.map(|seed| Source {
            layers: vec![seed.clone()],
            shown: "the seed".to_owned(),
        }),
    };
    let seeded = |line: &str| scene.mounted(line, mount(false, Some("pkg")), found(Some(&seed)));
    assert_eq!(
        seeded("cat /var/cache/c/one; echo 2 >/var/cache/c/two").ok(),
        "1"
    );
    // It isn't filled again.
    assert_eq!(seeded("rm /var/cache/c/one; ls /var/cache/c").ok(), "two\n");
    let ran = scene.mounted("ls /var/cache/c", mount(true, None), found(None));
    assert_eq!(ran.ok(), "two\n");
    assert_eq!(ran.left(), [""; 0]);
    let ran = scene.mounted("rm /var/cache/c/two", mount(true, None), found(None));
    assert_ne!(ran.code(), 0);
}

pub(crate) fn tmpfs_mounts(scene: &Scene) {
    let mount = |size| RunMount::Tmpfs {
        target: PathBuf::from("/etc"),
        size,
    };
    let line = "ls /etc; echo '#!/bin/sh' >/etc/x; chmod +x /etc/x; /etc/x; stat -c %a /etc";
    let ran = scene.mounted(line, mount(0), ResolvedMount::Plain);
    assert_eq!(ran.ok(), "hosts\nresolv.conf\n1777\n");
    assert_eq!(ran.left(), [""; 0]);
    let ran = scene.mounted("yes >/etc/big", mount(1 << 20), ResolvedMount::Plain);
    assert!(ran.err.contains("No space left"), "{}", ran.err);
}

fn secret(env: Option<&str>, required: bool) -> RunMount {
    RunMount::Secret {
        id: "token".to_owned(),
        target: Some(PathBuf::from("/run/secrets/token")),
        env: env.map(str::to_owned),
        required,
        mode: 0o440,
        uid: 1000,
        gid: 7,
    }
}

pub(crate) fn secrets_leave_nothing(scene: &Scene) {
    const SECRET: &str = "very-secret-value-0815";
    let missing = || scene.mounted("ls /run/secrets", secret(None, true), ResolvedMount::Plain);
    let message = missing().result.unwrap_err().to_string();
    assert_eq!(message, "secret \"token\" is required, and none was given");
    let ran = scene.mounted("ls /run", secret(None, false), ResolvedMount::Plain);
    assert_ne!(ran.code(), 0, "{}", ran.out);
    let source = SecretSource::Value(SECRET.as_bytes().to_vec());
    scene
        .request
        .borrow_mut()
        .secrets
        .insert("token".to_owned(), source);
    let line = "cat /run/secrets/token; stat -c ' %a %u %g' /run/secrets/token; echo $TOKEN; grep '^[a-z]* /run/secrets' /proc/mounts; touch /tmp/x";
    let ran = scene.mounted(line, secret(Some("TOKEN"), true), ResolvedMount::Plain);
    assert!(
        ran.ok().starts_with(&format!(
            "{SECRET} 440 1000 7\n{SECRET}\ntmpfs /run/secrets/token tmpfs ro,"
        )),
        "{}",
        ran.out
    );
    assert_eq!(ran.left(), ["tmp", "tmp/x"]);
    assert_ne!(
        scene
            .mounted(
                "echo >/run/secrets/token",
                secret(None, true),
                ResolvedMount::Plain
            )
            .code(),
        0
    );
    // Nowhere in the store, not even in what is thrown away.
    let (top, mut files) = (scene.top.clone(), Vec::new());
    walk(&top, &top, &mut files);
    for file in files.iter().filter(|file| !file.contains("busybox")) {
        let path = top.join(file);
        if fs::symlink_metadata(&path).unwrap().is_file() {
            let bytes = fs::read(&path).unwrap();
            let found = bytes
                .windows(SECRET.len())
                .any(|piece| piece == SECRET.as_bytes());
            assert!(!found, "{file}");
        }
    }
    let file = scene.tree("host", &[("secret", SECRET)]).join("secret");
    scene
        .request
        .borrow_mut()
        .secrets
        .insert("token".to_owned(), SecretSource::File(file));
    let ran = scene.mounted(
        "cat /run/secrets/token",
        secret(None, true),
        ResolvedMount::Plain,
    );
    assert_eq!(ran.ok(), SECRET);
}

pub(crate) fn heredoc_files(scene: &Scene) {
    let step = RunStep {
        argv: vec!["/dev/pipes/EOF".to_owned()],
        files: vec![HeredocFile {
            path: PathBuf::from("/dev/pipes/EOF"),
            content: "#!/bin/sh\necho from $0\n".to_owned(),
        }],
        ..shell("")
    };
    let ran = scene.run(&step, Vec::new());
    assert_eq!(ran.ok(), "from /dev/pipes/EOF\n");
    assert_eq!(ran.left(), [""; 0]);
}

/// The first path below `dir` that ends so.
fn find(dir: &Path, end: &str) -> Option<PathBuf> {
    for entry in fs::read_dir(dir).ok()?.flatten() {
        let path = entry.path();
        if path.ends_with(end) {
            return Some(path);
        }
        if let Some(found) = find(&path, end) {
            return Some(found);
        }
    }
    None
}

pub(crate) fn ssh_agents_are_reached(scene: &Scene) {
    let mount = |required| RunMount::Ssh {
        id: "default".to_owned(),
        target: None,
        required,
        mode: 0o600,
        uid: 1000,
        gid: 1000,
    };
    let missing = scene.mounted("true", mount(true), ResolvedMount::Plain);
    let message = missing.result.unwrap_err().to_string();
    assert_eq!(
        message,
        "ssh agent \"default\" is required, and none was given"
    );
    assert_eq!(
        scene
            .mounted("echo -$SSH_AUTH_SOCK-", mount(false), ResolvedMount::Plain)
            .ok(),
        "--\n"
    );
    // Something that answers.
    let socket = scene.top.join("a");
    let listener = UnixListener::bind(&socket).unwrap();
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o600)).unwrap();
    let agent = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut asked = [0; 5];
        client.read_exact(&mut asked).unwrap();
        client.write_all(b"answer to ").unwrap();
        client.write_all(&asked).unwrap();
    });
    scene
        .request
        .borrow_mut()
        .ssh
        .insert("default".to_owned(), vec![socket]);
    // Nothing in the image speaks to such sockets: the test does it, from outside.
    let tmp = scene.top.join("store/tmp");
    let client = std::thread::spawn(move || {
        let mut inside = None;
        crate::ends::until("socket", || {
            inside = find(&tmp, "mount-0/agent").and_then(|path| {
                let directory = fs::File::open(path.parent().unwrap()).unwrap();
                let path = format!("/proc/self/fd/{}/agent", directory.as_raw_fd());
                UnixStream::connect(path).ok()
            });
            inside.is_some()
        });
        let mut inside = inside.unwrap();
        inside.write_all(b"hello").unwrap();
        let mut answer = String::new();
        inside.read_to_string(&mut answer).unwrap();
        answer
    });
    let step = RunStep {
        user: "user".to_owned(),
        mounts: vec![mount(true)],
        ..shell("echo $SSH_AUTH_SOCK; stat -c '%F %a %u' $SSH_AUTH_SOCK; sleep 0.5")
    };
    let ran = scene.run(&step, vec![ResolvedMount::Plain]);
    assert_eq!(
        ran.ok(),
        "/run/buildkit/ssh_agent.0\nsocket 600 1000\n",
        "{}",
        ran.err
    );
    assert_eq!(client.join().unwrap(), "answer to hello");
    assert_eq!(ran.left(), [""; 0]);
    agent.join().unwrap();
    let nothing = scene.tree("keys", &[("id", "no key")]).join("id");
    scene
        .request
        .borrow_mut()
        .ssh
        .insert("default".to_owned(), vec![nothing]);
    let error = scene
        .mounted("true", mount(true), ResolvedMount::Plain)
        .result
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("cannot give the step ssh agent \"default\": "),
        "{error}"
    );
}
