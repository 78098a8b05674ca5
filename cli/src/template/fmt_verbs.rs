//! `printf`: Go's fmt verbs.

use super::data::Data;
use super::print;

/// `%[flags][width][.precision]verb`.
#[derive(Default)]
struct Verb {
    minus: bool,
    plus: bool,
    zero: bool,
    space: bool,
    sharp: bool,
    width: usize,
    precision: Option<usize>,
    letter: char,
}

/// Wider output is cut: a width comes from the user but may come by accident.
const MAX_WIDTH: usize = 10_000;

/// Formats `arguments` after `format`; what doesn't fit is shown as Go shows it (`%!d(string=x)`).
pub(super) fn sprintf(format: &str, arguments: &[Data]) -> String {
    let mut out = String::new();
    let mut rest = format;
    let mut next = arguments.iter();
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let (verb, length) = scan(&rest[at + 1..], &mut next);
        rest = &rest[at + 1 + length..];
        match verb.letter {
            '\0' => out.push_str("%!(NOVERB)"),
            '%' => out.push('%'),
            letter => match next.next() {
                None => out.push_str(&format!("%!{letter}(MISSING)")),
                Some(value) => verb.write(&mut out, value),
            },
        }
    }
    out.push_str(rest);
    let extra: Vec<_> = next
        .map(|value| format!("{}={}", value.type_name(), plain(value)))
        .collect();
    if !extra.is_empty() {
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    out
}

/// The verb at the start of `text` and its length. A `*` takes its number from `next`.
fn scan<'a>(text: &str, next: &mut impl Iterator<Item = &'a Data>) -> (Verb, usize) {
    let mut verb = Verb::default();
    let mut chars = text.char_indices().peekable();
    while let Some((_, c)) = chars.peek() {
        match c {
            '-' => verb.minus = true,
            '+' => verb.plus = true,
            '0' => verb.zero = true,
            ' ' => verb.space = true,
            '#' => verb.sharp = true,
            _ => break,
        }
        chars.next();
    }
    let mut number = |chars: &mut std::iter::Peekable<std::str::CharIndices<'_>>| {
        if chars.next_if(|(_, c)| *c == '*').is_some() {
            return match next.next() {
                Some(Data::Int(n)) => usize::try_from(*n).unwrap_or_default().min(MAX_WIDTH),
                _ => 0,
            };
        }
        let mut n = 0_usize;
        while let Some((_, c)) = chars.next_if(|(_, c)| c.is_ascii_digit()) {
            let digit = c.to_digit(10).unwrap_or_default() as usize;
            n = (n * 10 + digit).min(MAX_WIDTH);
        }
        n
    };
    verb.width = number(&mut chars);
    if chars.next_if(|(_, c)| *c == '.').is_some() {
        verb.precision = Some(number(&mut chars));
    }
    match chars.next() {
        Some((i, c)) => {
            verb.letter = c;
            (verb, i + c.len_utf8())
        }
        None => (verb, text.len()),
    }
}

fn plain(value: &Data) -> String {
    let mut out = String::new();
    print::value(&mut out, value);
    out
}

impl Verb {
    fn write(&self, out: &mut String, value: &Data) {
        match (self.letter, value) {
            ('T', value) => self.pad(out, value.type_name()),
            (letter, Data::NoValue | Data::Nil(super::Kind::Pointer)) if letter != 'v' => {
                out.push_str(&format!("%!{letter}(<nil>)"));
            }
            (_, value) => print::nested(out, value, &mut |out, leaf| self.leaf(out, leaf)),
        }
    }

    fn leaf(&self, out: &mut String, leaf: &Data) {
        match (self.letter, leaf) {
            ('v', Data::Text(s)) if self.sharp => self.pad(out, &quoted(s)),
            ('s' | 'v', Data::Text(s)) => self.pad(out, &self.cut(s)),
            ('q', Data::Text(s)) => self.pad(out, &quoted(&self.cut(s))),
            ('x', Data::Text(s)) => self.pad(out, &hex(s)),
            ('X', Data::Text(s)) => self.pad(out, &hex(s).to_uppercase()),
            ('t' | 'v', Data::Bool(b)) => self.pad(out, if *b { "true" } else { "false" }),
            ('d' | 'v', Data::Int(n)) => self.number(out, *n < 0, &n.unsigned_abs().to_string()),
            ('x', Data::Int(n)) => self.number(
                out,
                *n < 0,
                &self.based("0x", format!("{:x}", n.unsigned_abs())),
            ),
            ('X', Data::Int(n)) => self.number(
                out,
                *n < 0,
                &self.based("0X", format!("{:X}", n.unsigned_abs())),
            ),
            ('o', Data::Int(n)) => self.number(
                out,
                *n < 0,
                &self.based("0", format!("{:o}", n.unsigned_abs())),
            ),
            ('b', Data::Int(n)) => self.number(
                out,
                *n < 0,
                &self.based("0b", format!("{:b}", n.unsigned_abs())),
            ),
            ('c' | 'q' | 'U', Data::Int(n)) => {
                let c = u32::try_from(*n)
                    .ok()
                    .and_then(char::from_u32)
                    .unwrap_or('\u{fffd}');
                let text = match self.letter {
                    'c' => c.to_string(),
                    'q' => format!("{c:?}"),
                    _ => format!("U+{:04X}", u32::from(c)),
                };
                self.pad(out, &text);
            }
            ('f' | 'F', Data::Float(x)) => {
                let digits = format!("{:.*}", self.precision.unwrap_or(6), x.abs());
                self.number(out, *x < 0.0, &digits);
            }
            ('e', Data::Float(x)) => {
                let digits = format!("{:.*e}", self.precision.unwrap_or(6), x.abs());
                self.number(out, *x < 0.0, &print::exponent(&digits));
            }
            ('g' | 'v', Data::Float(x)) => self.number(out, *x < 0.0, &print::float(x.abs())),
            (letter, other) => {
                out.push_str(&format!(
                    "%!{letter}({}={})",
                    other.type_name(),
                    plain(other)
                ));
            }
        }
    }

    fn based(&self, prefix: &str, digits: String) -> String {
        if self.sharp {
            format!("{prefix}{digits}")
        } else {
            digits
        }
    }

    fn number(&self, out: &mut String, negative: bool, digits: &str) {
        let sign = match (negative, self.plus, self.space) {
            (true, ..) => "-",
            (_, true, _) => "+",
            (_, _, true) => " ",
            _ => "",
        };
        if self.zero && !self.minus {
            let width = self.width.saturating_sub(sign.len());
            out.push_str(&format!("{sign}{digits:0>width$}"));
        } else {
            self.pad(out, &format!("{sign}{digits}"));
        }
    }

    fn cut<'s>(&self, text: &'s str) -> std::borrow::Cow<'s, str> {
        match self.precision {
            Some(precision) => text.chars().take(precision).collect::<String>().into(),
            None => text.into(),
        }
    }

    fn pad(&self, out: &mut String, text: &str) {
        let blanks = " ".repeat(self.width.saturating_sub(text.chars().count()));
        if self.minus {
            out.push_str(text);
            out.push_str(&blanks);
        } else {
            out.push_str(&blanks);
            out.push_str(text);
        }
    }
}

/// Go's `%q`: in double quotes, unprintable characters escaped.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn hex(text: &str) -> String {
    text.bytes().map(|b| format!("{b:02x}")).collect()
}
