//! Merges shards by the time of arrival, each after those that had its hash keys before.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::{
    HashKeyRange, OwnedRecord, Position, Result, SequenceNumber, ShardDescription, ShardFilter, ShardId,
    ShardIterator, StreamReader, Timestamp,
};

/// What is read ahead of each shard.
const AHEAD_RECORDS: usize = 100;
const AHEAD_BYTES: usize = 64 << 10;

/// The records of a part of a stream that was fixed at the beginning.
pub(super) struct Merge {
    sources: BTreeMap<ShardId, Source>,
    until: Timestamp,
    /// The sources that may be read, but of which no record is read ahead.
    to_read: Vec<ShardId>,
    /// The sources with records ahead, by the arrival of the next one.
    heads: BTreeSet<(Timestamp, ShardId)>,
}

/// A shard that is not replayed to its end yet.
struct Source {
    iterator: ShardIterator,
    /// Where the replay of the shard ends.
    end: SequenceNumber,
    range: HashKeyRange,
    ahead: VecDeque<OwnedRecord>,
    /// Whether a record was left out because it arrived too late. So did all that follow, here and in the children.
    is_cut: bool,
    /// The sources that must reach their end first. No record here is older than theirs, so this does not change the order: it keeps closed shards
    /// from all being read ahead together.
    waits_for: BTreeSet<ShardId>,
    /// The sources that wait for this one.
    followers: Vec<ShardId>,
}

impl Merge {
    pub(super) fn new(
        reader: &StreamReader,
        from: Position,
        until: Option<Timestamp>,
        only: Option<ShardId>,
    ) -> Result<Self> {
        let mut merge = Self {
            sources: BTreeMap::new(),
            until: until.unwrap_or(Timestamp::from_micros(u64::MAX)),
            to_read: vec![],
            heads: BTreeSet::new(),
        };
        if let Some(id) = only {
            let iterator = reader.iterator(id, from)?;
            merge.add(reader, id, HashKeyRange::ALL, iterator, BTreeSet::new())?;
            return Ok(merge);
        }
        let all = reader.shards();
        let known: BTreeSet<ShardId> = all.iter().map(|shard| shard.id).collect();
        let begun: BTreeSet<ShardId> =
            reader.list_shards(ShardFilter::try_from(from)?).iter().map(|shard| shard.id).collect();
        for shard in &all {
            let waits_for = merge.predecessors(shard, &known);
            let position = match begun.contains(&shard.id) {
                true => from,
                false if waits_for.is_empty() => continue, // It was closed before the replay begins.
                false => Position::TrimHorizon,
            };
            let iterator = reader.iterator(shard.id, position)?;
            merge.add(reader, shard.id, shard.hash_key_range, iterator, waits_for)?;
        }
        Ok(merge)
    }

    /// The sources that had hash keys of a shard before it: its parents, or the shards before them if a parent has expired.
    fn predecessors(&self, shard: &ShardDescription, known: &BTreeSet<ShardId>) -> BTreeSet<ShardId> {
        if shard.parents().all(|parent| known.contains(&parent)) {
            return shard.parents().filter(|parent| self.sources.contains_key(parent)).collect();
        }
        let had_keys = |(_, source): &(&ShardId, &Source)| source.range.overlaps(&shard.hash_key_range);
        self.sources.range(..shard.id).filter(had_keys).map(|(id, _)| *id).collect()
    }

    fn add(
        &mut self,
        reader: &StreamReader,
        id: ShardId,
        range: HashKeyRange,
        iterator: ShardIterator,
        waits_for: BTreeSet<ShardId>,
    ) -> Result<()> {
        let end = reader.iterator(id, Position::Latest)?.next_sequence();
        if waits_for.is_empty() {
            self.to_read.push(id);
        }
        for before in &waits_for {
            self.sources.get_mut(before).expect("a predecessor is a source").followers.push(id);
        }
        let (ahead, followers) = (VecDeque::new(), vec![]);
        self.sources.insert(id, Source { iterator, end, range, ahead, is_cut: false, waits_for, followers });
        Ok(())
    }

    /// Returns when the next record arrived, or `None` at the end. After an error, the same is tried again.
    pub(super) fn next_arrival(&mut self) -> Result<Option<Timestamp>> {
        while let Some(&id) = self.to_read.last() {
            let source = self.sources.get_mut(&id).expect("it is there until its end");
            source.read_ahead(self.until)?;
            self.to_read.pop();
            match source.ahead.front() {
                Some(next) => drop(self.heads.insert((next.timestamp, id))),
                None => self.finish(id),
            }
        }
        Ok(self.heads.first().map(|&(arrived, _)| arrived))
    }

    /// Takes the record that [`next_arrival`](Self::next_arrival) has found.
    pub(super) fn take(&mut self) -> (ShardId, OwnedRecord) {
        let (_, id) = self.heads.pop_first().expect("next_arrival() has found one");
        let source = self.sources.get_mut(&id).expect("it is there until its end");
        let record = source.ahead.pop_front().expect("a head is a record");
        match source.ahead.front() {
            Some(next) => drop(self.heads.insert((next.timestamp, id))),
            None => self.to_read.push(id),
        }
        (id, record)
    }

    /// Removes a source that has nothing left, so that those behind it can be read.
    fn finish(&mut self, id: ShardId) {
        let finished = self.sources.remove(&id).expect("it is there until its end");
        for follower in finished.followers {
            let waiting = self.sources.get_mut(&follower).expect("it waits for this one");
            waiting.waits_for.remove(&id);
            if waiting.waits_for.is_empty() {
                self.to_read.push(follower);
            }
        }
    }

    pub(super) fn skip_to_horizon(&mut self) -> u64 {
        self.next_iterators(|iterator| iterator.skip_to_horizon()).into_iter().sum()
    }

    pub(super) fn skip_lost(&mut self) -> Result<u64> {
        self.next_iterators(ShardIterator::skip_lost).into_iter().sum()
    }

    /// Calls a function for each iterator whose next record is to be read, even after an error.
    fn next_iterators<T>(&mut self, call: impl Fn(&mut ShardIterator) -> T) -> Vec<T> {
        let sources = &mut self.sources;
        let mut call = |id| call(&mut sources.get_mut(id).expect("it is there until its end").iterator);
        self.to_read.iter().map(&mut call).collect()
    }
}

impl Source {
    /// Reads records ahead, if there are any left to replay.
    fn read_ahead(&mut self, until: Timestamp) -> Result<()> {
        let left = self.end.get().saturating_sub(self.iterator.next_sequence().get());
        if left == 0 || self.is_cut {
            return Ok(());
        }
        let records_max = usize::try_from(left).unwrap_or(AHEAD_RECORDS).min(AHEAD_RECORDS);
        let batch = self.iterator.next_batch_within(records_max, AHEAD_BYTES)?;
        let in_time = batch.iter().take_while(|record| record.timestamp() < until);
        self.ahead.extend(in_time.map(|record| record.into_owned()));
        self.is_cut = self.ahead.len() < batch.len();
        Ok(())
    }
}
