//! The columns of a log parser, and how its arguments describe them.

use arrow_schema::{DataType, Field, Fields, TimeUnit};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::ColumnarValue;

/// A line has no more columns than this.
const COUNT_MAX: usize = 1_000;

/// A column that a description names, and where it lies in lines with fixed columns.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) of: DataType,
    /// The character that it begins with, from 0.
    pub(super) start: Option<usize>,
    /// Its length in characters. Without one, it extends to the end of the line.
    pub(super) length: Option<usize>,
}

/// Returns the columns `column1` to `columnN`, which are texts.
pub(super) fn numbered(count: usize) -> Vec<Column> {
    let column =
        |number| Column { name: format!("column{number}"), of: DataType::Utf8, start: None, length: None };
    (1..=count).map(column).collect()
}

/// Returns the columns of a description or a number, such as `id TYPE BIGINT, name TYPE VARCHAR(20) START 8 FOR 20`. The error is a sentence for the
/// caller.
pub(super) fn described(text: &str) -> Result<Vec<Column>, String> {
    let too_many = |count| format!("{count} columns: there may be {COUNT_MAX}");
    let columns = match text.trim().parse::<usize>() {
        Ok(count) if count <= COUNT_MAX => numbered(count),
        Ok(count) => return Err(too_many(count)),
        Err(_) => split_outside_brackets(text).into_iter().map(column).collect::<Result<_, _>>()?,
    };
    match columns.len() {
        0 => Err("no columns: name at least one".into()),
        count if count > COUNT_MAX => Err(too_many(count)),
        _ => Ok(columns),
    }
}

/// Splits a list at its commas, but not within `DECIMAL(10, 2)`.
fn split_outside_brackets(text: &str) -> Vec<&str> {
    let (mut depth, mut begin, mut parts) = (0_i32, 0, vec![]);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth -= 1,
            b',' if depth <= 0 => {
                parts.push(&text[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[begin..]);
    parts
}

fn column(text: &str) -> Result<Column, String> {
    let text = text.trim();
    let refused = || {
        format!(
            "cannot read the column {text:?}: write it as name TYPE VARCHAR(20), or name TYPE BIGINT START 0 FOR 8"
        )
    };
    let words: Vec<&str> = text.split_whitespace().collect();
    let is = |at: usize, word: &str| words.get(at).is_some_and(|found| found.eq_ignore_ascii_case(word));
    let name = words.first().ok_or_else(refused)?;
    let name = match name.strip_prefix('"').and_then(|name| name.strip_suffix('"')) {
        Some(name) => name.to_owned(),
        None => name.to_lowercase(),
    };
    if name.is_empty() || !is(1, "TYPE") {
        return Err(refused());
    }
    // A type may have blanks in its brackets, or be of two words.
    let is_option =
        |word: &&str| ["NOT", "START", "FOR"].iter().any(|option| word.eq_ignore_ascii_case(option));
    let end = words[2..].iter().position(is_option).map_or(words.len(), |end| end + 2);
    let of = data_type(&words[2..end].join(" "))?;
    let mut column = Column { name, of, start: None, length: None };
    let mut at = end;
    while at < words.len() {
        let number = || words.get(at + 1).and_then(|word| word.parse::<usize>().ok()).ok_or_else(refused);
        if is(at, "START") {
            column.start = Some(number()?);
        } else if is(at, "FOR") {
            column.length = Some(number()?);
        } else if !(is(at, "NOT") && is(at + 1, "NULL")) {
            return Err(refused());
        }
        at += 2;
    }
    Ok(column)
}

fn data_type(text: &str) -> Result<DataType, String> {
    let upper = text.to_uppercase();
    let (name, digits) = match upper.split_once('(') {
        Some((name, digits)) => (name.trim(), digits.trim_end_matches(')')),
        None => (upper.trim(), ""),
    };
    let mut digits = digits.split(',').map(|digits| digits.trim().parse::<u8>());
    Ok(match name {
        "VARCHAR" | "CHAR" | "CHARACTER" | "CHARACTER VARYING" => DataType::Utf8,
        "BOOLEAN" => DataType::Boolean,
        "TINYINT" => DataType::Int8,
        "SMALLINT" => DataType::Int16,
        "INTEGER" | "INT" => DataType::Int32,
        "BIGINT" => DataType::Int64,
        "REAL" | "FLOAT" => DataType::Float32,
        "DOUBLE" | "DOUBLE PRECISION" => DataType::Float64,
        "DATE" => DataType::Date32,
        "TIMESTAMP" => DataType::Timestamp(TimeUnit::Microsecond, None),
        "DECIMAL" | "NUMERIC" => match (digits.next(), digits.next()) {
            (Some(Ok(precision @ 1..=38)), None) => DataType::Decimal128(precision, 0),
            (Some(Ok(precision @ 1..=38)), Some(Ok(scale))) if scale <= precision => {
                DataType::Decimal128(precision, scale as i8)
            }
            _ => return Err(format!("cannot read the type {text}: write it as DECIMAL(10, 2)")),
        },
        name if name.starts_with("TIMESTAMP ") || name.starts_with("DATE ") => {
            return Err(format!(
                "{text}: formats are not supported; give the column the type VARCHAR, and use to_timestamp"
            ));
        }
        _ => {
            return Err(format!(
                "the type {text} is not known here: use VARCHAR, BIGINT, DOUBLE, BOOLEAN, DATE, TIMESTAMP or DECIMAL(10, 2)"
            ));
        }
    })
}

/// Returns the columns as the fields of a struct. All may be null.
pub(super) fn fields(columns: &[Column]) -> Fields {
    columns.iter().map(|column| Field::new(&column.name, column.of.clone(), true)).collect()
}

/// Returns the text of an argument that is a constant; none if it is null.
pub(super) fn literal(function: &str, what: &str, value: Option<&ColumnarValue>) -> Result<Option<String>> {
    match value {
        Some(ColumnarValue::Scalar(scalar)) => text_of(function, what, scalar),
        _ => plan_err!("{function}: the {what} has to be a constant"),
    }
}

/// Returns the text of a constant; none if it is null.
pub(super) fn text_of(function: &str, what: &str, scalar: &ScalarValue) -> Result<Option<String>> {
    match scalar.try_as_str() {
        Some(text) => Ok(text.map(str::to_owned)),
        None if scalar.data_type().is_integer() => Ok(Some(scalar.to_string())),
        None => plan_err!("{function}: the {what} has to be a text"),
    }
}
