//! What a send log came to, as sums: everything here is bounded, however many messages there are.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::limits::Limit;
use super::views::Violation;

/// The sums over all violations.
#[derive(Debug, Clone, Default)]
pub(super) struct Findings {
    pub violations: u64,
    /// To how many recipients they were sent.
    pub people: People,
    /// How many were later than each of [`Limit::ALL`].
    pub later: [u64; 3],
    pub slowest: Option<Slowest>,
    /// How many were sent on each day since 1970.
    pub days: BTreeMap<i64, u64>,
    /// How many there were of each of [`DELAYS`], and longer ones.
    pub delays: [u64; DELAYS.len() + 1],
    /// The first of them, for a page.
    pub listed: Vec<Violation>,
}

/// So many messages stand in a page.
const MOST_LISTED: usize = 500;

/// The message that came longest after the opt-out.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Slowest {
    #[serde(rename = "after_seconds", serialize_with = "super::views::as_seconds")]
    pub after: Duration,
    pub file: String,
    pub line: u64,
}

/// Recipients by their numbers, each counted once.
#[derive(Debug, Clone, Default)]
pub(super) struct People {
    seen: Vec<u64>,
    pub count: u64,
}

const HOUR: u64 = 60 * 60;

/// Delays of up to these seconds, and of more than those before, are counted together. Each limit has an
/// end here that is its latest.
pub(super) const DELAYS: [(u64, &str); 10] = [
    (60, "1 min"),
    (HOUR, "1 h"),
    (6 * HOUR, "6 h"),
    (24 * HOUR, "1 d"),
    (2 * 24 * HOUR, "2 d"),
    (3 * 24 * HOUR, "3 d"),
    (7 * 24 * HOUR, "7 d"),
    (15 * 24 * HOUR, "15 d"),
    (30 * 24 * HOUR, "30 d"),
    (365 * 24 * HOUR, "365 d"),
];

impl Findings {
    pub(super) fn add(&mut self, violation: &Violation) {
        self.violations += 1;
        self.people.add(violation.person);
        for (count, limit) in self.later.iter_mut().zip(Limit::ALL) {
            *count += u64::from(limit.is_past(violation.suppressed_since, violation.sent_at));
        }
        let after = violation.after;
        *self.days.entry(violation.sent_at.day_number()).or_default() += 1;
        let is_longer = |(end, _): &(u64, &str)| Duration::from_secs(*end) < after;
        self.delays[DELAYS.partition_point(is_longer)] += 1;
        if self.listed.len() < MOST_LISTED {
            self.listed.push(violation.clone());
        }
        if self.slowest.as_ref().is_none_or(|slowest| slowest.after < after) {
            let (file, line) = (violation.file.to_string(), violation.line);
            self.slowest = Some(Slowest { after, file, line });
        }
    }

    pub(super) fn within_hours(&self) -> u64 {
        self.violations - self.later[0]
    }
}

impl People {
    fn add(&mut self, person: usize) {
        let (word, bit) = (person / 64, 1 << (person % 64));
        if self.seen.len() <= word {
            self.seen.resize(word + 1, 0);
        }
        self.count += u64::from(self.seen[word] & bit == 0);
        self.seen[word] |= bit;
    }
}
