//! When something is tried again.

use std::time::{Duration, SystemTime};

use crate::random;
use crate::web::{HeaderMap, header, parse_date};

/// How often and how soon.
#[derive(Debug, Clone)]
pub struct Retries {
    /// How often it is tried, the first included.
    pub attempts: u32,
    /// Before the second; doubled each time.
    pub first_wait: Duration,
    /// The longest of them.
    pub longest_wait: Duration,
    /// The longest that a server may ask for (`Retry-After`); one that asks for more gets an error at once.
    pub obeyed_wait: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            attempts: 5,
            first_wait: Duration::from_millis(250),
            longest_wait: Duration::from_secs(8),
            obeyed_wait: Duration::from_secs(120),
        }
    }
}

impl Retries {
    /// How long to wait after the attempt `number` (1: the first) has failed; `None`: not again.
    /// Half of it is chance, so that those who failed together don't come back together.
    pub(super) fn wait(&self, number: u32, asked: Option<Duration>) -> Option<Duration> {
        if number >= self.attempts {
            return None;
        }
        if let Some(asked) = asked {
            return (asked <= self.obeyed_wait).then_some(asked);
        }
        let doubled = self.first_wait.saturating_mul(1 << (number - 1).min(16));
        let wait = doubled.min(self.longest_wait);
        Some(wait.mul_f64(0.5 + chance() / 2.0))
    }
}

/// From 0 to 1.
fn chance() -> f64 {
    let digits = random::hex::<2>();
    f64::from(u16::from_str_radix(&digits, 16).unwrap_or(0)) / f64::from(u16::MAX)
}

/// How long the server wants us to wait: seconds or a date (RFC 9110, 10.2.3).
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let then = u64::try_from(parse_date(value)?).ok()?;
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .ok()?;
    Some(Duration::from_secs(then).saturating_sub(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_end() {
        let retries = Retries::default();
        let mut longest = Duration::ZERO;
        for (number, want) in [(1, 250), (2, 500), (3, 1000), (4, 2000)] {
            let wait = retries.wait(number, None).unwrap();
            let want = Duration::from_millis(want);
            assert!(wait >= want / 2 && wait <= want, "{number}: {wait:?}");
            longest = longest.max(wait);
        }
        assert_eq!(retries.wait(5, None), None);
        assert!(longest <= retries.longest_wait);
    }

    #[test]
    fn servers_are_obeyed_within_limits() {
        let retries = Retries::default();
        let seconds = Duration::from_secs;
        assert_eq!(retries.wait(1, Some(seconds(7))), Some(seconds(7)));
        assert_eq!(retries.wait(1, Some(seconds(3600))), None);
        assert_eq!(retries.wait(5, Some(seconds(1))), None);
    }

    #[test]
    fn seconds_and_dates() {
        let after = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, value.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(after("3"), Some(Duration::from_secs(3)));
        assert_eq!(after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert_eq!(after("soon"), None);
        assert_eq!(after("-1"), None);
        assert!(after("Wed, 21 Oct 2099 07:28:00 GMT") > Some(Duration::from_secs(1 << 30)));
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }
}
