//! Where a worker begins to read a shard, and how it moves to another place in it.

use std::sync::Arc;

use super::checkpoint::Checkpoint;
use super::leases::Held;
use super::options::OnTrimmed;
use super::readable::arrival_before;
use super::worker::Worker;
use crate::{Error, Position, Result, SequenceNumber, ShardId, ShardIterator};

impl Worker {
    /// Begins to read a shard, and notes where. Returns `None` if nothing in it is left to read.
    pub(super) fn begin(&mut self, held: Held) -> Result<Option<ShardIterator>> {
        let begun = self.start(held)?;
        self.note_begin(held.shard, begun.as_ref());
        Ok(begun)
    }

    fn start(&mut self, held: Held) -> Result<Option<ShardIterator>> {
        let begun = match self.asked(held.shard)? {
            Some(next) => self.start_where_asked(held, next),
            None => self.start_at_checkpoint(held),
        };
        let begun = match begun {
            Err(Error::ShardNotFound(shard)) => Err(Error::Trimmed {
                shard,
                requested: held.checkpoint.sequence,
                horizon: self.first_of_children(held),
            }),
            begun => begun,
        };
        match begun {
            Err(Error::Trimmed { .. }) if self.options.on_trimmed == OnTrimmed::SkipToHorizon => {
                self.skip_to_horizon_of(held).map(|(_, iterator)| iterator)
            }
            begun => begun.map(Some),
        }
    }

    /// Returns where to continue in a shard according to the caller's own positions.
    fn asked(&self, shard: ShardId) -> Result<Option<SequenceNumber>> {
        match &self.options.positions {
            Some(last_handled) => Ok(last_handled(shard)?.map(|sequence| sequence.plus(1))),
            None => Ok(None),
        }
    }

    fn start_where_asked(&self, held: Held, next: SequenceNumber) -> Result<ShardIterator> {
        let end = self.stream().iterator(held.shard, Position::Latest)?.next_sequence();
        let iterator = self.stream().iterator(held.shard, Position::At(next.min(end)))?;
        if held.checkpoint != iterator.next_sequence().into() {
            self.seek_to(held, iterator.next_sequence())?;
        }
        Ok(iterator)
    }

    fn start_at_checkpoint(&self, held: Held) -> Result<ShardIterator> {
        // The number after the last record that is handled, as a whole or in part.
        let begun = held.checkpoint.begun();
        let noted = self.state.checkpoints.get(held.shard).and_then(|known| known.last_timestamp);
        // A power loss may have removed records that were handled, and new records may have their numbers. If the last handled record is
        // trimmed, there is nothing to compare with, and no record below the checkpoint is left to read.
        let is_behind =
            |shard| self.stream().iterator(shard, Position::TrimHorizon).map(|it| it.next_sequence() < begun);
        if let Some(noted) = noted.filter(|_| is_behind(held.shard).unwrap_or(false))
            && arrival_before(self.stream(), held.shard, begun) != Some(noted)
        {
            // If the clock was set back since, later records may seem to be older than the handled one. Then all are handed out again.
            let is_in_future = noted > self.stream().now();
            let position = if is_in_future { Position::TrimHorizon } else { Position::AtTimestamp(noted) };
            let mut iterator = self.stream().iterator(held.shard, position)?;
            // If damage has taken the last handled record, it may also have taken records from the checkpoint on. Reading from there reports them.
            if iterator.next_sequence() > held.checkpoint.sequence {
                iterator.seek(Position::At(held.checkpoint.sequence))?;
            }
            self.seek_to(held, iterator.next_sequence())?;
            return Ok(iterator);
        }
        self.stream().iterator(held.shard, Position::At(held.checkpoint.sequence))
    }

    /// Sets the shard's checkpoint to a place, so that reading continues there, also after a restart. The state stays.
    pub(super) fn seek_to(&self, held: Held, next: SequenceNumber) -> Result<()> {
        self.seek_with(held, next, self.state.checkpoints.state(held.shard))
    }

    fn seek_with(&self, held: Held, next: SequenceNumber, state: Option<Arc<[u8]>>) -> Result<()> {
        let last_timestamp = arrival_before(self.stream(), held.shard, next);
        let checkpoint = Checkpoint { next: next.into(), last_timestamp, is_finished: false };
        self.state.seek(self.stream(), held, self.id, checkpoint, state)
    }

    /// Moves to another position in a shard that the worker has a lease on. The position is the shard's new checkpoint: everything before
    /// it counts as handled, and nothing after it does. The [state](Self::committed_state) is dropped.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use streamlog::{Position, Stream};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// stream.put("user-17", "clicked")?;
    /// let mut worker = stream.group("billing").worker().open()?;
    /// for again in [false, true] {
    ///     let batch = worker.poll(Duration::from_secs(1))?.expect("a record was put");
    ///     worker.commit(&batch)?;
    ///     if !again {
    ///         worker.seek(batch.shard(), Position::TrimHorizon)?;
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `GroupLeaseLost` if the shard is not this worker's; otherwise the same as [`StreamReader::iterator`](crate::StreamReader::iterator) and
    /// [`commit`](Self::commit).
    pub fn seek(&mut self, shard: ShardId, position: Position) -> Result<()> {
        self.state.call(self.id, self.options.lease_timeout);
        let held = self.held(shard)?;
        let iterator = self.stream().iterator(shard, position)?;
        self.seek_with(held, iterator.next_sequence(), None)?;
        if let Some(at) = self.reading(shard) {
            self.readings[at].given_up.clear();
        }
        self.go_on(held, Some(iterator));
        Ok(())
    }

    fn go_on(&mut self, held: Held, iterator: Option<ShardIterator>) {
        self.note_begin(held.shard, iterator.as_ref());
        if let Some(at) = self.reading(held.shard) {
            let reading = &mut self.readings[at];
            reading.is_at_end = iterator.is_none();
            reading.iterator = iterator;
        }
    }

    /// Continues from the trim horizon in a shard where retention has overtaken the group. Returns the number of skipped records. If the
    /// whole shard has expired, its end is unknown: then the count extends to the beginning of its first child, or of a later shard if the
    /// children have expired too. So it may be too large, even if the group had handled all records of the shard.
    ///
    /// With this call, the caller gives those records up.
    ///
    /// # Errors
    /// Same as [`seek`](Self::seek).
    pub fn skip_to_horizon(&mut self, shard: ShardId) -> Result<u64> {
        let held = self.held(shard)?;
        let (skipped, iterator) = self.skip_to_horizon_of(held)?;
        self.go_on(held, iterator);
        Ok(skipped)
    }

    /// Moves to the horizon. Returns how many records that skips, and the iterator to continue with if the shard has not expired.
    pub(super) fn skip_to_horizon_of(&mut self, held: Held) -> Result<(u64, Option<ShardIterator>)> {
        let known = || self.state.checkpoints.get(held.shard).map(|checkpoint| checkpoint.next.sequence);
        let from = self.asked(held.shard)?.or_else(known).unwrap_or(held.checkpoint.sequence);
        let (next, iterator) = match self.stream().iterator(held.shard, Position::At(from)) {
            Ok(iterator) => (from, Some(iterator)),
            Err(Error::Trimmed { .. }) => {
                let iterator = self.stream().iterator(held.shard, Position::TrimHorizon)?;
                self.seek_to(held, iterator.next_sequence())?;
                (iterator.next_sequence(), Some(iterator))
            }
            Err(Error::ShardNotFound(_)) => {
                let checkpoint = known().unwrap_or(held.checkpoint.sequence);
                if self.state.checkpoints.get(held.shard).is_some_and(|known| known.next.is_within_record()) {
                    // The rest of that record is gone, too.
                    self.seek_to(held, checkpoint)?;
                }
                self.state.note_end(self.stream(), held, self.id, checkpoint)?;
                (self.first_of_children(held), None)
            }
            Err(error) => return Err(error),
        };
        let skipped = next.get().saturating_sub(from.get());
        self.skipped_count += skipped;
        Ok((skipped, iterator))
    }

    /// Returns where the first child of an expired shard begins. If the children have expired too, the shards with an expired parent count: these
    /// include the descendants of the children.
    fn first_of_children(&self, held: Held) -> SequenceNumber {
        let (shards, from) = (self.stream().shards(), held.checkpoint.sequence);
        let is_there = |id: ShardId| shards.iter().any(|shard| shard.id == id);
        let child = shards.iter().find(|shard| shard.parents().any(|id| id == held.shard));
        let orphans = shards.iter().filter(|shard| shard.parents().any(|id| !is_there(id)));
        let later = orphans.map(|shard| shard.first_sequence).filter(|&first| first > from);
        child.map(|child| child.first_sequence).or_else(|| later.min()).unwrap_or(from)
    }

    /// Continues after records of a shard that were lost to damage and given up since. Returns the number of skipped records.
    ///
    /// # Errors
    /// Same as [`seek`](Self::seek) and [`ShardIterator::skip_lost`].
    pub fn skip_lost(&mut self, shard: ShardId) -> Result<u64> {
        let held = self.held(shard)?;
        let known = self.reading(shard).and_then(|at| self.readings[at].iterator.take());
        let mut iterator = match known {
            Some(iterator) => iterator,
            None => self.stream().iterator(shard, Position::At(held.checkpoint.sequence))?,
        };
        let first = iterator.next_sequence();
        let skipped = iterator.skip_lost();
        let end = iterator.next_sequence();
        self.go_on(held, Some(iterator));
        if end > first && self.state.hand_out(held, self.id, end) {
            if self.state.checkpoints.get(shard).is_some_and(|checkpoint| checkpoint.next.sequence == first) {
                let state = self.state.checkpoints.state(shard);
                self.state.commit(
                    self.stream(),
                    (shard, Some(held.term)),
                    self.id,
                    end.into(),
                    None,
                    state,
                )?;
            } else if let Some(at) = self.reading(shard) {
                // The records that were handed out before have to be committed first.
                self.readings[at].given_up.push((first, end));
            }
        }
        skipped
    }
}
