//! How long after an opt-out a message was sent, and the limits that others set for it.

use std::time::Duration;

use crate::ledger::Time;

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A time within which an opt-out has to be acted on. Days are those of UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    /// Gmail's sender guidelines.
    Hours,
    /// Yahoo's: until the second day after that of the opt-out ends.
    Days,
    /// CAN-SPAM's (16 CFR 316.5, 15 USC 7704(a)(4)) and CASL's: until the tenth business day after that of
    /// the opt-out ends. Business days are Monday to Friday, holidays too, since which these are is not known.
    BusinessDays,
}

impl Limit {
    pub(super) const ALL: [Self; 3] = [Self::Hours, Self::Days, Self::BusinessDays];

    /// What to call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Hours => "48 hours",
            Self::Days => "2 days",
            Self::BusinessDays => "10 business days",
        }
    }

    /// Whether a message came later than it allows.
    pub(super) fn is_past(self, since: Time, sent: Time) -> bool {
        let day = since.day_number();
        let ends_with = |days: i64| sent.day_number() > day + days;
        match self {
            Self::Hours => sent.since(since) > 48 * HOUR,
            Self::Days => ends_with(2),
            Self::BusinessDays => ends_with(ten_business_days(day)),
        }
    }
}

/// After so many days the tenth business day comes: two weeks, less what is left of a weekend.
fn ten_business_days(day: i64) -> i64 {
    // The first day of 1970 was a Thursday.
    const SATURDAY: i64 = 2;
    const SUNDAY: i64 = 3;
    match day % 7 {
        SATURDAY => 13,
        SUNDAY => 12,
        _ => 14,
    }
}

/// A delay for people, in its two greatest units.
pub(super) fn shown(delay: Duration) -> String {
    let seconds = delay.as_secs();
    let (days, hours) = (seconds / DAY.as_secs(), seconds % DAY.as_secs() / HOUR.as_secs());
    let (minutes, rest) = (seconds % HOUR.as_secs() / 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{}.{:03} s", rest, delay.subsec_millis()),
        (0, 0, _) => format!("{minutes} min {rest} s"),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn past(since: &str, sent: &str) -> Vec<bool> {
        let time = |text: &str| text.parse::<Time>().expect("a time");
        Limit::ALL.iter().map(|limit| limit.is_past(time(since), time(sent))).collect()
    }

    #[test]
    fn hours_are_counted_and_days_end() {
        // A Tuesday.
        let since = "2026-03-03T09:00:00.000Z";
        assert_eq!(past(since, since), [false; 3]);
        assert_eq!(past(since, "2026-03-05T09:00:00.000Z"), [false; 3]);
        assert_eq!(past(since, "2026-03-05T09:00:00.001Z"), [true, false, false]);
        assert_eq!(past(since, "2026-03-05T23:59:59.999Z"), [true, false, false]);
        assert_eq!(past(since, "2026-03-06T00:00:00.000Z"), [true, true, false]);
        assert_eq!(past(since, "2026-03-17T23:59:59.999Z"), [true, true, false]);
        assert_eq!(past(since, "2026-03-18T00:00:00.000Z"), [true, true, true]);
    }

    #[test]
    fn ten_business_days_end_with_one_from_whatever_day() {
        for (since, last) in [
            ("2026-03-02", "2026-03-16"),
            ("2026-03-03", "2026-03-17"),
            ("2026-03-04", "2026-03-18"),
            ("2026-03-05", "2026-03-19"),
            ("2026-03-06", "2026-03-20"),
            ("2026-03-07", "2026-03-20"),
            ("2026-03-08", "2026-03-20"),
        ] {
            for hour in ["00:00:00.000Z", "23:59:59.999Z"] {
                let since: Time = format!("{since}T{hour}").parse().expect("a time");
                let last: Time = format!("{last}T23:59:59.999Z").parse().expect("a time");
                assert!(!Limit::BusinessDays.is_past(since, last), "{since}");
                assert!(Limit::BusinessDays.is_past(since, last.next_day()), "{since}");
            }
        }
    }

    #[test]
    fn delays_are_shown_in_two_units() {
        for (millis, text) in [
            (0, "0.000 s"),
            (1_234, "1.234 s"),
            (61_000, "1 min 1 s"),
            (7_260_000, "2 h 1 min"),
            (90_000_000, "1 d 1 h"),
        ] {
            assert_eq!(shown(Duration::from_millis(millis)), text);
        }
    }
}
