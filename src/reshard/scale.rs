//! Planning uniform scaling: a series of splits and merges, after which all shards own equal ranges.

use super::{Plan, merge, split};
use crate::words::describe::ShardDescription;
use crate::words::error::Result;
use crate::words::hash_key::{HashKey, HashKeyRange};
use crate::words::limits::SHARD_COUNT_MAX;
use crate::words::options::check_within;

/// Refuses a number of shards that no stream has.
pub(crate) fn check(count: u32) -> Result<()> {
    check_within("a shard count", count.into(), 1, SHARD_COUNT_MAX.into())
}

/// The next split or merge on the way to `count` equal shards, or `None` when they are there.
///
/// First each shard is split at every border of the target ranges within it, the middle one first so that lineages stay short; then
/// neighbours within one target range are merged. Each step stands by itself: after a crash the same call goes on.
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
    for pair in open.windows(2) {
        if borders.binary_search(&pair[1].hash_key_range.start).is_err() {
            return merge::plan(shards, pair[0].id, pair[1].id).map(Some);
        }
    }
    Ok(None)
}
