//! `--name=value` words between an instruction's name and its arguments.

use super::Fault;

/// Flags of an instruction. Each is taken by who knows it; [`Flags::end`] refuses what is left.
pub(super) struct Flags {
    /// Name and value, in order; `None`: taken.
    words: Vec<Option<(String, Option<String>)>>,
    /// All that were asked for, to suggest.
    known: Vec<&'static str>,
}

/// Takes the flags off an instruction's arguments: those and the rest. Quotes and `\` (whatever the escape character)
/// are resolved; `--` ends them.
pub(super) fn split(text: &str) -> (Flags, &str) {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while rest.starts_with("--") {
        let (word, behind) = word(rest);
        rest = behind.trim_start();
        if word == "--" {
            break;
        }
        let word = &word[2..];
        words.push(Some(match word.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (word.to_owned(), None),
        }));
    }
    let flags = Flags {
        words,
        known: Vec::new(),
    };
    (flags, rest.trim())
}

/// A word that begins with `--`, and what is behind it.
fn word(text: &str) -> (String, &str) {
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match (char, quote) {
            ('\\', _) => word.extend(chars.next().map(|(_, escaped)| escaped)),
            (char, Some(open)) if char == open => quote = None,
            (char, None) if char.is_whitespace() => return (word, &text[at..]),
            ('"' | '\'', None) => quote = Some(char),
            _ => word.push(char),
        }
    }
    (word, "")
}

impl Flags {
    /// All values of a flag that may be given several times.
    pub(super) fn many(&mut self, name: &'static str) -> Result<Vec<String>, Fault> {
        self.take(name)
            .into_iter()
            .map(|value| value.ok_or_else(|| missing_value(name)))
            .collect()
    }

    /// The value of a flag.
    pub(super) fn one(&mut self, name: &'static str) -> Result<Option<String>, Fault> {
        let mut values = self.many(name)?;
        if values.len() > 1 {
            return Err(duplicate(name));
        }
        Ok(values.pop())
    }

    /// `--name`, `--name=true` or `--name=false`.
    pub(super) fn boolean(&mut self, name: &'static str) -> Result<Option<bool>, Fault> {
        let mut values = self.take(name);
        if values.len() > 1 {
            return Err(duplicate(name));
        }
        let Some(value) = values.pop() else {
            return Ok(None);
        };
        match value.as_deref().map(str::to_ascii_lowercase).as_deref() {
            None | Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some("") => Err(missing_value(name)),
            Some(_) => Err(Fault::new(format!(
                "expecting boolean value for flag --{name}, not: {}",
                value.unwrap_or_default()
            ))),
        }
    }

    /// No flag is left.
    pub(super) fn end(&self) -> Result<(), Fault> {
        let Some((name, _)) = self.words.iter().flatten().next() else {
            return Ok(());
        };
        let fault = Fault::new(format!("unknown flag: --{name}"));
        let suggestion = super::near(name, &self.known);
        Err(match suggestion {
            Some(known) => fault.hint(format!("did you mean --{known}?")),
            None => fault,
        })
    }

    fn take(&mut self, name: &'static str) -> Vec<Option<String>> {
        self.known.push(name);
        let named = |word: &&mut Option<(String, Option<String>)>| {
            word.as_ref().is_some_and(|(own, _)| own == name)
        };
        self.words
            .iter_mut()
            .filter(named)
            .filter_map(|word| word.take().map(|(_, value)| value))
            .collect()
    }
}

fn duplicate(name: &str) -> Fault {
    Fault::new(format!("duplicate flag specified: --{name}"))
}

fn missing_value(name: &str) -> Fault {
    Fault::new(format!("missing a value on flag: --{name}")).hint(format!("write --{name}=VALUE"))
}
