//! Dates as providers write them.

use jiff::Timestamp;
use jiff::civil::{self, Date, DateTime};
use jiff::fmt::{rfc2822, temporal::Pieces};
use jiff::tz::TimeZone;

use crate::ledger::Time;

/// The time that a text states, in whichever way: RFC 3339 (with a blank for the T too), RFC 2822, a day, or
/// seconds or milliseconds since 1970. What lies before 1970 is some program's way to say nothing.
///
/// # Errors
///
/// When it is none of these, or lacks its offset where that is not known to be UTC's.
pub(in crate::cli) fn parse(text: &str, is_utc: bool) -> Result<Option<Time>, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let millis = match Stated::of(text)? {
        Stated::Instant(timestamp) => timestamp.as_millisecond(),
        Stated::Local(time) if is_utc => {
            TimeZone::UTC.to_timestamp(time).map_err(|_| out_of_range())?.as_millisecond()
        }
        Stated::Local(_) => {
            return Err(
                "the date lacks its offset from UTC: add it, or say with --utc that it is UTC"
                    .to_owned(),
            );
        }
    };
    match millis {
        ..=0 => Ok(None),
        _ => Time::from_millis(millis).map(Some).ok_or_else(out_of_range),
    }
}

fn out_of_range() -> String {
    "the date is out of range: it lies between 1970 and 9999-12-30".to_owned()
}

/// What a text says of a time.
enum Stated {
    Instant(Timestamp),
    /// Without its offset from UTC.
    Local(DateTime),
}

impl Stated {
    fn of(text: &str) -> Result<Self, String> {
        if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
            return Self::of_number(text);
        }
        // Both RFCs know GMT, and neither knows what several providers write.
        let text = match text.strip_suffix("UTC") {
            Some(rest) if rest.contains(',') => format!("{rest}+0000"),
            Some(rest) => format!("{}Z", rest.trim_end()),
            None => text.to_owned(),
        };
        let parser = rfc2822::DateTimeParser::new().relaxed_weekday(true);
        if let Some(timestamp) = text.parse().ok().or_else(|| parser.parse_timestamp(&text).ok()) {
            return Ok(Self::Instant(timestamp));
        }
        match Pieces::parse(&text) {
            Ok(pieces) if pieces.offset().is_some() => Err(out_of_range()),
            Ok(pieces) => {
                let midnight = civil::Time::midnight();
                Ok(Self::Local(pieces.date().to_datetime(pieces.time().unwrap_or(midnight))))
            }
            Err(_) => {
                Err("the date is neither RFC 3339, nor RFC 2822, nor seconds since 1970".to_owned())
            }
        }
    }

    /// Seconds, with a fraction too, of 1973 to 2286; with 13 digits, milliseconds; with 8, a day. Others
    /// would be far from everything that is meant.
    fn of_number(text: &str) -> Result<Self, String> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let instant = |millis| {
            Timestamp::from_millisecond(millis).map(Self::Instant).map_err(|_| out_of_range())
        };
        match (whole.len(), whole.parse::<i64>(), format!("{fraction:0<3}")[..3].parse::<i64>()) {
            (_, Ok(0), _) => instant(0),
            (8, ..) if fraction.is_empty() && text.parse::<Date>().is_ok() => {
                text.parse::<Date>().map(|day| Self::Local(day.into())).map_err(|_| out_of_range())
            }
            (9 | 10, Ok(seconds), Ok(thousandths)) => instant(seconds * 1000 + thousandths),
            (13, Ok(millis), _) => instant(millis),
            _ => Err("the date is a number, but neither seconds since 1970 (9 or 10 digits), nor \
                      milliseconds (13), nor a day (as 20271231): write it as 2027-12-31T00:00:00Z"
                .to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_providers_write() {
        for (text, shown) in [
            ("2019-12-17T08:58:33-05:00", "2019-12-17T13:58:33.000Z"),
            ("2024-06-01 12:00:00+00:00", "2024-06-01T12:00:00.000Z"),
            ("2024-06-01 12:00:00 UTC", "2024-06-01T12:00:00.000Z"),
            ("Tue, 07 Jan 2025 19:25:45 UTC", "2025-01-07T19:25:45.000Z"),
            ("Wed, 15 Feb 2012 11:16:31 GMT", "2012-02-15T11:16:31.000Z"),
            ("Fri, 18 Oct 2024 18:28:14 +0200", "2024-10-18T16:28:14.000Z"),
            ("1443651125", "2015-09-30T22:12:05.000Z"),
            ("1443651125.5", "2015-09-30T22:12:05.500Z"),
            ("1443651125123", "2015-09-30T22:12:05.123Z"),
        ] {
            let read = parse(text, false).expect(text).expect("a time");
            assert_eq!(read.to_string(), shown, "{text}");
        }
        for nothing in [
            "",
            " ",
            "0",
            "0.0",
            "0000000000",
            "0001-01-01T00:00:00Z",
            "Mon, 01 Jan 0001 00:00:00 UTC",
        ] {
            assert_eq!(parse(nothing, false), Ok(None), "{nothing}");
        }
    }

    #[test]
    fn a_date_without_offset_is_utc_only_when_that_is_known() {
        for text in ["2024-02-01 09:00:00", "2024-02-01T09:00:00", "2024-02-01", "20240201"] {
            assert!(parse(text, false).is_err_and(|e| e.contains("--utc")), "{text}");
            assert!(parse(text, true).expect(text).is_some_and(|time| time.day() == "2024-02-01"));
        }
        for text in ["soon", "31.12.2024", "1e9", "2024-13-01T00:00:00Z"] {
            assert!(parse(text, true).is_err(), "{text}");
        }
    }

    #[test]
    fn a_number_that_is_no_likely_time_is_refused() {
        for text in [
            "1",
            "2024",
            "20241301",
            "20240201.5",
            "99999999",
            "202402010900",
            "20240201090000",
            ".",
        ] {
            assert!(parse(text, true).is_err_and(|e| e.contains("is a number")), "{text}");
        }
    }

    #[test]
    fn what_lies_behind_the_last_time_is_out_of_range() {
        for text in ["9999-12-31T23:59:59Z", "9999-12-31T23:59:59+00:00", "9999-12-31", "99991231"]
        {
            assert!(parse(text, true).is_err_and(|e| e.contains("out of range")), "{text}");
        }
        assert!(parse("9999-12-30T22:00:00Z", false).is_ok());
    }
}
