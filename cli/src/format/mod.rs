//! How lists are shown: `--format`, tables, durations, sizes, times.

use crate::report::Failure;
use crate::template::{Data, Template, TemplateError};

pub(crate) mod duration;
pub(crate) mod ports;
pub(crate) mod size;
pub(crate) mod table;
pub(crate) mod time;

/// Digits of an ID that are shown.
const SHORT: usize = 12;

/// A kind of list.
pub(crate) struct Listing {
    /// Fields and their headers.
    pub(crate) headers: &'static [(&'static str, &'static str)],
    /// The template of the table without `--format`.
    pub(crate) table: String,
    /// The template of `-q`.
    pub(crate) quiet: &'static str,
}

/// How a list is to be shown: `--format` and `-q` together.
pub(crate) struct Format {
    template: Template,
    /// Column headers and aligned columns.
    header: Option<Template>,
    headers: &'static [(&'static str, &'static str)],
}

impl Listing {
    /// What `--format` (if given) and `-q` ask for.
    ///
    /// # Errors
    /// When the format isn't a template.
    pub(crate) fn format(&self, format: Option<&str>, quiet: Quiet) -> Result<Format, Failure> {
        let format = format.unwrap_or_default().trim_matches(' ');
        let (source, table) = match (format, format.strip_prefix("table")) {
            ("" | "table", _) if quiet == Quiet::Yes => (self.quiet.to_owned(), false),
            ("" | "table", _) => (self.table.clone(), true),
            ("json", _) => ("{{json .}}".to_owned(), false),
            (_, Some(rest)) => (unescape(rest.trim_matches(' ')), true),
            (text, None) => (unescape(text), false),
        };
        let parse = |parse: fn(&str) -> Result<Template, TemplateError>| {
            parse(&source).map_err(|error| refuse(&error, self.headers))
        };
        Ok(Format {
            template: parse(Template::parse)?,
            header: if table {
                Some(parse(Template::parse_header)?)
            } else {
                None
            },
            headers: self.headers,
        })
    }
}

/// `-q`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quiet {
    /// Only IDs (or names).
    Yes,
    /// Everything.
    No,
}

impl From<bool> for Quiet {
    fn from(quiet: bool) -> Self {
        if quiet { Self::Yes } else { Self::No }
    }
}

impl Format {
    /// Whether field `name` is asked for: what is dear to find out is found out only then.
    pub(crate) fn mentions(&self, name: &str) -> bool {
        self.template.mentions(name)
    }

    /// The rows as text, with a line break after each.
    ///
    /// # Errors
    /// When the template asks for a field that rows don't have.
    pub(crate) fn render(&self, rows: impl IntoIterator<Item = Data>) -> Result<String, Failure> {
        let mut out = String::new();
        if let Some(header) = &self.header {
            let mut names: Vec<_> = self
                .headers
                .iter()
                .map(|(field, text)| (*field, Data::text(text)))
                .collect();
            names.push(("Label", Data::Method(std::rc::Rc::new(label_header))));
            let text = header
                .render(&Data::fields(names))
                .map_err(|error| refuse(&error, self.headers))?;
            out.push_str(&text);
            out.push('\n');
        }
        for row in rows {
            let text = self
                .template
                .render(&row)
                .map_err(|error| refuse(&error, self.headers))?;
            out.push_str(&text);
            out.push('\n');
        }
        Ok(match self.header {
            Some(_) => table::layout(&out),
            None => out,
        })
    }
}

/// The header of `{{.Label "com.example.role"}}`: `role`.
fn label_header(key: &str) -> String {
    key.rsplit('.')
        .next()
        .unwrap_or_default()
        .replace(['-', '_'], " ")
}

/// Shells don't make tabs of `\t`: docker's lists do.
fn unescape(format: &str) -> String {
    format.replace("\\t", "\t").replace("\\n", "\n")
}

fn refuse(error: &TemplateError, headers: &[(&str, &str)]) -> Failure {
    let fields: Vec<_> = headers.iter().map(|(name, _)| format!(".{name}")).collect();
    template_failure(error).hint(format!(
        "{}\nfields: {}",
        indented(error.excerpt()),
        fields.join(" ")
    ))
}

/// A template's error as docker words it.
pub(crate) fn template_failure(error: &TemplateError) -> Failure {
    Failure::new(format!("template parsing error: {error}")).hint(indented(error.excerpt()))
}

/// The lines of an excerpt below each other, after `hint: `.
fn indented(excerpt: &str) -> String {
    excerpt.replace('\n', "\n      ")
}

/// The first 12 digits of an ID, with or without `sha256:`.
pub(crate) fn short_id(id: &str) -> String {
    let hex = id.split_once(':').map_or(id, |(_, hex)| hex);
    hex.chars().take(SHORT).collect()
}

/// At most `width` characters, the last an ellipsis when something was cut.
pub(crate) fn ellipsis(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut out: String = text.chars().take(width.saturating_sub(1)).collect();
    out.push('…');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing() -> Listing {
        Listing {
            headers: &[("ID", "CONTAINER ID"), ("Names", "NAMES")],
            table: "{{.ID}}\t{{.Names}}".to_owned(),
            quiet: "{{.ID}}",
        }
    }

    fn shown(format: Option<&str>, quiet: Quiet) -> String {
        let row = |id: &str, name: &str| {
            let label = |key: &str| format!("<{key}>");
            Data::fields([
                ("ID", Data::text(id)),
                ("Names", Data::text(name)),
                ("Label", Data::Method(std::rc::Rc::new(label))),
            ])
        };
        let rows = [row("0123456789ab", "web"), row("fedcba987654", "database")];
        match listing().format(format, quiet).and_then(|f| f.render(rows)) {
            Ok(text) => text,
            Err(failure) => failure.to_string(),
        }
    }

    #[test]
    fn formats() {
        let table = "CONTAINER ID   NAMES\n0123456789ab   web\nfedcba987654   database\n";
        assert_eq!(shown(None, Quiet::No), table);
        assert_eq!(shown(Some("table"), Quiet::No), table);
        assert_eq!(shown(None, Quiet::Yes), "0123456789ab\nfedcba987654\n");
        assert_eq!(
            shown(
                Some(r"table {{.Names}}\t{{.Label `a.some-key`}}"),
                Quiet::No
            ),
            "NAMES      some key\nweb        <a.some-key>\ndatabase   <a.some-key>\n"
        );
        assert_eq!(shown(Some("{{.Names}}"), Quiet::Yes), "web\ndatabase\n");
        assert_eq!(
            shown(Some("json"), Quiet::No),
            "{\"ID\":\"0123456789ab\",\"Names\":\"web\"}\n{\"ID\":\"fedcba987654\",\"Names\":\"database\"}\n"
        );
    }

    #[test]
    fn an_unknown_field_shows_the_known_ones() {
        assert_eq!(
            shown(Some("{{.Name}}"), Quiet::No),
            "rctr: template parsing error: template: :1:2: executing \"\" at <.Name>: \
             map has no entry for key \"Name\"\n\
             hint: {{.Name}}\n        ^\nfields: .ID .Names\n"
        );
    }

    #[test]
    fn cuts() {
        assert_eq!(ellipsis("abcdef", 6), "abcdef");
        assert_eq!(ellipsis("abcdefg", 6), "abcde…");
        assert_eq!(
            short_id(&format!("sha256:{}", "ab".repeat(32))),
            "abababababab"
        );
    }
}
