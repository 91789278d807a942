//! Planning uniform scaling: a series of splits and merges, after which all shards own equal ranges.

use super::{Plan, merge, split};
use crate::log::types::describe::ShardDescription;
use crate::log::types::error::Result;
use crate::log::types::hash_key::{HashKey, HashKeyRange};
use crate::log::types::limits::SHARD_COUNT_MAX;
use crate::log::types::options::check_range;

/// Refuses a number of shards that no stream can have.
pub(crate) fn check(count: u32) -> Result<()> {
    check_range("a shard count", count, 1..=SHARD_COUNT_MAX)
}

/// Returns the next split or merge on the way to `count` equal shards, or `None` once they exist.
///
/// First each shard is split at every border of the target ranges within it. Then neighbours within one target range are merged. The middle
/// border and the smallest neighbours go first, so that lineages stay short. Each step is complete in itself: after a crash, the same call
/// continues.
pub(crate) fn next(shards: &[ShardDescription], count: u32) -> Result<Option<Plan>> {
    let borders: Vec<HashKey> = HashKeyRange::tiles(count).map(|tile| tile.start).collect();
    let mut open: Vec<_> = shards.iter().filter(|shard| shard.is_open()).collect();
    open.sort_by_key(|shard| shard.hash_key_range.start);
    for shard in &open {
        let range = shard.hash_key_range;
        let from = borders.partition_point(|&border| border <= range.start);
        let to = borders.partition_point(|&border| border <= range.end);
        if from < to {
            return Ok(Some(split::plan_at(shard.id, range, borders[from + (to - from) / 2])));
        }
    }
    let within_a_target =
        open.windows(2).filter(|pair| borders.binary_search(&pair[1].hash_key_range.start).is_err());
    let width =
        |pair: &&[&ShardDescription]| pair[1].hash_key_range.end.get() - pair[0].hash_key_range.start.get();
    within_a_target.min_by_key(width).map(|pair| merge::plan(shards, pair[0].id, pair[1].id)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::types::sequence::SequenceNumber;
    use crate::log::types::shard_id::ShardId;
    use crate::log::types::time::Timestamp;

    fn shard(id: u32, hash_key_range: HashKeyRange) -> ShardDescription {
        ShardDescription {
            id: ShardId::new(id),
            parent: None,
            adjacent_parent: None,
            hash_key_range,
            first_sequence: SequenceNumber::ZERO,
            closing_sequence: None,
            created_at: Timestamp::default(),
            closed_at: None,
        }
    }

    /// Carries out all steps. Returns how many steps it takes, and how many generations of shards they make.
    fn scale(from: u32, to: u32) -> (u32, u32) {
        let mut shards: Vec<_> =
            (0..).zip(HashKeyRange::tiles(from)).map(|(id, range)| (shard(id, range), 0)).collect();
        let mut steps = 0;
        loop {
            let descriptions: Vec<_> = shards.iter().map(|(shard, _)| shard.clone()).collect();
            let Some(plan) = next(&descriptions, to).unwrap() else { break };
            let mut generation = 0;
            for (shard, of_shard) in shards.iter_mut().filter(|(shard, _)| plan.parents.contains(&shard.id)) {
                shard.closed_at = Some(Timestamp::default());
                generation = generation.max(*of_shard);
            }
            let first_id = shards.len() as u32;
            let children =
                (first_id..).zip(plan.children).map(|(id, range)| (shard(id, range), generation + 1));
            shards.extend(children.collect::<Vec<_>>());
            steps += 1;
        }
        let mut open: Vec<_> =
            shards.iter().filter(|(shard, _)| shard.is_open()).map(|(shard, _)| shard).collect();
        open.sort_by_key(|shard| shard.hash_key_range.start);
        assert!(open.iter().map(|shard| shard.hash_key_range).eq(HashKeyRange::tiles(to)), "{from} to {to}");
        (steps, shards.iter().map(|(_, generation)| *generation).max().unwrap())
    }

    #[test]
    fn scaling_ends_with_the_ranges_of_a_new_stream_in_few_steps_and_generations() {
        assert_eq!(scale(2, 4), (2, 1));
        assert_eq!(scale(4, 2), (2, 1));
        assert_eq!(scale(2, 3), (3, 2));
        assert_eq!(scale(5, 5), (0, 0));
        assert_eq!(scale(1, 64), (63, 6));
        assert_eq!(scale(64, 1), (63, 6));
        for (from, to) in [(3, 7), (7, 3), (10, 9), (9, 10), (100, 3)] {
            let (steps, generations) = scale(from, to);
            assert!(
                steps < from + to && generations <= 10,
                "{from} to {to}: {steps} steps, {generations} generations"
            );
        }
    }
}
