//! A consumer group: its leases and its checkpoints, and which shards come when.
//!
//! **Commit:** the lease is held fast → the checkpoint is written → it counts here, and the lease may go. A crash before it is written
//! leaves the checkpoint that was there: the records since are handed out again.
//!
//! **End of a shard:** the commit that reaches it says so → the shard is taken off → those of its children whose parents are all
//! finished are offered. After a crash opening finds the same shards by the same rule.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::checkpoints::{Checkpoint, Checkpoints};
use super::leases::{Commit, Held, Leases, Refusal, Term, WorkerId};
use crate::{
    Clock, Error, Position, Result, SequenceNumber, ShardDescription, ShardFilter, ShardId, Stream, Timestamp,
};

/// A consumer group, shared by its workers.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) name: Box<str>,
    pub(super) checkpoints: Checkpoints,
    leases: Mutex<Leases>,
    /// Notified when somebody may read other shards than before, and when a commit ends.
    changed: Condvar,
    clock: Arc<dyn Clock>,
    /// The stream has to be told of commits, since retention waits for them.
    has_hold: AtomicBool,
}

impl Group {
    /// Opens a group. One that is new begins at `position` in all shards that there are.
    pub(super) fn open(stream: &Stream, name: &str, position: Position, must_salvage: bool) -> Result<Self> {
        // Before anything is created: a group that cannot begin there is none.
        let is_known = stream.groups()?.iter().any(|known| known == name);
        let begun = if is_known { None } else { Some(positions(stream, position)?) };
        let group = Self {
            name: name.into(),
            checkpoints: Checkpoints::open(stream, name, must_salvage)?,
            leases: Mutex::default(),
            changed: Condvar::new(),
            clock: Arc::clone(stream.clock()),
            has_hold: AtomicBool::new(false),
        };
        if group.checkpoints.is_empty() {
            // Nothing is kept of one whose creation was interrupted.
            let begun = begun.map_or_else(|| positions(stream, position), Ok)?;
            group.checkpoints.replace(begun)?;
        } else {
            let shards = stream.shards();
            let is_there = |id: ShardId| shards.iter().any(|shard| shard.id == id);
            let is_finished = |id| group.checkpoints.get(id).is_some_and(|checkpoint| checkpoint.is_finished);
            // A shard that expired before it was finished stays: somebody has to be told.
            group.checkpoints.put_all_again(|id| is_there(id) || !is_finished(id))?;
        }
        group.offer_shards(&mut group.leases.lock(), &stream.shards());
        group.tell_holds(stream);
        Ok(group)
    }

    /// Offers what can be read: all shards that are not finished, and whose parents are.
    fn offer_shards(&self, leases: &mut Leases, shards: &[ShardDescription]) {
        let is_finished = |id: ShardId| match self.checkpoints.get(id) {
            Some(checkpoint) => checkpoint.is_finished,
            // One that expired before the group looked at it.
            None => !shards.iter().any(|shard| shard.id == id),
        };
        for shard in shards.iter().filter(|shard| !is_finished(shard.id)) {
            if shard.parents().all(is_finished) {
                let checkpoint = self.checkpoints.get(shard.id);
                leases.offer(shard.id, checkpoint.map_or(shard.first_sequence, |checkpoint| checkpoint.next));
            }
        }
        for (id, checkpoint) in self.checkpoints.expired(shards) {
            leases.offer(id, checkpoint.next);
        }
    }

    /// The leases, with nobody among the workers who is silent for too long.
    pub(super) fn settled(&self) -> MutexGuard<'_, Leases> {
        let mut leases = self.leases.lock();
        self.settle(&mut leases);
        leases
    }

    fn settle(&self, leases: &mut Leases) {
        let now = self.clock.now();
        if leases.next_expiry().is_some_and(|expiry| expiry <= now) {
            self.change(leases, |leases| leases.settle(now));
        }
    }

    /// Does something, and wakes those that wait if that changed what they may read.
    fn change<T>(&self, leases: &mut Leases, work: impl FnOnce(&mut Leases) -> T) -> T {
        let before = leases.version();
        let outcome = work(leases);
        if leases.version() != before {
            self.changed.notify_all();
        }
        outcome
    }

    pub(super) fn join(&self, timeout: Duration) -> WorkerId {
        let now = self.clock.now();
        self.change(&mut self.leases.lock(), |leases| leases.join(timeout, now))
    }

    pub(super) fn leave(&self, worker: WorkerId) {
        let now = self.clock.now();
        self.change(&mut self.leases.lock(), |leases| leases.leave(worker, now));
    }

    /// Notes that a worker called, and tells the version of the leases.
    pub(super) fn call(&self, worker: WorkerId, timeout: Duration) -> u64 {
        let now = self.clock.now();
        let mut leases = self.leases.lock();
        self.change(&mut leases, |leases| leases.call(worker, timeout, false, now));
        self.settle(&mut leases);
        leases.version()
    }

    /// What a worker has leases on, and the version of the leases that this is true of.
    pub(super) fn held_by(&self, worker: WorkerId) -> (Vec<Held>, u64) {
        let leases = self.leases.lock();
        (leases.held_by(worker).collect(), leases.version())
    }

    /// Does something that waits, while the worker counts as alive.
    pub(super) fn while_waiting<T>(
        &self,
        worker: WorkerId,
        timeout: Duration,
        wait: impl FnOnce() -> T,
    ) -> T {
        let note = |is_waiting| {
            let now = self.clock.now();
            let mut leases = self.leases.lock();
            self.change(&mut leases, |leases| leases.call(worker, timeout, is_waiting, now));
        };
        note(true);
        let outcome = wait();
        note(false);
        outcome
    }

    /// Whether the leases are still those of a version.
    pub(super) fn is_at(&self, version: u64) -> bool {
        self.leases.lock().version() == version
    }

    /// Waits until somebody may read other shards than at a version.
    pub(super) fn wait_for_change(&self, version: u64, timeout: Duration) {
        let mut leases = self.leases.lock();
        if leases.version() == version {
            self.changed.wait_for(&mut leases, timeout);
        }
    }

    /// Notes that records are being handed out; false if the worker may not read the shard any more.
    pub(super) fn hand_out(&self, held: Held, worker: WorkerId, end: SequenceNumber) -> bool {
        self.leases.lock().hand_out(held, worker, end)
    }

    /// Notes that a worker has come to the end of a shard; if all of it is handled, that is written.
    pub(super) fn note_end(
        &self,
        stream: &Stream,
        held: Held,
        worker: WorkerId,
        end: SequenceNumber,
    ) -> Result<()> {
        let is_all_handled = self.leases.lock().note_end(held, worker, end);
        // Otherwise the commit of what was handed out is the one that reaches the end.
        if is_all_handled {
            self.commit(stream, (held.shard, Some(held.term)), worker, end, None)
        } else {
            Ok(())
        }
    }

    /// Writes that all below `next` is handled. `arrival` is when the last record below arrived.
    pub(super) fn commit(
        &self,
        stream: &Stream,
        (shard, term): (ShardId, Option<Term>),
        worker: WorkerId,
        next: SequenceNumber,
        arrival: Option<Timestamp>,
    ) -> Result<()> {
        let begun = self.leases.lock().begin_commit(shard, worker, term, next);
        let is_end = match begun {
            Ok(Commit::Nothing) => return Ok(()),
            Ok(Commit::Write { is_end }) => is_end,
            Err(Refusal::Lost) => return Err(self.lease_lost(shard)),
            Err(Refusal::Beyond(handed_out)) => {
                return Err(Error::InvalidArgument(
                    format!("{shard} was handed out up to before sequence number {handed_out}, and not up to {next}").into(),
                ));
            }
        };
        // Where only the end is new, the last record is as before.
        let known = self.checkpoints.get(shard).filter(|known| known.next == next);
        let last_timestamp = arrival.or(known.and_then(|known| known.last_timestamp));
        let written = self.checkpoints.put(shard, Checkpoint { next, last_timestamp, is_finished: is_end });
        let mut leases = self.leases.lock();
        let now = self.clock.now();
        self.change(&mut leases, |leases| {
            leases.end_commit(shard, written.is_ok().then_some(next), now);
            if is_end && written.is_ok() {
                leases.retire(shard);
                self.offer_shards(leases, &stream.shards());
                leases.settle(now);
            }
        });
        // Whoever wants all commits to be over waits for that.
        self.changed.notify_all();
        self.tell_hold(stream, shard);
        written
    }

    /// Writes that a shard is to be read from another place on.
    pub(super) fn seek(
        &self,
        stream: &Stream,
        held: Held,
        worker: WorkerId,
        checkpoint: Checkpoint,
    ) -> Result<()> {
        if !self.leases.lock().begin_seek(held.shard, worker, held.term) {
            return Err(self.lease_lost(held.shard));
        }
        let written = self.checkpoints.put(held.shard, checkpoint);
        self.leases.lock().end_seek(held.shard, written.is_ok().then_some(checkpoint.next));
        self.tell_hold(stream, held.shard);
        self.changed.notify_all();
        written
    }

    pub(super) fn lease_lost(&self, shard: ShardId) -> Error {
        Error::LeaseLost { group: self.name.clone(), shard }
    }

    /// Holds retention back from now on, or no longer.
    pub(super) fn set_hold(&self, stream: &Stream, bytes_max: u64) -> Result<()> {
        stream.set_hold(&self.name, bytes_max)?;
        self.tell_holds(stream);
        Ok(())
    }

    /// Tells the stream what need not be held any more, if this group holds anything.
    fn tell_holds(&self, stream: &Stream) {
        self.has_hold
            .store(stream.describe().holds.iter().any(|hold| hold.name == *self.name), Ordering::Relaxed);
        for shard in stream.shards() {
            self.tell_hold(stream, shard.id);
        }
    }

    fn tell_hold(&self, stream: &Stream, shard: ShardId) {
        if self.has_hold.load(Ordering::Relaxed)
            && let Some(checkpoint) = self.checkpoints.get(shard)
        {
            stream.release_hold(&self.name, shard, checkpoint.next);
        }
    }

    /// Puts all shards to a position, and takes them from whoever has them.
    pub(super) fn reset(&self, stream: &Stream, position: Position) -> Result<()> {
        let checkpoints = positions(stream, position)?;
        let mut leases = self.leases.lock();
        while leases.is_committing() {
            self.changed.wait(&mut leases);
        }
        self.checkpoints.replace(checkpoints)?;
        self.tell_holds(stream);
        let now = self.clock.now();
        self.change(&mut leases, |leases| {
            leases.clear();
            self.offer_shards(leases, &stream.shards());
            leases.settle(now);
        });
        Ok(())
    }
}

/// The checkpoints with which a group reads from a position on: shards that ended before are finished, those that come later have none.
fn positions(stream: &Stream, position: Position) -> Result<BTreeMap<ShardId, Checkpoint>> {
    let filter = match position {
        Position::TrimHorizon => ShardFilter::AtTrimHorizon,
        Position::Latest => ShardFilter::AtLatest,
        // A shard that closed at that very time may hold records of it.
        Position::AtTimestamp(time) => ShardFilter::AtTimestamp(time.minus(Duration::from_micros(1))),
        _ => {
            return Err(Error::InvalidArgument(
                "a sequence number is a place in one shard: start a group at TrimHorizon, Latest or AtTimestamp".into(),
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
