//! Pax records: `<length> <key>=<value>\n` (POSIX.1-2001, pax, "Extended Header").

use super::Time;

/// Bytes that a pax header or a GNU long name may have; as Go's archive/tar, what Docker reads with.
pub(super) const LIMIT: u64 = 1 << 20;

pub(super) const XATTR: &[u8] = b"SCHILY.xattr.";

/// The records of a header block, in order.
pub(super) struct Records<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Records<'a> {
    /// Key and value; `Err`: the text isn't made of records.
    type Item = Result<(&'a [u8], &'a [u8]), &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let record = split(self.0).ok_or("a broken pax record");
        self.0 = match record {
            Ok((_, _, rest)) => rest,
            Err(_) => &[],
        };
        Some(record.map(|(key, value, _)| (key, value)))
    }
}

fn split(text: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let blank = text.iter().take(20).position(|&byte| byte == b' ')?;
    let len = usize::try_from(decimal(&text[..blank])?).ok()?;
    let record = text.get(blank + 1..len)?;
    let record = record.strip_suffix(b"\n")?;
    let equals = record.iter().position(|&byte| byte == b'=')?;
    let key = &record[..equals];
    if key.is_empty() || key.contains(&0) {
        return None;
    }
    Some((key, &record[equals + 1..], &text[len..]))
}

/// Appends one record.
pub(super) fn push(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    // The length counts its own digits.
    let rest = key.len() + value.len() + 3;
    let mut len = rest + rest.to_string().len();
    len = rest + len.to_string().len();
    out.extend_from_slice(len.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// An unsigned decimal number and nothing else.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |value, &digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

/// A time: `[-]seconds[.fraction]`; what is finer than a nanosecond is cut off.
pub(super) fn time(text: &[u8]) -> Option<Time> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let point = text.iter().position(|&byte| byte == b'.');
    let (whole, fraction) = match point {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, &b""[..]),
    };
    let seconds = i64::try_from(decimal(whole)?).ok()?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let mut nanos = 0_u32;
    for at in 0..9 {
        let digit = fraction.get(at).map_or(0, |&digit| digit - b'0');
        nanos = nanos * 10 + u32::from(digit);
    }
    Some(match (negative, nanos) {
        (false, nanos) => Time { seconds, nanos },
        (true, 0) => Time {
            seconds: -seconds,
            nanos,
        },
        (true, nanos) => Time {
            seconds: -seconds - 1,
            nanos: 1_000_000_000 - nanos,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_the_digits_of_its_own_length() {
        for len in 0..2000 {
            let mut out = Vec::new();
            push(&mut out, b"path", &vec![b'x'; len]);
            let records: Vec<_> = Records(&out).collect();
            assert_eq!(records.len(), 1, "{len}");
            assert_eq!(records[0].unwrap().1.len(), len);
        }
    }

    #[test]
    fn broken_records_are_told() {
        for text in [
            &b"5 a=b"[..],
            b"99 a=b\n",
            b"6 a=b\nx",
            b"6 =ab\n",
            b"x a=b\n",
            b"18446744073709551617 a=b\n",
            b"0 a=b\n",
            b"2 a=b\n",
            b"\n",
        ] {
            assert!(Records(text).any(|record| record.is_err()), "{text:?}");
        }
    }

    #[test]
    fn times_have_fractions_and_signs() {
        let time_of = |seconds, nanos| Some(Time { seconds, nanos });
        assert_eq!(time(b"1.5"), time_of(1, 500_000_000));
        assert_eq!(time(b"1.0000000019"), time_of(1, 1));
        assert_eq!(time(b"-1.25"), time_of(-2, 750_000_000));
        assert_eq!(time(b"-3"), time_of(-3, 0));
        assert_eq!(time(b"1."), time_of(1, 0));
        assert_eq!(time(b"1.x"), None);
        assert_eq!(time(b""), None);
        assert_eq!(time(b"99999999999999999999"), None);
    }
}
