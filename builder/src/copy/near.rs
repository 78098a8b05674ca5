//! A name that was perhaps meant.

/// The name among `names` that `word` is a misspelling of: wrong case, or at most a third of its letters wrong.
pub(super) fn near<'a>(word: &str, names: &'a [String]) -> Option<&'a str> {
    if let Some(name) = names.iter().find(|name| name.eq_ignore_ascii_case(word)) {
        return Some(name);
    }
    let limit = (word.chars().count() / 3).clamp(1, 3);
    names
        .iter()
        // Some directories are huge.
        .take(10_000)
        .map(|name| (distance(name, word), name))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, name)| name.as_str())
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_names_are_found() {
        let names = ["index.html", "README.md", "src"].map(str::to_owned);
        for (word, want) in [
            ("index.htm", Some("index.html")),
            ("indx.html", Some("index.html")),
            ("readme.md", Some("README.md")),
            ("scr", None),
            ("srcs", Some("src")),
            ("other", None),
        ] {
            assert_eq!(near(word, &names), want, "{word}");
        }
    }
}
