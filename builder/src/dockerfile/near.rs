//! "Did you mean": the known word that a mistyped one is nearest to.

/// The nearest of `among`, if it is near enough to be meant: at most two letters added, missing, changed or swapped, and
/// fewer than half of the word. Case doesn't count. Of equally near ones the first.
#[must_use]
pub fn near(word: &str, among: &[&str]) -> Option<String> {
    /// No known word is nearly as long.
    const LONGEST: usize = 64;
    let word: Vec<char> = word.to_lowercase().chars().take(LONGEST + 1).collect();
    if word.len() > LONGEST {
        return None;
    }
    let most = word
        .len()
        .div_ceil(2)
        .saturating_sub(usize::from(word.len() > 2))
        .min(2);
    among
        .iter()
        .map(|known| {
            let letters: Vec<char> = known.to_lowercase().chars().collect();
            (distance(&word, &letters), *known)
        })
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known.to_owned())
}

/// Letters to add, remove, change, or swap with their neighbour (optimal string alignment).
fn distance(a: &[char], b: &[char]) -> usize {
    let width = b.len() + 1;
    let mut table = vec![0; (a.len() + 1) * width];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            let cell = |i: usize, j: usize| table[i * width + j];
            table[i * width + j] = match (i, j) {
                (0, n) | (n, 0) => n,
                _ => {
                    let changed = usize::from(a[i - 1] != b[j - 1]);
                    let mut best = (cell(i - 1, j) + 1)
                        .min(cell(i, j - 1) + 1)
                        .min(cell(i - 1, j - 1) + changed);
                    if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                        best = best.min(cell(i - 2, j - 2) + 1);
                    }
                    best
                }
            };
        }
    }
    table[a.len() * width + b.len()]
}

#[cfg(test)]
mod tests {
    use super::near;

    #[test]
    fn nearest_known_word() {
        let known = ["FROM", "RUN", "COPY", "ENTRYPOINT", "EXPOSE"];
        for (word, want) in [
            ("FRM", Some("FROM")),
            ("form", Some("FROM")),
            ("RNU", Some("RUN")),
            ("COPPY", Some("COPY")),
            ("entrpoint", Some("ENTRYPOINT")),
            ("EXPOSES", Some("EXPOSE")),
            ("apt-get", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(near(word, &known).as_deref(), want, "{word}");
        }
        assert_eq!(near(&"x".repeat(1 << 20), &known), None);
    }
}
