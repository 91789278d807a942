//! A schema from sample records: the narrowest types that all of them fit into.

use serde_json::value::RawValue;

use super::schema::{DEPTH_MAX, ParquetSchema, ParquetType};
use crate::delivery::json;
use crate::{Error, Result};

/// What is known of the values of a column.
#[derive(Debug, Clone, PartialEq)]
enum Seen {
    Nothing,
    Bool,
    Int64,
    Double,
    /// Values that have no narrower type in common, too.
    Text,
    List(Box<Seen>),
    Struct(Vec<(String, Seen)>),
}

impl ParquetSchema {
    /// Makes a schema into which all of these records fit. Each column may be null, and stands where its name came first; names that differ in
    /// upper and lower case only are one.
    ///
    /// Types are widened where they have to be: whole numbers ([`Int64`](ParquetType::Int64)) to `Double` where others are among them, and
    /// everything else that differs, or is always null, to `String`. Whole numbers of more than 64 bits are a `String` too, so that they
    /// keep their digits. No text is taken for a number, a time or bytes. Records that are no JSON objects are left out: the delivery
    /// sends them to the error output.
    ///
    /// The schema of a delivery does not follow its records. Use [`ParquetOptions::inferred`](super::ParquetOptions::inferred), or keep what this
    /// returns, and give the same schema each time that the delivery is started, so that its objects can be read as one table.
    ///
    /// ```
    /// use streamlog::delivery::{ParquetSchema, ParquetType};
    ///
    /// let records = [r#"{"id": 1, "price": 2}"#, r#"{"id": 2, "price": 2.5, "tags": ["new"]}"#];
    /// let expected = ParquetSchema::new()
    ///     .column("id", ParquetType::Int64)
    ///     .column("price", ParquetType::Double)
    ///     .column("tags", ParquetType::list(ParquetType::String));
    /// assert_eq!(ParquetSchema::infer(records)?, expected);
    /// # Ok::<(), streamlog::Error>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidArgument` if no record is a JSON object that has members.
    pub fn infer<R: AsRef<[u8]>>(records: impl IntoIterator<Item = R>) -> Result<Self> {
        let mut seen = vec![];
        for record in records {
            let mut members = vec![];
            let read = json::for_each_member(record.as_ref(), |key, value| {
                add(&mut members, key, Seen::of(value, 1));
            });
            if read.is_ok() {
                merge_members(&mut seen, members);
            }
        }
        if seen.is_empty() {
            return Err(Error::InvalidArgument("no record is a JSON object with members".into()));
        }
        Ok(schema(seen))
    }
}

fn schema(members: Vec<(String, Seen)>) -> ParquetSchema {
    members
        .into_iter()
        .fold(ParquetSchema::new(), |schema, (name, seen)| schema.column(name, seen.into_type()))
}

impl Seen {
    /// `depth` is that of the value: 1 for one of a column.
    fn of(value: &RawValue, depth: usize) -> Self {
        let text = value.get();
        let is_deepest = depth == DEPTH_MAX;
        match text.as_bytes()[0] {
            b'n' => Self::Nothing,
            b't' | b'f' => Self::Bool,
            b'[' if !is_deepest => {
                let values: Vec<&RawValue> = serde_json::from_str(text).unwrap_or_default();
                let items = values.into_iter().map(|value| Self::of(value, depth + 1));
                Self::List(Box::new(items.fold(Self::Nothing, Self::merge)))
            }
            b'{' if !is_deepest => {
                let mut members = vec![];
                let read = json::for_each_member(text.as_bytes(), |key, value| {
                    add(&mut members, key, Self::of(value, depth + 1))
                });
                // Without members, it might be anything.
                if read.is_ok() { Self::Struct(members) } else { Self::Text }
            }
            b'-' | b'0'..=b'9' if text.parse::<i64>().is_ok() => Self::Int64,
            b'-' | b'0'..=b'9' if is_fraction(text) => Self::Double,
            _ => Self::Text,
        }
    }

    /// Returns what holds values of both.
    fn merge(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nothing, other) | (other, Self::Nothing) => other,
            (Self::Int64, Self::Double) | (Self::Double, Self::Int64) => Self::Double,
            (Self::List(a), Self::List(b)) => Self::List(Box::new(a.merge(*b))),
            (Self::Struct(mut a), Self::Struct(b)) => {
                merge_members(&mut a, b);
                Self::Struct(a)
            }
            (a, b) if a == b => a,
            _ => Self::Text,
        }
    }

    fn into_type(self) -> ParquetType {
        match self {
            Self::Bool => ParquetType::Bool,
            Self::Int64 => ParquetType::Int64,
            Self::Double => ParquetType::Double,
            Self::List(items) => ParquetType::list(items.into_type()),
            Self::Struct(members) if !members.is_empty() => schema(members).into(),
            Self::Struct(_) | Self::Text | Self::Nothing => ParquetType::String,
        }
    }
}

/// Returns whether a number that is not whole, or not written so, is a double.
fn is_fraction(text: &str) -> bool {
    text.contains(['.', 'e', 'E']) && text.parse::<f64>().is_ok_and(f64::is_finite)
}

fn merge_members(members: &mut Vec<(String, Seen)>, more: Vec<(String, Seen)>) {
    more.into_iter().for_each(|(name, seen)| add(members, &name, seen));
}

fn add(members: &mut Vec<(String, Seen)>, name: &str, seen: Seen) {
    let is_same = |other: &str| other == name || other.to_lowercase() == name.to_lowercase();
    match members.iter_mut().find(|(other, _)| is_same(other)) {
        Some((_, known)) => *known = std::mem::replace(known, Seen::Nothing).merge(seen),
        // A column has a name.
        None if name.is_empty() => {}
        None => members.push((name.to_owned(), seen)),
    }
}
