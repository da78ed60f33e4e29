//! Bounds on what others can make the service log.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Keeps a flood of requests from becoming a flood of log lines: a burst, then one a second.
#[derive(Debug)]
pub(super) struct LogLimit {
    began: Instant,
    /// Lines written, on a scale that loses one a second.
    spent: AtomicU64,
    dropped: AtomicU64,
}

impl Default for LogLimit {
    fn default() -> Self {
        Self { began: Instant::now(), spent: AtomicU64::new(0), dropped: AtomicU64::new(0) }
    }
}

impl LogLimit {
    const BURST: u64 = 20;

    /// Whether one more may be written, and how many were not since the last.
    pub(super) fn admit(&self) -> Option<u64> {
        let regained = self.began.elapsed().as_secs();
        let spend = |spent: u64| {
            let spent = spent.max(regained);
            (spent < regained + Self::BURST).then_some(spent + 1)
        };
        match self.spent.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend) {
            Ok(_) => Some(self.dropped.swap(0, Ordering::Relaxed)),
            Err(_) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    }
}
