//! Points in time as `--since` and `--until` give them.

use std::time::{Duration, SystemTime};

use time::format_description::well_known::Rfc3339;
use time::{Date, OffsetDateTime, PrimitiveDateTime, Time};

use crate::request::values::parse_duration;

/// `10m` (so long before `now`), `2024-05-01T10:00:00Z`, `2024-05-01T10:00`, `2024-05-01` (UTC without a zone), or
/// seconds since 1970.
///
/// # Errors
/// When `text` is none of these.
pub(crate) fn parse(text: &str, now: SystemTime) -> Result<SystemTime, String> {
    if let Ok(nanos) = parse_duration(text) {
        let distance = Duration::from_nanos(nanos.unsigned_abs());
        let moment = if nanos < 0 {
            now.checked_add(distance)
        } else {
            now.checked_sub(distance)
        };
        return moment.ok_or_else(|| format!("{text:?} is out of range"));
    }
    if let Some(seconds) = text.parse::<f64>().ok().filter(|s| (0.0..1e11).contains(s)) {
        return Ok(SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds));
    }
    if let Ok(moment) = OffsetDateTime::parse(text, &Rfc3339) {
        return Ok(moment.into());
    }
    without_zone(text)
        .map(|moment| moment.assume_utc().into())
        .ok_or_else(|| {
            format!("invalid time {text:?}: want for example 10m, 2024-05-01T10:00:00Z or seconds since 1970")
        })
}

/// `2024-05-01[T10[:00[:00[.5]]]]`.
fn without_zone(text: &str) -> Option<PrimitiveDateTime> {
    let (date, time) = text.split_once('T').unwrap_or((text, ""));
    let mut numbers = date.splitn(3, '-');
    let year = numbers.next()?.parse().ok()?;
    let month: u8 = numbers.next()?.parse().ok()?;
    let day = numbers.next()?.parse().ok()?;
    let date = Date::from_calendar_date(year, month.try_into().ok()?, day).ok()?;
    let mut clock = [0u8; 3];
    let mut nanos = 0;
    if !time.is_empty() {
        let (time, fraction) = time.split_once('.').unwrap_or((time, ""));
        let parts: Vec<&str> = time.split(':').collect();
        if parts.len() > 3 || fraction.len() > 9 {
            return None;
        }
        for (slot, part) in clock.iter_mut().zip(parts) {
            *slot = part.parse().ok()?;
        }
        if !fraction.is_empty() {
            nanos = format!("{fraction:0<9}").parse().ok()?;
        }
    }
    let time = Time::from_hms_nano(clock[0], clock[1], clock[2], nanos).ok()?;
    Some(PrimitiveDateTime::new(date, time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_have_several_forms() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        for (text, seconds) in [
            ("10m", 999_400),
            ("-10s", 1_000_010),
            ("86400", 86_400),
            ("1970-01-02", 86_400),
            ("1970-01-02T01:00", 90_000),
            ("1970-01-02T01:00:01Z", 90_001),
            ("1970-01-02T01:00:01+01:00", 86_401),
            ("2100-01-01T00:00:00", 4_102_444_800),
        ] {
            let got = parse(text, now).unwrap();
            let since = got.duration_since(SystemTime::UNIX_EPOCH).unwrap();
            assert_eq!(since.as_secs(), seconds, "{text}");
        }
        for text in ["", "yesterday", "1970-13-01", "1970-01-01T25:00"] {
            assert!(parse(text, now).is_err(), "{text}");
        }
    }
}
