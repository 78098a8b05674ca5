//! What is refused, in which words, at which line.

use super::*;

/// `FROM a`, the text in lines 2 and on: the message, and the hint if there is one.
const CASES: [(&str, &str, Option<&str>); 66] = [
    (
        "FRM b",
        "unknown instruction: FRM",
        Some("did you mean FROM?"),
    ),
    (
        "CPOY a b",
        "unknown instruction: CPOY",
        Some("did you mean COPY?"),
    ),
    (
        "entrypont a",
        "unknown instruction: entrypont",
        Some("did you mean ENTRYPOINT?"),
    ),
    (
        "&& apt-get install x",
        "unknown instruction: &&",
        Some("if this belongs to the instruction before it, end that one's line with \\"),
    ),
    (
        "FROM",
        "FROM requires either one or three arguments",
        Some("write FROM IMAGE, or FROM IMAGE AS NAME"),
    ),
    (
        "FROM a b",
        "FROM requires either one or three arguments",
        Some("write FROM IMAGE, or FROM IMAGE AS NAME"),
    ),
    (
        "FROM a of b",
        "FROM requires either one or three arguments",
        Some("write FROM IMAGE, or FROM IMAGE AS NAME"),
    ),
    (
        "FROM a AS 1b",
        "invalid name for build stage: \"1b\", name can't start with a number or contain symbols",
        None,
    ),
    (
        "FROM a AS b/c",
        "invalid name for build stage: \"b/c\", name can't start with a number or contain symbols",
        None,
    ),
    (
        "FROM --plattform=x a",
        "unknown flag: --plattform",
        Some("did you mean --platform?"),
    ),
    (
        "FROM --platform a",
        "missing a value on flag: --platform",
        Some("write --platform=VALUE"),
    ),
    ("RUN", "RUN requires at least one argument", None),
    ("RUN []", "RUN requires at least one argument", None),
    (
        "RUN [1]",
        "when using JSON array syntax, arrays must be comprised of strings only",
        None,
    ),
    ("RUN --foo x", "unknown flag: --foo", None),
    (
        "RUN --mont=type=ssh x",
        "unknown flag: --mont",
        Some("did you mean --mount?"),
    ),
    (
        "RUN --mount x",
        "missing a value on flag: --mount",
        Some("write --mount=VALUE"),
    ),
    (
        "RUN --mount=type=cach x",
        "unsupported mount type \"cach\"",
        Some("did you mean cache?"),
    ),
    (
        "RUN --mount=type=cache,taget=/a x",
        "unexpected key 'taget' in 'taget=/a'",
        Some("did you mean target?"),
    ),
    (
        "RUN --mount=type=cache,/a x",
        "invalid field '/a' must be a key=value pair",
        None,
    ),
    (
        "RUN --mount=type=cache,sharing=lock x",
        "unsupported sharing value \"lock\"",
        Some("it is shared, private or locked"),
    ),
    (
        "RUN --mount=from=$A x",
        "'from' doesn't support variable expansion, define alias stage instead",
        None,
    ),
    (
        "RUN --mount=ro= x",
        "invalid value for ro: \"\"",
        Some("write ro, or ro=true"),
    ),
    (
        "RUN --mount='\"a=b' x",
        "failed to parse csv mounts: unmatched quote in \"\\\"a=b\"",
        None,
    ),
    (
        "RUN --network=bridge x",
        "invalid network mode \"bridge\"",
        Some("it is default, none or host"),
    ),
    (
        "RUN --network=none --network=host x",
        "duplicate flag specified: --network",
        None,
    ),
    (
        "RUN --security=none x",
        "invalid security mode \"none\"",
        Some("it is sandbox or insecure"),
    ),
    ("CMD --a", "unknown flag: --a", None),
    (
        "CMD [\"a\", 1]",
        "when using JSON array syntax, arrays must be comprised of strings only",
        None,
    ),
    (
        "ENTRYPOINT [[\"a\"]]",
        "when using JSON array syntax, arrays must be comprised of strings only",
        None,
    ),
    (
        "COPY",
        "COPY requires at least two arguments, but only one was provided. Destination could not be determined",
        Some("write COPY SOURCE… DESTINATION"),
    ),
    (
        "COPY a",
        "COPY requires at least two arguments, but only one was provided. Destination could not be determined",
        Some("write COPY SOURCE… DESTINATION"),
    ),
    (
        "ADD [\"a\"]",
        "ADD requires at least two arguments, but only one was provided. Destination could not be determined",
        Some("write ADD SOURCE… DESTINATION"),
    ),
    (
        "COPY a <<EOF\nb\nEOF",
        "COPY cannot accept a heredoc as a destination",
        None,
    ),
    (
        "COPY --frm=x a b",
        "unknown flag: --frm",
        Some("did you mean --from?"),
    ),
    ("COPY --checksum=x a b", "unknown flag: --checksum", None),
    ("ADD --from=x a b", "unknown flag: --from", None),
    (
        "COPY --link=maybe a b",
        "expecting boolean value for flag --link, not: maybe",
        None,
    ),
    (
        "COPY --link= a b",
        "missing a value on flag: --link",
        Some("write --link=VALUE"),
    ),
    (
        "COPY --chown=a --chown=b c d",
        "duplicate flag specified: --chown",
        None,
    ),
    (
        "COPY --link --link a b",
        "duplicate flag specified: --link",
        None,
    ),
    ("ENV", "ENV requires at least one argument", None),
    (
        "ENV A",
        "ENV must have two arguments",
        Some("write ENV NAME=VALUE"),
    ),
    ("ENV =b", "ENV names can not be blank", None),
    (
        "ENV A=b c",
        "Syntax error - can't find = in \"c\". Must be of the form: name=value",
        Some("put quotes around a value with blanks"),
    ),
    ("LABEL", "LABEL requires at least one argument", None),
    (
        "LABEL a",
        "LABEL must have two arguments",
        Some("write LABEL NAME=VALUE"),
    ),
    ("ARG", "ARG requires at least one argument", None),
    ("ARG =b", "ARG names can not be blank", None),
    (
        "ARG 'A=b",
        "failed to process \"'A\": unexpected end of statement while looking for matching single-quote",
        None,
    ),
    ("EXPOSE", "EXPOSE requires at least one argument", None),
    ("WORKDIR", "WORKDIR requires exactly one argument", None),
    ("USER", "USER requires exactly one argument", None),
    (
        "STOPSIGNAL",
        "STOPSIGNAL requires exactly one argument",
        None,
    ),
    (
        "MAINTAINER",
        "MAINTAINER requires exactly one argument",
        None,
    ),
    ("VOLUME []", "VOLUME requires at least one argument", None),
    (
        "VOLUME [\"\"]",
        "VOLUME specified can not be an empty string",
        None,
    ),
    (
        "SHELL /bin/sh -c",
        "SHELL requires the arguments to be in JSON form",
        Some("write it as in SHELL [\"/bin/bash\", \"-c\"]"),
    ),
    ("SHELL []", "SHELL requires at least one argument", None),
    (
        "HEALTHCHECK",
        "HEALTHCHECK requires at least one argument",
        None,
    ),
    (
        "HEALTHCHECK NONE a",
        "HEALTHCHECK NONE takes no arguments",
        None,
    ),
    (
        "HEALTHCHECK curl a",
        "Unknown type \"CURL\" in HEALTHCHECK (try CMD)",
        None,
    ),
    (
        "HEALTHCHECK --interval=1us CMD a",
        "Interval \"interval\" cannot be less than 1ms",
        None,
    ),
    (
        "HEALTHCHECK --retries=-1 CMD a",
        "--retries cannot be negative (-1)",
        None,
    ),
    (
        "ONBUILD ONBUILD RUN a",
        "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
        None,
    ),
    (
        "ONBUILD CPY a b",
        "unknown instruction: CPY",
        Some("did you mean COPY?"),
    ),
];

#[test]
fn instructions_are_refused_at_their_line() {
    for (text, message, hint) in CASES {
        let error = refused(&format!("# top\nFROM a\n{text}\nRUN next\n"));
        assert_eq!(error.message, message, "{text}");
        assert_eq!(error.hint.as_deref(), hint, "{text}");
        let span = error.place.expect("a place").span;
        assert_eq!((span.first, span.last), (3, 3), "{text}");
    }
}

#[test]
fn health_times_must_be_durations() {
    let error = refused("FROM a\nHEALTHCHECK --timeout=30 CMD b\n");
    assert_eq!(error.message, "invalid duration \"30\"");
    let error = refused("FROM a\nHEALTHCHECK CMD\n");
    assert_eq!(error.message, "Missing command after HEALTHCHECK CMD");
}

#[test]
fn a_file_without_instructions_or_stages() {
    for (text, message) in [
        ("", "the Dockerfile (Dockerfile) is empty"),
        ("\n \n", "file with no instructions"),
        ("\u{feff}# a\n", "file with no instructions"),
        ("ARG A\n", "dockerfile contains no stages to build"),
    ] {
        let error = refused(text);
        assert_eq!(error.message, message);
        assert_eq!(error.place, None);
        assert!(error.hint.is_some());
    }
    let error = refused("# a\nARG A\nRUN b \\\n c\nFROM d\n");
    assert_eq!(error.message, "no build stage in current context");
    let span = error.place.unwrap().span;
    assert_eq!((span.first, span.last), (3, 4));
}

#[test]
fn what_is_no_text_is_refused_at_its_line() {
    for (text, line, message) in [
        (
            &b"FROM a\nRUN caf\xe9\n"[..],
            2,
            "line 2 isn't UTF-8 text: byte 0xe9 in column 8",
        ),
        (
            b"FROM a\nRUN <<E\nok\n\xff\nE\n",
            4,
            "line 4 isn't UTF-8 text: byte 0xff in column 1",
        ),
        (
            b"\x7fELF\x02\x01\x00\x00",
            1,
            "line 1 has a NUL byte in column 7: this is no text",
        ),
        (
            b"\xff\xfeF\x00R\x00",
            1,
            "line 1 has a NUL byte in column 4: this is no text",
        ),
    ] {
        let error = parse("Dockerfile", text).unwrap_err();
        assert_eq!(error.message, message);
        assert_eq!(error.place.unwrap().span.first, line);
        assert!(error.hint.is_some());
    }
}

#[test]
fn a_comment_may_be_in_another_encoding() {
    let file = parse("Dockerfile", b"# caf\xe9\nFROM a\nRUN b \\\n# \xff\n c\n").unwrap();
    assert_eq!(file.stages[0].instructions[0].text, "RUN b  c");
}

#[test]
fn a_line_of_ten_megabytes_is_refused_at_once() {
    let text = format!("FROM a\nRUN {}\n", "x".repeat(10 << 20));
    let began = std::time::Instant::now();
    let error = refused(&text);
    assert_eq!(
        error.message,
        "line 2 has 10485764 bytes, more than the 1048576 that a line may have"
    );
    assert!(error.place.unwrap().excerpt().len() < 2_000);
    assert!(began.elapsed().as_secs() < 2);
}

#[test]
fn heredocs_must_end_and_be_small() {
    let error = refused("FROM a\nRUN <<A \\\n <<B\na\nA\nb\n");
    assert_eq!(error.message, "unterminated heredoc");
    assert_eq!(
        error.hint.as_deref(),
        Some("the file ends before a line that is just B")
    );
    let span = error.place.unwrap().span;
    assert_eq!((span.first, span.last), (2, 3));
    let text = format!("FROM a\nRUN <<A\n{}A\n", "line\n".repeat(4 << 20));
    let error = refused(&text);
    assert_eq!(error.message, "heredoc A is larger than 16 MiB");
    assert_eq!(error.place.unwrap().span.last, 2);
}

#[test]
fn directives_are_checked() {
    for (text, line, message) in [
        (
            "# escape=x\nFROM a",
            1,
            "invalid escape token 'x' does not match ` or \\",
        ),
        (
            "# syntax=a\n# Syntax=b\nFROM a",
            2,
            "only one syntax parser directive can be used",
        ),
        ("# check=skip\nFROM a", 1, "invalid check option \"skip\""),
        ("# check=skp=all\nFROM a", 1, "invalid check option \"skp\""),
    ] {
        let error = refused(text);
        assert_eq!(error.message, message);
        assert_eq!(error.place.unwrap().span.first, line);
    }
}
