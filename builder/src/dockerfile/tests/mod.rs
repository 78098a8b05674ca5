//! What the language means, instruction by instruction; files whole in `testdata/`; mutations of those.

mod errors;
mod fuzz;
mod instructions;
mod lines;
mod warnings;

use super::*;
use crate::source::SourceError;

macro_rules! corpus {
    ($name:literal) => {
        (
            $name,
            include_str!(concat!("../testdata/", $name, "/Dockerfile")),
            include_str!(concat!("../testdata/", $name, "/expected")),
        )
    };
}
/// Whole Dockerfiles, and what is to be found in them.
const CORPUS: [(&str, &str, &str); 8] = [
    corpus!("apache-php"),
    corpus!("go-stages"),
    corpus!("heredocs"),
    corpus!("kitchen-sink"),
    corpus!("nginx"),
    corpus!("node-lower-case"),
    corpus!("old-habits"),
    corpus!("windows-escape"),
];

fn parsed(text: &str) -> Dockerfile {
    parse("Dockerfile", text.as_bytes()).unwrap_or_else(|error| panic!("{error:?}\n{text}"))
}

fn refused(text: &str) -> SourceError {
    match parse("Dockerfile", text.as_bytes()) {
        Ok(file) => panic!("{text:?} parsed to {file:#?}"),
        Err(error) => error,
    }
}

/// The only instruction of a stage.
fn instruction(text: &str) -> Instruction {
    let mut file = parsed(&format!("FROM a\n{text}"));
    let mut found = file.stages.remove(0).instructions;
    assert_eq!(found.len(), 1, "{text}: {found:?}");
    found.remove(0).node
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn shell(line: &str) -> CommandLine {
    CommandLine::Shell(line.to_owned())
}

fn exec(words: &[&str]) -> CommandLine {
    CommandLine::Exec(strings(words))
}

/// Each instruction's lines and text, heredocs below them, then the warnings.
fn summary(file: &Dockerfile) -> String {
    let mut out = String::new();
    let mut line = |located: (crate::source::Span, &str)| {
        out.push_str(&format!(
            "{}-{} {}\n",
            located.0.first, located.0.last, located.1
        ));
    };
    for arg in &file.global_args {
        line((arg.span, &arg.text));
    }
    for stage in &file.stages {
        line((stage.from.span, &stage.from.text));
        for instruction in &stage.instructions {
            line((instruction.span, &instruction.text));
        }
    }
    for warning in &file.warnings {
        let span = warning.place.span;
        out.push_str(&format!(
            "{}-{} {}: {}\n",
            span.first, span.last, warning.rule, warning.message
        ));
    }
    out
}

#[test]
fn whole_files() {
    for (name, text, expected) in CORPUS {
        assert_eq!(summary(&parsed(text)), expected, "{name}");
    }
}
