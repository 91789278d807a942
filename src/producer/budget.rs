//! The bound on the bytes that a producer buffers.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::{Condvar, Mutex};

use crate::{Error, Result};

/// Bytes that records hold from when they are put until they have their outcome.
///
/// Room is taken without a lock. Whoever finds none waits, and newcomers may take what comes free before it does: handing it on in
/// turn would cost a switch of threads for each record. One that was woken in vain goes before newcomers, so that a large record
/// gets in at last.
#[derive(Debug)]
pub(super) struct Budget {
    bytes_max: usize,
    used: AtomicUsize,
    waiting: AtomicUsize,
    /// Those of the waiting that were woken in vain.
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

    /// Whether a put waits for room, so that nothing should linger.
    #[inline]
    pub(super) fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    /// Takes room if there is some, and nobody goes before.
    #[inline]
    pub(super) fn try_take(&self, bytes: usize) -> bool {
        self.passed_over.load(Ordering::Relaxed) == 0 && self.try_take_first(bytes)
    }

    #[inline]
    fn try_take_first(&self, bytes: usize) -> bool {
        let take = |used: usize| used.checked_add(bytes).filter(|&used| used <= self.bytes_max);
        self.used.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok()
    }

    /// Takes room that there may not be: for what is small, and cannot wait.
    pub(super) fn overdraw(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::SeqCst);
    }

    /// Waits until there is room, and takes it. Before each wait it calls `hurry`, to have sent what would linger.
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
            // There may be room left for those that had to let this one go first.
            self.room.notify_all();
        }
        outcome
    }

    /// Gives room back.
    pub(super) fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::SeqCst);
        // A put says that it waits before it looks for room, and this looks after it made some: one of the two sees the other.
        if self.is_wanted() {
            let _guard = self.lock.lock();
            self.room.notify_all();
        }
    }

    /// Has those that wait, and all that come, be told `Closed`.
    pub(super) fn close(&self) {
        let _guard = self.lock.lock();
        self.is_closed.store(true, Ordering::SeqCst);
        self.room.notify_all();
    }
}
