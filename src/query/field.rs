//! The values of a column, row by row, until they become an array.

use std::borrow::Cow;
use std::sync::Arc;

use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Time64NanosecondType, TimestampMicrosecondType,
};
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, ListArray, PrimitiveArray, StringArray, StringViewArray, StructArray,
};
use arrow_buffer::{BooleanBufferBuilder, Buffer, NullBuffer, NullBufferBuilder, OffsetBuffer, ScalarBuffer};

use super::json::{self, Object};
use super::types::{Column, SqlType, item_field, struct_fields, timestamp_type};
use crate::{decode_json_text, moment, scalar, shorten};

/// A value as it was found.
#[derive(Debug, Clone, Copy)]
pub(super) enum Found<'a> {
    /// No value was found.
    Nothing,
    Null,
    /// `true` or `false`.
    Word(&'a str),
    Number(&'a str),
    /// A text without its quotes.
    Text(&'a str),
    /// A text without its quotes that has escapes.
    Escaped(&'a str),
    /// A JSON object or list.
    Nested(&'a str),
}

impl<'a> Found<'a> {
    /// Returns the text that it is, or the JSON.
    #[inline]
    fn text(self) -> Cow<'a, str> {
        match self {
            Self::Nothing | Self::Null => Cow::Borrowed(""),
            Self::Word(text) | Self::Number(text) | Self::Text(text) | Self::Nested(text) => {
                Cow::Borrowed(text)
            }
            Self::Escaped(raw) => Cow::Owned(decode_json_text(raw)),
        }
    }
}

/// Concatenated texts or bytes.
#[derive(Debug)]
pub(super) struct Texts {
    offsets: Vec<i32>,
    bytes: Vec<u8>,
}

impl Texts {
    pub(super) fn new() -> Self {
        Self { offsets: vec![0], bytes: vec![] }
    }

    #[inline]
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), String> {
        let Ok(end) = i32::try_from(self.bytes.len() + bytes.len()) else {
            return Err("the texts of a batch would have more than 2 GiB".into());
        };
        self.bytes.extend_from_slice(bytes);
        self.offsets.push(end);
        Ok(())
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.offsets.truncate(len + 1);
        self.bytes.truncate(self.offsets[len] as usize);
    }

    pub(super) fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    fn take(&mut self) -> (OffsetBuffer<i32>, Buffer) {
        let offsets = renew(&mut self.offsets);
        self.offsets.push(0);
        (OffsetBuffer::new(offsets.into()), Buffer::from_vec(renew(&mut self.bytes)))
    }

    pub(super) fn take_texts(&mut self, nulls: Option<NullBuffer>) -> StringArray {
        let (offsets, bytes) = self.take();
        StringArray::new(offsets, bytes, nulls)
    }

    pub(super) fn take_bytes(&mut self, nulls: Option<NullBuffer>) -> BinaryArray {
        let (offsets, bytes) = self.take();
        BinaryArray::new(offsets, bytes, nulls)
    }
}

/// Takes all values, and reserves room for as many.
pub(super) fn renew<T>(values: &mut Vec<T>) -> Vec<T> {
    let next = Vec::with_capacity(values.len());
    std::mem::replace(values, next)
}

#[derive(Debug)]
enum Values {
    Boolean(BooleanBufferBuilder),
    TinyInt(Vec<i8>),
    SmallInt(Vec<i16>),
    Integer(Vec<i32>),
    BigInt(Vec<i64>),
    Real(Vec<f32>),
    Double(Vec<f64>),
    Decimal(Vec<i128>, u8, u8),
    Varchar(Texts),
    Varbinary(Texts),
    Date(Vec<i32>),
    Time(Vec<i64>),
    Timestamp(Vec<i64>),
    /// The items of all lists, and where each list ends.
    Array(Box<Field>, Vec<i32>),
    Struct(Box<Object>),
}

impl Values {
    fn new(path: &str, of: &SqlType) -> Self {
        match of {
            SqlType::Boolean => Self::Boolean(BooleanBufferBuilder::new(0)),
            SqlType::TinyInt => Self::TinyInt(vec![]),
            SqlType::SmallInt => Self::SmallInt(vec![]),
            SqlType::Integer => Self::Integer(vec![]),
            SqlType::BigInt => Self::BigInt(vec![]),
            SqlType::Real => Self::Real(vec![]),
            SqlType::Double => Self::Double(vec![]),
            SqlType::Decimal(precision, scale) => Self::Decimal(vec![], *precision, *scale),
            SqlType::Varchar(_) => Self::Varchar(Texts::new()),
            SqlType::Varbinary => Self::Varbinary(Texts::new()),
            SqlType::Date => Self::Date(vec![]),
            SqlType::Time => Self::Time(vec![]),
            SqlType::Timestamp => Self::Timestamp(vec![]),
            SqlType::Array(items) => {
                Self::Array(Box::new(Field::new(format!("{path}[]"), items, false)), vec![0])
            }
            SqlType::Struct(fields) => {
                let fields = fields
                    .iter()
                    .map(|(name, of)| (name.clone(), Field::new(format!("{path}.{name}"), of, false)));
                Self::Struct(Box::new(Object::new(fields)))
            }
        }
    }
}

/// A column, or a part of one.
#[derive(Debug)]
pub(super) struct Field {
    /// The names on the path to it, joined by dots.
    path: String,
    of: SqlType,
    is_required: bool,
    nulls: NullBufferBuilder,
    values: Values,
}

impl Field {
    pub(super) fn of_column(column: &Column) -> Self {
        Self::new(column.name.clone(), &column.of, column.is_required)
    }

    fn new(path: String, of: &SqlType, is_required: bool) -> Self {
        let values = Values::new(&path, of);
        Self { path, of: of.clone(), is_required, nulls: NullBufferBuilder::new(0), values }
    }

    pub(super) fn len(&self) -> usize {
        self.nulls.len()
    }

    /// Adds a value. If it does not fit, the error says so, and part of it may be there until the next [`truncate`](Self::truncate). `room` is
    /// how many bytes the items of lists may still take.
    #[inline]
    pub(super) fn push(&mut self, found: Found<'_>, room: &mut usize) -> Result<(), String> {
        if matches!(found, Found::Nothing | Found::Null) {
            return self.push_null(found);
        }
        match self.push_value(found, room)? {
            Some(()) => {
                self.nulls.append_non_null();
                Ok(())
            }
            None => Err(self.refused(&shown(found))),
        }
    }

    /// Returns `None` if the value does not fit.
    #[inline]
    fn push_value(&mut self, found: Found<'_>, room: &mut usize) -> Result<Option<()>, String> {
        match (&mut self.values, found) {
            (Values::Varchar(texts), Found::Text(text) | Found::Number(text) | Found::Word(text)) => {
                texts.push(self.of.cut(text).as_bytes()).map(Some)
            }
            (Values::Double(values), Found::Number(text)) => {
                Ok(scalar::double(text).map(|value| values.push(value)))
            }
            (Values::BigInt(values), Found::Number(text)) => {
                Ok(scalar::whole(text).map(|value| values.push(value)))
            }
            _ => self.push_other(found, room),
        }
    }

    fn push_other(&mut self, found: Found<'_>, room: &mut usize) -> Result<Option<()>, String> {
        let text = found.text();
        match (&mut self.values, found) {
            (Values::Varchar(texts), _) => texts.push(self.of.cut(&text).as_bytes()).map(Some),
            (Values::Array(items, ends), Found::Nested(list)) => {
                if !list.starts_with('[') {
                    return Ok(None);
                }
                json::push_items(list, items, room)?;
                ends.push(i32::try_from(items.len()).map_err(|_| items.too_many())?);
                Ok(Some(()))
            }
            (Values::Struct(fields), Found::Nested(object)) => {
                if !object.starts_with('{') {
                    return Ok(None);
                }
                fields.push_nested(object, room)?;
                Ok(Some(()))
            }
            (_, Found::Nested(_)) => Ok(None),
            _ => Ok(self.push_scalar(found, text.trim())),
        }
    }

    fn push_scalar(&mut self, found: Found<'_>, text: &str) -> Option<()> {
        // In a number's place, true and false are 1 and 0.
        let number = match found {
            Found::Word(word) if !matches!(self.values, Values::Boolean(_)) => {
                if matches!(self.of, SqlType::Date | SqlType::Time | SqlType::Timestamp) {
                    return None;
                }
                if word == "true" { "1" } else { "0" }
            }
            _ => text,
        };
        match &mut self.values {
            Values::Boolean(values) => values.append(scalar::boolean(text)?),
            Values::TinyInt(values) => values.push(scalar::whole(number)?.try_into().ok()?),
            Values::SmallInt(values) => values.push(scalar::whole(number)?.try_into().ok()?),
            Values::Integer(values) => values.push(scalar::whole(number)?.try_into().ok()?),
            Values::BigInt(values) => values.push(scalar::whole(number)?),
            Values::Real(values) => values.push(scalar::real(number)?),
            Values::Double(values) => values.push(scalar::double(number)?),
            Values::Decimal(values, precision, scale) => {
                values.push(scalar::decimal(number, *precision, *scale)?);
            }
            Values::Timestamp(values) => values.push(moment::timestamp(text)?),
            // A number identifies neither a day nor an hour.
            _ if matches!(found, Found::Number(_) | Found::Word(_)) => return None,
            Values::Date(values) => values.push(moment::date(text)?),
            Values::Time(values) => values.push(moment::time_of_day(text)?),
            Values::Varbinary(values) => values.push(&scalar::base64(text)?).ok()?,
            Values::Varchar(_) | Values::Array(..) | Values::Struct(_) => return None,
        }
        Some(())
    }

    fn push_null(&mut self, found: Found<'_>) -> Result<(), String> {
        if self.is_required {
            return Err(self.refused(&shown(found)));
        }
        self.push_default()?;
        self.nulls.append_null();
        Ok(())
    }

    /// Adds a placeholder for a null value.
    fn push_default(&mut self) -> Result<(), String> {
        match &mut self.values {
            Values::Boolean(values) => values.append(false),
            Values::TinyInt(values) => values.push(0),
            Values::SmallInt(values) => values.push(0),
            Values::Integer(values) | Values::Date(values) => values.push(0),
            Values::BigInt(values) | Values::Time(values) | Values::Timestamp(values) => values.push(0),
            Values::Real(values) => values.push(0.0),
            Values::Double(values) => values.push(0.0),
            Values::Decimal(values, ..) => values.push(0),
            Values::Varchar(values) | Values::Varbinary(values) => values.push(&[])?,
            Values::Array(items, ends) => ends.push(items.len() as i32),
            Values::Struct(object) => object.push_nulls()?,
        }
        Ok(())
    }

    /// Removes all values but the first ones.
    pub(super) fn truncate(&mut self, len: usize) {
        self.nulls.truncate(len);
        match &mut self.values {
            Values::Boolean(values) => values.truncate(len),
            Values::TinyInt(values) => values.truncate(len),
            Values::SmallInt(values) => values.truncate(len),
            Values::Integer(values) | Values::Date(values) => values.truncate(len),
            Values::BigInt(values) | Values::Time(values) | Values::Timestamp(values) => values.truncate(len),
            Values::Real(values) => values.truncate(len),
            Values::Double(values) => values.truncate(len),
            Values::Decimal(values, ..) => values.truncate(len),
            Values::Varchar(values) | Values::Varbinary(values) => values.truncate(len),
            Values::Array(items, ends) => {
                ends.truncate(len + 1);
                items.truncate(ends[len] as usize);
            }
            Values::Struct(object) => object.truncate(len),
        }
    }

    /// Returns the values as an array of the column's [data type](SqlType::data_type), and starts again.
    pub(super) fn take(&mut self) -> ArrayRef {
        let nulls = self.nulls.finish();
        match &mut self.values {
            Values::Boolean(values) => {
                let next = BooleanBufferBuilder::new(values.len());
                Arc::new(BooleanArray::new(std::mem::replace(values, next).build(), nulls))
            }
            Values::TinyInt(values) => primitive::<Int8Type>(values, nulls),
            Values::SmallInt(values) => primitive::<Int16Type>(values, nulls),
            Values::Integer(values) => primitive::<Int32Type>(values, nulls),
            Values::BigInt(values) => primitive::<Int64Type>(values, nulls),
            Values::Real(values) => primitive::<Float32Type>(values, nulls),
            Values::Double(values) => primitive::<Float64Type>(values, nulls),
            Values::Date(values) => primitive::<Date32Type>(values, nulls),
            Values::Time(values) => primitive::<Time64NanosecondType>(values, nulls),
            Values::Decimal(values, ..) => {
                let values = PrimitiveArray::<Decimal128Type>::new(renew(values).into(), nulls);
                Arc::new(values.with_data_type(self.of.data_type()))
            }
            Values::Timestamp(values) => {
                let values = PrimitiveArray::<TimestampMicrosecondType>::new(renew(values).into(), nulls);
                Arc::new(values.with_data_type(timestamp_type()))
            }
            Values::Varchar(values) => Arc::new(StringViewArray::from(&values.take_texts(nulls))),
            Values::Varbinary(values) => Arc::new(values.take_bytes(nulls)),
            Values::Array(items, ends) => {
                let offsets = OffsetBuffer::new(ScalarBuffer::from(renew(ends)));
                ends.push(0);
                Arc::new(ListArray::new(item_field(&items.of), offsets, items.take(), nulls))
            }
            Values::Struct(object) => {
                let SqlType::Struct(fields) = &self.of else { unreachable!("a struct has fields") };
                Arc::new(StructArray::new(struct_fields(fields), object.take(), nulls))
            }
        }
    }

    /// Returns the bytes that a value takes at least.
    pub(super) fn value_bytes(&self) -> usize {
        self.of.value_bytes()
    }

    #[cold]
    pub(super) fn too_many(&self) -> String {
        format!("column {}: there are too many items in the lists of a record or a batch", self.path)
    }

    #[cold]
    fn refused(&self, found: &str) -> String {
        let (found, rest) = shorten(found);
        let null = if self.is_required { " NOT NULL" } else { "" };
        format!("column {}: expected {}{null}, found {found}{rest}", self.path, self.of)
    }
}

/// Returns a value as it was written.
fn shown(found: Found<'_>) -> Cow<'_, str> {
    match found {
        Found::Nothing => "nothing".into(),
        Found::Null => "null".into(),
        Found::Word(text) | Found::Number(text) | Found::Nested(text) => text.into(),
        Found::Text(text) | Found::Escaped(text) => format!("\"{text}\"").into(),
    }
}

fn primitive<T: ArrowPrimitiveType>(values: &mut Vec<T::Native>, nulls: Option<NullBuffer>) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::new(renew(values).into(), nulls))
}
