//! How JSON becomes values of columns: with the coercions of the OpenX JSON SerDe, and a reason if it does not.

use std::borrow::Cow;
use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde_json::value::RawValue;

use super::schema::{ParquetSchema, ParquetType};
use crate::Written;
use crate::delivery::json;

/// A whole number with so many digits counts milliseconds, not seconds.
const MILLIS_DIGITS_MIN: usize = 13;
/// The bytes of a value that a reason shows.
const FOUND_BYTES_MAX: usize = 100;

/// Which member of an object belongs to which column.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    pub(super) is_case_insensitive: bool,
    pub(super) dots_to_underscores: bool,
    /// The keys of columns that have another name.
    pub(super) by_column: HashMap<String, String>,
}

impl Keys {
    pub(super) fn folded<'a>(&self, key: &'a str) -> Cow<'a, str> {
        let key = match self.dots_to_underscores && key.contains('.') {
            true => Cow::Owned(key.replace('.', "_")),
            false => Cow::Borrowed(key),
        };
        match self.is_case_insensitive
            && key.bytes().any(|byte| byte.is_ascii_uppercase() || !byte.is_ascii())
        {
            true => Cow::Owned(key.to_lowercase()),
            false => key,
        }
    }

    /// Returns the key that a column has after folding.
    pub(super) fn of_column(&self, column: &str) -> String {
        let key = self.by_column.get(column).map_or(column, String::as_str);
        self.folded(key).into_owned()
    }

    /// Returns the keys of the fields of structs, which are not mapped.
    fn of_struct(&self) -> Self {
        Self { by_column: HashMap::new(), ..self.clone() }
    }
}

/// The columns of an object, or the fields of a struct in it.
#[derive(Debug)]
pub(super) struct Shape {
    keys: Keys,
    fields: Vec<Field>,
    by_key: HashMap<String, usize>,
    /// For each column the key that no other name and no other column has.
    in_order: Vec<Option<String>>,
}

#[derive(Debug)]
struct Field {
    /// The names on the way to it, with dots between them.
    path: String,
    of: ParquetType,
    inner: Inner,
    is_required: bool,
}

#[derive(Debug)]
enum Inner {
    None,
    Items(Box<Field>),
    Fields(Shape),
}

/// A value of a column.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell<'a> {
    Null,
    Bool(bool),
    Int32(i32),
    Int64(i64),
    Float(f32),
    Double(f64),
    Decimal(i128),
    Text(Cow<'a, str>),
    Bytes(Vec<u8>),
    List(Vec<Cell<'a>>),
    Struct(Vec<Cell<'a>>),
}

impl Shape {
    pub(super) fn new(schema: &ParquetSchema, keys: Keys) -> Self {
        Self::within("", schema, keys)
    }

    fn within(prefix: &str, schema: &ParquetSchema, keys: Keys) -> Self {
        let columns = schema.columns.iter();
        let by_key = columns.clone().zip(0..).map(|(column, index)| (keys.of_column(&column.name), index));
        let field = |column: &super::schema::Column| {
            Field::new(format!("{prefix}{}", column.name), &column.of, column.is_required, &keys)
        };
        let by_key: HashMap<_, _> = by_key.collect();
        // A name that is not its own key belongs to no column before it is folded.
        let in_order = columns.clone().zip(0..).map(|(column, index)| {
            let key = keys.of_column(&column.name);
            (by_key[&key] == index && keys.folded(&key) == key).then_some(key)
        });
        let in_order = in_order.collect();
        Self { by_key, in_order, fields: columns.map(field).collect(), keys }
    }

    /// Returns the column that a member goes into. `likely` is tried first: most records have their members in the order of the columns.
    fn column(&self, key: &str, likely: usize) -> Option<usize> {
        match self.in_order.get(likely) {
            Some(Some(of_likely)) if of_likely == key => Some(likely),
            _ => self.by_key.get(&*self.keys.folded(key)).copied(),
        }
    }

    /// Returns the values of the columns in an object. The error says which column does not fit.
    pub(super) fn cells<'a>(&self, data: &'a [u8]) -> Result<Vec<Cell<'a>>, String> {
        let mut values = vec![None; self.fields.len()];
        let mut likely = 0;
        json::find_members(data, |key, value| {
            if let Some(column) = self.column(key, likely) {
                values[column] = Some(value);
                likely = column + 1;
            }
        })?;
        self.fields.iter().zip(values).map(|(field, value)| field.cell(value)).collect()
    }
}

impl Field {
    fn new(path: String, of: &ParquetType, is_required: bool, keys: &Keys) -> Self {
        let inner = match of {
            ParquetType::List(items) => {
                Inner::Items(Box::new(Self::new(format!("{path}[]"), items, false, keys)))
            }
            ParquetType::Struct(fields) => {
                Inner::Fields(Shape::within(&format!("{path}."), fields, keys.of_struct()))
            }
            _ => Inner::None,
        };
        Self { path, of: of.clone(), inner, is_required }
    }

    fn cell<'a>(&self, value: Option<Written<'a>>) -> Result<Cell<'a>, String> {
        let Some(value) = value.filter(|value| !value.is_null()) else {
            let found = if value.is_some() { "null" } else { "nothing" };
            return if self.is_required { Err(self.refused(found)) } else { Ok(Cell::Null) };
        };
        match &self.inner {
            Inner::None => self.scalar(value).ok_or_else(|| self.refused(value.text)),
            Inner::Items(items) => {
                let values: Vec<&RawValue> =
                    serde_json::from_str(value.text).map_err(|_| self.refused(value.text))?;
                let cells = values.into_iter().map(|value| items.cell(Some(json::written(value))));
                cells.collect::<Result<_, _>>().map(Cell::List)
            }
            Inner::Fields(_) if !value.text.starts_with('{') => Err(self.refused(value.text)),
            Inner::Fields(fields) => fields.cells(value.text.as_bytes()).map(Cell::Struct),
        }
    }

    fn refused(&self, found: &str) -> String {
        let mut ends = (0..=FOUND_BYTES_MAX.min(found.len())).rev();
        let end = ends.find(|&end| found.is_char_boundary(end)).unwrap_or_default();
        let rest = if end < found.len() { "…" } else { "" };
        format!("column {}: expected {}, found {}{rest}", self.path, self.of, &found[..end])
    }

    fn scalar<'a>(&self, value: Written<'a>) -> Option<Cell<'a>> {
        let text = value.decode().ok()?;
        Some(match self.of {
            ParquetType::String => Cell::Text(text),
            ParquetType::Bytes if value.is_text() => Cell::Bytes(STANDARD.decode(text.as_bytes()).ok()?),
            ParquetType::Bytes => return None,
            ParquetType::Bool => Cell::Bool(bool(text.trim())?),
            ParquetType::Int32 => Cell::Int32(whole(text.trim())?.try_into().ok()?),
            ParquetType::Int64 => Cell::Int64(whole(text.trim())?),
            ParquetType::Float => {
                let number: f32 = text.trim().parse().ok()?;
                (!is_too_large(number.is_infinite(), &text)).then_some(Cell::Float(number))?
            }
            ParquetType::Double => {
                let number: f64 = text.trim().parse().ok()?;
                (!is_too_large(number.is_infinite(), &text)).then_some(Cell::Double(number))?
            }
            ParquetType::Timestamp => Cell::Int64(micros(text.trim())?),
            ParquetType::Decimal { precision, scale } => {
                Cell::Decimal(decimal(text.trim(), precision, scale)?)
            }
            ParquetType::List(_) | ParquetType::Struct(_) => return None,
        })
    }
}

fn bool(text: &str) -> Option<bool> {
    match text {
        "1" => Some(true),
        "0" => Some(false),
        _ if text.eq_ignore_ascii_case("true") => Some(true),
        _ if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

fn whole(text: &str) -> Option<i64> {
    text.parse().ok().or_else(|| {
        let number: f64 = text.parse().ok()?;
        // Beyond, numbers are not exact.
        (number.fract() == 0.0 && number.abs() <= (1i64 << 53) as f64).then_some(number as i64)
    })
}

/// Returns whether a number has become infinite that was not written so.
fn is_too_large(is_infinite: bool, text: &str) -> bool {
    is_infinite && text.bytes().any(|byte| byte.is_ascii_digit())
}

/// Returns the microseconds from 1970 to a moment.
fn micros(text: &str) -> Option<i64> {
    if let Ok(number) = text.parse::<i64>() {
        let digits = text.trim_start_matches(['+', '-']).len();
        return number.checked_mul(if digits >= MILLIS_DIGITS_MIN { 1_000 } else { 1_000_000 });
    }
    if let Ok(seconds) = text.parse::<f64>() {
        let micros = (seconds * 1e6).round();
        return (micros.abs() < i64::MAX as f64).then_some(micros as i64);
    }
    let moment = text.parse::<Timestamp>().ok().or_else(|| {
        let time: DateTime = text.parse().ok()?;
        TimeZone::UTC.to_timestamp(time).ok()
    });
    moment.map(Timestamp::as_microsecond)
}

/// Returns an exact number in units of its last digit.
fn decimal(text: &str, precision: u8, scale: u8) -> Option<i128> {
    let (digits, exponent) = match text.split_once(['e', 'E']) {
        Some((digits, exponent)) => (digits, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let is_negative = digits.starts_with('-');
    let digits = digits.strip_prefix(['-', '+']).unwrap_or(digits);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut number = 0i128;
    for byte in whole.bytes().chain(fraction.bytes()) {
        let digit = byte.is_ascii_digit().then(|| i128::from(byte - b'0'))?;
        number = number.checked_mul(10)?.checked_add(digit)?;
    }
    let shift = i32::from(scale).checked_add(exponent)?.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let unit = 10i128.checked_pow(shift.unsigned_abs())?;
    let number = match shift >= 0 {
        true => number.checked_mul(unit)?,
        false if number % unit != 0 => return None,
        false => number / unit,
    };
    (number < 10i128.pow(precision.into())).then_some(if is_negative { -number } else { number })
}
