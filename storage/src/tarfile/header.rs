//! The 512-byte header: fields, numbers, checksum.

use std::ops::Range;

use super::BLOCK;

pub(super) const NAME: Range<usize> = 0..100;
pub(super) const MODE: Range<usize> = 100..108;
pub(super) const UID: Range<usize> = 108..116;
pub(super) const GID: Range<usize> = 116..124;
pub(super) const SIZE: Range<usize> = 124..136;
pub(super) const MTIME: Range<usize> = 136..148;
pub(super) const CHECKSUM: Range<usize> = 148..156;
pub(super) const TYPE: usize = 156;
pub(super) const LINK: Range<usize> = 157..257;
pub(super) const MAGIC: Range<usize> = 257..265;
pub(super) const DEVMAJOR: Range<usize> = 329..337;
pub(super) const DEVMINOR: Range<usize> = 337..345;
pub(super) const PREFIX: Range<usize> = 345..500;
/// Old GNU format: four offset/length pairs, the "more follow" flag, the file's size.
pub(super) const GNU_SPARSE: Range<usize> = 386..482;
pub(super) const GNU_EXTENDED: usize = 482;
pub(super) const GNU_REAL_SIZE: Range<usize> = 483..495;

pub(super) const USTAR_MAGIC: &[u8; 8] = b"ustar\x0000";
#[cfg(test)]
pub(super) const GNU_MAGIC: &[u8; 8] = b"ustar  \0";

/// A header as it stands in the archive.
pub(super) type Block = [u8; BLOCK];

/// The text of a field: up to the first NUL.
pub(super) fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|&byte| byte == 0);
    &field[..end.unwrap_or(field.len())]
}

/// A number: octal digits, padded with blanks and NULs, or GNU's base 256 when the first bit is set.
/// `None`: it is neither, or doesn't fit.
pub(super) fn number(field: &[u8]) -> Option<i64> {
    let (&first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        // Two's complement, big endian; bit 6 of the first byte is the sign.
        let negative = first & 0x40 != 0;
        let start = i128::from(first & 0x3f) - if negative { 0x40 } else { 0 };
        let mut value = start;
        for &byte in rest {
            value = value.checked_mul(256)?.checked_add(i128::from(byte))?;
        }
        return i64::try_from(value).ok();
    }
    let digits = field
        .iter()
        .skip_while(|byte| matches!(byte, b' ' | 0))
        .take_while(|byte| !matches!(byte, b' ' | 0));
    let mut value = 0_i64;
    for &digit in digits {
        if !(b'0'..=b'7').contains(&digit) {
            return None;
        }
        value = value.checked_mul(8)?.checked_add(i64::from(digit - b'0'))?;
    }
    Some(value)
}

/// Whether the checksum is right: the sum of all bytes, its own taken as blanks. Some old tars summed signed bytes.
pub(super) fn checksum_is_right(block: &Block) -> bool {
    let Some(stored) = number(&block[CHECKSUM]) else {
        return false;
    };
    let (mut unsigned, mut signed) = (0_i64, 0_i64);
    for (at, &byte) in block.iter().enumerate() {
        let byte = if CHECKSUM.contains(&at) { b' ' } else { byte };
        unsigned += i64::from(byte);
        signed += i64::from(byte.cast_signed());
    }
    stored == unsigned || stored == signed
}

/// Writes the checksum, once everything else stands.
pub(super) fn seal(block: &mut Block) {
    block[CHECKSUM].fill(b' ');
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    put_text(&mut block[CHECKSUM], format!("{sum:06o}\0 ").as_bytes());
}

/// Puts `text` at the field's start; the rest stays as it is. The caller made sure that it fits.
pub(super) fn put_text(field: &mut [u8], text: &[u8]) {
    field[..text.len()].copy_from_slice(text);
}

/// Puts an octal number that fills the field but for a NUL; `false`: it doesn't fit and zero stands there.
pub(super) fn put_number(field: &mut [u8], value: u64) -> bool {
    let digits = field.len() - 1;
    let fits = u32::try_from(digits * 3).is_ok_and(|bits| bits >= 64 || value >> bits == 0);
    let value = if fits { value } else { 0 };
    put_text(field, format!("{value:0digits$o}\0").as_bytes());
    fits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"   644 \0"), Some(0o644));
        assert_eq!(number(b"\0\0\0\0\0\0\0\0"), Some(0));
        assert_eq!(number(b"77777777"), Some(0o77_777_777));
        assert_eq!(number(b"0000x44\0"), None);
        assert_eq!(number(b"\x80\0\0\0\x01\0\0\x02"), Some((1 << 24) + 2));
        assert_eq!(number(b"\xff\xff\xff\xff\xff\xff\xff\xfe"), Some(-2));
        assert_eq!(
            number(b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
            None
        );
        assert_eq!(number(b""), None);
    }

    #[test]
    fn a_number_too_large_for_its_field_is_told() {
        let mut field = [b'x'; 8];
        assert!(put_number(&mut field, 0o7_777_777));
        assert_eq!(&field, b"7777777\0");
        assert!(!put_number(&mut field, 0o10_000_000));
        assert_eq!(&field, b"0000000\0");
    }
}
