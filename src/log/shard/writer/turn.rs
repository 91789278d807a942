//! The turn to sync a shard: one thread at a time syncs for all threads whose records are committed by then.

use std::sync::PoisonError;

use crate::log::sys::sync::{AtomicU64, Condvar, Mutex, MutexGuard, Ordering};

/// The turn to sync a shard.
///
/// Rounds follow each other. The thread that holds the turn in a round publishes up to which record it syncs. Threads covered by that sync wait
/// apart from threads that came too late for it. The end of the round wakes all covered threads, but only one of the late ones: the next holder.
#[derive(Debug, Default)]
pub(super) struct SyncTurn {
    state: Mutex<State>,
    /// Where the threads of this round wait, and those of the next.
    rounds: [Condvar; 2],
    /// The threads that have arrived since a holder last published the end of its sync.
    arrived: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    is_taken: bool,
    round: u64,
    /// The number after the last record of this round's sync, once it is known.
    end: Option<u64>,
    /// How many threads the last sync was for.
    crowd: u64,
    /// How many threads wait in each place. Notifying nobody would still cost a system call.
    waiting: [usize; 2],
}

/// The held turn. Dropping it passes it on.
#[derive(Debug)]
pub(super) struct HeldTurn<'a> {
    turn: &'a SyncTurn,
    /// How many threads the last sync was for.
    pub(super) crowd: u64,
}

impl SyncTurn {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the turn.
    pub(super) fn take(&self) -> HeldTurn<'_> {
        loop {
            if let Some(held) = self.take_unless(u64::MAX, || false) {
                return held;
            }
        }
    }

    /// Waits until `is_done` reports that the records below `end` are synced, or until it is the caller's turn to sync them.
    pub(super) fn take_unless(&self, end: u64, is_done: impl Fn() -> bool) -> Option<HeldTurn<'_>> {
        self.arrived.fetch_add(1, Ordering::Relaxed);
        let mut state = self.lock();
        loop {
            if is_done() {
                return None;
            }
            if !state.is_taken {
                state.is_taken = true;
                return Some(HeldTurn { turn: self, crowd: state.crowd });
            }
            let is_covered = state.end.is_none_or(|covered| end <= covered);
            let place = ((state.round + u64::from(!is_covered)) % 2) as usize;
            state.waiting[place] += 1;
            state = self.rounds[place].wait(state).unwrap_or_else(PoisonError::into_inner);
            state.waiting[place] -= 1;
        }
    }
}

impl HeldTurn<'_> {
    /// Returns how many threads wait for the coming sync, including the holder.
    pub(super) fn arrived(&self) -> u64 {
        self.turn.arrived.load(Ordering::Relaxed)
    }

    /// Publishes that the coming sync covers all records below `end`.
    pub(super) fn begin(&self, end: u64) {
        let mut state = self.turn.lock();
        state.end = Some(end);
        state.crowd = self.turn.arrived.swap(0, Ordering::Relaxed);
    }
}

impl Drop for HeldTurn<'_> {
    fn drop(&mut self) {
        let mut state = self.turn.lock();
        let [this, next] = [state.round, state.round + 1].map(|round| (round % 2) as usize);
        (state.is_taken, state.end, state.round) = (false, None, state.round + 1);
        let waiting = state.waiting;
        drop(state);
        // Threads of the next round first: their sync can begin while the others wake up.
        if waiting[next] > 0 {
            self.turn.rounds[next].notify_one();
        }
        if waiting[this] > 0 {
            self.turn.rounds[this].notify_all();
        }
    }
}
