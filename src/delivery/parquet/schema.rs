//! The columns of a Parquet object, and their types.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields, TimeUnit};
use serde::{Deserialize, Serialize};

use crate::TYPE_DEPTH_MAX;

/// The columns of a Parquet object, or the fields of a struct in it: a name and a type for each.
///
/// ```
/// use streamlog::delivery::{ParquetSchema, ParquetType};
///
/// let schema = ParquetSchema::new()
///     .required("page", ParquetType::String)
///     .column("time", ParquetType::Timestamp)
///     .column("price", ParquetType::Decimal { precision: 10, scale: 2 })
///     .column("tags", ParquetType::list(ParquetType::String))
///     .column("user", ParquetSchema::new().column("id", ParquetType::Int64));
/// # let _ = schema;
/// ```
///
/// [`infer`](Self::infer) infers one from records.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[must_use]
pub struct ParquetSchema {
    pub(super) columns: Vec<Column>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) of: ParquetType,
    pub(super) is_required: bool,
}

/// The type of a column, and the JSON values that fit it. A null or missing value is null in every type, and fits unless the column is
/// [required](ParquetSchema::required).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ParquetType {
    /// `true` and `false`, also as strings, in upper or lower case; and the numbers 1 and 0, also as strings.
    Bool,
    /// A whole number of 32 bits, also as a string. `12.0` and `1.2e1` are whole.
    Int32,
    /// A whole number of 64 bits, also as a string.
    Int64,
    /// The nearest number of 32 bits, also as a string. As strings, `NaN`, `Infinity` and `-Infinity` are numbers.
    Float,
    /// The nearest number of 64 bits, also as a string. As strings, `NaN`, `Infinity` and `-Infinity` are numbers.
    Double,
    /// A string, or the JSON text of any other value.
    String,
    /// The bytes of a Base64 string, in the standard or the URL alphabet, with or without padding.
    Bytes,
    /// A time in UTC, with microseconds. A string in the format of RFC 3339, or with a space instead of the `T`; without an offset it is UTC. A
    /// number, also as a string: a whole one with 13 digits or more counts milliseconds since 1970, any other seconds, as with OpenX.
    Timestamp,
    /// An exact decimal number, also as a string. A number with more digits after the decimal point than `scale` does not fit.
    Decimal {
        /// The total number of digits (1 to 38).
        precision: u8,
        /// The digits after the decimal point, at most `precision`.
        scale: u8,
    },
    /// A list. Its items may be null. [`ParquetType::list`] makes one.
    List(Box<ParquetType>),
    /// An object with these fields. Its other members are ignored. A [`ParquetSchema`] becomes one by `into()`.
    Struct(ParquetSchema),
}

impl ParquetType {
    /// A list of items of a type.
    pub fn list(items: impl Into<Self>) -> Self {
        Self::List(Box::new(items.into()))
    }

    /// Returns the nesting depth.
    fn depth(&self) -> usize {
        match self {
            Self::List(items) => 1 + items.depth(),
            Self::Struct(fields) => 1 + fields.depth(),
            _ => 1,
        }
    }

    fn check(&self, name: &str, is_case_insensitive: bool) -> Result<(), String> {
        match self {
            Self::Decimal { precision, scale } if !(1..=38).contains(precision) || scale > precision => {
                Err(format!(
                    "the column {name:?} is a {self}: it may have 1 to 38 digits, and no more of them behind the point"
                ))
            }
            Self::List(items) => items.check(name, is_case_insensitive),
            Self::Struct(fields) => fields.check(is_case_insensitive),
            _ => Ok(()),
        }
    }

    fn data_type(&self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int32 => DataType::Int32,
            Self::Int64 => DataType::Int64,
            Self::Float => DataType::Float32,
            Self::Double => DataType::Float64,
            Self::String => DataType::Utf8,
            Self::Bytes => DataType::Binary,
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Decimal { precision, scale } => DataType::Decimal128(*precision, *scale as i8),
            Self::List(items) => DataType::List(Arc::new(Field::new("element", items.data_type(), true))),
            Self::Struct(fields) => DataType::Struct(fields.fields()),
        }
    }
}

impl From<ParquetSchema> for ParquetType {
    fn from(fields: ParquetSchema) -> Self {
        Self::Struct(fields)
    }
}

/// Prints the name of the type, without its inner types.
impl fmt::Display for ParquetType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool => "bool",
            Self::Int32 => "int32",
            Self::Int64 => "int64",
            Self::Float => "float",
            Self::Double => "double",
            Self::String => "string",
            Self::Bytes => "bytes in Base64",
            Self::Timestamp => "timestamp",
            Self::Decimal { precision, scale } => return write!(f, "decimal({precision}, {scale})"),
            Self::List(_) => "list",
            Self::Struct(_) => "struct",
        })
    }
}

impl ParquetSchema {
    /// Returns a schema without columns. Add some to it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a column, which may be null.
    pub fn column(self, name: impl Into<String>, of: impl Into<ParquetType>) -> Self {
        self.with(name.into(), of.into(), false)
    }

    /// Adds a column that is never null: a record in which it is missing or null does not fit.
    pub fn required(self, name: impl Into<String>, of: impl Into<ParquetType>) -> Self {
        self.with(name.into(), of.into(), true)
    }

    fn with(mut self, name: String, of: ParquetType, is_required: bool) -> Self {
        self.columns.push(Column { name, of, is_required });
        self
    }

    /// Returns the names and types of the columns, in their order.
    pub fn columns(&self) -> impl Iterator<Item = (&str, &ParquetType)> {
        self.columns.iter().map(|column| (&*column.name, &column.of))
    }

    /// Renames all columns, and the fields of structs.
    pub(super) fn rename_columns(&mut self, rename: &dyn Fn(&str) -> String) {
        for column in &mut self.columns {
            column.name = rename(&column.name);
            let mut of = &mut column.of;
            while let ParquetType::List(items) = of {
                of = items;
            }
            if let ParquetType::Struct(fields) = of {
                fields.rename_columns(rename);
            }
        }
    }

    fn depth(&self) -> usize {
        self.columns.iter().map(|column| column.of.depth()).max().unwrap_or_default()
    }

    /// Checks the schema of an object. The error is a sentence for the caller.
    pub(super) fn check_all(&self, is_case_insensitive: bool) -> Result<(), String> {
        // Also because the schema is committed as JSON.
        if self.depth() > TYPE_DEPTH_MAX {
            return Err(format!("the schema is nested deeper than {TYPE_DEPTH_MAX} levels"));
        }
        self.check(is_case_insensitive)
    }

    fn check(&self, is_case_insensitive: bool) -> Result<(), String> {
        if self.columns.is_empty() {
            return Err("a schema, or a struct in it, needs at least one column".into());
        }
        let mut names = HashSet::new();
        for Column { name, of, .. } in &self.columns {
            if name.is_empty() {
                return Err("a column of the schema has no name".into());
            }
            if !names.insert(if is_case_insensitive { name.to_lowercase() } else { name.clone() }) {
                return Err(format!("the schema has the column {name:?} twice"));
            }
            of.check(name, is_case_insensitive)?;
        }
        Ok(())
    }

    /// Returns the columns as Arrow names them.
    pub(super) fn fields(&self) -> Fields {
        let field = |column: &Column| Field::new(&column.name, column.of.data_type(), !column.is_required);
        self.columns.iter().map(field).collect()
    }
}
