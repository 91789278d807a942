//! The types of columns, and their names in SQL.

use std::fmt;
use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields, TimeUnit};

/// The time zone of all moments.
const UTC: &str = "UTC";

/// The type of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SqlType {
    Boolean,
    TinyInt,
    SmallInt,
    Integer,
    BigInt,
    Real,
    Double,
    /// The total digits, and those after the decimal point.
    Decimal(u8, u8),
    /// The most characters, if there is a limit.
    Varchar(Option<u32>),
    Varbinary,
    Date,
    Time,
    Timestamp,
    Array(Box<SqlType>),
    Struct(Vec<(String, SqlType)>),
}

/// A column, or a field of a struct.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) of: SqlType,
    pub(super) is_required: bool,
}

impl Column {
    pub(super) fn field(&self) -> Field {
        Field::new(&self.name, self.of.data_type(), !self.is_required)
    }
}

/// Moments, to the microsecond.
pub(super) fn timestamp_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into()))
}

impl SqlType {
    /// Returns the first characters of a text, as many as the type has room for.
    #[inline]
    pub(super) fn cut<'a>(&self, text: &'a str) -> &'a str {
        match self {
            Self::Varchar(Some(length)) if text.len() > *length as usize => {
                text.char_indices().nth(*length as usize).map_or(text, |(end, _)| &text[..end])
            }
            _ => text,
        }
    }

    /// Texts are views, as in DataFusion's own sources: they join and group with those without a conversion, and short ones are compared without
    /// another memory access.
    pub(super) fn data_type(&self) -> DataType {
        match self {
            Self::Boolean => DataType::Boolean,
            Self::TinyInt => DataType::Int8,
            Self::SmallInt => DataType::Int16,
            Self::Integer => DataType::Int32,
            Self::BigInt => DataType::Int64,
            Self::Real => DataType::Float32,
            Self::Double => DataType::Float64,
            Self::Decimal(precision, scale) => DataType::Decimal128(*precision, *scale as i8),
            Self::Varchar(_) => DataType::Utf8View,
            Self::Varbinary => DataType::Binary,
            Self::Date => DataType::Date32,
            // The unit of literals in statements, which cannot be compared with another unit.
            Self::Time => DataType::Time64(TimeUnit::Nanosecond),
            Self::Timestamp => timestamp_type(),
            Self::Array(items) => DataType::List(item_field(items)),
            Self::Struct(fields) => DataType::Struct(struct_fields(fields)),
        }
    }

    /// Returns how many columns it counts for, including nested ones.
    pub(super) fn column_count(&self) -> usize {
        match self {
            Self::Array(items) => 1 + items.column_count(),
            Self::Struct(fields) => 1 + fields.iter().map(|(_, of)| of.column_count()).sum::<usize>(),
            _ => 1,
        }
    }

    pub(super) fn is_nested(&self) -> bool {
        matches!(self, Self::Array(_) | Self::Struct(_))
    }

    /// Returns the bytes that a value takes at least.
    pub(super) fn value_bytes(&self) -> usize {
        match self {
            Self::Boolean | Self::TinyInt => 1,
            Self::SmallInt => 2,
            Self::Decimal(..) => 16,
            Self::BigInt | Self::Double | Self::Time | Self::Timestamp => 8,
            Self::Struct(fields) => fields.iter().map(|(_, of)| of.value_bytes()).sum::<usize>() + 1,
            _ => 4,
        }
    }
}

/// The field that the items of a list are.
pub(super) fn item_field(items: &SqlType) -> Arc<Field> {
    Arc::new(Field::new_list_field(items.data_type(), true))
}

/// The fields of a struct.
pub(super) fn struct_fields(fields: &[(String, SqlType)]) -> Fields {
    fields.iter().map(|(name, of)| Field::new(name, of.data_type(), true)).collect()
}

impl fmt::Display for SqlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Boolean => "BOOLEAN",
            Self::TinyInt => "TINYINT",
            Self::SmallInt => "SMALLINT",
            Self::Integer => "INTEGER",
            Self::BigInt => "BIGINT",
            Self::Real => "REAL",
            Self::Double => "DOUBLE",
            Self::Decimal(precision, scale) => return write!(f, "DECIMAL({precision}, {scale})"),
            Self::Varchar(None) => "VARCHAR",
            Self::Varchar(Some(length)) => return write!(f, "VARCHAR({length})"),
            Self::Varbinary => "VARBINARY",
            Self::Date => "DATE",
            Self::Time => "TIME",
            Self::Timestamp => "TIMESTAMP",
            Self::Array(items) => return write!(f, "{items}[]"),
            Self::Struct(fields) => {
                f.write_str("STRUCT<")?;
                for ((name, of), index) in fields.iter().zip(0..) {
                    let comma = if index > 0 { ", " } else { "" };
                    write!(f, "{comma}{} {of}", Identifier(name))?;
                }
                ">"
            }
        };
        f.write_str(name)
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let null = if self.is_required { " NOT NULL" } else { "" };
        write!(f, "{} {}{null}", Identifier(&self.name), self.of)
    }
}

/// A name as SQL takes it, in quotes unless it is plain.
struct Identifier<'a>(&'a str);

impl fmt::Display for Identifier<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_plain = self.0.starts_with(|first: char| first.is_ascii_lowercase())
            && self.0.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
        if is_plain { f.write_str(self.0) } else { write!(f, "\"{}\"", self.0.replace('"', "\"\"")) }
    }
}
