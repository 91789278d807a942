//! The checkpoint of a shard: when it is committed, and what it says.

use super::Shard;
use crate::SequenceNumber;
use crate::delivery::objects::Ready;
use crate::delivery::state::{Decided, State, part_bytes};

/// How many records that become no rows are read without a commit, unless there is nothing else to read.
const RECORDS_WITHOUT_COMMIT: u64 = 10_000;

impl Shard {
    /// Returns about how many bytes the state of the next commit has.
    pub(super) fn state_bytes(&self) -> usize {
        let objects: usize = self.objects.decided().map(Decided::state_bytes).sum();
        let ahead = self.parts.iter().filter(|(_, state)| state.decided > SequenceNumber::ZERO);
        let parts: usize = ahead.map(|(part, _)| part_bytes(part)).sum();
        objects + parts + self.noted.state_bytes()
    }

    /// Returns whether a commit is due: objects were decided, or the last one was delivered, or many records have become nothing.
    pub(in crate::delivery) fn must_commit(&self) -> bool {
        let is_settled = self.objects.is_empty() || self.objects.has_decided();
        self.is_changed && is_settled || self.passed() >= RECORDS_WITHOUT_COMMIT
    }

    /// Returns the number of records that were read since the last commit, if nothing is built or on its way.
    fn passed(&self) -> u64 {
        if self.is_clear() { self.read_to.get().saturating_sub(self.committed.get()) } else { 0 }
    }

    /// Returns whether the commit that ends the shard is due.
    pub(in crate::delivery) fn must_end(&self) -> bool {
        self.is_at_end && self.is_clear()
    }

    /// Returns whether a commit would differ from the last one.
    pub(in crate::delivery) fn is_changed(&self) -> bool {
        self.is_changed || self.passed() > 0
    }

    /// Takes a checkpoint, to be committed together with the returned state. Later changes belong to the next one: an object may be delivered while
    /// this one is written.
    pub(in crate::delivery) fn take_checkpoint(&mut self) -> (SequenceNumber, Vec<u8>) {
        self.is_changed = false;
        let objects = self.objects.decided().map(|decided| decided.span.first);
        let next = objects.chain(self.first_built()).min().unwrap_or(self.read_to).min(self.read_to);
        let ahead = self.parts.iter().filter(|(_, state)| state.decided > next);
        let state = State {
            plan: self.rules.plan.clone(),
            decided: ahead.map(|(part, state)| (part.clone(), state.decided)).collect(),
            objects: self.objects.decided().cloned().collect(),
            noted: self.noted.since(next),
        };
        let says_nothing = state.decided.is_empty() && state.objects.is_empty() && state.noted.is_empty();
        (next, if says_nothing { vec![] } else { state.encode() })
    }

    /// Notes that a checkpoint could not be committed.
    pub(in crate::delivery) fn note_failed_commit(&mut self) {
        self.is_changed = true;
    }

    /// Notes that a checkpoint was committed, and returns the objects that can be delivered now.
    pub(in crate::delivery) fn note_commit(&mut self, next: SequenceNumber) -> Vec<Ready> {
        self.committed = next;
        self.parts.retain(|_, state| state.building.is_some() || state.decided > next);
        self.noted.forget_before(next);
        self.objects.note_commit();
        self.take_ready()
    }
}
