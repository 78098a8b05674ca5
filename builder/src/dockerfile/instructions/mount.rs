//! RUN --mount: a line of comma-separated values.

use super::super::Fault;
use super::super::ast::MountFlag;

/// Keys that may stand without a value.
const SWITCHES: [&str; 5] = ["readonly", "ro", "readwrite", "rw", "required"];

/// Keys are checked here, and values that are one of a few words; the rest when variables are expanded.
pub(super) fn parse(text: &str) -> Result<MountFlag, Fault> {
    let options = fields(text)?
        .iter()
        .map(|field| option(field))
        .collect::<Result<_, _>>()?;
    Ok(MountFlag { options })
}

fn option(field: &str) -> Result<(String, String), Fault> {
    let (key, value) = match field.split_once('=') {
        Some((key, value)) => (key.to_ascii_lowercase(), value),
        None if SWITCHES.iter().any(|key| key.eq_ignore_ascii_case(field)) => {
            return Ok((field.to_ascii_lowercase(), String::new()));
        }
        None => {
            return Err(Fault::new(format!(
                "invalid field '{field}' must be a key=value pair"
            )));
        }
    };
    if !MountFlag::KEYS.contains(&key.as_str()) {
        return Err(
            Fault::new(format!("unexpected key '{key}' in '{field}'")).near(&key, MountFlag::KEYS)
        );
    }
    if value.is_empty() && SWITCHES.contains(&key.as_str()) {
        return Err(Fault::new(format!("invalid value for {key}: {value:?}"))
            .hint(format!("write {key}, or {key}=true")));
    }
    let fixed = !value.contains('$');
    let lower = value.to_ascii_lowercase();
    match key.as_str() {
        "from" if !fixed => Err(Fault::new(
            "'from' doesn't support variable expansion, define alias stage instead".to_owned(),
        )),
        "type" if fixed && !MountFlag::TYPES.contains(&lower.as_str()) => {
            Err(Fault::new(format!("unsupported mount type {value:?}"))
                .near(value, MountFlag::TYPES))
        }
        "sharing" if fixed && !MountFlag::SHARING.contains(&lower.as_str()) => {
            Err(Fault::new(format!("unsupported sharing value {value:?}"))
                .hint("it is shared, private or locked"))
        }
        _ => Ok((key, value.to_owned())),
    }
}

/// Comma-separated values (RFC 4180): a field that begins with `"` may have commas, and `""` for a quote.
fn fields(text: &str) -> Result<Vec<String>, Fault> {
    let bad = |why: &str| Fault::new(format!("failed to parse csv mounts: {why} in {text:?}"));
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, behind) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted).ok_or_else(|| bad("unmatched quote"))?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        if !rest.starts_with('"') && field.contains('"') {
            return Err(bad("bare quote"));
        }
        fields.push(field);
        match behind.strip_prefix(',') {
            Some(next) => rest = next,
            None if behind.is_empty() => return Ok(fields),
            None => return Err(bad("text behind a quoted field")),
        }
    }
}

/// A field up to its closing quote, and what follows.
fn quoted_field(text: &str) -> Option<(String, &str)> {
    let mut field = String::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, char)) = chars.next() {
        if char != '"' {
            field.push(char);
        } else if chars.next_if(|(_, next)| *next == '"').is_some() {
            field.push('"');
        } else {
            return Some((field, &text[at + 1..]));
        }
    }
    None
}
