//! Instants, in milliseconds, and their one text form.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An instant in milliseconds since 1970-01-01T00:00:00Z, up to the end of the year 9999.
///
/// Written as RFC 3339 in UTC with milliseconds; read with any offset, never without one.
///
/// ```
/// use optout::ledger::Time;
///
/// let time: Time = "2026-01-01T01:00:00+01:00".parse()?;
/// assert_eq!(time.to_string(), "2026-01-01T00:00:00.000Z");
/// assert!("2026-01-01T01:00:00".parse::<Time>().is_err());
/// # Ok::<(), optout::ledger::TimeError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(i64);

/// A day in milliseconds.
const DAY: i64 = 24 * 60 * 60 * 1000;

impl Time {
    /// The latest instant: 9999-12-30T22:00:00Z, which every offset can still write.
    pub const MAX: Self = Self(253_402_207_200_000);

    /// From milliseconds since 1970; `None` outside the range.
    pub fn from_millis(millis: i64) -> Option<Self> {
        (0..=Self::MAX.0).contains(&millis).then_some(Self(millis))
    }

    /// Milliseconds since 1970.
    pub fn as_millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since 1970, as a link carries them; later than 2106 gives the greatest.
    pub fn as_link_seconds(self) -> u32 {
        u32::try_from(self.0 / 1000).unwrap_or(u32::MAX)
    }

    /// This much later, at most [`Time::MAX`].
    pub fn plus(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(millis).min(Self::MAX.0))
    }

    /// This much earlier, at most the first there is.
    pub fn minus(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_sub(millis).max(0))
    }

    /// How long after `earlier` this is; nothing when it is not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0 - earlier.0).unwrap_or(0))
    }

    /// A millisecond earlier; `None` for the first there is.
    pub fn just_before(self) -> Option<Self> {
        Self::from_millis(self.0 - 1)
    }

    /// The day in UTC, as `2026-01-31`.
    pub fn day(self) -> String {
        self.to_string()[..10].to_owned()
    }

    /// How many days were over in UTC since 1970.
    pub fn day_number(self) -> i64 {
        self.0 / DAY
    }

    /// When the day of this number begins in UTC; `None` outside the range.
    pub fn from_day_number(number: i64) -> Option<Self> {
        Self::from_millis(number.checked_mul(DAY)?)
    }

    /// When the next day begins in UTC; at most [`Time::MAX`].
    pub fn next_day(self) -> Self {
        Self((self.0 - self.0 % DAY + DAY).min(Self::MAX.0))
    }

    /// The ISO 8601 week in UTC, as `2026-W05`; it begins with Monday.
    pub fn week(self) -> String {
        let week = self.timestamp().to_zoned(TimeZone::UTC).date().iso_week_date();
        format!("{}-W{:02}", week.year(), week.week())
    }

    fn timestamp(self) -> Timestamp {
        Timestamp::from_millisecond(self.0).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

/// A clock that stands before 1970 counts as 1970.
impl From<SystemTime> for Time {
    fn from(time: SystemTime) -> Self {
        let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(0).plus(since_epoch)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.timestamp())
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text is no [`Time`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeError;

impl fmt::Display for TimeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a time is written in RFC 3339 with its offset, such as 2026-01-31T12:00:00Z or \
             2026-01-31T13:00:00+01:00, and lies between 1970 and 9999-12-30",
        )
    }
}

impl std::error::Error for TimeError {}

impl FromStr for Time {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, TimeError> {
        let timestamp: Timestamp = text.trim().parse().map_err(|_| TimeError)?;
        Self::from_millis(timestamp.as_millisecond()).ok_or(TimeError)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_any_offset_and_no_naked_time() {
        for (text, shown) in [
            ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00.000Z"),
            ("2026-01-31T12:00:00.1239Z", "2026-01-31T12:00:00.123Z"),
            ("2026-01-31T00:30:00+05:30", "2026-01-30T19:00:00.000Z"),
            ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(text.parse::<Time>().expect(text).to_string(), shown);
        }
        for text in [
            "",
            "now",
            "2026-01-31",
            "2026-01-31T12:00:00",
            "1969-12-31T23:59:59Z",
            "2026-13-01T00:00:00Z",
        ] {
            assert!(text.parse::<Time>().is_err(), "{text}");
        }
    }

    #[test]
    fn weeks_are_those_of_iso_8601() {
        for (day, week) in [
            ("2026-01-01", "2026-W01"),
            ("2027-01-03", "2026-W53"),
            ("2027-01-04", "2027-W01"),
            ("2024-12-30", "2025-W01"),
            ("1970-01-01", "1970-W01"),
        ] {
            let time: Time = format!("{day}T23:59:59Z").parse().expect(day);
            assert_eq!((time.day(), time.week()), (day.to_owned(), week.to_owned()));
        }
    }

    #[test]
    fn days_are_counted_from_1970_and_begin_at_midnight() {
        let time: Time = "1970-01-03T23:59:59.999Z".parse().expect("a time");
        assert_eq!((time.day_number(), time.next_day().day_number()), (2, 3));
        for number in [0, 2, Time::MAX.day_number()] {
            let begin = Time::from_day_number(number).expect("in range");
            assert_eq!((begin.day_number(), begin.as_millis() % DAY), (number, 0));
        }
        for number in [-1, Time::MAX.day_number() + 1, i64::MAX] {
            assert_eq!(Time::from_day_number(number), None);
        }
    }

    #[test]
    fn the_latest_instant_can_be_written_and_read() {
        let shown = Time::MAX.to_string();
        assert_eq!(shown.parse::<Time>(), Ok(Time::MAX));
        assert_eq!(Time::MAX.plus(Duration::from_secs(1)), Time::MAX);
    }
}
