//! Records: as they are put, as they are read, and the receipt for one.

use bytes::Bytes;

use super::hash_key::HashKey;
use super::sequence::SequenceNumber;
use super::shard_id::ShardId;
use super::time::Timestamp;

/// A record to put: partition key, data and, if the caller chooses the place itself, a hash key.
///
/// ```
/// # use streamlog::{HashKey, PutRecord};
/// let record = PutRecord::new("user-17", b"clicked");
/// let placed = PutRecord::new("user-17", b"clicked").explicit_hash_key(HashKey::MAX);
/// # assert_eq!(record.partition_key(), placed.partition_key());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PutRecord<'a> {
    partition_key: &'a [u8],
    data: &'a [u8],
    explicit_hash_key: Option<HashKey>,
}

impl<'a> PutRecord<'a> {
    /// A record that goes where the hash of its partition key says.
    #[inline]
    pub fn new<K, D>(partition_key: &'a K, data: &'a D) -> Self
    where
        K: AsRef<[u8]> + ?Sized,
        D: AsRef<[u8]> + ?Sized,
    {
        Self { partition_key: partition_key.as_ref(), data: data.as_ref(), explicit_hash_key: None }
    }

    /// Sends the record to the shard that owns `hash_key` instead; the partition key is still stored.
    #[must_use]
    pub fn explicit_hash_key(mut self, hash_key: HashKey) -> Self {
        self.explicit_hash_key = Some(hash_key);
        self
    }

    /// The partition key.
    #[inline]
    pub fn partition_key(&self) -> &'a [u8] {
        self.partition_key
    }

    /// The data.
    #[inline]
    pub fn data(&self) -> &'a [u8] {
        self.data
    }

    /// The hash key that the caller chose, if any.
    #[inline]
    pub fn hash_key(&self) -> Option<HashKey> {
        self.explicit_hash_key
    }
}

/// What a put returns: where the record is.
///
/// ```
/// # use streamlog::Stream;
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// let first = stream.put("user-17", "/")?;
/// let second = stream.put("user-17", "/cart")?;
/// assert_eq!(second.shard, first.shard);
/// assert_eq!(second.sequence, first.sequence.plus(1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Receipt {
    /// The shard that holds the record.
    pub shard: ShardId,
    /// The record's sequence number in that shard.
    pub sequence: SequenceNumber,
}

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
    pub(crate) batch: &'a Bytes,
    pub(crate) partition_key: &'a [u8],
    pub(crate) data: &'a [u8],
    pub(crate) sequence: SequenceNumber,
    pub(crate) timestamp: Timestamp,
}

impl<'a> Record<'a> {
    /// The partition key that the record was put with.
    #[inline]
    pub fn partition_key(&self) -> &'a [u8] {
        self.partition_key
    }

    /// The data that the record was put with.
    #[inline]
    pub fn data(&self) -> &'a [u8] {
        self.data
    }

    /// The record's place in its shard.
    #[inline]
    pub fn sequence(&self) -> SequenceNumber {
        self.sequence
    }

    /// When the record arrived; never decreases in a shard.
    #[inline]
    pub fn timestamp(&self) -> Timestamp {
        self.timestamp
    }

    /// The record to keep: it shares the batch's bytes, and keeps them mapped, without a copy.
    pub fn to_owned(&self) -> OwnedRecord {
        OwnedRecord {
            partition_key: self.batch.slice_ref(self.partition_key),
            data: self.batch.slice_ref(self.data),
            sequence: self.sequence,
            timestamp: self.timestamp,
        }
    }
}

/// A record that stands by itself. It keeps its part of the log mapped, also after the file is trimmed.
///
/// ```
/// # use streamlog::{OwnedRecord, Position, Stream};
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// let receipt = stream.put("user-17", "clicked")?;
/// let batch = stream.iterator(receipt.shard, Position::TrimHorizon)?.next_batch(10)?;
/// let kept: Vec<OwnedRecord> = batch.iter().map(|record| record.to_owned()).collect();
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
    /// When the record arrived; never decreases in a shard.
    pub timestamp: Timestamp,
}

/// The logical place in a shard from which an iterator reads.
///
/// ```
/// # use streamlog::{MINUTE, Position, Stream};
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// let first = stream.put("user-17", "/")?;
/// stream.put("user-17", "/cart")?;
/// let count = |position| Ok::<_, streamlog::Error>(stream.iterator(first.shard, position)?.records().count());
/// assert_eq!(count(Position::TrimHorizon)?, 2);
/// assert_eq!(count(Position::After(first.sequence))?, 1);
/// assert_eq!(count(Position::Latest)?, 0);
/// assert_eq!(count(Position::AtTimestamp(stream.now().minus(MINUTE)))?, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Position {
    /// The oldest readable record at the time of the call: if that is trimmed before it is read, the read says so.
    TrimHorizon,
    /// Just after the newest record at the time of the call: a record put later is returned.
    Latest,
    /// The record with this number. One the shard has not reached yet is waited for; one that was before the
    /// shard's first record means the first.
    At(SequenceNumber),
    /// The record after the one with this number.
    After(SequenceNumber),
    /// The first record that arrived at this time or later. A time before the horizon means the horizon, as in Kinesis;
    /// a time in the future is an error, as in Kinesis.
    AtTimestamp(Timestamp),
}
