//! Which shards of a group come when: children behind their parents.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::checkpoint::Checkpoint;
use crate::{
    Error, Position, Result, SequenceNumber, ShardDescription, ShardFilter, ShardId, Stream, Timestamp,
};

/// What can be read, and from where on: the shards that are not finished, and whose parents are.
pub(super) fn readable(
    checkpoints: &BTreeMap<ShardId, Checkpoint>,
    shards: &[ShardDescription],
) -> BTreeMap<ShardId, Checkpoint> {
    let there: BTreeSet<ShardId> = shards.iter().map(|shard| shard.id).collect();
    let is_finished = |id: ShardId| match checkpoints.get(&id) {
        Some(checkpoint) => checkpoint.is_finished,
        // One that expired before it was the group's turn to read it.
        None => !there.contains(&id),
    };
    let from_there = shards
        .iter()
        .filter(|shard| !is_finished(shard.id) && shard.parents().all(is_finished))
        .map(|shard| (shard.id, checkpoints.get(&shard.id).copied().unwrap_or_else(|| beginning_of(shard))));
    // A shard that expired before it was finished: somebody has to be told.
    let expired =
        checkpoints.iter().filter(|(id, checkpoint)| !checkpoint.is_finished && !there.contains(id));
    from_there.chain(expired.map(|(&id, &checkpoint)| (id, checkpoint))).collect()
}

fn beginning_of(shard: &ShardDescription) -> Checkpoint {
    Checkpoint { next: shard.first_sequence, last_timestamp: None, is_finished: false }
}

/// The checkpoints with which a group reads from a position on: shards that ended before are finished, those that come later have none.
pub(super) fn positions(stream: &Stream, position: Position) -> Result<BTreeMap<ShardId, Checkpoint>> {
    let filter = match position {
        Position::TrimHorizon => ShardFilter::AtTrimHorizon,
        Position::Latest => ShardFilter::AtLatest,
        // A shard that closed at that very time may hold records of it.
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
    // Listed second, and in the order of creation: so each comes after its parents.
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

/// When the record before a place arrived, if it is still there.
pub(super) fn arrival_before(stream: &Stream, shard: ShardId, next: SequenceNumber) -> Option<Timestamp> {
    let previous = next.previous()?;
    let batch = stream.iterator(shard, Position::At(previous)).ok()?.next_batch(1).ok()?;
    batch.last_timestamp().filter(|_| batch.last_sequence() == Some(previous))
}
