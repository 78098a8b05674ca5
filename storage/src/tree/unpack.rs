//! A tar into a tree that is in use: `cp` into a container.

use std::io::Read;
use std::path::Path;

use super::beneath::normalize;
use super::place::{Owner, Placer, Target};
use super::{TreeError, content, open_root};
use crate::tarfile::Reader;

/// How a tar is unpacked.
#[derive(Debug, Clone, Copy, Default)]
pub struct UnpackOptions {
    /// Owner and group of everything; `None`: as the tar says (`cp -a`).
    pub owner: Option<(u32, u32)>,
}

/// Unpacks `tar`, as it comes, into the directory `dir` of the tree `root`.
///
/// Paths resolve as in a chroot at `root`, those in the tar below `dir`; missing directories are made. What is there
/// is replaced, but neither a directory by something else nor the reverse. Needs ids.
///
/// # Errors
/// When the tar is broken, one of its names leads out of `dir`, or something can't be made: what was made until then
/// stays.
pub fn unpack(
    root: &Path,
    dir: &str,
    tar: &mut dyn Read,
    options: &UnpackOptions,
) -> Result<(), TreeError> {
    let dir = normalize(dir.as_bytes())?.into_owned();
    let owner = match options.owner {
        Some((uid, gid)) => Owner::Fixed(uid, gid),
        None => Owner::OfEntry,
    };
    let mut placer = Placer::new(open_root(root)?, Target::InUse, owner);
    let below = |path: &[u8]| -> Result<Vec<u8>, TreeError> {
        let path = normalize(path)?;
        Ok(match (dir.is_empty(), path.is_empty()) {
            (true, _) => path.into_owned(),
            (false, true) => dir.clone(),
            (false, false) => [&dir, &b"/"[..], &path].concat(),
        })
    };
    let mut reader = Reader::new(content::buffered(tar));
    while let Some(mut entry) = reader.next_entry()? {
        let path = below(&entry.path)?;
        if entry.kind == crate::tarfile::Kind::HardLink {
            entry.link = below(&entry.link)?;
        }
        let failed = |source: std::io::Error| TreeError::io("write", &path)(source);
        placer.place(&path, &entry, &mut |file| {
            content::extract(file, &entry, &mut reader, failed)
        })?;
    }
    placer.finish()?;
    reader.drain()?;
    Ok(())
}
