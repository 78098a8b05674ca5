//! Build checks that need variables, platforms or base images, by BuildKit's names and in its words. Those that need
//! only the text are the parser's.

use std::sync::Arc;

use rctr_storage::manifest::Platform;
use rctr_storage::reference::Reference;

use super::scope::{Expander, Globals, Variables};
use crate::dockerfile::{Check, Dockerfile, Fault, Instruction, Stage, near};
use crate::source::{Place, SourceFile, Span, Warning};

/// What was found so far.
#[derive(Debug)]
pub(super) struct Findings {
    file: Arc<SourceFile>,
    check: Check,
    found: Vec<Warning>,
}

impl Findings {
    /// With those of the parser. `option`: `BUILDKIT_DOCKERFILE_CHECK`, which counts instead of the directive.
    ///
    /// # Errors
    /// When `option` is none.
    pub(super) fn new(dockerfile: &Dockerfile, option: Option<&str>) -> Result<Self, Fault> {
        let mut findings = Self {
            file: dockerfile.file.clone(),
            check: match option {
                Some(text) => text.parse()?,
                None => dockerfile.directives.check.clone(),
            },
            found: Vec::new(),
        };
        for warning in &dockerfile.warnings {
            let span = warning.place.span;
            findings.report(warning.rule, span, warning.message.clone());
        }
        Ok(findings)
    }

    /// Adds one, unless its rule is skipped or the same was found before.
    pub(super) fn report(&mut self, rule: &'static str, span: Span, message: String) {
        if !self.check.allows(rule) {
            return;
        }
        let place = Place {
            file: self.file.clone(),
            span,
        };
        let warning = Warning {
            rule,
            message,
            place,
        };
        if !self.found.contains(&warning) {
            self.found.push(warning);
        }
    }

    /// Whether findings fail the build.
    pub(super) fn are_errors(&self) -> bool {
        self.check.error && !self.found.is_empty()
    }

    /// In the order of their lines.
    pub(super) fn sorted(mut self) -> Vec<Warning> {
        self.found.sort_by_key(|warning| warning.place.span);
        self.found
    }
}

/// Words of FROM that name undeclared ARGs.
pub(super) fn undefined_in_from(
    findings: &mut Findings,
    expander: &Expander<'_>,
    globals: &Globals,
    span: Span,
) {
    let mut known = globals.variables.names();
    known.extend(globals.declared.iter().map(String::as_str));
    for name in expander.missing() {
        if !known.contains(&name.as_str()) {
            let meant = did_you_mean(&name, &known, "");
            let message = format!("FROM argument '{name}' is not declared{meant}");
            findings.report("UndefinedArgInFrom", span, message);
        }
    }
}

/// Variables that nothing defines. `declared`: ARGs without a value.
pub(super) fn undefined(
    findings: &mut Findings,
    missing: &[String],
    declared: &[(String, Option<String>)],
    variables: &Variables,
    span: Span,
) {
    for name in missing {
        if !declared.iter().any(|(declared, _)| declared == name) {
            let meant = did_you_mean(name, &variables.names(), "$");
            let message = format!("Usage of undefined variable '${name}'{meant}");
            findings.report("UndefinedVar", span, message);
        }
    }
}

fn did_you_mean(name: &str, known: &[&str], sign: &str) -> String {
    match near(name, known) {
        Some(meant) => format!(" (did you mean {sign}{meant}?)"),
        None => String::new(),
    }
}

/// `FROM --platform=linux/amd64`, `FROM --platform=$TARGETPLATFORM`. `word`: as written; `value`: expanded.
pub(super) fn platform_flag(
    findings: &mut Findings,
    stage: &Stage,
    expander: &Expander<'_>,
    value: &str,
) {
    let span = stage.from.span;
    let written = stage.from.node.platform.as_deref().unwrap_or_default();
    let (used, missing) = (expander.used(), expander.missing());
    if used.is_empty() && missing.is_empty() {
        let Ok(platform) = Platform::parse(value) else {
            return;
        };
        // A stage that says in its name what it is for is meant so.
        let name = stage.from.node.name.as_deref().unwrap_or_default();
        if !name.contains(&platform.os) && !name.contains(&platform.architecture) {
            let message = format!("FROM --platform flag should not use constant value {value:?}");
            findings.report("FromPlatformFlagConstDisallowed", span, message);
        }
    } else if used == ["TARGETPLATFORM"] && missing.is_empty() && is_only_a_variable(written) {
        let message = format!(
            "Setting platform to predefined {written} in FROM is redundant as this is the default behavior"
        );
        findings.report("RedundantTargetPlatform", span, message);
    }
}

fn is_only_a_variable(word: &str) -> bool {
    let word = word.trim_matches('"');
    word == "$TARGETPLATFORM" || word.starts_with("${TARGETPLATFORM") && word.ends_with('}')
}

/// The image isn't of the platform that was asked for.
pub(super) fn base_platform(
    findings: &mut Findings,
    name: &str,
    wanted: &Platform,
    image: &Platform,
    span: Span,
) {
    if !wanted.matches(image) {
        let message = format!(
            "Base image {name} was pulled with platform {:?}, expected {:?} for current build",
            image.to_string(),
            wanted.to_string()
        );
        findings.report("InvalidBaseImagePlatform", span, message);
    }
}

/// Base images that are none if no `--build-arg` is given.
pub(super) fn default_base_names(
    findings: &mut Findings,
    dockerfile: &Dockerfile,
    predefined: &Variables,
) {
    let escape = dockerfile.directives.escape;
    let without = std::collections::BTreeMap::new();
    // What is wrong in them is an error of the build, which says so.
    let Ok(globals) = Globals::new(&dockerfile.global_args, &without, predefined, escape) else {
        return;
    };
    for stage in &dockerfile.stages {
        let written = &stage.from.node.image;
        let name = Expander::new(&globals.variables, escape).word(written);
        if name.is_ok_and(|name| Reference::parse(&name).is_err()) {
            let message = format!(
                "Default value for ARG {written} results in empty or invalid base image name"
            );
            findings.report("InvalidDefaultArgInFrom", stage.from.span, message);
        }
    }
}

/// ARG and ENV whose names say that they hold a secret.
pub(super) fn secret_names(findings: &mut Findings, instruction: &Instruction, span: Span) {
    let (word, names): (_, Vec<&String>) = match instruction {
        Instruction::Arg(arguments) => ("ARG", arguments.iter().map(|a| &a.name).collect()),
        Instruction::Env(pairs) => ("ENV", pairs.iter().map(|(name, _)| name).collect()),
        _ => return,
    };
    for name in names.into_iter().filter(|name| looks_secret(name)) {
        let message =
            format!("Do not use ARG or ENV instructions for sensitive data ({word} {name:?})");
        findings.report("SecretsUsedInArgOrEnv", span, message);
    }
}

/// Whether a variable's name says that it holds a secret: `API_KEY`, `token`, but not `PUBLIC_KEY`.
#[must_use]
pub fn looks_secret(name: &str) -> bool {
    const SECRET: &[&str] = &[
        "apikey",
        "auth",
        "credential",
        "credentials",
        "key",
        "password",
        "pword",
        "passwd",
        "secret",
        "token",
    ];
    const HARMLESS: &[&str] = &["public", "file", "version"];
    let lower = name.to_ascii_lowercase();
    let has = |words: &[&str]| lower.split('_').any(|part| words.contains(&part));
    has(SECRET) && !has(HARMLESS)
}

/// WORKDIR that depends on the base image's.
pub(super) fn relative_workdir(findings: &mut Findings, path: &str, span: Span) {
    if !path.starts_with('/') {
        let message = format!(
            "Relative workdir {path:?} can have unexpected results if the base image changes"
        );
        findings.report("WorkdirRelativePath", span, message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets() {
        for name in [
            "API_KEY",
            "apikey",
            "DATABASE_PASSWORD",
            "GITHUB_TOKEN",
            "secret_MESSAGE",
            "AUTH",
        ] {
            assert!(looks_secret(name), "{name}");
        }
        for name in [
            "KEYBOARD",
            "AUTHOR",
            "PUBLIC_KEY",
            "TOKEN_FILE",
            "KEY_VERSION",
            "PATH",
        ] {
            assert!(!looks_secret(name), "{name}");
        }
    }
}
