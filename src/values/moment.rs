//! Dates and times of day from texts, as SQL and RFC 3339 write them.

const MICROS_PER_SECOND: i64 = 1_000_000;
const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;
/// A whole number with this many digits counts milliseconds, not seconds.
const MILLIS_DIGITS_MIN: usize = 13;

/// Returns the microseconds from 1970 to a moment: in the form of RFC 3339, or with a blank instead of the `T`, in UTC unless it has an offset;
/// only a date is its midnight. A number counts seconds, or if it is whole and has 13 digits or more, milliseconds. Digits beyond microseconds
/// are cut off.
pub(crate) fn timestamp(text: &str) -> Option<i64> {
    let mut rest = text.as_bytes();
    let date = if rest.get(4) == Some(&b'-') { take_date(&mut rest) } else { None };
    // A hyphen may also stand in the exponent of a number.
    let Some(days) = date else { return timestamp_of_number(text) };
    let midnight = i64::from(days) * MICROS_PER_DAY;
    let Some((b'T' | b't' | b' ', time)) = rest.split_first() else {
        return rest.is_empty().then_some(midnight);
    };
    rest = time;
    let time = take_time(&mut rest)?;
    Some(midnight + time - take_offset(rest)?)
}

/// Returns the days from 1970 to a date, or to that of a moment in UTC.
#[cfg(any(feature = "sql", test))]
pub(crate) fn date(text: &str) -> Option<i32> {
    let mut rest = text.as_bytes();
    let days = take_date(&mut rest)?;
    if rest.is_empty() {
        return Some(days);
    }
    i32::try_from(timestamp(text)?.div_euclid(MICROS_PER_DAY)).ok()
}

/// Returns the nanoseconds from midnight to a time of day, which is read to the microsecond.
#[cfg(any(feature = "sql", test))]
pub(crate) fn time_of_day(text: &str) -> Option<i64> {
    let mut rest = text.as_bytes();
    let micros = take_time(&mut rest)?;
    rest.is_empty().then_some(micros * 1_000)
}

fn timestamp_of_number(text: &str) -> Option<i64> {
    if let Ok(number) = text.parse::<i64>() {
        let digits = text.trim_start_matches(['+', '-']).len();
        let unit = if digits >= MILLIS_DIGITS_MIN { 1_000 } else { MICROS_PER_SECOND };
        return number.checked_mul(unit);
    }
    let micros = (text.parse::<f64>().ok()? * 1e6).round();
    (micros.abs() < i64::MAX as f64).then_some(micros as i64)
}

/// Takes two digits.
fn take_pair(rest: &mut &[u8]) -> Option<u32> {
    let (&[tens, ones], behind) = rest.split_first_chunk()?;
    *rest = behind;
    (tens.is_ascii_digit() && ones.is_ascii_digit())
        .then(|| u32::from(tens - b'0') * 10 + u32::from(ones - b'0'))
}

fn take_byte(rest: &mut &[u8], byte: u8) -> Option<()> {
    *rest = rest.strip_prefix(&[byte])?;
    Some(())
}

/// Takes `2026-03-01`, and returns the days from 1970 to it.
fn take_date(rest: &mut &[u8]) -> Option<i32> {
    let year = take_pair(rest)? * 100 + take_pair(rest)?;
    take_byte(rest, b'-')?;
    let month = take_pair(rest)?;
    take_byte(rest, b'-')?;
    let day = take_pair(rest)?;
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let day_max = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u32::from(is_leap),
        _ => return None,
    };
    if !(1..=day_max).contains(&day) {
        return None;
    }
    // Years that begin in March have the day of leap years at their end.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year + 399, month + 9) };
    let year_days = year * 365 + year / 4 - year / 100 + year / 400;
    let days = (year_days + (month * 153 + 2) / 5 + day - 1) as i32;
    // The days from March of the year 0 to 1970; and those of 400 years, which keep January of the year 0 from being negative.
    const EPOCH: i32 = 719_468;
    const CYCLE: i32 = 146_097;
    Some(days - EPOCH - if month >= 10 { CYCLE } else { 0 })
}

/// Takes `12:00`, `12:00:00` or `12:00:00.000000`, and returns the microseconds from midnight to it. A leap second is the one before it.
fn take_time(rest: &mut &[u8]) -> Option<i64> {
    let hour = take_pair(rest)?;
    take_byte(rest, b':')?;
    let minute = take_pair(rest)?;
    let mut second = 0;
    let mut micros = 0;
    if take_byte(rest, b':').is_some() {
        second = take_pair(rest)?;
        if take_byte(rest, b'.').is_some() {
            micros = take_fraction(rest)?;
        }
    }
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = i64::from(hour * 3_600 + minute * 60 + second.min(59));
    Some(seconds * MICROS_PER_SECOND + micros)
}

fn take_fraction(rest: &mut &[u8]) -> Option<i64> {
    let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, behind) = rest.split_at(count);
    *rest = behind;
    let mut unit = MICROS_PER_SECOND;
    let micros = digits.iter().take(6).fold(0, |micros, digit| {
        unit /= 10;
        micros + i64::from(digit - b'0') * unit
    });
    (count > 0).then_some(micros)
}

/// Takes `Z`, `+01:00`, `+0100`, `+01` or nothing, up to the end, and returns the microseconds that it is ahead of UTC.
fn take_offset(mut rest: &[u8]) -> Option<i64> {
    let is_behind = match rest.split_first() {
        None | Some((b'Z' | b'z', [])) => return Some(0),
        Some((b'+', _)) => false,
        Some((b'-', _)) => true,
        _ => return None,
    };
    rest = &rest[1..];
    let hours = take_pair(&mut rest)?;
    let mut minutes = 0;
    if !rest.is_empty() {
        let _ = take_byte(&mut rest, b':');
        minutes = take_pair(&mut rest)?;
    }
    if !rest.is_empty() || hours > 23 || minutes > 59 {
        return None;
    }
    let micros = i64::from(hours * 60 + minutes) * 60 * MICROS_PER_SECOND;
    Some(if is_behind { -micros } else { micros })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn moments_are_read_in_all_their_forms() {
        let noon = 1_772_366_400_000_000;
        for (text, micros) in [
            ("2026-03-01T12:00:00Z", noon),
            ("2026-03-01t12:00:00z", noon),
            ("2026-03-01 12:00:00", noon),
            ("2026-03-01 12:00", noon),
            ("2026-03-01T13:30:00+01:30", noon),
            ("2026-03-01T07:00-05", noon),
            ("2026-03-01T07:00:00-0500", noon),
            ("2026-03-01T12:00:00.5Z", noon + 500_000),
            ("2026-03-01T12:00:00.123456789Z", noon + 123_456),
            ("2026-03-01", noon - MICROS_PER_DAY / 2),
            ("1772366400", noon),
            ("1772366400.25", noon + 250_000),
            ("1772366400000", noon),
            ("1.7723664e9", noon),
            ("1.5e-3", 1_500),
            ("150e-2", 1_500_000),
            ("-1", -1_000_000),
            ("1970-01-01T00:00:00Z", 0),
            ("1969-12-31T23:59:59.9Z", -100_000),
            ("2000-02-29T00:00:00Z", 951_782_400_000_000),
            ("2016-12-31T23:59:60Z", 1_483_228_799_000_000),
            ("0000-01-01T00:00:00Z", -62_167_219_200_000_000),
            ("9999-12-31T23:59:59.999999Z", 253_402_300_799_999_999),
        ] {
            assert_eq!(timestamp(text), Some(micros), "{text}");
        }
        for text in [
            "",
            "now",
            "20260301x",
            "2026-02-29",
            "2026-13-01",
            "2026-00-01",
            "2026-04-31",
            "2026-03-01T",
            "2026-03-01T24:00:00",
            "2026-03-01T12:60",
            "2026-03-01T12:00:61",
            "2026-03-01T12:00:00.",
            "2026-03-01T12:00:00X",
            "2026-03-01T12:00:00+24:00",
            "2026-03-01T12:00:00+1",
            "2026-03-01T12:00:00Z ",
            "2026-3-1",
            "1e300",
            "NaN",
            "99999999999999999",
            "202é-03-01",
        ] {
            assert_eq!(timestamp(text), None, "{text}");
        }
    }

    #[test]
    fn dates_and_times_of_day_are_read() {
        assert_eq!(date("1970-01-02"), Some(1));
        assert_eq!(date("1969-12-31"), Some(-1));
        assert_eq!(date("1970-01-02T00:30:00+01:00"), Some(0), "it is the day in UTC");
        assert_eq!(date("1"), None);
        assert_eq!(date("1970-01-02x"), None);
        assert_eq!(time_of_day("01:02:03.000004"), Some(3_723_000_004_000));
        assert_eq!(time_of_day("23:59"), Some(86_340_000_000_000));
        assert_eq!(time_of_day("1:00"), None);
        assert_eq!(time_of_day("01:00Z"), None);
    }

    proptest! {
        #[test]
        fn days_follow_each_other(days in -719_528_i32..2_932_896) {
            let text = wall_date(days);
            prop_assert_eq!(date(&text), Some(days), "{}", text);
        }

        #[test]
        fn l6_any_text_is_a_moment_or_none(text in "[0-9TtZz:.+ -]{0,40}") {
            let _ = (timestamp(&text), date(&text), time_of_day(&text));
        }
    }

    /// Counts days month by month, as on the wall.
    fn wall_date(days: i32) -> String {
        let (mut year, mut left) = (1970, days);
        let is_leap = |year: i32| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let year_days = |year: i32| 365 + i32::from(is_leap(year));
        while left < 0 {
            year -= 1;
            left += year_days(year);
        }
        while left >= year_days(year) {
            left -= year_days(year);
            year += 1;
        }
        let february = 28 + i32::from(is_leap(year));
        let mut month = 1;
        for month_days in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
            if left < month_days {
                break;
            }
            left -= month_days;
            month += 1;
        }
        format!("{year:04}-{month:02}-{:02}", left + 1)
    }
}
