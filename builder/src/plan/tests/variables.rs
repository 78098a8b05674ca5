use super::*;

/// The environment of the only RUN without PATH, in its order.
fn env(plan: &Plan) -> Vec<&str> {
    let env = only_run(plan).env.iter().map(String::as_str);
    env.filter(|entry| !entry.starts_with("PATH=")).collect()
}

#[test]
fn arg_and_env() {
    for (body, args, want) in [
        // Defaults, and what is given.
        (
            "ARG A=1\nARG B\nARG C=3",
            &[("C", "c")][..],
            vec!["A=1", "C=c"],
        ),
        ("ARG A=1 B=$A C='$A'", &[], vec!["A=1", "B=1", "C=$A"]),
        // The later of ENV and ARG wins, as measured with BuildKit (docker 20.10), though its reference says ENV.
        ("ENV A=1\nARG A=2\nENV B=$A", &[], vec!["A=2", "B=2"]),
        ("ARG A=1\nENV A=2", &[("A", "3")], vec!["A=2"]),
        ("ARG A\nENV A=${A:-d}", &[("A", "3")], vec!["A=3"]),
        // One instruction sees the values from before it.
        ("ENV A=1\nENV A=2 B=$A", &[], vec!["A=2", "B=1"]),
        ("ENV A one word $PATH", &[], vec!["A=one word /bin"]),
        (
            "ENV A=\"x y\" B=x\\ y C='$Q'",
            &[],
            vec!["A=x y", "B=x y", "C=$Q"],
        ),
        // What isn't declared isn't there.
        ("ENV A=$B", &[("B", "1")], vec!["A="]),
        ("ENV A=$TARGETOS", &[], vec!["A="]),
        (
            "ARG TARGETOS\nENV A=$TARGETOS",
            &[],
            vec!["TARGETOS=linux", "A=linux"],
        ),
        ("ARG TARGETOS", &[("TARGETOS", "x")], vec!["TARGETOS=x"]),
        (
            "ARG TARGETVARIANT",
            &[("TARGETVARIANT", "x")],
            vec!["TARGETVARIANT=x"],
        ),
        ("ARG TARGETSTAGE", &[], vec!["TARGETSTAGE=default"]),
        // Proxies are there without declaration, but not for words.
        ("ENV A=$http_proxy", &[("http_proxy", "p")], vec!["A="]),
        (
            "ARG http_proxy",
            &[("http_proxy", "p")],
            vec!["http_proxy=p"],
        ),
        ("ARG BUILDKIT_SBOM_SCAN_STAGE=1", &[], vec![]),
        (
            "ARG SOURCE_DATE_EPOCH",
            &[("SOURCE_DATE_EPOCH", "5")],
            vec!["SOURCE_DATE_EPOCH=5"],
        ),
    ] {
        let text = format!("FROM alpine\n{body}\nRUN x");
        let plan = planned_with(&text, &build_args(args), &Shelf::new()).unwrap();
        assert_eq!(env(&plan), want, "{body}");
    }
}

#[test]
fn global_args_need_a_declaration_in_the_stage() {
    for (text, want) in [
        ("ARG G=1\nFROM alpine\nRUN x", vec![]),
        ("ARG G=1\nFROM alpine\nARG G\nRUN x", vec!["G=1"]),
        ("ARG G=1\nFROM alpine\nARG G=2\nRUN x", vec!["G=2"]),
        ("ARG G\nFROM alpine\nARG G\nRUN x", vec![]),
    ] {
        assert_eq!(env(&planned(text)), want, "{text}");
    }
    let plan = planned_with(
        "ARG G=1\nFROM alpine\nARG G=2\nRUN x",
        &build_args(&[("G", "3")]),
        &Shelf::new(),
    );
    assert_eq!(env(&plan.unwrap()), ["G=3"]);
}

#[test]
fn stages_inherit_env_and_args() {
    let text = "FROM alpine AS a\nARG A=1 B=1\nENV B=2 C=3\nFROM a\nRUN x";
    let plan = planned(text);
    assert_eq!(env(&plan), ["A=1", "B=2", "C=3"]);
    assert_eq!(plan.stages[1].config.env, ["PATH=/bin", "B=2", "C=3"]);
    assert_eq!(
        history(&plan.stages[1]),
        ["RUN |2 A=1 B=2 /bin/sh -c x # buildkit"]
    );
    let separate = planned("FROM alpine AS a\nARG A=1\nFROM alpine\nRUN x");
    assert!(env(&separate).is_empty());
}

#[test]
fn proxies_leave_no_trace() {
    let request = build_args(&[("HTTP_PROXY", "p"), ("no_proxy", "n")]);
    let plan = planned_with("FROM alpine\nRUN x", &request, &Shelf::new()).unwrap();
    let run = only_run(&plan);
    assert_eq!(
        run.proxies,
        ["HTTP_PROXY=p", "NO_PROXY=n", "http_proxy=p", "no_proxy=n"]
    );
    assert!(env(&plan).is_empty());
    assert_eq!(history(target(&plan)), ["RUN /bin/sh -c x # buildkit"]);
    assert!(plan.notes.is_empty());
    let text = "FROM alpine\nARG HTTP_PROXY\nRUN x";
    let declared = planned_with(text, &request, &Shelf::new()).unwrap();
    assert_eq!(env(&declared), ["HTTP_PROXY=p"]);
    assert!(
        !only_run(&declared)
            .proxies
            .contains(&"HTTP_PROXY=p".to_owned())
    );
}

#[test]
fn unused_build_args_are_told() {
    let text = "ARG GLOBAL\nFROM alpine AS other\nARG OTHER\nFROM alpine\nARG USED\n";
    let request = build_args(&[
        ("GLOBAL", ""),
        ("OTHER", ""),
        ("USED", ""),
        ("FOO", "1"),
        ("USEDD", "1"),
        ("TARGETARCH", "x"),
        ("BUILDKIT_INLINE_CACHE", "1"),
    ]);
    let plan = planned_with(text, &request, &Shelf::new()).unwrap();
    assert_eq!(
        plan.notes,
        ["[Warning] One or more build-args [FOO USEDD] were not consumed (did you mean USED?)"]
    );
}

#[test]
fn the_epoch_has_several_sources() {
    let epoch = |text: &str, request: &BuildRequest| {
        planned_with(text, request, &Shelf::new()).map(|plan| plan.epoch)
    };
    let given = build_args(&[("SOURCE_DATE_EPOCH", "7")]);
    assert_eq!(epoch("FROM alpine", &given).unwrap(), Some(7));
    let global = "ARG SOURCE_DATE_EPOCH=8\nFROM alpine";
    assert_eq!(epoch(global, &BuildRequest::default()).unwrap(), Some(8));
    assert_eq!(
        epoch("FROM alpine", &BuildRequest::default()).unwrap(),
        None
    );
    let request = BuildRequest {
        epoch: Some(9),
        ..BuildRequest::default()
    };
    let text = "FROM alpine\nARG SOURCE_DATE_EPOCH\nRUN x";
    let plan = planned_with(text, &request, &Shelf::new()).unwrap();
    assert_eq!(
        (plan.epoch, env(&plan)),
        (Some(9), vec!["SOURCE_DATE_EPOCH=9"])
    );
    assert!(epoch("FROM alpine", &build_args(&[("SOURCE_DATE_EPOCH", "now")])).is_err());
}

#[test]
fn what_can_not_be_expanded_is_an_error_at_its_line() {
    for (text, line) in [
        ("FROM alpine\nENV A=${B", 2),
        ("FROM alpine\nRUN x\nARG A=${B:?needed}", 3),
        ("ARG A=${B:?needed}\nFROM alpine", 1),
        ("FROM ${A:?needed}", 1),
        ("FROM alpine\nRUN --mount=target=${X:?needed} x", 2),
    ] {
        let (message, at, _) = refused(text);
        assert_eq!(at, Some(line), "{text}: {message}");
    }
}
