//! The positions of a pump in its streams, and the places under which it puts its rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::feed::Feed;
use crate::query::error::QueryError;
use crate::{Batch, Error, Group, Position, StreamReader};

/// The next sequence number of each shard: everything before it is handled, and this is stored.
pub(super) type Positions = Arc<Mutex<BTreeMap<u32, u64>>>;

impl Feed {
    /// Returns a place that the group has not committed, and will not commit before these batches: the first record of one of them, or the next
    /// record of the shard that was read last. Its shard is open, so it is neither finished nor dropped. A sink remembers what is put under the place
    /// until the group has committed it, which happens soon: with these batches, or with the next ones of the shard.
    pub(super) fn place(&self, batches: &[Batch]) -> Result<(u32, u64), QueryError> {
        let shards = self.reader.shards();
        let is_open =
            |id: u32| shards.iter().any(|shard| shard.id.get() == id && shard.closing_sequence.is_none());
        if let Some(batch) = batches.iter().find(|batch| is_open(batch.shard().get()))
            && let Some(first) = batch.first_sequence()
        {
            return Ok((batch.shard().get(), first.get()));
        }
        if self.progress.has_skipped {
            add_committed(&self.positions, self.worker.group())?;
        }
        // The newest shard is open.
        let newest = shards.last().map(|shard| shard.id.get());
        let Some(shard) = self.progress.last_shard.filter(|&shard| is_open(shard)).or(newest) else {
            return Ok((0, 0));
        };
        let known = self.positions.lock().get(&shard).copied();
        let next = match known {
            Some(next) => next,
            None => self.reader.iterator(shard.into(), Position::TrimHorizon)?.next_sequence().get(),
        };
        Ok((shard, next))
    }

    /// Notes that batches are handled.
    pub(super) fn note_handled(&self, batches: &[Batch]) {
        let mut positions = self.positions.lock();
        for batch in batches {
            if let Some(last) = batch.last_sequence() {
                let next = positions.entry(batch.shard().get()).or_default();
                *next = (*next).max(last.get() + 1);
            }
        }
    }
}

/// Raises positions to those that a group has committed: records that it has read beyond the stored positions had no effect.
pub(super) fn add_committed(positions: &Positions, group: &Group) -> Result<(), QueryError> {
    let committed = committed(group)?;
    let mut positions = positions.lock();
    for (shard, committed) in committed {
        let next = positions.entry(shard).or_default();
        *next = (*next).max(committed);
    }
    Ok(())
}

/// Returns the position of a group in each shard that it has not finished.
pub(super) fn committed(group: &Group) -> Result<BTreeMap<u32, u64>, QueryError> {
    match group.describe() {
        Ok(group) => {
            Ok(group.shards.iter().map(|shard| (shard.shard.get(), shard.next_sequence.get())).collect())
        }
        // There is none yet.
        Err(Error::InvalidArgument(_)) => Ok(BTreeMap::new()),
        Err(error) => Err(error.into()),
    }
}

/// Raises the positions in shards that a group has finished: those that are closed, and that it does not list. `kept` are the shards that were
/// being read when the state was written.
pub(super) fn add_finished(
    positions: &Positions,
    group: &Group,
    reader: &StreamReader,
    kept: impl Iterator<Item = u32>,
) -> Result<(), QueryError> {
    // Listed first, so that a shard that is closed later is not taken for finished.
    let shards = reader.shards();
    let committed = committed(group)?;
    if committed.is_empty() {
        return Ok(());
    }
    let mut positions = positions.lock();
    for id in kept.filter(|id| !committed.contains_key(id)) {
        let shard = shards.iter().find(|shard| shard.id.get() == id);
        if let Some(closing) = shard.and_then(|shard| shard.closing_sequence) {
            positions.insert(id, closing.get());
        }
    }
    Ok(())
}
