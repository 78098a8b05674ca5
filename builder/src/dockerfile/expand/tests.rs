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
