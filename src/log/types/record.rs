//! Records as they are put, their receipts, and the positions from which they are read.

use super::hash_key::HashKey;
use super::sequence::SequenceNumber;
use super::shard_id::ShardId;
use super::time::Timestamp;

/// A record to put: partition key, data and, optionally, headers and a hash key of the caller's choice.
///
/// ```
/// # use streamlog::{HashKey, PutRecord};
/// let record = PutRecord::new("user-17", b"clicked").header("content-type", "text/plain");
/// let placed = PutRecord::new("user-17", b"clicked").explicit_hash_key(HashKey::MAX);
/// # assert_eq!(record.partition_key, placed.partition_key);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutRecord<'a> {
    /// The partition key.
    pub partition_key: &'a [u8],
    /// The data.
    pub data: &'a [u8],
    /// A hash key to use instead of the partition key's hash, if any.
    pub explicit_hash_key: Option<HashKey>,
    headers: Vec<(&'a str, &'a [u8])>,
}

impl<'a> PutRecord<'a> {
    /// Returns a record that goes to the shard that owns the hash of its partition key.
    #[inline]
    pub fn new<K, D>(partition_key: &'a K, data: &'a D) -> Self
    where
        K: AsRef<[u8]> + ?Sized,
        D: AsRef<[u8]> + ?Sized,
    {
        Self {
            partition_key: partition_key.as_ref(),
            data: data.as_ref(),
            explicit_hash_key: None,
            headers: Vec::new(),
        }
    }

    /// Adds a header: a named value that goes with the record, such as a trace id or a content type. Headers keep their order, and a name
    /// may occur more than once.
    ///
    /// A name has 1 to 255 bytes. A record without headers has no overhead. A record with headers has 4 bytes of overhead, plus 6 for each
    /// header. The overhead, names and values count towards the largest record.
    #[must_use]
    pub fn header<V: AsRef<[u8]> + ?Sized>(mut self, name: &'a str, value: &'a V) -> Self {
        self.headers.push((name, value.as_ref()));
        self
    }

    /// Sends the record to the shard that owns `hash_key` instead. The partition key is still stored.
    #[must_use]
    pub fn explicit_hash_key(mut self, hash_key: HashKey) -> Self {
        self.explicit_hash_key = Some(hash_key);
        self
    }

    /// Returns the headers, in their order.
    pub fn headers(&self) -> impl ExactSizeIterator<Item = (&'a str, &'a [u8])> {
        self.headers.iter().copied()
    }

    #[inline]
    pub(crate) fn header_list(&self) -> &[(&'a str, &'a [u8])] {
        &self.headers
    }
}

/// The receipt of a put: where the record is.
///
/// ```
/// # use streamlog::Stream;
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// let first = stream.put("user-17", "/")?;
/// let second = stream.put("user-17", "/cart")?;
/// assert_eq!(second.shard, first.shard);
/// assert_eq!(second.sequence, first.sequence.plus(1));
/// assert!(second.timestamp >= first.timestamp);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Receipt {
    /// The shard that holds the record.
    pub shard: ShardId,
    /// The record's sequence number in that shard.
    pub sequence: SequenceNumber,
    /// When the record arrived, as its readers see it.
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
/// assert_eq!(count(Position::AtTimestamp(stream.now() - MINUTE))?, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Position {
    /// The oldest readable record at the time of the call. If it is trimmed before it is read, the read fails with `Trimmed`.
    TrimHorizon,
    /// Just after the newest record at the time of the call. Records put later are returned.
    Latest,
    /// The record with this number. If the shard has not reached it yet, reads return nothing until it does. A number before the shard's
    /// first record means the first record.
    At(SequenceNumber),
    /// The record after the one with this number.
    After(SequenceNumber),
    /// The first record that arrived at this time or later. A time before the horizon means the horizon, as in Kinesis; a time in the
    /// future is an error, as in Kinesis.
    AtTimestamp(Timestamp),
}
