//! Words as Go's `fmt` writes them: history is read by people and programs that know BuildKit's.

use std::fmt::Write as _;

/// Go's `%q` of a list of strings: `["/bin/sh" "-c" "x"]`.
pub(super) fn quoted_list(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    format!("[{}]", quoted.join(" "))
}

/// Go's `%v` of a list of strings: `[80/tcp 81/udp]`.
pub(super) fn list(words: &[String]) -> String {
    format!("[{}]", words.join(" "))
}

/// Go's `%q` of a string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0b' => out.push_str("\\v"),
            '\x0c' => out.push_str("\\f"),
            c if c.is_ascii_control() => push(&mut out, format_args!("\\x{:02x}", c as u32)),
            c if c.is_control() => push(&mut out, format_args!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn push(out: &mut String, what: std::fmt::Arguments<'_>) {
    out.write_fmt(what).expect("writing to a String can't fail");
}

/// Go's `time.Duration.String` of nanoseconds: `1h0m0s`, `1m30s`, `1.5s`, `300ms`, `0s`.
pub(super) fn duration(nanos: i64) -> String {
    let total = nanos.unsigned_abs();
    let sign = if nanos < 0 { "-" } else { "" };
    let (unit, scale) = match total {
        0 => return "0s".to_owned(),
        1..1_000 => ("ns", 1),
        1_000..1_000_000 => ("µs", 1_000),
        1_000_000..1_000_000_000 => ("ms", 1_000_000),
        _ => ("s", 1_000_000_000),
    };
    if unit != "s" {
        return format!("{sign}{}{unit}", decimal(total, scale));
    }
    let minutes = total / (60 * scale);
    let seconds = decimal(total % (60 * scale), scale);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
        (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

/// `value / scale` without needless digits.
fn decimal(value: u64, scale: u64) -> String {
    let fraction = format!("{:0width$}", value % scale, width = scale.ilog10() as usize);
    let fraction = if scale == 1 {
        ""
    } else {
        fraction.trim_end_matches('0')
    };
    match fraction {
        "" => format!("{}", value / scale),
        fraction => format!("{}.{fraction}", value / scale),
    }
}

/// A path without `.`, `..`, and slashes that mean nothing; absolute.
pub(super) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// `path`, looked up from the directory `from`; clean.
pub(super) fn within(from: &str, path: &str) -> String {
    if path.starts_with('/') {
        clean(path)
    } else {
        clean(&format!("{from}/{path}"))
    }
}

/// Go's `ParseBool`.
pub(super) fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_s_formats() {
        let words = ["a b", "\"\\\n\t", "é\u{1}"].map(str::to_owned);
        assert_eq!(quoted_list(&words), r#"["a b" "\"\\\n\t" "é\x01"]"#);
        assert_eq!(quoted_list(&[]), "[]");
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (300_000_000, "300ms"),
            (1_500_000_000, "1.5s"),
            (30_000_000_000, "30s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
            (-2_000_000_000, "-2s"),
        ] {
            assert_eq!(duration(nanos), text);
        }
    }

    #[test]
    fn paths_are_made_clean() {
        for (from, path, want) in [
            ("/a", "b", "/a/b"),
            ("/a", "/b/", "/b"),
            ("/a", "../../c", "/c"),
            ("/", ".", "/"),
            ("", "x//y/./z", "/x/y/z"),
        ] {
            assert_eq!(within(from, path), want, "{from} {path}");
        }
    }
}
