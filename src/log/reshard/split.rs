//! Planning a split: one open shard becomes two.

use super::{Plan, open_shard};
use crate::log::types::describe::ShardDescription;
use crate::log::types::error::{Error, Result};
use crate::log::types::hash_key::{HashKey, HashKeyRange};
use crate::log::types::limits::SHARD_COUNT_MAX;
use crate::log::types::shard_id::ShardId;

/// Plans to split a shard so that the upper child begins with `point`, under the preconditions of Kinesis' `SplitShard`.
pub(crate) fn plan(shards: &[ShardDescription], id: ShardId, point: HashKey) -> Result<Plan> {
    let range = open_shard(shards, id)?.hash_key_range;
    // As in Kinesis: neither the second nor the last key of the range.
    if point.get() <= range.start.get().saturating_add(1) || point >= range.end {
        return Err(Error::invalid(format!(
            "{id} cannot be split at {point}: the point has to be greater than one plus its first hash key, {}, and less than its \
             last, {}",
            range.start, range.end
        )));
    }
    let open_count = shards.iter().filter(|shard| shard.is_open()).count();
    if open_count >= SHARD_COUNT_MAX as usize {
        return Err(Error::invalid(format!(
            "the stream has {open_count} open shards, which is the most it can have: merge some first"
        )));
    }
    Ok(plan_at(id, range, point))
}

/// Plans to split a shard into halves.
pub(crate) fn plan_evenly(shards: &[ShardDescription], id: ShardId) -> Result<Plan> {
    let HashKeyRange { start, end } = open_shard(shards, id)?.hash_key_range;
    if end.get() - start.get() < 3 {
        return Err(Error::invalid(format!(
            "{id} owns too few hash keys to be split, {start} to {end}: split another"
        )));
    }
    let middle = start.get() + (end.get() - start.get()).div_ceil(2);
    plan(shards, id, HashKey::new(middle))
}

/// Plans to split a range at a point within it.
pub(super) fn plan_at(id: ShardId, range: HashKeyRange, point: HashKey) -> Plan {
    let lower = HashKeyRange { start: range.start, end: HashKey::new(point.get() - 1) };
    let upper = HashKeyRange { start: point, end: range.end };
    Plan { parents: vec![id], children: vec![lower, upper] }
}
