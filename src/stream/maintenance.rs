//! The thread that does the work behind the puts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use super::{Core, Pass};
use crate::shard::wait::Waiter;
use crate::words::error::{Error, Result};
use crate::words::options::Maintenance;
use crate::words::time::SECOND;

/// A running maintenance thread.
#[derive(Debug)]
pub(super) struct MaintenanceThread {
    bell: Arc<Waiter>,
    must_stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl MaintenanceThread {
    /// Starts the thread, if the stream is to have one.
    pub(super) fn start(core: &Arc<Core>) -> Result<Option<Self>> {
        if core.options.maintenance == Maintenance::Manual {
            return Ok(None);
        }
        let (bell, must_stop) = (Arc::clone(&core.topology.context().bell), Arc::new(AtomicBool::new(false)));
        let work = {
            let (core, must_stop) = (Arc::clone(core), Arc::clone(&must_stop));
            move || run(&core, &must_stop)
        };
        let thread = Builder::new().name("streamlog".into()).spawn(work);
        let thread =
            thread.map_err(|error| Error::io("start the maintenance thread of", &core.path, error))?;
        Ok(Some(Self { bell, must_stop, thread }))
    }

    /// Stops the thread, after the pass that it is in.
    pub(super) fn stop(self) {
        self.must_stop.store(true, Ordering::Release);
        self.bell.notify();
        // It has nothing to return, and a panic of it is printed already.
        let _ = self.thread.join();
    }
}

/// How often retention is looked after.
const SWEEP_INTERVAL: Duration = SECOND;

fn run(core: &Core, must_stop: &AtomicBool) {
    let mut sync_timer = Timer::every(core.options.sync_interval);
    let mut sweep_timer = Timer::every(Some(SWEEP_INTERVAL));
    loop {
        let next = [sync_timer.next, sweep_timer.next].into_iter().flatten().min();
        core.topology.context().bell.park(next);
        if must_stop.load(Ordering::Acquire) {
            return;
        }
        // A failed sync has poisoned its shard, whose puts tell of it; what else fails is tried again.
        let _ = core.maintain(Pass { sync: sync_timer.is_due(), sweep: sweep_timer.is_due() });
    }
}

/// Something to be done again and again.
struct Timer {
    interval: Option<Duration>,
    next: Option<Instant>,
}

impl Timer {
    fn every(interval: Option<Duration>) -> Self {
        Self { interval, next: interval.and_then(|interval| Instant::now().checked_add(interval)) }
    }

    /// Whether it is time; if so, the next time is set.
    fn is_due(&mut self) -> bool {
        let is_due = self.next.is_some_and(|next| Instant::now() >= next);
        if is_due {
            *self = Self::every(self.interval);
        }
        is_due
    }
}
