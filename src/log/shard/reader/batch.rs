//! A batch: what one read of a shard returned.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use super::Reader;
use super::record::Record;
use crate::log::format::frame::{FRAME_HEADER_BYTES, FrameHeader};
use crate::log::format::record::RecordParts;
use crate::log::types::describe::ShardDescription;
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::shard_id::ShardId;
use crate::log::types::time::Timestamp;

/// The records that one read returned, in order. They are the bytes of the log itself, without a copy.
///
/// A batch keeps its part of the log mapped, even after retention has removed the file.
///
/// ```
/// # use streamlog::{Position, Stream};
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// let receipt = stream.put("user-17", "clicked")?;
/// let batch = stream.iterator(receipt.shard, Position::TrimHorizon)?.next_batch(1_000)?;
/// assert_eq!((batch.len(), batch.last_sequence()), (1, Some(receipt.sequence)));
/// for record in &batch {
///     assert_eq!(record.data(), b"clicked");
/// }
/// assert_eq!(batch.millis_behind_latest(), 0, "there is nothing behind it");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Batch {
    pub(super) shard: ShardId,
    /// The frames that hold the records.
    pub(super) bytes: Bytes,
    /// The place of the batch's first record in its first frame.
    pub(super) first: RecordPlace,
    pub(super) first_sequence: SequenceNumber,
    pub(super) record_count: usize,
    pub(super) last_timestamp: Option<Timestamp>,
    pub(super) millis_behind_latest: u64,
    /// The bytes that the records take in the log.
    pub(super) log_bytes: u64,
    /// The number of the key that the records were encrypted with.
    pub(super) data_key: Option<u32>,
    pub(super) children: Option<Vec<ShardDescription>>,
}

/// A record's place within its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct RecordPlace {
    pub(super) index: u32,
    /// The bytes of the records before it.
    pub(super) offset: usize,
}

impl Batch {
    /// Returns the shard that was read.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// Returns the number of records.
    pub fn len(&self) -> usize {
        self.record_count
    }

    /// Returns whether the batch is empty, because the iterator was at the end.
    pub fn is_empty(&self) -> bool {
        self.record_count == 0
    }

    /// Returns the number of the first record.
    pub fn first_sequence(&self) -> Option<SequenceNumber> {
        (!self.is_empty()).then_some(self.first_sequence)
    }

    /// Returns the number of the last record.
    pub fn last_sequence(&self) -> Option<SequenceNumber> {
        self.record_count.checked_sub(1).map(|more| self.first_sequence.plus(more as u64))
    }

    /// Returns the number of the data key that the records were encrypted with, or `None` if they were not. It is the same for all records
    /// of a batch.
    ///
    /// Anyone who can write to the stream's files can add plain records, even to an encrypted stream. A reader that trusts only writers
    /// with the key should check this.
    pub fn data_key(&self) -> Option<u32> {
        self.data_key
    }

    /// Returns how many bytes the batch and its clones keep in memory or mapped. A batch keeps whole frames, so this exceeds the size of its
    /// records.
    pub fn memory_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Returns when the last record arrived.
    pub fn last_timestamp(&self) -> Option<Timestamp> {
        self.last_timestamp
    }

    /// Returns how far behind the newest record the batch ends, in milliseconds: 0 if it reaches the end, otherwise the age of its last
    /// record, as in Kinesis, but at least 1.
    pub fn millis_behind_latest(&self) -> u64 {
        self.millis_behind_latest
    }

    /// Returns the batch with the age of its last record, for a caller that has more to read in another shard.
    pub(crate) fn with_more_left(self, reader: &Reader) -> Self {
        let age = self.last_timestamp.map_or(Duration::ZERO, |last| reader.clock.now().since(last));
        let millis_behind_latest = (age.as_millis() as u64).max(1);
        Self { millis_behind_latest, ..self }
    }

    /// Returns the child shards to continue with, once a closed shard is read to its end; `None` before. Kinesis calls them `ChildShards`.
    ///
    /// As in Kinesis, all parents of a child must be read before the child.
    ///
    /// ```
    /// # use streamlog::{Position, Stream};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let parent = stream.put("user-17", "clicked")?.shard;
    /// let children = stream.split_shard_evenly(parent)?;
    /// let mut iterator = stream.iterator(parent, Position::TrimHorizon)?;
    /// let batch = iterator.next_batch(1_000)?;
    /// assert_eq!(batch.child_shards(), Some(&children[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn child_shards(&self) -> Option<&[ShardDescription]> {
        self.children.as_deref()
    }

    /// Returns the records in order.
    pub fn iter(&self) -> Records<'_> {
        Records {
            batch: &self.bytes,
            skip: self.first,
            frames: &self.bytes,
            records: &[],
            left_in_frame: 0,
            timestamp: Timestamp::default(),
            sequence: self.first_sequence,
            left: self.record_count,
        }
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("shard", &self.shard)
            .field("first_sequence", &self.first_sequence)
            .field("record_count", &self.record_count)
            .field("millis_behind_latest", &self.millis_behind_latest)
            .field("children", &self.children)
            .finish_non_exhaustive()
    }
}

impl<'a> IntoIterator for &'a Batch {
    type Item = Record<'a>;
    type IntoIter = Records<'a>;

    fn into_iter(self) -> Records<'a> {
        self.iter()
    }
}

/// The records of a batch in order.
///
/// ```
/// # use streamlog::{Position, PutRecord, Stream};
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// stream.put_batch(&[PutRecord::new("a", "1"), PutRecord::new("b", "2")])?;
/// let batch = stream.iterator(stream.shards()[0].id, Position::TrimHorizon)?.next_batch(10)?;
/// let data: Vec<&[u8]> = batch.iter().map(|record| record.data()).collect();
/// assert_eq!(data, [b"1", b"2"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Records<'a> {
    batch: &'a Bytes,
    /// The first record's place in the next frame.
    skip: RecordPlace,
    /// The frames behind the current one.
    frames: &'a [u8],
    /// The records left in the current frame, and their number.
    records: &'a [u8],
    left_in_frame: u32,
    timestamp: Timestamp,
    sequence: SequenceNumber,
    left: usize,
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    #[inline]
    fn next(&mut self) -> Option<Record<'a>> {
        if self.left == 0 {
            return None;
        }
        if self.left_in_frame == 0 {
            self.enter_next_frame()?;
        }
        // Reading the batch has checked all of this. The checks here cost little and avoid a panic.
        let (parts, rest) = RecordParts::split_off(self.records)?;
        let record = Record { batch: self.batch, parts, sequence: self.sequence, timestamp: self.timestamp };
        self.records = rest;
        self.left_in_frame -= 1;
        self.sequence = self.sequence.plus(1);
        self.left -= 1;
        Some(record)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl std::iter::FusedIterator for Records<'_> {}

impl ExactSizeIterator for Records<'_> {}

impl<'a> Records<'a> {
    #[inline]
    fn enter_next_frame(&mut self) -> Option<()> {
        let header = FrameHeader::peek(self.frames).ok()?;
        let (frame, behind) = self.frames.split_at(header.len);
        let skip = std::mem::take(&mut self.skip);
        self.frames = behind;
        self.records = frame[FRAME_HEADER_BYTES..].get(skip.offset..)?;
        self.left_in_frame = header.count.checked_sub(skip.index).filter(|&left| left > 0)?;
        self.timestamp = Timestamp::from_micros(header.timestamp_micros);
        Some(())
    }
}
