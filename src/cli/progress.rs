//! How far the reading of a file is, on a terminal.

use std::time::{Duration, Instant};

use super::input::Done;
use super::output;

/// Rows, their rate, and the remaining time where anybody knows it.
pub(super) struct Progress {
    done: Done,
    began: Instant,
    told: Instant,
}

impl Progress {
    const PAUSE: Duration = Duration::from_millis(200);

    pub(super) fn of(done: Done) -> Self {
        Self { done, began: Instant::now(), told: Instant::now() }
    }

    /// Says how many rows there were, now and then.
    pub(super) fn tell(&mut self, rows: u64) {
        if self.told.elapsed() < Self::PAUSE {
            return;
        }
        self.told = Instant::now();
        let seconds = self.began.elapsed().as_secs_f64();
        let rest = self.done.part().map_or_else(String::new, |part| {
            let left = seconds * (1.0 - part) / part.max(0.001);
            format!(", {:.0} % done, {left:.0} s left", part * 100.0)
        });
        output::progress(&format!("{rows} rows, {:.0} a second{rest}", rows as f64 / seconds));
    }
}
