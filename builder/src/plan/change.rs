//! `commit --change` and `import --change`: one instruction that changes a config, outside of any Dockerfile.

use rctr_storage::config::ContainerConfig;

use super::config::{self, ConfigError, SetHere};
use super::scope::{Expander, Variables};
use super::words;
use crate::dockerfile::expand::ExpandError;
use crate::dockerfile::{self, Dockerfile, Instruction};
use crate::source::SourceError;

/// The instructions that it may be.
pub const ALLOWED: &str =
    "CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME, WORKDIR";

/// Why a change is none.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// It doesn't parse.
    #[error(transparent)]
    Syntax(#[from] SourceError),
    /// Nothing, or several instructions.
    #[error("want one instruction")]
    Count,
    /// An instruction that isn't about the config.
    #[error("{word} is not a valid change command")]
    NotAllowed {
        /// Its name.
        word: String,
    },
    /// A word can't be expanded.
    #[error(transparent)]
    Expand(#[from] ExpandError),
    /// Volumes are mounted at absolute paths.
    #[error("volume path {path:?} is not absolute")]
    RelativeVolume {
        /// What was given.
        path: String,
    },
    /// A value is none.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// Applies `line` to `config`, whose ENV its variables are. `set`: one for all changes of a command.
///
/// # Errors
/// When `line` isn't one allowed instruction with good values.
pub fn apply(
    config: &mut ContainerConfig,
    set: &mut SetHere,
    line: &str,
) -> Result<(), ChangeError> {
    let text = format!("FROM scratch\n{line}\n");
    let file = dockerfile::parse("change", text.as_bytes())?;
    let instruction = only_instruction(&file)?;
    if !is_allowed(instruction) {
        let word = line.split_whitespace().next().unwrap_or_default();
        let word = word.to_ascii_uppercase();
        return Err(ChangeError::NotAllowed { word });
    }
    let mut variables = Variables::default();
    for (name, value) in config.env.iter().filter_map(|entry| entry.split_once('=')) {
        variables.set(name, value);
    }
    let expander = Expander::new(&variables, file.directives.escape);
    let instruction = words::expand(instruction, &expander)?;
    if let Instruction::Volume(paths) = &instruction
        && let Some(path) = paths.iter().find(|path| !path.starts_with('/'))
    {
        let path = path.clone();
        return Err(ChangeError::RelativeVolume { path });
    }
    Ok(config::apply(config, set, &instruction)?)
}

fn only_instruction(file: &Dockerfile) -> Result<&Instruction, ChangeError> {
    match file.stages.as_slice() {
        [stage] => match stage.instructions.as_slice() {
            [located] => Ok(&located.node),
            _ => Err(ChangeError::Count),
        },
        _ => Err(ChangeError::Count),
    }
}

fn is_allowed(instruction: &Instruction) -> bool {
    !matches!(
        instruction,
        Instruction::Add(_)
            | Instruction::Arg(_)
            | Instruction::Copy(_)
            | Instruction::Maintainer(_)
            | Instruction::Run(_)
            | Instruction::Shell(_)
    )
}
