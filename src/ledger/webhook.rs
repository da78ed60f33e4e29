//! How far a webhook came in the history: what has to outlive the service that sends.

use std::time::Duration;

use super::time::Time;

/// Where a webhook stands. There is no queue: what is to be sent is the history after `cursor`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookMark {
    /// The webhook's name in the configuration.
    pub name: String,
    /// The last event that was taken, or was not for this webhook.
    pub cursor: u64,
    /// How often an operator had it go on; what was noted before the last time is void.
    pub resumes: u64,
    /// How often in a row the next event was not taken.
    pub failures: u32,
    /// What became of the last attempt, and when, if it failed.
    pub failed: Option<(Time, String)>,
    /// When the next attempt is due after one that failed, so that a restart does not bring it
    /// forward.
    pub next_attempt: Option<Time>,
    /// Since when nothing is sent, until somebody has it go on.
    pub stopped: Option<Time>,
}

impl WebhookMark {
    /// Of a webhook that has sent everything up to an event, and met no failure.
    pub fn new(name: impl Into<String>, cursor: u64) -> Self {
        Self {
            name: name.into(),
            cursor,
            resumes: 0,
            failures: 0,
            failed: None,
            next_attempt: None,
            stopped: None,
        }
    }

    /// How long until the next attempt. A clock that was set back behind the failed one makes it
    /// no longer than it was then.
    pub fn wait(&self, now: Time) -> Duration {
        match (self.next_attempt, &self.failed) {
            (Some(next), Some((failed, _))) => next.since(now.max(*failed)),
            _ => Duration::ZERO,
        }
    }
}

/// Where a webhook begins that was not there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebhookStart {
    /// With the first event of the history.
    Beginning,
    /// With what comes next.
    End,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Time {
        Time::from_millis(seconds * 1000).expect("in range")
    }

    #[test]
    fn a_wait_goes_on_and_is_never_longer_than_it_was() {
        let whole = WebhookMark::new("shop", 0);
        assert_eq!(whole.wait(at(1000)), Duration::ZERO);
        let failed = Some((at(1000), "it answered 503".to_owned()));
        let failing = WebhookMark { failed, next_attempt: Some(at(1300)), ..whole };
        for (now, seconds) in [(1000, 300), (1100, 200), (1300, 0), (9000, 0), (999, 300), (0, 300)]
        {
            assert_eq!(failing.wait(at(now)), Duration::from_secs(seconds), "{now}");
        }
    }
}
