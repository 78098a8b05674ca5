//! Build checks that need only the text.

use super::*;

/// (line, rule) of each warning.
fn warned(text: &str) -> Vec<(usize, &'static str)> {
    parsed(text)
        .warnings
        .iter()
        .map(|warning| (warning.place.span.first, warning.rule))
        .collect()
}

#[test]
fn messages_are_buildkit_s() {
    for (text, line, rule, message) in [
        (
            "FROM a\nrun b\nRUN c",
            2,
            "ConsistentInstructionCasing",
            "Command 'run' should match the case of the command majority (uppercase)",
        ),
        (
            "from a\nRun b\nrun c",
            2,
            "ConsistentInstructionCasing",
            "Command 'Run' should match the case of the command majority (lowercase)",
        ),
        (
            "FROM a AS b\nFROM a AS b",
            2,
            "DuplicateStageName",
            "Duplicate stage name \"b\", stage names should be unique",
        ),
        (
            "FROM a as b",
            1,
            "FromAsCasing",
            "'as' and 'FROM' keywords' casing do not match",
        ),
        (
            "from a AS b",
            1,
            "FromAsCasing",
            "'AS' and 'from' keywords' casing do not match",
        ),
        (
            "FROM a\nCMD b",
            2,
            "JSONArgsRecommended",
            "JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
        ),
        (
            "FROM a\nENTRYPOINT b",
            2,
            "JSONArgsRecommended",
            "JSON arguments recommended for ENTRYPOINT to prevent unintended behavior related to OS signals",
        ),
        (
            "FROM a\nENV b c",
            2,
            "LegacyKeyValueFormat",
            "\"ENV key=value\" should be used instead of legacy \"ENV key value\" format",
        ),
        (
            "FROM a\nLABEL b c",
            2,
            "LegacyKeyValueFormat",
            "\"LABEL key=value\" should be used instead of legacy \"LABEL key value\" format",
        ),
        (
            "FROM a\nMAINTAINER b",
            2,
            "MaintainerDeprecated",
            "Maintainer instruction is deprecated in favor of using label",
        ),
        (
            "FROM a\nCMD [\"b\"]\nCMD [\"c\"]",
            2,
            "MultipleInstructionsDisallowed",
            "Multiple CMD instructions should not be used in the same stage because only the last one will be used",
        ),
        (
            "FROM a\nRUN b \\\n\n c",
            3,
            "NoEmptyContinuation",
            "Empty continuation line",
        ),
        (
            "FROM --platform=$TARGETPLATFORM a",
            1,
            "RedundantTargetPlatform",
            "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
        ),
        (
            "FROM a AS scratch",
            1,
            "ReservedStageName",
            "Stage name should not use the same name as reserved stage \"scratch\"",
        ),
        (
            "FROM a AS Context",
            1,
            "ReservedStageName",
            "Stage name should not use the same name as reserved stage \"context\"",
        ),
        (
            "FROM a AS Bc",
            1,
            "StageNameCasing",
            "Stage name 'Bc' should be lowercase",
        ),
        (
            "FROM a\nEXPOSE 127.0.0.1:80:80",
            2,
            "ExposeInvalidFormat",
            "EXPOSE instruction should not define an IP address or host-port mapping, found '127.0.0.1:80:80'",
        ),
        (
            "FROM a\nEXPOSE 80/TcP",
            2,
            "ExposeProtoCasing",
            "Defined protocol '80/TcP' in EXPOSE instruction should be lowercase",
        ),
        (
            "# check=experimental=all\n# about\nFROM a AS b",
            3,
            "InvalidDefinitionDescription",
            "Comment for FROM should follow the format: `# b <description>`",
        ),
        (
            "# check=experimental=InvalidDefinitionDescription\n\n# about\nARG b=1 c\nFROM a",
            4,
            "InvalidDefinitionDescription",
            "Comment for ARG should follow the format: `# <arg_key> <description>`",
        ),
    ] {
        let found = parsed(text).warnings;
        let found = found.iter().find(|warning| warning.rule == rule);
        let found = found.unwrap_or_else(|| panic!("{text:?} has no {rule}"));
        assert_eq!(found.message, message);
        assert_eq!(found.place.span.first, line, "{text:?}");
    }
}

#[test]
fn nothing_is_said_of_good_files() {
    for text in [
        "ARG a\nFROM b AS c\nRUN d \\\n  # e\n  f\nENV g=h\nCMD [\"i\"]\nEXPOSE 80/tcp $P:1",
        "from a as b\nrun c\ncmd [\"d\"]",
        "arg a\nFROM b\nRUN c",
        "FROM a\nSHELL [\"b\"]\nCMD c",
        "FROM a AS b\nSHELL [\"c\"]\nFROM b AS d\nFROM D\nCMD e",
        "FROM a\nCMD [\"b\"]\nFROM a\nCMD [\"b\"]",
        "FROM --platform=$BUILDPLATFORM a",
        "# about\nFROM a AS b",
        "# check=experimental=all\n# b is about\nFROM a AS b\n# about\n\nARG c\n# about\n#\nARG d\n# about\nRUN e",
    ] {
        assert_eq!(warned(text), [], "{text:?}");
    }
}

#[test]
fn rules_can_be_skipped() {
    let text = "FROM a as b\nCMD c";
    let both = [(1, "FromAsCasing"), (2, "JSONArgsRecommended")];
    assert_eq!(warned(text), both);
    assert_eq!(warned(&format!("# check=skip=all\n{text}")), []);
    let one = format!("# check=skip=fromascasing,Other;error=true\n{text}");
    assert_eq!(warned(&one), [(3, "JSONArgsRecommended")]);
    let check = "skip=all".parse().unwrap();
    let file = parse_with("Dockerfile", one.as_bytes(), Some(check)).unwrap();
    assert_eq!(file.warnings, []);
    assert!(file.directives.check.skip_all);
}
