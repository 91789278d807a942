//! How readers of shards that are closed, or have left the stream, learn of the shards that follow.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Member;
use crate::log::topology::lineage;
use crate::log::types::describe::ShardDescription;
use crate::log::types::shard_id::ShardId;

pub(super) type Members = BTreeMap<ShardId, Member>;

/// Lets the readers of closed shards find the children. `shards` are the existing ones, `named` the ones in the manifest.
pub(super) fn announce_children(members: &Members, shards: &[ShardDescription], named: &[ShardDescription]) {
    let is_there = |id: ShardId| shards.binary_search_by_key(&id, |shard| shard.id).is_ok();
    for shard in shards {
        let Some((end, closed_at)) = shard.closing_sequence.zip(shard.closed_at) else { continue };
        let children: Vec<_> = lineage::children_of(named, shard.id).map(|child| child.id).collect();
        // If some are not there, a reader must not take the others for all.
        if !children.is_empty() && children.iter().all(|&child| is_there(child)) {
            let readers = children.iter().map(|child| Arc::clone(&members[child].reader)).collect();
            members[&shard.id].reader.announce(end, closed_at, readers);
        }
    }
}

/// Returns the members that have expired since the last reload.
pub(super) fn unnamed<'m>(
    members: &'m Members,
    named: &BTreeSet<ShardId>,
) -> impl Iterator<Item = (ShardId, &'m Member)> {
    members.iter().filter(|(id, _)| !named.contains(id)).map(|(&id, member)| (id, member))
}

/// Closes the readers of the shards that have expired.
///
/// If they were split or merged since the last look, their children may have expired too. The other shards that have no parents left and own some
/// of their hash keys then follow them: each of these descends from them.
pub(super) fn close_unnamed(members: &mut Members, shards: &[ShardDescription], named: &BTreeSet<ShardId>) {
    let mut closed = vec![];
    for (id, member) in unnamed(members, named) {
        let (reader, range) = (&member.reader, member.reader.created().hash_key_range);
        let is_heir = |shard: &&ShardDescription| {
            shard.id > id
                && shard.hash_key_range.overlaps(&range)
                && !shard.parents().any(|parent| named.contains(&parent))
        };
        if !reader.is_closed() {
            let heirs: Vec<_> = shards.iter().filter(is_heir).collect();
            let first = heirs.iter().map(|heir| heir.first_sequence).min().unwrap_or_default();
            // They are there after the next reload.
            let Some(closed_at) = heirs.iter().map(|heir| heir.created_at).min() else { continue };
            let readers = heirs.iter().map(|heir| Arc::clone(&members[&heir.id].reader)).collect();
            reader.announce(first, closed_at, readers);
            reader.expire();
        }
        closed.push(id);
    }
    closed.iter().for_each(|id| _ = members.remove(id));
}
