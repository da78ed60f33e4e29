//! Dates as providers write them.

use jiff::civil::{Date, DateTime};
use jiff::fmt::rfc2822;
use jiff::tz::TimeZone;

use crate::ledger::Time;

/// The time that a text states, in whichever way: RFC 3339 (with a blank for the T too), RFC 2822, or
/// seconds or milliseconds since 1970. What lies before 1970 is some program's way to say nothing.
///
/// # Errors
///
/// When it is none of these, or lacks its offset where that is not known to be UTC's.
pub(super) fn parse(text: &str, is_utc: bool) -> Result<Option<Time>, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let millis = since_1970(text)
        .or_else(|| with_offset(text))
        .or_else(|| without_offset(text).filter(|_| is_utc));
    match millis {
        Some(millis) if millis <= 0 => Ok(None),
        Some(millis) => {
            Time::from_millis(millis).map(Some).ok_or_else(|| "the date is out of range".to_owned())
        }
        None if without_offset(text).is_some() => {
            Err("the date lacks its offset from UTC: add it, or say with --utc that it is UTC"
                .to_owned())
        }
        None => {
            Err("the date is neither RFC 3339, nor RFC 2822, nor seconds since 1970".to_owned())
        }
    }
}

/// Seconds, with a fraction too; from 13 digits on, milliseconds.
fn since_1970(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if whole.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit())
    {
        return None;
    }
    let number: i64 = whole.parse().ok()?;
    if whole.len() >= 13 {
        return Some(number);
    }
    let thousandths: i64 = format!("{fraction:0<3}")[..3].parse().ok()?;
    number.checked_mul(1000)?.checked_add(thousandths)
}

fn with_offset(text: &str) -> Option<i64> {
    // Both RFCs know GMT, and neither knows what several providers write.
    let text = match text.strip_suffix("UTC") {
        Some(rest) if rest.contains(',') => format!("{rest}+0000"),
        Some(rest) => format!("{}Z", rest.trim_end()),
        None => text.to_owned(),
    };
    let timestamp = text.parse().ok().or_else(|| {
        rfc2822::DateTimeParser::new().relaxed_weekday(true).parse_timestamp(&text).ok()
    });
    timestamp.map(jiff::Timestamp::as_millisecond)
}

fn without_offset(text: &str) -> Option<i64> {
    let time: DateTime = match text.parse::<Date>() {
        Ok(date) if text.len() <= 10 => date.into(),
        _ => text.parse().ok()?,
    };
    TimeZone::UTC.to_timestamp(time).ok().map(jiff::Timestamp::as_millisecond)
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
        for nothing in ["", " ", "0", "Mon, 01 Jan 0001 00:00:00 UTC"] {
            assert_eq!(parse(nothing, false), Ok(None), "{nothing}");
        }
    }

    #[test]
    fn a_date_without_offset_is_utc_only_when_that_is_known() {
        for text in ["2024-02-01 09:00:00", "2024-02-01T09:00:00", "2024-02-01"] {
            assert!(parse(text, false).is_err_and(|e| e.contains("--utc")), "{text}");
            assert!(parse(text, true).expect(text).is_some_and(|time| time.day() == "2024-02-01"));
        }
        for text in ["soon", "31.12.2024", "1e9", "2024-13-01T00:00:00Z"] {
            assert!(parse(text, true).is_err(), "{text}");
        }
    }
}
