//! Giving a tree to another owner.

use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, openat};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, fstat};
use nix::unistd::{Gid, Uid, fchown, fchownat};

use super::walk::{DIRECTORY, Walk};
use super::{TreeError, open_root};
use crate::layer::overlay;

const GIVE: &str = "change the owner of";

/// Gives what is at `path`, a file or a directory with all that is in it, to a user and a group. Modes stay, also the
/// bits that chown(2) clears. Links are given, never followed. Needs ids.
///
/// # Errors
/// When something belongs to an owner that isn't mapped: what came before it in the order of names has its new owner.
pub fn give(path: &Path, uid: u32, gid: u32) -> Result<(), TreeError> {
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
    if !path.is_dir() {
        return std::os::unix::fs::lchown(path, Some(uid), Some(gid)).map_err(|source| {
            TreeError::Io {
                operation: GIVE,
                path: path.to_owned(),
                source,
            }
        });
    }
    let root = open_root(path)?;
    let stat = fstat(&root).map_err(TreeError::io(GIVE, b""))?;
    if (stat.st_uid, stat.st_gid) != (uid, gid) {
        fchown(&root, Some(user), Some(group)).map_err(TreeError::io(GIVE, b""))?;
    }
    let mut walk = Walk::new(root)?;
    while let Some(found) = walk.next()? {
        let kind = overlay::kind(&found.stat);
        if (found.stat.st_uid, found.stat.st_gid) != (uid, gid) {
            let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
            match fchownat(found.dir, found.name, Some(user), Some(group), flags) {
                Ok(()) => {}
                // Deleted meanwhile.
                Err(Errno::ENOENT) => continue,
                Err(errno) => return Err(TreeError::io(GIVE, found.path)(errno)),
            }
            let special = Mode::S_ISUID | Mode::S_ISGID;
            let mode = Mode::from_bits_truncate(found.stat.st_mode);
            if kind == SFlag::S_IFREG && mode.intersects(special) {
                fchmodat(found.dir, found.name, mode, FchmodatFlags::NoFollowSymlink)
                    .map_err(TreeError::io(GIVE, found.path))?;
            }
        }
        if kind == SFlag::S_IFDIR {
            let fd = openat(found.dir, found.name, DIRECTORY, Mode::empty())
                .map_err(TreeError::io("read", found.path))?;
            walk.descend(fd)?;
        }
    }
    Ok(())
}
