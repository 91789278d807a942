//! The lineage of shards: parents, children, and which shards existed when.

use crate::log::types::describe::{ShardDescription, ShardFilter};
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::shard_id::ShardId;
use crate::log::types::time::Timestamp;

/// Returns the shards that a shard was split or merged into.
pub(crate) fn children_of(
    shards: &[ShardDescription],
    parent: ShardId,
) -> impl Iterator<Item = &ShardDescription> {
    shards.iter().filter(move |shard| shard.parents().any(|id| id == parent))
}

/// Records where and when a closed shard really ended, which is not before its last record. Its children begin at that time.
///
/// The manifest says that a shard is closed before its last puts arrive, so that those puts need not wait for it.
pub(crate) fn settle(
    shards: &mut [ShardDescription],
    id: ShardId,
    closing_sequence: SequenceNumber,
    last_timestamp: Timestamp,
) {
    let Some(closed) = shards.iter_mut().find(|shard| shard.id == id) else { return };
    let Some(closed_at) = closed.closed_at.as_mut() else { return };
    *closed_at = last_timestamp.max(closed.created_at).max(*closed_at);
    closed.closing_sequence = Some(closing_sequence);
    let closed_at = *closed_at;
    // Both parents of a merge close at the same instant, the later one.
    for child in shards.iter_mut().filter(|shard| shard.parents().any(|parent| parent == id)) {
        child.created_at = child.created_at.max(closed_at);
    }
    let adjacent: Vec<_> = children_of(shards, id)
        .map(|child| (child.created_at, child.parents().collect::<Vec<_>>()))
        .collect();
    for (created_at, parents) in adjacent {
        for parent in shards.iter_mut().filter(|shard| parents.contains(&shard.id)) {
            parent.closed_at = Some(created_at);
        }
    }
}

/// Returns the shards that pass a filter, in the order of their creation.
pub(crate) fn filter(shards: &[ShardDescription], filter: ShardFilter) -> Vec<ShardDescription> {
    // A shard whose parents have expired has existed for as long as anything can be read.
    let is_first =
        |shard: &ShardDescription| !shard.parents().any(|id| shards.iter().any(|other| other.id == id));
    let passes = |shard: &ShardDescription| match filter {
        ShardFilter::FromTrimHorizon => true,
        ShardFilter::AtTrimHorizon => is_first(shard),
        ShardFilter::AtLatest => shard.is_open(),
        // A child begins when its parents close, so that at each time the shards cover the hash-key space exactly once.
        ShardFilter::AtTimestamp(time) => {
            (is_first(shard) || shard.created_at <= time)
                && shard.closed_at.is_none_or(|closed_at| time < closed_at)
        }
        ShardFilter::FromTimestamp(time) => shard.closed_at.is_none_or(|closed_at| time <= closed_at),
        ShardFilter::AfterShard(id) => shard.id > id,
    };
    shards.iter().filter(|shard| passes(shard)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::types::hash_key::{HashKey, HashKeyRange};

    fn shard(
        id: u32,
        parents: &[u32],
        (start, end): (u128, u128),
        created: u64,
        closed: Option<u64>,
    ) -> ShardDescription {
        ShardDescription {
            id: ShardId::new(id),
            parent: parents.first().copied().map(ShardId::new),
            adjacent_parent: parents.get(1).copied().map(ShardId::new),
            hash_key_range: HashKeyRange { start: HashKey::new(start), end: HashKey::new(end) },
            first_sequence: 0.into(),
            closing_sequence: closed.map(|_| 10.into()),
            created_at: Timestamp::from_micros(created),
            closed_at: closed.map(Timestamp::from_micros),
        }
    }

    /// 0 is split into 1 and 2 at time 10; 2 is split into 3 and 4 at time 20; 1 and 3 are merged into 5 at time 30.
    fn family() -> Vec<ShardDescription> {
        const END: u128 = u128::MAX;
        vec![
            shard(0, &[], (0, END), 0, Some(10)),
            shard(1, &[0], (0, 99), 10, Some(30)),
            shard(2, &[0], (100, END), 10, Some(20)),
            shard(3, &[2], (100, 199), 20, Some(30)),
            shard(4, &[2], (200, END), 20, None),
            shard(5, &[1, 3], (0, 199), 30, None),
        ]
    }

    fn ids(shards: &[ShardDescription]) -> Vec<u32> {
        shards.iter().map(|shard| shard.id.get()).collect()
    }

    #[test]
    fn filters_let_through_what_list_shards_does() {
        let all = family();
        let passing = |by| ids(&filter(&all, by));
        let time = Timestamp::from_micros;
        assert_eq!(passing(ShardFilter::FromTrimHorizon), [0, 1, 2, 3, 4, 5]);
        assert_eq!(passing(ShardFilter::AtTrimHorizon), [0]);
        assert_eq!(passing(ShardFilter::AtLatest), [4, 5]);
        assert_eq!(passing(ShardFilter::AtTimestamp(time(9))), [0]);
        assert_eq!(passing(ShardFilter::AtTimestamp(time(10))), [1, 2]);
        assert_eq!(passing(ShardFilter::AtTimestamp(time(25))), [1, 3, 4]);
        assert_eq!(passing(ShardFilter::FromTimestamp(time(20))), [1, 2, 3, 4, 5]);
        assert_eq!(passing(ShardFilter::AfterShard(ShardId::new(3))), [4, 5]);
    }

    #[test]
    fn at_any_time_the_shards_cover_the_space_once_also_after_some_have_expired() {
        for expired in [0, 1, 3] {
            let left = &family()[expired..];
            for micros in 0..40 {
                let mut at = filter(left, ShardFilter::AtTimestamp(Timestamp::from_micros(micros)));
                at.sort_by_key(|shard| shard.hash_key_range.start);
                if expired == 3 {
                    continue;
                }
                assert!(
                    at.windows(2).all(|pair| pair[0].hash_key_range.is_followed_by(&pair[1].hash_key_range))
                );
                assert_eq!(at[0].hash_key_range.start, HashKey::MIN);
                assert_eq!(at[at.len() - 1].hash_key_range.end, HashKey::MAX);
            }
        }
        assert_eq!(ids(&family()).len(), children_of(&family(), ShardId::new(0)).count() + 4);
    }
}
