//! Trying again: how often, and after which pause.

use std::thread;
use std::time::Duration;

use super::{PlaceError, Progress, Step};
use crate::digest::Digest;

/// Bytes that count as an advance: 256 KiB. Less, and a place that breaks after every byte would keep us for ever.
const ADVANCE: u64 = 256 << 10;

/// How patient a transfer is with a place that breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// How often it is tried again without any advance.
    pub retries: u32,
    /// The pause before the first time; it doubles with each, up to 10 seconds.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            retries: 5,
            pause: Duration::from_millis(300),
        }
    }
}

/// The attempts at one blob or manifest.
pub(super) struct Attempts {
    patience: Patience,
    failed: u32,
    /// Where the last attempt that counted as an advance had come to, in bytes.
    from: u64,
}

impl Attempts {
    pub(super) fn new(patience: Patience) -> Self {
        Self {
            patience,
            failed: 0,
            from: 0,
        }
    }

    /// Something broke at `at`. Waits and returns `true`, or `false`: that was the last attempt.
    pub(super) fn wait(&mut self, at: u64, before: impl FnOnce()) -> bool {
        if at >= self.from + ADVANCE {
            self.from = at;
            self.failed = 0;
        }
        if self.failed >= self.patience.retries {
            return false;
        }
        before();
        let pause = self.patience.pause * (1 << self.failed.min(16));
        thread::sleep(pause.min(Duration::from_secs(10)));
        self.failed += 1;
        true
    }

    /// Calls `ask` until it works, says no for good, or has said no twice: places ask servers again themselves, and what is
    /// left for us are answers that broke.
    pub(super) fn ask<T>(
        patience: Patience,
        told: Option<(&dyn Progress, &Digest)>,
        mut ask: impl FnMut() -> Result<T, PlaceError>,
    ) -> Result<T, PlaceError> {
        let mut attempts = Self::new(Patience {
            retries: patience.retries.min(1),
            ..patience
        });
        loop {
            let error = match ask() {
                Err(error) if error.is_transient() && !error.is_not_found() => error,
                other => return other,
            };
            let again = attempts.wait(0, || {
                if let Some((progress, digest)) = told {
                    progress.blob(digest, Step::Retrying(error.to_string()));
                }
            });
            if !again {
                return Err(error);
            }
        }
    }
}
