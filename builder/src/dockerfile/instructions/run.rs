//! RUN.

use super::super::Fault;
use super::super::ast::{CommandLine, NetworkFlag, RunInstruction, SecurityFlag};
use super::super::lines::Document;
use super::{Statement, at_least_one, mount};

pub(super) fn parse(statement: &mut Statement) -> Result<RunInstruction, Fault> {
    let command = statement.command()?;
    let empty = match &command {
        CommandLine::Shell(line) => line.is_empty(),
        CommandLine::Exec(words) => words.is_empty(),
    };
    if empty {
        return Err(at_least_one("RUN"));
    }
    let flags = &mut statement.flags;
    let mounts = flags
        .many("mount")?
        .iter()
        .map(|mount| mount::parse(mount))
        .collect::<Result<_, _>>()?;
    let network = match flags.one("network")?.as_deref() {
        None | Some("" | "default") => NetworkFlag::Default,
        Some("none") => NetworkFlag::None,
        Some("host") => NetworkFlag::Host,
        Some(other) => {
            return Err(Fault::new(format!("invalid network mode {other:?}"))
                .hint("it is default, none or host"));
        }
    };
    let security = match flags.one("security")?.as_deref() {
        None | Some("" | "sandbox") => SecurityFlag::Sandbox,
        Some("insecure") => SecurityFlag::Insecure,
        Some(other) => {
            return Err(Fault::new(format!("invalid security mode {other:?}"))
                .hint("it is sandbox or insecure"));
        }
    };
    let documents = std::mem::take(&mut statement.documents);
    Ok(RunInstruction {
        command,
        heredocs: documents.into_iter().map(Document::into_heredoc).collect(),
        mounts,
        network,
        security,
    })
}
