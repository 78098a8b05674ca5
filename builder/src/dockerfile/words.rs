//! The ways in which instructions split their arguments.

use super::Fault;

/// What separates words where quotes mean nothing: not every blank that Unicode knows.
const BLANKS: [char; 5] = ['\t', '\x0b', '\x0c', '\r', ' '];

/// Split at blanks, whatever the quotes.
pub(super) fn plain(text: &str) -> Vec<String> {
    text.split(BLANKS)
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The first word and the rest, blanks around it removed.
pub(super) fn first(text: &str) -> (&str, &str) {
    let text = text.trim();
    match text.split_once(BLANKS) {
        Some((first, rest)) => (first, rest.trim()),
        None => (text, ""),
    }
}

/// Split at blanks that are neither quoted nor escaped; quotes and escapes stay. An unmatched quote lasts to the end.
/// An escape character at the very end is left out.
pub(super) fn quoted(text: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        if char == escape && quote != Some('\'') {
            if let Some(escaped) = chars.next() {
                word.extend([char, escaped]);
            }
            continue;
        }
        if quote.is_none() && char.is_whitespace() {
            if !word.is_empty() {
                words.push(std::mem::take(&mut word));
            }
            continue;
        }
        match quote {
            Some(open) if open == char => quote = None,
            None if char == '"' || char == '\'' => quote = Some(char),
            _ => {}
        }
        word.push(char);
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// As [`quoted`] with a shell's `\`, as slices. `None`: a quote has no match.
pub(super) fn shell_words(text: &str) -> Option<Vec<&str>> {
    let mut words = Vec::new();
    let mut start = None;
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        if quote.is_none() && char.is_whitespace() {
            words.extend(start.take().map(|start| &text[start..at]));
            continue;
        }
        start.get_or_insert(at);
        match (char, quote) {
            ('\\', None | Some('"')) => {
                chars.next();
            }
            ('"' | '\'', None) => quote = Some(char),
            (char, Some(open)) if char == open => quote = None,
            _ => {}
        }
    }
    words.extend(start.map(|start| &text[start..]));
    quote.is_none().then_some(words)
}

/// A word without its quotes and escapes, variables left alone. `None`: a quote has no match.
pub(super) fn without_quotes(word: &str, escape: char) -> Option<String> {
    let mut out = String::new();
    let mut quote = None;
    let mut chars = word.chars().peekable();
    while let Some(char) = chars.next() {
        match quote {
            None if char == '"' || char == '\'' => quote = Some(char),
            Some(open) if char == open => quote = None,
            Some('"') if char == escape => match chars.peek() {
                Some(&next) if next == '"' || next == '$' || next == escape => {
                    out.extend(chars.next());
                }
                _ => out.push(char),
            },
            None if char == escape => out.extend(chars.next()),
            _ => out.push(char),
        }
    }
    quote.is_none().then_some(out)
}

/// A JSON array's strings. `Ok(None)`: it is no JSON array, so something else is meant.
pub(super) fn json(text: &str) -> Result<Option<Vec<String>>, Fault> {
    if !text.trim_start().starts_with('[') {
        return Ok(None);
    }
    let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(text) else {
        return Ok(None);
    };
    values
        .into_iter()
        .map(|value| match value {
            serde_json::Value::String(text) => Ok(text),
            _ => Err(Fault::new(
                "when using JSON array syntax, arrays must be comprised of strings only".to_owned(),
            )),
        })
        .collect::<Result<_, _>>()
        .map(Some)
}

/// A JSON array's strings, or what [`plain`] finds.
pub(super) fn json_or_plain(text: &str) -> Result<Vec<String>, Fault> {
    Ok(json(text)?.unwrap_or_else(|| plain(text)))
}
