//! The parts of a shard: records that go into objects of their own.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::{SequenceNumber, Timestamp};

/// Records of a shard that go into the same objects.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Part {
    /// Records with these values of the partition keys.
    Records(Vec<String>),
    /// What could not be delivered.
    Errors(ErrorKind),
    /// The records as they were put.
    Backup,
}

impl Part {
    /// Returns whether these are the records of a shard that has no partition keys.
    pub(super) fn has_all_records(&self) -> bool {
        matches!(self, Self::Records(keys) if keys.is_empty())
    }
}

/// Why something could not be delivered. It is part of the names of error output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum ErrorKind {
    /// A step failed, or a partition key has no value.
    Processing,
    /// A record does not fit into the format.
    FormatConversion,
}

impl ErrorKind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Processing => "processing-failed",
            Self::FormatConversion => "format-conversion-failed",
        }
    }
}

/// Which records of its part an object holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) first: SequenceNumber,
    /// The index of its first row among the rows that the first record became. No other object has the same pair.
    pub(super) first_index: u32,
    pub(super) last: SequenceNumber,
    /// When the first record arrived.
    pub(super) oldest: Timestamp,
}

impl Span {
    /// Returns whether the rows of a record are in the object, if they are of its part.
    pub(super) fn holds(&self, sequence: SequenceNumber) -> bool {
        (self.first..=self.last).contains(&sequence)
    }
}

/// A row of an object: what a record became, or a part of that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row<'a> {
    pub(super) part: Part,
    pub(super) data: Cow<'a, [u8]>,
    /// The partition key of the record.
    pub(super) key: Cow<'a, [u8]>,
}

/// The source of a row of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) sequence: SequenceNumber,
    /// The index of the row among those that the record became.
    pub(super) index: u32,
    /// The partition key of the record.
    pub(super) key: Box<[u8]>,
}

impl Origin {
    pub(super) fn memory_bytes(&self) -> usize {
        // The capacity of a list of them is at most twice its length.
        2 * size_of::<Self>() + self.key.len()
    }
}
