//! Points in time as the documents have them: RFC 3339, UTC, up to nanoseconds, `2024-05-01T10:00:00.5Z`.

use std::time::SystemTime;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Now.
#[must_use]
pub fn now() -> String {
    of(SystemTime::now())
}

/// `when`, for example a file's modification time.
#[must_use]
pub fn of(when: SystemTime) -> String {
    OffsetDateTime::from(when)
        .format(&Rfc3339)
        // Only years outside 0..9999 have no such form.
        .unwrap_or_else(|_| crate::record::NEVER.to_owned())
}

/// `seconds` since 1970, as `SOURCE_DATE_EPOCH` has them.
#[must_use]
pub fn of_epoch(seconds: i64) -> String {
    OffsetDateTime::from_unix_timestamp(seconds)
        .ok()
        .and_then(|when| when.format(&Rfc3339).ok())
        .unwrap_or_else(|| crate::record::NEVER.to_owned())
}

/// Nanoseconds since 1970; 0 when `text` isn't RFC 3339. For sorting.
#[must_use]
pub fn nanoseconds(text: &str) -> i128 {
    OffsetDateTime::parse(text, &Rfc3339).map_or(0, OffsetDateTime::unix_timestamp_nanos)
}
