//! COPY and ADD.

use super::super::ast::{CopyInstruction, CopySource};
use super::super::{Fault, heredoc, words};
use super::Statement;

pub(super) fn copy(statement: &mut Statement) -> Result<CopyInstruction, Fault> {
    let paths = Paths::of(statement)?;
    let flags = &mut statement.flags;
    Ok(CopyInstruction {
        from: flags.one("from")?.filter(|value| !value.is_empty()),
        parents: flags.boolean("parents")?.unwrap_or(false),
        checksum: None,
        keep_git_dir: false,
        unpack: None,
        ..common(paths, statement)?
    })
}

pub(super) fn add(statement: &mut Statement) -> Result<CopyInstruction, Fault> {
    let paths = Paths::of(statement)?;
    let flags = &mut statement.flags;
    Ok(CopyInstruction {
        checksum: flags.one("checksum")?.filter(|value| !value.is_empty()),
        keep_git_dir: flags.boolean("keep-git-dir")?.unwrap_or(false),
        unpack: flags.boolean("unpack")?,
        ..common(paths, statement)?
    })
}

/// What both have.
fn common(paths: Paths, statement: &mut Statement) -> Result<CopyInstruction, Fault> {
    let flags = &mut statement.flags;
    Ok(CopyInstruction {
        sources: paths.sources,
        destination: paths.destination,
        from: None,
        chown: flags.one("chown")?.filter(|value| !value.is_empty()),
        chmod: flags.one("chmod")?.filter(|value| !value.is_empty()),
        link: flags.boolean("link")?.unwrap_or(false),
        parents: false,
        exclude: flags.many("exclude")?,
        checksum: None,
        keep_git_dir: false,
        unpack: None,
    })
}

struct Paths {
    sources: Vec<CopySource>,
    destination: String,
}

impl Paths {
    fn of(statement: &mut Statement) -> Result<Self, Fault> {
        let name = statement.name;
        let mut words = words::json_or_plain(statement.rest)?;
        let destination = words.pop().filter(|_| !words.is_empty()).ok_or_else(|| {
            Fault::new(format!(
                "{name} requires at least two arguments, but only one was provided. Destination could not be determined"
            ))
            .hint(format!("write {name} SOURCE… DESTINATION"))
        })?;
        // Words of a JSON array, and of an instruction without heredocs, are never heredocs.
        let documents = std::mem::take(&mut statement.documents);
        if !documents.is_empty() && heredoc::parse(&destination).is_some() {
            return Err(Fault::new(format!(
                "{name} cannot accept a heredoc as a destination"
            )));
        }
        let mut documents = documents.into_iter().peekable();
        let sources = words
            .into_iter()
            .map(|word| {
                // Documents are in the order of their words.
                let own = heredoc::parse(&word)
                    .and_then(|heredoc| documents.next_if(|document| document.word == heredoc));
                match own {
                    Some(document) => CopySource::Heredoc(document.into_heredoc()),
                    None => CopySource::Path(word),
                }
            })
            .collect();
        Ok(Self {
            sources,
            destination,
        })
    }
}
