//! Planning a merge: two adjacent open shards become one.

use super::{Plan, open_shard};
use crate::log::types::describe::ShardDescription;
use crate::log::types::error::{Error, Result};
use crate::log::types::hash_key::HashKeyRange;
use crate::log::types::shard_id::ShardId;

/// Plans to merge a shard with the one whose range follows its own, like Kinesis' `MergeShards`. The order matters.
pub(crate) fn plan(shards: &[ShardDescription], shard: ShardId, adjacent: ShardId) -> Result<Plan> {
    let lower = open_shard(shards, shard)?.hash_key_range;
    let upper = open_shard(shards, adjacent)?.hash_key_range;
    if !lower.is_followed_by(&upper) {
        return Err(Error::invalid(format!(
            "{shard} and {adjacent} cannot be merged: the first ends at hash key {}, and the second must begin right after \
             it, but begins at {}",
            lower.end, upper.start
        )));
    }
    let merged = HashKeyRange { start: lower.start, end: upper.end };
    Ok(Plan { parents: vec![shard, adjacent], children: vec![merged] })
}
