//! What the language means, instruction by instruction.

use super::*;
use crate::source::SourceError;

fn parsed(text: &str) -> Dockerfile {
    parse("Dockerfile", text.as_bytes()).unwrap_or_else(|error| panic!("{error:?}\n{text}"))
}

fn refused(text: &str) -> SourceError {
    match parse("Dockerfile", text.as_bytes()) {
        Ok(file) => panic!("{text:?} parsed to {file:#?}"),
        Err(error) => error,
    }
}

/// The instructions of the only stage of a file that has `FROM a` before `text`.
fn instructions(text: &str) -> Vec<Instruction> {
    let file = parsed(&format!("FROM a\n{text}"));
    let stage = file.stages.into_iter().next().unwrap();
    let located = stage.instructions.into_iter();
    located.map(|instruction| instruction.node).collect()
}

fn instruction(text: &str) -> Instruction {
    let mut found = instructions(text);
    assert_eq!(found.len(), 1, "{text}: {found:?}");
    found.remove(0)
}

#[test]
fn a_whole_file() {
    let file = parsed(
        "# syntax=docker/dockerfile:1\nARG V=12\nFROM debian:$V AS build\n\nRUN apt-get update && \\\n    # why\n    apt-get install -y gcc\nCOPY --from=x --chown=1:2 a b /c/\nFROM build\nCMD [\"a\", \"b\"]\n",
    );
    assert_eq!(
        file.directives.syntax.as_deref(),
        Some("docker/dockerfile:1")
    );
    assert_eq!(file.global_args[0].node[0].name, "V");
    assert_eq!(file.stages.len(), 2);
    let run = &file.stages[0].instructions[0];
    assert_eq!((run.span.first, run.span.last), (5, 7));
    assert_eq!(run.text, "RUN apt-get update &&     apt-get install -y gcc");
    assert!(file.warnings.is_empty(), "{:?}", file.warnings);
}

#[test]
fn unknown_instruction_is_told_with_its_line_and_the_nearest() {
    let error = refused("FROM a\nRUN b\nCPOY c d\n");
    assert_eq!(error.message, "unknown instruction: CPOY");
    assert_eq!(error.hint.as_deref(), Some("did you mean COPY?"));
    assert_eq!(error.place.unwrap().span.first, 3);
    assert_eq!(
        instruction("run x"),
        Instruction::Run(RunInstruction {
            command: CommandLine::Shell("x".to_owned()),
            heredocs: Vec::new(),
            mounts: Vec::new(),
            network: NetworkFlag::Default,
            security: SecurityFlag::Sandbox,
        })
    );
}
