//! Where the last n lines of a log begin, read from its end in blocks: a log of gigabytes costs what is shown.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const BLOCK: usize = 64 * 1024;

/// The offset where the last `count` lines of `file` begin, and how many there are (fewer when the file is short).
/// An unfinished last line doesn't count.
pub(super) fn start_of_last(file: &File, count: u64) -> io::Result<(u64, u64)> {
    let mut end = file.metadata()?.len();
    let mut found = 0;
    // Where the line that ends at the newline seen last would begin: just after the newline before it.
    let mut block = vec![0; BLOCK];
    let mut seen_any = false;
    let mut start = end;
    if count == 0 {
        return Ok((end, 0));
    }
    while end > 0 {
        let len = BLOCK.min(usize::try_from(end).unwrap_or(BLOCK));
        let begin = end - len as u64;
        file.read_exact_at(&mut block[..len], begin)?;
        for at in (0..len).rev() {
            if block[at] != b'\n' {
                continue;
            }
            if seen_any {
                found += 1;
                start = begin + at as u64 + 1;
                if found == count {
                    return Ok((start, found));
                }
            } else {
                start = begin + at as u64 + 1;
            }
            seen_any = true;
        }
        end = begin;
    }
    if seen_any {
        (start, found) = (0, found + 1);
    }
    Ok((start, found))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn finds_the_last_lines() {
        let path = std::env::temp_dir().join(format!("rctr-tail-{}", std::process::id()));
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(start_of_last(&file, 3).unwrap(), (0, 0));
        file.write_all(b"a\nbb\nccc\nhalf").unwrap();
        assert_eq!(start_of_last(&file, 0).unwrap().1, 0);
        assert_eq!(start_of_last(&file, 1).unwrap(), (5, 1));
        assert_eq!(start_of_last(&file, 2).unwrap(), (2, 2));
        assert_eq!(start_of_last(&file, 3).unwrap(), (0, 3));
        assert_eq!(start_of_last(&file, 9).unwrap(), (0, 3));
        file.write_all(&b"x\n".repeat(BLOCK)).unwrap();
        let size = file.metadata().unwrap().len();
        assert_eq!(
            start_of_last(&file, 40_000).unwrap(),
            (size - 80_000, 40_000)
        );
    }
}
