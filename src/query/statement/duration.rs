//! Intervals of statements as durations.

use std::time::Duration;

use datafusion::sql::sqlparser::ast::{
    DateTimeField, Expr, Ident, Interval, UnaryOperator, Value, ValueWithSpan,
};

use super::problem::{Problem, Result};

/// The longest interval: a hundred years. Sums of some of them still fit times in microseconds.
const MILLISECONDS_MAX: i64 = 100 * 366 * 24 * 60 * 60 * 1_000;

/// The length of `INTERVAL '1' MINUTE` and the like.
pub(super) fn duration(expr: &Expr) -> Result<Duration> {
    let milliseconds = signed_milliseconds(expr)?;
    let Ok(milliseconds) = u64::try_from(milliseconds) else {
        return Err(
            Problem::new(expr, "the interval is negative").hint("write a positive one: INTERVAL '1' MINUTE")
        );
    };
    Ok(Duration::from_millis(milliseconds))
}

/// The length of an interval that is not zero.
pub(super) fn positive(expr: &Expr) -> Result<Duration> {
    let duration = duration(expr)?;
    if duration.is_zero() {
        return Err(
            Problem::new(expr, "the interval is empty").hint("write a longer one: INTERVAL '1' MINUTE")
        );
    }
    Ok(duration)
}

/// How far windows are shifted, possibly backwards, as the remainder within `size`.
pub(super) fn offset(expr: &Expr, size: Duration) -> Result<Duration> {
    let size = i64::try_from(size.as_millis()).unwrap_or(MILLISECONDS_MAX).max(1);
    let offset = signed_milliseconds(expr)?.rem_euclid(size);
    Ok(Duration::from_millis(offset.unsigned_abs()))
}

/// The length of an interval, which may be negative.
pub(super) fn signed_milliseconds(expr: &Expr) -> Result<i64> {
    let bad = |message: String| Problem::new(expr, message).hint("write it as INTERVAL '1' MINUTE");
    let Expr::Interval(interval) = expr else {
        return Err(bad(format!("{expr} is no interval")));
    };
    if interval.last_field.is_some() {
        let message = format!("{interval} mixes units");
        return Err(bad(message).hint("write it in one unit: INTERVAL '90' SECOND"));
    }
    let (text, sign) = match &*interval.value {
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => (literal(expr), -1),
        value => (literal(value), 1),
    };
    let Some(text) = text else { return Err(bad(format!("{} is no fixed length", interval.value))) };
    let parts = match &interval.leading_field {
        Some(field) => vec![(text.clone(), field_unit(field).map(str::to_owned))],
        None => units_in(&text),
    };
    let mut sum: i64 = 0;
    for (number, unit) in parts {
        let Some(unit) = unit else { return Err(bad(format!("{interval} has no unit that is known"))) };
        let Some(length) = unit_milliseconds(&unit) else {
            let message = format!("a {unit} has no fixed length");
            return Err(bad(message).hint("write it in days: INTERVAL '30' DAY"));
        };
        let Some(part) = times(&number, length) else {
            return Err(bad(format!("'{number}' is no number of {unit}s in whole milliseconds")));
        };
        sum = sum.saturating_add(part);
    }
    if sum.abs() > MILLISECONDS_MAX {
        return Err(
            Problem::new(expr, "the interval is longer than a hundred years").hint("write a shorter one")
        );
    }
    Ok(sign * sum)
}

fn literal(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }) => {
            Some(text.trim().to_owned())
        }
        Expr::Value(ValueWithSpan { value: Value::Number(text, _), .. }) => Some(text.clone()),
        _ => None,
    }
}

/// The numbers and units of `'1 minute'` and `'1 hour 30 minutes'`.
fn units_in(text: &str) -> Vec<(String, Option<String>)> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let unit = |word: &str| unit_name(word).map(str::to_owned);
    words.chunks(2).map(|pair| (pair[0].to_owned(), pair.get(1).and_then(|word| unit(word)))).collect()
}

/// A decimal number times a length, if it is whole.
fn times(number: &str, length: i64) -> Option<i64> {
    let (sign, digits) = match number.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, number),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !(is_number(whole) && is_number(fraction)) || whole.is_empty() || fraction.len() > 9 {
        return None;
    }
    let part = match fraction {
        "" => 0,
        digits => {
            let scale = 10_i64.pow(u32::try_from(digits.len()).ok()?);
            let part = digits.parse::<i64>().ok()?.checked_mul(length)?;
            (part % scale == 0).then_some(part / scale)?
        }
    };
    whole.parse::<i64>().ok()?.checked_mul(length)?.checked_add(part)?.checked_mul(sign)
}

fn unit_name(word: &str) -> Option<&'static str> {
    Some(match &*word.to_lowercase() {
        "ms" | "millisecond" | "milliseconds" => "millisecond",
        "s" | "second" | "seconds" => "second",
        "minute" | "minutes" => "minute",
        "h" | "hour" | "hours" => "hour",
        "d" | "day" | "days" => "day",
        "w" | "week" | "weeks" => "week",
        "month" | "months" => "month",
        "quarter" | "quarters" => "quarter",
        "year" | "years" => "year",
        _ => return None,
    })
}

/// The name of a unit of time, if it can be the length of windows.
pub(super) fn field_unit(field: &DateTimeField) -> Option<&'static str> {
    match field {
        DateTimeField::Week(None) => Some("week"),
        DateTimeField::Custom(Ident { value, .. }) => unit_name(value),
        field => unit_name(&field.to_string()),
    }
}

/// The length of a unit, unless it depends on the calendar.
pub(super) fn unit_milliseconds(unit: &str) -> Option<i64> {
    Some(match unit {
        "millisecond" => 1,
        "second" => 1_000,
        "minute" => 60_000,
        "hour" => 3_600_000,
        "day" => 86_400_000,
        "week" => 7 * 86_400_000,
        _ => return None,
    })
}

/// An interval as DataFusion reads it.
pub(super) fn interval(microseconds: u128) -> Expr {
    let (number, unit) = match microseconds {
        whole if whole.is_multiple_of(1_000) => (whole / 1_000, "milliseconds"),
        parts => (parts, "microseconds"),
    };
    let value = Value::SingleQuotedString(format!("{number} {unit}"));
    Expr::Interval(Interval {
        value: Box::new(Expr::Value(value.into())),
        leading_field: None,
        leading_precision: None,
        last_field: None,
        fractional_seconds_precision: None,
    })
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    fn parsed(text: &str) -> Expr {
        Parser::new(&GenericDialect {}).try_with_sql(text).unwrap().parse_expr().unwrap()
    }

    #[test]
    fn intervals_are_read_in_all_their_spellings() {
        let cases = [
            ("INTERVAL '60' SECOND", 60_000),
            ("INTERVAL '1' MINUTE", 60_000),
            ("INTERVAL '10' MINUTES", 600_000),
            ("INTERVAL '1 hour 30 minutes'", 5_400_000),
            ("INTERVAL '1.5' SECOND", 1_500),
            ("INTERVAL '2' DAY", 172_800_000),
            ("INTERVAL 5 MINUTE", 300_000),
            ("INTERVAL '250 ms'", 250),
            ("INTERVAL '1' WEEK", 604_800_000),
        ];
        for (text, milliseconds) in cases {
            assert_eq!(duration(&parsed(text)), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn what_is_no_fixed_length_is_refused() {
        let cases = [
            ("INTERVAL '1' MONTH", "a month has no fixed length"),
            ("INTERVAL '1:30' MINUTE TO SECOND", "INTERVAL '1:30' MINUTE TO SECOND mixes units"),
            ("INTERVAL '-1' MINUTE", "the interval is negative"),
            ("INTERVAL '1'", "INTERVAL '1' has no unit that is known"),
            ("INTERVAL '0.0001' SECOND", "'0.0001' is no number of seconds in whole milliseconds"),
            (
                "INTERVAL '99999999999999999' DAY",
                "'99999999999999999' is no number of days in whole milliseconds",
            ),
            ("INTERVAL '40000' DAY", "the interval is longer than a hundred years"),
            ("60", "60 is no interval"),
        ];
        for (text, message) in cases {
            assert_eq!(duration(&parsed(text)).unwrap_err().message, message, "{text}");
        }
    }

    #[test]
    fn an_offset_is_what_is_left_within_the_size() {
        let left = |text| offset(&parsed(text), Duration::from_secs(600)).unwrap().as_secs();
        assert_eq!(left("INTERVAL '1' MINUTE"), 60);
        assert_eq!(left("INTERVAL '-16' MINUTE"), 240);
        assert_eq!(left("INTERVAL '20' MINUTE"), 0);
    }
}
