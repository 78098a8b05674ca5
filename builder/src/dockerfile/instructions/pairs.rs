//! ENV, LABEL and ARG: names and values.

use super::super::ast::Argument;
use super::super::{Fault, expand, words};
use super::Statement;

/// ENV and LABEL: `NAME=VALUE …`, or the old `NAME VALUE`.
pub(super) fn pairs(statement: &Statement) -> Result<Vec<(String, String)>, Fault> {
    let name = statement.name;
    let found = statement.some(words::quoted(statement.rest, statement.escape))?;
    let pairs = if is_old_form(&found) {
        let (key, value) = words::first(statement.rest);
        if value.is_empty() {
            return Err(Fault::new(format!("{name} must have two arguments"))
                .hint(format!("write {name} NAME=VALUE")));
        }
        vec![(key.to_owned(), value.to_owned())]
    } else {
        found
            .iter()
            .map(|word| pair(word))
            .collect::<Result<Vec<_>, _>>()?
    };
    if pairs.iter().any(|(key, _)| key.is_empty()) {
        return Err(blank(name));
    }
    Ok(pairs)
}

/// Whether ENV's or LABEL's words are `NAME VALUE`: no `=` in the first one.
pub(in super::super) fn is_old_form(words: &[String]) -> bool {
    words.first().is_some_and(|word| !word.contains('='))
}

fn pair(word: &str) -> Result<(String, String), Fault> {
    let (key, value) = word.split_once('=').ok_or_else(|| {
        Fault::new(format!(
            "Syntax error - can't find = in {word:?}. Must be of the form: name=value"
        ))
        .hint("put quotes around a value with blanks")
    })?;
    Ok((key.to_owned(), value.to_owned()))
}

/// ARG: `NAME[=VALUE] …`.
pub(super) fn arguments(statement: &Statement) -> Result<Vec<Argument>, Fault> {
    let words = statement.some(words::quoted(statement.rest, statement.escape))?;
    words
        .iter()
        .map(|word| {
            let (name, default) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (word.as_str(), None),
            };
            let name = plain_name(name, statement.escape)?;
            if name.is_empty() {
                return Err(blank("ARG"));
            }
            Ok(Argument { name, default })
        })
        .collect()
}

/// Without quotes, unless there are variables in it.
fn plain_name(name: &str, escape: char) -> Result<String, Fault> {
    if name.contains('$') {
        return Ok(name.to_owned());
    }
    expand::word(name, &|_| None, escape).map_err(|error| Fault::new(error.to_string()))
}

fn blank(name: &str) -> Fault {
    Fault::new(format!("{name} names can not be blank"))
}
