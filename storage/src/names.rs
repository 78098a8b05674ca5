//! Containers' names: symbolic links whose target is the ID, so that a name is reserved in one exclusive step.
//!
//! The target is the ID's 32 bytes in base64 (RFC 4648, section 5, without padding): 43 characters lie in the inode
//! itself on ext4, where the 64 hexadecimal digits take a block, whose release costs 3 ms on a disk mounted `discard`.
//!
//! A name is stale when its container is gone or has another name. That is the case for a moment while a container is
//! made or renamed, with the store's shared lock held; so who has the exclusive lock may remove stale names.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use crate::container::ContainerError;
use crate::store::{Store, StoreError};

impl Store {
    pub(crate) fn name_path(&self, name: &str) -> PathBuf {
        self.path("names").join(name)
    }

    /// The ID behind a name, stale or not.
    pub(crate) fn read_name(&self, name: &str) -> Result<Option<String>, StoreError> {
        let path = self.name_path(name);
        match fs::read_link(&path) {
            // What is no ID is nobody's: stale.
            Ok(target) => Ok(Some(target.to_str().and_then(decode).unwrap_or_default())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StoreError::io("read", path)(source)),
        }
    }

    /// Reserves a name; else tells who has it. Under the store's shared lock.
    pub(crate) fn reserve(&self, name: &str, id: &str) -> Result<Option<String>, StoreError> {
        let path = self.name_path(name);
        match symlink(encode(id), &path) {
            Ok(()) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Ok(Some(self.read_name(name)?.unwrap_or_default()))
            }
            Err(source) => Err(StoreError::io("create", path)(source)),
        }
    }

    /// Frees a name if what a crash has left holds it.
    pub(crate) fn free_stale_name(&self, name: &str, holder: &str) -> Result<(), ContainerError> {
        if self.has_name(holder, name)? {
            return Err(ContainerError::NameTaken {
                name: name.to_owned(),
                id: holder.to_owned(),
            });
        }
        let _held = self.lock()?;
        if let Some(id) = self.read_name(name)?
            && !self.has_name(&id, name)?
        {
            let path = self.name_path(name);
            fs::remove_file(&path).map_err(StoreError::io("remove", path))?;
        }
        Ok(())
    }

    pub(crate) fn has_name(&self, id: &str, name: &str) -> Result<bool, ContainerError> {
        match self.read_container(id) {
            Ok(container) => Ok(container.record.name == name),
            Err(ContainerError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Hexadecimal digits as base64: 3 of them (12 bits) are 2 characters, a rest of 1 is 1.
fn encode(id: &str) -> String {
    let value = |digits: &[u8]| {
        let digit = |c: u8| char::from(c).to_digit(16).unwrap_or(0);
        digits.iter().fold(0, |sum, &c| sum << 4 | digit(c)) << (4 * (3 - digits.len()))
    };
    let character = |bits: u32| char::from(DIGITS[(bits & 63) as usize]);
    let mut out = String::with_capacity(id.len() * 2 / 3 + 1);
    for digits in id.as_bytes().chunks(3) {
        let bits = value(digits);
        out.push(character(bits >> 6));
        if digits.len() > 1 {
            out.push(character(bits));
        }
    }
    out
}

/// The 64 digits of [`encode`]; `None` for anything else.
fn decode(text: &str) -> Option<String> {
    let mut out = String::with_capacity(66);
    let mut bits = 0;
    for (i, c) in text.bytes().enumerate() {
        let digit = DIGITS.iter().position(|&d| d == c)?;
        bits = bits << 6 | digit;
        if i % 2 == 1 {
            out.push_str(&format!("{:03x}", bits & 0xfff));
        }
    }
    if text.len() % 2 == 1 {
        out.push_str(&format!("{:x}", (bits >> 2) & 0xf));
    }
    (out.len() == 64).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_comes_back_from_its_short_form() {
        for _ in 0..100 {
            let id = crate::random::container_id();
            let short = encode(&id);
            assert_eq!(short.len(), 43);
            assert_eq!(decode(&short), Some(id));
        }
        assert_eq!(decode("no id"), None);
    }
}
