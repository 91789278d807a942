//! The columns that every stream has: the place of a record, its arrival, and what it was put with.

use std::sync::Arc;

use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{ArrayRef, MapArray, PrimitiveArray, StructArray, UInt32Array, UInt64Array};
use arrow_buffer::{OffsetBuffer, ScalarBuffer};
use arrow_schema::{DataType, Field, Fields};

use super::field::{Texts, renew};
use super::types::timestamp_type;
use crate::{Record, ShardId};

/// A column that every stream has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SystemColumn {
    Shard,
    Sequence,
    Arrival,
    Key,
    Data,
    Headers,
}

impl SystemColumn {
    /// All of them, in their order.
    pub(super) const ALL: [Self; 6] =
        [Self::Shard, Self::Sequence, Self::Arrival, Self::Key, Self::Data, Self::Headers];

    /// Returns its name in statements.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Shard => "_shard",
            Self::Sequence => "_sequence",
            Self::Arrival => "_arrival",
            Self::Key => "_key",
            Self::Data => "_data",
            Self::Headers => "_headers",
        }
    }

    pub(super) fn field(self) -> Field {
        let of = match self {
            Self::Shard => DataType::UInt32,
            Self::Sequence => DataType::UInt64,
            Self::Arrival => timestamp_type(),
            Self::Key => DataType::Utf8,
            Self::Data => DataType::Binary,
            Self::Headers => DataType::Map(header_field(), false),
        };
        Field::new(self.name(), of, false)
    }
}

fn header_field() -> Arc<Field> {
    Arc::new(Field::new("entries", DataType::Struct(header_fields()), false))
}

fn header_fields() -> Fields {
    [Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Binary, true)]
        .into_iter()
        .collect()
}

/// The values of the system columns that are asked for.
#[derive(Debug)]
pub(super) struct System {
    columns: Vec<Values>,
}

#[derive(Debug)]
enum Values {
    Shard(Vec<u32>),
    Sequence(Vec<u64>),
    Arrival(Vec<i64>),
    Key(Texts),
    Data(Texts),
    Headers { ends: Vec<i32>, names: Texts, values: Texts },
}

impl System {
    pub(super) fn new(columns: impl IntoIterator<Item = SystemColumn>) -> Self {
        let columns = columns.into_iter().map(|column| match column {
            SystemColumn::Shard => Values::Shard(vec![]),
            SystemColumn::Sequence => Values::Sequence(vec![]),
            SystemColumn::Arrival => Values::Arrival(vec![]),
            SystemColumn::Key => Values::Key(Texts::new()),
            SystemColumn::Data => Values::Data(Texts::new()),
            SystemColumn::Headers => {
                Values::Headers { ends: vec![0], names: Texts::new(), values: Texts::new() }
            }
        });
        Self { columns: columns.collect() }
    }

    #[inline]
    pub(super) fn push(&mut self, shard: ShardId, record: &Record<'_>) -> Result<(), String> {
        self.columns.iter_mut().try_for_each(|values| values.push(shard, record))
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.columns.iter_mut().for_each(|values| values.truncate(len));
    }

    pub(super) fn take(&mut self) -> Vec<ArrayRef> {
        self.columns.iter_mut().map(Values::take).collect()
    }
}

impl Values {
    #[inline]
    fn push(&mut self, shard: ShardId, record: &Record<'_>) -> Result<(), String> {
        match self {
            Self::Shard(values) => values.push(shard.get()),
            Self::Sequence(values) => values.push(record.sequence().get()),
            // A time beyond Arrow's range becomes the last one in it.
            Self::Arrival(values) => {
                values.push(i64::try_from(record.timestamp().as_micros()).unwrap_or(i64::MAX));
            }
            Self::Key(values) => {
                return values.push(String::from_utf8_lossy(record.partition_key()).as_bytes());
            }
            Self::Data(values) => return values.push(record.data()),
            Self::Headers { ends, names, values } => {
                for (name, value) in record.headers() {
                    names.push(name.as_bytes())?;
                    values.push(value)?;
                }
                let end = i32::try_from(names.len());
                ends.push(end.map_err(|_| "a batch would have more than 2^31 headers")?);
            }
        }
        Ok(())
    }

    fn truncate(&mut self, len: usize) {
        match self {
            Self::Shard(values) => values.truncate(len),
            Self::Sequence(values) => values.truncate(len),
            Self::Arrival(values) => values.truncate(len),
            Self::Key(values) | Self::Data(values) => values.truncate(len),
            Self::Headers { ends, names, values } => {
                ends.truncate(len + 1);
                names.truncate(ends[len] as usize);
                values.truncate(ends[len] as usize);
            }
        }
    }

    fn take(&mut self) -> ArrayRef {
        match self {
            Self::Shard(values) => Arc::new(UInt32Array::new(renew(values).into(), None)),
            Self::Sequence(values) => Arc::new(UInt64Array::new(renew(values).into(), None)),
            Self::Arrival(values) => {
                let values = PrimitiveArray::<TimestampMicrosecondType>::new(renew(values).into(), None);
                Arc::new(values.with_data_type(timestamp_type()))
            }
            Self::Key(values) => Arc::new(values.take_texts(None)),
            Self::Data(values) => Arc::new(values.take_bytes(None)),
            Self::Headers { ends, names, values } => {
                let offsets = OffsetBuffer::new(ScalarBuffer::from(renew(ends)));
                ends.push(0);
                let columns: Vec<ArrayRef> =
                    vec![Arc::new(names.take_texts(None)), Arc::new(values.take_bytes(None))];
                let entries = StructArray::new(header_fields(), columns, None);
                Arc::new(MapArray::new(header_field(), offsets, entries, None, false))
            }
        }
    }
}
