//! How far something is, on a terminal.

use std::time::{Duration, Instant};

use super::input::Done;
use super::output;

/// Which part is done, from 0 to 1, and how long the rest takes if it goes on so.
pub(super) fn told(part: f64, began: Instant) -> String {
    let left = began.elapsed().as_secs_f64() * (1.0 - part) / part.max(0.001);
    format!("{:.0} % done, {left:.0} s left", part * 100.0)
}

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
        let rate = rows as f64 / seconds;
        let rest = self.done.part().map(|part| format!(", {}", told(part, self.began)));
        let rest = rest.unwrap_or_default();
        output::progress(&format!("{rows} rows, {rate:.0} a second{rest}"));
    }
}
