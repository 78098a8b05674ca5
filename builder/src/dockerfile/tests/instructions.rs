//! A table for each instruction.

use super::*;

fn check(cases: &[(&str, Instruction)]) {
    for (text, want) in cases {
        assert_eq!(&instruction(text), want, "{text}");
    }
}

#[test]
fn from() {
    let from = |image: &str, name: Option<&str>, platform: Option<&str>| FromInstruction {
        image: image.to_owned(),
        name: name.map(str::to_owned),
        platform: platform.map(str::to_owned),
    };
    for (text, want) in [
        ("FROM a", from("a", None, None)),
        ("from  a:1  as  B-1.x_y", from("a:1", Some("b-1.x_y"), None)),
        ("FROM a@sha256:00", from("a@sha256:00", None, None)),
        ("FROM scratch AS x", from("scratch", Some("x"), None)),
        (
            "FROM --platform=linux/arm64 a",
            from("a", None, Some("linux/arm64")),
        ),
        (
            "FROM --platform=\"$BUILDPLATFORM\" $A",
            from("$A", None, Some("$BUILDPLATFORM")),
        ),
        ("FROM --platform= a", from("a", None, None)),
        ("FROM ${A:-b}", from("${A:-b}", None, None)),
        ("FROM -- a", from("a", None, None)),
    ] {
        assert_eq!(parsed(text).stages[0].from.node, want, "{text}");
    }
}

#[test]
fn run() {
    let run = |command: CommandLine| RunInstruction {
        command,
        heredocs: Vec::new(),
        mounts: Vec::new(),
        network: NetworkFlag::Default,
        security: SecurityFlag::Sandbox,
    };
    let mount = |options: &[(&str, &str)]| MountFlag {
        options: options
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
    };
    let plain = || run(shell("x"));
    check(&[
        (
            "RUN echo  'a  b' $X",
            Instruction::Run(run(shell("echo  'a  b' $X"))),
        ),
        (
            "RUN [\"a\", \"b c\\n\"]",
            Instruction::Run(run(exec(&["a", "b c\n"]))),
        ),
        (
            "RUN [ 'a', 'b' ]",
            Instruction::Run(run(shell("[ 'a', 'b' ]"))),
        ),
        (
            "RUN [\"a\"] && b",
            Instruction::Run(run(shell("[\"a\"] && b"))),
        ),
        ("RUN [\"a\",]", Instruction::Run(run(shell("[\"a\",]")))),
        ("RUN a --b", Instruction::Run(run(shell("a --b")))),
        (
            "RUN --mount=type=cache,target=/a --mount=TYPE=bind,ro,\"source=b\" x",
            Instruction::Run(RunInstruction {
                mounts: vec![
                    mount(&[("type", "cache"), ("target", "/a")]),
                    mount(&[("type", "bind"), ("ro", ""), ("source", "b")]),
                ],
                ..plain()
            }),
        ),
        (
            "RUN --mount='type=secret,\"id=a,b\",required' x",
            Instruction::Run(RunInstruction {
                mounts: vec![mount(&[
                    ("type", "secret"),
                    ("id", "a,b"),
                    ("required", ""),
                ])],
                ..plain()
            }),
        ),
        (
            "RUN --network=none --security=insecure x",
            Instruction::Run(RunInstruction {
                network: NetworkFlag::None,
                security: SecurityFlag::Insecure,
                ..plain()
            }),
        ),
        (
            "RUN --network=host x",
            Instruction::Run(RunInstruction {
                network: NetworkFlag::Host,
                ..plain()
            }),
        ),
    ]);
}

#[test]
fn cmd_and_entrypoint() {
    check(&[
        ("CMD a b", Instruction::Cmd(shell("a b"))),
        (
            "CMD [\"a\", \"\\u00e4\"]",
            Instruction::Cmd(exec(&["a", "ä"])),
        ),
        ("CMD []", Instruction::Cmd(exec(&[]))),
        ("CMD", Instruction::Cmd(shell(""))),
        (
            "CMD [\"a\" \"b\"]",
            Instruction::Cmd(shell("[\"a\" \"b\"]")),
        ),
        (
            "ENTRYPOINT [\"/a\"]",
            Instruction::Entrypoint(exec(&["/a"])),
        ),
        (
            "ENTRYPOINT exec a",
            Instruction::Entrypoint(shell("exec a")),
        ),
    ]);
}

fn copy_of(sources: &[&str], destination: &str) -> CopyInstruction {
    CopyInstruction {
        sources: sources
            .iter()
            .map(|source| CopySource::Path((*source).to_owned()))
            .collect(),
        destination: destination.to_owned(),
        from: None,
        chown: None,
        chmod: None,
        link: false,
        parents: false,
        exclude: Vec::new(),
        checksum: None,
        keep_git_dir: false,
        unpack: None,
    }
}

#[test]
fn copy() {
    let some = |text: &str| Some(text.to_owned());
    check(&[
        ("COPY a b", Instruction::Copy(copy_of(&["a"], "b"))),
        (
            "COPY a  *.c\t$X /d/",
            Instruction::Copy(copy_of(&["a", "*.c", "$X"], "/d/")),
        ),
        (
            "COPY [\"a b\", \"c\", \"/d e/\"]",
            Instruction::Copy(copy_of(&["a b", "c"], "/d e/")),
        ),
        (
            "COPY [\"<<EOF\", \"x\"]",
            Instruction::Copy(copy_of(&["<<EOF"], "x")),
        ),
        (
            "COPY --from=build --chown=a:b --chmod=u+x,g-w --link --parents --exclude=*.o --exclude='a b' s d",
            Instruction::Copy(CopyInstruction {
                from: some("build"),
                chown: some("a:b"),
                chmod: some("u+x,g-w"),
                link: true,
                parents: true,
                exclude: strings(&["*.o", "a b"]),
                ..copy_of(&["s"], "d")
            }),
        ),
        (
            "COPY --link=false --parents=TRUE --from= s d",
            Instruction::Copy(CopyInstruction {
                parents: true,
                ..copy_of(&["s"], "d")
            }),
        ),
    ]);
}

#[test]
fn add() {
    check(&[
        ("ADD a b", Instruction::Add(copy_of(&["a"], "b"))),
        (
            "ADD --checksum=sha256:00 --keep-git-dir --unpack=false --chmod=644 https://a/b /",
            Instruction::Add(CopyInstruction {
                checksum: Some("sha256:00".to_owned()),
                keep_git_dir: true,
                unpack: Some(false),
                chmod: Some("644".to_owned()),
                ..copy_of(&["https://a/b"], "/")
            }),
        ),
    ]);
}

#[test]
fn env_and_label() {
    let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    };
    for (text, want) in [
        ("A=b", pairs(&[("A", "b")])),
        ("A=b C=d", pairs(&[("A", "b"), ("C", "d")])),
        (
            "A=\"b c\" D='e  f'",
            pairs(&[("A", "\"b c\""), ("D", "'e  f'")]),
        ),
        ("A=b\\ c D=", pairs(&[("A", "b\\ c"), ("D", "")])),
        (
            "A=\"b\\\" c\" D=$X",
            pairs(&[("A", "\"b\\\" c\""), ("D", "$X")]),
        ),
        ("A=b=c", pairs(&[("A", "b=c")])),
        ("A b  c", pairs(&[("A", "b  c")])),
        ("A b=c", pairs(&[("A", "b=c")])),
        ("A \"b c\" d", pairs(&[("A", "\"b c\" d")])),
        ("\"a.b c\"=d", pairs(&[("\"a.b c\"", "d")])),
        ("A='it\\' B=c", pairs(&[("A", "'it\\'"), ("B", "c")])),
    ] {
        assert_eq!(
            instruction(&format!("ENV {text}")),
            Instruction::Env(want.clone()),
            "{text}"
        );
        assert_eq!(
            instruction(&format!("LABEL {text}")),
            Instruction::Label(want),
            "{text}"
        );
    }
}

#[test]
fn arg() {
    let argument = |name: &str, default: Option<&str>| Argument {
        name: name.to_owned(),
        default: default.map(str::to_owned),
    };
    check(&[
        ("ARG A", Instruction::Arg(vec![argument("A", None)])),
        ("ARG A=", Instruction::Arg(vec![argument("A", Some(""))])),
        (
            "ARG A=\"b c\" D E=$A",
            Instruction::Arg(vec![
                argument("A", Some("\"b c\"")),
                argument("D", None),
                argument("E", Some("$A")),
            ]),
        ),
        (
            "ARG 'A'=b",
            Instruction::Arg(vec![argument("A", Some("b"))]),
        ),
    ]);
    let file = parsed("ARG A=1\nARG B\nFROM a\n");
    assert_eq!(file.global_args.len(), 2);
}

#[test]
fn one_argument() {
    check(&[
        ("WORKDIR /a b", Instruction::Workdir("/a b".to_owned())),
        (
            "WORKDIR \"$A/b\"",
            Instruction::Workdir("\"$A/b\"".to_owned()),
        ),
        ("USER a:b", Instruction::User("a:b".to_owned())),
        (
            "STOPSIGNAL SIGTERM",
            Instruction::Stopsignal("SIGTERM".to_owned()),
        ),
        (
            "MAINTAINER A <a@b.c>",
            Instruction::Maintainer("A <a@b.c>".to_owned()),
        ),
    ]);
}

#[test]
fn lists() {
    check(&[
        (
            "EXPOSE 80 443/tcp 8000-8010/udp $P",
            Instruction::Expose(strings(&["80", "443/tcp", "8000-8010/udp", "$P"])),
        ),
        ("VOLUME /a  /b", Instruction::Volume(strings(&["/a", "/b"]))),
        (
            "VOLUME [\"/a b\", \"/c\"]",
            Instruction::Volume(strings(&["/a b", "/c"])),
        ),
        (
            "SHELL [\"/bin/bash\", \"-c\"]",
            Instruction::Shell(strings(&["/bin/bash", "-c"])),
        ),
    ]);
}

#[test]
fn healthcheck() {
    let check_of = |command| HealthcheckInstruction::Check {
        command,
        interval: 0,
        timeout: 0,
        start_period: 0,
        start_interval: 0,
        retries: 0,
    };
    check(&[
        (
            "HEALTHCHECK none",
            Instruction::Healthcheck(HealthcheckInstruction::None),
        ),
        (
            "HEALTHCHECK CMD a  b",
            Instruction::Healthcheck(check_of(shell("a  b"))),
        ),
        (
            "HEALTHCHECK cmd [\"a\"]",
            Instruction::Healthcheck(check_of(exec(&["a"]))),
        ),
        (
            "HEALTHCHECK --interval=1m30s --timeout=1.5s --start-period=2h --start-interval=5ms --retries=3 CMD a",
            Instruction::Healthcheck(HealthcheckInstruction::Check {
                command: shell("a"),
                interval: 90_000_000_000,
                timeout: 1_500_000_000,
                start_period: 7_200_000_000_000,
                start_interval: 5_000_000,
                retries: 3,
            }),
        ),
    ]);
}

#[test]
fn onbuild() {
    check(&[
        ("ONBUILD RUN a", Instruction::Onbuild("RUN a".to_owned())),
        (
            "onbuild copy --chown=1 a b",
            Instruction::Onbuild("copy --chown=1 a b".to_owned()),
        ),
        (
            "ONBUILD RUN <<-EOF\n\ta\n\tEOF\n",
            Instruction::Onbuild("RUN <<-EOF\n\ta\nEOF".to_owned()),
        ),
    ]);
    let file = parsed("FROM a");
    let span = crate::source::Span { first: 1, last: 1 };
    let trigger = parse_onbuild("RUN <<-EOF\n\ta\nEOF", &file.file, span).unwrap();
    assert_eq!(trigger.span, span);
    assert_eq!(trigger.text, "RUN <<-EOF");
    let Instruction::Run(run) = trigger.node else {
        panic!("{trigger:?}")
    };
    assert_eq!(run.heredocs[0].content, "a\n");
    for (trigger, message) in [
        ("FROM b", "FROM isn't allowed as an ONBUILD trigger"),
        ("", "ONBUILD requires at least one argument"),
        (
            "RUN a\nRUN b",
            "onbuild trigger should be a single expression",
        ),
        ("RNU a", "unknown instruction: RNU"),
    ] {
        let error = parse_onbuild(trigger, &file.file, span).unwrap_err();
        assert_eq!(error.message, message);
        assert_eq!(error.place.unwrap().span, span);
    }
}
