//! Several blobs at once.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::TransferError;

/// Calls `work` for each of the jobs, `workers` at once; one that it gives back comes again, after the others. The first
/// failure sets `stop`, and is returned when all that are under way have ended.
pub(super) fn run<J: Send>(
    jobs: Vec<J>,
    workers: usize,
    stop: &AtomicBool,
    work: impl Fn(J) -> Result<Option<J>, TransferError> + Sync,
) -> Result<(), TransferError> {
    let workers = workers.clamp(1, jobs.len().max(1));
    let (queue, failure) = (Mutex::new(VecDeque::from(jobs)), Mutex::new(None));
    let next = || {
        let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.pop_front().filter(|_| !stop.load(Ordering::Relaxed))
    };
    let work = || {
        while let Some(job) = next() {
            match work(job) {
                Ok(None) => {}
                Ok(Some(job)) => {
                    let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
                    queue.push_back(job);
                }
                Err(error) => {
                    stop.store(true, Ordering::Relaxed);
                    let mut first = failure.lock().unwrap_or_else(PoisonError::into_inner);
                    first.get_or_insert(error);
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..workers {
            scope.spawn(work);
        }
        work();
    });
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}
