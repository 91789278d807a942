//! The right of a subscription to read, which others can end, and the waker of its waiter.

use std::task::Waker;
use std::time::Duration;

use parking_lot::Mutex;

use crate::extend::Bucket;

/// The right of a subscription to read. The subscription and the list of pipes share it.
///
/// Times are those of [`Clock::elapsed`](crate::Clock::elapsed).
#[derive(Debug)]
pub(super) struct Ticket {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    end: Option<End>,
    /// Limits what the consumer reads of the shard, if there is a limit.
    bucket: Option<Bucket>,
    /// Wakes the waiter for the next event.
    waker: Option<Waker>,
    /// When the waiter is due.
    due: Duration,
}

/// Why a subscription is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Its shard is read to the end, its time has passed, or it was closed.
    Over,
    TakenOver,
    Deregistered,
}

impl Ticket {
    /// Returns the ticket of a new subscription. What the previous one has used up stays used up.
    pub(super) fn new(bucket: Option<Bucket>) -> Self {
        Self { state: Mutex::new(State { bucket, ..State::default() }) }
    }

    pub(super) fn end_of(&self) -> Option<End> {
        self.state.lock().end
    }

    /// Ends the subscription, unless it is over. Returns the waiter's waker. The caller wakes it without a lock, because it may run the task
    /// immediately.
    #[must_use]
    pub(super) fn end(&self, end: End) -> Option<Waker> {
        let mut state = self.state.lock();
        state.end = state.end.or(Some(end));
        state.waker.take()
    }

    pub(super) fn bucket(&self) -> Option<Bucket> {
        self.state.lock().bucket
    }

    /// Returns how long the limit lets nothing pass, given its bytes a second.
    pub(super) fn wait(&self, rate: Option<u64>, now: Duration) -> Duration {
        let mut state = self.state.lock();
        state.bucket = rate.map(|rate| state.bucket.map_or_else(|| Bucket::new(rate), |it| it.at_rate(rate)));
        state.bucket.map_or(Duration::ZERO, |bucket| bucket.wait(now, 1))
    }

    /// Notes what was read.
    pub(super) fn take(&self, now: Duration, bytes: u64) {
        if let Some(bucket) = &mut self.state.lock().bucket {
            bucket.take(now, bytes);
        }
    }

    /// Arranges for a waiter to be woken when the subscription ends, or by the maintenance from `due` on. Returns false if it is over.
    pub(super) fn wake_later(&self, waker: &Waker, due: Duration) -> bool {
        let mut state = self.state.lock();
        if state.end.is_some() {
            return false;
        }
        let replaced = state.waker.replace(waker.clone());
        state.due = due;
        // Dropped without the lock: it may be the last owner of a task.
        drop(state);
        drop(replaced);
        true
    }

    /// Undoes [`wake_later`](Self::wake_later).
    pub(super) fn forget(&self) {
        let forgotten = self.state.lock().waker.take();
        drop(forgotten);
    }

    /// Returns the waiter's waker, if the waiter is due.
    pub(super) fn due(&self, now: Duration) -> Option<Waker> {
        let mut state = self.state.lock();
        if state.due <= now { state.waker.take() } else { None }
    }

    /// Returns whether nothing has to be remembered of the subscription.
    pub(super) fn is_forgettable(&self, now: Duration) -> bool {
        let state = self.state.lock();
        let is_full = |bucket: Bucket| bucket.wait(now, u64::MAX).is_zero();
        state.end.is_some() && state.bucket.is_none_or(is_full)
    }
}
