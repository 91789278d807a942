//! The order in which a group reads shards: parents before their children.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::checkpoint::Checkpoint;
use crate::{
    Error, Position, Result, SequenceNumber, ShardDescription, ShardFilter, ShardId, Stream, Timestamp,
};

/// Returns what can be read, and from where: the shards that are not finished, and whose parents are.
pub(super) fn readable(
    checkpoints: &BTreeMap<ShardId, Checkpoint>,
    shards: &[ShardDescription],
) -> BTreeMap<ShardId, Checkpoint> {
    let there: BTreeSet<ShardId> = shards.iter().map(|shard| shard.id).collect();
    // A shard that expired before it was finished: reading it reports the missing records.
    let expired: BTreeMap<ShardId, Checkpoint> = checkpoints
        .iter()
        .filter(|(id, checkpoint)| !checkpoint.is_finished && !there.contains(id))
        .map(|(&id, &checkpoint)| (id, checkpoint))
        .collect();
    let is_finished = |id: ShardId| match checkpoints.get(&id) {
        Some(checkpoint) => checkpoint.is_finished,
        // The shard expired before the group got to it. It may descend from one that expired unfinished, and nobody knows any more from
        // which. So it counts as unfinished until all of those are finished.
        None => !there.contains(&id) && expired.is_empty(),
    };
    let from_there = shards
        .iter()
        .filter(|shard| !is_finished(shard.id) && shard.parents().all(is_finished))
        .map(|shard| (shard.id, checkpoints.get(&shard.id).copied().unwrap_or_else(|| beginning_of(shard))));
    from_there.chain(expired.iter().map(|(&id, &checkpoint)| (id, checkpoint))).collect()
}

fn beginning_of(shard: &ShardDescription) -> Checkpoint {
    Checkpoint { next: shard.first_sequence, last_timestamp: None, is_finished: false }
}

/// Returns the checkpoints with which a group reads from a position on. Shards that ended before it are finished, and shards that are
/// created after it have none.
pub(super) fn positions(stream: &Stream, position: Position) -> Result<BTreeMap<ShardId, Checkpoint>> {
    let filter = match position {
        Position::TrimHorizon => ShardFilter::AtTrimHorizon,
        Position::Latest => ShardFilter::AtLatest,
        // A shard that closed at exactly that time may hold records of it.
        Position::AtTimestamp(time) => ShardFilter::AtTimestamp(time.minus(Duration::from_micros(1))),
        _ => {
            return Err(Error::InvalidArgument(
                "a sequence number is a place in one shard: start or reset a group at TrimHorizon, Latest or AtTimestamp".into(),
            ));
        }
    };
    let begun = stream.list_shards(filter);
    let mut checkpoints = BTreeMap::new();
    let mut descendants = BTreeSet::new();
    // Listed second, and in the order of creation, so each shard comes after its parents.
    for shard in stream.shards() {
        let is_begun = |id: ShardId| begun.iter().any(|begun| begun.id == id);
        if is_begun(shard.id) {
            let next = stream.iterator(shard.id, position)?.next_sequence();
            let last_timestamp = arrival_before(stream, shard.id, next);
            checkpoints.insert(shard.id, Checkpoint { next, last_timestamp, is_finished: false });
        } else if shard.parents().any(|parent| is_begun(parent) || descendants.contains(&parent)) {
            descendants.insert(shard.id);
        } else {
            let next = shard.closing_sequence.unwrap_or(shard.first_sequence);
            checkpoints.insert(shard.id, Checkpoint { next, last_timestamp: None, is_finished: true });
        }
    }
    Ok(checkpoints)
}

/// Returns when the record before a place arrived, if that record still exists.
pub(super) fn arrival_before(stream: &Stream, shard: ShardId, next: SequenceNumber) -> Option<Timestamp> {
    let previous = next.previous()?;
    let batch = stream.iterator(shard, Position::At(previous)).ok()?.next_batch(1).ok()?;
    batch.last_timestamp().filter(|_| batch.last_sequence() == Some(previous))
}
