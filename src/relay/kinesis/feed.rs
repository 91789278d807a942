//! Feeds the spool of one shard with the shard's records: aggregates are split as in the KCL, and each record says where it comes from.

use super::lease::Checkpoint;
use super::read::{RemoteBatch, RemoteRecord};
use crate::aggregate::Aggregate;
use crate::relay::source::spool::{Arrived, SpoolStream};
use crate::{HashKey, HashKeyRange, KeyHash, Origin, PutRecord, Result, Timestamp};

/// Records that were read and are not in the spool yet.
#[derive(Debug)]
pub(super) struct Feed {
    range: Option<HashKeyRange>,
    /// The last record that was done before, unless it was passed.
    done_before: Option<(String, u64)>,
    pending: Vec<UserRecord>,
    /// How many of these are in the spool.
    passed: usize,
    /// When the last one arrived.
    last_arrived: Timestamp,
}

#[derive(Debug)]
struct UserRecord {
    number: String,
    sub: u64,
    key: Vec<u8>,
    data: Vec<u8>,
    arrived: Timestamp,
}

impl Feed {
    /// Returns a feed of a shard that continues after a checkpoint.
    pub(super) fn new(hash_range: Option<&(String, String)>, checkpoint: &Checkpoint) -> Self {
        let key = |text: &str| text.parse::<u128>().ok().map(HashKey::new);
        let range =
            hash_range.and_then(|(start, end)| Some(HashKeyRange { start: key(start)?, end: key(end)? }));
        let done_before = match checkpoint {
            Checkpoint::Number(number, sub) => Some((number.clone(), *sub)),
            _ => None,
        };
        Self { range, done_before, pending: vec![], passed: 0, last_arrived: Timestamp::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.passed == self.pending.len()
    }

    /// Adds records that were read.
    pub(super) fn add(&mut self, batch: RemoteBatch) {
        self.pending.drain(..self.passed);
        self.passed = 0;
        for record in batch.records {
            self.add_record(record);
        }
    }

    fn add_record(&mut self, record: RemoteRecord) {
        let RemoteRecord { partition_key, data, sequence_number: number, arrived } = record;
        let arrived = arrived.unwrap_or(self.last_arrived);
        self.last_arrived = self.last_arrived.max(arrived);
        // Only the first record can be done.
        let done = self.done_before.take().filter(|(done, _)| *done == number).map(|(_, sub)| sub);
        let is_done = |sub: u64| done.is_some_and(|done| sub <= done);
        let aggregate = match self.range {
            Some(range) => Aggregate::decode_within(&data, range, KeyHash::Md5),
            None => Aggregate::decode(&data),
        };
        let Some(aggregate) = aggregate else {
            if !is_done(0) {
                let key = partition_key.into_bytes();
                self.pending.push(UserRecord { number, sub: 0, key, data, arrived });
            }
            return;
        };
        for (user, sub) in aggregate.iter().zip(0..).filter(|(_, sub)| !is_done(*sub)) {
            let (key, data) = (user.partition_key.to_vec(), user.data.to_vec());
            self.pending.push(UserRecord { number: number.clone(), sub, key, data, arrived });
        }
    }

    /// Puts the records into a spool, as far as it has room. After an error, the same call continues behind the last record that was put.
    pub(super) fn put(&mut self, spool: &mut SpoolStream) -> Result<()> {
        while !self.is_empty() && spool.has_room() {
            let some = &self.pending[self.passed..self.pending.len().min(self.passed + RECORDS_AT_ONCE)];
            let mut subs = vec![String::new(); some.len()];
            let arrived = some.iter().zip(&mut subs).map(|(user, sub)| {
                let origin = Origin { sequence_number: &user.number, sub_sequence_number: user.sub };
                let record = origin.note(PutRecord::new(&user.key, &user.data), sub);
                Arrived { record, arrived: user.arrived }
            });
            let arrived: Vec<Arrived<'_>> = arrived.collect();
            let (count, put) = spool.put(&arrived);
            self.passed += count;
            put?;
        }
        Ok(())
    }
}

/// How many records are put before the spool's room is checked again.
const RECORDS_AT_ONCE: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Position;
    use crate::aggregate::Aggregator;

    fn record(number: &str, data: Vec<u8>) -> RemoteRecord {
        let (partition_key, sequence_number) = ("key".to_owned(), number.to_owned());
        RemoteRecord { partition_key, data, sequence_number, arrived: Some(Timestamp::from_millis(5)) }
    }

    /// Returns the places of the records that come behind a checkpoint.
    fn fed(checkpoint: &Checkpoint, records: Vec<RemoteRecord>) -> Vec<(String, u64)> {
        let directory = tempfile::tempdir().unwrap();
        let mut spool = SpoolStream::create(directory.path().join("spool"), 1 << 20).unwrap();
        let mut feed = Feed::new(None, checkpoint);
        feed.add(RemoteBatch { records, ..RemoteBatch::default() });
        feed.put(&mut spool).unwrap();
        assert!(feed.is_empty());
        let stream = spool.stream().unwrap();
        let batch =
            stream.iterator(stream.shards()[0].id, Position::TrimHorizon).unwrap().next_batch(100).unwrap();
        let place = |record: crate::Record<'_>| {
            let origin = Origin::of(&record).unwrap();
            (origin.sequence_number.to_owned(), origin.sub_sequence_number)
        };
        batch.iter().map(place).collect()
    }

    #[test]
    fn l3_a_feed_goes_on_behind_a_checkpoint_within_an_aggregate() {
        let mut aggregator = Aggregator::new();
        for data in ["a", "b", "c"] {
            assert!(aggregator.add(&PutRecord::new("key", data)).unwrap().is_none());
        }
        let aggregate = aggregator.finish().unwrap().as_put().data.to_vec();
        let records =
            || vec![record("8", b"plain".to_vec()), record("9", aggregate.clone()), record("10", vec![])];
        let places = |from: &[(&str, u64)]| {
            from.iter().map(|&(number, sub)| (number.to_owned(), sub)).collect::<Vec<_>>()
        };
        let all = places(&[("8", 0), ("9", 0), ("9", 1), ("9", 2), ("10", 0)]);
        assert_eq!(fed(&Checkpoint::TrimHorizon, records()), all);
        assert_eq!(fed(&Checkpoint::Number("8".into(), 0), records()), all[1..]);
        let within = fed(&Checkpoint::Number("9".into(), 1), records()[1..].to_vec());
        assert_eq!(within, all[3..], "the KCL drops what is up to the sub-sequence number");
        assert_eq!(fed(&Checkpoint::Number("7".into(), 0), records()), all, "its record is gone");
    }
}
