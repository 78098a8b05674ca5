//! Restart policies, as Docker's.

use std::time::Duration;

use rctr_storage::record::RestartPolicy;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(60);
/// A run of at least this length makes the next wait short again.
const GOOD_RUN: Duration = Duration::from_secs(10);

/// Decides whether and when a container that has ended starts again.
#[derive(Debug)]
pub(super) struct Restarts {
    policy: RestartPolicy,
    wait: Duration,
    /// How often it was started again.
    pub(super) count: u32,
}

impl Restarts {
    pub(super) fn new(policy: RestartPolicy) -> Self {
        Self {
            policy,
            wait: Duration::ZERO,
            count: 0,
        }
    }

    /// Whether any end can lead to a restart.
    pub(super) fn possible(&self) -> bool {
        matches!(
            self.policy.name.as_str(),
            "always" | "unless-stopped" | "on-failure"
        )
    }

    /// How long to wait before the next start, after a run of this length that ended with `code`; `None`: it stays ended.
    pub(super) fn after(&mut self, code: i32, ran: Duration) -> Option<Duration> {
        let limit = self.policy.maximum_retry_count;
        let again = match self.policy.name.as_str() {
            "always" | "unless-stopped" => true,
            "on-failure" => code != 0 && (limit == 0 || self.count < limit),
            _ => false,
        };
        if !again {
            return None;
        }
        self.wait = match self.wait {
            Duration::ZERO => FIRST,
            _ if ran >= GOOD_RUN => FIRST,
            wait => (wait * 2).min(LONGEST),
        };
        self.count += 1;
        Some(self.wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(name: &str, maximum_retry_count: u32) -> Restarts {
        Restarts::new(RestartPolicy {
            name: name.to_owned(),
            maximum_retry_count,
        })
    }

    #[test]
    fn waits_double_and_begin_anew_after_a_good_run() {
        let mut always = policy("always", 0);
        let short = Duration::from_millis(5);
        let mut waits = || always.after(0, short).unwrap().as_millis();
        assert_eq!([waits(), waits(), waits()], [100, 200, 400]);
        assert_eq!(always.after(0, GOOD_RUN), Some(FIRST));
        for _ in 0..20 {
            always.after(0, short);
        }
        assert_eq!(always.after(0, short), Some(LONGEST));
    }

    #[test]
    fn on_failure_counts() {
        let mut on_failure = policy("on-failure", 2);
        assert_eq!(on_failure.after(0, FIRST), None);
        assert!(on_failure.after(1, FIRST).is_some());
        assert!(on_failure.after(137, FIRST).is_some());
        assert_eq!(on_failure.after(1, FIRST), None);
        assert_eq!(policy("no", 0).after(1, FIRST), None);
        assert_eq!(policy("", 0).after(1, FIRST), None);
    }
}
