//! Where a worker begins to read a shard, and how it goes to another place in it.

use super::checkpoint::Checkpoint;
use super::leases::Held;
use super::options::OnTrimmed;
use super::readable::arrival_before;
use super::worker::Worker;
use crate::{Error, Position, Result, SequenceNumber, ShardId, ShardIterator};

impl Worker {
    /// Begins to read a shard; `None` if there is nothing of it left to read.
    pub(super) fn start(&mut self, held: Held) -> Result<Option<ShardIterator>> {
        let begun = match self.asked(held.shard)? {
            Some(next) => self.start_where_asked(held, next),
            None => self.start_at_checkpoint(held),
        };
        let begun = match begun {
            Err(Error::ShardNotFound(shard)) => Err(Error::Trimmed {
                shard,
                requested: held.checkpoint,
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

    /// Where a shard goes on by the caller's own account.
    fn asked(&self, shard: ShardId) -> Result<Option<SequenceNumber>> {
        match &self.options.positions {
            Some(last_handled) => Ok(last_handled(shard)?.map(|sequence| sequence.plus(1))),
            None => Ok(None),
        }
    }

    fn start_where_asked(&self, held: Held, next: SequenceNumber) -> Result<ShardIterator> {
        let end = self.stream().iterator(held.shard, Position::Latest)?.next_sequence();
        let iterator = self.stream().iterator(held.shard, Position::At(next.min(end)))?;
        if iterator.next_sequence() != held.checkpoint {
            self.seek_to(held, iterator.next_sequence())?;
        }
        Ok(iterator)
    }

    fn start_at_checkpoint(&self, held: Held) -> Result<ShardIterator> {
        let next = held.checkpoint;
        let noted = self.state.checkpoints.get(held.shard).and_then(|known| known.last_timestamp);
        // A power loss may have taken records that were handled, and others may have their numbers by now. Where the last record that
        // was handled is trimmed there is nothing to compare with, and nothing that was put since.
        let is_behind =
            |shard| self.stream().iterator(shard, Position::TrimHorizon).map(|it| it.next_sequence() < next);
        if let Some(noted) = noted.filter(|_| is_behind(held.shard).unwrap_or(false))
            && arrival_before(self.stream(), held.shard, next) != Some(noted)
        {
            let time = noted.min(self.stream().now());
            let iterator = self.stream().iterator(held.shard, Position::AtTimestamp(time))?;
            self.seek_to(held, iterator.next_sequence())?;
            return Ok(iterator);
        }
        self.stream().iterator(held.shard, Position::At(next))
    }

    /// Makes a place the one from which a shard is read on, for good.
    pub(super) fn seek_to(&self, held: Held, next: SequenceNumber) -> Result<()> {
        let last_timestamp = arrival_before(self.stream(), held.shard, next);
        let checkpoint = Checkpoint { next, last_timestamp, is_finished: false };
        self.state.seek(self.stream(), held, self.id, checkpoint)
    }

    /// Goes to another position in a shard that the worker has a lease on. This is the shard's new checkpoint: what lies before counts as
    /// handled, what lies behind as not.
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
    /// `GroupLeaseLost` if the shard is not this worker's; otherwise as [`Stream::iterator`](crate::Stream::iterator), and as [`commit`](Self::commit).
    pub fn seek(&mut self, shard: ShardId, position: Position) -> Result<()> {
        self.state.call(self.id, self.options.lease_timeout);
        let held = self.held(shard)?;
        let iterator = self.stream().iterator(shard, position)?;
        self.seek_to(held, iterator.next_sequence())?;
        if let Some(at) = self.reading(shard) {
            self.readings[at].given_up.clear();
        }
        self.go_on(held, Some(iterator));
        Ok(())
    }

    fn go_on(&mut self, held: Held, iterator: Option<ShardIterator>) {
        if let Some(at) = self.reading(held.shard) {
            let reading = &mut self.readings[at];
            reading.is_at_end = iterator.is_none();
            reading.iterator = iterator;
        }
    }

    /// Goes on from the trim horizon in a shard where retention has overtaken the group; tells how many records that skips. Where the
    /// shard has expired as a whole nobody knows where it ended: then the number is the one up to its first child.
    ///
    /// This is the caller's word that those records are given up.
    ///
    /// # Errors
    /// As [`seek`](Self::seek).
    pub fn skip_to_horizon(&mut self, shard: ShardId) -> Result<u64> {
        let held = self.held(shard)?;
        let (skipped, iterator) = self.skip_to_horizon_of(held)?;
        self.go_on(held, iterator);
        Ok(skipped)
    }

    /// Goes to the horizon; tells how many records that skips, and the iterator to go on with if the shard has not expired.
    pub(super) fn skip_to_horizon_of(&mut self, held: Held) -> Result<(u64, Option<ShardIterator>)> {
        let known = || self.state.checkpoints.get(held.shard).map(|checkpoint| checkpoint.next);
        let from = self.asked(held.shard)?.or_else(known).unwrap_or(held.checkpoint);
        let (next, iterator) = match self.stream().iterator(held.shard, Position::At(from)) {
            Ok(iterator) => (from, Some(iterator)),
            Err(Error::Trimmed { .. }) => {
                let iterator = self.stream().iterator(held.shard, Position::TrimHorizon)?;
                self.seek_to(held, iterator.next_sequence())?;
                (iterator.next_sequence(), Some(iterator))
            }
            Err(Error::ShardNotFound(_)) => {
                let checkpoint = known().unwrap_or(held.checkpoint);
                self.state.note_end(self.stream(), held, self.id, checkpoint)?;
                (self.first_of_children(held), None)
            }
            Err(error) => return Err(error),
        };
        let skipped = next.get().saturating_sub(from.get());
        self.skipped_count += skipped;
        Ok((skipped, iterator))
    }

    /// Where the children of a shard that has expired begin, or else where the group was.
    fn first_of_children(&self, held: Held) -> SequenceNumber {
        let shards = self.stream().shards();
        let child = shards.iter().find(|shard| shard.parents().any(|id| id == held.shard));
        child.map_or(held.checkpoint, |child| child.first_sequence)
    }

    /// Goes on behind the records of a shard that were lost to damage and given up since; tells how many that skips.
    ///
    /// # Errors
    /// As [`seek`](Self::seek), and as [`ShardIterator::skip_lost`].
    pub fn skip_lost(&mut self, shard: ShardId) -> Result<u64> {
        let held = self.held(shard)?;
        let known = self.reading(shard).and_then(|at| self.readings[at].iterator.take());
        let mut iterator = match known {
            Some(iterator) => iterator,
            None => self.stream().iterator(shard, Position::At(held.checkpoint))?,
        };
        let first = iterator.next_sequence();
        let skipped = iterator.skip_lost();
        let end = iterator.next_sequence();
        self.go_on(held, Some(iterator));
        if end > first && self.state.hand_out(held, self.id, end) {
            if self.state.checkpoints.get(shard).is_some_and(|checkpoint| checkpoint.next == first) {
                self.state.commit(self.stream(), (shard, Some(held.term)), self.id, end, None)?;
            } else if let Some(at) = self.reading(shard) {
                // What was handed out before is to be committed first.
                self.readings[at].given_up.push((first, end));
            }
        }
        skipped
    }
}
