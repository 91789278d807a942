//! The decision what retention drops, made without touching anything.

use std::collections::BTreeSet;

use crate::log::types::describe::ShardDescription;
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::shard_id::ShardId;
use crate::log::types::time::Timestamp;

/// A segment that nobody writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) shard: ShardId,
    /// The sequence number after its last record.
    pub(super) end: SequenceNumber,
    pub(super) first_timestamp: Timestamp,
    /// What it holds.
    pub(super) bytes: u64,
}

/// Returns the horizons that leave no more than `bytes_max` of `bytes`. The oldest segments go first, whichever shard they belong to.
pub(super) fn by_bytes(
    mut candidates: Vec<Candidate>,
    mut bytes: u64,
    bytes_max: u64,
) -> Vec<(ShardId, SequenceNumber)> {
    // Sorted by end as well, so that segments of a shard go in order even if they began in the same microsecond.
    candidates.sort_by_key(|candidate| (candidate.first_timestamp, candidate.shard, candidate.end));
    let mut horizons = vec![];
    for candidate in candidates {
        if bytes <= bytes_max {
            break;
        }
        bytes = bytes.saturating_sub(candidate.bytes);
        horizons.push((candidate.shard, candidate.end));
    }
    horizons
}

/// Returns the shards that expire: those that no longer hold a record and were closed for as long as records are kept.
///
/// Parents go first, and the two parents of a merge go together, so that the remaining shards cover the hash-key space at each time since
/// the horizon. `is_empty` returns whether a shard has no record left, and `is_over` whether it was closed for long enough.
pub(super) fn expired(
    shards: &[ShardDescription],
    is_over: impl Fn(&ShardDescription, Timestamp) -> bool,
    is_empty: impl Fn(ShardId) -> bool,
) -> BTreeSet<ShardId> {
    let is_over = |shard: &ShardDescription| {
        let closed_at = shard.closed_at.filter(|_| is_empty(shard.id));
        closed_at.is_some_and(|closed_at| is_over(shard, closed_at))
    };
    let mut gone: BTreeSet<ShardId> =
        shards.iter().filter(|shard| is_over(shard)).map(|shard| shard.id).collect();
    let is_there = |id: ShardId| shards.iter().any(|shard| shard.id == id);
    loop {
        let stays = |id: ShardId, gone: &BTreeSet<ShardId>| is_there(id) && !gone.contains(&id);
        let kept: Vec<_> = shards
            .iter()
            .flat_map(|shard| {
                let parents: Vec<_> = shard.parents().collect();
                let has_parent = parents.iter().any(|&id| stays(id, &gone));
                // These stay: a child of a shard that stays, and the other parent of that child.
                let parents = parents.into_iter().filter(move |_| has_parent);
                parents.chain(has_parent.then_some(shard.id)).collect::<Vec<_>>()
            })
            .filter(|id| gone.contains(id))
            .collect();
        if kept.is_empty() {
            return gone;
        }
        kept.iter().for_each(|id| {
            gone.remove(id);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::types::hash_key::HashKeyRange;

    fn candidate(shard: u32, end: u64, first: u64, bytes: u64) -> Candidate {
        let (shard, first_timestamp) = (ShardId::new(shard), Timestamp::from_micros(first));
        Candidate { shard, end: end.into(), first_timestamp, bytes }
    }

    #[test]
    fn the_oldest_segments_leave_until_the_rest_fits() {
        let candidates = vec![candidate(1, 10, 50, 40), candidate(0, 5, 10, 30), candidate(0, 9, 60, 30)];
        let horizons = |bytes_max| by_bytes(candidates.clone(), 150, bytes_max);
        assert_eq!(horizons(150), []);
        assert_eq!(horizons(149), [(ShardId::new(0), 5.into())]);
        assert_eq!(horizons(119), [(ShardId::new(0), 5.into()), (ShardId::new(1), 10.into())]);
        assert_eq!(horizons(0).len(), 3, "what is being written to stays");
    }

    fn shard(id: u32, parents: &[u32], closed_at: Option<u64>) -> ShardDescription {
        ShardDescription {
            id: ShardId::new(id),
            parent: parents.first().copied().map(ShardId::new),
            adjacent_parent: parents.get(1).copied().map(ShardId::new),
            hash_key_range: HashKeyRange::ALL,
            first_sequence: 0.into(),
            closing_sequence: closed_at.map(|_| 0.into()),
            created_at: Timestamp::default(),
            closed_at: closed_at.map(Timestamp::from_micros),
        }
    }

    #[test]
    fn closed_shards_expire_parents_first_and_the_parents_of_a_merge_together() {
        // 0 and 1 are merged into 2, which is split into 3 and 4.
        let shards = [
            shard(0, &[], Some(10)),
            shard(1, &[], Some(10)),
            shard(2, &[0, 1], Some(20)),
            shard(3, &[2], None),
        ];
        let gone = |oldest: Option<u64>, full: &[u32]| -> Vec<u32> {
            let is_empty = |id: ShardId| !full.contains(&id.get());
            let is_over = |_: &ShardDescription, closed_at: Timestamp| {
                oldest.is_none_or(|oldest| closed_at < Timestamp::from_micros(oldest))
            };
            expired(&shards, is_over, is_empty).into_iter().map(ShardId::get).collect()
        };
        assert_eq!(
            gone(Some(10), &[]),
            Vec::<u32>::new(),
            "not before they have been closed for long enough"
        );
        assert_eq!(gone(Some(11), &[]), [0, 1]);
        assert_eq!(gone(Some(21), &[]), [0, 1, 2]);
        assert_eq!(gone(None, &[]), [0, 1, 2]);
        assert_eq!(
            gone(Some(21), &[1]),
            Vec::<u32>::new(),
            "1 holds records, so 0 stays with it, and so does their child"
        );
        assert_eq!(gone(Some(21), &[2]), [0, 1]);
    }
}
