//! Who owns what is copied: `--chown`, or USER for WORKDIR, looked up in the image's own files.

use std::io::Read;

use rctr_runtime::users;
use rctr_storage::layer::merged::Merged;

use super::CopyError;
use super::resolve::{Resolved, resolve};

/// User and group IDs.
pub(super) type Ids = (u32, u32);

/// The IDs of `spec`, `user[:group]` with names or numbers. As in BuildKit a user's name without a group gives the
/// user's primary group, a number gives the same number.
pub(super) fn find(spec: &str, image: &Merged) -> Result<Ids, CopyError> {
    let (user, group) = spec.split_once(':').unwrap_or((spec, ""));
    let text = |path| read(image, path);
    let (passwd, groups) = if is_number(user) && (group.is_empty() || is_number(group)) {
        // Not a byte of the image has to be read for numbers.
        (String::new(), String::new())
    } else {
        (text(b"etc/passwd")?, text(b"etc/group")?)
    };
    // A number is itself, whatever the files say.
    let passwd = if is_number(user) { "" } else { &passwd };
    let found =
        users::resolve(spec, &[], passwd, &groups).map_err(|source| CopyError::Owner { source })?;
    let gid = match group {
        "" if is_number(user) => found.uid,
        _ => found.gid,
    };
    Ok((found.uid, gid))
}

fn is_number(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit())
}

/// A small text file of the image; empty when it isn't there.
fn read(image: &Merged, path: &[u8]) -> Result<String, CopyError> {
    const LIMIT: u64 = 16 << 20;
    let failed = |source| CopyError::Target { source };
    let Resolved::Other(place) = resolve(image, path, &super::resolve::Everything)? else {
        return Ok(String::new());
    };
    let dir = image.open(&place.dir).map_err(failed)?;
    let file = dir
        .open_file(&place.name, place.node.layer)
        .map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(LIMIT)
        .read_to_end(&mut bytes)
        .map_err(CopyError::target("read", path))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
