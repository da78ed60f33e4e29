//! When a message that was not taken is sent again.

use std::time::Duration;

/// Added to each wait at most, as a part of it: endpoints that failed together come apart.
const JITTER: f64 = 0.1;

/// What a receiver may ask for with `Retry-After`.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// How long to wait after each failure in a row; after one more than these, nothing is sent until
/// somebody has the webhook go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule(Vec<Duration>);

impl Schedule {
    /// The longest wait, in seconds: a week.
    pub const MAX_WAIT: u64 = 7 * 24 * 60 * 60;

    /// Waits of these seconds; a longer one than [`Self::MAX_WAIT`] is as long as that.
    pub fn new(seconds: &[u64]) -> Self {
        let wait = |seconds: &u64| Duration::from_secs(*seconds.min(&Self::MAX_WAIT));
        Self(seconds.iter().map(wait).collect())
    }

    /// The wait after so many failures in a row, no shorter than the receiver asked for; `None`
    /// when the schedule is at its end.
    pub(in crate::serve) fn wait(
        &self,
        failures: u32,
        asked: Option<Duration>,
    ) -> Option<Duration> {
        let last = usize::try_from(failures.checked_sub(1)?).ok()?;
        let wait = *self.0.get(last)?;
        let wait = wait.max(asked.unwrap_or_default().min(LONGEST));
        Some(wait.mul_f64(1.0 + JITTER * random_part()))
    }
}

/// The example of Standard Webhooks 1.0.0, "Deliverability and reliability": 75 hours in all.
impl Default for Schedule {
    fn default() -> Self {
        const MINUTE: u64 = 60;
        const HOUR: u64 = 60 * MINUTE;
        Self::new(&[
            5,
            5 * MINUTE,
            30 * MINUTE,
            2 * HOUR,
            5 * HOUR,
            10 * HOUR,
            14 * HOUR,
            20 * HOUR,
            24 * HOUR,
        ])
    }
}

/// From 0 to 1.
fn random_part() -> f64 {
    let mut random = [0];
    // Without random numbers all come at once, which is no reason to fail.
    let _ = getrandom::fill(&mut random);
    f64::from(random[0]) / 255.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_as_published_and_end() {
        let schedule = Schedule::default();
        let least = [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400];
        for (failures, seconds) in (1..).zip(least) {
            let wait = schedule.wait(failures, None).expect("one more").as_secs_f64();
            let seconds = f64::from(seconds);
            assert!((seconds..=seconds * 1.1).contains(&wait), "{failures}: {wait}");
        }
        assert_eq!(schedule.wait(10, None), None);
        assert_eq!(schedule.wait(10, Some(LONGEST)), None);
        assert_eq!(schedule.wait(u32::MAX, None), None);
    }

    #[test]
    fn a_receiver_can_ask_for_more_and_not_for_less() {
        let schedule = Schedule::default();
        let asked = |seconds| Some(Duration::from_secs(seconds));
        assert!(schedule.wait(1, asked(60)).expect("one more") >= Duration::from_secs(60));
        assert!(schedule.wait(2, asked(60)).expect("one more") >= Duration::from_secs(300));
        let endless = schedule.wait(1, asked(u64::MAX)).expect("one more");
        assert!(endless <= LONGEST.mul_f64(1.0 + JITTER));
    }
}
