//! Go's literals: numbers and the escapes of quoted strings.

/// A number as written in a template.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Number {
    Int(i64),
    Float(f64),
}

/// `12`, `-3`, `0x1F`, `0b1`, `0o7`, `1_000`, `1.5`, `1e3`.
pub(super) fn parse(text: &str) -> Option<Number> {
    let plain = text.replace('_', "");
    let (negative, digits) = match plain.strip_prefix(['-', '+']) {
        Some(rest) => (plain.starts_with('-'), rest),
        None => (false, plain.as_str()),
    };
    let lower = digits.to_ascii_lowercase();
    let octal = lower.len() > 1 && lower.bytes().all(|b| matches!(b, b'0'..=b'7'));
    let zero = if octal { "0" } else { "0o" };
    let based = [("0x", 16), ("0b", 2), (zero, 8)]
        .into_iter()
        .find_map(|(prefix, radix)| lower.strip_prefix(prefix).map(|d| (d, radix)));
    let whole = match based {
        Some((digits, radix)) => i64::from_str_radix(digits, radix).ok()?,
        None => match digits.parse() {
            Ok(whole) => whole,
            Err(_) if digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') => {
                let float: f64 = digits.parse().ok()?;
                return Some(Number::Float(if negative { -float } else { float }));
            }
            Err(_) => return None,
        },
    };
    Some(Number::Int(if negative { -whole } else { whole }))
}

/// The text that a quoted string's inside stands for.
pub(super) fn unquote(inner: &str) -> Option<String> {
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        let (letter, after) = (rest.as_bytes().get(at + 1)?, rest.get(at + 2..)?);
        // (digits that follow, radix, a byte and not a character)
        let (digits, radix, byte) = match letter {
            b'x' => (2, 16, true),
            b'u' => (4, 16, false),
            b'U' => (8, 16, false),
            b'0'..=b'7' => {
                out.push(u8::from_str_radix(rest.get(at + 1..at + 4)?, 8).ok()?);
                rest = rest.get(at + 4..)?;
                continue;
            }
            letter => {
                out.push(simple(*letter)?);
                rest = after;
                continue;
            }
        };
        let code = u32::from_str_radix(after.get(..digits)?, radix).ok()?;
        if byte {
            out.push(u8::try_from(code).ok()?);
        } else {
            out.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut [0; 4]).as_bytes());
        }
        rest = after.get(digits..)?;
    }
    out.extend_from_slice(rest.as_bytes());
    String::from_utf8(out).ok()
}

fn simple(letter: u8) -> Option<u8> {
    Some(match letter {
        b'a' => 7,
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 11,
        b'\\' | b'"' | b'\'' => letter,
        _ => return None,
    })
}
