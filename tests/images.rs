//! Images at rest and on the road: `import`, `load`, `save`, `export`, `tag`, `rmi`, `images`, `history`.

use std::io::{Read, Write};
use std::net::TcpListener;

use serde_json::Value;

use crate::harness::{Feature, Sandbox, archive, images, require};

fn id(sandbox: &Sandbox, image: &str) -> String {
    sandbox
        .words(["image", "inspect", "-f", "{{.Id}}", image])
        .ok()
        .line()
}

/// A store with `app:1`, two layers over busybox.
fn with_app() -> Sandbox {
    let sandbox = Sandbox::with_busybox();
    sandbox.run("--name c1", "sh -c 'echo one > /one; rm /etc/group; mkdir /dir; ln /one /dir/hard; mkfifo /dir/fifo'").ok();
    sandbox.rctr("commit c1 app:0").ok();
    sandbox
        .rctr("run --network none --name dd app:0 sh -c 'rm -r /dir; mkdir /dir; chown 5:6 /one'")
        .ok();
    sandbox
        .rctr("commit -c 'CMD [\"cat\",\"/one\"]' dd app:1")
        .ok();
    sandbox.rctr("rm c1 dd").ok();
    sandbox
}

#[test]
fn import_reads_file_pipe_and_gzip() {
    let sandbox = Sandbox::new();
    let tar = std::fs::read(images::busybox()).unwrap();
    let id = sandbox
        .words(["import", images::busybox().to_str().unwrap(), "a"])
        .ok()
        .line();
    assert!(id.starts_with("sha256:"), "{id}");
    sandbox.rctr("import - b").stdin(tar.clone()).ok();
    sandbox
        .rctr("import -m note -c 'CMD [\"echo\",\"hi\"]' - c1:1")
        .stdin(archive::gzip(&tar))
        .ok();
    assert_eq!(
        sandbox.rctr("run --rm --network none c1:1").ok().line(),
        "hi"
    );
    let layers = std::fs::read_dir(sandbox.store().join("layers"))
        .unwrap()
        .count();
    assert_eq!(layers, 1, "the same content is on disk once");
}

#[test]
fn import_reads_urls() {
    let sandbox = Sandbox::new();
    let tar = std::fs::read(images::busybox()).unwrap();
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let at = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let moved = format!(
            "HTTP/1.1 302 Found\r\nlocation: http://{at}/there\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
        let whole = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            tar.len()
        );
        let cut = &tar[..tar.len() / 2];
        for (head, body) in [(moved, &[][..]), (whole.clone(), &tar), (whole, cut)] {
            let (mut client, _) = listener.accept().unwrap();
            let _ = client.read(&mut [0; 4096]).unwrap();
            client.write_all(head.as_bytes()).unwrap();
            client.write_all(body).unwrap();
        }
    });
    sandbox
        .rctr(&format!(
            "import -c 'CMD [\"echo\",\"hi\"]' http://me:secret@{at}/here web:1"
        ))
        .ok();
    let ran = sandbox.rctr("run --rm --network none web:1").ok();
    assert_eq!(ran.line(), "hi");
    let comment = sandbox.rctr("history --format {{.Comment}} web:1").ok();
    assert_eq!(comment.line(), format!("Imported from http://{at}/here"));
    let cut = format!("import http://{at}/cut web:2");
    sandbox.rctr(&cut).fails(1).explains();
    server.join().unwrap();
    sandbox.rctr(&cut).fails(1).explains();
    assert_eq!(sandbox.rctr("images -q").ok().lines().len(), 1);
    sandbox.assert_clean();
}

#[test]
fn saved_image_comes_back_the_same() {
    let sandbox = with_app();
    let before = id(&sandbox, "app:1");
    sandbox.rctr("save -o app.tar app:1").ok();
    let history = sandbox
        .rctr("history --no-trunc --format '{{.CreatedBy}}|{{.Comment}}' app:1")
        .ok()
        .stdout;
    sandbox.rctr("rmi app:1 app:0 busybox").ok();
    assert_eq!(sandbox.rctr("images -q").ok().stdout, "");
    sandbox
        .rctr("load -i app.tar")
        .ok()
        .prints("Loaded image: app:1");
    assert_eq!(id(&sandbox, "app:1"), before);
    assert_eq!(
        sandbox.rctr("run --rm --network none app:1").ok().line(),
        "one"
    );
    let stat = sandbox.rctr("run --rm --network none app:1 sh -c 'stat -c %u:%g /one; ls -A /dir; test -e /etc/group || echo gone'").ok();
    assert_eq!(stat.lines(), ["5:6", "gone"]);
    assert_eq!(
        sandbox
            .rctr("history --no-trunc --format '{{.CreatedBy}}|{{.Comment}}' app:1")
            .ok()
            .stdout,
        history
    );
}

#[test]
fn save_load_save_gives_identical_bytes() {
    let sandbox = with_app();
    for format in ["", "--format oci-archive"] {
        sandbox
            .rctr(&format!("save {format} -o first.tar app:1"))
            .ok();
        let other = Sandbox::new();
        let first = sandbox.work().join("first.tar");
        other.words(["load", "-i", first.to_str().unwrap()]).ok();
        other
            .rctr(&format!("save {format} -o second.tar app:1"))
            .ok();
        let digests = [first, other.work().join("second.tar")]
            .map(|p| archive::sha256(&std::fs::read(p).unwrap()));
        assert_eq!(digests[0], digests[1], "{format}");
    }
}

#[test]
fn load_reads_pipes_and_compressed_archives() {
    let sandbox = with_app();
    let tar = sandbox.rctr("save app:1").ok().bytes;
    for bytes in [tar.clone(), archive::gzip(&tar)] {
        let other = Sandbox::new();
        other
            .rctr("load")
            .stdin(bytes)
            .ok()
            .prints("Loaded image: app:1");
        assert_eq!(id(&other, "app:1"), id(&sandbox, "app:1"));
    }
}

#[test]
fn several_images_in_one_archive_share_layers() {
    let sandbox = with_app();
    sandbox.rctr("save -o both.tar app:0 app:1").ok();
    let other = Sandbox::new();
    let path = sandbox.work().join("both.tar");
    other
        .words(["load", "-i", path.to_str().unwrap()])
        .ok()
        .prints("app:0")
        .prints("app:1");
    assert_eq!(
        std::fs::read_dir(other.store().join("layers"))
            .unwrap()
            .count(),
        3
    );
}

#[test]
fn older_docker_archives_are_loaded() {
    let sandbox = Sandbox::new();
    let base = std::fs::read(images::busybox()).unwrap();
    let top = archive::Archive::new()
        .file("etc/.wh.group", 0o644, b"")
        .file("new", 0o644, b"new")
        .bytes();
    sandbox
        .rctr("load")
        .stdin(archive::docker_archive("old:1", &[base, top]))
        .ok();
    let output = sandbox.rctr("run --rm --network none old:1 sh -c 'cat /new; test -e /etc/group || echo ; ls -A /etc | grep wh'").fails(1);
    assert_eq!(output.stdout, "new\n");
}

#[test]
fn skopeo_and_umoci_read_store_and_archives() {
    require!(Feature::Tool("skopeo"), Feature::Tool("umoci"));
    let sandbox = with_app();
    let store = sandbox.store().display().to_string();
    let inspected = sandbox
        .program(&format!("skopeo inspect --config oci:{store}:app:1"))
        .ok();
    assert!(inspected.stdout.contains("diff_ids"), "{inspected}");
    sandbox.rctr("save -o docker.tar app:1").ok();
    sandbox
        .rctr("save --format oci-archive -o oci.tar app:1")
        .ok();
    sandbox
        .program("skopeo inspect --config docker-archive:docker.tar")
        .ok();
    sandbox
        .program("skopeo copy --insecure-policy docker-archive:docker.tar oci:copied:app")
        .ok();
    sandbox
        .program("skopeo inspect --config oci-archive:oci.tar")
        .ok();
    sandbox
        .program(&format!("umoci list --layout {store}"))
        .ok()
        .prints("app:1");
    sandbox.program("umoci stat --image copied:app").ok();
}

#[test]
fn what_skopeo_writes_is_loaded() {
    require!(Feature::Tool("skopeo"));
    let sandbox = with_app();
    let before = id(&sandbox, "app:1");
    sandbox.rctr("save -o app.tar app:1").ok();
    sandbox
        .program("skopeo copy --insecure-policy docker-archive:app.tar docker-archive:s.tar:copy:1")
        .ok();
    sandbox.program("skopeo copy --insecure-policy --dest-compress docker-archive:app.tar oci-archive:o.tar:ocopy:1").ok();
    for (tar, name) in [("s.tar", "copy:1"), ("o.tar", "ocopy:1")] {
        let other = Sandbox::new();
        let path = sandbox.work().join(tar);
        let output = other.words(["load", "-i", path.to_str().unwrap()]).ok();
        assert_eq!(other.rctr("images -q").ok().lines().len(), 1, "{output}");
        let loaded = other
            .rctr("images --format '{{.ID}}' --no-trunc")
            .ok()
            .line();
        if tar == "s.tar" {
            assert_eq!(loaded, before, "{name}");
        }
        let short = other.rctr("images -q").ok().line();
        assert_eq!(
            other
                .rctr(&format!("run --rm --network none {short} cat /one"))
                .ok()
                .line(),
            "one"
        );
    }
}

#[test]
fn podman_loads_what_we_save_and_we_what_it_saves() {
    require!(Feature::Tool("podman"), Feature::SubordinateIds);
    let sandbox = with_app();
    let run = sandbox.dir().join("run");
    let podman = |line: &str| {
        let dir = sandbox.dir().display();
        sandbox.program(&format!("podman --root {dir}/p --runroot {}/p --cgroup-manager cgroupfs --events-backend file {line}", run.display()))
    };
    sandbox.rctr("save -o docker.tar app:1").ok();
    podman("load -q -i docker.tar").ok().prints("app:1");
    let expected = id(&sandbox, "app:1");
    let inspected = podman("image inspect --format {{.Id}} app:1").ok().line();
    assert_eq!(format!("sha256:{inspected}"), expected);
    podman("save -q --format docker-archive -o podman.tar app:1").ok();
    podman("save -q --format oci-archive -o podman-oci.tar app:1").ok();
    for tar in ["podman.tar", "podman-oci.tar"] {
        let other = Sandbox::new();
        let path = sandbox.work().join(tar);
        other.words(["load", "-i", path.to_str().unwrap()]).ok();
        let short = other.rctr("images -q").ok().line();
        assert_eq!(
            other
                .rctr(&format!("run --rm --network none {short} cat /one"))
                .ok()
                .line(),
            "one"
        );
    }
    // What only docker's format has: podman must not take the archive for an OCI layout.
    let dockerfile =
        "FROM busybox\nHEALTHCHECK CMD true\nSHELL [\"/bin/sh\", \"-ec\"]\nONBUILD RUN true\n";
    for (name, tags) in [("whole:1", ""), ("two:1", "-t two:2")] {
        let build = format!("build -q -t {name} {tags} -");
        sandbox.rctr(&build).stdin(dockerfile).ok();
        let image = name.trim_end_matches(":1");
        sandbox.rctr(&format!("save -o whole.tar {image}")).ok();
        let full = format!("docker.io/library/{name}");
        podman("load -q -i whole.tar").ok().prints(&full);
        let inspected = podman(&format!("image inspect {full}")).ok().stdout;
        let inspected: Value = serde_json::from_str(&inspected).unwrap();
        assert_eq!(
            inspected[0]["Healthcheck"]["Test"][1], "true",
            "{inspected}"
        );
        // The other two it doesn't show, and keeps.
        podman(&format!("push -q {full} dir:pushed-{image}")).ok();
        let id = inspected[0]["Id"].as_str().unwrap();
        let config = sandbox.read(&format!("pushed-{image}/{id}"));
        for part in ["Healthcheck", "OnBuild", "Shell"] {
            assert!(config.contains(part), "{config}");
        }
    }
    // skopeo reads it as either.
    if Feature::Tool("skopeo").check().is_ok() {
        sandbox.rctr("save -o whole.tar whole:1").ok();
        for place in ["docker-archive:whole.tar", "oci-archive:whole.tar:whole:1"] {
            let config = sandbox
                .program(&format!("skopeo inspect --config --raw {place}"))
                .ok();
            config.prints("Healthcheck");
        }
    }
    // Files of subordinate ids: only podman's own namespace can remove them.
    podman("unshare rm -rf ../p").ok();
}

#[test]
fn export_and_import_keep_the_files() {
    let sandbox = with_app();
    sandbox.rctr("create --network none --name ee app:1").ok();
    sandbox.rctr("export -o e.tar ee").ok();
    let listed = sandbox.program("tar tvf e.tar --numeric-owner").ok();
    assert!(
        listed
            .stdout
            .lines()
            .any(|l| l.contains("5/6") && l.ends_with(" one")),
        "{listed}"
    );
    assert!(!listed.stdout.contains(" etc/group\n"), "{listed}");
    sandbox.rctr("import e.tar flat").ok();
    assert_eq!(
        sandbox
            .rctr("run --rm --network none flat cat /one")
            .ok()
            .line(),
        "one"
    );
}

#[test]
fn tags_and_removal_follow_dockers_rules() {
    let sandbox = with_app();
    sandbox.rctr("tag app:1 other:2").ok();
    assert_eq!(id(&sandbox, "other:2"), id(&sandbox, "app:1"));
    assert_eq!(sandbox.rctr("rmi other:2").ok().line(), "Untagged: other:2");
    sandbox
        .rctr("run -d --network none --name c1 app:1 sleep 1000")
        .ok();
    let short = id(&sandbox, "app:1")[7..19].to_owned();
    sandbox
        .rctr(&format!("rmi {short}"))
        .fails(1)
        .says("image is being used by running container")
        .explains();
    sandbox.rctr("rm -f c1").ok();
    sandbox
        .rctr("rmi app:1")
        .ok()
        .prints("Untagged: app:1")
        .prints("Deleted: sha256:");
    sandbox.rctr("run --rm --network none app:0 cat /one").ok();
    sandbox.assert_clean();
}

#[test]
fn removing_all_images_empties_the_store() {
    let sandbox = with_app();
    sandbox.rctr("rmi app:1 app:0 busybox").ok();
    for part in ["layers", "blobs/sha256"] {
        let left: Vec<_> = std::fs::read_dir(sandbox.store().join(part))
            .unwrap()
            .map(|e| e.unwrap().path())
            .collect();
        assert!(left.is_empty(), "{part}: {left:?}");
    }
    sandbox.assert_clean();
}

#[test]
fn prune_removes_what_has_no_name() {
    let sandbox = with_app();
    sandbox
        .rctr("create --network none --name c1 busybox true")
        .ok();
    sandbox.rctr("commit c1").ok();
    sandbox.rctr("rm c1").ok();
    sandbox
        .rctr("images -f dangling=true")
        .ok()
        .prints("<none>");
    sandbox
        .rctr("image prune -f")
        .ok()
        .prints("Total reclaimed space");
    assert_eq!(sandbox.rctr("images -q -f dangling=true").ok().stdout, "");
    assert_eq!(sandbox.rctr("images").ok().lines().len(), 4);
}

#[test]
fn images_table_has_dockers_columns() {
    let sandbox = with_app();
    let output = sandbox.rctr("images").ok();
    let header: Vec<_> = output.lines()[0]
        .split("  ")
        .map(str::trim)
        .filter(|c| !c.is_empty())
        .collect();
    assert_eq!(header, ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"]);
    assert_eq!(
        sandbox
            .rctr("images app:1 --format '{{.Repository}}:{{.Tag}}'")
            .ok()
            .line(),
        "app:1"
    );
    assert_eq!(sandbox.rctr("history -q app:1").ok().lines().len(), 3);
}
