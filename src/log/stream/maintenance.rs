//! The threads that work behind the puts, and ahead of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use super::{Core, Pass, callback};
use crate::log::shard::reader::wait::Waiter;
use crate::log::types::error::{Error, Result};
use crate::log::types::event::event;
use crate::log::types::options::Maintenance;
use crate::log::types::time::SECOND;

/// The running threads of a stream.
#[derive(Debug)]
pub(super) struct MaintenanceThreads {
    must_stop: Arc<AtomicBool>,
    threads: Vec<Running>,
}

#[derive(Debug)]
struct Running {
    bell: Arc<Waiter>,
    thread: JoinHandle<()>,
    runs_callbacks: bool,
}

impl MaintenanceThreads {
    /// Starts the threads, unless the stream is set up without them.
    pub(super) fn start(core: &Arc<Core>) -> Result<Self> {
        let mut started = Self { must_stop: Arc::new(AtomicBool::new(false)), threads: vec![] };
        if core.options.maintenance == Maintenance::Thread {
            let context = &core.topology.context().writers;
            // Two threads: syncing takes long, and preparing what puts need next cannot wait for it.
            for (name, bell, run, runs_callbacks) in [
                ("streamlog", &context.work, run_behind as fn(&Arc<Core>, &AtomicBool), true),
                ("streamlog-ahead", &context.work_ahead, run_ahead, false),
            ] {
                let thread = {
                    let (core, must_stop) = (Arc::clone(core), Arc::clone(&started.must_stop));
                    Builder::new().name(name.into()).spawn(move || run(&core, &must_stop))
                };
                match thread {
                    Ok(thread) => {
                        started.threads.push(Running { bell: Arc::clone(bell), thread, runs_callbacks });
                    }
                    Err(error) => {
                        started.stop();
                        return Err(Error::io("start the maintenance threads of", &core.root, error));
                    }
                }
            }
        }
        Ok(started)
    }

    /// Stops the threads after what they are doing, and waits for them.
    ///
    /// A callback does not wait for a thread that runs callbacks: it may be that thread, or one that waits for this callback. Such a thread
    /// stops after its callback. Until then, its pass changes no more than a pass of another thread that closing the stream has overtaken.
    pub(super) fn stop(self) {
        self.must_stop.store(true, Ordering::Release);
        for Running { bell, thread, runs_callbacks } in self.threads {
            bell.notify();
            if !(runs_callbacks && callback::is_running()) {
                // The thread returns nothing, and the panic hook has already reported a panic.
                let _ = thread.join();
            }
        }
    }
}

fn run_ahead(core: &Arc<Core>, must_stop: &AtomicBool) {
    while !must_stop.load(Ordering::Acquire) {
        core.topology.context().writers.work_ahead.park(None);
        let map = core.topology.map_full();
        // One step for each shard in turn, so that no shard waits foreverything that another wants. If something cannot be prepared, the
        // puts do without it and report their own errors.
        while !must_stop.load(Ordering::Acquire)
            && map
                .iter()
                .map(|shard| shard.prepare_ahead().unwrap_or(false))
                .fold(false, |any, one| any | one)
        {}
    }
}

/// The interval between retention passes.
const SWEEP_INTERVAL: Duration = SECOND;

fn run_behind(core: &Arc<Core>, must_stop: &AtomicBool) {
    let mut sync_timer = Timer::every(core.options.sync_interval);
    let mut sweep_timer = Timer::every(Some(SWEEP_INTERVAL));
    loop {
        let next = [sync_timer.next, sweep_timer.next].into_iter().flatten().min();
        core.topology.context().writers.work.park(next);
        if must_stop.load(Ordering::Acquire) {
            return;
        }
        // A failed sync has poisoned its shard, and puts to it fail. Everything else is retried.
        if let Err(error) = core.maintain(Pass { sync: sync_timer.is_due(), tidy: sweep_timer.is_due() }) {
            event!(
                warn,
                "maintenance has failed, and is tried again",
                stream = core.root.display(),
                error = error
            );
        }
    }
}

/// A recurring task.
struct Timer {
    interval: Option<Duration>,
    next: Option<Instant>,
}

impl Timer {
    fn every(interval: Option<Duration>) -> Self {
        Self { interval, next: interval.and_then(|interval| Instant::now().checked_add(interval)) }
    }

    /// Returns whether it is time, and if so, sets the next time.
    fn is_due(&mut self) -> bool {
        let is_due = self.next.is_some_and(|next| Instant::now() >= next);
        if is_due {
            *self = Self::every(self.interval);
        }
        is_due
    }
}
