//! Waiting for a shard to have something to read.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use crate::log::sys::sync::{Condvar, Mutex};

/// A thread that parks until it is notified.
#[derive(Debug, Default)]
pub(crate) struct Waiter {
    notified: Mutex<bool>,
    condvar: Condvar,
}

impl Waiter {
    /// Wakes the thread, or makes its next `park` return at once.
    pub(crate) fn notify(&self) {
        *self.notified.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.condvar.notify_all();
    }

    /// Parks until notified or until a deadline. Consumes the notification and returns whether it came.
    pub(crate) fn park(&self, deadline: Option<Instant>) -> bool {
        let mut notified = self.notified.lock().unwrap_or_else(PoisonError::into_inner);
        while !*notified {
            let Some(deadline) = deadline else {
                notified = self.condvar.wait(notified).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            notified = self.condvar.wait_timeout(notified, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        std::mem::take(&mut *notified)
    }
}

/// The threads that wait for one shard. The append lock protects it. A waiter looks for records and adds itself here under that lock, so it
/// cannot miss a put, and a writer with nobody waiting pays for one look at memory it owns.
#[derive(Debug, Default)]
pub(crate) struct WaitList {
    waiters: Vec<Arc<Waiter>>,
}

impl WaitList {
    /// Adds a thread, once.
    pub(crate) fn add(&mut self, waiter: &Arc<Waiter>) {
        if !self.waiters.iter().any(|known| Arc::ptr_eq(known, waiter)) {
            self.waiters.push(Arc::clone(waiter));
        }
    }

    /// Removes a thread that stopped waiting.
    pub(crate) fn remove(&mut self, waiter: &Arc<Waiter>) {
        self.waiters.retain(|known| !Arc::ptr_eq(known, waiter));
    }

    /// Takes all threads off the list. The caller wakes them after it has released the lock.
    #[inline]
    pub(crate) fn take(&mut self) -> Taken {
        // Nearly always nobody waits, and a check is cheaper than moving the list.
        Taken(if self.waiters.is_empty() { None } else { Some(std::mem::take(&mut self.waiters)) })
    }
}

/// The threads that were taken off a list, if any.
#[must_use]
pub(crate) struct Taken(Option<Vec<Arc<Waiter>>>);

impl Taken {
    /// Wakes the threads.
    #[inline]
    pub(crate) fn notify(self) {
        if let Some(waiters) = self.0 {
            waiters.iter().for_each(|waiter| waiter.notify());
        }
    }
}
