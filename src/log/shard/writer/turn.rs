//! Whose turn it is to sync: one thread at a time, for all whose records are there by then.

use std::sync::PoisonError;

use crate::log::sys::sync::{AtomicU64, Condvar, Mutex, MutexGuard, Ordering};

/// The turn to sync a shard.
///
/// Rounds follow each other. Whoever holds the turn in a round says up to which record it syncs; those who wait for that sync wait
/// apart from those who have come too late for it, so that its end wakes the former, and of the latter only the one that is next.
#[derive(Debug, Default)]
pub(super) struct SyncTurn {
    state: Mutex<State>,
    /// Where the threads of this round wait, and those of the next.
    rounds: [Condvar; 2],
    /// The threads that have come since the last time that somebody said up to where it syncs.
    arrived: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    is_taken: bool,
    round: u64,
    /// The number after the last record of this round's sync, once that is known.
    end: Option<u64>,
    /// For how many threads the last sync was.
    crowd: u64,
    /// How many threads wait where: to wake nobody takes a call of the system too.
    waiting: [usize; 2],
}

/// The turn, held; dropping it hands it on.
#[derive(Debug)]
pub(super) struct HeldTurn<'a> {
    turn: &'a SyncTurn,
    /// For how many threads the last sync was.
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

    /// Waits until the records below `end` are synced, as `is_done` tells, or until it is the caller's turn to sync them.
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
    /// How many threads wait for the sync to come, the holder included.
    pub(super) fn arrived(&self) -> u64 {
        self.turn.arrived.load(Ordering::Relaxed)
    }

    /// Says that the sync to come is for all records below `end`.
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
        // Those who are next first: their sync can begin while the others wake up.
        if waiting[next] > 0 {
            self.turn.rounds[next].notify_one();
        }
        if waiting[this] > 0 {
            self.turn.rounds[this].notify_all();
        }
    }
}
