//! Records as they are read.

use bytes::Bytes;

use crate::log::format::headers::Headers;
use crate::log::format::record::RecordParts;
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::time::Timestamp;

/// A record of a batch, borrowed from it.
///
/// ```
/// # use streamlog::{Position, Stream};
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// let receipt = stream.put("user-17", "clicked")?;
/// let batch = stream.iterator(receipt.shard, Position::TrimHorizon)?.next_batch(10)?;
/// let record = batch.iter().next().expect("one was put");
/// assert_eq!((record.partition_key(), record.data()), (&b"user-17"[..], &b"clicked"[..]));
/// assert_eq!(record.sequence(), receipt.sequence);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    pub(super) batch: &'a Bytes,
    pub(super) parts: RecordParts<'a>,
    pub(super) sequence: SequenceNumber,
    pub(super) timestamp: Timestamp,
}

impl<'a> Record<'a> {
    /// Returns the partition key that the record was put with.
    #[inline]
    pub fn partition_key(&self) -> &'a [u8] {
        self.parts.partition_key()
    }

    /// Returns the data that the record was put with.
    #[inline]
    pub fn data(&self) -> &'a [u8] {
        self.parts.data()
    }

    /// Returns the headers that the record was put with.
    #[inline]
    pub fn headers(&self) -> Headers<'a> {
        Headers::new(self.parts.headers())
    }

    /// Returns the record's place in its shard.
    #[inline]
    pub fn sequence(&self) -> SequenceNumber {
        self.sequence
    }

    /// Returns when the record arrived. It never decreases within a shard.
    #[inline]
    pub fn timestamp(&self) -> Timestamp {
        self.timestamp
    }

    /// Returns the record as an owned one. It shares the batch's bytes without a copy and keeps them mapped.
    pub fn into_owned(self) -> OwnedRecord {
        OwnedRecord {
            partition_key: self.batch.slice_ref(self.parts.partition_key()),
            data: self.batch.slice_ref(self.parts.data()),
            headers: self.batch.slice_ref(self.parts.headers()),
            sequence: self.sequence,
            timestamp: self.timestamp,
        }
    }
}

/// A record that outlives its batch. It keeps its part of the log mapped, even after the file is trimmed.
///
/// ```
/// # use streamlog::{OwnedRecord, Position, Stream};
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// let receipt = stream.put("user-17", "clicked")?;
/// let batch = stream.iterator(receipt.shard, Position::TrimHorizon)?.next_batch(10)?;
/// let kept: Vec<OwnedRecord> = batch.iter().map(|record| record.into_owned()).collect();
/// drop(batch);
/// assert_eq!(kept[0].data, "clicked");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedRecord {
    /// The partition key that the record was put with.
    pub partition_key: Bytes,
    /// The data that the record was put with.
    pub data: Bytes,
    /// The record's place in its shard.
    pub sequence: SequenceNumber,
    /// When the record arrived. It never decreases within a shard.
    pub timestamp: Timestamp,
    headers: Bytes,
}

impl OwnedRecord {
    /// Returns the headers that the record was put with.
    pub fn headers(&self) -> Headers<'_> {
        Headers::new(&self.headers)
    }
}
