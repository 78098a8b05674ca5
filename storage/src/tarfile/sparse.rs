//! The maps of sparse files: GNU's old format and pax 0.0, 0.1 and 1.0 (GNU tar manual, "Storing Sparse Files").

use super::header;
use super::pax;
use super::{Segment, TarError};

/// Segments that a map may have: 16 MiB of memory.
const LIMIT: usize = 1 << 20;

/// What pax records say about a sparse file.
#[derive(Default)]
pub(super) struct PaxSparse {
    pub(super) major: Option<u64>,
    pub(super) real_size: Option<u64>,
    /// Formats 0.0 and 0.1 have the map in the header.
    pub(super) map: Vec<Segment>,
    pub(super) is_sparse: bool,
    pending_offset: Option<u64>,
}

impl PaxSparse {
    /// Takes in one `GNU.sparse.*` record, `key` being what follows that. The name is the caller's.
    pub(super) fn record(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        const BROKEN: &str = "a broken sparse map";
        self.is_sparse = true;
        let number = || pax::decimal(value).ok_or(BROKEN);
        match key {
            b"major" => self.major = Some(number()?),
            b"size" | b"realsize" => self.real_size = Some(number()?),
            b"offset" => self.pending_offset = Some(number()?),
            b"numbytes" => {
                let offset = self.pending_offset.take().ok_or(BROKEN)?;
                push(&mut self.map, offset, number()?)?;
            }
            b"map" => {
                let mut numbers = value.split(|&byte| byte == b',').map(pax::decimal);
                while let Some(offset) = numbers.next() {
                    let len = numbers.next().flatten().ok_or(BROKEN)?;
                    push(&mut self.map, offset.ok_or(BROKEN)?, len)?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn push(map: &mut Vec<Segment>, offset: u64, len: u64) -> Result<(), &'static str> {
    if map.len() == LIMIT {
        return Err("a sparse map that is too long");
    }
    map.push(Segment { offset, len });
    Ok(())
}

/// Adds the offset/length pairs of an old GNU header or of an extension block; an empty pair ends them.
pub(super) fn old_gnu_pairs(fields: &[u8], map: &mut Vec<Segment>) -> Result<(), &'static str> {
    for pair in fields.chunks_exact(24) {
        if pair[0] == 0 && pair[12] == 0 {
            return Ok(());
        }
        let number = |field| {
            let value = header::number(field).ok_or("a broken sparse map")?;
            u64::try_from(value).map_err(|_| "a broken sparse map")
        };
        push(map, number(&pair[..12])?, number(&pair[12..])?)?;
    }
    Ok(())
}

/// Reads a map in format 1.0, which stands before the content: decimal numbers, a line each, padded to a block.
/// `next_block` gives the content's next block.
pub(super) fn pax_1_0(
    mut next_block: impl FnMut() -> Result<header::Block, TarError>,
) -> Result<Result<Vec<Segment>, &'static str>, TarError> {
    let mut map = Vec::new();
    let (mut count, mut offset) = (None, None);
    let mut line = Vec::new();
    loop {
        for byte in next_block()? {
            if byte != b'\n' {
                if line.len() == 20 {
                    return Ok(Err("a broken sparse map"));
                }
                line.push(byte);
                continue;
            }
            let Some(value) = pax::decimal(&line) else {
                return Ok(Err("a broken sparse map"));
            };
            line.clear();
            match (count, offset.take()) {
                (None, _) => count = Some(value),
                (Some(_), None) => offset = Some(value),
                (Some(_), Some(offset)) => {
                    if let Err(problem) = push(&mut map, offset, value) {
                        return Ok(Err(problem));
                    }
                }
            }
            if count == Some(map.len() as u64) {
                // The rest of the block is padding.
                return Ok(Ok(map));
            }
        }
    }
}

/// Whether the map is ascending, within `size`, and as long as the content that stands in the archive.
pub(super) fn is_sound(map: &[Segment], size: u64, stored: u64) -> bool {
    let mut end = 0_u64;
    let mut sum = 0_u64;
    for segment in map {
        let Some(next) = segment.offset.checked_add(segment.len) else {
            return false;
        };
        if segment.offset < end || next > size {
            return false;
        }
        end = next;
        sum += segment.len;
    }
    sum == stored
}
