//! Small things learned: a digest, or a few words, for a digest. Each is a symbolic link, which is made whole by one system call, is read
//! by one, and which journaling file systems keep whole without fsync.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::digest::Digest;
use crate::store::{Store, StoreError};

use super::make_dirs;

impl Store {
    /// What was remembered for `key` by [`Store::set_memo`].
    #[must_use]
    pub fn memo(&self, kind: &str, key: &Digest) -> Option<Digest> {
        read_memo(&self.cache_path("memo").join(kind).join(key.hex()))
    }

    /// Remembers `value` for `key`. `kind` is a plain word, which names a directory.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn set_memo(&self, kind: &str, key: &Digest, value: &Digest) -> Result<(), StoreError> {
        self.write_memo(&self.cache_path("memo").join(kind).join(key.hex()), value)
    }

    /// As [`Store::memo`], of some words.
    pub(crate) fn text_memo(&self, kind: &str, key: &Digest) -> Option<String> {
        let path = self.cache_path("memo").join(kind).join(key.hex());
        fs::read_link(path)
            .ok()?
            .into_os_string()
            .into_string()
            .ok()
    }

    /// As [`Store::set_memo`], of some words.
    pub(crate) fn set_text_memo(
        &self,
        kind: &str,
        key: &Digest,
        text: &str,
    ) -> Result<(), StoreError> {
        self.write_link(&self.cache_path("memo").join(kind).join(key.hex()), text)
    }

    pub(super) fn write_memo(&self, path: &Path, value: &Digest) -> Result<(), StoreError> {
        self.write_link(path, &value.hex())
    }

    fn write_link(&self, path: &Path, target: &str) -> Result<(), StoreError> {
        match symlink(target, path) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make_dirs(path.parent().unwrap_or(path))?;
            }
            Err(source) => return Err(StoreError::io("write", path)(source)),
        }
        if fs::read_link(path).is_ok_and(|there| there.as_os_str() == target) {
            return Ok(());
        }
        let temp = self.temp_path("memo")?;
        symlink(target, &temp).map_err(StoreError::io("write", &temp))?;
        fs::rename(&temp, path).map_err(StoreError::io("write", path))
    }
}

pub(super) fn read_memo(path: &Path) -> Option<Digest> {
    let target = fs::read_link(path).ok()?;
    Digest::from_hex(target.to_str()?).ok()
}
