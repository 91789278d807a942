//! Decides which worker of a group reads which shard, without a disk or a clock.
//!
//! Each shard belongs to the **lease** of one worker at a time. A shard changes hands in two steps. First, the lease is marked as leaving,
//! and its worker gets no more records of the shard. Once everything handed out is committed, or committing took too long, the shard is
//! free. It goes to the worker with the fewest shards.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::checkpoint::Place;
use crate::{SequenceNumber, ShardId, Timestamp};

/// The number of a worker within its group. Numbers are assigned in the order in which workers join.
///
/// ```
/// # use streamlog::Stream;
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// let (first, second) = (stream.group("billing").worker().open()?, stream.group("billing").worker().open()?);
/// assert_ne!(first.id(), second.id());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct WorkerId(pub(super) u64);

impl WorkerId {
    /// Returns the number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl From<WorkerId> for u64 {
    fn from(id: WorkerId) -> Self {
        id.0
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The workers of a group, the shards that they may read, and which worker reads which shard.
#[derive(Debug, Default)]
pub(super) struct Leases {
    workers: BTreeMap<WorkerId, Member>,
    shards: BTreeMap<ShardId, Slot>,
    /// The workers that joined and have not left, including silent ones.
    joined_count: usize,
    next_worker: u64,
    next_term: u64,
    /// Counts the changes to which worker may read which shard.
    version: u64,
    /// The time by which leases are measured. It advances with the elapsed time of the clock and never goes back: a clock that measures only the
    /// time of day may be set back, and this must not extend a lease.
    now: Timestamp,
    clock_was: Timestamp,
    /// The earliest time at which a worker has been silent for too long, or a lease has been leaving for too long.
    due: Timestamp,
}

#[derive(Debug)]
struct Member {
    /// When the worker last called.
    seen: Timestamp,
    timeout: Duration,
    /// The worker waits in a call, for records or for the disk. This does not count as silence.
    is_waiting: bool,
}

#[derive(Debug)]
struct Slot {
    /// The group has handled everything below.
    checkpoint: Place,
    lease: Option<Lease>,
}

/// A worker's right to read a shard.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lease {
    pub(super) worker: WorkerId,
    /// Distinguishes this lease from an earlier one of the same worker.
    pub(super) term: Term,
    /// Everything below was handed out under this lease, or handled before.
    handed_out: SequenceNumber,
    /// The end of the shard, once the worker has reached it.
    end: Option<SequenceNumber>,
    leaving_since: Option<Timestamp>,
    /// A commit is in progress.
    is_committing: bool,
}

/// The number of a lease. No two leases have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Term(u64);

/// A shard that a worker has a lease on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) shard: ShardId,
    pub(super) term: Term,
    pub(super) checkpoint: Place,
    /// The worker gets no more records of the shard, but may commit those that it has.
    pub(super) is_leaving: bool,
}

/// What a commit has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Commit {
    /// Everything is handled already.
    Nothing,
    /// Write the checkpoint, and then call [`Leases::end_commit`].
    Write { is_end: bool },
}

/// Why a commit is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The worker no longer has the lease: another worker has the shard, or none.
    Lost,
    /// Those records were never handed out. Everything below this number was.
    Beyond(SequenceNumber),
}

impl Lease {
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving_since.is_some()
    }
}

impl Leases {
    /// Returns a number that changes whenever a worker may read other shards than before.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Returns the number of workers that are alive.
    pub(super) fn worker_count(&self) -> usize {
        self.workers.len()
    }

    /// Returns the number of workers that may still call, alive or not.
    pub(super) fn joined_count(&self) -> usize {
        self.joined_count
    }

    /// Advances the time to what the clock shows now.
    pub(super) fn look_at_clock(&mut self, clock: Timestamp) {
        self.now = self.now + clock.since(self.clock_was);
        self.clock_was = clock;
    }

    pub(super) fn join(&mut self, timeout: Duration) -> WorkerId {
        let worker = WorkerId(self.next_worker);
        self.next_worker += 1;
        self.joined_count += 1;
        self.workers.insert(worker, Member { seen: self.now, timeout, is_waiting: false });
        self.settle();
        worker
    }

    /// Removes a worker. Its shards are free immediately.
    pub(super) fn leave(&mut self, worker: WorkerId) {
        self.joined_count -= 1;
        self.workers.remove(&worker);
        self.free(|lease| lease.worker == worker);
        self.settle();
    }

    /// Notes that a worker called. A worker that was removed as dead joins again.
    pub(super) fn call(&mut self, worker: WorkerId, timeout: Duration, is_waiting: bool) {
        let member = Member { seen: self.now, timeout, is_waiting };
        let is_known = self.workers.insert(worker, member).is_some();
        self.due = self.due.min(self.now + timeout);
        if !is_known {
            self.settle();
        }
    }

    /// Notes that a worker begins or ends a wait for the disk.
    fn note_waiting(&mut self, worker: WorkerId, is_waiting: bool) {
        if let Some(member) = self.workers.get_mut(&worker) {
            (member.seen, member.is_waiting) = (self.now, is_waiting);
            self.due = self.due.min(self.now + member.timeout);
        }
    }

    /// Adds a shard to read, from its checkpoint on.
    pub(super) fn offer(&mut self, shard: ShardId, checkpoint: Place) {
        self.shards.entry(shard).or_insert(Slot { checkpoint, lease: None });
    }

    /// Removes a shard that is read to its end.
    pub(super) fn retire(&mut self, shard: ShardId) {
        if self.shards.remove(&shard).is_some() {
            self.version += 1;
        }
    }

    /// Removes all shards, and so takes them away from their workers, except for those with a commit in progress.
    pub(super) fn take_all(&mut self) {
        self.shards.retain(|_, slot| slot.lease.is_some_and(|lease| lease.is_committing));
        self.version += 1;
    }

    /// Returns whether a commit is in progress.
    pub(super) fn is_committing(&self) -> bool {
        self.shards.values().any(|slot| slot.lease.is_some_and(|lease| lease.is_committing))
    }

    pub(super) fn offered(&self) -> impl Iterator<Item = (ShardId, Place, Option<Lease>)> {
        self.shards.iter().map(|(&shard, slot)| (shard, slot.checkpoint, slot.lease))
    }

    /// Returns the shards that a worker has leases on.
    pub(super) fn held_by(&self, worker: WorkerId) -> impl Iterator<Item = Held> {
        self.offered().filter_map(move |(shard, checkpoint, lease)| {
            let lease = lease.filter(|lease| lease.worker == worker)?;
            Some(Held { shard, term: lease.term, checkpoint, is_leaving: lease.is_leaving() })
        })
    }

    /// Notes that the records below `end` are being handed out. Returns false if the worker may no longer read the shard.
    pub(super) fn hand_out(&mut self, held: Held, worker: WorkerId, end: SequenceNumber) -> bool {
        let Some((_, lease)) = self.lease_of(held.shard, worker, held.term) else { return false };
        if lease.is_leaving() {
            return false;
        }
        lease.handed_out = end;
        true
    }

    /// Notes where the shard ends. Returns whether everything in it is handled.
    pub(super) fn note_end(&mut self, held: Held, worker: WorkerId, end: SequenceNumber) -> bool {
        let Some((checkpoint, lease)) = self.lease_of(held.shard, worker, held.term) else { return false };
        lease.end = Some(end);
        checkpoint == end.into()
    }

    fn lease_of(&mut self, shard: ShardId, worker: WorkerId, term: Term) -> Option<(Place, &mut Lease)> {
        let slot = self.shards.get_mut(&shard)?;
        let checkpoint = slot.checkpoint;
        slot.lease
            .as_mut()
            .filter(|lease| lease.worker == worker && lease.term == term)
            .map(|lease| (checkpoint, lease))
    }

    /// Checks whether a worker may commit that everything below `next` is handled. If so, the lease stays until `end_commit`. `term` is the term
    /// of the lease under which the records were handed out, if the worker knows it. A commit at the same place may still have a new state.
    pub(super) fn begin_commit(
        &mut self,
        shard: ShardId,
        worker: WorkerId,
        term: Option<Term>,
        next: Place,
        has_state: bool,
    ) -> Result<Commit, Refusal> {
        let term = term.ok_or(Refusal::Lost)?;
        let (checkpoint, lease) = self.lease_of(shard, worker, term).ok_or(Refusal::Lost)?;
        if next > lease.handed_out.into() {
            return Err(Refusal::Beyond(lease.handed_out));
        }
        let is_end = lease.end.is_some_and(|end| next == end.into());
        if next < checkpoint || (next == checkpoint && !is_end && !has_state) {
            return Ok(Commit::Nothing);
        }
        lease.is_committing = true;
        self.note_waiting(worker, true);
        Ok(Commit::Write { is_end })
    }

    /// Ends what `begin_commit` began. `next` is given if it was written.
    pub(super) fn end_commit(&mut self, shard: ShardId, worker: WorkerId, next: Option<Place>) {
        self.note_waiting(worker, false);
        let Some(slot) = self.shards.get_mut(&shard) else { return };
        if let Some(lease) = slot.lease.as_mut() {
            lease.is_committing = false;
        }
        slot.checkpoint = next.unwrap_or(slot.checkpoint);
        if slot.is_free_to_go() {
            self.settle();
        }
    }

    /// Begins to move the place from which a shard is read: everything below counts as handled. Like a commit, it begins before the write.
    pub(super) fn begin_seek(&mut self, shard: ShardId, worker: WorkerId, term: Term) -> bool {
        let Some((_, lease)) = self.lease_of(shard, worker, term) else { return false };
        lease.is_committing = true;
        self.note_waiting(worker, true);
        true
    }

    /// Ends what `begin_seek` began. `next` is given if it was written.
    pub(super) fn end_seek(&mut self, shard: ShardId, worker: WorkerId, next: Option<Place>) {
        if let Some((next, lease)) =
            next.zip(self.shards.get_mut(&shard).and_then(|slot| slot.lease.as_mut()))
        {
            (lease.handed_out, lease.end) = (next.sequence, None);
        }
        self.end_commit(shard, worker, next);
    }

    /// Settles if something is due.
    pub(super) fn settle_if_due(&mut self) {
        if self.due <= self.now {
            self.settle();
        }
    }

    /// Returns when `settle` has something to do next, unless a worker calls before.
    fn next_due(&self) -> Option<Timestamp> {
        let silent = self.workers.values().filter(|member| !member.is_waiting);
        let leaving = self
            .shards
            .values()
            .filter_map(|slot| slot.lease)
            .filter_map(|lease| Some(lease.leaving_since? + self.workers.get(&lease.worker)?.timeout));
        silent.map(|member| member.seen + member.timeout).chain(leaving).min()
    }

    /// Removes workers that were silent for too long, frees shards whose lease took too long to leave or lost its worker, and spreads the
    /// shards.
    pub(super) fn settle(&mut self) {
        let now = self.now;
        let is_over = |since: Timestamp, timeout: Duration| now.since(since) >= timeout;
        self.workers.retain(|_, member| member.is_waiting || !is_over(member.seen, member.timeout));
        let timeouts: BTreeMap<WorkerId, Duration> =
            self.workers.iter().map(|(&worker, member)| (worker, member.timeout)).collect();
        self.free(|lease| match (timeouts.get(&lease.worker), lease.leaving_since) {
            (None, _) => true,
            (Some(&timeout), Some(since)) => is_over(since, timeout),
            (Some(_), None) => false,
        });
        self.spread();
        self.due = self.next_due().unwrap_or(Timestamp::from_micros(u64::MAX));
    }

    /// Takes leases away, except for those with a commit in progress.
    fn free(&mut self, must_go: impl Fn(&Lease) -> bool) {
        for slot in self.shards.values_mut() {
            if slot.lease.is_some_and(|lease| !lease.is_committing && must_go(&lease)) {
                slot.lease = None;
                self.version += 1;
            }
        }
    }

    /// Spreads the shards over the workers with as few changes as possible, so that their counts differ by one at most.
    fn spread(&mut self) {
        if self.workers.is_empty() {
            return;
        }
        let mut counts: BTreeMap<WorkerId, usize> = self.workers.keys().map(|&worker| (worker, 0)).collect();
        for lease in self.shards.values().filter_map(|slot| slot.lease) {
            // The lease of a worker that is gone may still have a commit in progress.
            if let Some(count) = counts.get_mut(&lease.worker) {
                *count += 1;
            }
        }
        // If the shards do not divide evenly, the workers that have the most keep one more.
        let (share, mut extra) = (self.shards.len() / counts.len(), self.shards.len() % counts.len());
        let mut by_count: Vec<(WorkerId, usize)> =
            counts.iter().map(|(&worker, &count)| (worker, count)).collect();
        by_count.sort_by_key(|&(worker, count)| (std::cmp::Reverse(count), worker));
        for (worker, count) in by_count {
            let allowed = share + usize::from(extra > 0);
            extra = extra.saturating_sub(1);
            self.mark_leaving(worker, count.saturating_sub(allowed));
        }
        for slot in self.shards.values_mut() {
            if slot.is_free_to_go() {
                slot.lease = None;
                self.version += 1;
            }
        }
        self.grant_free();
    }

    /// Marks exactly `count` of a worker's leases as leaving: first those that are already leaving, then those with nothing uncommitted.
    fn mark_leaving(&mut self, worker: WorkerId, count: usize) {
        let now = self.now;
        let mut own: Vec<&mut Slot> = self
            .shards
            .values_mut()
            .filter(|slot| slot.lease.is_some_and(|lease| lease.worker == worker))
            .collect();
        own.sort_by_key(|slot| (!slot.is_leaving(), !slot.is_all_committed()));
        for (at, slot) in own.into_iter().enumerate() {
            let Some(lease) = slot.lease.as_mut() else { continue };
            if (at < count) != lease.is_leaving() {
                lease.leaving_since = (at < count).then_some(now);
                self.version += 1;
            }
        }
    }

    /// Gives each free shard to the worker with the fewest shards.
    fn grant_free(&mut self) {
        let mut counts: BTreeMap<WorkerId, usize> = self.workers.keys().map(|&worker| (worker, 0)).collect();
        for lease in self.shards.values().filter_map(|slot| slot.lease).filter(|lease| !lease.is_leaving()) {
            if let Some(count) = counts.get_mut(&lease.worker) {
                *count += 1;
            }
        }
        for slot in self.shards.values_mut().filter(|slot| slot.lease.is_none()) {
            let Some((&worker, count)) = counts.iter_mut().min_by_key(|(_, count)| **count) else { return };
            *count += 1;
            slot.lease = Some(Lease {
                worker,
                term: Term(self.next_term),
                handed_out: slot.checkpoint.sequence,
                end: None,
                leaving_since: None,
                is_committing: false,
            });
            self.next_term += 1;
            self.version += 1;
        }
    }
}

impl Slot {
    fn is_leaving(&self) -> bool {
        self.lease.is_some_and(|lease| lease.is_leaving())
    }

    /// Returns whether everything that was handed out is committed.
    fn is_all_committed(&self) -> bool {
        self.lease
            .is_some_and(|lease| !lease.is_committing && Place::from(lease.handed_out) <= self.checkpoint)
    }

    fn is_free_to_go(&self) -> bool {
        self.is_leaving() && self.is_all_committed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(60);
    const SHARD: ShardId = ShardId::new(0);

    fn place(sequence: u64) -> Place {
        SequenceNumber::new(sequence).into()
    }

    struct World {
        leases: Leases,
        clock: Timestamp,
    }

    impl World {
        fn new() -> Self {
            let mut world = Self { leases: Leases::default(), clock: Timestamp::from_millis(1_000_000) };
            world.leases.look_at_clock(world.clock);
            world.leases.offer(SHARD, place(0));
            world
        }

        fn call(&mut self, worker: WorkerId, after: Duration) {
            self.clock = self.clock + after;
            self.leases.look_at_clock(self.clock);
            self.leases.call(worker, TIMEOUT, false);
            self.leases.settle_if_due();
        }

        fn held_by(&self, worker: WorkerId) -> Option<Held> {
            self.leases.held_by(worker).next()
        }
    }

    #[test]
    fn a_worker_whose_commit_takes_long_is_alive_and_one_that_is_silent_after_it_is_not() {
        let mut world = World::new();
        let (slow, other) = (world.leases.join(TIMEOUT), world.leases.join(TIMEOUT));
        let held = world.held_by(slow).unwrap();
        assert!(world.leases.hand_out(held, slow, 10.into()));
        let begun = world.leases.begin_commit(SHARD, slow, Some(held.term), place(5), false);
        assert_eq!(begun, Ok(Commit::Write { is_end: false }));
        for _ in 0..4 {
            world.call(other, TIMEOUT / 2);
        }
        assert_eq!((world.held_by(other), world.leases.worker_count()), (None, 2), "the disk is slow");
        world.leases.end_commit(SHARD, slow, Some(place(5)));
        for _ in 0..2 {
            world.call(other, TIMEOUT / 2);
        }
        let taken = world.held_by(other).expect("the worker has been silent since its commit");
        assert_eq!(taken.checkpoint, place(5));
    }

    #[test]
    fn who_takes_all_waits_for_commits_that_have_begun_and_for_no_others() {
        let mut world = World::new();
        world.leases.offer(ShardId::new(1), place(0));
        let worker = world.leases.join(TIMEOUT);
        let held: Vec<Held> = world.leases.held_by(worker).collect();
        for held in &held {
            assert!(world.leases.hand_out(*held, worker, 10.into()));
        }
        let commit = |world: &mut World, at: usize| {
            world.leases.begin_commit(held[at].shard, worker, Some(held[at].term), place(5), false)
        };
        assert!(commit(&mut world, 0).is_ok());
        world.leases.take_all();
        assert!(world.leases.is_committing());
        assert_eq!(commit(&mut world, 1), Err(Refusal::Lost));
        world.leases.end_commit(held[0].shard, worker, Some(place(5)));
        world.leases.take_all();
        assert!(!world.leases.is_committing());
        assert_eq!((commit(&mut world, 0), world.held_by(worker)), (Err(Refusal::Lost), None));
    }
}
