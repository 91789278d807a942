//! The order in which a group reads shards: parents before their children.

use std::collections::{BTreeMap, BTreeSet};

use super::checkpoint::Checkpoint;
use crate::{Position, Result, SequenceNumber, ShardDescription, ShardId, StreamReader, Timestamp, extend};

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
    // A shard that neither exists nor has a checkpoint has expired. The group finished it and dropped its checkpoint, or never reached it.
    let is_finished = |id: ShardId, is_gone_finished: bool| match checkpoints.get(&id) {
        Some(checkpoint) => checkpoint.is_finished,
        None => !there.contains(&id) && is_gone_finished,
    };
    let is_readable = |shard: &&ShardDescription| {
        // A shard gets a checkpoint once its parents are finished. A shard without one may descend, through shards that are gone, from one that
        // expired unfinished: it waits until the group has dealt with all of those.
        let is_gone_finished = checkpoints.contains_key(&shard.id) || expired.is_empty();
        !is_finished(shard.id, true) && shard.parents().all(|parent| is_finished(parent, is_gone_finished))
    };
    let from_there = shards
        .iter()
        .filter(is_readable)
        .map(|shard| (shard.id, checkpoints.get(&shard.id).copied().unwrap_or_else(|| beginning_of(shard))));
    from_there.chain(expired.iter().map(|(&id, &checkpoint)| (id, checkpoint))).collect()
}

fn beginning_of(shard: &ShardDescription) -> Checkpoint {
    Checkpoint { next: shard.first_sequence.into(), last_timestamp: None, is_finished: false }
}

/// Returns the checkpoints with which a group reads from a position on. Shards that ended before it are finished, and shards that are
/// created after it have none.
pub(super) fn positions(stream: &StreamReader, position: Position) -> Result<BTreeMap<ShardId, Checkpoint>> {
    let begun = stream.list_shards(position.try_into()?);
    let mut checkpoints = BTreeMap::new();
    let mut descendants = BTreeSet::new();
    // Listed second, and in the order of creation, so each shard comes after its parents.
    for shard in stream.shards() {
        let is_begun = |id: ShardId| begun.iter().any(|begun| begun.id == id);
        if is_begun(shard.id) {
            let next = stream.iterator(shard.id, position)?.next_sequence();
            let last_timestamp = arrival_before(stream, shard.id, next);
            checkpoints
                .insert(shard.id, Checkpoint { next: next.into(), last_timestamp, is_finished: false });
        } else if shard.parents().any(|parent| is_begun(parent) || descendants.contains(&parent)) {
            descendants.insert(shard.id);
        } else {
            let next = shard.closing_sequence.unwrap_or(shard.first_sequence);
            checkpoints
                .insert(shard.id, Checkpoint { next: next.into(), last_timestamp: None, is_finished: true });
        }
    }
    Ok(checkpoints)
}

/// Returns when the record before a place arrived, if that record still exists.
pub(super) fn arrival_before(
    stream: &StreamReader,
    shard: ShardId,
    next: SequenceNumber,
) -> Option<Timestamp> {
    let previous = next.previous()?;
    let iterator = stream.iterator(shard, Position::At(previous)).ok()?;
    let batch = extend::unlimited(iterator).next_batch(1).ok()?;
    batch.last_timestamp().filter(|_| batch.last_sequence() == Some(previous))
}

#[cfg(test)]
mod tests {
    use super::super::checkpoint::Place;
    use super::*;
    use crate::Stream;

    const UNFINISHED: Checkpoint = Checkpoint {
        next: Place { sequence: SequenceNumber::ZERO, sub_sequence: 0 },
        last_timestamp: None,
        is_finished: false,
    };

    /// Shard 4 expired unfinished. The parents of 10 and 11 are gone, too.
    #[test]
    fn p6_a_shard_that_expired_unread_holds_back_only_shards_that_may_descend_from_it() {
        let directory = tempfile::tempdir().unwrap();
        let template = Stream::open(directory.path()).unwrap().shards().remove(0);
        let orphan = |id: u32, parent: u32| ShardDescription {
            id: ShardId::new(id),
            parent: Some(ShardId::new(parent)),
            ..template.clone()
        };
        let shards = [orphan(10, 8), orphan(11, 9)];
        let ids = |checkpoints: &BTreeMap<ShardId, Checkpoint>| {
            readable(checkpoints, &shards).keys().map(|id| id.get()).collect::<Vec<_>>()
        };
        let mut checkpoints = BTreeMap::from([(ShardId::new(4), UNFINISHED), (ShardId::new(10), UNFINISHED)]);
        assert_eq!(ids(&checkpoints), [4, 10], "10 was begun before");
        checkpoints.insert(ShardId::new(4), Checkpoint { is_finished: true, ..UNFINISHED });
        assert_eq!(ids(&checkpoints), [10, 11]);
    }
}
