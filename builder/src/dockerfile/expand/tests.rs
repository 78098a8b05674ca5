use super::*;

/// `SET` is `/usr/lib/lib.so`, `EMPTY` is empty, `TWO` is `a b`.
fn get(name: &str) -> Option<String> {
    match name {
        "SET" => Some("/usr/lib/lib.so".to_owned()),
        "EMPTY" => Some(String::new()),
        "TWO" => Some("a b".to_owned()),
        "X" => Some("xxyy".to_owned()),
        "STAR" => Some("*".to_owned()),
        _ => None,
    }
}

#[test]
fn modifiers_and_quotes() {
    for (text, want) in [
        ("$SET", "/usr/lib/lib.so"),
        ("${SET}x", "/usr/lib/lib.sox"),
        ("$SETx", ""),
        ("a$UNSET-b", "a-b"),
        ("$", "$"),
        ("a$ b", "a$ b"),
        ("$1$@$$x", "x"),
        ("${1}", ""),
        ("\\$SET", "$SET"),
        ("\\\\", "\\"),
        ("a\\", "a"),
        ("'$SET \\'", "$SET \\"),
        ("\"$X \\\"\\$\\x'\"", "xxyy \"$\\x'"),
        ("a\"b\"'c'", "abc"),
        (
            "${EMPTY:-w}${EMPTY-w}${UNSET:-w}${UNSET-w}${X:-w}",
            "wwwxxyy",
        ),
        ("${EMPTY:+w}${EMPTY+v}${UNSET:+w}${UNSET+w}${X:+u}", "vu"),
        ("${X:?no}${X?no}${EMPTY?no}", "xxyyxxyy"),
        ("${UNSET:-${EMPTY:-'a b'}\"$X\"}", "a bxxyy"),
        ("${UNSET:-\\}}", "}"),
        ("${SET#*/}", "usr/lib/lib.so"),
        ("${SET##*/}", "lib.so"),
        ("${SET%/*}", "/usr/lib"),
        ("${SET%%/*}", ""),
        ("${SET%.so}", "/usr/lib/lib"),
        ("${SET%x}", "/usr/lib/lib.so"),
        ("${X#?}", "xyy"),
        ("${X##x*y}", ""),
        ("${X#x*y}", "y"),
        ("${X%%*}", ""),
        ("${X%*}", "xxyy"),
        ("${X#$STAR}", "xxyy"),
        ("${X#\\*}", "xxyy"),
        ("${SET/lib/LIB}", "/usr/LIB/lib.so"),
        ("${SET//lib/LIB}", "/usr/LIB/LIB.so"),
        ("${SET//\\//-}", "-usr-lib-lib.so"),
        ("${X//x/}", "yy"),
        ("${X/x*y/z}", "z"),
        ("${X//?/ab}", "abababab"),
        ("${X//x?/z}", "zyy"),
        ("${X/$EMPTY/ww}", "wwxxyy"),
        ("${UNSET/a/b}", ""),
        ("한국어${X}", "한국어xxyy"),
    ] {
        assert_eq!(word(text, &get, '\\').as_deref(), Ok(want), "{text}");
    }
}

#[test]
fn words_split_behind_expansion() {
    for (text, want) in [
        ("a  b", &["a", "b"][..]),
        ("$TWO", &["a", "b"]),
        ("\"$TWO\"", &["a b"]),
        ("x${TWO}y", &["xa", "by"]),
        ("a\\ b 'c d'e", &["a b", "c de"]),
        ("$UNSET", &[]),
        ("\"\" a", &["a"]),
        ("${UNSET:-1 2}", &["1", "2"]),
        ("  ", &[]),
    ] {
        assert_eq!(words(text, &get, '\\').unwrap(), want, "{text}");
    }
}

#[test]
fn heredocs_keep_quotes() {
    for (text, want) in [
        ("'$X' \"$X\"\n", "'xxyy' \"xxyy\"\n"),
        ("\\$X \\\\ it's\n", "$X \\ it's\n"),
        ("${UNSET:-'a'}", "'a'"),
    ] {
        assert_eq!(raw(text, &get).as_deref(), Ok(want));
    }
}

#[test]
fn the_escape_character_is_the_file_s() {
    assert_eq!(word("`$X C:\\dir", &get, '`').unwrap(), "$X C:\\dir");
    assert_eq!(word("\"`\"\\n\"", &get, '`').unwrap(), "\"\\n");
}

#[test]
fn mistakes_are_told() {
    for (text, want) in [
        (
            "'a",
            "failed to process \"'a\": unexpected end of statement while looking for matching single-quote",
        ),
        (
            "\"a",
            "failed to process \"\\\"a\": unexpected end of statement while looking for matching double-quote",
        ),
        ("${", "failed to process \"${\": syntax error: missing '}'"),
        (
            "${X",
            "failed to process \"${X\": syntax error: missing '}'",
        ),
        (
            "${X:",
            "failed to process \"${X:\": syntax error: missing '}'",
        ),
        (
            "${X:-a",
            "failed to process \"${X:-a\": syntax error: missing '}'",
        ),
        (
            "${}",
            "failed to process \"${}\": syntax error: bad substitution",
        ),
        (
            "${:-a}",
            "failed to process \"${:-a}\": syntax error: bad substitution",
        ),
        (
            "${.}",
            "failed to process \"${.}\": syntax error: bad substitution",
        ),
        (
            "${X=a}",
            "failed to process \"${X=a}\": unsupported modifier (=) in substitution",
        ),
        (
            "${X:#a}",
            "failed to process \"${X:#a}\": unsupported modifier (:#) in substitution",
        ),
        (
            "${X^^}",
            "failed to process \"${X^^}\": unsupported modifier (^) in substitution",
        ),
        (
            "${X/a}",
            "failed to process \"${X/a}\": syntax error: missing '/' in ${}",
        ),
        (
            "${X//a}",
            "failed to process \"${X//a}\": syntax error: missing '/' in ${}",
        ),
        (
            "${X/a/b",
            "failed to process \"${X/a/b\": syntax error: missing '}'",
        ),
        (
            "${UNSET?}",
            "failed to process \"${UNSET?}\": UNSET: is not allowed to be unset",
        ),
        (
            "${EMPTY:?}",
            "failed to process \"${EMPTY:?}\": EMPTY: is not allowed to be empty",
        ),
        (
            "${UNSET:?say $X}",
            "failed to process \"${UNSET:?say $X}\": UNSET: say xxyy",
        ),
    ] {
        assert_eq!(
            word(text, &get, '\\').unwrap_err().to_string(),
            want,
            "{text}"
        );
    }
}

#[test]
fn unset_variables_are_noted() {
    let get = |name: &str| get(name);
    let scope = Scope::new(&get, '\\');
    scope
        .word("$B ${A#x} $X '$C' \\$D $1 $@ ${E:-x} ${F+x} \"$B\" ${EMPTY:-$G}")
        .unwrap();
    scope.raw("'$H'").unwrap();
    assert_eq!(scope.missing(), ["B", "A", "G", "H"]);
}

#[test]
fn what_grows_without_end_is_refused() {
    let deep = format!("{}x{}", "${A:-".repeat(10_000), "}".repeat(10_000));
    let error = word(&deep, &get, '\\').unwrap_err();
    assert_eq!(error.problem, Problem::Depth(100));
    assert!(error.to_string().len() < 300);
    let big = |_: &str| Some("x".repeat(1 << 16));
    let error = word(&"$A".repeat(17), &big, '\\').unwrap_err();
    assert_eq!(error.problem, Problem::Size(1 << 20));
    let error = word("${A//x/$A}", &big, '\\').unwrap_err();
    assert_eq!(error.problem, Problem::Size(1 << 20));
    let pattern = "?".repeat(1 << 12);
    let error = word(&format!("${{A#{pattern}}}"), &big, '\\').unwrap_err();
    assert_eq!(error.problem, Problem::Work);
}

/// Stars don't make a pattern exponential.
#[test]
fn patterns_are_quick() {
    let value = |_: &str| Some("a".repeat(1 << 15));
    let began = std::time::Instant::now();
    let stars = "a*".repeat(100);
    assert_eq!(
        word(&format!("${{A//{stars}b/x}}"), &value, '\\')
            .unwrap()
            .len(),
        1 << 15
    );
    assert_eq!(
        word(&format!("${{A##{stars}b}}"), &value, '\\')
            .unwrap()
            .len(),
        1 << 15
    );
    assert!(began.elapsed().as_secs() < 10);
}

/// Whatever is quoted comes back; whatever is random neither panics nor hangs.
#[test]
fn quoting_protects_any_text() {
    let alphabet: Vec<char> = "ab $'\"\\{}:-+?#%/*=`\n\tä1_".chars().collect();
    let mut state: u64 = 1;
    for round in 0..20_000 {
        let text: String = (0..round % 24)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                alphabet[usize::try_from(state >> 33).unwrap() % alphabet.len()]
            })
            .collect();
        let escaped: String = text.chars().flat_map(|char| ['\\', char]).collect();
        assert_eq!(word(&escaped, &get, '\\').as_deref(), Ok(text.as_str()));
        let quoted = format!("'{}'", text.replace('\'', "'\\''"));
        assert_eq!(word(&quoted, &get, '\\').as_deref(), Ok(text.as_str()));
        let _ = word(&text, &get, '\\');
        let _ = words(&text, &get, '`');
        let _ = raw(&text, &get);
    }
}
