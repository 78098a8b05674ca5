//! `rctr version` and `rctr --version`.

use clap::{ArgMatches, Command};
use rctr_runtime::host::{GO_ARCH, Host};
use serde_json::{Value, json};

use super::words;
use crate::command::Verb;
use crate::context::Context;
use crate::format;
use crate::output;
use crate::report::Failure;
use crate::template::{Data, Kind, Schema, Template};

/// `version`.
pub(crate) const VERB: Verb = Verb {
    names: &["version"],
    about: "Show the version",
    args: format_arg,
    run,
};

/// `--version`: one line.
pub(crate) const SHORT: Verb = Verb {
    names: &["--version", "-v"],
    about: "Show the version in one line",
    args: |command| command,
    run: |_, _| {
        output::line(format_args!("rctr version {VERSION}"));
        Ok(0)
    },
};

/// Ours: client and engine are one program.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The level of docker's command line that ours follows.
const API_VERSION: &str = "1.50";

const SCHEMA: Schema = Schema(&[("Server.Components.Details", Kind::TextMap)]);

/// `--format`, of commands that show one thing.
pub(super) fn format_arg(command: Command) -> Command {
    command.arg(words::value("format", Some('f'), "Go template, or 'json'"))
}

/// The thing as `--format` asks, if it does: its JSON, or a template on `data`.
///
/// # Errors
/// When the format isn't a template, or asks for a field that isn't there.
pub(super) fn formatted(
    matches: &ArgMatches,
    json: &Value,
    data: impl FnOnce() -> Data,
) -> Result<Option<String>, Failure> {
    match words::text(matches, "format") {
        None | Some("") => Ok(None),
        Some("json") => Ok(Some(json.to_string())),
        Some(source) => Template::parse(source)
            .and_then(|template| template.render(&data()))
            .map(Some)
            .map_err(|error| format::template_failure(&error)),
    }
}

fn run(_: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let version = document(&Host::read());
    match formatted(matches, &version, || typed(version.clone()))? {
        Some(text) => output::line(text),
        None => output::text(as_text(&version)),
    }
    Ok(0)
}

/// Docker's shape.
fn document(host: &Host) -> Value {
    json!({
        "Client": {
            "Platform": {"Name": "rctr"},
            "Version": VERSION,
            "ApiVersion": API_VERSION,
            "DefaultAPIVersion": API_VERSION,
            "GitCommit": "",
            "GoVersion": "",
            "Os": "linux",
            "Arch": GO_ARCH,
            "BuildTime": "",
            "Context": "default",
        },
        "Server": {
            "Platform": {"Name": "rctr"},
            "Components": [{
                "Name": "Engine",
                "Version": VERSION,
                "Details": {
                    "ApiVersion": API_VERSION,
                    "Arch": GO_ARCH,
                    "Experimental": "false",
                    "KernelVersion": host.kernel,
                    "Os": "linux",
                },
            }],
            "Version": VERSION,
            "ApiVersion": API_VERSION,
            "MinAPIVersion": API_VERSION,
            "GitCommit": "",
            "GoVersion": "",
            "Os": "linux",
            "Arch": GO_ARCH,
            "KernelVersion": host.kernel,
            "BuildTime": "",
        },
    })
}

/// For templates, which go by the names of Docker's Go structs: APIVersion where the JSON says ApiVersion.
fn typed(mut version: Value) -> Data {
    for side in ["Client", "Server"] {
        version[side]["APIVersion"] = API_VERSION.into();
    }
    Data::typed(&version, &SCHEMA)
}

fn as_text(version: &Value) -> String {
    let client = |field: &str| version["Client"][field].as_str().unwrap_or_default();
    let server = |field: &str| version["Server"][field].as_str().unwrap_or_default();
    format!(
        "Client: rctr\n Version:           {}\n API version:       {}\n OS/Arch:           {}/{}\n Context:           {}\n\n\
         Server: rctr (no daemon: the same program)\n Engine:\n  Version:          {}\n  API version:      {}\n  \
         OS/Arch:          {}/{}\n  Kernel version:   {}\n  Experimental:     false\n",
        client("Version"),
        client("ApiVersion"),
        client("Os"),
        client("Arch"),
        client("Context"),
        server("Version"),
        server("ApiVersion"),
        server("Os"),
        server("Arch"),
        server("KernelVersion"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(source: &str) -> String {
        let version = typed(document(&Host::read()));
        Template::parse(source).unwrap().render(&version).unwrap()
    }

    #[test]
    fn scripts_find_the_versions() {
        assert_eq!(
            show("{{.Client.Version}} {{.Server.Version}}"),
            format!("{VERSION} {VERSION}")
        );
        assert_eq!(show("{{.Server.APIVersion}}"), API_VERSION);
        assert_eq!(
            show("{{.Server.Os}}/{{.Server.Arch}}"),
            format!("linux/{GO_ARCH}")
        );
        let experimental = "{{range .Server.Components}}{{.Name}} {{.Details.Experimental}}{{end}}";
        assert_eq!(show(experimental), "Engine false");
        let json: Value = serde_json::from_str(&show("{{json .}}")).unwrap();
        assert_eq!(json["Client"]["ApiVersion"], API_VERSION);
        assert!(as_text(&document(&Host::read())).contains("\n Version:           "));
    }
}
