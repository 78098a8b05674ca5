//! A context that comes as a stream.

use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;

use nix::unistd::{getegid, geteuid};
use rctr_storage::compression::Compression;
use rctr_storage::tarfile::BLOCK;
use rctr_storage::tree::{self, UnpackOptions};

use super::{ContextError, read};

const BUFFER: usize = 1 << 17;

/// Unpacks `input` to the directory `root`, if it is a tar, compressed or not; else it is a Dockerfile, which is returned.
pub(super) fn unpack_or_read(
    input: &mut (dyn Read + Send),
    name: &str,
    root: &Path,
) -> Result<Option<Vec<u8>>, ContextError> {
    let fail = |source| ContextError::Stream {
        name: name.to_owned(),
        source,
    };
    let mut input = BufReader::with_capacity(BUFFER, input);
    let magic = start(&mut input, Compression::HEAD).map_err(fail)?;
    if magic.is_empty() {
        return Err(ContextError::Empty {
            name: name.to_owned(),
        });
    }
    let (mut plain, compressed) = decompressed(magic, input).map_err(fail)?;
    let head = start(&mut plain, BLOCK).map_err(fail)?;
    let no_tar = |what| ContextError::NotATar {
        name: name.to_owned(),
        what,
    };
    let is_tar = is_tar(&head);
    let is_text = !head.contains(&0);
    let mut plain = Cursor::new(head).chain(plain);
    if is_tar {
        // What others own can't be kept before ids are mapped, and COPY gives files an owner of its own.
        let owner = Some((geteuid().as_raw(), getegid().as_raw()));
        let options = UnpackOptions { owner };
        let unpacked = tree::unpack(root, "", &mut plain, &options);
        unpacked.map_err(|source| ContextError::Archive {
            name: name.to_owned(),
            source,
        })?;
        return Ok(None);
    }
    match (compressed, is_text) {
        (true, _) => Err(no_tar("compressed, but no tar")),
        (false, false) => Err(no_tar("neither a tar nor text")),
        (false, true) => read::whole(plain, name, fail).map(Some),
    }
}

/// Takes the first `wanted` bytes, or all there are.
fn start(input: &mut dyn Read, wanted: usize) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(wanted);
    input.take(wanted as u64).read_to_end(&mut head)?;
    Ok(head)
}

/// The plain bytes of what begins with `magic` and goes on with `rest`, and whether they were compressed.
fn decompressed<'a>(
    magic: Vec<u8>,
    rest: impl BufRead + Send + 'a,
) -> io::Result<(Box<dyn Read + 'a>, bool)> {
    let compression = Compression::of(&magic);
    let plain = compression.reader(Cursor::new(magic).chain(rest))?;
    Ok((plain, compression != Compression::None))
}

/// Whether a tar begins so: with a header whose checksum is right, or with nothing in it.
fn is_tar(head: &[u8]) -> bool {
    const CHECKSUM: std::ops::Range<usize> = 148..156;
    if head.len() < BLOCK {
        return false;
    }
    if head.iter().all(|&byte| byte == 0) {
        return true;
    }
    let field = head[CHECKSUM].trim_ascii();
    let field = field.split(|&byte| byte == 0).next().unwrap_or_default();
    let wanted = std::str::from_utf8(field).map(str::trim);
    let wanted = wanted
        .ok()
        .and_then(|text| u32::from_str_radix(text, 8).ok());
    let sum = head
        .iter()
        .enumerate()
        .map(|(at, &byte)| match CHECKSUM.contains(&at) {
            true => u32::from(b' '),
            false => u32::from(byte),
        });
    wanted == Some(sum.sum())
}
