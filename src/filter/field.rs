//! The fields of a record that a pattern may name, as they are in the events of Lambda.

use super::condition::Scalar;
use crate::{SequenceNumber, Timestamp};

/// A field that has one value. The data is none of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    PartitionKey,
    SequenceNumber,
    ApproximateArrivalTimestamp,
    Constant(&'static str),
}

pub(super) const DATA: &str = "data";

/// The fields other than the data.
pub(super) const FIELDS: [(&str, Field); 7] = [
    ("partitionKey", Field::PartitionKey),
    ("sequenceNumber", Field::SequenceNumber),
    ("approximateArrivalTimestamp", Field::ApproximateArrivalTimestamp),
    ("kinesisSchemaVersion", Field::Constant("1.0")),
    ("eventSource", Field::Constant("aws:kinesis")),
    ("eventName", Field::Constant("aws:kinesis:record")),
    ("eventVersion", Field::Constant("1.0")),
];

/// What a filter looks at in a record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts<'a> {
    pub(super) partition_key: &'a [u8],
    pub(super) data: &'a [u8],
    pub(super) sequence: SequenceNumber,
    pub(super) timestamp: Timestamp,
}

impl<'a> Parts<'a> {
    pub(super) fn value(&self, field: Field) -> Scalar<'a> {
        match field {
            Field::PartitionKey => Scalar::Text(String::from_utf8_lossy(self.partition_key)),
            Field::SequenceNumber => Scalar::Text(self.sequence.to_string().into()),
            Field::ApproximateArrivalTimestamp => {
                let millis = self.timestamp.as_millis();
                Scalar::Number(format!("{}.{:03}", millis / 1_000, millis % 1_000).into())
            }
            Field::Constant(text) => Scalar::Text(text.into()),
        }
    }
}
