//! How far a webhook came in the history: what has to outlive the service that sends.

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
    /// Since when nothing is sent, until somebody has it go on.
    pub stopped: Option<Time>,
}

impl WebhookMark {
    /// Of a webhook that has sent everything up to an event, and met no failure.
    pub fn new(name: impl Into<String>, cursor: u64) -> Self {
        let (resumes, failures, failed, stopped) = (0, 0, None, None);
        Self { name: name.into(), cursor, resumes, failures, failed, stopped }
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
