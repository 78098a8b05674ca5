use super::*;
use rctr_storage::config::Healthcheck;

/// The config after `body` upon `alpine`, and the history.
fn configured(body: &str) -> (ContainerConfig, Vec<String>) {
    let plan = planned(&format!("FROM alpine\n{body}\n"));
    let stage = target(&plan);
    let history = stage.history.iter().map(|entry| entry.created_by.clone());
    (stage.config.clone(), history.collect())
}

#[test]
fn history_is_told_in_buildkit_s_words() {
    for (body, want) in [
        ("ENV A=1 B='x y'", "ENV A=1 B=x y"),
        ("LABEL a=1 b=2", "LABEL a=1 b=2"),
        ("ARG A=1", "ARG A=1"),
        ("ARG A", "ARG A"),
        ("WORKDIR /app", "WORKDIR /app"),
        ("WORKDIR /", "WORKDIR /"),
        ("CMD x \"y\"", "CMD [\"/bin/sh\" \"-c\" \"x \\\"y\\\"\"]"),
        ("CMD [\"x\", \"y\"]", "CMD [\"x\" \"y\"]"),
        ("ENTRYPOINT [\"x\"]", "ENTRYPOINT [\"x\"]"),
        ("EXPOSE 80 90-91/udp", "EXPOSE [80/tcp 90/udp 91/udp]"),
        ("USER me", "USER me"),
        ("VOLUME /a /b", "VOLUME [/a /b]"),
        ("STOPSIGNAL SIGINT", "STOPSIGNAL SIGINT"),
        ("SHELL [\"/bin/bash\", \"-c\"]", "SHELL [/bin/bash -c]"),
        ("MAINTAINER me <me@x>", "MAINTAINER me <me@x>"),
        (
            "HEALTHCHECK NONE",
            "HEALTHCHECK {Test:[NONE] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}",
        ),
        (
            "HEALTHCHECK --interval=90s --retries=2 CMD x y",
            "HEALTHCHECK {Test:[CMD-SHELL x y] Interval:1m30s Timeout:0s StartPeriod:0s StartInterval:0s Retries:2}",
        ),
        ("RUN x  y", "RUN /bin/sh -c x  y # buildkit"),
        ("RUN [\"x\", \"y\"]", "RUN x y # buildkit"),
        (
            "COPY --chown=1:2 --chmod=755 --link a b /c/",
            "COPY --chown=1:2 --chmod=755 a b /c/ # buildkit",
        ),
        ("ADD a b", "ADD a b # buildkit"),
        ("COPY --from=alpine a b", "COPY a b # buildkit"),
        ("COPY <<a /b\nx\na", "COPY <<a /b # buildkit"),
    ] {
        assert_eq!(configured(body).1, [want], "{body}");
    }
    assert!(configured("ONBUILD RUN x").1.is_empty());
}

#[test]
fn entrypoint_resets_an_inherited_cmd() {
    let both = |body: &str| {
        let (config, _) = configured(body);
        (config.entrypoint, config.cmd)
    };
    let some = |list: &[&str]| Some(words(list));
    assert_eq!(both("USER x"), (None, some(&["/bin/sh"])));
    assert_eq!(both("ENTRYPOINT [\"e\"]"), (some(&["e"]), None));
    assert_eq!(
        both("CMD [\"c\"]\nENTRYPOINT [\"e\"]"),
        (some(&["e"]), some(&["c"]))
    );
    assert_eq!(both("ENTRYPOINT e"), (some(&["/bin/sh", "-c", "e"]), None));
    assert_eq!(both("ENTRYPOINT [\"e\"]\nENTRYPOINT []"), (None, None));
    assert_eq!(
        both("SHELL [\"/s\", \"-x\"]\nCMD c"),
        (None, some(&["/s", "-x", "c"]))
    );
    let plan = planned("FROM alpine AS a\nCMD [\"c\"]\nFROM a\nENTRYPOINT [\"e\"]");
    assert_eq!(target(&plan).config.cmd, None);
}

#[test]
fn env_replaces_in_place() {
    let (config, _) = configured("ENV A=1 B=2\nENV A=3\nENV PATH=/x:$PATH");
    assert_eq!(config.env, ["PATH=/x:/bin", "A=3", "B=2"]);
    let plan = planned("FROM scratch\nENV A=1");
    assert_eq!(
        target(&plan).config.env,
        [format!("PATH={}", config::DEFAULT_PATH), "A=1".to_owned()]
    );
    assert_eq!(target(&plan).config.working_dir, "/");
}

#[test]
fn the_other_fields() {
    let (config, _) = configured(
        "ENV P=90 D=/data\nEXPOSE 80 $P/udp 100-101\nVOLUME [\"$D\", \"/v\"]\nUSER ${P}:1\nSTOPSIGNAL 9\nLABEL a=$P 'b c'=d\nONBUILD ENV X=$P\nSHELL [\"/s\"]\nWORKDIR a\nWORKDIR ../b/$P/",
    );
    let ports: Vec<_> = config.exposed_ports.keys().map(String::as_str).collect();
    assert_eq!(ports, ["100/tcp", "101/tcp", "80/tcp", "90/udp"]);
    let volumes: Vec<_> = config.volumes.keys().map(String::as_str).collect();
    assert_eq!(volumes, ["/data", "/v"]);
    assert_eq!(
        (config.user.as_str(), config.stop_signal.as_str()),
        ("90:1", "9")
    );
    assert_eq!(
        (config.labels["a"].as_str(), config.labels["b c"].as_str()),
        ("90", "d")
    );
    assert_eq!(config.on_build, ["ENV X=$P"]);
    assert_eq!(config.shell, Some(words(&["/s"])));
    assert_eq!(config.working_dir, "/b/90");
}

#[test]
fn ports_in_a_variable_are_split() {
    let (config, history) = configured("ENV P='80 81/udp'\nEXPOSE $P");
    assert_eq!(config.exposed_ports.len(), 2);
    assert_eq!(history[1], "EXPOSE [80/tcp 81/udp]");
}

#[test]
fn healthchecks() {
    let check = |body: &str| configured(body).0.healthcheck.unwrap();
    assert_eq!(check("HEALTHCHECK NONE").test, ["NONE"]);
    let options = "--interval=1m --timeout=2s --start-period=3s --start-interval=4s --retries=5";
    let got = check(&format!("HEALTHCHECK {options} CMD [\"a\", \"b\"]"));
    let want = Healthcheck {
        test: words(&["CMD", "a", "b"]),
        interval: 60_000_000_000,
        timeout: 2_000_000_000,
        start_period: 3_000_000_000,
        start_interval: 4_000_000_000,
        retries: 5,
    };
    assert_eq!(got, want);
    assert_eq!(check("HEALTHCHECK CMD a $b").test, ["CMD-SHELL", "a $b"]);
}

#[test]
fn labels_of_the_command_line_come_last() {
    let mut request = BuildRequest::default();
    request.labels.insert("a".to_owned(), "2".to_owned());
    let plan = planned_with("FROM alpine\nLABEL a=1 b=1", &request, &Shelf::new()).unwrap();
    assert_eq!(target(&plan).config.labels["a"], "2");
    assert_eq!(target(&plan).config.labels["b"], "1");
}

#[test]
fn the_author_is_inherited() {
    let plan = planned("FROM alpine AS a\nMAINTAINER me\nFROM a");
    assert_eq!(target(&plan).author.as_deref(), Some("me"));
}

#[test]
fn copies() {
    let plan = planned(
        "FROM alpine\nWORKDIR /w\nENV D=dir O=me\nCOPY --chown=$O:g --chmod=u=rwX --exclude=*.${D} --parents --link $D/* ./x y/\n",
    );
    let copy = only_copy(&plan);
    assert_eq!(
        copy.sources,
        ["dir/*", "./x"].map(|path| PlannedSource::Path(path.to_owned()))
    );
    assert_eq!(copy.destination, "/w/y/");
    assert_eq!(copy.chown.as_deref(), Some("me:g"));
    assert_eq!(copy.chmod.as_deref(), Some("u=rwX"));
    assert_eq!(copy.exclude, ["*.dir"]);
    assert!(copy.parents && copy.link && !copy.unpack_local && !copy.unpack_remote);
    let name = "COPY --chown=me:g --chmod=u=rwX --exclude=*.dir --parents --link dir/* ./x y/";
    assert_eq!(target(&plan).steps[1].name, name);
}

#[test]
fn sources_of_add() {
    let hash = format!("sha256:{}", "a".repeat(64));
    let plan = planned(&format!(
        "FROM alpine\nADD --checksum={hash} https://h/f /x"
    ));
    let add = only_copy(&plan);
    assert_eq!(add.sources, [PlannedSource::Url("https://h/f".to_owned())]);
    assert_eq!(add.checksum, Some(hash));
    assert!(add.unpack_local && !add.unpack_remote);
    let plan = planned("FROM alpine\nADD --keep-git-dir=true https://h/r.git#v1 /x");
    let add = only_copy(&plan);
    assert_eq!(
        add.sources,
        [PlannedSource::Git("https://h/r.git#v1".to_owned())]
    );
    assert!(add.keep_git_dir);
}

#[test]
fn heredocs_of_copy_are_expanded_unless_quoted() {
    let plan = planned("FROM alpine\nENV A=1\nCOPY <<a <<\"b\" /d/\n$A \"q\" \\$A\na\n$A\nb\n");
    let inline = |name: &str, content: &str| PlannedSource::Inline {
        name: name.to_owned(),
        content: content.to_owned(),
    };
    assert_eq!(
        only_copy(&plan).sources,
        [inline("a", "1 \"q\" $A\n"), inline("b", "$A\n")]
    );
}

#[test]
fn bad_values_are_errors_at_their_lines() {
    for (body, message) in [
        ("STOPSIGNAL what", "invalid signal: what"),
        ("EXPOSE x", "invalid containerPort: x"),
        ("EXPOSE 1/http", "invalid proto: http"),
        (
            "VOLUME [\"\"]",
            "VOLUME specified can not be an empty string",
        ),
        ("ENV $X=1", "ENV names can not be blank"),
        (
            "COPY --chmod=999 a b",
            "invalid chmod parameter: '999'. it should be octal string and between 0 and 07777",
        ),
        ("COPY https://h/x /y", "source can't be a URL for COPY"),
        ("COPY git@h:x /y", "source can't be a git ref for COPY"),
        (
            "ADD --checksum=sha256:1 https://h/x /y",
            "invalid checksum \"sha256:1\"",
        ),
        (
            "ADD --checksum=sha256:1 x /y",
            "checksum requires HTTP(S) or Git sources",
        ),
        (
            "ADD --checksum=sha256:1 https://h/x z /y",
            "checksum can't be specified for multiple sources",
        ),
    ] {
        let (got, line, _) = refused(&format!("FROM alpine\n\n{body}"));
        assert_eq!((got.as_str(), line), (message, Some(3)), "{body}");
    }
}
