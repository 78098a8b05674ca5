//! Values of flags: sizes, durations, truth values, lists of `NAME=value`.

use std::collections::BTreeMap;

use rctr_storage::config::ContainerConfig;

/// Go's `ParseBool`.
///
/// # Errors
/// When `text` is no truth value.
pub(crate) fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("not a truth value: {text:?}")),
    }
}

/// Bytes: `64m`, `1.5g`, `512`, `8MiB`; binary units, as docker's memory flags read them.
///
/// # Errors
/// When `text` is no size.
pub(crate) fn parse_size(text: &str) -> Result<i64, String> {
    let invalid = || format!("invalid size: '{text}'");
    let trimmed = text.trim();
    let split = trimmed
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(split);
    let unit = unit.trim().to_ascii_lowercase();
    let unit = unit
        .strip_suffix("ib")
        .or_else(|| unit.strip_suffix('b'))
        .unwrap_or(&unit);
    let shift = match unit {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return Err(invalid()),
    };
    if let Ok(whole) = number.parse::<i64>() {
        return whole.checked_mul(1 << shift).ok_or_else(invalid);
    }
    let number: f64 = number.parse().map_err(|_| invalid())?;
    let bytes = number * f64::from(1u32 << (shift / 2)) * f64::from(1u32 << (shift - shift / 2));
    if !(0.0..9e18).contains(&bytes) {
        return Err(invalid());
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "in range, and a fraction of a byte is dropped"
    )]
    Ok(bytes as i64)
}

/// Nanoseconds of Go's duration syntax: `1h30m`, `1.5s`, `300ms`, `0`.
///
/// # Errors
/// When `text` is no duration.
pub(crate) fn parse_duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("invalid duration {text:?}: want for example 30s or 1m30s");
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total = 0f64;
    while !rest.is_empty() {
        let split = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(invalid)?;
        let number: f64 = rest[..split].parse().map_err(|_| invalid())?;
        let tail = &rest[split..];
        let end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let unit = match &tail[..end] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return Err(invalid()),
        };
        total += number * unit;
        rest = &tail[end..];
    }
    if total > 9.2e18 {
        return Err(invalid());
    }
    #[expect(clippy::cast_possible_truncation, reason = "in range")]
    let nanos = total as i64;
    Ok(if negative { -nanos } else { nanos })
}

/// `NAME=value` words to a map; a word without `=` has an empty value.
pub(crate) fn pairs<'a>(words: impl IntoIterator<Item = &'a String>) -> BTreeMap<String, String> {
    words
        .into_iter()
        .map(|word| match word.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => (word.clone(), String::new()),
        })
        .collect()
}

/// Puts `NAME=value` in `env`: over the entry of that name, else at the end.
pub(crate) fn set_env(env: &mut Vec<String>, entry: String) {
    let name = entry.split('=').next().unwrap_or_default();
    let same = |other: &String| other.split('=').next() == Some(name);
    match env.iter().position(same) {
        Some(at) => env[at] = entry,
        None => env.push(entry),
    }
}

/// The lines of an `--env-file` or `--label-file`: `NAME=value`, or `NAME`; blank lines and `#` lines are skipped.
///
/// # Errors
/// When a name is empty or holds blanks: the line's number and what is wrong.
pub(crate) fn parse_lines(text: &str) -> Result<Vec<String>, (usize, String)> {
    let mut words = Vec::new();
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split('=').next().unwrap_or_default();
        if name.is_empty() {
            return Err((number + 1, format!("no variable name on line '{line}'")));
        }
        if line.contains('=') && name.contains(char::is_whitespace) {
            return Err((
                number + 1,
                format!("variable '{name}' contains whitespaces"),
            ));
        }
        words.push(line.trim_end_matches('\r').to_owned());
    }
    Ok(words)
}

/// Splits one line of CSV: fields may be quoted, `""` within quotes is a quote.
///
/// # Errors
/// When quotes don't match.
pub(crate) fn parse_csv(text: &str) -> Result<Vec<String>, String> {
    let mut fields = vec![String::new()];
    let mut chars = text.chars().peekable();
    let mut quoted = false;
    while let Some(c) = chars.next() {
        let field = fields.last_mut().expect("never empty");
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if field.is_empty() => quoted = true,
            '"' => return Err(format!("bare \" in {text:?}")),
            ',' if !quoted => fields.push(String::new()),
            c => field.push(c),
        }
    }
    if quoted {
        return Err(format!("missing closing \" in {text:?}"));
    }
    Ok(fields)
}

/// The `80/tcp` keys of `8080`, `8000-8002/udp`: `--expose` and EXPOSE.
///
/// # Errors
/// When `text` is no port or range with a known protocol.
pub(crate) fn parse_expose(text: &str) -> Result<Vec<String>, String> {
    let invalid = || format!("invalid port format for --expose: {text}");
    let (ports, protocol) = match text.split_once('/') {
        Some((ports, protocol)) => (ports, protocol.to_ascii_lowercase()),
        None => (text, "tcp".to_owned()),
    };
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!("invalid proto: {protocol}"));
    }
    let port = |text: &str| {
        text.parse::<u16>()
            .ok()
            .filter(|n| *n > 0)
            .ok_or_else(invalid)
    };
    let (from, to) = match ports.split_once('-') {
        Some((from, to)) => (port(from)?, port(to)?),
        None => (port(ports)?, port(ports)?),
    };
    if from > to {
        return Err(format!("invalid range format for --expose: {text}"));
    }
    Ok((from..=to).map(|n| format!("{n}/{protocol}")).collect())
}

/// Adds the ports of `text` to `config`.
///
/// # Errors
/// As [`parse_expose`].
pub(crate) fn expose(config: &mut ContainerConfig, text: &str) -> Result<(), String> {
    for key in parse_expose(text)? {
        config.exposed_ports.insert(key, Default::default());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_binary() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("8m", 8 << 20),
            ("64MB", 64 << 20),
            ("64MiB", 64 << 20),
            ("1.5g", 3 << 29),
            ("10 k", 10 << 10),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "nonsense", "-1", "m", "1x", "1.2.3", "99999999999t"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_go_s() {
        for (text, nanos) in [
            ("0", 0),
            ("1s", 1_000_000_000),
            ("1m30s", 90_000_000_000),
            ("1.5s", 1_500_000_000),
            ("300ms", 300_000_000),
            ("-2s", -2_000_000_000),
        ] {
            assert_eq!(parse_duration(text), Ok(nanos), "{text}");
        }
        for text in ["", "5", "s", "1x", "1s2"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn lines_of_an_env_file() {
        let text = "# c\n\n  A=1\nB=two words\r\nC\n";
        assert_eq!(
            parse_lines(text).unwrap(),
            ["A=1", "B=two words", "C"].map(str::to_owned)
        );
        assert_eq!(parse_lines("ok=1\n=x").unwrap_err().0, 2);
        assert!(parse_lines("a b=c").is_err());
    }

    #[test]
    fn ports_to_expose() {
        assert_eq!(parse_expose("80"), Ok(vec!["80/tcp".to_owned()]));
        assert_eq!(parse_expose("1-3/UDP").unwrap().len(), 3);
        for text in ["", "0", "x", "80/x", "3-1", "70000"] {
            assert!(parse_expose(text).is_err(), "{text}");
        }
    }

    #[test]
    fn csv_with_quotes() {
        assert_eq!(parse_csv("a=1,\"b=x,y\",c").unwrap(), ["a=1", "b=x,y", "c"]);
        assert!(parse_csv("\"a").is_err());
    }

    #[test]
    fn later_env_entries_take_the_place_of_earlier_ones() {
        let mut env = vec!["A=1".to_owned(), "B=2".to_owned()];
        set_env(&mut env, "A=3".to_owned());
        set_env(&mut env, "C=".to_owned());
        assert_eq!(env, ["A=3", "B=2", "C="]);
    }
}
