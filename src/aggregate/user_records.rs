//! The user records of a record or of a batch.

use std::collections::VecDeque;

use super::decode::{Aggregate, messages_of};
use super::md5::LANES;
use crate::{Batch, HashKey, HashKeyRange, KeyHash, Record, Records, SequenceNumber, Timestamp};

/// Returns the user records of a batch (`&batch`) or of one record of it, without a copy. A plain record is returned as it is.
///
/// It returns all user records, whatever shard they belong to, like AWS' deaggregation libraries. [`UserRecords::within`] drops those that
/// belong to another shard, as the KCL does. In a consumer group, [`Worker::user_records`](crate::Worker::user_records) does this too, and
/// continues within an aggregate after a restart.
///
/// ```
/// # use streamlog::aggregate::{Aggregator, deaggregate};
/// # use streamlog::{Position, PutRecord, Stream};
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// let mut aggregator = Aggregator::new();
/// aggregator.add(&PutRecord::new("user-17", "/"))?;
/// aggregator.add(&PutRecord::new("user-4", "/cart"))?;
/// let record = aggregator.finish().expect("two user records");
/// let aggregated = stream.put_record(&record.as_put())?;
/// let plain = stream.put("user-17", "/checkout")?;
///
/// let batch = stream.iterator(plain.shard, Position::TrimHorizon)?.next_batch(10)?;
/// let found: Vec<_> = deaggregate(&batch)
///     .map(|record| (record.sequence(), record.sub_sequence(), record.partition_key(), record.is_aggregated()))
///     .collect();
/// assert_eq!(
///     found,
///     [
///         (aggregated.sequence, 0, &b"user-17"[..], true),
///         (aggregated.sequence, 1, &b"user-4"[..], true),
///         (plain.sequence, 0, &b"user-17"[..], false),
///     ]
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn deaggregate<'a>(records: impl Into<UserRecords<'a>>) -> UserRecords<'a> {
    records.into()
}

/// A record as its producer put it: alone, or packed into an aggregate with others. It borrows the batch.
///
/// The sequence number and the sub-sequence number identify a user record. They are the same each time it is read.
#[derive(Debug, Clone, Copy)]
pub struct UserRecord<'a> {
    record: Record<'a>,
    sub_sequence: u64,
    partition_key: &'a [u8],
    explicit_hash_key: Option<HashKey>,
    data: &'a [u8],
    is_aggregated: bool,
    is_last: bool,
}

impl<'a> UserRecord<'a> {
    /// Returns the sequence number of the containing record.
    #[inline]
    pub fn sequence(&self) -> SequenceNumber {
        self.record.sequence()
    }

    /// Returns its index in the aggregate, from 0. A plain record has 0.
    #[inline]
    pub fn sub_sequence(&self) -> u64 {
        self.sub_sequence
    }

    /// Returns when the containing record arrived.
    #[inline]
    pub fn timestamp(&self) -> Timestamp {
        self.record.timestamp()
    }

    /// Returns its own partition key.
    #[inline]
    pub fn partition_key(&self) -> &'a [u8] {
        self.partition_key
    }

    /// Returns its own explicit hash key, if the aggregate has one for it. A plain record has none: a stream does not store it.
    #[inline]
    pub fn explicit_hash_key(&self) -> Option<HashKey> {
        self.explicit_hash_key
    }

    /// Returns its data.
    #[inline]
    pub fn data(&self) -> &'a [u8] {
        self.data
    }

    /// Returns whether it comes from an aggregate.
    #[inline]
    pub fn is_aggregated(&self) -> bool {
        self.is_aggregated
    }

    /// Returns whether it is the last user record of the containing record.
    #[inline]
    pub fn is_last(&self) -> bool {
        self.is_last
    }

    /// Returns the containing record of the stream, with its headers.
    #[inline]
    pub fn record(&self) -> Record<'a> {
        self.record
    }
}

/// The user records of a record or of a batch, in order. [`deaggregate`] and [`Worker::user_records`](crate::Worker::user_records) return
/// it.
///
/// Nothing is dropped silently: after the last user record, [`foreign_count`](Self::foreign_count) and [`broken_count`](Self::broken_count)
/// return how many aggregates were affected. [The rules](crate::aggregate#which-records-are-aggregates) are those of the KCL.
///
/// ```
/// # use streamlog::aggregate::deaggregate;
/// # use streamlog::{Position, Stream};
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// # stream.put("user-17", "/")?;
/// # let batch = stream.iterator(stream.shards()[0].id, Position::TrimHorizon)?.next_batch(10)?;
/// let mut records = deaggregate(&batch);
/// for record in &mut records {
///     println!("{:?}", record.data());
/// }
/// if records.broken_count() > 0 {
///     eprintln!("a producer has written {} broken aggregates", records.broken_count());
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct UserRecords<'a> {
    records: RecordsLeft<'a>,
    /// The next records, each with the message in it if it is an aggregate with the right digest. Several are read ahead together, because their
    /// digests are computed side by side.
    ahead: VecDeque<(Record<'a>, Option<&'a [u8]>)>,
    /// The aggregate whose user records are being returned, the record that holds it, and the index of its next user record.
    current: Option<(Record<'a>, Aggregate<'a>, usize)>,
    range: HashKeyRange,
    key_hash: KeyHash,
    /// The first user record to return: its record, and its index there.
    start: (SequenceNumber, u64),
    foreign_count: u64,
    broken_count: u64,
}

#[derive(Debug, Clone)]
enum RecordsLeft<'a> {
    One(Option<Record<'a>>),
    Many(Records<'a>),
}

impl<'a> From<Record<'a>> for UserRecords<'a> {
    fn from(record: Record<'a>) -> Self {
        Self::new(RecordsLeft::One(Some(record)))
    }
}

impl<'a> From<&'a Batch> for UserRecords<'a> {
    fn from(batch: &'a Batch) -> Self {
        Self::new(RecordsLeft::Many(batch.iter()))
    }
}

impl<'a> UserRecords<'a> {
    fn new(records: RecordsLeft<'a>) -> Self {
        Self {
            records,
            ahead: VecDeque::new(),
            current: None,
            range: HashKeyRange::ALL,
            key_hash: KeyHash::Md5,
            start: (SequenceNumber::ZERO, 0),
            foreign_count: 0,
            broken_count: 0,
        }
    }

    /// Drops aggregates with a user record outside this range of hash keys, as the KCL does with the range of the shard. The KPL, which
    /// hashes keys with [`KeyHash::Md5`], sends such user records again.
    ///
    /// ```
    /// # use streamlog::aggregate::{Aggregator, deaggregate};
    /// # use streamlog::{HashKey, KeyHash, Position, PutRecord, StreamOptions};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = StreamOptions::new().shards(2).key_hash(KeyHash::Md5).open(directory.path())?;
    /// let mut aggregator = Aggregator::new();
    /// for hash_key in [HashKey::MIN, HashKey::MAX] {
    ///     aggregator.add(&PutRecord::new("user-17", "/").explicit_hash_key(hash_key))?;
    /// }
    /// stream.put_record(&aggregator.finish().expect("two user records").as_put())?;
    ///
    /// let shard = &stream.shards()[0];
    /// let batch = stream.iterator(shard.id, Position::TrimHorizon)?.next_batch(10)?;
    /// let mut records = deaggregate(&batch).within(shard.hash_key_range, KeyHash::Md5);
    /// assert_eq!((records.next().is_none(), records.foreign_count()), (true, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn within(self, range: HashKeyRange, key_hash: KeyHash) -> Self {
        Self { range, key_hash, ..self }
    }

    /// Begins with this user record, and skips the previous ones, for a program that stores its own position.
    #[must_use]
    pub fn starting_at(self, sequence: SequenceNumber, sub_sequence: u64) -> Self {
        Self { start: (sequence, sub_sequence), ..self }
    }

    /// Returns how many aggregates were dropped so far because one of their user records does not belong to the shard.
    pub fn foreign_count(&self) -> u64 {
        self.foreign_count
    }

    /// Returns how many aggregates so far lost user records, from the first broken one on.
    pub fn broken_count(&self) -> u64 {
        self.broken_count
    }

    #[inline]
    fn next_of_current(&mut self) -> Option<UserRecord<'a>> {
        let (record, aggregate, index) = self.current.as_mut()?;
        let Some(part) = aggregate.get(*index) else {
            self.current = None;
            return None;
        };
        let sub_sequence = *index as u64;
        *index += 1;
        Some(UserRecord {
            record: *record,
            sub_sequence,
            partition_key: part.partition_key,
            explicit_hash_key: part.explicit_hash_key,
            data: part.data,
            is_aggregated: true,
            is_last: *index == aggregate.len(),
        })
    }

    fn next_record(&mut self) -> Option<(Record<'a>, Option<&'a [u8]>)> {
        if self.ahead.is_empty() {
            let first = self.start.0;
            let records: Vec<_> = match &mut self.records {
                RecordsLeft::One(record) => record.take().into_iter().collect(),
                RecordsLeft::Many(records) => {
                    records.skip_while(|record| record.sequence() < first).take(LANES).collect()
                }
            };
            let data: Vec<_> = records.iter().map(|record| record.data()).collect();
            self.ahead.extend(records.into_iter().zip(messages_of(&data)));
        }
        self.ahead.pop_front()
    }
}

impl<'a> Iterator for UserRecords<'a> {
    type Item = UserRecord<'a>;

    #[inline]
    fn next(&mut self) -> Option<UserRecord<'a>> {
        loop {
            if let Some(next) = self.next_of_current() {
                return Some(next);
            }
            let (record, message) = self.next_record()?;
            if record.sequence() < self.start.0 {
                continue;
            }
            let skipped = if record.sequence() == self.start.0 { self.start.1 } else { 0 };
            let read = |message| Aggregate::of_message(message, self.range, self.key_hash);
            let Some(aggregate) = message.and_then(read) else {
                if skipped > 0 {
                    continue;
                }
                return Some(UserRecord {
                    record,
                    sub_sequence: 0,
                    partition_key: record.partition_key(),
                    explicit_hash_key: None,
                    data: record.data(),
                    is_aggregated: false,
                    is_last: true,
                });
            };
            self.foreign_count += u64::from(aggregate.is_foreign());
            self.broken_count += u64::from(aggregate.is_broken());
            self.current = Some((record, aggregate, usize::try_from(skipped).unwrap_or(usize::MAX)));
        }
    }
}

impl std::iter::FusedIterator for UserRecords<'_> {}
