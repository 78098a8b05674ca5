//! Times that are no later than a given one: for layers that come out the same on every machine.

use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::openat;
use nix::sys::stat::{FileStat, Mode, SFlag, UtimensatFlags, fstat, futimens, utimensat};
use nix::sys::time::TimeSpec;

use super::walk::{DIRECTORY, Walk};
use super::{TreeError, open_root};
use crate::layer::overlay;

const CLAMP: &str = "set the time of";

/// Gives everything in the tree `root`, which nobody writes to, that was changed later than `epoch` (seconds since 1970)
/// that time; what is older stays. Links are set, never followed. Needs ids.
///
/// # Errors
/// When something can't be read or its time not be set; what came before it in the order of names is set then.
pub fn clamp_times(root: &Path, epoch: i64) -> Result<(), TreeError> {
    let time = TimeSpec::new(epoch, 0);
    let root = open_root(root)?;
    let stat = fstat(&root).map_err(TreeError::io(CLAMP, b""))?;
    if is_later(&stat, epoch) {
        futimens(&root, &time, &time).map_err(TreeError::io(CLAMP, b""))?;
    }
    let mut walk = Walk::new(root)?;
    while let Some(found) = walk.next()? {
        if is_later(&found.stat, epoch) {
            let flags = UtimensatFlags::NoFollowSymlink;
            match utimensat(found.dir, found.name, &time, &time, flags) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(errno) => return Err(TreeError::io(CLAMP, found.path)(errno)),
            }
        }
        if overlay::kind(&found.stat) == SFlag::S_IFDIR {
            let fd = openat(found.dir, found.name, DIRECTORY, Mode::empty())
                .map_err(TreeError::io("read", found.path))?;
            walk.descend(fd)?;
        }
    }
    Ok(())
}

fn is_later(stat: &FileStat, epoch: i64) -> bool {
    (stat.st_mtime, stat.st_mtime_nsec) > (epoch, 0)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::testing::Scratch;

    #[test]
    fn later_times_become_the_given_one_and_links_are_not_followed() {
        let top = Scratch::new();
        let outside = top.path("outside");
        fs::write(&outside, "").unwrap();
        let before = fs::metadata(&outside).unwrap().mtime();
        let root = top.path("root");
        let mut deep = root.clone();
        fs::create_dir(&root).unwrap();
        for _ in 0..30 {
            deep.push("d".repeat(100));
            fs::create_dir(&deep).unwrap();
        }
        fs::write(deep.join("new"), "").unwrap();
        let old = fs::File::create(root.join("old")).unwrap();
        let ancient = SystemTime::UNIX_EPOCH + Duration::from_secs(5);
        old.set_modified(ancient).unwrap();
        symlink(&outside, root.join("link")).unwrap();
        clamp_times(&root, 1000).unwrap();
        let time = |path: &Path| fs::symlink_metadata(path).unwrap().mtime();
        assert_eq!(time(&deep.join("new")), 1000);
        assert_eq!(time(&deep), 1000);
        assert_eq!(time(&root), 1000);
        assert_eq!(time(&root.join("link")), 1000);
        assert_eq!(time(&root.join("old")), 5);
        assert_eq!(time(&outside), before);
    }
}
