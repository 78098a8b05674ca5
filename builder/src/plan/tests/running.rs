use super::*;
use crate::dockerfile::{NetworkFlag, SecurityFlag};

fn run_of(body: &str) -> RunStep {
    only_run(&planned(&format!("FROM alpine\n{body}\n"))).clone()
}

#[test]
fn arguments() {
    for (body, want) in [
        ("RUN a $B 'c'", vec!["/bin/sh", "-c", "a $B 'c'"]),
        ("RUN [\"a\", \"$B\"]", vec!["a", "$B"]),
        (
            "SHELL [\"/bin/bash\", \"-euc\"]\nRUN a",
            vec!["/bin/bash", "-euc", "a"],
        ),
        ("RUN a \\\n  # comment\n  b", vec!["/bin/sh", "-c", "a   b"]),
    ] {
        assert_eq!(run_of(body).argv, want, "{body}");
    }
    let text = "FROM alpine\nWORKDIR /w\nUSER u:g\nRUN --network=none --security=insecure a";
    let request = BuildRequest {
        allow_insecure: true,
        ..BuildRequest::default()
    };
    let plan = planned_with(text, &request, &Shelf::new()).unwrap();
    let run = only_run(&plan);
    assert_eq!(
        (run.cwd.as_path(), run.user.as_str()),
        ("/w".as_ref(), "u:g")
    );
    assert_eq!(
        (run.network, run.security),
        (NetworkFlag::None, SecurityFlag::Insecure)
    );
    assert_eq!(run_of("RUN a").cwd, PathBuf::from("/"));
}

#[test]
fn insecure_steps_must_be_allowed() {
    let (message, line, hint) = refused("FROM alpine\nRUN --security=insecure a");
    assert_eq!(
        (message.as_str(), line),
        ("security.insecure is not allowed", Some(2))
    );
    assert!(hint.contains("--allow security.insecure"), "{hint}");
}

#[test]
fn heredocs() {
    let script = run_of("RUN <<EOF\necho $A\n\techo 'b'\nEOF");
    assert_eq!(script.argv, ["/bin/sh", "-c", "echo $A\n\techo 'b'\n"]);
    assert!(script.files.is_empty());

    let interpreted = run_of("RUN <<EOF\n#!/usr/bin/env python\nprint(1)\nEOF");
    assert_eq!(interpreted.argv, ["/bin/sh", "-c", "/dev/pipes/EOF"]);
    let file = HeredocFile {
        path: PathBuf::from("/dev/pipes/EOF"),
        content: "#!/usr/bin/env python\nprint(1)\n".to_owned(),
    };
    assert_eq!(interpreted.files, [file]);

    let input = run_of("RUN python3 <<'A' && cat <<-B\nprint($x)\nA\n\tb\n\tB");
    assert_eq!(
        input.argv[2],
        "python3 <<'A' && cat <<-B\nprint($x)\nA\nb\nB"
    );
    let plan = planned("FROM alpine\nRUN <<EOF\none\ntwo\nEOF");
    assert_eq!(target(&plan).steps[0].name, "RUN <<EOF (one...)");
    assert_eq!(
        history(target(&plan)),
        ["RUN /bin/sh -c one\ntwo\n # buildkit"]
    );
}

#[test]
fn mounts_and_their_defaults() {
    let mount = |options: &str| {
        let text =
            format!("FROM alpine AS s\nFROM alpine\nENV T=/t\nWORKDIR /w\nRUN --mount={options} x");
        only_run(&planned(&text)).mounts[0].clone()
    };
    let bind = |from, source: &str, target: &str, writable| RunMount::Bind {
        from,
        source: source.to_owned(),
        target: PathBuf::from(target),
        writable,
    };
    assert_eq!(
        mount("target=/x"),
        bind(RunMountFrom::Context, "", "/x", false)
    );
    assert_eq!(
        mount("type=bind,source=/a/../b,dst=$T,rw"),
        bind(RunMountFrom::Context, "b", "/t", true)
    );
    assert_eq!(
        mount("from=S,src=.,target=y"),
        bind(RunMountFrom::Stage(0), "", "/w/y", false)
    );
    assert_eq!(
        mount("from=scratch,target=y,ro=false"),
        bind(RunMountFrom::Scratch, "", "/w/y", true)
    );
    assert!(matches!(
        mount("from=alpine"),
        RunMount::Bind {
            from: RunMountFrom::Image(_),
            ..
        }
    ));

    let cache = |id: &str, target: &str| RunMount::Cache {
        id: id.to_owned(),
        target: PathBuf::from(target),
        read_only: false,
        sharing: Sharing::Shared,
        from: None,
        mode: 0o755,
        uid: 0,
        gid: 0,
    };
    assert_eq!(
        mount("type=cache,target=/var/cache/"),
        cache("/var/cache", "/var/cache")
    );
    assert_eq!(mount("type=cache,target=c"), cache("c", "/w/c"));
    assert_eq!(
        mount("type=cache,id=i,target=/c,sharing=locked,from=0,source=q,mode=0700,uid=1,gid=2,ro"),
        RunMount::Cache {
            id: "i".to_owned(),
            target: PathBuf::from("/c"),
            read_only: true,
            sharing: Sharing::Locked,
            from: Some((RunMountFrom::Stage(0), "q".to_owned())),
            mode: 0o700,
            uid: 1,
            gid: 2,
        }
    );

    let tmpfs = |size| RunMount::Tmpfs {
        target: PathBuf::from("/tmp"),
        size,
    };
    assert_eq!(mount("type=tmpfs,target=/tmp"), tmpfs(0));
    assert_eq!(mount("type=tmpfs,target=/tmp,size=64m"), tmpfs(64 << 20));
}

#[test]
fn secrets_and_agents() {
    let mount = |options: &str| run_of(&format!("RUN --mount={options} x")).mounts[0].clone();
    let secret = |id: &str, target: Option<&str>, env: Option<&str>| RunMount::Secret {
        id: id.to_owned(),
        target: target.map(PathBuf::from),
        env: env.map(str::to_owned),
        required: false,
        mode: 0o400,
        uid: 0,
        gid: 0,
    };
    assert_eq!(
        mount("type=secret,id=k"),
        secret("k", Some("/run/secrets/k"), None)
    );
    assert_eq!(
        mount("type=secret,id=a/b"),
        secret("a/b", Some("/run/secrets/b"), None)
    );
    assert_eq!(
        mount("type=secret,target=/etc/key"),
        secret("key", Some("/etc/key"), None)
    );
    assert_eq!(
        mount("type=secret,id=k,env=K"),
        secret("k", None, Some("K"))
    );
    assert_eq!(
        mount("type=secret,id=k,env=K,target=/k"),
        secret("k", Some("/k"), Some("K"))
    );
    let ssh = |id: &str, required| RunMount::Ssh {
        id: id.to_owned(),
        target: None,
        required,
        mode: 0o600,
        uid: 0,
        gid: 0,
    };
    assert_eq!(mount("type=ssh"), ssh("default", false));
    assert_eq!(mount("type=ssh,id=x,required"), ssh("x", true));
}

#[test]
fn wrong_mounts_say_what_was_meant() {
    for (options, message, hint) in [
        (
            "type=cach,target=/x",
            "unsupported mount type \"cach\"",
            "did you mean cache?",
        ),
        (
            "tagret=/x",
            "unexpected key 'tagret' in 'tagret=/x'",
            "did you mean target?",
        ),
        (
            "type=cache,target=/x,sharing=lockd",
            "unsupported sharing value \"lockd\"",
            "",
        ),
        (
            "source=x",
            "invalid mount target \"/\"",
            "say where with target=PATH",
        ),
        (
            "target=/",
            "invalid mount target \"/\"",
            "say where with target=PATH",
        ),
        (
            "target=/x,mode=0700",
            "unexpected key 'mode' for mount type 'bind'",
            "",
        ),
        (
            "type=tmpfs,target=/x,size=x",
            "invalid value for size: \"x\"",
            "",
        ),
        (
            "type=tmpfs,target=/x,required",
            "unexpected key 'required' for mount type 'tmpfs'",
            "",
        ),
        (
            "type=secret",
            "invalid secret mount. one of source, target required",
            "say which with id=NAME",
        ),
        (
            "type=secret,id=a,source=b",
            "both source and id can't be set",
            "",
        ),
        (
            "type=cache,target=/x,mode=9",
            "invalid value for mode: \"9\"",
            "",
        ),
        (
            "from=$X,target=/x",
            "'from' doesn't support variable expansion, define alias stage instead",
            "",
        ),
        (
            "target=/x,ro=perhaps",
            "invalid value for ro: \"perhaps\"",
            "",
        ),
    ] {
        let (got, line, got_hint) = refused(&format!("FROM alpine\nRUN --mount={options} x"));
        assert_eq!((got.as_str(), line), (message, Some(2)), "{options}");
        if !hint.is_empty() {
            assert_eq!(got_hint, hint, "{options}");
        }
    }
}

#[test]
fn a_cache_namespace_is_put_before_ids() {
    let request = build_args(&[("BUILDKIT_CACHE_MOUNT_NS", "ns")]);
    let text = "FROM alpine\nRUN --mount=type=cache,id=i,target=/x y";
    let plan = planned_with(text, &request, &Shelf::new()).unwrap();
    let RunMount::Cache { id, .. } = &only_run(&plan).mounts[0] else {
        panic!("a cache");
    };
    assert_eq!(id, "ns/i");
}
