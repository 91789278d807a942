//! Parents and children.

use crate::words::describe::ShardDescription;
use crate::words::shard_id::ShardId;

/// The shards that a shard was split or merged into.
pub(crate) fn children_of(shards: &[ShardDescription], parent: ShardId) -> Vec<ShardDescription> {
    shards.iter().filter(|shard| shard.parents().any(|id| id == parent)).cloned().collect()
}
