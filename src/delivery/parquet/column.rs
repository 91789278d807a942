//! The values of a column, as Arrow has them in memory.

use std::sync::Arc;

use arrow_array::types::{
    Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType,
};
use arrow_array::{
    ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, ListArray, PrimitiveArray, StringArray,
    StructArray,
};
use arrow_buffer::{BooleanBuffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, DataType};

use super::convert::Cell;
use super::schema::ParquetType;
use crate::delivery::format::make_room;

/// The values of a column, one for each row. A row without a value holds an arbitrary one of the type.
#[derive(Debug)]
pub(super) struct Values {
    data: Data,
    is_valid: Vec<bool>,
}

#[derive(Debug)]
enum Data {
    Bool(Vec<bool>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Float(Vec<f32>),
    Double(Vec<f64>),
    Decimal(Vec<i128>),
    /// Texts or bytes, and where each begins and the last one ends.
    Bytes(Vec<i32>, Vec<u8>),
    /// The items of all lists, and where each list begins and the last one ends.
    List(Vec<i32>, Box<Values>),
    Struct(Vec<Values>),
}

impl Values {
    pub(super) fn new(of: &ParquetType) -> Self {
        let data = match of {
            ParquetType::Bool => Data::Bool(vec![]),
            ParquetType::Int32 => Data::Int32(vec![]),
            ParquetType::Int64 | ParquetType::Timestamp => Data::Int64(vec![]),
            ParquetType::Float => Data::Float(vec![]),
            ParquetType::Double => Data::Double(vec![]),
            ParquetType::Decimal { .. } => Data::Decimal(vec![]),
            ParquetType::String | ParquetType::Bytes => Data::Bytes(vec![0], vec![]),
            ParquetType::List(items) => Data::List(vec![0], Box::new(Self::new(items))),
            ParquetType::Struct(fields) => {
                Data::Struct(fields.columns().map(|(_, of)| Self::new(of)).collect())
            }
        };
        Self { data, is_valid: vec![] }
    }

    /// Adds a value of the column's type, or none.
    pub(super) fn push(&mut self, cell: Cell<'_>) {
        push(&mut self.is_valid, !matches!(cell, Cell::Null));
        match &mut self.data {
            Data::Bool(to) => push(to, matches!(cell, Cell::Bool(true))),
            Data::Int32(to) => push(to, if let Cell::Int32(number) = cell { number } else { 0 }),
            Data::Int64(to) => push(to, if let Cell::Int64(number) = cell { number } else { 0 }),
            Data::Float(to) => push(to, if let Cell::Float(number) = cell { number } else { 0.0 }),
            Data::Double(to) => push(to, if let Cell::Double(number) = cell { number } else { 0.0 }),
            Data::Decimal(to) => push(to, if let Cell::Decimal(number) = cell { number } else { 0 }),
            Data::Bytes(ends, bytes) => {
                match cell {
                    Cell::Text(text) => extend(bytes, text.as_bytes()),
                    Cell::Bytes(more) => extend(bytes, &more),
                    _ => {}
                }
                push(ends, offset(bytes.len()));
            }
            Data::List(ends, items) => {
                if let Cell::List(cells) = cell {
                    cells.into_iter().for_each(|cell| items.push(cell));
                }
                push(ends, offset(items.is_valid.len()));
            }
            Data::Struct(fields) => match cell {
                Cell::Struct(cells) => {
                    fields.iter_mut().zip(cells).for_each(|(field, cell)| field.push(cell));
                }
                _ => fields.iter_mut().for_each(|field| field.push(Cell::Null)),
            },
        }
    }

    /// Returns the bytes that it takes in memory.
    pub(super) fn memory_bytes(&self) -> usize {
        let data = match &self.data {
            Data::Bool(values) => values.capacity(),
            Data::Int32(values) => bytes_of(values),
            Data::Int64(values) => bytes_of(values),
            Data::Float(values) => bytes_of(values),
            Data::Double(values) => bytes_of(values),
            Data::Decimal(values) => bytes_of(values),
            Data::Bytes(ends, bytes) => bytes_of(ends) + bytes.capacity(),
            Data::List(ends, items) => bytes_of(ends) + items.memory_bytes(),
            Data::Struct(fields) => fields.iter().map(Self::memory_bytes).sum(),
        };
        data + self.is_valid.capacity()
    }

    /// Returns the values as an array of the Arrow type of the column.
    pub(super) fn into_array(self, of: &DataType) -> Result<ArrayRef, ArrowError> {
        let nulls = Some(NullBuffer::from(self.is_valid)).filter(|nulls| nulls.null_count() > 0);
        Ok(match (self.data, of) {
            (Data::Bool(values), _) => Arc::new(BooleanArray::new(BooleanBuffer::from(values), nulls)),
            (Data::Int32(values), _) => primitive::<Int32Type>(values, nulls, of)?,
            (Data::Int64(values), DataType::Int64) => primitive::<Int64Type>(values, nulls, of)?,
            (Data::Int64(values), _) => primitive::<TimestampMicrosecondType>(values, nulls, of)?,
            (Data::Float(values), _) => primitive::<Float32Type>(values, nulls, of)?,
            (Data::Double(values), _) => primitive::<Float64Type>(values, nulls, of)?,
            (Data::Decimal(values), _) => primitive::<Decimal128Type>(values, nulls, of)?,
            (Data::Bytes(ends, bytes), DataType::Utf8) => {
                Arc::new(StringArray::try_new(offsets(ends), bytes.into(), nulls)?)
            }
            (Data::Bytes(ends, bytes), _) => {
                Arc::new(BinaryArray::try_new(offsets(ends), bytes.into(), nulls)?)
            }
            (Data::List(ends, items), DataType::List(item)) => {
                let items = items.into_array(item.data_type())?;
                Arc::new(ListArray::try_new(Arc::clone(item), offsets(ends), items, nulls)?)
            }
            (Data::Struct(values), DataType::Struct(fields)) => {
                let arrays =
                    values.into_iter().zip(fields).map(|(values, of)| values.into_array(of.data_type()));
                Arc::new(StructArray::try_new(fields.clone(), arrays.collect::<Result<_, _>>()?, nulls)?)
            }
            (Data::List(..) | Data::Struct(_), of) => {
                return Err(ArrowError::SchemaError(format!("values of another type than {of}")));
            }
        })
    }
}

fn push<T>(to: &mut Vec<T>, value: T) {
    make_room(to, 1);
    to.push(value);
}

fn extend(to: &mut Vec<u8>, bytes: &[u8]) {
    make_room(to, bytes.len());
    to.extend_from_slice(bytes);
}

fn bytes_of<T>(values: &Vec<T>) -> usize {
    values.capacity() * size_of::<T>()
}

/// An object is decided at 128 MiB of records, and no value is longer than its source.
fn offset(len: usize) -> i32 {
    i32::try_from(len).expect("an object holds less than 2 GiB")
}

fn offsets(ends: Vec<i32>) -> OffsetBuffer<i32> {
    OffsetBuffer::new(ScalarBuffer::from(ends))
}

fn primitive<T: ArrowPrimitiveType>(
    values: Vec<T::Native>,
    nulls: Option<NullBuffer>,
    of: &DataType,
) -> Result<ArrayRef, ArrowError> {
    let array = PrimitiveArray::<T>::try_new(values.into(), nulls)?;
    // With the time zone, or the digits.
    Ok(Arc::new(array.with_data_type(of.clone())))
}
