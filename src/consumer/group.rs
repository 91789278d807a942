//! A consumer group: its leases, its checkpoints, and the order in which shards are read.
//!
//! **Commit:** the lease is kept → the checkpoint is written → the checkpoint takes effect in memory, and the lease may end. A crash before
//! the write leaves the previous checkpoint, and the records after it are handed out again.
//!
//! **End of a shard:** the commit that reaches the end records the end, and where each child begins whose parents are all finished → the
//! shard is removed from the leases, and these children are offered. After a crash, opening finds the same shards by the same rule.
//!
//! **Reset:** all leases are taken away, except for those with a commit in progress → these commits end → all checkpoints are replaced →
//! the shards are offered again. A crash leaves either the old checkpoints or the new ones, never a mix.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;
use std::time::Duration;

use parking_lot::Condvar;

use super::checkpoint::{Checkpoint, Place};
use super::checkpoints::Checkpoints;
use super::leases::{Commit, Held, Leases, Refusal, Term, WorkerId};
use super::readable::positions;
use super::shared::{LockedLeases, SharedLeases};
use crate::{
    Clock, Error, Position, Result, SequenceNumber, ShardDescription, ShardId, StreamReader, Timestamp,
    extend,
};

/// A consumer group, shared by its workers.
#[derive(Debug)]
pub(super) struct GroupState {
    pub(super) name: Box<str>,
    pub(super) checkpoints: Checkpoints,
    leases: SharedLeases,
    /// Notified when a commit ends.
    committed: Condvar,
    clock: Arc<dyn Clock>,
    /// The group holds retention back, so each commit has to be reported to the stream.
    has_hold: AtomicBool,
    /// The stream's limits delay a waiting worker. Only time lets it continue, and a task has no timer.
    wakes_with_maintenance: AtomicBool,
}

impl GroupState {
    /// Opens a group. A new group begins at `position` in all existing shards.
    pub(super) fn open(
        stream: &StreamReader,
        name: &str,
        position: Position,
        must_salvage: bool,
    ) -> Result<Self> {
        // Checked before anything is created: a group that cannot begin there must not exist afterwards.
        let is_known = stream.groups()?.iter().any(|known| known == name);
        let begun = if is_known { None } else { Some(positions(stream, position)?) };
        let group = Self {
            name: name.into(),
            checkpoints: Checkpoints::open(stream, name, must_salvage)?,
            leases: SharedLeases::default(),
            committed: Condvar::new(),
            clock: Arc::clone(stream.clock()),
            has_hold: AtomicBool::new(false),
            wakes_with_maintenance: AtomicBool::new(false),
        };
        if group.checkpoints.is_empty() {
            // If the creation was interrupted, the group exists but has no checkpoints.
            let begun = begun.map_or_else(|| positions(stream, position), Ok)?;
            group.checkpoints.replace(begun)?;
        } else {
            group.checkpoints.put_all_again_if_long(stream);
        }
        group.offer_shards(&mut group.leases.lock(), &stream.shards());
        extend::hold(stream, name).take_over()?;
        group.tell_holds(stream);
        // Last, so that a group that failed to open leaves nothing behind.
        extend::add_companion(stream, group.checkpoints.log().clone())?;
        Ok(group)
    }

    /// Offers the shards that can be read.
    fn offer_shards(&self, leases: &mut Leases, shards: &[ShardDescription]) {
        for (id, checkpoint) in self.checkpoints.readable(shards) {
            leases.offer(id, checkpoint.next);
        }
    }

    /// Locks the leases, with their time set to the present. Setting the clock forward ends no lease; only elapsed time does.
    fn leases_now(&self) -> LockedLeases<'_> {
        let clock = Timestamp::default() + self.clock.elapsed();
        let mut leases = self.leases.lock();
        leases.look_at_clock(clock);
        leases
    }

    /// Locks the leases, and removes the workers that were silent for too long.
    pub(super) fn settled(&self) -> LockedLeases<'_> {
        let mut leases = self.leases_now();
        leases.settle_if_due();
        leases
    }

    /// Does what cannot wait for a worker's call: ends the leases of silent workers while all others wait, and wakes the workers that wait for the
    /// stream after it is closed.
    pub(super) fn attend(&self) {
        drop(self.settled());
        if self.wakes_with_maintenance.swap(false, Ordering::Relaxed) || self.checkpoints.log().is_closed() {
            self.leases.wake_all();
        }
    }

    /// Makes the next maintenance pass wake all waiting workers.
    pub(super) fn wake_with_maintenance(&self) {
        self.wakes_with_maintenance.store(true, Ordering::Relaxed);
    }

    pub(super) fn join(&self, timeout: Duration) -> WorkerId {
        self.leases_now().join(timeout)
    }

    pub(super) fn leave(&self, worker: WorkerId) {
        self.leases.forget(worker);
        self.leases_now().leave(worker);
    }

    /// Notes that a worker called. Returns the version of the leases.
    pub(super) fn call(&self, worker: WorkerId, timeout: Duration) -> u64 {
        let mut leases = self.leases_now();
        leases.call(worker, timeout, false);
        leases.settle_if_due();
        leases.version()
    }

    /// Arranges for a worker to be woken once the version of the leases differs from this one. Until [`end_wait`](Self::end_wait) or its next
    /// call, the worker counts as alive. Returns false if the version differs already.
    pub(super) fn begin_wait(
        &self,
        worker: WorkerId,
        timeout: Duration,
        version: u64,
        waker: &Waker,
    ) -> bool {
        let mut leases = self.leases_now();
        leases.call(worker, timeout, true);
        let is_same = leases.version() == version;
        if is_same {
            leases.wake_later(worker, waker);
        }
        is_same
    }

    /// Notes that a worker no longer waits.
    pub(super) fn end_wait(&self, worker: WorkerId, timeout: Duration) {
        self.leases.forget(worker);
        self.leases_now().call(worker, timeout, false);
    }

    /// Returns the shards that a worker has leases on, and the version of the leases for which this holds.
    pub(super) fn held_by(&self, worker: WorkerId) -> (Vec<Held>, u64) {
        let leases = self.leases.lock();
        (leases.held_by(worker).collect(), leases.version())
    }

    /// Returns whether the leases still have this version.
    pub(super) fn is_at(&self, version: u64) -> bool {
        self.leases.lock().version() == version
    }

    /// Notes that records are being handed out. Returns false if the worker may no longer read the shard.
    pub(super) fn hand_out(&self, held: Held, worker: WorkerId, end: SequenceNumber) -> bool {
        self.leases.lock().hand_out(held, worker, end)
    }

    /// Notes that a worker has reached the end of a shard. If everything in it is handled, the end is committed, unless there is a state to
    /// settle first.
    pub(super) fn note_end(
        &self,
        stream: &StreamReader,
        held: Held,
        worker: WorkerId,
        end: SequenceNumber,
    ) -> Result<()> {
        let is_all_handled = self.leases.lock().note_end(held, worker, end);
        // Otherwise the commit of the records that were handed out reaches the end.
        if is_all_handled && self.checkpoints.state(held.shard).is_none() {
            self.commit(stream, (held.shard, Some(held.term)), worker, end.into(), None, None)
        } else {
            Ok(())
        }
    }

    /// Commits that everything below `next` is handled. `arrival` is the arrival time of the last record that is handled, as a whole or in part.
    pub(super) fn commit(
        &self,
        stream: &StreamReader,
        (shard, term): (ShardId, Option<Term>),
        worker: WorkerId,
        next: Place,
        arrival: Option<Timestamp>,
        state: Option<Arc<[u8]>>,
    ) -> Result<()> {
        let has_state = state.is_some() || self.checkpoints.state(shard).is_some();
        let begun = self.leases.lock().begin_commit(shard, worker, term, next, has_state);
        let is_end = match begun {
            Ok(Commit::Nothing) => return Ok(()),
            // A caller with a state has something left to do.
            Ok(Commit::Write { is_end }) => is_end && state.is_none(),
            Err(Refusal::Lost) => return Err(self.lease_lost(shard)),
            Err(Refusal::Beyond(handed_out)) => {
                return Err(Error::InvalidArgument(
                    format!(
                        "{shard} was handed out up to before sequence number {handed_out}, and not up to {}",
                        next.begun()
                    )
                    .into(),
                ));
            }
        };
        // If only the end is new, the last record is the same as before.
        let known = self.checkpoints.get(shard).filter(|known| known.next == next);
        let last_timestamp = arrival.or(known.and_then(|known| known.last_timestamp));
        let checkpoint = Checkpoint { next, last_timestamp, is_finished: is_end };
        let written = self.write(stream, shard, checkpoint, state);
        let mut leases = self.leases_now();
        leases.end_commit(shard, worker, written.is_ok().then_some(next));
        if is_end && written.is_ok() {
            leases.retire(shard);
            self.offer_shards(&mut leases, &stream.shards());
            leases.settle();
        }
        drop(leases);
        self.committed.notify_all();
        self.tell_hold(stream, shard);
        written
    }

    fn write(
        &self,
        stream: &StreamReader,
        shard: ShardId,
        checkpoint: Checkpoint,
        state: Option<Arc<[u8]>>,
    ) -> Result<()> {
        if checkpoint.is_finished {
            self.checkpoints.finish(shard, checkpoint, &stream.shards())?;
        } else {
            self.checkpoints.put(shard, checkpoint, state)?;
        }
        self.checkpoints.put_all_again_if_long(stream);
        Ok(())
    }

    /// Writes that reading a shard continues from another place.
    pub(super) fn seek(
        &self,
        stream: &StreamReader,
        held: Held,
        worker: WorkerId,
        checkpoint: Checkpoint,
        state: Option<Arc<[u8]>>,
    ) -> Result<()> {
        if !self.leases.lock().begin_seek(held.shard, worker, held.term) {
            return Err(self.lease_lost(held.shard));
        }
        let written = self.write(stream, held.shard, checkpoint, state);
        self.leases_now().end_seek(held.shard, worker, written.is_ok().then_some(checkpoint.next));
        self.committed.notify_all();
        self.tell_hold(stream, held.shard);
        written
    }

    pub(super) fn lease_lost(&self, shard: ShardId) -> Error {
        Error::GroupLeaseLost { group: self.name.clone(), shard }
    }

    /// Sets the hold on retention, changes its bound, or ends it.
    pub(super) fn set_hold(&self, stream: &StreamReader, bytes_max: Option<u64>) -> Result<()> {
        let hold = extend::hold(stream, &self.name);
        match bytes_max {
            Some(bytes_max) => hold.set(bytes_max)?,
            None => hold.end()?,
        }
        self.tell_holds(stream);
        Ok(())
    }

    /// Reports to the stream which records it no longer has to hold, if this group has a hold.
    fn tell_holds(&self, stream: &StreamReader) {
        // The process that has the stream open may set a hold at any time.
        let has_hold = !stream.is_own() || stream.describe().holds.iter().any(|hold| hold.name == *self.name);
        self.has_hold.store(has_hold, Ordering::Relaxed);
        for shard in stream.shards() {
            self.tell_hold(stream, shard.id);
        }
    }

    fn tell_hold(&self, stream: &StreamReader, shard: ShardId) {
        if self.has_hold.load(Ordering::Relaxed)
            && let Some(checkpoint) = self.checkpoints.get(shard)
        {
            let next = checkpoint.next.sequence;
            // A state still needs its shard. Holding the last record keeps the shard from expiring.
            let has_state = self.checkpoints.state(shard).is_some();
            let first = next.previous().filter(|_| has_state).unwrap_or(next);
            extend::hold(stream, &self.name).release(shard, first);
        }
    }

    /// Moves all shards to a position, and takes them away from their workers.
    pub(super) fn reset(&self, stream: &StreamReader, position: Position) -> Result<()> {
        let checkpoints = positions(stream, position)?;
        let mut leases = self.leases_now();
        loop {
            leases.take_all();
            if !leases.is_committing() {
                break;
            }
            self.committed.wait(leases.guard());
        }
        let replaced = self.checkpoints.replace(checkpoints);
        self.tell_holds(stream);
        // After an error too: commits were refused in the meantime, and their records are handed out again.
        self.offer_shards(&mut leases, &stream.shards());
        leases.settle();
        replaced
    }
}
