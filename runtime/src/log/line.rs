//! One line of the json-file format: writing it byte for byte as Docker does, and reading it.

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Stream;

/// Appends the object for `text` (with its newline, if it has one) to `out`.
pub(super) fn write(out: &mut Vec<u8>, stream: Stream, text: &[u8], newline: bool, time: &str) {
    out.extend_from_slice(b"{\"log\":\"");
    escape(out, text);
    if newline {
        out.extend_from_slice(b"\\n");
    }
    out.extend_from_slice(b"\",\"stream\":\"");
    out.extend_from_slice(stream.as_str().as_bytes());
    out.extend_from_slice(b"\",\"time\":\"");
    out.extend_from_slice(time.as_bytes());
    out.extend_from_slice(b"\"}\n");
}

/// As Go's encoder with HTML escaping: control characters, `<`, `>`, `&`, U+2028 and U+2029 become `\u….`; each byte
/// that is no UTF-8 becomes `\ufffd`.
fn escape(out: &mut Vec<u8>, text: &[u8]) {
    for chunk in text.utf8_chunks() {
        let valid = chunk.valid();
        let mut plain = 0;
        for (at, c) in valid.char_indices() {
            let special = match c {
                '"' | '\\' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => true,
                c => c < ' ',
            };
            if !special {
                continue;
            }
            out.extend_from_slice(&valid.as_bytes()[plain..at]);
            plain = at + c.len_utf8();
            match c {
                '"' => out.extend_from_slice(b"\\\""),
                '\\' => out.extend_from_slice(b"\\\\"),
                '\n' => out.extend_from_slice(b"\\n"),
                '\r' => out.extend_from_slice(b"\\r"),
                c => {
                    let code = u32::from(c);
                    out.extend_from_slice(b"\\u");
                    for shift in [12, 8, 4, 0] {
                        let digit = (code >> shift) as usize & 0xf;
                        out.push(b"0123456789abcdef"[digit]);
                    }
                }
            }
        }
        out.extend_from_slice(&valid.as_bytes()[plain..]);
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
}

/// Now, as in the log: RFC 3339, UTC, nanoseconds without trailing zeros.
pub(super) fn now() -> String {
    // A date after year 9999 is the only way to fail.
    OffsetDateTime::now_utc()
        .format(&Rfc3339)
        .unwrap_or_default()
}

/// A line as it stands in the file.
#[derive(Deserialize)]
pub(super) struct Line<'a> {
    /// Text.
    #[serde(borrow, default)]
    pub(super) log: Cow<'a, str>,
    /// `stdout`, `stderr`.
    #[serde(borrow, default)]
    pub(super) stream: Cow<'a, str>,
    /// RFC 3339.
    #[serde(borrow, default)]
    pub(super) time: Cow<'a, str>,
}

/// `None` for what isn't a whole line of ours.
pub(super) fn parse(line: &[u8]) -> Option<Line<'_>> {
    serde_json::from_slice(line).ok()
}

/// The time of RFC 3339 text.
pub(super) fn parse_time(text: &str) -> Option<SystemTime> {
    let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    let nanos = u64::try_from(at.unix_timestamp_nanos()).ok()?;
    Some(UNIX_EPOCH + Duration::from_nanos(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(text: &[u8]) -> String {
        let mut out = Vec::new();
        escape(&mut out, text);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn escapes_as_docker_does() {
        assert_eq!(
            escaped(b"a\"b\\c\r\n\t<&>"),
            r#"a\"b\\c\r\n\u0009\u003c\u0026\u003e"#
        );
        assert_eq!(escaped("ü\u{2028}€".as_bytes()), "ü\\u2028€");
        assert_eq!(escaped(b"\xff\xfeok\xc3"), "\\ufffd\\ufffdok\\ufffd");
        assert_eq!(escaped(b"\x1b[1m\x7f"), "\\u001b[1m\x7f");
    }

    #[test]
    fn what_is_written_is_read() {
        let mut out = Vec::new();
        write(
            &mut out,
            Stream::Stderr,
            b"tab\there",
            true,
            "2024-05-01T10:00:00.5Z",
        );
        let line = parse(&out).unwrap();
        assert_eq!((&*line.log, &*line.stream), ("tab\there\n", "stderr"));
        let at = parse_time(&line.time).unwrap();
        assert_eq!(at.duration_since(UNIX_EPOCH).unwrap().subsec_millis(), 500);
    }
}
