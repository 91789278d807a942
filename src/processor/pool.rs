//! The threads of a processor: one that reads and commits, and those that call the function.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Waker};
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::core::{Core, Done, Work};
use super::discarded::{Destination, Discarded};
use super::driver::Driver;
use super::invocation::{Invocation, Response};
use super::seen::Clocks;
use crate::{Bell, Error, Patience, Result, extend};

/// The function of a processor.
pub(super) type Function = dyn Fn(&Invocation) -> Response + Send + Sync;

/// Calls the function and the destination, which are the caller's and may panic.
pub(super) struct Caller {
    /// Measure how long calls take.
    pub(super) clocks: Clocks,
    pub(super) function: Arc<Function>,
    pub(super) destination: Option<Destination>,
}

impl Caller {
    pub(super) fn call(&self, invocation: &Invocation) -> Done {
        let begun = self.clocks.elapsed();
        let response = extend::run_callback(|| (self.function)(invocation));
        let response = response.unwrap_or_else(|| Response::failed("the function has panicked"));
        Done::Called { response, took: self.clocks.elapsed().saturating_sub(begun) }
    }

    pub(super) fn report(&self, discarded: &Discarded) -> Done {
        let Some(destination) = &self.destination else { return Done::Reported { error: None } };
        let sent = extend::run_callback(|| destination.send(discarded));
        Done::Reported { error: sent.unwrap_or_else(|| Err("the destination has panicked".to_owned())).err() }
    }
}

/// What the threads of a processor share.
pub(super) struct Shared {
    pub(super) core: Mutex<Core>,
    /// Notified when a call is due.
    due: Condvar,
    /// Wakes the thread that reads.
    bell: Arc<Bell>,
    idle_threads: AtomicUsize,
    /// A thread watches `is_due`, and need not be notified.
    is_watching: AtomicBool,
    is_due: AtomicBool,
    threads: AtomicUsize,
    threads_max: usize,
    /// The thread that reads is to end.
    is_closing: AtomicBool,
    /// It has ended.
    pub(super) is_over: AtomicBool,
    caller: Caller,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// How long the thread that reads waits at most before it looks at the clock again. An injected clock may move at any time.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How long it waits if nothing is due, and after an error.
const LOOK_RARELY: Duration = Duration::from_secs(1);

impl Shared {
    pub(super) fn new(core: Core, threads_max: usize, caller: Caller) -> Self {
        Self {
            core: Mutex::new(core),
            due: Condvar::new(),
            bell: Arc::default(),
            idle_threads: AtomicUsize::new(0),
            is_watching: AtomicBool::new(false),
            is_due: AtomicBool::new(false),
            threads: AtomicUsize::new(0),
            threads_max,
            is_closing: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            caller,
        }
    }

    /// Asks the thread that reads to end.
    pub(super) fn close(&self) {
        self.is_closing.store(true, Ordering::Release);
        self.bell.ring();
    }

    /// Makes a thread look for a call that is due. `core` is the lock on the core, so that the numbers of threads do not change meanwhile.
    fn wake_one(self: &Arc<Self>, core: &MutexGuard<'_, Core>) {
        if !core.has_ready() {
            return;
        }
        if self.is_watching.load(Ordering::Relaxed) {
            self.is_due.store(true, Ordering::Relaxed);
        } else if self.idle_threads.load(Ordering::Relaxed) > 0 {
            self.due.notify_one();
        } else if self.threads.load(Ordering::Relaxed) < self.threads_max {
            let shared = Arc::clone(self);
            let spawned = thread::Builder::new().name("streamlog-call".into()).spawn(move || shared.call());
            // If no thread can be spawned, the existing ones do the work, or a later attempt spawns one.
            if spawned.is_ok() {
                self.threads.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Makes the calls that are due, one after the other, until the processor ends.
    fn call(self: Arc<Self>) {
        let mut core = self.core.lock();
        let patience = Patience::default();
        while !self.is_over.load(Ordering::Acquire) {
            let Some(job) = core.take(self.caller.clocks.now()) else {
                // A timer may have been set.
                self.bell.ring();
                // The lock is released meanwhile, and the processor may end.
                if self.watch(&mut core, &patience) || self.is_over.load(Ordering::Acquire) {
                    continue;
                }
                self.idle_threads.fetch_add(1, Ordering::Relaxed);
                self.due.wait(&mut core);
                self.idle_threads.fetch_sub(1, Ordering::Relaxed);
                continue;
            };
            self.wake_one(&core);
            drop(core);
            let done = match job.work {
                Work::Call(invocation) => self.caller.call(&invocation),
                Work::Report(discarded) => self.caller.report(&discarded),
            };
            core = self.core.lock();
            if core.finish(job.ticket, done, self.caller.clocks.now()) {
                self.bell.ring();
            }
        }
        self.threads.fetch_sub(1, Ordering::Relaxed);
    }

    /// Watches a short while for a call that is due, if no other thread does. Returns whether there is one.
    fn watch(&self, core: &mut MutexGuard<'_, Core>, patience: &Patience) -> bool {
        // Both change under the lock only, but for the look of the thread that watches.
        if self.is_watching.swap(true, Ordering::Relaxed) {
            return false;
        }
        MutexGuard::unlocked(core, || patience.watch(|| self.is_due.load(Ordering::Relaxed)));
        self.is_watching.store(false, Ordering::Relaxed);
        self.is_due.swap(false, Ordering::Relaxed)
    }

    /// Reads and commits until the processor is closed, or its stream is.
    pub(super) fn drive(self: &Arc<Self>, mut driver: Driver) -> Result<()> {
        let waker = Waker::from(Arc::clone(&self.bell));
        let mut context = Context::from_waker(&waker);
        let mut outcome = Ok(());
        while !self.is_closing.load(Ordering::Acquire) {
            match self.step(&mut driver, &mut context) {
                Ok(()) => {}
                Err(Error::Closed) => break,
                // The state in the checkpoint is not a processor's.
                Err(error @ Error::InvalidArgument(_)) => {
                    self.core.lock().counts.last_error = Some(error.to_string());
                    outcome = Err(error);
                    break;
                }
                Err(error) => {
                    self.core.lock().counts.last_error = Some(error.to_string());
                    self.bell.wait(LOOK_RARELY);
                }
            }
        }
        self.core.lock().is_stopping = true;
        // Running calls may end, within their time limit.
        while self.core.lock().running_count() > 0 {
            self.bell.wait(LOOK_AGAIN);
            self.core.lock().look_at_clock(driver.now());
        }
        match driver.finish(&self.core) {
            Ok(_) | Err(Error::Closed) => {}
            Err(error) => outcome = outcome.and(Err(error)),
        }
        self.is_over.store(true, Ordering::Release);
        drop(self.core.lock());
        self.due.notify_all();
        outcome
    }

    fn step(self: &Arc<Self>, driver: &mut Driver, context: &mut Context<'_>) -> Result<()> {
        self.look_at_clock(driver);
        let has_more = driver.settle(&self.core)?;
        let wait = || {
            let core = self.core.lock();
            self.wake_one(&core);
            let due = core.due();
            drop(core);
            if !has_more {
                self.bell.wait_awake(match due {
                    Some(due) => due.saturating_sub(self.caller.clocks.elapsed()).min(LOOK_AGAIN),
                    None => LOOK_RARELY,
                });
            }
        };
        driver.read(&self.core, context, wait)?;
        self.wake_one(&self.core.lock());
        Ok(())
    }

    fn look_at_clock(self: &Arc<Self>, driver: &Driver) {
        let mut core = self.core.lock();
        core.look_at_clock(driver.now());
        self.wake_one(&core);
    }
}
