//! Functions: those of Go's text/template and those that docker's command line adds.

use std::cmp::Ordering;

use super::data::{Data, Kind};
use super::{fmt_verbs, print};

/// Which meaning docker's own functions have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Set {
    /// Their own.
    Values,
    /// None: the header of a table shows the column's name whatever is done to its values.
    Headers,
}

type Outcome = Result<Data, String>;

/// A function: its name, how many arguments it takes, what it does.
struct Function {
    name: &'static str,
    least: usize,
    most: usize,
    run: fn(&[Data]) -> Outcome,
    /// The identity in headers.
    values_only: bool,
}

const MANY: usize = usize::MAX;
/// How Go's message about an argument of another type begins: it isn't the function's own.
const WRONG_TYPE: &str = "wrong type for value";

const fn go(
    name: &'static str,
    least: usize,
    most: usize,
    run: fn(&[Data]) -> Outcome,
) -> Function {
    Function {
        name,
        least,
        most,
        run,
        values_only: false,
    }
}

const fn docker(name: &'static str, count: usize, run: fn(&[Data]) -> Outcome) -> Function {
    Function {
        name,
        least: count,
        most: count,
        run,
        values_only: true,
    }
}

const FUNCTIONS: &[Function] = &[
    go("and", 1, MANY, |a| Ok(a[a.len() - 1].clone())),
    go("or", 1, MANY, |a| Ok(a[a.len() - 1].clone())),
    go("not", 1, 1, |a| Ok(Data::Bool(!a[0].is_true()))),
    go("eq", 1, MANY, |a| {
        if a.len() < 2 {
            return Err("missing argument for comparison".to_owned());
        }
        for other in &a[1..] {
            if equal(&a[0], other)? {
                return Ok(Data::Bool(true));
            }
        }
        Ok(Data::Bool(false))
    }),
    go("ne", 2, 2, |a| Ok(Data::Bool(!equal(&a[0], &a[1])?))),
    go("lt", 2, 2, |a| order(a, Ordering::is_lt)),
    go("le", 2, 2, |a| order(a, Ordering::is_le)),
    go("gt", 2, 2, |a| order(a, Ordering::is_gt)),
    go("ge", 2, 2, |a| order(a, Ordering::is_ge)),
    go("len", 1, 1, len),
    go("index", 1, MANY, |a| {
        a[1..].iter().try_fold(a[0].clone(), index)
    }),
    go("slice", 1, 4, slice),
    go("print", 0, MANY, |a| Ok(Data::text(sprint(a)))),
    go("println", 0, MANY, |a| {
        let words: Vec<_> = a.iter().map(shown).collect();
        Ok(Data::text(format!("{}\n", words.join(" "))))
    }),
    go("printf", 1, MANY, |a| {
        Ok(Data::text(fmt_verbs::sprintf(text(&a[0])?, &a[1..])))
    }),
    docker("json", 1, |a| Ok(Data::text(a[0].to_json().to_string()))),
    docker("split", 2, |a| {
        let (source, separator) = (text(&a[0])?, text(&a[1])?);
        if separator.is_empty() {
            return Ok(Data::list(
                source.chars().map(|c| Data::text(c.to_string())),
            ));
        }
        Ok(Data::list(source.split(separator).map(Data::text)))
    }),
    docker("join", 2, join),
    docker("title", 1, |a| Ok(Data::text(title(text(&a[0])?)))),
    docker("lower", 1, |a| Ok(Data::text(text(&a[0])?.to_lowercase()))),
    docker("upper", 1, |a| Ok(Data::text(text(&a[0])?.to_uppercase()))),
    docker("truncate", 2, |a| {
        let length = usize::try_from(whole(&a[1])?).unwrap_or_default();
        Ok(Data::text(
            text(&a[0])?.chars().take(length).collect::<String>(),
        ))
    }),
    go("pad", 3, 3, |a| {
        let source = text(&a[0])?;
        let blanks = |n: i64| " ".repeat(usize::try_from(n).unwrap_or_default().min(4096));
        if source.is_empty() {
            return Ok(a[0].clone());
        }
        let (before, after) = (blanks(whole(&a[1])?), blanks(whole(&a[2])?));
        Ok(Data::text(format!("{before}{source}{after}")))
    }),
];

/// Whether there is a function called `name`.
pub(super) fn exists(name: &str) -> bool {
    FUNCTIONS.iter().any(|f| f.name == name)
}

/// Calls `name`, which exists. The error is the message after the place.
pub(super) fn call(set: Set, name: &str, arguments: &[Data]) -> Outcome {
    let Some(function) = FUNCTIONS.iter().find(|f| f.name == name) else {
        return Err(format!("{name:?} is not a defined function"));
    };
    let count = arguments.len();
    if count < function.least || count > function.most {
        let want = if function.most == MANY {
            format!("at least {}", function.least)
        } else {
            function.least.to_string()
        };
        return Err(format!(
            "wrong number of args for {name}: want {want} got {count}"
        ));
    }
    if set == Set::Headers && function.values_only {
        return Ok(arguments[0].clone());
    }
    (function.run)(arguments).map_err(|message| {
        if message.starts_with(WRONG_TYPE) {
            message
        } else {
            format!("error calling {name}: {message}")
        }
    })
}

fn text(value: &Data) -> Result<&str, String> {
    match value {
        Data::Text(text) => Ok(text),
        Data::NoValue | Data::Nil(Kind::Text) => Ok(""),
        other => Err(format!(
            "{WRONG_TYPE}; expected string; got {}",
            other.type_name()
        )),
    }
}

fn whole(value: &Data) -> Result<i64, String> {
    match value {
        Data::Int(n) => Ok(*n),
        other => Err(format!(
            "{WRONG_TYPE}; expected int; got {}",
            other.type_name()
        )),
    }
}

fn shown(value: &Data) -> String {
    let mut out = String::new();
    match value {
        Data::NoValue => out.push_str("<nil>"),
        other => print::value(&mut out, other),
    }
    out
}

/// Go's Sprint: a blank between two operands of which neither is a string.
fn sprint(arguments: &[Data]) -> String {
    let mut out = String::new();
    let is_text = |d: &Data| matches!(d, Data::Text(_));
    for (i, argument) in arguments.iter().enumerate() {
        if i > 0 && !is_text(argument) && !is_text(&arguments[i - 1]) {
            out.push(' ');
        }
        out.push_str(&shown(argument));
    }
    out
}

fn equal(a: &Data, b: &Data) -> Result<bool, String> {
    Ok(match (a, b) {
        (Data::Bool(a), Data::Bool(b)) => a == b,
        (Data::Text(a), Data::Text(b)) => a == b,
        (Data::Int(_) | Data::Float(_), Data::Int(_) | Data::Float(_)) => {
            compare(a, b).is_some_and(Ordering::is_eq)
        }
        (Data::NoValue | Data::Nil(_), Data::NoValue | Data::Nil(_)) => true,
        // Go lets nil be compared with anything.
        (Data::NoValue | Data::Nil(_), _) | (_, Data::NoValue | Data::Nil(_)) => false,
        (Data::List(_) | Data::Map(..) | Data::Struct(_) | Data::Method(_), _) => {
            return Err("non-comparable type".to_owned());
        }
        _ => return Err("incompatible types for comparison".to_owned()),
    })
}

#[expect(clippy::cast_precision_loss, reason = "a comparison of floats")]
fn compare(a: &Data, b: &Data) -> Option<Ordering> {
    match (a, b) {
        (Data::Int(a), Data::Int(b)) => Some(a.cmp(b)),
        (Data::Float(a), Data::Float(b)) => a.partial_cmp(b),
        (Data::Int(a), Data::Float(b)) => (*a as f64).partial_cmp(b),
        (Data::Float(a), Data::Int(b)) => a.partial_cmp(&(*b as f64)),
        (Data::Text(a), Data::Text(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

fn order(arguments: &[Data], wanted: fn(Ordering) -> bool) -> Outcome {
    let [a, b] = arguments else {
        return Err("missing argument for comparison".to_owned());
    };
    if let Some(ordering) = compare(a, b) {
        return Ok(Data::Bool(wanted(ordering)));
    }
    let basic = |d: &Data| matches!(d, Data::Int(_) | Data::Float(_) | Data::Text(_));
    Err(if basic(a) && basic(b) {
        "incompatible types for comparison".to_owned()
    } else {
        "invalid type for comparison".to_owned()
    })
}

fn len(arguments: &[Data]) -> Outcome {
    let length = match &arguments[0] {
        Data::Text(s) => s.len(),
        Data::List(items) => items.len(),
        Data::Map(entries, _) => entries.len(),
        Data::NoValue | Data::Nil(Kind::Pointer) => return Err("len of nil pointer".to_owned()),
        Data::Nil(_) => 0,
        other => return Err(format!("len of type {}", other.type_name())),
    };
    Ok(Data::Int(i64::try_from(length).unwrap_or(i64::MAX)))
}

/// One step of `index`.
#[expect(clippy::needless_pass_by_value, reason = "the shape that a fold wants")]
fn index(value: Data, key: &Data) -> Outcome {
    let out_of_range = |n: i64| Err(format!("index out of range: {n}"));
    match (&value, key) {
        (Data::NoValue, _) => Err("index of untyped nil".to_owned()),
        (Data::Nil(Kind::Pointer), _) => Err("index of nil pointer".to_owned()),
        (Data::Map(..) | Data::Struct(_), Data::Text(name)) => {
            Ok(value.entry(name).unwrap_or(Data::NoValue))
        }
        (Data::Nil(Kind::TextMap | Kind::ListMap | Kind::StructMap), Data::Text(name)) => {
            Ok(value.entry(name).unwrap_or(Data::NoValue))
        }
        (Data::List(items), Data::Int(n)) => usize::try_from(*n)
            .ok()
            .and_then(|i| items.get(i))
            .map_or_else(|| out_of_range(*n), |item| Ok(item.clone())),
        (Data::Nil(Kind::List), Data::Int(n)) => out_of_range(*n),
        (Data::Text(text), Data::Int(n)) => usize::try_from(*n)
            .ok()
            .and_then(|i| text.as_bytes().get(i))
            .map_or_else(|| out_of_range(*n), |b| Ok(Data::Int(i64::from(*b)))),
        (Data::List(_) | Data::Text(_) | Data::Nil(Kind::List), other) => Err(format!(
            "cannot index slice/array with type {}",
            other.type_name()
        )),
        (Data::Map(..) | Data::Struct(_), other) => Err(format!(
            "value has type {}; should be string",
            other.type_name()
        )),
        (other, _) => Err(format!("can't index item of type {}", other.type_name())),
    }
}

/// `slice x`, `slice x from`, `slice x from to`.
fn slice(arguments: &[Data]) -> Outcome {
    let size = match &arguments[0] {
        Data::Text(s) => s.len(),
        Data::List(items) => items.len(),
        Data::Nil(Kind::List) => 0,
        other => return Err(format!("can't slice item of type {}", other.type_name())),
    };
    let bound = |i: usize, default: usize| match arguments.get(i) {
        None => Ok(default),
        Some(value) => whole(value).and_then(|n| {
            usize::try_from(n)
                .ok()
                .filter(|n| *n <= size)
                .ok_or_else(|| format!("index out of range: {n}"))
        }),
    };
    let (from, to) = (bound(1, 0)?, bound(2, size)?);
    if from > to {
        return Err(format!("invalid slice index: {from} > {to}"));
    }
    Ok(match &arguments[0] {
        Data::Text(s) => Data::text(String::from_utf8_lossy(&s.as_bytes()[from..to])),
        Data::List(items) => Data::list(items[from..to].iter().cloned()),
        other => other.clone(),
    })
}

fn join(arguments: &[Data]) -> Outcome {
    let separator = text(&arguments[1])?;
    match &arguments[0] {
        Data::List(items) => {
            let words: Vec<_> = items.iter().map(shown).collect();
            Ok(Data::text(words.join(separator)))
        }
        Data::Nil(Kind::List) | Data::NoValue => Ok(Data::text("")),
        other => Err(format!(
            "{WRONG_TYPE}; expected []string; got {}",
            other.type_name()
        )),
    }
}

/// The first letter of each word in upper case.
fn title(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut inside = false;
    for c in source.chars() {
        let letter = c.is_alphanumeric() || c == '_';
        if letter && !inside {
            out.extend(c.to_uppercase());
        } else {
            out.push(c);
        }
        inside = letter;
    }
    out
}
