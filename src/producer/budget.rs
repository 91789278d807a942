//! The bound on the bytes that a producer buffers.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::{Condvar, Mutex};

use crate::{Error, Result};

/// The bytes that records hold from their put until they have their outcome.
///
/// A put takes room without a lock. A put that finds none waits, and newcomers may take freed room before it does: passing room on in turn
/// would cost a thread switch for each record. A waiter that was woken in vain goes before newcomers, so that a large record gets its room
/// eventually.
#[derive(Debug)]
pub(super) struct Budget {
    bytes_max: usize,
    used: AtomicUsize,
    waiting: AtomicUsize,
    /// The waiters that were woken in vain.
    passed_over: AtomicUsize,
    is_closed: AtomicBool,
    lock: Mutex<()>,
    room: Condvar,
}

impl Budget {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            used: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            passed_over: AtomicUsize::new(0),
            is_closed: AtomicBool::new(false),
            lock: Mutex::new(()),
            room: Condvar::new(),
        }
    }

    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Returns whether a put waits for room, so that nothing should linger.
    #[inline]
    pub(super) fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    /// Takes room if there is some and no waiter goes first.
    #[inline]
    pub(super) fn try_take(&self, bytes: usize) -> bool {
        self.passed_over.load(Ordering::Relaxed) == 0 && self.try_take_first(bytes)
    }

    #[inline]
    fn try_take_first(&self, bytes: usize) -> bool {
        let take = |used: usize| used.checked_add(bytes).filter(|&used| used <= self.bytes_max);
        self.used.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok()
    }

    /// Takes room even beyond the bound, for something small that cannot wait.
    pub(super) fn overdraw(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::SeqCst);
    }

    /// Waits until there is room, and takes it. Calls `hurry` before each wait, to send what would linger.
    ///
    /// # Errors
    /// `Closed` if the producer is closed in the meantime.
    #[cold]
    pub(super) fn wait_and_take(&self, bytes: usize, hurry: impl Fn()) -> Result<()> {
        let mut guard = self.lock.lock();
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let (mut was_woken, mut is_passed_over) = (false, false);
        let outcome = loop {
            if self.is_closed.load(Ordering::SeqCst) {
                break Err(Error::Closed);
            }
            let is_taken = if is_passed_over { self.try_take_first(bytes) } else { self.try_take(bytes) };
            if is_taken {
                break Ok(());
            }
            if was_woken && !is_passed_over {
                self.passed_over.fetch_add(1, Ordering::SeqCst);
                is_passed_over = true;
                continue;
            }
            hurry();
            self.room.wait(&mut guard);
            was_woken = true;
        };
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        if is_passed_over {
            self.passed_over.fetch_sub(1, Ordering::SeqCst);
            // The waiters that had to let this one go first may find room now.
            self.room.notify_all();
        }
        outcome
    }

    /// Returns room to the budget.
    pub(super) fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::SeqCst);
        // A put raises `waiting` before it checks for room, and this checks `waiting` after it has freed room. So one of the two sees the
        // other, and no waiter is missed.
        if self.is_wanted() {
            let _guard = self.lock.lock();
            self.room.notify_all();
        }
    }

    /// Makes all waiting and later puts fail with `Closed`.
    pub(super) fn close(&self) {
        let _guard = self.lock.lock();
        self.is_closed.store(true, Ordering::SeqCst);
        self.room.notify_all();
    }
}
