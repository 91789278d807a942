//! The threads of a delivery: one that reads and commits, and those that deliver.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::core::{Core, Flush};
use super::driver::{Driver, now_of};
use super::job::Sinks;
use crate::{Bell, Error, Result, StreamReader};

/// The state that the threads of a delivery share.
pub(super) struct Shared {
    pub(super) core: Mutex<Core>,
    /// Notified when an object is due.
    due: Condvar,
    /// Notified when something was delivered, committed or has failed.
    settled: Condvar,
    /// Wakes the thread that reads.
    bell: Arc<Bell>,
    /// The thread that reads is to end.
    is_closing: AtomicBool,
    /// It has ended.
    pub(super) is_over: AtomicBool,
    stream: StreamReader,
    sinks: Sinks,
    /// How long closing waits for objects in delivery.
    close_timeout: Duration,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// How long the thread that reads waits at most before it looks at the clock again. An injected clock may move at any time.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How long it waits at least: what is due may be for another thread.
const LOOK_AT_ONCE: Duration = Duration::from_millis(1);
/// How long it waits if nothing is due, and after an error.
const LOOK_RARELY: Duration = Duration::from_secs(1);
/// How many batches are read between two checks for due work.
const BATCHES_IN_A_ROW: usize = 16;

impl Shared {
    pub(super) fn new(core: Core, stream: StreamReader, sinks: Sinks, close_timeout: Duration) -> Self {
        Self {
            core: Mutex::new(core),
            due: Condvar::new(),
            settled: Condvar::new(),
            bell: Arc::default(),
            is_closing: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            stream,
            sinks,
            close_timeout,
        }
    }

    /// Returns what wakes the thread that reads.
    pub(super) fn bell(&self) -> Arc<Bell> {
        Arc::clone(&self.bell)
    }

    /// Asks the thread that reads to end.
    pub(super) fn close(&self) {
        self.is_closing.store(true, Ordering::Release);
        self.bell.ring();
    }

    /// Delivers everything that was put. Returns whether that succeeded in time.
    pub(super) fn flush(&self, timeout: Duration) -> bool {
        let mut core = self.core.lock();
        core.flush = Flush::OnceRead;
        self.bell.ring();
        let is_done = |core: &Core| core.flush == Flush::Now && core.is_clear();
        self.settled.wait_while_for(
            &mut core,
            |core| !is_done(core) && !self.is_over.load(Ordering::Acquire),
            timeout,
        );
        let is_done = is_done(&core);
        core.flush = Flush::No;
        self.bell.ring();
        is_done
    }

    /// Delivers what is due, one object after the other, until the delivery ends.
    pub(super) fn deliver(&self) {
        let mut core = self.core.lock();
        while !self.is_over.load(Ordering::Acquire) {
            let Some(mut work) = core.take(now_of(&self.stream)) else {
                self.due.wait(&mut core);
                continue;
            };
            drop(core);
            let outcome = work.attempt.run(&self.sinks);
            core = self.core.lock();
            core.finish(work.ticket, outcome, work.attempt, now_of(&self.stream));
            self.bell.ring();
            self.settled.notify_all();
        }
    }

    /// Reads and commits until the delivery or its stream is closed.
    pub(super) fn drive(&self, mut driver: Driver) -> Result<()> {
        let waker = Waker::from(Arc::clone(&self.bell));
        let mut context = Context::from_waker(&waker);
        let mut outcome = Ok(());
        let mut was_idle = false;
        while !self.is_closing.load(Ordering::Acquire) {
            match self.step(&mut driver, &mut context, was_idle) {
                Ok(has_read) => was_idle = !has_read,
                Err(Error::Closed) => break,
                // The state in the checkpoint is not a delivery's.
                Err(error @ Error::InvalidArgument(_)) => {
                    self.core.lock().counts.last_error = Some(error.to_string());
                    outcome = Err(error);
                    break;
                }
                Err(error) => {
                    self.core.lock().counts.last_error = Some(error.to_string());
                    self.settled.notify_all();
                    self.bell.wait(LOOK_RARELY);
                }
            }
        }
        if outcome.is_ok() {
            outcome = self.end(&mut driver);
        }
        self.is_over.store(true, Ordering::Release);
        drop(self.core.lock());
        self.due.notify_all();
        self.settled.notify_all();
        outcome
    }

    /// Delivers and commits what was read, as far as the first attempt succeeds in time.
    fn end(&self, driver: &mut Driver) -> Result<()> {
        driver.stop_calls();
        self.core.lock().begin_to_end();
        let until = driver.now().elapsed + self.close_timeout;
        loop {
            let is_late = driver.now().elapsed >= until;
            let settled = match driver.settle(&self.core, true) {
                Err(Error::Closed) => Ok(()),
                settled => settled,
            };
            self.due.notify_all();
            let core = self.core.lock();
            // Objects that were delivered since are committed, too.
            if is_late || core.has_ended() && (settled.is_err() || !core.is_changed()) {
                return settled;
            }
            drop(core);
            self.bell.wait(LOOK_AGAIN);
        }
    }

    /// Commits what is due, and reads. Returns whether there was something to read.
    fn step(&self, driver: &mut Driver, context: &mut Context<'_>, was_idle: bool) -> Result<bool> {
        driver.settle(&self.core, was_idle)?;
        self.settled.notify_all();
        let now = driver.now();
        if self.core.lock().has_due(now) {
            self.due.notify_all();
        }
        for _ in 0..BATCHES_IN_A_ROW {
            // If the log was checked before the flush was requested, records that were put in between may be unread.
            let was_asked = self.core.lock().flush == Flush::OnceRead;
            let wait = |has_read_all: bool| {
                let mut core = self.core.lock();
                if was_asked && has_read_all && core.note_all_read() {
                    return;
                }
                let due = core.due();
                drop(core);
                self.bell.wait(match due {
                    Some(due) => due.saturating_sub(now.elapsed).clamp(LOOK_AT_ONCE, LOOK_AGAIN),
                    None => LOOK_RARELY,
                });
            };
            if !driver.read(&self.core, context, wait)? {
                return Ok(false);
            }
            if self.core.lock().is_full() {
                break;
            }
        }
        Ok(true)
    }
}
