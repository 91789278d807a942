//! Patterns of times, in the language of Java's `DateTimeFormatter`, as far as it does not depend on a language or a country.

use std::fmt::Write as _;

use jiff::ZonedDateTime;
use jiff::civil::Weekday;

/// A pattern that was parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TimePattern(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    /// A field, and how many letters it was written with.
    Field(Field, usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Era,
    Year,
    Quarter,
    Month,
    DayOfYear,
    Day,
    DayOfWeek,
    AmOrPm,
    Hour,
    /// 1 to 24.
    ClockHour,
    /// 0 to 11.
    HourOfHalf,
    /// 1 to 12.
    ClockHourOfHalf,
    Minute,
    Second,
    Fraction,
    NanoOfSecond,
    MilliOfDay,
    ZoneId,
    /// `Z` for UTC.
    OffsetOrZ,
    Offset,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// The longest field.
const LETTERS_MAX: usize = 19;

impl TimePattern {
    /// Parses a pattern. The error is a sentence for the caller.
    pub(super) fn parse(pattern: &str) -> Result<Self, String> {
        if pattern.is_empty() {
            return Err("the pattern of a time is empty".into());
        }
        let mut pieces = vec![];
        let chars: Vec<char> = pattern.chars().collect();
        let mut at = 0;
        while at < chars.len() {
            let char = chars[at];
            let count = chars[at..].iter().take_while(|&&other| other == char).count();
            match char {
                '\'' => {
                    let (text, behind) = quoted(&chars, at, pattern)?;
                    push(&mut pieces, &text);
                    at = behind;
                    continue;
                }
                'a'..='z' | 'A'..='Z' => pieces.push(Piece::Field(field(char, count, pattern)?, count)),
                '{' | '}' | '#' | '[' | ']' => {
                    return Err(format!("{char:?} in the pattern {pattern:?} has no meaning: quote it"));
                }
                _ => push(&mut pieces, &char.to_string().repeat(count)),
            }
            at += count;
        }
        Ok(Self(pieces))
    }

    /// Writes a time.
    pub(super) fn write(&self, time: &ZonedDateTime, to: &mut String) {
        for piece in &self.0 {
            match piece {
                Piece::Literal(text) => to.push_str(text),
                Piece::Field(field, count) => write_field(*field, *count, time, to),
            }
        }
    }
}

fn push(pieces: &mut Vec<Piece>, text: &str) {
    match pieces.last_mut() {
        Some(Piece::Literal(before)) => before.push_str(text),
        _ => pieces.push(Piece::Literal(text.to_owned())),
    }
}

/// Returns the text in quotes that begins at a place, and the place behind it. Two quotes are one.
fn quoted(chars: &[char], at: usize, pattern: &str) -> Result<(String, usize), String> {
    if chars.get(at + 1) == Some(&'\'') {
        return Ok(("'".into(), at + 2));
    }
    let mut text = String::new();
    let mut next = at + 1;
    loop {
        match (chars.get(next), chars.get(next + 1)) {
            (Some('\''), Some('\'')) => {
                text.push('\'');
                next += 2;
            }
            (Some('\''), _) => return Ok((text, next + 1)),
            (Some(&char), _) => {
                text.push(char);
                next += 1;
            }
            (None, _) => return Err(format!("a quote in the pattern {pattern:?} has no end")),
        }
    }
}

fn field(letter: char, count: usize, pattern: &str) -> Result<Field, String> {
    let (field, count_max) = match letter {
        'G' => (Field::Era, 5),
        'y' | 'u' => (Field::Year, LETTERS_MAX),
        'Q' | 'q' => (Field::Quarter, 4),
        'M' | 'L' => (Field::Month, 5),
        'D' => (Field::DayOfYear, 3),
        'd' => (Field::Day, 2),
        'E' => (Field::DayOfWeek, 5),
        'a' => (Field::AmOrPm, 1),
        'H' => (Field::Hour, 2),
        'k' => (Field::ClockHour, 2),
        'K' => (Field::HourOfHalf, 2),
        'h' => (Field::ClockHourOfHalf, 2),
        'm' => (Field::Minute, 2),
        's' => (Field::Second, 2),
        'S' => (Field::Fraction, 9),
        'n' => (Field::NanoOfSecond, LETTERS_MAX),
        'A' => (Field::MilliOfDay, LETTERS_MAX),
        'V' => (Field::ZoneId, 2),
        'X' => (Field::OffsetOrZ, 3),
        'x' | 'Z' => (Field::Offset, 3),
        _ => {
            return Err(format!(
                "{letter:?} in the pattern {pattern:?} is no field of a time, or one that depends on a language or a country"
            ));
        }
    };
    if count > count_max || letter == 'V' && count != 2 {
        return Err(format!("{letter:?} stands {count} times in the pattern {pattern:?}"));
    }
    Ok(field)
}

fn write_field(field: Field, count: usize, time: &ZonedDateTime, to: &mut String) {
    let (hour, minute, second) = (time.hour(), time.minute(), time.second());
    let number = |to: &mut String, value: i64| _ = write!(to, "{value:0count$}");
    match field {
        Field::Era => to.push_str(match count {
            4 => "Anno Domini",
            5 => "A",
            _ => "AD",
        }),
        Field::Year if count == 2 => _ = write!(to, "{:02}", time.year() % 100),
        Field::Year => number(to, time.year().into()),
        Field::Quarter => {
            let quarter = (time.month() - 1) / 3 + 1;
            match count {
                1 | 2 => number(to, quarter.into()),
                3 => _ = write!(to, "Q{quarter}"),
                _ => to.push_str(
                    ["1st quarter", "2nd quarter", "3rd quarter", "4th quarter"][quarter as usize - 1],
                ),
            }
        }
        Field::Month => name_or_number(time.month().into(), MONTHS[time.month() as usize - 1], count, to),
        Field::DayOfYear => number(to, time.day_of_year().into()),
        Field::Day => number(to, time.day().into()),
        Field::DayOfWeek => name_or_number(0, weekday(time.weekday()), count.max(3), to),
        Field::AmOrPm => to.push_str(if hour < 12 { "AM" } else { "PM" }),
        Field::Hour => number(to, hour.into()),
        Field::ClockHour => number(to, if hour == 0 { 24 } else { hour.into() }),
        Field::HourOfHalf => number(to, (hour % 12).into()),
        Field::ClockHourOfHalf => number(to, if hour % 12 == 0 { 12 } else { (hour % 12).into() }),
        Field::Minute => number(to, minute.into()),
        Field::Second => number(to, second.into()),
        Field::Fraction => to.push_str(&format!("{:09}", time.subsec_nanosecond())[..count]),
        Field::NanoOfSecond => number(to, time.subsec_nanosecond().into()),
        Field::MilliOfDay => {
            let seconds = (i64::from(hour) * 60 + i64::from(minute)) * 60 + i64::from(second);
            number(to, seconds * 1_000 + i64::from(time.subsec_nanosecond()) / 1_000_000);
        }
        Field::ZoneId => to.push_str(time.time_zone().iana_name().unwrap_or("Z")),
        Field::OffsetOrZ | Field::Offset => write_offset(field, count, time.offset().seconds(), to),
    }
}

fn name_or_number(number: i64, name: &str, count: usize, to: &mut String) {
    match count {
        1 | 2 => _ = write!(to, "{number:0count$}"),
        3 => to.push_str(&name[..3]),
        4 => to.push_str(name),
        _ => to.push_str(&name[..1]),
    }
}

fn weekday(day: Weekday) -> &'static str {
    match day {
        Weekday::Monday => "Monday",
        Weekday::Tuesday => "Tuesday",
        Weekday::Wednesday => "Wednesday",
        Weekday::Thursday => "Thursday",
        Weekday::Friday => "Friday",
        Weekday::Saturday => "Saturday",
        Weekday::Sunday => "Sunday",
    }
}

/// Writes `+01`, `+0100` or `+01:00`. `X` and `x` with one letter leave out minutes that are 0; `Z` has four digits.
fn write_offset(field: Field, count: usize, seconds: i32, to: &mut String) {
    if seconds == 0 && field == Field::OffsetOrZ {
        to.push('Z');
        return;
    }
    let sign = if seconds < 0 { '-' } else { '+' };
    let minutes = seconds.unsigned_abs() / 60;
    let (hours, minutes) = (minutes / 60, minutes % 60);
    let _ = match (field, count) {
        (Field::OffsetOrZ, 1) if minutes == 0 => write!(to, "{sign}{hours:02}"),
        (Field::OffsetOrZ, 3) => write!(to, "{sign}{hours:02}:{minutes:02}"),
        _ => write!(to, "{sign}{hours:02}{minutes:02}"),
    };
}
