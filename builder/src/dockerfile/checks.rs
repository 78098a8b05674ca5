//! Build checks that need nothing but the text: rules and messages of BuildKit's reference of build checks
//! (docs.docker.com/reference/build-checks). The planner has those that need variables.

use std::collections::{BTreeMap, BTreeSet};

use super::ast::{CommandLine, Instruction, Located, Stage};
use super::instructions::is_old_form;
use super::lines::Logical;
use super::words;
use crate::source::Span;

/// What a rule found.
pub(super) struct Finding {
    pub(super) rule: &'static str,
    pub(super) message: String,
    pub(super) span: Span,
}

impl Finding {
    fn new(rule: &'static str, span: Span, message: String) -> Self {
        Self {
            rule,
            message,
            span,
        }
    }
}

/// All findings, those of a line in the order of the functions here. `escape`: the file's escape character.
pub(super) fn find(lines: &[Logical], stages: &[Stage], escape: char) -> Vec<Finding> {
    let mut findings = Vec::new();
    for line in lines {
        empty_continuation(line, &mut findings);
        old_form(line, escape, &mut findings);
        from_casing(line, &mut findings);
        description(line, escape, &mut findings);
    }
    instruction_casing(lines, &mut findings);
    stage_names(stages, &mut findings);
    json_arguments(stages, &mut findings);
    for stage in stages {
        redundant_platform(stage, &mut findings);
        used_once(stage, &mut findings);
        for instruction in &stage.instructions {
            one_instruction(instruction, &mut findings);
        }
    }
    findings
}

fn name_of(line: &Logical) -> &str {
    words::first(&line.text).0
}

/// Tells the first empty line only: one remedy helps all.
fn empty_continuation(line: &Logical, findings: &mut Vec<Finding>) {
    if let Some(&number) = line.empty_lines.first() {
        let span = Span {
            first: number,
            last: number,
        };
        let message = "Empty continuation line".to_owned();
        findings.push(Finding::new("NoEmptyContinuation", span, message));
    }
}

fn old_form(line: &Logical, escape: char, findings: &mut Vec<Finding>) {
    let (word, rest) = words::first(&line.text);
    let name = word.to_ascii_uppercase();
    if !matches!(name.as_str(), "ENV" | "LABEL") || !is_old_form(&words::quoted(rest, escape)) {
        return;
    }
    let message = format!(
        "\"{name} key=value\" should be used instead of legacy \"{name} key value\" format"
    );
    findings.push(Finding::new("LegacyKeyValueFormat", line.span, message));
}

fn from_casing(line: &Logical, findings: &mut Vec<Finding>) {
    let from = name_of(line);
    if !from.eq_ignore_ascii_case("FROM") {
        return;
    }
    let (_, arguments) = super::flags::split(words::first(&line.text).1);
    let [_, keyword, name] = words::plain(arguments).try_into().unwrap_or_default();
    let name: String = name;
    if name != name.to_lowercase() {
        let message = format!("Stage name '{name}' should be lowercase");
        findings.push(Finding::new("StageNameCasing", line.span, message));
    }
    let wanted = if from == from.to_ascii_uppercase() {
        keyword.to_ascii_uppercase()
    } else {
        keyword.to_ascii_lowercase()
    };
    if keyword != wanted {
        let message = format!("'{keyword}' and '{from}' keywords' casing do not match");
        findings.push(Finding::new("FromAsCasing", line.span, message));
    }
}

/// A comment right before FROM … AS NAME or ARG begins with the name.
fn description(line: &Logical, escape: char, findings: &mut Vec<Finding>) {
    let Some(comment) = &line.comment else {
        return;
    };
    let (word, rest) = words::first(&line.text);
    let (_, arguments) = super::flags::split(rest);
    let name = word.to_ascii_uppercase();
    let defined: Vec<String> = match name.as_str() {
        "FROM" => words::plain(arguments)
            .into_iter()
            .skip(2)
            .map(|name| name.to_lowercase())
            .collect(),
        "ARG" => words::quoted(arguments, escape)
            .iter()
            .map(|word| word.split('=').next().unwrap_or_default().to_owned())
            .collect(),
        _ => Vec::new(),
    };
    let described = comment.split(' ').next().unwrap_or_default();
    let example = match defined.as_slice() {
        [] => return,
        [one] => one.as_str(),
        _ => "<arg_key>",
    };
    if !defined.iter().any(|name| name == described) {
        let message =
            format!("Comment for {name} should follow the format: `# {example} <description>`");
        findings.push(Finding::new(
            "InvalidDefinitionDescription",
            line.span,
            message,
        ));
    }
}

/// Upper case, unless more than half are lower case. ARG before the first FROM has no vote, and isn't judged.
fn instruction_casing(lines: &[Logical], findings: &mut Vec<Finding>) {
    let names: Vec<(&str, Span)> = lines
        .iter()
        .map(|line| (name_of(line), line.span))
        .skip_while(|(name, _)| !name.eq_ignore_ascii_case("FROM"))
        .collect();
    let lower = |name: &str| name == name.to_ascii_lowercase();
    let upper = |name: &str| name == name.to_ascii_uppercase();
    let lower_count = names.iter().filter(|(name, _)| lower(name)).count();
    let upper_count = names.iter().filter(|(name, _)| upper(name)).count();
    let (fits, casing): (&dyn Fn(&str) -> bool, &str) = if lower_count > upper_count {
        (&lower, "lowercase")
    } else {
        (&upper, "uppercase")
    };
    for (name, span) in names.into_iter().filter(|(name, _)| !fits(name)) {
        let message =
            format!("Command '{name}' should match the case of the command majority ({casing})");
        findings.push(Finding::new("ConsistentInstructionCasing", span, message));
    }
}

fn stage_names(stages: &[Stage], findings: &mut Vec<Finding>) {
    let mut seen = BTreeSet::new();
    for from in stages.iter().map(|stage| &stage.from) {
        let Some(name) = &from.node.name else {
            continue;
        };
        if matches!(name.as_str(), "scratch" | "context") {
            let message =
                format!("Stage name should not use the same name as reserved stage {name:?}");
            findings.push(Finding::new("ReservedStageName", from.span, message));
        }
        if !seen.insert(name) {
            let message = format!("Duplicate stage name {name:?}, stage names should be unique");
            findings.push(Finding::new("DuplicateStageName", from.span, message));
        }
    }
}

fn redundant_platform(stage: &Stage, findings: &mut Vec<Finding>) {
    let from = &stage.from;
    let Some(platform @ ("$TARGETPLATFORM" | "${TARGETPLATFORM}")) = from.node.platform.as_deref()
    else {
        return;
    };
    let message = format!(
        "Setting platform to predefined {platform} in FROM is redundant as this is the default behavior"
    );
    findings.push(Finding::new("RedundantTargetPlatform", from.span, message));
}

/// Of CMD, ENTRYPOINT and HEALTHCHECK the last one counts: those before it are told.
fn used_once(stage: &Stage, findings: &mut Vec<Finding>) {
    let mut last: [Option<Span>; 3] = [None; 3];
    for instruction in &stage.instructions {
        let (index, name) = match instruction.node {
            Instruction::Cmd(_) => (0, "CMD"),
            Instruction::Entrypoint(_) => (1, "ENTRYPOINT"),
            Instruction::Healthcheck(_) => (2, "HEALTHCHECK"),
            _ => continue,
        };
        if let Some(ignored) = last[index].replace(instruction.span) {
            let message = format!(
                "Multiple {name} instructions should not be used in the same stage because only the last one will be used"
            );
            findings.push(Finding::new(
                "MultipleInstructionsDisallowed",
                ignored,
                message,
            ));
        }
    }
}

/// Shell form of CMD and ENTRYPOINT, unless a shell was chosen by SHELL, here or in a stage that this one starts from.
fn json_arguments(stages: &[Stage], findings: &mut Vec<Finding>) {
    let mut ends_with_shell: BTreeMap<&str, bool> = BTreeMap::new();
    for stage in stages {
        let base = stage.from.node.image.to_lowercase();
        let mut shell_chosen = ends_with_shell.get(base.as_str()) == Some(&true);
        for instruction in &stage.instructions {
            match &instruction.node {
                Instruction::Shell(_) => shell_chosen = true,
                Instruction::Cmd(CommandLine::Shell(_)) if !shell_chosen => {
                    findings.push(json_recommended("CMD", instruction.span));
                }
                Instruction::Entrypoint(CommandLine::Shell(_)) if !shell_chosen => {
                    findings.push(json_recommended("ENTRYPOINT", instruction.span));
                }
                _ => {}
            }
        }
        if let Some(name) = &stage.from.node.name {
            ends_with_shell.insert(name, shell_chosen);
        }
    }
}

fn json_recommended(name: &str, span: Span) -> Finding {
    let message = format!(
        "JSON arguments recommended for {name} to prevent unintended behavior related to OS signals"
    );
    Finding::new("JSONArgsRecommended", span, message)
}

fn one_instruction(instruction: &Located<Instruction>, findings: &mut Vec<Finding>) {
    let span = instruction.span;
    match &instruction.node {
        Instruction::Maintainer(_) => findings.push(Finding::new(
            "MaintainerDeprecated",
            span,
            "Maintainer instruction is deprecated in favor of using label".to_owned(),
        )),
        Instruction::Expose(ports) => {
            for port in ports.iter().filter(|port| !port.contains('$')) {
                expose(port, span, findings);
            }
        }
        _ => {}
    }
}

/// A port that is written out.
fn expose(port: &str, span: Span, findings: &mut Vec<Finding>) {
    if port.contains(':') {
        let message = format!(
            "EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'"
        );
        findings.push(Finding::new("ExposeInvalidFormat", span, message));
    }
    if port != port.to_lowercase() {
        let message =
            format!("Defined protocol '{port}' in EXPOSE instruction should be lowercase");
        findings.push(Finding::new("ExposeProtoCasing", span, message));
    }
}
