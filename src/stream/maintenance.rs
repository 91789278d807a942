//! The thread that does the work behind the puts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use super::Core;
use crate::shard::wait::Waiter;
use crate::words::error::{Error, Result};
use crate::words::options::Maintenance;

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
        let (bell, must_stop) = (Arc::clone(&core.bell), Arc::new(AtomicBool::new(false)));
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

fn run(core: &Core, must_stop: &AtomicBool) {
    let interval = core.options.sync_interval;
    let mut next_sync = interval.map(|interval| Instant::now() + interval);
    loop {
        core.bell.park(next_sync);
        if must_stop.load(Ordering::Acquire) {
            return;
        }
        let is_due = next_sync.is_some_and(|at| Instant::now() >= at);
        // A failure has poisoned its shard, whose puts tell of it.
        let _ = core.maintain(is_due);
        if is_due {
            next_sync = interval.map(|interval| Instant::now() + interval);
        }
    }
}
