//! The function of a delivery: what it gets, what it answers, and who calls it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::http_function::HttpFunction;
use crate::{Headers, SequenceNumber, ShardId, Timestamp, extend};

/// A record on its way into an object.
#[derive(Debug, Clone, Copy)]
pub struct DeliveryRecord<'a> {
    pub(super) shard: ShardId,
    pub(super) sequence: SequenceNumber,
    pub(super) sub_sequence: u64,
    pub(super) arrival: Timestamp,
    pub(super) partition_key: &'a [u8],
    pub(super) headers: Headers<'a>,
    pub(super) data: &'a [u8],
}

impl<'a> DeliveryRecord<'a> {
    /// Returns the record's shard.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// Returns the sequence number.
    pub fn sequence(&self) -> SequenceNumber {
        self.sequence
    }

    /// Returns the record's index in its aggregate, or among the CloudWatch log events of its record, or 0.
    pub fn sub_sequence(&self) -> u64 {
        self.sub_sequence
    }

    /// Returns when the record arrived.
    pub fn timestamp(&self) -> Timestamp {
        self.arrival
    }

    /// Returns the partition key.
    pub fn partition_key(&self) -> &'a [u8] {
        self.partition_key
    }

    /// Returns the headers.
    pub fn headers(&self) -> Headers<'a> {
        self.headers
    }

    /// Returns the data, as the previous steps have left it.
    pub fn data(&self) -> &'a [u8] {
        self.data
    }
}

/// The result of a function for a record.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Transformed(pub(super) Outcome);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Rows(Vec<(Vec<u8>, Partition)>),
    Failed(String),
}

/// The values of the partition keys that a function gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Partition {
    InOrder(Vec<String>),
    ByName(BTreeMap<String, String>),
}

impl Transformed {
    /// One row with this data.
    pub fn row(data: impl Into<Vec<u8>>) -> Self {
        Self::row_in(data, [])
    }

    /// Adds a row with this data. A record that has failed remains failed.
    pub fn and_row(self, data: impl Into<Vec<u8>>) -> Self {
        self.and_row_in(data, [])
    }

    /// One row with this data, and with the values of the delivery's [partition keys](super::DeliveryOptions::partition_keys), in their order.
    pub fn row_in<const N: usize>(data: impl Into<Vec<u8>>, partition: [&str; N]) -> Self {
        Self::dropped().and_row_in(data, partition)
    }

    /// Adds a row with values of the partition keys.
    pub fn and_row_in<const N: usize>(self, data: impl Into<Vec<u8>>, partition: [&str; N]) -> Self {
        let Outcome::Rows(mut rows) = self.0 else { return self };
        rows.push((data.into(), Partition::InOrder(partition.map(str::to_owned).to_vec())));
        Self(Outcome::Rows(rows))
    }

    /// No row: the record is not delivered, which is not an error.
    pub fn dropped() -> Self {
        Self(Outcome::Rows(vec![]))
    }

    /// The record goes to the error output, with this reason.
    pub fn failed(reason: impl fmt::Display) -> Self {
        Self(Outcome::Failed(reason.to_string()))
    }
}

type OfRecord = dyn Fn(&DeliveryRecord<'_>) -> Transformed + Send + Sync;
type OfBatch = dyn Fn(&[DeliveryRecord<'_>]) -> Vec<Transformed> + Send + Sync;

/// The function of a delivery.
#[derive(Clone)]
pub(super) enum Function {
    Each(Arc<OfRecord>),
    Batch(Arc<OfBatch>),
    Http(Arc<HttpFunction>),
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Each(_) => f.write_str("a function of a record"),
            Self::Batch(_) => f.write_str("a function of a batch"),
            Self::Http(function) => function.fmt(f),
        }
    }
}

/// Why a call has failed for all of its records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CallError {
    /// Firehose's word for it.
    pub(super) code: &'static str,
    pub(super) message: String,
    /// Whether the same call may have another outcome.
    pub(super) is_worth_repeating: bool,
}

impl CallError {
    pub(super) fn permanent(message: impl Into<String>) -> Self {
        Self {
            code: super::error_output::PROCESSING_FAILED,
            message: message.into(),
            is_worth_repeating: false,
        }
    }
}

impl Function {
    /// Calls the function. Its results are in the order of the records.
    pub(super) fn call(&self, records: &[DeliveryRecord<'_>]) -> Result<Vec<Transformed>, CallError> {
        const PANICKED: &str = "the function has panicked";
        match self {
            Self::Each(function) => {
                let call = |record| extend::run_callback(|| function(record));
                let transformed = records.iter().map(call);
                Ok(transformed.map(|made| made.unwrap_or_else(|| Transformed::failed(PANICKED))).collect())
            }
            Self::Batch(function) => {
                let made = extend::run_callback(|| function(records));
                let made = made.ok_or_else(|| CallError::permanent(PANICKED))?;
                if made.len() != records.len() {
                    return Err(CallError::permanent(format!(
                        "the function has returned {} outcomes for {} records",
                        made.len(),
                        records.len()
                    )));
                }
                Ok(made)
            }
            Self::Http(function) => function.call(records),
        }
    }

    /// Bounds the time of a call that this process cannot end by itself.
    pub(super) fn with_timeout(self, timeout: Duration) -> Self {
        match self {
            Self::Http(function) => Self::Http(Arc::new(function.with_timeout(timeout))),
            function => function,
        }
    }

    /// Returns how often a failed call is retried.
    pub(super) fn retries(&self) -> u32 {
        match self {
            Self::Each(_) | Self::Batch(_) => 0,
            Self::Http(function) => function.retries,
        }
    }

    /// Returns the name of the function for the error output, if it has one.
    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Self::Each(_) | Self::Batch(_) => None,
            Self::Http(function) => Some(function.shown()),
        }
    }
}
