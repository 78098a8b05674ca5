use super::*;
use crate::request::NamedContext;

fn labels(plan: &Plan) -> Vec<&str> {
    plan.stages
        .iter()
        .map(|stage| stage.label.as_str())
        .collect()
}

/// Where each COPY of the stage looks its paths up.
fn froms(stage: &PlannedStage) -> Vec<CopyFrom> {
    let copies = stage.steps.iter().map(|step| match &step.operation {
        Operation::Copy(copy) => copy.from.clone(),
        other => panic!("{other:?}"),
    });
    copies.collect()
}

const THREE: &str = "FROM alpine AS a\nRUN a\nFROM alpine AS unused\nRUN u\nFROM a AS b\nRUN b\nFROM scratch\nCOPY --from=b /x /\nCOPY --from=0 /y /\n";

#[test]
fn only_what_the_target_needs_in_order() {
    let plan = planned(THREE);
    assert_eq!(labels(&plan), ["a", "b", "stage-3"]);
    let [_, b, last] = plan.stages.as_slice() else {
        panic!("three stages");
    };
    assert!(matches!(b.base, Base::Stage(0)));
    assert!(matches!(last.base, Base::Scratch));
    let froms = froms(last);
    assert_eq!(froms, [CopyFrom::Stage(1), CopyFrom::Stage(0)]);
    assert_eq!(labels(&planned("FROM alpine")), [""]);
    assert_eq!(labels(&planned("FROM alpine\nFROM alpine AS x")), ["x"]);
}

#[test]
fn targets_by_name_and_number() {
    for (name, want) in [
        ("B", vec!["a", "b"]),
        ("unused", vec!["unused"]),
        ("0", vec!["a"]),
    ] {
        let request = BuildRequest {
            target: Some(name.to_owned()),
            ..BuildRequest::default()
        };
        let plan = planned_with(THREE, &request, &Shelf::new()).unwrap();
        assert_eq!(labels(&plan), want, "{name}");
    }
    for (name, hint) in [
        ("unusd", "did you mean unused?"),
        ("nothing-like-it", "the stages are a, unused, b"),
        ("9", "the stages are 0 to 3"),
    ] {
        let request = BuildRequest {
            target: Some(name.to_owned()),
            ..BuildRequest::default()
        };
        let refused = refused_with(THREE, &request);
        let message = format!("target stage {name:?} could not be found");
        assert_eq!(refused, (message, None, hint.to_owned()));
    }
}

#[test]
fn from_is_expanded_with_global_args() {
    let text = "ARG V=alp\nARG REST=${V}ine\nFROM $REST AS x\nFROM ${X:-x}\nARG V\nRUN v\n";
    let plan = planned(text);
    assert_eq!(labels(&plan), ["x", "stage-1"]);
    assert_eq!(plan.stages[0].base_name, "alpine");
    assert!(only_run(&plan).env.contains(&"V=alp".to_owned()));
    let request = build_args(&[("REST", "other")]);
    let (message, line, _) = refused_with(text, &request);
    assert_eq!(
        (message.as_str(), line),
        ("cannot get the image other", Some(3))
    );
}

#[test]
fn bad_references_are_errors_at_their_lines() {
    for (text, message, line, hint) in [
        (
            "FROM alpine AS x\nCOPY --from=x a b",
            "circular dependency detected on stage: x",
            2,
            "a stage can't use its own files as a source",
        ),
        (
            "FROM alpine\nCOPY --from=0 a b",
            "circular dependency detected on stage: stage-0",
            2,
            "a stage can't use its own files as a source",
        ),
        (
            "FROM alpine AS x\nCOPY --from=y a b\nFROM alpine AS y\nFROM x",
            "cannot copy from stage \"y\", it needs to be defined before current stage \"x\"",
            2,
            "stage y is defined later, at line 3",
        ),
        (
            "FROM alpine AS x\nRUN --mount=from=y,target=/y a\nFROM alpine AS y\nFROM x",
            "cannot copy from stage \"y\", it needs to be defined before current stage \"x\"",
            2,
            "stage y is defined later, at line 3",
        ),
        (
            "FROM alpine\nCOPY --from=7 a b",
            "invalid stage index 7",
            2,
            "the stages are 0 to 0",
        ),
        (
            "FROM alpine AS builder\nFROM alpine\nCOPY --from=bulder a b",
            "cannot get the image bulder",
            3,
            "did you mean builder?",
        ),
        (
            "FROM later\nRUN x\nFROM alpine AS later\nFROM stage-0",
            "cannot get the image stage-0",
            4,
            "`rctr images` lists the images here",
        ),
        (
            "FROM later AS x\nFROM alpine AS later\nFROM x",
            "cannot get the image later",
            1,
            "stage later is defined at line 2: only earlier stages can be named here",
        ),
        (
            "FROM alpine\nCOPY --from=$X a b",
            "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround",
            2,
            "",
        ),
        (
            "FROM alpine\nCOPY --from=scratch a b",
            "scratch has no files that could be copied",
            2,
            "",
        ),
        (
            "FROM Alpine:x/y",
            "failed to parse stage name \"Alpine:x/y\": ",
            1,
            "",
        ),
        (
            "ARG NAME\nFROM $NAM",
            "base name ($NAM) should not be blank",
            2,
            "give it a value with ARG NAM=… before the first FROM, or --build-arg NAM=…",
        ),
        (
            "FROM --platform=windows/amd64 alpine",
            "failed to parse platform windows/amd64: cannot build or run images for windows",
            1,
            "",
        ),
        (
            "FROM --platform=$TARGETPLATFOR alpine",
            "empty platform value from expression $TARGETPLATFOR",
            1,
            "did you mean $TARGETPLATFORM?",
        ),
    ] {
        let (got, at, got_hint) = refused(text);
        assert!(got.starts_with(message), "{text}: {got}");
        assert_eq!(at, Some(line), "{text}");
        if !hint.is_empty() {
            assert_eq!(got_hint, hint, "{text}");
        }
    }
}

#[test]
fn what_is_wrong_in_a_stage_that_is_not_needed_is_no_error() {
    let plan =
        planned("FROM nothing AS x\nCOPY --from=later a b\nSTOPSIGNAL no\nFROM alpine AS later");
    assert_eq!(labels(&plan), ["later"]);
}

#[test]
fn named_contexts_win() {
    let mut request = BuildRequest::default();
    request
        .contexts
        .insert("dir".to_owned(), NamedContext::Directory("/d".into()));
    request
        .contexts
        .insert("Base".to_owned(), NamedContext::Image("alpine".to_owned()));
    let image = NamedContext::Image("alpine".to_owned());
    request
        .contexts
        .insert("docker.io/library/php:8".to_owned(), image);
    let text = "FROM nothing AS base\nFROM php:8 AS two\nRUN x\nFROM base\nCOPY --from=base a /\nCOPY --from=0 b /\nCOPY --from=dir c /\nCOPY --from=two d /\n";
    let plan = planned_with(text, &request, &Shelf::new()).unwrap();
    assert_eq!(labels(&plan), ["two", "stage-2"]);
    let last = target(&plan);
    assert!(matches!(last.base, Base::Image(_)));
    let froms = froms(last);
    assert!(matches!(froms[0], CopyFrom::Image(..)) && froms[0] == froms[1]);
    assert_eq!(
        froms[2..],
        [CopyFrom::Named("dir".to_owned()), CopyFrom::Stage(0)]
    );
}

#[test]
fn a_stage_may_start_from_a_named_directory() {
    let mut request = BuildRequest::default();
    request
        .contexts
        .insert("dir".to_owned(), NamedContext::Directory("/d".into()));
    let plan = planned_with("FROM dir\nCMD x", &request, &Shelf::new()).unwrap();
    assert!(matches!(target(&plan).base, Base::Scratch));
    let copy = only_copy(&plan);
    assert_eq!(copy.from, CopyFrom::Named("dir".to_owned()));
    assert_eq!((copy.destination.as_str(), copy.unpack_local), ("/", false));
}

#[test]
fn triggers_run_first_and_once() {
    let base = ContainerConfig {
        on_build: words(&["ARG WHO=base", "COPY --from=tools t /$WHO", "RUN trigger"]),
        ..ContainerConfig::default()
    };
    let shelf = Shelf::new().with("onbuild", base);
    let text = "FROM alpine AS tools\nFROM onbuild AS mine\nONBUILD RUN mine\nRUN own\nFROM mine\n";
    let plan = planned_with(text, &build_args(&[("WHO", "me")]), &shelf).unwrap();
    assert_eq!(labels(&plan), ["tools", "mine", "stage-2"]);
    let names = |stage: &PlannedStage| -> Vec<String> {
        stage.steps.iter().map(|step| step.name.clone()).collect()
    };
    assert_eq!(
        names(&plan.stages[1]),
        [
            "ONBUILD COPY --from=tools t /me",
            "ONBUILD RUN trigger",
            "RUN own"
        ]
    );
    assert_eq!(plan.stages[1].steps[0].span.first, 2);
    assert_eq!(plan.stages[1].config.on_build, ["RUN mine"]);
    assert_eq!(names(&plan.stages[2]), ["ONBUILD RUN mine"]);
    assert!(plan.stages[2].config.on_build.is_empty());
    assert!(plan.notes.is_empty());
}

#[test]
fn ten_thousand_stages_are_no_deep_recursion() {
    let mut text = "FROM alpine AS s0\n".to_owned();
    for n in 1..10_000 {
        text.push_str(&format!("FROM s{} AS s{n}\n", n - 1));
    }
    assert_eq!(planned(&text).stages.len(), 10_000);
}

#[test]
fn another_platform_is_warned_about() {
    let other = Platform::parse("linux/s390x").unwrap();
    let config = ContainerConfig::default();
    let shelf = Shelf::new().with_platform("far", config.clone(), &other);
    let plan = planned_with("FROM far", &BuildRequest::default(), &shelf).unwrap();
    assert_eq!(plan.warnings[0].rule, "InvalidBaseImagePlatform");
    assert_eq!(target(&plan).platform, other);
    let windows = Platform {
        os: "windows".to_owned(),
        ..Platform::host()
    };
    let shelf = Shelf::new().with_platform("win", config, &windows);
    let error = planned_with("FROM win", &BuildRequest::default(), &shelf).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("the base image win is for windows/"),
        "{error}"
    );
}
