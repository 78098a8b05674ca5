//! Which words of an instruction are expanded, as BuildKit's reference says under "Environment replacement".

use super::scope::Expander;
use crate::dockerfile::expand::ExpandError;
use crate::dockerfile::{
    CopyInstruction, CopySource, Heredoc, Instruction, MountFlag, RunInstruction,
};

/// The instruction with its words expanded. Not those of ARG, whose defaults may use one another; never commands: the
/// shell in the container expands them; nor what ONBUILD keeps for later.
pub(super) fn expand(
    instruction: &Instruction,
    expander: &Expander<'_>,
) -> Result<Instruction, ExpandError> {
    let word = |text: &String| expander.word(text);
    let all = |words: &[String]| words.iter().map(word).collect::<Result<Vec<_>, _>>();
    let pairs = |pairs: &[(String, String)]| {
        let pair = |(name, value): &(String, String)| Ok((word(name)?, word(value)?));
        pairs.iter().map(pair).collect::<Result<Vec<_>, _>>()
    };
    Ok(match instruction {
        Instruction::Add(copy) => Instruction::Add(files(copy, expander)?),
        Instruction::Copy(copy) => Instruction::Copy(files(copy, expander)?),
        Instruction::Env(env) => Instruction::Env(pairs(env)?),
        Instruction::Label(labels) => Instruction::Label(pairs(labels)?),
        Instruction::Expose(ports) => {
            let mut words = Vec::new();
            for port in ports {
                words.extend(expander.words(port)?);
            }
            Instruction::Expose(words)
        }
        Instruction::Run(run) => Instruction::Run(mounts(run, expander)?),
        Instruction::Stopsignal(signal) => Instruction::Stopsignal(word(signal)?),
        Instruction::User(user) => Instruction::User(word(user)?),
        Instruction::Volume(paths) => Instruction::Volume(all(paths)?),
        Instruction::Workdir(path) => Instruction::Workdir(word(path)?),
        Instruction::Arg(_)
        | Instruction::Cmd(_)
        | Instruction::Entrypoint(_)
        | Instruction::Healthcheck(_)
        | Instruction::Maintainer(_)
        | Instruction::Onbuild(_)
        | Instruction::Shell(_) => instruction.clone(),
    })
}

/// COPY and ADD: all but `--from`.
fn files(copy: &CopyInstruction, expander: &Expander<'_>) -> Result<CopyInstruction, ExpandError> {
    let maybe = |text: &Option<String>| text.as_ref().map(|text| expander.word(text)).transpose();
    let mut sources = Vec::new();
    for source in &copy.sources {
        sources.push(match source {
            CopySource::Path(path) => CopySource::Path(expander.word(path)?),
            CopySource::Heredoc(heredoc) if heredoc.expand => CopySource::Heredoc(Heredoc {
                content: expander.raw(&heredoc.content)?,
                ..heredoc.clone()
            }),
            CopySource::Heredoc(heredoc) => CopySource::Heredoc(heredoc.clone()),
        });
    }
    let exclude = copy.exclude.iter().map(|pattern| expander.word(pattern));
    Ok(CopyInstruction {
        sources,
        destination: expander.word(&copy.destination)?,
        chown: maybe(&copy.chown)?,
        chmod: maybe(&copy.chmod)?,
        checksum: maybe(&copy.checksum)?,
        exclude: exclude.collect::<Result<_, _>>()?,
        ..copy.clone()
    })
}

/// RUN: the options of mounts, all but `from`.
fn mounts(run: &RunInstruction, expander: &Expander<'_>) -> Result<RunInstruction, ExpandError> {
    let mut mounts = Vec::new();
    for mount in &run.mounts {
        let mut options = Vec::new();
        for (key, value) in &mount.options {
            let value = match key.as_str() {
                "from" => value.clone(),
                _ => expander.word(value)?,
            };
            options.push((key.clone(), value));
        }
        mounts.push(MountFlag { options });
    }
    Ok(RunInstruction {
        mounts,
        ..run.clone()
    })
}
