//! Reads some of the last records of a shard, to see which keys its load comes from.

use super::cut::Sample;
use super::settings::Capacity;
use crate::aggregate::deaggregate;
use crate::{
    HashKey, HashKeyRange, KeyHash, Position, Result, SequenceNumber, ShardId, ShardIterator, StreamReader,
    extend,
};

/// How many records are looked at, and at how many places: batches of one key lie side by side.
const RECORDS: u64 = 1_024;
const PLACES: u64 = 64;
/// If the interval has fewer records, the last ones before it are looked at, too.
const RECORDS_MIN: u64 = 128;
/// How many bytes are looked at in one place, or one record.
const PLACE_BYTES: usize = 64 << 10;

/// Which records of a shard to look at: those from a sequence number on, up to before another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stretch {
    pub(super) shard: ShardId,
    pub(super) range: HashKeyRange,
    /// The oldest record that can be read.
    pub(super) horizon: SequenceNumber,
    /// The first record of the interval.
    pub(super) first: SequenceNumber,
    pub(super) end: SequenceNumber,
}

impl Stretch {
    /// Reads a sample. It leaves out what cannot be read, which is reported to readers that reach it.
    pub(super) fn sample(&self, stream: &StreamReader, key_hash: KeyHash, capacity: Capacity) -> Sample {
        let mut sample = Sample::default();
        let range = self.range;
        let _ = self.visit(stream, |iterator, count| {
            let batch = iterator.next_batch_within(count as usize, PLACE_BYTES)?;
            for user in deaggregate(&batch) {
                let bytes = (user.partition_key().len() + user.data().len()) as u64;
                // In an aggregate, many share one record.
                let weight = capacity.seconds(u64::from(!user.is_aggregated()), bytes);
                let hash_key =
                    user.explicit_hash_key().unwrap_or_else(|| key_hash.hash(user.partition_key()));
                sample.add(hash_key, weight, range);
            }
            Ok(false)
        });
        sample
    }

    /// Looks among the same records for one with this hash key, and returns its partition key.
    pub(super) fn partition_key(
        &self,
        stream: &StreamReader,
        key_hash: KeyHash,
        hash_key: HashKey,
    ) -> Option<Box<[u8]>> {
        let mut found = None;
        let _ = self.visit(stream, |iterator, count| {
            let batch = iterator.next_batch_within(count as usize, PLACE_BYTES)?;
            let is_it = |key: &[u8], explicit: Option<HashKey>| {
                explicit.unwrap_or_else(|| key_hash.hash(key)) == hash_key
            };
            let mut users = deaggregate(&batch);
            found = users
                .find(|user| is_it(user.partition_key(), user.explicit_hash_key()))
                .map(|user| user.partition_key().into());
            Ok(found.is_some())
        });
        found
    }

    /// Goes from place to place until `read` returns true. It gets the number of records to read there.
    fn visit(
        &self,
        stream: &StreamReader,
        mut read: impl FnMut(&mut ShardIterator, u64) -> Result<bool>,
    ) -> Result<()> {
        let first = self.first.get().min(self.end.get().saturating_sub(RECORDS_MIN)).max(self.horizon.get());
        let count = self.end.get().saturating_sub(first);
        let (each, mut outcome) = (RECORDS / PLACES, Ok(()));
        let places = PLACES.min(count.div_ceil(each));
        for place in 0..places {
            let at = (u128::from(count) * u128::from(place) / u128::from(places)) as u64;
            let at = Position::At((first + at).into());
            // The limits are for consumers.
            let iterator = stream.iterator(self.shard, at).map(extend::unlimited);
            let there = iterator.and_then(|mut iterator| read(&mut iterator, each));
            match there {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) => outcome = Err(error),
            }
        }
        outcome
    }
}
