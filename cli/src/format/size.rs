//! Sizes in decimal units.

/// `159MB`, `1.06GB`: three digits, as tables show them.
pub(crate) fn short(bytes: u64) -> String {
    digits(bytes, 3)
}

/// `159.2MB`: four digits, as totals show them.
pub(crate) fn long(bytes: u64) -> String {
    digits(bytes, 4)
}

#[expect(clippy::cast_precision_loss, reason = "only a few digits are shown")]
fn digits(bytes: u64, precision: usize) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    loop {
        let whole = value.log10().max(0.0) as usize + 1;
        let text = format!("{value:.*}", precision.saturating_sub(whole));
        // 999.9 may round up to 1000, which the next unit tells better.
        let rounded: f64 = text.parse().unwrap_or(value);
        if rounded < 1000.0 || unit + 1 == UNITS.len() {
            let text = match text.contains('.') {
                true => text.trim_end_matches('0').trim_end_matches('.'),
                false => &text,
            };
            return format!("{text}{}", UNITS[unit]);
        }
        value /= 1000.0;
        unit += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_units_and_few_digits() {
        for (bytes, three, four) in [
            (0, "0B", "0B"),
            (999, "999B", "999B"),
            (1000, "1kB", "1kB"),
            (1024, "1.02kB", "1.024kB"),
            (159_234_567, "159MB", "159.2MB"),
            (1_060_000_000, "1.06GB", "1.06GB"),
            (999_600, "1MB", "999.6kB"),
            (77_800_000, "77.8MB", "77.8MB"),
            (u64::MAX, "18.4EB", "18.45EB"),
        ] {
            assert_eq!((short(bytes).as_str(), long(bytes).as_str()), (three, four));
        }
    }
}
