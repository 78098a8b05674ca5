//! A layer's tar into overlay's format.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io::{self, BufRead};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::overlay;
use crate::sys;
use crate::tarfile::Reader;
use crate::tree::beneath::{Missing, normalize, split};
use crate::tree::place::{Owner, Placer, Target};
use crate::tree::{TreeError, content, to_path, walk};

/// Entries that a layer may have.
const ENTRY_LIMIT: u64 = 20_000_000;

/// Files of this size go to the disk while the rest is still unpacked, so that the sync at the end is short: 256 KiB.
const WRITEBACK: u64 = 256 << 10;

/// What a name in a layer's tar means (OCI image-spec, layer.md, "Whiteouts").
#[derive(Debug, PartialEq, Eq)]
enum Meaning<'a> {
    /// A file.
    Itself,
    /// This name is deleted from the layers below.
    Whiteout(&'a [u8]),
    /// Everything in the directory is deleted from the layers below.
    Opaque,
    /// Bookkeeping of AUFS, to be passed over.
    Ignored,
    /// A mark where none can be.
    Wrong,
}

fn meaning<'a>(dir: &[u8], name: &'a [u8]) -> Meaning<'a> {
    for part in dir.split(|&byte| byte == b'/') {
        if part.starts_with(b".wh..wh.") {
            return Meaning::Ignored;
        }
        if part.starts_with(b".wh.") {
            return Meaning::Wrong;
        }
    }
    match name.strip_prefix(b".wh.") {
        None => Meaning::Itself,
        Some(b".wh..opq") => Meaning::Opaque,
        Some(rest) if rest.starts_with(b".wh.") => Meaning::Ignored,
        Some(b"" | b"." | b"..") => Meaning::Wrong,
        Some(hidden) => Meaning::Whiteout(hidden),
    }
}

/// Unpacks the tar that `reader` stands at into the empty directory `root`, and reads until the stream's end.
pub(super) fn unpack<R: BufRead>(reader: &mut Reader<R>, root: OwnedFd) -> Result<(), TreeError> {
    let mut layer = Unpacking {
        placer: Placer::new(root, Target::Layer, Owner::OfEntry),
        opaque: HashSet::new(),
    };
    let mut count = 0;
    while let Some(entry) = reader.next_entry()? {
        count += 1;
        if count > ENTRY_LIMIT {
            return Err(TreeError::TooMany { limit: ENTRY_LIMIT });
        }
        let path = normalize(&entry.path)?;
        let (dir, name) = split(&path);
        match meaning(dir, name.as_bytes()) {
            Meaning::Itself => {
                let failed = |source: io::Error| TreeError::io("write", &path)(source);
                layer.placer.place(&path, &entry, &mut |file| {
                    content::extract(file, &entry, reader, failed)?;
                    if entry.stored_size() >= WRITEBACK {
                        // A help, not a promise: the sync at the end tells of errors.
                        let _ = sys::begin_writeback(file, 0, 0);
                    }
                    Ok(())
                })?;
            }
            Meaning::Whiteout(name) => layer.whiteout(dir, OsStr::from_bytes(name))?,
            Meaning::Opaque => layer.make_opaque(dir)?,
            Meaning::Ignored => {}
            Meaning::Wrong => {
                return Err(TreeError::BadPath {
                    path: to_path(&path),
                    problem: "it deletes nothing that could be there",
                });
            }
        }
    }
    layer.placer.finish()?;
    reader.drain()?;
    Ok(())
}

struct Unpacking {
    placer: Placer,
    /// Directories that a `.wh..wh..opq` was seen for.
    opaque: HashSet<Vec<u8>>,
}

impl Unpacking {
    /// What this layer itself has of that name stays: whiteouts are about the layers below.
    fn whiteout(&mut self, dir: &[u8], name: &OsStr) -> Result<(), TreeError> {
        // It hides nothing in an opaque directory, and overlay shows whiteouts where it doesn't merge.
        if self.opaque.contains(dir) {
            return Ok(());
        }
        let failed = || TreeError::io("make the whiteout of", name.as_bytes());
        let parent = self.placer.tree.directory(dir, Missing::Create)?;
        match overlay::make_whiteout(parent, name) {
            Err(Errno::EEXIST) => {}
            other => return other.map_err(failed()),
        }
        let stat = fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(failed())?;
        if overlay::kind(&stat) == SFlag::S_IFDIR {
            let fd = readable(parent, name).map_err(failed())?;
            overlay::set_opaque(&fd).map_err(failed())?;
        }
        Ok(())
    }

    fn make_opaque(&mut self, dir: &[u8]) -> Result<(), TreeError> {
        let failed = || TreeError::io("make opaque", dir);
        let parent = self.placer.tree.directory(dir, Missing::Create)?;
        let fd = readable(parent, OsStr::new(".")).map_err(failed())?;
        overlay::set_opaque(&fd).map_err(failed())?;
        self.opaque.insert(dir.to_owned());
        for (name, _) in walk::list(&mut Dir::from_fd(fd).map_err(failed())?).map_err(failed())? {
            let name = OsStr::from_bytes(name.as_bytes());
            if overlay::is_whiteout(parent, name).map_err(failed())? {
                unlinkat(parent, name, UnlinkatFlags::NoRemoveDir).map_err(failed())?;
            }
        }
        Ok(())
    }
}

/// A directory that can be listed and marked.
pub(super) fn readable(dir: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(dir, name, flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whiteouts_are_told_from_files() {
        for (dir, name, want) in [
            ("", "a", Meaning::Itself),
            ("", ".wha", Meaning::Itself),
            ("", ".wh.a", Meaning::Whiteout(b"a")),
            ("d", ".wh..wh..opq", Meaning::Opaque),
            ("d", ".wh..wh.plnk", Meaning::Ignored),
            (".wh..wh.plnk", "1.2", Meaning::Ignored),
            ("", ".wh.", Meaning::Wrong),
            ("", ".wh..", Meaning::Wrong),
            ("", ".wh...", Meaning::Wrong),
            ("", ".wh....", Meaning::Whiteout(b"...")),
            ("a/.wh.b", "c", Meaning::Wrong),
        ] {
            assert_eq!(
                meaning(dir.as_bytes(), name.as_bytes()),
                want,
                "{dir}/{name}"
            );
        }
    }
}
