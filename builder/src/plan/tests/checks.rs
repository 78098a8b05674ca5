use super::*;
use crate::request::BakedSecrets;

/// (rule, line, message) of the planner's findings.
fn found(text: &str, request: &BuildRequest, shelf: &Shelf) -> Vec<(&'static str, usize, String)> {
    let plan = planned_with(text, request, shelf).expect("it can be planned");
    let row = |w: &Warning| (w.rule, w.place.span.first, w.message.clone());
    plan.warnings.iter().map(row).collect()
}

#[test]
fn findings_have_buildkit_s_names_and_words() {
    let platform = Platform::host().to_string();
    for (text, rule, line, message) in [
        (
            "FROM alpine\nENV A=$FO",
            "UndefinedVar",
            2,
            "Usage of undefined variable '$FO'",
        ),
        (
            "FROM alpine\nARG FOOD=1\nCOPY $FOD /",
            "UndefinedVar",
            3,
            "Usage of undefined variable '$FOD' (did you mean $FOOD?)",
        ),
        (
            "FROM alpine\nARG A=$PAHT",
            "UndefinedVar",
            2,
            "Usage of undefined variable '$PAHT' (did you mean $PATH?)",
        ),
        (
            "ARG VERSION=1\nFROM alpine${VERSIN}",
            "UndefinedArgInFrom",
            2,
            "FROM argument 'VERSIN' is not declared (did you mean VERSION?)",
        ),
        (
            "ARG A\nFROM ${A:-alpine}\nFROM alpine\nWORKDIR x",
            "WorkdirRelativePath",
            4,
            "Relative workdir \"x\" can have unexpected results if the base image changes",
        ),
        (
            "FROM alpine\nARG API_KEY",
            "SecretsUsedInArgOrEnv",
            2,
            "Do not use ARG or ENV instructions for sensitive data (ARG \"API_KEY\")",
        ),
        (
            "FROM alpine\nENV TOKEN=1",
            "SecretsUsedInArgOrEnv",
            2,
            "Do not use ARG or ENV instructions for sensitive data (ENV \"TOKEN\")",
        ),
        (
            "FROM --platform=$TARGETPLATFORM alpine",
            "RedundantTargetPlatform",
            1,
            "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
        ),
        (
            &format!("FROM --platform={platform} alpine"),
            "FromPlatformFlagConstDisallowed",
            1,
            &format!("FROM --platform flag should not use constant value \"{platform}\""),
        ),
        // In a stage that isn't needed.
        (
            "FROM scratch\nENV A=$FO\nFROM alpine",
            "UndefinedVar",
            2,
            "Usage of undefined variable '$FO'",
        ),
        (
            "FROM nothing\nWORKDIR x\nFROM alpine",
            "WorkdirRelativePath",
            2,
            "Relative workdir \"x\" can have unexpected results if the base image changes",
        ),
    ] {
        let found = found(text, &BuildRequest::default(), &Shelf::new());
        let want = vec![(rule, line, message.to_owned())];
        assert_eq!(found, want, "{text}");
    }
    let request = build_args(&[("V", "alpine")]);
    let default = found("ARG V\nFROM $V", &request, &Shelf::new());
    let message = "Default value for ARG $V results in empty or invalid base image name";
    assert_eq!(
        default,
        [("InvalidDefaultArgInFrom", 2, message.to_owned())]
    );
    let far = Platform::parse("linux/s390x").unwrap();
    let shelf = Shelf::new().with_platform("far", ContainerConfig::default(), &far);
    let platforms = found("FROM far", &BuildRequest::default(), &shelf);
    let message = format!(
        "Base image far was pulled with platform \"linux/s390x\", expected {platform:?} for current build"
    );
    assert_eq!(platforms, [("InvalidBaseImagePlatform", 1, message)]);
}

#[test]
fn what_is_fine_is_not_reported() {
    for text in [
        "FROM alpine\nARG A\nENV B=$A",
        "FROM alpine\nENV B=${A:-x}${C+y}",
        "FROM alpine\nENV B='$A' C=\\$A",
        "FROM alpine\nRUN echo $A",
        "FROM alpine\nWORKDIR /a\nWORKDIR b",
        "FROM alpine AS a\nWORKDIR /a\nFROM a\nWORKDIR b",
        "FROM alpine\nENV PUBLIC_KEY=1",
        "FROM --platform=$BUILDPLATFORM alpine",
        "FROM --platform=linux/amd64 alpine AS build-amd64\nFROM alpine",
        "ARG V=alpine\nFROM $V",
        // What the base image of a stage that isn't needed defines isn't known.
        "FROM nothing\nENV A=$JAVA_HOME\nFROM alpine",
        "FROM nothing AS a\nFROM a\nENV A=$JAVA_HOME\nFROM alpine",
    ] {
        let found = found(text, &BuildRequest::default(), &Shelf::new());
        assert_eq!(found, [], "{text}");
    }
}

#[test]
fn checks_can_be_skipped_and_made_errors() {
    let none = BuildRequest::default();
    let body = "FROM alpine\nENV A=$B\nWORKDIR x";
    let rules = |text: &str, request: &BuildRequest| -> Vec<&str> {
        let found = found(text, request, &Shelf::new());
        found.into_iter().map(|(rule, ..)| rule).collect()
    };
    assert_eq!(rules(body, &none), ["UndefinedVar", "WorkdirRelativePath"]);
    let skip = format!("# check=skip=UndefinedVar\n{body}");
    assert_eq!(rules(&skip, &none), ["WorkdirRelativePath"]);
    assert!(rules(&format!("# check=skip=all\n{body}"), &none).is_empty());
    let option = build_args(&[("BUILDKIT_DOCKERFILE_CHECK", "skip=WorkdirRelativePath")]);
    assert_eq!(rules(body, &option), ["UndefinedVar"]);
    let (message, line, _) = refused(&format!("# check=error=true\n{body}"));
    assert_eq!(
        message,
        "lint violation found for rules: UndefinedVar, WorkdirRelativePath"
    );
    assert_eq!(line, Some(3));
}

#[test]
fn check_goes_through_all_stages_and_never_fails() {
    let text = "FROM nothing AS a\nWORKDIR x\nSTOPSIGNAL no\nFROM alpine\nENV A=$PAHT\nFROM alpine\nCOPY --from=none $Q /\n";
    let rules = |text: &str| -> Vec<(&str, usize)> {
        let found = check(&parse(text), &BuildRequest::default(), &Shelf::new());
        found.iter().map(|w| (w.rule, w.place.span.first)).collect()
    };
    assert_eq!(
        rules(text),
        [
            ("WorkdirRelativePath", 2),
            ("UndefinedVar", 5),
            ("UndefinedVar", 7)
        ]
    );
    assert!(rules("FROM $X").len() <= 2);
}

#[test]
fn secrets_are_warned_of_or_refused_and_never_shown() {
    let token = format!("ghp_{}", "a1B2".repeat(9));
    let refuse = BuildRequest {
        baked_secrets: BakedSecrets::Refuse,
        ..build_args(&[("GIVEN", &token)])
    };
    for (body, rule, refused) in [
        (
            format!("ENV URL=https://{token}@host"),
            Some("BakedSecret"),
            true,
        ),
        (format!("LABEL l={token}"), Some("BakedSecret"), true),
        ("ARG GIVEN".to_owned(), None, true),
        (
            "ENV PASSWORD=x".to_owned(),
            Some("SecretsUsedInArgOrEnv"),
            true,
        ),
        (
            "ARG PASSWORD".to_owned(),
            Some("SecretsUsedInArgOrEnv"),
            false,
        ),
        ("ENV A=b".to_owned(), None, false),
    ] {
        let text = format!("FROM alpine\n{body}");
        let found = found(&text, &BuildRequest::default(), &Shelf::new());
        let rules: Vec<&str> = found.iter().map(|(rule, ..)| *rule).collect();
        assert_eq!(rules, rule.into_iter().collect::<Vec<_>>(), "{body}");
        assert!(!format!("{found:?}").contains(&token));
        match planned_with(&text, &refuse, &Shelf::new()) {
            Ok(_) => assert!(!refused, "{body}"),
            Err(error) => {
                assert!(
                    refused && !error.to_string().contains(&token),
                    "{body}: {error}"
                );
                assert_eq!(error.place().map(|place| place.span.first), Some(2));
            }
        }
    }
}
