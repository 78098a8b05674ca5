//! Writing blobs to files, verified.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::TransportError;
use crate::digest::Hasher;
use crate::manifest::Descriptor;
use crate::transfer::{BlobContent, Put};

/// Gives the blob's bytes to `write` and verifies them; only then it was the blob. `sent` is told how many have gone.
pub(super) fn send(
    descriptor: &Descriptor,
    content: &dyn BlobContent,
    sent: &dyn Fn(u64),
    mut write: impl FnMut(&[u8]) -> Result<(), TransportError>,
) -> Result<(), TransportError> {
    let digest = descriptor.digest;
    let failed = |source| TransportError::Content { digest, source };
    let changed = |problem| TransportError::Changed { digest, problem };
    let mut bytes = content.open(0).map_err(failed)?;
    let mut hasher = Hasher::new();
    let mut size = 0;
    let mut buffer = vec![0; 1 << 17];
    loop {
        let count = match bytes.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(failed(source)),
        };
        size += count as u64;
        if size > descriptor.size {
            let problem = format!("it has more than {} bytes", descriptor.size);
            return Err(changed(problem));
        }
        hasher.update(&buffer[..count]);
        write(&buffer[..count])?;
        sent(size);
    }
    if size != descriptor.size {
        let problem = format!("it has {size} bytes instead of {}", descriptor.size);
        return Err(changed(problem));
    }
    let actual = hasher.finish();
    match actual == digest {
        true => Ok(()),
        false => Err(changed(format!("it has the digest {actual}"))),
    }
}

/// Whether there is a plain file of this size.
pub(super) fn is_there(path: &Path, size: u64) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() == size)
}

/// Writes a blob to `path`, unless it is there: it is named so when it is whole.
pub(super) fn put(
    path: &Path,
    descriptor: &Descriptor,
    content: &dyn BlobContent,
    sent: &dyn Fn(u64),
) -> Result<Put, TransportError> {
    if is_there(path, descriptor.size) {
        return Ok(Put::Present);
    }
    write_whole(path, |file| {
        send(descriptor, content, sent, |bytes| {
            file.write_all(bytes)
                .map_err(TransportError::io("write", path))
        })
    })?;
    Ok(Put::Sent)
}

/// Replaces `path` by a file with `bytes`.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), TransportError> {
    write_whole(path, |file| {
        file.write_all(bytes)
            .map_err(TransportError::io("write", path))
    })
}

/// Writes beside `path` and renames it when it lasts.
fn write_whole(
    path: &Path,
    fill: impl FnOnce(&mut File) -> Result<(), TransportError>,
) -> Result<(), TransportError> {
    let failed = || TransportError::io("write", path);
    // Not followed, whatever stands there: links are no part of what we write.
    let temp = path.with_extension(format!("partial-{}", std::process::id()));
    let _ = fs::remove_file(&temp);
    let mut options = OpenOptions::new();
    let new = options.write(true).create_new(true).mode(0o644);
    let mut file = new.open(&temp).map_err(failed())?;
    let written = fill(&mut file)
        .and_then(|()| file.sync_data().map_err(failed()))
        .and_then(|()| fs::rename(&temp, path).map_err(failed()));
    if written.is_err() {
        // The error is the news.
        let _ = fs::remove_file(&temp);
    }
    written
}

/// Makes the names in a directory last.
pub(super) fn sync(dir: &Path) -> Result<(), TransportError> {
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(TransportError::io("write", dir))
}
