//! Waiting for a shard to have something to read.

use std::sync::{Arc, PoisonError};
use std::task::Waker;
use std::time::Instant;

use crate::log::sys::sync::{Condvar, Mutex, MutexGuard};

/// A thread that parks, or a task that is suspended, until it is notified.
#[derive(Debug, Default)]
pub(crate) struct Waiter {
    state: Mutex<State>,
    condvar: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_notified: bool,
    /// Wakes the task.
    waker: Option<Waker>,
}

impl Waiter {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the thread or the task, or makes its next `park` return immediately.
    pub(crate) fn notify(&self) {
        let mut state = self.lock();
        state.is_notified = true;
        let waker = state.waker.take();
        // Without the lock, because waking may run the task immediately.
        drop(state);
        self.condvar.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Sets what wakes the task from the next notification on.
    pub(crate) fn set_waker(&self, waker: &Waker) {
        self.lock().waker = Some(waker.clone());
    }

    /// Consumes the notification, and returns whether there was one.
    pub(crate) fn take_notification(&self) -> bool {
        std::mem::take(&mut self.lock().is_notified)
    }

    /// Parks until notified or until a deadline. Consumes the notification and returns whether it came.
    pub(crate) fn park(&self, deadline: Option<Instant>) -> bool {
        let mut state = self.lock();
        while !state.is_notified {
            let Some(deadline) = deadline else {
                state = self.condvar.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.condvar.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        std::mem::take(&mut state.is_notified)
    }
}

/// The threads and tasks that wait for one shard. The append lock protects it. A waiter looks for records and adds itself here under that lock, so
/// it cannot miss a put, and with nobody waiting, a writer pays for one look at memory it owns.
#[derive(Debug, Default)]
pub(crate) struct WaitList {
    waiters: Vec<Arc<Waiter>>,
}

impl WaitList {
    /// Adds a thread or a task, once.
    pub(crate) fn add(&mut self, waiter: &Arc<Waiter>) {
        if !self.waiters.iter().any(|known| Arc::ptr_eq(known, waiter)) {
            self.waiters.push(Arc::clone(waiter));
        }
    }

    /// Removes a thread or a task that stopped waiting.
    pub(crate) fn remove(&mut self, waiter: &Arc<Waiter>) {
        self.waiters.retain(|known| !Arc::ptr_eq(known, waiter));
    }

    /// Takes all of them off the list. The caller wakes them after it has released the lock.
    #[inline]
    pub(crate) fn take(&mut self) -> Taken {
        // Nearly always nobody waits, and a check is cheaper than moving the list.
        Taken(if self.waiters.is_empty() { None } else { Some(std::mem::take(&mut self.waiters)) })
    }
}

/// The threads and tasks that were taken off a list, if any.
#[must_use]
pub(crate) struct Taken(Option<Vec<Arc<Waiter>>>);

impl Taken {
    /// Wakes them.
    #[inline]
    pub(crate) fn notify(self) {
        if let Some(waiters) = self.0 {
            waiters.iter().for_each(|waiter| waiter.notify());
        }
    }
}
