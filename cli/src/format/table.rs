//! Columns of text.

/// Blanks between columns, at least.
const GAP: usize = 3;
/// The least width of a column, gap included.
const LEAST: usize = 10;

/// Puts the cells of each line, which tabs end, below each other. The text after a line's last tab is in no column.
///
/// A column is as wide as the widest cell in an unbroken run of lines that have it.
pub(crate) fn layout(text: &str) -> String {
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    let columns = lines.iter().map(Vec::len).max().unwrap_or_default();
    let mut widths: Vec<Vec<usize>> = lines.iter().map(|cells| vec![0; cells.len()]).collect();
    for column in 0..columns {
        let has = |line: &Vec<&str>| line.len() > column + 1;
        let mut start = 0;
        while start < lines.len() {
            let end = (start..lines.len())
                .find(|&i| !has(&lines[i]))
                .unwrap_or(lines.len());
            let width = lines[start..end]
                .iter()
                .map(|cells| cells[column].chars().count() + GAP)
                .max()
                .unwrap_or_default()
                .max(LEAST);
            for line in &mut widths[start..end] {
                line[column] = width;
            }
            start = end + 1;
        }
    }
    let mut out = String::with_capacity(text.len() * 2);
    for (cells, widths) in lines.iter().zip(&widths) {
        for (cell, width) in cells.iter().zip(widths) {
            out.push_str(cell);
            let blanks = width.saturating_sub(cell.chars().count());
            out.extend(std::iter::repeat_n(' ', blanks));
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        assert_eq!(
            layout("A\tLONG HEADER\tC\nabcdefghijk\tb\tc…\n"),
            "A             LONG HEADER   C\nabcdefghijk   b             c…\n"
        );
        // At least ten wide, and characters count, not bytes.
        assert_eq!(layout("é\tx\n"), "é         x\n");
        // A line without the column ends the run.
        assert_eq!(
            layout("aaaaaaaaaaaa\tx\nend\nb\tx\n"),
            "aaaaaaaaaaaa   x\nend\nb         x\n"
        );
        assert_eq!(layout(""), "");
    }
}
