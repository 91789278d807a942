//! What was put into a stream, and what of it must be there.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::time::Duration;

use crate::log::types::hash_key::HashKeyRange;
use crate::{KeyHash, Position, Retention, ShardDescription, Stream, Timestamp};

/// What happened to a stream before it is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    Nothing,
    /// The process died: what it had passed to the system is there.
    Process,
    Power,
}

#[derive(Debug, Clone)]
pub(super) struct Put {
    /// Unique to each put. The numbers of one key increase.
    number: u64,
    key: u8,
    len: usize,
    time: Timestamp,
    /// The sequence numbers that survive or are lost together with it.
    unit: Range<u64>,
}

/// A record to put.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) key: u8,
    pub(super) data: Vec<u8>,
    number: u64,
}

#[derive(Debug, Clone)]
pub(super) struct ShardModel {
    pub(super) range: HashKeyRange,
    pub(super) is_open: bool,
    first: u64,
    puts: Vec<Put>,
    /// The end of the puts that have returned.
    returned: u64,
    synced: u64,
    horizon: u64,
}

#[derive(Debug, Clone)]
pub(super) struct Model {
    /// Whether the call that creates the stream has returned.
    pub(super) exists: bool,
    /// Whether a call is under way that may add shards and close others.
    pub(super) is_resharding: bool,
    /// What the stream's retention may be: two values while it is being changed.
    pub(super) retentions: Vec<Retention>,
    pub(super) now: Timestamp,
    pub(super) shards: BTreeMap<u32, ShardModel>,
    /// The size of most frames, so that the frames of one life often end where those of another did.
    pub(super) frame_bytes: Option<usize>,
    put_count: u64,
}

fn data_of(number: u64, len: usize) -> Vec<u8> {
    let mut data = vec![(number % 251) as u8; len];
    data[..8].copy_from_slice(&number.to_le_bytes());
    data
}

impl ShardModel {
    fn end(&self) -> u64 {
        self.first + self.puts.len() as u64
    }

    fn put(&self, sequence: u64) -> Option<&Put> {
        self.puts.get(sequence.checked_sub(self.first)? as usize)
    }

    fn floor(&self, loss: Loss) -> u64 {
        if loss == Loss::Power { self.synced } else { self.returned }
    }

    fn is_between_units(&self, sequence: u64) -> bool {
        self.put(sequence).is_none_or(|put| put.unit.start == sequence)
    }
}

impl Model {
    pub(super) fn new(now: Timestamp, retention: Retention, frame_bytes: Option<usize>) -> Self {
        Self {
            exists: false,
            is_resharding: false,
            retentions: vec![retention],
            now,
            shards: BTreeMap::new(),
            frame_bytes,
            put_count: 0,
        }
    }

    pub(super) fn draft(&mut self, key: u8, len: usize) -> Draft {
        self.put_count += 1;
        Draft { key, data: data_of(self.put_count, len.max(8)), number: self.put_count }
    }

    /// Notes what a put is about to do. Returns the shard and the number that each record must get.
    pub(super) fn expect(&mut self, drafts: &[Draft]) -> Vec<(u32, u64)> {
        let now = self.now;
        let routed: Vec<u32> = drafts.iter().map(|draft| self.route(draft.key)).collect();
        let mut places = vec![];
        for (draft, id) in drafts.iter().zip(&routed) {
            let shard = self.shards.get_mut(id).unwrap();
            let first = shard.returned;
            let unit = first..first + routed.iter().filter(|other| *other == id).count() as u64;
            places.push((*id, shard.end()));
            shard.puts.push(Put {
                number: draft.number,
                key: draft.key,
                len: draft.data.len(),
                time: now,
                unit,
            });
        }
        places
    }

    /// Notes that the put has returned.
    pub(super) fn put_returned(&mut self, places: &[(u32, u64)], is_synced: bool) {
        for (id, _) in places {
            let shard = self.shards.get_mut(id).unwrap();
            shard.returned = shard.end();
            if is_synced {
                shard.synced = shard.returned;
            }
        }
    }

    pub(super) fn all_is_synced(&mut self) {
        self.shards.values_mut().for_each(|shard| shard.synced = shard.returned);
    }

    /// Nothing else needs to be there from now on, even if the process dies next.
    pub(super) fn lose_unsynced(&mut self) {
        self.shards.values_mut().for_each(|shard| shard.returned = shard.synced);
    }

    fn route(&self, key: u8) -> u32 {
        let hash_key = KeyHash::Xxh3.hash(&[key]);
        let owner = self.shards.iter().find(|(_, shard)| shard.is_open && shard.range.contains(hash_key));
        *owner.unwrap().0
    }

    /// Returns the highest number that the horizon of a shard may have under the retention.
    fn horizon_max(&self, shard: &ShardModel) -> u64 {
        if self.retentions.iter().any(|retention| retention.bytes_max.is_some()) {
            return shard.end();
        }
        let Some(age) = self.retentions.iter().filter_map(|retention| retention.age).min() else {
            return shard.horizon;
        };
        let oldest = self.now - age;
        shard.horizon.max(shard.first + shard.puts.partition_point(|put| put.time < oldest) as u64)
    }

    /// Checks that a stream that was just opened holds what it must, and nothing that was never put.
    pub(super) fn check(&self, stream: &Stream, loss: Loss, what: &str) {
        let found = stream.shards();
        self.check_shards(&found, what);
        let bounds = stream.shard_bounds();
        let mut next = BTreeMap::new();
        for (shard, readable) in &bounds {
            let (id, horizon, end) = (shard.get(), readable.start.get(), readable.end.get());
            next.insert(id, horizon);
            let Some(known) = self.shards.get(&id) else {
                let first = found.iter().find(|other| other.id.get() == id).unwrap().first_sequence.get();
                assert_eq!((horizon, end), (first, first), "{what}: a shard that nobody put to is not empty");
                continue;
            };
            let floor = known.floor(loss);
            assert!(end >= floor, "{what}: P2 P3: shard {id} ends at {end}, and has to reach {floor}");
            assert!(end <= known.end(), "{what}: P3: shard {id} ends at {end}, beyond {}", known.end());
            let most = self.horizon_max(known);
            assert!(horizon <= most, "{what}: P12: the horizon of shard {id} is {horizon}, beyond {most}");
            let least = known.horizon.min(end);
            assert!(horizon >= least, "{what}: the horizon of shard {id} is {horizon}, and was {least}");
            for place in [horizon, end] {
                assert!(known.is_between_units(place), "{what}: P7: {place} is within a batch of shard {id}");
            }
        }
        self.check_records(stream, &mut next, what);
        for (shard, readable) in &bounds {
            let (read, end) = (next[&shard.get()], readable.end.get());
            assert_eq!(read, end, "{what}: shard {} was not read to its end", shard.get());
        }
        let verified = stream.verify(|_| ControlFlow::Continue(())).unwrap();
        assert!(verified.is_complete && verified.damage.is_empty(), "{what}: P9: {:?}", verified.damage);
    }

    fn check_shards(&self, found: &[ShardDescription], what: &str) {
        for (id, known) in &self.shards {
            match found.iter().find(|shard| shard.id.get() == *id) {
                Some(shard) if self.is_resharding => {
                    assert!(known.is_open || !shard.is_open(), "{what}: P16")
                }
                Some(shard) => assert_eq!(known.is_open, shard.is_open(), "{what}: P16: shard {id}"),
                None => {
                    let has_expired = !known.is_open && self.horizon_max(known) >= known.returned;
                    assert!(has_expired, "{what}: P16: shard {id} is gone");
                }
            }
        }
        let mut open = vec![];
        for shard in found {
            let is_new = !self.shards.contains_key(&shard.id.get());
            assert!(!is_new || self.is_resharding || !self.exists, "{what}: P16: {} is new", shard.id);
            let has_children = found.iter().any(|other| other.parents().any(|parent| parent == shard.id));
            assert_ne!(shard.is_open(), has_children, "{what}: P16: {}", shard.id);
            if shard.is_open() {
                open.push(shard.hash_key_range);
            }
        }
        open.sort_by_key(|range| range.start);
        assert!(open.windows(2).all(|pair| pair[0].is_followed_by(&pair[1])), "{what}: P16: {open:?}");
        let ends = [open[0].start, open[open.len() - 1].end];
        assert_eq!(ends, [HashKeyRange::ALL.start, HashKeyRange::ALL.end], "{what}: P16");
    }

    /// Reads all records and checks that each is what was put there. `next` has where each shard begins.
    fn check_records(&self, stream: &Stream, next: &mut BTreeMap<u32, u64>, what: &str) {
        let age = self.retentions.iter().map(|retention| retention.age.unwrap_or(Duration::MAX)).max();
        let oldest = self.now - age.unwrap();
        let mut last_of_key: BTreeMap<u8, u64> = BTreeMap::new();
        let mut iterator = stream.lineage_iterator(Position::TrimHorizon).unwrap();
        loop {
            let batch = iterator.next_batch(1_000).unwrap_or_else(|error| panic!("{what}: {error}"));
            if batch.is_empty() {
                return;
            }
            let id = batch.shard().get();
            let known = self.shards.get(&id);
            for record in &batch {
                let sequence = record.sequence().get();
                let expected = next.get_mut(&id).unwrap();
                assert_eq!(sequence, *expected, "{what}: P3: shard {id}");
                *expected += 1;
                let put = known.and_then(|known| known.put(sequence));
                let put = put.unwrap_or_else(|| panic!("{what}: P3: nobody put {sequence} of shard {id}"));
                assert_eq!(record.partition_key(), [put.key], "{what}: P5: {sequence} of shard {id}");
                assert!(
                    record.data() == data_of(put.number, put.len),
                    "{what}: P3 P5: {sequence} of shard {id} is not what was put there: {:?} for {}",
                    record.data().first_chunk().map(|number| u64::from_le_bytes(*number)),
                    put.number
                );
                assert_eq!(record.timestamp(), put.time, "{what}: {sequence} of shard {id}");
                assert!(put.time >= oldest, "{what}: P12: {sequence} of shard {id} has expired");
                let last = last_of_key.insert(put.key, put.number);
                assert!(last < Some(put.number), "{what}: P4: key {}", put.key);
            }
        }
    }

    /// From now on, what the stream holds is what counts: after a loss, or after a call that may have changed shards or horizons.
    ///
    /// What a stream holds after power loss is on disk, so no other power loss takes it.
    pub(super) fn adopt(&mut self, stream: &Stream, loss: Loss, what: &str) {
        let found = stream.describe();
        assert!(!self.exists || self.retentions.contains(&found.retention), "{what}: {:?}", found.retention);
        let before = self.clone();
        self.exists = true;
        self.is_resharding = false;
        self.retentions = vec![found.retention];
        self.shards.retain(|id, _| found.shards.iter().any(|shard| shard.id.get() == *id));
        for (id, gone) in before.shards.iter().filter(|(id, _)| !self.shards.contains_key(id)) {
            assert!(
                !gone.is_open && before.horizon_max(gone) >= gone.returned,
                "{what}: P12: shard {id} is gone"
            );
        }
        let bounds = stream.shard_bounds();
        for description in &found.shards {
            let first = description.first_sequence.get();
            let shard = self.shards.entry(description.id.get()).or_insert(ShardModel {
                range: description.hash_key_range,
                is_open: true,
                first,
                puts: vec![],
                returned: first,
                synced: first,
                horizon: first,
            });
            let was_open = std::mem::replace(&mut shard.is_open, description.is_open());
            let (end, horizon) = (bounds[&description.id].end.get(), bounds[&description.id].start.get());
            shard.puts.truncate((end - shard.first) as usize);
            assert_eq!(shard.end(), end, "{what}: P5: shard {} goes on elsewhere", description.id);
            shard.returned = end;
            shard.synced = shard.synced.min(end);
            let is_settled = loss == Loss::Nothing && was_open && !shard.is_open;
            if loss == Loss::Power || is_settled {
                shard.synced = end;
            }
            if let Some(shard) = before.shards.get(&description.id.get()) {
                let most = before.horizon_max(shard);
                assert!(
                    horizon <= most,
                    "{what}: P12: the horizon of {} is {horizon}, beyond {most}",
                    description.id
                );
            }
            shard.horizon = horizon;
        }
    }
}
