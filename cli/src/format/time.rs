//! Points in time as tables show them.
//!
//! A static binary has no table of time zones: times are shown in UTC.

use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Nanoseconds since 1970.
pub(crate) type Nanos = i128;

/// Now.
pub(crate) fn now() -> Nanos {
    of_system(SystemTime::now())
}

/// A time of the operating system's.
pub(crate) fn of_system(when: SystemTime) -> Nanos {
    OffsetDateTime::from(when).unix_timestamp_nanos()
}

/// An RFC 3339 time as the records have it; `None` for one that never was.
pub(crate) fn of(text: &str) -> Option<Nanos> {
    let when = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    (when.year() > 1).then(|| when.unix_timestamp_nanos())
}

/// How long ago `text` was; zero if it is yet to come.
pub(crate) fn since(text: &str, now: Nanos) -> Duration {
    let nanos = of(text).map_or(0, |then| (now - then).max(0));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// `2024-01-01T10:00:00Z`.
pub(crate) fn rfc3339(nanos: Nanos) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(nanos)
        .ok()
        .and_then(|when| when.replace_nanosecond(0).ok())
        .and_then(|when| when.format(&Rfc3339).ok())
        .unwrap_or_default()
}

/// `2024-01-01 10:00:00 +0000 UTC`, as `CreatedAt` is shown.
pub(crate) fn shown(nanos: Nanos) -> String {
    rfc3339(nanos).replace('T', " ").replace('Z', " +0000 UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_are_shown() {
        assert_eq!(
            shown(1_714_557_600_500_000_000),
            "2024-05-01 10:00:00 +0000 UTC"
        );
        assert_eq!(of("0001-01-01T00:00:00Z"), None);
        assert_eq!(
            since("2024-05-01T10:00:00Z", 1_714_557_660_000_000_000),
            Duration::from_secs(60)
        );
    }
}
