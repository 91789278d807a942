//! Dates as signatures and policies write them.

use std::time::Duration;

use crate::{HOUR, MINUTE, Timestamp};

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Returns a time in ISO 8601's basic format: `20260131T235959Z`.
pub(super) fn basic(time: Timestamp) -> String {
    let mut text = seconds(time);
    text.retain(|c| c != '-' && c != ':');
    text
}

/// Returns a time as policies write it: `2026-01-31T23:59:59Z`.
pub(super) fn seconds(time: Timestamp) -> String {
    let whole = Timestamp::from_millis(time.as_millis() / 1_000 * 1_000).to_string();
    whole.replace(".000000", "")
}

/// Parses the basic format.
pub(super) fn parse_basic(text: &str) -> Option<Timestamp> {
    let is_digit_or = |(at, byte): (usize, u8)| match at {
        8 => byte == b'T',
        15 => byte == b'Z',
        _ => byte.is_ascii_digit(),
    };
    if text.len() != 16 || !text.bytes().enumerate().all(is_digit_or) {
        return None;
    }
    let part = |from: usize, to: usize| &text[from..to];
    let date = format!("{}-{}-{}", part(0, 4), part(4, 6), part(6, 8));
    format!("{date}T{}:{}:{}Z", part(9, 11), part(11, 13), part(13, 15)).parse().ok()
}

/// Parses the date of an HTTP header: `Sat, 31 Jan 2026 23:59:59 GMT`.
pub(super) fn parse_http(text: &str) -> Option<Timestamp> {
    let text = text.split_once(',').map_or(text, |(_, rest)| rest);
    let mut words = text.split_ascii_whitespace();
    let [day, month, year, time, zone] = [(); 5].map(|()| words.next());
    let (day, year) = (digits(day?, 1..=2)?, digits(year?, 4..=4)?);
    let month = 1 + MONTHS.iter().position(|name| Some(*name) == month)?;
    if words.next().is_some() || !matches!(zone?, "GMT" | "UTC" | "+0000" | "-0000") {
        return None;
    }
    parse_exact(&format!("{year:04}-{month:02}-{day:02}"), time?)
}

/// Parses a date of a policy: any of the formats that W3C lists, from `2026` to `2026-01-31T23:59:59.5+02:00`, or seconds since 1970.
pub(super) fn parse_policy(text: &str) -> Option<Timestamp> {
    if text.len() != 4 && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds: u64 = text.parse().ok()?;
        return Some(Timestamp::from_millis(seconds.checked_mul(1_000)?));
    }
    let (date, time) = match text.split_once('T') {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let mut parts = date.splitn(3, '-');
    let year = digits(parts.next()?, 4..=4)?;
    let [month, day] = [(); 2].map(|()| parts.next());
    let is_whole = day.is_some();
    let number = |part: Option<&str>| part.map_or(Some(1), |part| digits(part, 2..=2));
    let date = format!("{year:04}-{:02}-{:02}", number(month)?, number(day)?);
    let Some(time) = time else { return parse_exact(&date, "00:00:00") };
    let zone_at = time.find(['Z', '+', '-']).filter(|_| is_whole)?;
    let (time, zone) = time.split_at(zone_at);
    let with_seconds = if time.len() == 5 { format!("{time}:00") } else { time.to_owned() };
    let local = parse_exact(&date, &with_seconds)?;
    let (sign, offset) = zone.split_at(1);
    match sign {
        "Z" => offset.is_empty().then_some(local),
        "+" => Some(local - parse_offset(offset)?),
        _ => Some(local + parse_offset(offset)?),
    }
}

/// Parses a date and a time of UTC.
fn parse_exact(date: &str, time: &str) -> Option<Timestamp> {
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    digits(fraction, 1..=9)?;
    let mut parts = clock.split(':');
    for _ in 0..3 {
        digits(parts.next()?, 2..=2)?;
    }
    if parts.next().is_some() {
        return None;
    }
    format!("{date}T{time}Z").parse().ok()
}

fn parse_offset(text: &str) -> Option<Duration> {
    let (hours, minutes) = text.split_once(':')?;
    let (hours, minutes) = (digits(hours, 2..=2)?, digits(minutes, 2..=2)?);
    (hours < 24 && minutes < 60).then(|| hours * HOUR + minutes * MINUTE)
}

fn digits(text: &str, len: std::ops::RangeInclusive<usize>) -> Option<u32> {
    let is_number = len.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Option<Timestamp> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn the_basic_format_goes_both_ways() {
        let time = at("2026-01-31T23:59:59Z");
        assert_eq!(parse_basic("20260131T235959Z"), time);
        assert_eq!(basic(time.unwrap() + Duration::from_millis(999)), "20260131T235959Z");
        assert_eq!(seconds(time.unwrap() + Duration::from_millis(999)), "2026-01-31T23:59:59Z");
        for wrong in ["", "201", "20260131T235959", "20260131 235959Z", "20260231T000000Z", "2026013éT23595Z"]
        {
            assert_eq!(parse_basic(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_dates_of_http_are_read() {
        let time = at("2026-01-01T02:03:04Z");
        for right in
            ["Thu, 01 Jan 2026 02:03:04 GMT", "Thu, 1 Jan 2026 02:03:04 -0000", "01 Jan 2026 02:03:04 UTC"]
        {
            assert_eq!(parse_http(right), time, "{right}");
        }
        for wrong in
            ["Thu, 01 Jan 2026 02:03:04 PST", "Thu, 01 jan 2026 02:03:04 GMT", "Thu, 01 Jan 2026", "Thu"]
        {
            assert_eq!(parse_http(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_dates_of_policies_are_read() {
        for (text, expected) in [
            ("2026", "2026-01-01T00:00:00Z"),
            ("2026-02", "2026-02-01T00:00:00Z"),
            ("2026-02-03", "2026-02-03T00:00:00Z"),
            ("2026-02-03T04:05Z", "2026-02-03T04:05:00Z"),
            ("2026-02-03T04:05:06Z", "2026-02-03T04:05:06Z"),
            ("2026-02-03T04:05:06.25Z", "2026-02-03T04:05:06.25Z"),
            ("2026-02-03T04:05:06+02:30", "2026-02-03T01:35:06Z"),
            ("2026-02-03T04:05:06-02:30", "2026-02-03T06:35:06Z"),
            ("1767225600", "2026-01-01T00:00:00Z"),
            ("0", "1970-01-01T00:00:00Z"),
        ] {
            assert_eq!(parse_policy(text), at(expected), "{text}");
        }
        for wrong in
            ["", "tomorrow", "2026-13-01", "2026-02-03T04:05", "2026-02T04:05Z", "2026-02-03T4:05:06Z"]
        {
            assert_eq!(parse_policy(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parsers_panic(text in "\\PC{0,40}", similar in "[0-9TZ:.+a-zA-Z é-]{0,30}") {
            for text in [&text, &similar] {
                let _ = (parse_basic(text), parse_http(text), parse_policy(text));
            }
        }

        #[test]
        fn what_is_written_is_read(millis in 0u64..253_402_300_800_000) {
            let time = Timestamp::from_millis(millis / 1_000 * 1_000);
            prop_assert_eq!(parse_basic(&basic(time)), Some(time));
            prop_assert_eq!(parse_policy(&seconds(time)), Some(time));
        }
    }
}
